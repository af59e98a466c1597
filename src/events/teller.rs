//! Writes Events while this replica holds the Lease `globaldns-events`.
//!
//! It is a Lease of its own, and not the one of stub domains: replicas that look after stub domains and others that do
//! not, as in a rollout, are to agree all the same on who tells.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::ledger::{BURST, Next, PAUSE, Told};
use super::record::{self, Object, Record};
use super::tally::{Outcome, Tally};
use super::{Desk, event_key, note, reason, subject};
use crate::kubernetes::lease::Leadership;
use crate::kubernetes::recorder::{Notice, Recorder, Written};
use crate::kubernetes::troubles::Troubles;
use crate::kubernetes::{CallError, within};
use crate::lifecycle::chance;
use crate::panics::{self, Place};
use crate::source::advertise::ServiceName;
use crate::source::cluster;

/// The record is saved so long after an Event at the latest: a hundred are one write.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Pause where the API server is away, or refuses what it would take at another time.
const AWAY: Duration = Duration::from_secs(5);
/// Namespaces without the right to write Events that are remembered, for the log.
const MOST_REFUSING: usize = 10_000;
const WRITE: &str = "{apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}";
const LOOK: &str = "{apiGroups: [networking.istio.io], resources: [serviceentries], verbs: [get]}";
const PAGE: &str = "docs/operations.md (Kubernetes Events)";

/// What the teller is made from.
#[derive(Clone)]
pub struct Options {
    /// The Service in front of us: its namespace has the Lease and the record, and Events about all of us are about it.
    pub service: ServiceName,
    /// Differs between replicas.
    pub identity: String,
    /// How long a silent leader is waited for.
    pub lease: Duration,
}

/// See the module text.
pub struct Teller {
    client: Client,
    options: Options,
    desk: Arc<Desk>,
    tally: Tally,
    lease: Leadership,
    recorder: Recorder,
    record: record::Place,
    /// What the record was read from, or saved as.
    object: Object,
    save_after: Instant,
    /// Nothing is tried before then.
    away_until: Instant,
    troubles: Troubles,
    /// Namespaces that have refused the last Event, and why.
    refusing: HashMap<String, Missing>,
    /// Since when something is awaited before we may lead.
    awaits_since: Option<Instant>,
}

/// What a namespace lacks that refuses an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// The right to look at entries.
    Look,
    /// The right to write Events.
    Write,
    /// A ResourceQuota has no room.
    Room,
}

/// What came of an attempt to write an Event.
enum Attempt {
    Written(Written),
    /// There is no such entry.
    Gone,
    /// Another replica may write by now.
    NotOurs,
    /// The entry cannot be looked at.
    Unseen(CallError),
    Failed(CallError),
}

impl Teller {
    /// A teller that does not know yet whether it may.
    pub fn new(client: Client, options: Options, desk: Arc<Desk>, tally: Tally) -> Teller {
        let ServiceName { namespace, .. } = &options.service;
        let identity = options.identity.clone();
        let now = Instant::now();
        Teller {
            lease: Leadership::new(client.clone(), namespace, record::NAME, identity.clone(), options.lease),
            recorder: Recorder::new(client.clone(), identity),
            record: record::Place::new(client.clone(), namespace),
            object: None,
            save_after: now,
            away_until: now,
            troubles: Troubles::new("Events"),
            refusing: HashMap::new(),
            awaits_since: None,
            client,
            options,
            desk,
            tally,
        }
    }

    /// Runs until `stop`; then others may tell at once.
    pub async fn run(mut self, stop: CancellationToken) {
        // One that has panicked may have been here before.
        self.follow();
        let desk = self.desk.clone();
        loop {
            let wake = tokio::select! {
                () = stop.cancelled() => break,
                wake = self.step() => wake,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = desk.changed.notified() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
        self.save().await;
        self.follow();
        self.lease.release().await;
    }

    /// One thing that is to be done; when there may be more.
    async fn step(&mut self) -> Instant {
        let look = Instant::now() + self.options.lease / 3;
        if !self.may_lead().await {
            return look;
        }
        if !self.leads().await {
            // There may be thousands of us, who began together.
            return Instant::now() + self.options.lease.mul_f64(1.0 + 0.2 * chance());
        }
        let now = Instant::now();
        if now < self.away_until {
            return self.away_until.min(look);
        }
        if now >= self.save_after {
            self.save().await;
        }
        let next = self.desk.ledger().next(Instant::now());
        match next {
            Next::Tell(told) => {
                // A panic costs this one, and no other.
                if panics::contained(Place::Events, self.tell(&told)).await.is_none() {
                    self.desk.ledger().put_off(&told, Instant::now());
                }
            }
            Next::Many(count) => self.tell_of_many(count).await,
            Next::Wait(until) => return until.map_or(look, |until| until.min(look)),
        }
        Instant::now()
    }

    /// Who does not know everything leaves the Lease to others.
    async fn may_lead(&mut self) -> bool {
        let Some(awaited) = self.desk.awaited() else {
            self.awaits_since = None;
            self.troubles.over("source");
            return true;
        };
        self.follow();
        self.lease.release().await;
        let since = *self.awaits_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.options.lease {
            let what =
                format!("this replica writes none, and leaves it to others, while it waits for {awaited}");
            self.troubles.complain("source", what);
        }
        false
    }

    /// Whether we are the one that tells, and know what was told.
    async fn leads(&mut self) -> bool {
        match self.lease.holds().await {
            Ok(true) => drop(self.troubles.over("lease")),
            Ok(false) => {
                self.troubles.over("lease");
                self.follow();
                return false;
            }
            Err(error) => {
                self.follow();
                self.cannot("lease", &format!("the Lease {}", self.ours()), &error);
                return false;
            }
        }
        if self.desk.ledger().leads() {
            return true;
        }
        match self.record.load().await {
            Ok((record, object)) => {
                self.troubles.over("record");
                tracing::debug!(told = record.told.len(), "this replica writes Events from now on");
                self.object = object;
                self.desk.ledger().lead(record);
                self.tally.set_leads(true);
                true
            }
            Err(error) => {
                self.cannot("record", &format!("the ConfigMap {}", self.ours()), &error);
                false
            }
        }
    }

    fn follow(&mut self) {
        self.desk.ledger().follow();
        self.tally.set_leads(false);
    }

    fn ours(&self) -> String {
        format!("{}/{}", self.options.service.namespace, record::NAME)
    }

    fn cannot(&mut self, about: &'static str, what: &str, error: &CallError) {
        let remedy = match error.status() {
            Some(status) if status.is_forbidden() => format!("; grant the rights listed in {PAGE}"),
            _ => String::new(),
        };
        self.troubles
            .complain(about, format!("{what} is needed and cannot be had: {error}{remedy}; retrying"));
    }

    async fn save(&mut self) {
        let unsaved: Option<(u64, Record)> = self.desk.ledger().unsaved();
        let Some((number, record)) = unsaved else { return };
        self.save_after = Instant::now() + SAVE_EVERY;
        match self.record.save(&mut self.object, &record).await {
            Ok(()) => {
                self.desk.ledger().saved(number);
                self.troubles.over("record");
            }
            // Somebody else has: what we know may be out of date.
            Err(CallError::Stale(_)) => self.follow(),
            Err(error) => {
                self.cannot("record", &format!("the ConfigMap {}", self.ours()), &error);
            }
        }
    }

    async fn tell(&mut self, told: &Told) {
        let Some((namespace, name)) = subject(&told.finding) else { return };
        #[cfg(test)]
        panics::trip("event", name.as_bytes());
        match self.write(told, namespace, name).await.unwrap_or_else(Attempt::Failed) {
            Attempt::Written(written) => {
                self.tally.count(match written {
                    Written::New => Outcome::Written,
                    Written::Known => Outcome::Known,
                });
                self.desk.ledger().told(told, Instant::now());
                self.troubles.over("event");
                self.is_taken(namespace);
            }
            // The next step finds out who does.
            Attempt::NotOurs => {}
            // It is gone, and so will be its finding.
            Attempt::Gone => self.desk.ledger().put_off(told, Instant::now()),
            Attempt::Unseen(error) => self.failed(told, namespace, Missing::Look, &error),
            Attempt::Failed(error) => self.failed(told, namespace, Missing::Write, &error),
        }
    }

    /// Each call may take as long as we may write without asking again.
    async fn write(&mut self, told: &Told, namespace: &str, name: &str) -> Result<Attempt, CallError> {
        let what = format!("the ServiceEntry {namespace}/{name}");
        let about = match within(&what, cluster::reference(&self.client, namespace, name)).await {
            Ok(Some(about)) => about,
            Ok(None) => return Ok(Attempt::Gone),
            Err(error) => return Ok(Attempt::Unseen(error)),
        };
        let notice = Notice {
            about,
            warning: true,
            reason: reason(told.finding.code),
            action: "Serve",
            note: note(&told.finding),
            key: event_key(&told.finding),
        };
        if !self.still_leads().await {
            return Ok(Attempt::NotOurs);
        }
        let written = self.recorder.write(&notice).await?;
        if written == Written::New || !told.again {
            return Ok(Attempt::Written(written));
        }
        if !self.still_leads().await {
            return Ok(Attempt::NotOurs);
        }
        let times = self.recorder.times(&notice).await?;
        if !self.still_leads().await {
            return Ok(Attempt::NotOurs);
        }
        self.recorder.count(&notice, times.saturating_add(1)).await?;
        Ok(Attempt::Written(Written::New))
    }

    /// Whether a write that begins now ends while it is ours; asks only when that may have changed.
    async fn still_leads(&mut self) -> bool {
        matches!(self.lease.holds().await, Ok(true))
    }

    fn failed(&mut self, told: &Told, namespace: &str, missing: Missing, error: &CallError) {
        let now = Instant::now();
        let code = error.status().map_or(0, |status| status.code);
        let ends = error.status().is_some_and(|status| status.message.contains("being terminated"));
        match code {
            403 if !ends => {
                self.tally.count(Outcome::Refused);
                self.desk.ledger().refused(told, namespace, now);
                let has_no_room =
                    error.status().is_some_and(|status| status.message.contains("exceeded quota"));
                self.is_refused(namespace, if has_no_room { Missing::Room } else { missing }, error);
            }
            // Of this one nothing will come, whenever it is tried.
            400..=499 if ![401, 403, 404, 408, 409, 429].contains(&code) => {
                self.tally.count(Outcome::Failed);
                self.desk.ledger().told(told, now);
                tracing::warn!("Events: one was not taken and is left out: {error} ({})", told.finding);
            }
            _ => {
                self.tally.count(Outcome::Failed);
                self.desk.ledger().put_off(told, now);
                let is_of_object = ends || code == 404 || matches!(error, CallError::Stale(_));
                if !is_of_object {
                    self.away_until = now + AWAY;
                    self.troubles.complain("event", format!("none is taken: {error}; retrying"));
                }
            }
        }
    }

    /// Once for each thing that is missing; other namespaces that lack it, too, are only counted.
    fn is_refused(&mut self, namespace: &str, missing: Missing, error: &CallError) {
        if !self.refusing.values().any(|known| *known == missing) {
            tracing::warn!("{}", missing.complaint(namespace, error));
        }
        if self.refusing.len() < MOST_REFUSING {
            self.refusing.insert(namespace.to_owned(), missing);
        }
    }

    fn is_taken(&mut self, namespace: &str) {
        let Some(missing) = self.refusing.remove(namespace) else { return };
        if !self.refusing.values().any(|known| *known == missing) {
            let what = if missing == Missing::Room { "room" } else { "right" };
            tracing::info!("Events: the {what} that was missing is there, and they are written");
        }
    }

    /// Instead of a flood.
    async fn tell_of_many(&mut self, count: usize) {
        let about = self.recorder.service(&self.options.service).await;
        if !self.still_leads().await {
            return;
        }
        let notice = Notice {
            about,
            warning: true,
            reason: "ManyFindings".to_owned(),
            action: "Serve",
            note: format!(
                "{count} findings about ServiceEntries wait to be told by Events, of which at most {BURST} are written at once \
                 and then one every {} s, errors first; globaldns_findings counts all of them by code, and the log has \
                 the first",
                PAUSE.as_secs()
            ),
            key: Timestamp::now().as_second().unsigned_abs(),
        };
        match self.recorder.write(&notice).await {
            Ok(_) => {
                self.desk.ledger().told_of_many();
                self.tally.count(Outcome::Written);
            }
            Err(error) => {
                self.tally.count(Outcome::Failed);
                tracing::debug!("an Event about {count} findings was not taken: {error}");
            }
        }
    }
}

impl Missing {
    fn complaint(self, namespace: &str, error: &CallError) -> String {
        let roles = "to a ClusterRole of our ServiceAccount, or to a Role in each namespace that is watched";
        let none = format!("none is written in the namespace {namespace}");
        let (what, remedy) = match self {
            Missing::Look => ("a right is missing", format!("add the rule {LOOK} {roles}")),
            Missing::Write => ("a right is missing", format!("add the rule {WRITE} {roles}")),
            Missing::Room => (
                "a ResourceQuota has no room",
                "raise its count/events.events.k8s.io, or wait until older Events have expired".to_owned(),
            ),
        };
        format!(
            "Events: {what}, and {none}: {error}; {remedy}: {PAGE}; trying again ever more rarely, every 5 minutes in the \
             end; globaldns_events_total{{result=\"refused\"}} counts these and those of other namespaces"
        )
    }
}

#[cfg(test)]
mod tests;
