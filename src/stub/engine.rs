//! One look at the cluster and what follows from it: survey, plan, decide, write, prove. The controller runs it again and
//! again, the commands until it has come to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::Client;

use super::decide::{Action, decide};
use super::layout::{Layer, Place, layers};
use super::plan::{Change, Outcome, Planned, plan};
use super::probe::{self, Asked, Verdict};
use super::record::{Entry, Record, State};
use super::survey::Survey;
use super::tally::Tally;
use super::write::{Loaded, WriteError, Writer};
use super::{Ours, Stub};

/// How long an edit may take to be proved: kubelet brings a ConfigMap within about 90 s, CoreDNS looks every 30 s.
pub const PROOF_LIMIT: Duration = Duration::from_secs(180);
/// How long a probe waits: longer than the 5 s in which CoreDNS gives up on us and says SERVFAIL.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(6);
/// How long is waited for a reply before a write: the Lease is running, and what answers at all does so at once.
const BEFORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often what is proved is proved again.
const PROVED_AGAIN: Duration = Duration::from_secs(60);
/// A removal is obeyed by every process that was there when it was asked for; one that begins later than this after
/// it belongs to a new installation.
const REMOVAL_GRACE: Duration = Duration::from_secs(300);

/// How far it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Look, and say what would be done.
    Look,
    /// Write until this time.
    Write {
        /// When the right to write ends.
        until: Instant,
    },
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
    /// Write only once our own address answers: so from inside the cluster, where it can be asked.
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

/// What one step is to reach.
#[derive(Clone, Copy)]
struct Aim<'s> {
    /// What is to be there; `None`: nothing of ours.
    wanted: Option<&'s Stub>,
    /// What may be there of ours, recorded or not.
    known: Option<&'s Stub>,
    reach: Reach,
}

/// Looks, writes, proves.
pub struct Engine {
    client: Client,
    writer: Writer,
    settings: Settings,
    tally: Tally,
    /// Since when a proof has failed while we ourselves answered, by place.
    failing: BTreeMap<String, Instant>,
    proved: BTreeMap<String, Instant>,
}

impl Engine {
    /// An engine that has seen nothing.
    pub fn new(client: Client, writer: Writer, settings: Settings, tally: Tally) -> Engine {
        Engine { client, writer, settings, tally, failing: BTreeMap::new(), proved: BTreeMap::new() }
    }

    /// One step. `wanted` is `None` while we have no address to forward to: then nothing is written.
    pub async fn step(&mut self, wanted: Option<&Stub>, reach: Reach) -> anyhow::Result<Vec<Seen>> {
        let survey = Survey::read(&self.client).await?;
        let mut loaded = self.writer.load().await?;
        let removed = loaded.record.removed.is_some_and(|at| self.obeys(at));
        if !removed && loaded.record.removed.is_some() && matches!(reach, Reach::Write { .. }) {
            // Every replica has to see it the same way, those that were there at the removal too.
            let record = Record { removed: None, ..loaded.record.clone() };
            self.writer.save(&mut loaded, record).await?;
        }
        if !removed && wanted.is_none() {
            return Ok(Vec::new());
        }
        let mut seen = Vec::new();
        for layer in layers(&survey) {
            let aim = Aim { wanted: wanted.filter(|_| !removed), known: wanted, reach };
            seen.push(self.layer(&survey, layer, aim, &mut loaded).await?);
        }
        Ok(seen)
    }

    /// Plans as if nobody had asked for a removal.
    pub fn ignore_removal(&mut self) {
        self.settings.started = Timestamp::MAX;
    }

    /// What would be written to take everything of ours out.
    pub async fn remove(&mut self, known: &Stub) -> anyhow::Result<Vec<Seen>> {
        let survey = Survey::read(&self.client).await?;
        let mut loaded = self.writer.load().await?;
        let mut seen = Vec::new();
        for layer in layers(&survey) {
            let until = Instant::now() + REMOVAL_GRACE;
            let aim = Aim { wanted: None, known: Some(known), reach: Reach::Write { until } };
            seen.push(self.layer(&survey, layer, aim, &mut loaded).await?);
        }
        Ok(seen)
    }

    fn obeys(&self, removed: Timestamp) -> bool {
        let grace = jiff::SignedDuration::try_from(REMOVAL_GRACE).unwrap_or_default();
        self.settings.started < removed.saturating_add(grace).unwrap_or(removed)
    }

    async fn layer(
        &mut self,
        survey: &Survey,
        layer: Layer,
        aim: Aim<'_>,
        loaded: &mut Loaded,
    ) -> anyhow::Result<Seen> {
        let Aim { wanted, known, reach } = aim;
        let now = Timestamp::now();
        let recorded = |record: &Record, place: &str| record.places.get(place).cloned().unwrap_or_default();
        let found = recorded(&loaded.record, &layer.place.name());
        let ours = known.into_iter().fold(found.ours(), Ours::with);
        let planned = plan(survey, layer, wanted, &ours, self.settings.edit_managed);
        let place = planned.layer.place.name();
        let mut entry = recorded(&loaded.record, &place);
        let action = decide(&mut entry, &planned, last_writer(survey, &planned.layer).as_deref(), now);
        let reverted = entry.reverts.last() != found.reverts.last();
        if reverted && matches!(reach, Reach::Write { .. }) {
            self.tally.reverted(planned.layer.role);
        }
        let mut answers = Vec::new();
        match action {
            Action::Nothing => {}
            Action::Write(change) => {
                self.write(survey, &planned, &change, &mut entry, reach, loaded).await?;
            }
            Action::Withdraw => self.withdraw(survey, &planned, &entry, reach).await?,
            Action::Prove => answers = self.prove(survey, &planned, &mut entry, reach).await?,
        }
        if !matches!(reach, Reach::Look) && recorded(&loaded.record, &place) != entry {
            let mut record = loaded.record.clone();
            record.places.insert(place, entry.clone());
            self.writer.save(loaded, record).await?;
        }
        Ok(Seen { planned, entry, answers })
    }

    /// Writes a change, if we may and if there is somebody behind the address it names.
    async fn write(
        &mut self,
        survey: &Survey,
        planned: &Planned,
        change: &Change,
        entry: &mut Entry,
        reach: Reach,
        loaded: &mut Loaded,
    ) -> anyhow::Result<()> {
        let Reach::Write { until } = reach else { return Ok(()) };
        let layer = &planned.layer;
        let place = layer.place.name();
        if let Some(stub) = &planned.stub {
            let direct = probe::survey(stub.servers(), stub.zones(), BEFORE_TIMEOUT).await;
            let silent = direct.iter().find(|asked| asked.failure().is_some());
            if let Some(asked) = silent.filter(|_| self.settings.insist_on_answer) {
                let message = format!("waiting for our own address to answer: {asked}");
                entry.enter(State::Planned, message, Timestamp::now());
                return Ok(());
            }
            entry.answered = probe::present(&layer.endpoints, BEFORE_TIMEOUT).await;
            entry.want(stub);
        }
        (entry.before, entry.after) = (change.before.clone(), change.after.clone());
        entry.written = Some(Timestamp::now());
        entry.by.clone_from(&self.settings.identity);
        // First the intent: whoever takes over from us in mid-write knows what is ours.
        let mut record = loaded.record.clone();
        record.places.insert(place.clone(), entry.clone());
        self.writer.save(loaded, record).await?;
        if Instant::now() >= until {
            return Err(WriteError::Stale("the lease".to_owned()).into());
        }
        self.writer.change(survey, layer, change).await?;
        self.tally.writes(layer.role);
        tracing::info!(%place, role = layer.role.as_str(), "stub domains written\n{}", change.diff(&place));
        self.failing.remove(&place);
        let now = Timestamp::now();
        match planned.stub {
            Some(_) => entry.enter(State::Propagating, "written; cluster DNS has not read it yet", now),
            None => entry.enter(State::Removed, "our edit was taken out", now),
        }
        Ok(())
    }

    /// The same zone twice keeps CoreDNS from starting again: the one that goes is ours.
    async fn withdraw(
        &mut self,
        survey: &Survey,
        planned: &Planned,
        entry: &Entry,
        reach: Reach,
    ) -> anyhow::Result<()> {
        if matches!(planned.layer.place, Place::StubDomains { .. } | Place::CustomDns) {
            // There a zone cannot be written twice.
            return Ok(());
        }
        let layer = planned.layer.clone();
        let without = plan(survey, layer, None, &entry.ours(), self.settings.edit_managed);
        if let (Outcome::Change(change), Reach::Write { until }) = (&without.outcome, reach)
            && Instant::now() < until
        {
            self.writer.change(survey, &without.layer, change).await?;
            self.tally.writes(without.layer.role);
            tracing::warn!(place = without.layer.place.name(), why = entry.message, "stub domains withdrawn");
        }
        Ok(())
    }

    async fn prove(
        &mut self,
        survey: &Survey,
        planned: &Planned,
        entry: &mut Entry,
        reach: Reach,
    ) -> anyhow::Result<Vec<Asked>> {
        let Some(stub) = &planned.stub else { return Ok(Vec::new()) };
        let layer = &planned.layer;
        let place = layer.place.name();
        let recently = self.proved.get(&place).is_some_and(|at| at.elapsed() < PROVED_AGAIN);
        if entry.state == State::Verified && recently {
            return Ok(Vec::new());
        }
        let direct = probe::survey(stub.servers(), stub.zones(), PROBE_TIMEOUT).await;
        let through = probe::survey(&layer.endpoints, stub.zones(), PROBE_TIMEOUT).await;
        let counted = countable(&through, &entry.answered);
        let all_gone = counted.is_empty() && !entry.answered.is_empty();
        let verdict = match probe::verdict(&counted, &direct) {
            Verdict::Proved => Ok(None),
            // The worst that an edit can do: so long as we ourselves can be reached, it is no matter of the network.
            Verdict::Unjudgeable { .. }
                if all_gone && direct.iter().all(|asked| asked.failure().is_none()) =>
            {
                Err("no address of cluster DNS answers any more".to_owned())
            }
            Verdict::Unjudgeable { why } => Ok(Some(join(&why))),
            Verdict::NotYet { missing } => Err(join(&missing)),
        };
        let now = Timestamp::now();
        self.tally.proof(layer.role, verdict == Ok(None));
        match verdict {
            Ok(None) => {
                self.failing.remove(&place);
                self.proved.insert(place, Instant::now());
                entry.earlier_zones.clear();
                entry.earlier_servers.clear();
                let servers: BTreeSet<_> = counted.iter().map(|asked| asked.server).collect();
                let message = format!("answered through {} addresses of cluster DNS", servers.len());
                entry.enter(State::Verified, message, now);
            }
            Ok(Some(why)) => {
                self.failing.remove(&place);
                if entry.state != State::Verified {
                    entry.message = format!("it cannot be proved from here: {why}");
                }
            }
            Err(missing) => {
                let since = *self.failing.entry(place.clone()).or_insert_with(Instant::now);
                // Once proved, a failure is not our edit's.
                if entry.state == State::Verified {
                    tracing::warn!(%place, missing, "stub domains are in place but do not answer");
                    self.proved.insert(place, Instant::now());
                } else {
                    entry.message.clone_from(&missing);
                    if since.elapsed() >= self.settings.proof_limit {
                        self.roll_back(survey, planned, entry, &missing, reach).await?;
                    }
                }
            }
        }
        Ok(through)
    }

    /// Undoes an edit that was not proved in time, if it is still what we wrote.
    async fn roll_back(
        &mut self,
        survey: &Survey,
        planned: &Planned,
        entry: &mut Entry,
        missing: &str,
        reach: Reach,
    ) -> anyhow::Result<()> {
        let Reach::Write { until } = reach else { return Ok(()) };
        if entry.written.is_none() || Instant::now() >= until {
            return Ok(());
        }
        let layer = &planned.layer;
        let cut = plan(survey, layer.clone(), None, &entry.ours(), self.settings.edit_managed);
        let Outcome::Change(cut) = cut.outcome else { return Ok(()) };
        // What we found is put back octet for octet; where others have edited since, only our part goes.
        let change = if cut.before == entry.after {
            Change { before: entry.after.clone(), after: entry.before.clone() }
        } else {
            cut
        };
        self.writer.change(survey, layer, &change).await?;
        self.tally.writes(layer.role);
        self.tally.rolled_back(layer.role);
        entry.before.clone_from(&change.after);
        entry.after = None;
        entry.written = None;
        self.failing.remove(&layer.place.name());
        let message = format!(
            "not proved within {} s, so it was undone: {missing}; it is tried again when the zones, our address or \
             the text there change, or by `globaldns stub-domains apply`",
            self.settings.proof_limit.as_secs()
        );
        tracing::warn!(place = layer.place.name(), message, "stub domains rolled back");
        entry.enter(State::RolledBack, message, Timestamp::now());
        Ok(())
    }
}

/// The answers that count: silence only from an endpoint that used to answer, for one that never did may be out of our
/// reach (another node's link-local address, a NetworkPolicy).
fn countable(through: &[Asked], answered: &BTreeSet<SocketAddr>) -> Vec<Asked> {
    through.iter().filter(|asked| !asked.is_silent() || answered.contains(&asked.server)).cloned().collect()
}

fn join<T: ToString>(parts: &[T]) -> String {
    parts.iter().map(T::to_string).collect::<Vec<_>>().join("; ")
}

/// The manager that wrote a layer's object last, other than us.
fn last_writer(survey: &Survey, layer: &Layer) -> Option<String> {
    let metadata = match &layer.place {
        Place::OpenShift => survey.openshift.as_ref().map(|object| &object.metadata),
        Place::CustomDns => survey.custom_dns.as_ref().map(|object| &object.metadata),
        place => {
            let (namespace, name) = place.config_map()?;
            survey.config_map(namespace, name).map(|map| &map.metadata)
        }
    }?;
    let entries = metadata.managed_fields.iter().flatten();
    let others = entries.filter(|entry| entry.manager.as_deref() != Some(super::write::MANAGER));
    others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?.manager.clone()
}
