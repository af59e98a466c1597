//! `serve --stub-domains`: the engine, run whenever something it looks at changes, and now and then.
//!
//! Every replica looks and computes; only the holder of the Lease writes, and tells of it by Events.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::Stub;
use super::engine::{Engine, Right, Seen, Settings};
use super::layout::Place;
use super::lease::{self, Leadership};
use super::record::State;
use super::survey::Key;
use super::tally::{AtPlace, Tally};
use super::write::{MANAGER, WriteError, Writer};
use crate::source::cluster::paced;

/// How often everything is looked at even if nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);
/// How often while something is under way.
const UNDER_WAY: Duration = Duration::from_secs(5);
/// After a failed look.
const RETRY: Duration = Duration::from_secs(5);
/// After somebody else wrote in between; twice as long each time, up to [`RETRY`].
const AGAIN: Duration = Duration::from_millis(50);
/// Longest wait for an Event to be taken.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// What was last said about each thing that does not work.
    troubles: HashMap<&'static str, String>,
    /// Looks in a row that somebody else's write made useless.
    stale: u32,
}

impl Controller {
    /// A controller that has not looked yet.
    pub fn new(client: Client, options: Options, tally: Tally) -> Controller {
        let writer = Writer::new(client.clone(), &options.namespace, false);
        let reporter =
            Reporter { controller: MANAGER.to_owned(), instance: Some(options.settings.identity.clone()) };
        let right = match options.mode {
            Mode::Plan => Right::Never,
            Mode::Manage => Right::Lease(Box::new(Leadership::new(
                client.clone(),
                &options.namespace,
                options.settings.identity.clone(),
                options.lease,
            ))),
        };
        let settings = options.settings.clone();
        Controller {
            engine: Engine::new(client.clone(), writer, settings, right, tally.clone()),
            recorder: Recorder::new(client.clone(), reporter),
            watches: Watches::new(client),
            options,
            tally,
            said: HashMap::new(),
            troubles: HashMap::new(),
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
                self.troubles.remove("look");
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
                self.complain("look", format!("{error:#}; retrying"));
                RETRY
            }
        }
    }

    /// Whether we are the one that writes.
    async fn leads(&mut self) -> bool {
        let leads = match self.engine.may_write().await {
            Ok(leads) => {
                self.troubles.remove("lease");
                leads
            }
            Err(error) => {
                let lease = format!("the Lease {}/{}", self.options.namespace, lease::NAME);
                let remedy = "this replica writes nothing without it";
                self.complain("lease", format!("{lease}: {error}; {remedy}; retrying"));
                false
            }
        };
        self.tally.set_leads(leads);
        leads
    }

    /// One line per thing and change.
    fn complain(&mut self, about: &'static str, what: String) {
        if self.troubles.get(about) != Some(&what) {
            tracing::warn!("stub domains: {what}");
            self.troubles.insert(about, what);
        }
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
            if leads && state.is_final() {
                self.publish(&place, state, &message).await;
            }
        }
    }

    async fn publish(&mut self, place: &str, state: State, message: &str) {
        let Some(service) = &self.options.service else { return };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            name: Some(service.clone()),
            namespace: Some(self.options.namespace.clone()),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: if state.is_good() { EventType::Normal } else { EventType::Warning },
            reason: format!("StubDomains{}", state.as_str()),
            note: Some(shorten(&format!("{place}: {message}"))),
            action: "StubDomains".to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(EVENT_TIMEOUT, self.recorder.publish(&event, &about)).await {
            Ok(Ok(())) => drop(self.troubles.remove("event")),
            Ok(Err(error)) => self.complain("event", format!("an Event was not taken: {error}")),
            Err(_) => tracing::debug!("an Event was not taken in time"),
        }
    }
}

fn is_stale(error: &WriteError) -> bool {
    matches!(error, WriteError::Stale(_))
}

/// An Event's note has at most 1,024 octets.
fn shorten(note: &str) -> String {
    let end = note.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 1000).last();
    note[..end.unwrap_or(0)].to_owned()
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
