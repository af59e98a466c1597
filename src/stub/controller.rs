//! `serve --stub-domains`: the engine, run whenever something it looks at changes, and now and then.
//!
//! Every replica looks and computes; only the holder of the Lease writes, and tells of it by Events.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::Stub;
use super::engine::{Engine, Right, Seen, Settings};
use super::layout::Place;
use super::record::{self, Entry, State};
use super::survey::Key;
use super::tally::{AtPlace, Tally};
use super::write::{WriteError, Writer};
use crate::kubernetes::CallError;
use crate::kubernetes::lease::Leadership;
use crate::kubernetes::recorder::{self, Notice, Recorder};
use crate::kubernetes::troubles::Troubles;
use crate::source::advertise::ServiceName;
use crate::source::cluster::paced;

/// How often everything is looked at even if nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);
/// How often while something is under way.
const UNDER_WAY: Duration = Duration::from_secs(5);
/// After a failed look.
const RETRY: Duration = Duration::from_secs(5);
/// After somebody else wrote in between; twice as long each time, up to [`RETRY`].
const AGAIN: Duration = Duration::from_millis(50);
/// A state that is older is no news for a replica that has just begun: whoever wrote then told it then.
const NEWS: SignedDuration = SignedDuration::from_mins(5);

/// How far the controller goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Say what would be done.
    Plan,
    /// Do it, and look after it.
    Manage,
}

/// What the controller is made from.
#[derive(Clone)]
pub struct Options {
    /// Plan or manage.
    pub mode: Mode,
    /// Where the record and the Lease live.
    pub namespace: String,
    /// The Service in front of us: Events are about it.
    pub service: Option<String>,
    /// How edits are made and proved.
    pub settings: Settings,
    /// How long a silent leader is waited for.
    pub lease: Duration,
}

/// Looks after the stub domains of the cluster.
pub struct Controller {
    options: Options,
    engine: Engine,
    tally: Tally,
    recorder: Recorder,
    watches: Watches,
    /// What was last said about each place.
    said: HashMap<String, (State, String)>,
    troubles: Troubles,
    /// Looks in a row that somebody else's write made useless.
    stale: u32,
}

impl Controller {
    /// A controller that has not looked yet.
    pub fn new(client: Client, options: Options, tally: Tally) -> Controller {
        let writer = Writer::new(client.clone(), &options.namespace, false);
        let right = match options.mode {
            Mode::Plan => Right::Never,
            Mode::Manage => Right::Lease(Box::new(Leadership::new(
                client.clone(),
                &options.namespace,
                record::NAME,
                options.settings.identity.clone(),
                options.lease,
            ))),
        };
        let settings = options.settings.clone();
        Controller {
            engine: Engine::new(client.clone(), writer, settings, right, tally.clone()),
            recorder: Recorder::new(client.clone(), options.settings.identity.clone()),
            watches: Watches::new(client),
            options,
            tally,
            said: HashMap::new(),
            troubles: Troubles::new("stub domains"),
            stale: 0,
        }
    }

    /// Runs until `stop`; then others may write at once.
    pub async fn run(mut self, mut wanted: watch::Receiver<Option<Stub>>, stop: CancellationToken) {
        let mut next = Instant::now();
        let mut led = false;
        loop {
            let now = wanted.borrow_and_update().clone();
            let leads = self.leads().await;
            if Instant::now() >= next || leads != led {
                let pause = tokio::select! {
                    () = stop.cancelled() => break,
                    pause = self.look(now.as_ref(), leads) => pause,
                };
                next = Instant::now() + pause;
                led = leads;
            }
            // The Lease is renewed also while there is nothing to look at.
            let wake = next.min(Instant::now() + self.options.lease / 3);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    next = Instant::now();
                }
                () = self.watches.changed.notified() => next = Instant::now(),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
        self.engine.release().await;
    }

    /// One look; how long to wait for the next.
    async fn look(&mut self, wanted: Option<&Stub>, leads: bool) -> Duration {
        match self.engine.step(wanted).await {
            Ok(seen) => {
                self.troubles.over("look");
                self.stale = 0;
                self.told(&seen, leads).await;
                let busy = seen.iter().any(|layer| !layer.entry.state.is_final());
                if busy { UNDER_WAY } else { RESYNC }
            }
            Err(error) if error.downcast_ref::<WriteError>().is_some_and(is_stale) => {
                tracing::debug!("{error}; looking again");
                self.stale += 1;
                AGAIN.saturating_mul(1 << (self.stale - 1).min(7)).min(RETRY)
            }
            Err(error) => {
                self.troubles.complain("look", format!("{error:#}; retrying"));
                RETRY
            }
        }
    }

    /// Whether we are the one that writes.
    async fn leads(&mut self) -> bool {
        let leads = match self.engine.may_write().await {
            Ok(leads) => {
                self.troubles.over("lease");
                leads
            }
            Err(error) => {
                let lease = format!("the Lease {}/{}", self.options.namespace, record::NAME);
                let remedy = "this replica writes nothing without it";
                self.troubles.complain("lease", format!("{lease}: {error}; {remedy}; retrying"));
                false
            }
        };
        self.tally.set_leads(leads);
        leads
    }

    /// Metrics, log and Events of what has changed.
    async fn told(&mut self, seen: &[Seen], leads: bool) {
        let at_place = |layer: &Seen| AtPlace {
            role: layer.planned.layer.role,
            place: layer.planned.layer.name(),
            state: layer.entry.state,
            message: layer.entry.message.clone(),
        };
        self.tally.set_places(seen.iter().map(at_place).collect());
        self.watches.follow(seen);
        for layer in seen {
            let place = layer.planned.layer.name();
            let now = (layer.entry.state, layer.entry.message.clone());
            let before = self.said.insert(place.clone(), now.clone());
            let (state, message) = now;
            if before
                .as_ref()
                .is_some_and(|(was, said)| *was == state && (*said == message || !state.is_final()))
            {
                continue;
            }
            let role = layer.planned.layer.role.as_str();
            if state.is_good() || !state.is_final() {
                tracing::info!(%place, role, state = state.as_str(), "stub domains: {message}");
            } else {
                tracing::warn!(%place, role, state = state.as_str(), "stub domains: {message}");
            }
            if leads && state.is_final() && (before.is_some() || is_news(&layer.entry)) {
                self.publish(&place, &layer.entry).await;
            }
        }
    }

    async fn publish(&mut self, place: &str, entry: &Entry) {
        let Some(name) = self.options.service.clone() else { return };
        let service = ServiceName { namespace: self.options.namespace.clone(), name };
        let about = self.recorder.service(&service).await;
        let since = entry.since.map(|since| since.to_string()).unwrap_or_default();
        let notice = Notice {
            about,
            warning: !entry.state.is_good(),
            reason: format!("StubDomains{}", entry.state.as_str()),
            action: "StubDomains",
            note: format!("{place}: {}", entry.message),
            key: recorder::key([place, &entry.message, &since]),
        };
        match self.recorder.write(&notice).await {
            Ok(_) => drop(self.troubles.over("event")),
            Err(error @ CallError::Api { .. }) => {
                self.troubles.complain("event", format!("an Event was not taken: {error}"));
            }
            Err(error) => tracing::debug!("an Event was not taken: {error}"),
        }
    }
}

fn is_stale(error: &WriteError) -> bool {
    matches!(error, WriteError::Stale(_))
}

/// Whether a state may be one that nobody has told yet.
fn is_news(entry: &Entry) -> bool {
    entry.since.is_some_and(|since| Timestamp::now().duration_since(since) < NEWS)
}

/// Watches of the ConfigMaps a plan was made from.
struct Watches {
    client: Client,
    changed: Arc<Notify>,
    running: HashMap<Key, AbortHandle>,
}

impl Watches {
    fn new(client: Client) -> Watches {
        Watches { client, changed: Arc::new(Notify::new()), running: HashMap::new() }
    }

    /// Watches what these layers depend on, and nothing else any more.
    fn follow(&mut self, seen: &[Seen]) {
        let mut needed: Vec<Key> = Vec::new();
        for place in seen.iter().map(|layer| &layer.planned.layer.place) {
            needed.extend(place.config_map().cloned());
            if let Place::DataKey { beside, .. }
            | Place::Corefile { beside, .. }
            | Place::StubDomains { beside, .. } = place
            {
                needed.extend(beside.iter().map(|other| other.config_map.clone()));
            }
        }
        self.running.retain(|key, task| {
            let keep = needed.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
        for key in needed {
            if !self.running.contains_key(&key) {
                let task = tokio::spawn(watch_one(self.client.clone(), key.clone(), self.changed.clone()));
                self.running.insert(key, task.abort_handle());
            }
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

/// Tells of every change of one ConfigMap. What is missed meanwhile, the next look finds.
async fn watch_one(client: Client, (namespace, name): Key, changed: Arc<Notify>) {
    let client = paced(client, "configmaps", format!("ConfigMap {namespace}/{name}"));
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(40);
    let mut events = pin!(watcher::watcher(api, config));
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_)) => changed.notify_one(),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(namespace, name, "watching a ConfigMap: {error}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
