//! One writer at a time, by a Lease.
//!
//! There is no task that renews in the background: whoever is about to write renews first, and may write until the
//! time it was told. A writer that was stopped for longer than that finds out before it writes, not after. Another
//! holder's time is measured by our own clock from when we saw it renew, as client-go does, so clocks need not agree.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use super::{CallError, MANAGER, creating, within};

/// How long a holder that has fallen silent is waited for.
pub const DURATION: Duration = Duration::from_secs(15);
/// A lease older than this is renewed at the next look.
const RENEW_AFTER: Duration = Duration::from_secs(5);
/// A holder stops this long before others may begin: the longest a write in flight may take.
const MARGIN: Duration = Duration::from_secs(6);

/// Our claim to be the writer.
pub struct Leadership {
    api: Api<Lease>,
    name: &'static str,
    identity: String,
    duration: Duration,
    /// The version of the lease we saw last, and since when.
    seen: Option<(String, Instant)>,
    renewed: Option<Instant>,
}

impl Leadership {
    /// `name` is the Lease's, in a namespace of ours; `identity` must differ between replicas.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &'static str,
        identity: impl Into<String>,
        duration: Duration,
    ) -> Leadership {
        Leadership {
            api: Api::namespaced(client, namespace),
            name,
            identity: identity.into(),
            duration,
            seen: None,
            renewed: None,
        }
    }

    /// Until when we may write; `None` while another replica is the writer.
    pub async fn hold(&mut self) -> Result<Option<Instant>, CallError> {
        if let Some(renewed) = self.renewed
            && renewed.elapsed() < RENEW_AFTER.min(self.duration / 3)
        {
            return Ok(Some(self.end(renewed)));
        }
        let asked = Instant::now();
        let won = self.try_hold().await;
        match won {
            Ok(true) => {
                self.renewed = Some(asked);
                Ok(Some(self.end(asked)))
            }
            // Someone was faster: it is theirs.
            Ok(false) | Err(CallError::Stale(_)) => {
                self.renewed = None;
                Ok(None)
            }
            // Not renewed, but not lost before its end either.
            Err(error) => match self.renewed.map(|renewed| self.end(renewed)) {
                Some(end) if end > Instant::now() => Ok(Some(end)),
                _ => {
                    self.renewed = None;
                    Err(error)
                }
            },
        }
    }

    /// Whether a write that begins now ends before our right does.
    pub async fn holds(&mut self) -> Result<bool, CallError> {
        Ok(self.hold().await?.is_some_and(|end| end > Instant::now()))
    }

    /// Lets others begin at once.
    pub async fn release(&mut self) {
        if self.renewed.take().is_none() {
            return;
        }
        let Ok(Some(lease)) = within(self.name, self.api.get_opt(self.name)).await else { return };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        let spec = LeaseSpec { holder_identity: None, ..spec };
        let lease = Lease { spec: Some(spec), ..lease };
        let _ = within(self.name, self.api.replace(self.name, &params(), &lease)).await;
    }

    /// As if this one had renewed when that one did.
    #[cfg(test)]
    pub(crate) fn inherit(&mut self, from: &Leadership) {
        self.renewed = from.renewed;
    }

    fn end(&self, renewed: Instant) -> Instant {
        renewed + self.duration.saturating_sub(MARGIN.min(self.duration / 2))
    }

    async fn try_hold(&mut self) -> Result<bool, CallError> {
        let Some(lease) = within(self.name, self.api.get_opt(self.name)).await? else {
            let metadata = ObjectMeta { name: Some(self.name.to_owned()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            creating(self.name, self.api.create(&params(), &lease)).await?;
            return Ok(true);
        };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.has_expired(&lease) {
            return Ok(false);
        }
        let lease = Lease { spec: Some(self.spec(lease.spec)), metadata: lease.metadata };
        within(self.name, self.api.replace(self.name, &params(), &lease)).await?;
        self.seen = None;
        Ok(true)
    }

    /// Whether the holder has not renewed for its time, counted from when we first saw this version.
    fn has_expired(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((version, now));
                now
            }
        };
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        let theirs = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        since.elapsed() > theirs.max(Duration::from_secs(1))
    }

    fn spec(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let before = before.unwrap_or_default();
        let now = Some(MicroTime(Timestamp::now()));
        let is_ours = before.holder_identity.as_deref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs().max(1)).ok(),
            acquire_time: if is_ours { before.acquire_time } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!is_ours)),
            ..before
        }
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}
