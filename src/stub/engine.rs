//! One look at the cluster and what follows from it: survey, plan, decide, write, prove. The controller runs it again and
//! again, the commands until it has come to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;

use super::decide::{Action, decide};
use super::layout::{Layer, Place, layers};
use super::plan::{Change, Outcome, Planned, plan};
use super::probe::{self, Asked, Verdict};
use super::record::{Entry, Record, State, fingerprint};
use super::survey::{Addresses, Survey};
use super::tally::Tally;
use super::write::{Loaded, WriteError, Writer};
use super::{Ours, Stub};
use crate::kubernetes::lease::Leadership;

/// How long an edit may take to be proved: kubelet brings a ConfigMap within about 90 s, CoreDNS looks every 30 s.
pub const PROOF_LIMIT: Duration = Duration::from_secs(180);
/// How long a probe waits: longer than the 5 s in which CoreDNS gives up on us and says SERVFAIL.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(6);
/// How long is waited for a reply before a write: what answers at all does so at once.
const BEFORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often what is settled is proved again.
const PROVED_AGAIN: Duration = Duration::from_secs(60);
/// After a write that was refused the next one waits so long.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);
/// Between two looks that both failed, at most this much counts as failing.
const LOOKS_APART: Duration = Duration::from_secs(30);
/// A removal is obeyed by every process that was there when it was asked for; one that begins later than this after
/// it belongs to a new installation.
const REMOVAL_GRACE: Duration = Duration::from_secs(300);
/// So many failed probes are named.
const FAILURES_NAMED: usize = 5;

/// Whether we may write, asked anew before every write.
pub enum Right {
    /// No: look, and ask cluster DNS.
    Never,
    /// Yes: someone asked for it by hand.
    Always,
    /// While we hold the Lease.
    Lease(Box<Leadership>),
}

impl Right {
    /// Whether a write that begins now ends before our right does.
    pub async fn holds(&mut self) -> Result<bool, WriteError> {
        match self {
            Right::Never => Ok(false),
            Right::Always => Ok(true),
            Right::Lease(leadership) => Ok(leadership.holds().await?),
        }
    }
}

/// What does not change from step to step.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Write also where others are known to write.
    pub edit_managed: bool,
    /// [`PROOF_LIMIT`], unless told otherwise.
    pub proof_limit: Duration,
    /// What this process is called in the record.
    pub identity: String,
    /// When this process began.
    pub started: Timestamp,
    /// Write only once cluster DNS and our own address answer: so from inside the cluster, where they can be asked.
    pub insist_on_answer: bool,
}

/// One layer after a step.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What was planned.
    pub planned: Planned,
    /// Where it stands.
    pub entry: Entry,
    /// What came back from each endpoint, if it was asked.
    pub answers: Vec<Asked>,
}

/// How long an edit has failed to be proved while we ourselves answered.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// Of the edit written then.
    written: Option<Timestamp>,
    failed: Duration,
    last: Option<Instant>,
}

/// Looks, writes, proves.
pub struct Engine {
    client: Client,
    writer: Writer,
    settings: Settings,
    right: Right,
    tally: Tally,
    clocks: BTreeMap<String, Clock>,
    proved: BTreeMap<String, Instant>,
    refused: BTreeMap<String, (Instant, String)>,
    addresses: Addresses,
}

/// What one step is to reach.
#[derive(Clone, Copy)]
struct Aim<'s> {
    /// What is to be there; `None`: nothing of ours.
    wanted: Option<&'s Stub>,
    /// What may be there of ours, recorded or not.
    known: Option<&'s Stub>,
    /// We may write, so far as we know.
    writes: bool,
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(client: Client, writer: Writer, settings: Settings, right: Right, tally: Tally) -> Engine {
        Engine {
            client,
            writer,
            settings,
            right,
            tally,
            clocks: BTreeMap::new(),
            proved: BTreeMap::new(),
            refused: BTreeMap::new(),
            addresses: Addresses::default(),
        }
    }

    /// Whether we may write; see [`Right::holds`].
    pub async fn may_write(&mut self) -> Result<bool, WriteError> {
        self.right.holds().await
    }

    /// Lets others write at once.
    pub async fn release(&mut self) {
        if let Right::Lease(leadership) = &mut self.right {
            leadership.release().await;
        }
    }

    /// One step. `wanted` is `None` while we have no address to forward to: then nothing is written.
    pub async fn step(&mut self, wanted: Option<&Stub>) -> anyhow::Result<Vec<Seen>> {
        // Why not is said by whoever asks beforehand; looking goes on.
        let writes = self.may_write().await.unwrap_or(false);
        let mut survey = Survey::read(&self.client).await?;
        if wanted.is_some_and(Stub::has_reverse) {
            survey.told = Some(self.addresses.told(&self.client).await?);
        }
        let mut loaded = self.writer.load().await?;
        let removed = loaded.record.removed.is_some_and(|at| self.obeys(at));
        if !removed && loaded.record.removed.is_some() && writes {
            // Every replica has to see it the same way, those that were there at the removal too.
            let record = Record { removed: None, ..loaded.record.clone() };
            self.writer.save(&mut loaded, record).await?;
        }
        if !removed && wanted.is_none() {
            return Ok(Vec::new());
        }
        let aim = Aim { wanted: wanted.filter(|_| !removed), known: wanted, writes };
        self.layers(&survey, aim, &mut loaded).await
    }

    /// Plans as if nobody had asked for a removal.
    pub fn ignore_removal(&mut self) {
        self.settings.started = Timestamp::MAX;
    }

    /// Takes everything of ours out, whatever the record says of removals.
    pub async fn remove(&mut self, known: &Stub) -> anyhow::Result<Vec<Seen>> {
        let survey = Survey::read(&self.client).await?;
        let mut loaded = self.writer.load().await?;
        let aim = Aim { wanted: None, known: Some(known), writes: true };
        self.layers(&survey, aim, &mut loaded).await
    }

    fn obeys(&self, removed: Timestamp) -> bool {
        let grace = jiff::SignedDuration::try_from(REMOVAL_GRACE).unwrap_or_default();
        self.settings.started < removed.saturating_add(grace).unwrap_or(removed)
    }

    async fn layers(
        &mut self,
        survey: &Survey,
        aim: Aim<'_>,
        loaded: &mut Loaded,
    ) -> anyhow::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for layer in layers(survey) {
            seen.push(self.layer(survey, layer, aim, loaded).await?);
        }
        Ok(seen)
    }

    async fn layer(
        &mut self,
        survey: &Survey,
        layer: Layer,
        aim: Aim<'_>,
        loaded: &mut Loaded,
    ) -> anyhow::Result<Seen> {
        let recorded = |record: &Record, place: &str| record.places.get(place).cloned().unwrap_or_default();
        let found = recorded(&loaded.record, &layer.name());
        let ours = aim.known.into_iter().fold(found.ours(), Ours::with);
        let mut planned = plan(survey, layer, aim.wanted, &ours, self.settings.edit_managed);
        let place = planned.layer.name();
        let found = recorded(&loaded.record, &place);
        if aim.wanted.is_none() && found.written.is_some() {
            // What we have written ourselves we may take out again.
            planned = plan(survey, planned.layer, None, &ours, true);
        }
        let mut entry = found.clone();
        let last_writer = last_writer(survey, &planned.layer);
        let action = decide(&mut entry, &planned, last_writer.as_deref(), Timestamp::now());
        if entry.reverts.last() != found.reverts.last() && aim.writes {
            self.tally.reverted(planned.layer.role);
            tracing::warn!(%place, by = last_writer, "stub domains were undone by somebody else");
        }
        let mut answers = Vec::new();
        match action {
            Action::Nothing => {}
            Action::Write(change) if aim.writes => {
                let written = self.write(survey, &planned, &change, &mut entry, loaded).await;
                self.unless_refused(&place, written, &mut entry)?;
            }
            Action::Withdraw if aim.writes => {
                let withdrawn = self.withdraw(survey, &planned, &entry).await;
                self.unless_refused(&place, withdrawn, &mut entry)?;
            }
            Action::Write(_) | Action::Withdraw => {}
            // One replica asks for all: the others say what it has recorded.
            Action::Prove if matches!(self.right, Right::Lease(_)) && !aim.writes => entry = found.clone(),
            Action::Prove => answers = self.prove(survey, &planned, &mut entry, aim.writes, loaded).await?,
        }
        if aim.writes && recorded(&loaded.record, &place) != entry {
            self.record(&place, &entry, loaded).await?;
        }
        Ok(Seen { planned, entry, answers })
    }

    async fn record(&self, place: &str, entry: &Entry, loaded: &mut Loaded) -> Result<(), WriteError> {
        let mut record = loaded.record.clone();
        record.places.insert(place.to_owned(), entry.clone());
        self.writer.save(loaded, record).await
    }

    /// A write that was refused is a state of its place, and no reason to leave the other one alone.
    fn unless_refused(
        &mut self,
        place: &str,
        result: Result<(), WriteError>,
        entry: &mut Entry,
    ) -> Result<(), WriteError> {
        match result {
            Err(error @ (WriteError::Api { .. } | WriteError::Owned { .. } | WriteError::Unfit { .. })) => {
                let message = error.to_string();
                self.refused.insert(place.to_owned(), (Instant::now(), message.clone()));
                entry.enter(State::Refused, message, Timestamp::now());
                Ok(())
            }
            other => other,
        }
    }

    /// Writes a change, if there is somebody behind the address it names.
    async fn write(
        &mut self,
        survey: &Survey,
        planned: &Planned,
        change: &Change,
        entry: &mut Entry,
        loaded: &mut Loaded,
    ) -> Result<(), WriteError> {
        let layer = &planned.layer;
        let place = layer.name();
        if let Some((at, message)) = self.refused.get(&place)
            && at.elapsed() < REFUSED_AGAIN
        {
            entry.enter(State::Refused, message.clone(), Timestamp::now());
            return Ok(());
        }
        if let Some(stub) = &planned.stub {
            let answered = probe::present(&layer.endpoints, BEFORE_TIMEOUT).await;
            if let Some(why) = self.waits_for(stub, &answered).await {
                entry.enter(State::Planned, why, Timestamp::now());
                return Ok(());
            }
            entry.answered = answered;
            entry.want(stub);
        }
        entry.keep(change.before.as_deref());
        entry.written = Some(Timestamp::now());
        entry.by.clone_from(&self.settings.identity);
        self.refused.remove(&place);
        self.still(&place).await?;
        // First the intent: whoever takes over from us in mid-write knows what is ours.
        self.record(&place, entry, loaded).await?;
        self.still(&place).await?;
        self.writer.change(survey, layer, change).await?;
        self.tally.writes(layer.role);
        tracing::info!(%place, "stub domains written\n{}", change.diff(&layer.place.name()));
        let now = Timestamp::now();
        match planned.stub {
            Some(_) => entry.enter(State::Propagating, "written; cluster DNS has not read it yet", now),
            None => entry.enter(State::Removed, "our edit was taken out", now),
        }
        Ok(())
    }

    /// Who has to answer before anything is written, if they do not.
    async fn waits_for(&self, stub: &Stub, answered: &BTreeSet<SocketAddr>) -> Option<String> {
        let insists = self.settings.insist_on_answer;
        if answered.is_empty() {
            return insists.then(|| "waiting for an address of cluster DNS to answer".to_owned());
        }
        let direct = probe::survey(stub.servers(), stub.zones(), BEFORE_TIMEOUT).await;
        let failed = direct.iter().find(|asked| asked.failure().is_some())?;
        Some(format!("waiting for our own address to answer: {failed}"))
    }

    /// Whether we still may write: what came before may have taken long.
    async fn still(&mut self, place: &str) -> Result<(), WriteError> {
        if self.may_write().await? { Ok(()) } else { Err(WriteError::Stale(format!("{place}: the Lease"))) }
    }

    /// The same zone twice keeps CoreDNS from starting again: the one that goes is ours.
    async fn withdraw(
        &mut self,
        survey: &Survey,
        planned: &Planned,
        entry: &Entry,
    ) -> Result<(), WriteError> {
        let can_be_twice = match &planned.layer.place {
            Place::CustomDns => false,
            Place::StubDomains { beside, .. } => !beside.is_empty(),
            _ => true,
        };
        if !can_be_twice {
            return Ok(());
        }
        let layer = planned.layer.clone();
        let edit_managed = self.settings.edit_managed || entry.written.is_some();
        let without = plan(survey, layer, None, &entry.ours(), edit_managed);
        if let Outcome::Change(change) = &without.outcome {
            let place = without.layer.name();
            self.still(&place).await?;
            self.writer.change(survey, &without.layer, change).await?;
            self.tally.writes(without.layer.role);
            tracing::warn!(%place, why = entry.message, "stub domains withdrawn");
        }
        Ok(())
    }

    async fn prove(
        &mut self,
        survey: &Survey,
        planned: &Planned,
        entry: &mut Entry,
        writes: bool,
        loaded: &mut Loaded,
    ) -> anyhow::Result<Vec<Asked>> {
        let Some(stub) = &planned.stub else { return Ok(Vec::new()) };
        let place = planned.layer.name();
        let settled = matches!(entry.state, State::Verified | State::Unproved);
        if settled && self.proved.get(&place).is_some_and(|at| at.elapsed() < PROVED_AGAIN) {
            return Ok(Vec::new());
        }
        let direct = probe::survey(stub.servers(), stub.zones(), PROBE_TIMEOUT).await;
        let through = ask_through(&planned.layer.endpoints, stub).await;
        let counted = countable(&through, entry, &self.settings.identity);
        let verdict = judge(&counted, &direct, entry);
        let now = Timestamp::now();
        self.tally.proof(planned.layer.role, verdict == Ok(None));
        if settled || verdict == Ok(None) {
            self.proved.insert(place.clone(), Instant::now());
        }
        match verdict {
            Ok(None) => {
                self.clocks.remove(&place);
                entry.proved = true;
                entry.earlier_zones.clear();
                entry.earlier_servers.clear();
                let servers: BTreeSet<_> = counted.iter().map(|asked| asked.server).collect();
                let message = format!("answered through {} addresses of cluster DNS", servers.len());
                entry.enter(State::Verified, message, now);
            }
            Ok(Some(why)) => {
                if let Some(clock) = self.clocks.get_mut(&place) {
                    clock.last = None;
                }
                self.unproved(entry, &format!("it cannot be proved from here: {why}"), now);
            }
            // Once proved, a failure is not our edit's.
            Err(missing) if entry.state == State::Verified => {
                tracing::warn!(%place, missing, "stub domains are in place but do not answer");
            }
            Err(missing) => {
                let ours = entry.written.is_some() && writes;
                let failed = self.failed(&place, entry);
                if ours && failed >= self.settings.proof_limit {
                    self.roll_back(survey, planned, entry, &missing, loaded).await?;
                } else if ours {
                    entry.enter(State::Propagating, missing, now);
                } else {
                    self.unproved(entry, &missing, now);
                }
            }
        }
        Ok(through)
    }

    /// Not proved, and not ours to undo: after a while that is a state.
    fn unproved(&self, entry: &mut Entry, why: &str, now: Timestamp) {
        let since = entry.since.unwrap_or(now);
        let waited = now.duration_since(since).unsigned_abs();
        match entry.state {
            State::Verified => {}
            State::Propagating if waited < self.settings.proof_limit => {
                entry.enter(State::Propagating, why, now);
            }
            _ => entry.enter(State::Unproved, why, now),
        }
    }

    /// How long this edit has failed, this look included.
    fn failed(&mut self, place: &str, entry: &Entry) -> Duration {
        let clock = self.clocks.entry(place.to_owned()).or_default();
        if clock.written != entry.written {
            *clock = Clock { written: entry.written, ..Clock::default() };
        }
        clock.failed += clock.last.map_or(Duration::ZERO, |last| last.elapsed().min(LOOKS_APART));
        clock.last = Some(Instant::now());
        clock.failed
    }

    /// Goes back to what was proved before the edit, or takes our part out.
    async fn roll_back(
        &mut self,
        survey: &Survey,
        planned: &Planned,
        entry: &mut Entry,
        missing: &str,
        loaded: &mut Loaded,
    ) -> Result<(), WriteError> {
        let place = planned.layer.name();
        let before = entry.stub_before();
        // We wrote it, so we may undo it whoever is said to manage the place.
        let back = plan(survey, planned.layer.clone(), before.as_ref(), &entry.ours(), true);
        let Outcome::Change(change) = back.outcome else {
            self.unproved(entry, missing, Timestamp::now());
            return Ok(());
        };
        let message = format!(
            "not proved within {} s, so it was undone: {missing}; it is tried again when the zones, our address or \
             the text there change, or by `globaldns stub-domains apply`",
            self.settings.proof_limit.as_secs()
        );
        entry.left = Some(fingerprint(change.after.as_deref()));
        entry.written = None;
        entry.enter(State::RolledBack, message, Timestamp::now());
        self.still(&place).await?;
        self.record(&place, entry, loaded).await?;
        self.still(&place).await?;
        self.writer.change(survey, &back.layer, &change).await?;
        self.tally.writes(back.layer.role);
        self.tally.rolled_back(back.layer.role);
        self.clocks.remove(&place);
        tracing::warn!(%place, message = entry.message, "stub domains rolled back");
        Ok(())
    }
}

/// Asks for one zone first, and for the others once that is proved: what is not forwarded yet goes to public servers.
async fn ask_through(endpoints: &[SocketAddr], stub: &Stub) -> Vec<Asked> {
    let (first, others) = stub.zones().split_at(1);
    let mut asked = probe::survey(endpoints, first, PROBE_TIMEOUT).await;
    if asked.iter().any(|asked| asked.failure().is_none()) {
        asked.extend(probe::survey(endpoints, others, PROBE_TIMEOUT).await);
    }
    asked
}

/// The answers that count: silence only from an endpoint that answered before the edit. One that never did may be out
/// of our reach (a NetworkPolicy), and a node's own address is another one on another node.
fn countable(through: &[Asked], entry: &Entry, identity: &str) -> Vec<Asked> {
    let is_local = |ip: IpAddr| matches!(ip, IpAddr::V4(v4) if v4.is_link_local());
    let answered = |server: &SocketAddr| {
        entry.answered.contains(server) && (entry.by == identity || !is_local(server.ip()))
    };
    through.iter().filter(|asked| !asked.is_silent() || answered(&asked.server)).cloned().collect()
}

/// `Ok(None)`: proved; `Ok(Some)`: why it cannot be judged; `Err`: what is missing.
fn judge(counted: &[Asked], direct: &[Asked], entry: &Entry) -> Result<Option<String>, String> {
    let all_gone = counted.is_empty() && !entry.answered.is_empty();
    match probe::verdict(counted, direct) {
        Verdict::Proved => Ok(None),
        // The worst that an edit can do: so long as we ourselves can be reached, it is no matter of the network.
        Verdict::Unjudgeable { .. } if all_gone && direct.iter().all(|asked| asked.failure().is_none()) => {
            Err("no address of cluster DNS answers any more".to_owned())
        }
        Verdict::Unjudgeable { why } => Ok(Some(join(&why))),
        Verdict::NotYet { missing } => Err(join(&missing)),
    }
}

fn join<T: ToString>(parts: &[T]) -> String {
    let named: Vec<_> = parts.iter().take(FAILURES_NAMED).map(T::to_string).collect();
    match parts.len() - named.len() {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

/// The manager that wrote a layer's object last, other than us.
fn last_writer(survey: &Survey, layer: &Layer) -> Option<String> {
    let metadata = match &layer.place {
        Place::OpenShift => survey.openshift.as_ref().map(|object| &object.metadata),
        Place::CustomDns => survey.custom_dns.as_ref().map(|object| &object.metadata),
        place => survey.config_map(place.config_map()?).map(|map| &map.metadata),
    }?;
    let entries = metadata.managed_fields.iter().flatten();
    let others = entries.filter(|entry| entry.manager.as_deref() != Some(crate::kubernetes::MANAGER));
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.clone()
}
