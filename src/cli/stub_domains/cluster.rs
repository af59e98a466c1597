//! `globaldns stub-domains plan | apply | remove | status`: the stub domains of a live cluster.

mod print;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use jiff::Timestamp;
use kube::Client;

use self::print::{Progress, answers, for_programs, plan, state};
use super::{Output, StubArgs, Target, called, print};
use crate::config::{ConfigError, host_name};
use crate::stub::Stub;
use crate::stub::engine::{self, Engine, Right, Seen, Settings};
use crate::stub::plan::Outcome;
use crate::stub::probe::{self, Asked};
use crate::stub::record::{Entry, Record, State};
use crate::stub::tally::Tally;
use crate::stub::write::{WriteError, Writer};

/// How often a command looks while it waits.
const EVERY: Duration = Duration::from_secs(2);
/// After somebody else wrote in between.
const AGAIN: Duration = Duration::from_millis(200);
/// How often a removal is followed by another look.
const REMOVALS: usize = 3;
/// How often a change of the record is tried again when others write it.
const AMEND_TRIES: usize = 10;
/// The longest wait until cluster DNS has forgotten us: kubelet's 90 s, CoreDNS's 38 s and some.
const FORGET_LIMIT: Duration = Duration::from_secs(150);

#[derive(Args, Debug)]
struct ClusterArgs {
    #[command(flatten)]
    stub: StubArgs,
    /// Edit also what Helm, kops, Argo CD, an addon manager and the like are known to write
    #[arg(long)]
    edit_managed: bool,
    /// Where the record of our edits is kept [default: the namespace of --service]
    #[arg(long, value_name = "NAME")]
    record_namespace: Option<String>,
    /// How the result is printed
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Args, Debug)]
pub(super) struct Plan {
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Args, Debug)]
struct WriteArgs {
    /// Have the API server check every write, and keep none
    #[arg(long)]
    dry_run: bool,
    /// Wait until cluster DNS has read the change, as probes through all its endpoints tell
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
        require_equals = true, action = ArgAction::Set)]
    wait: bool,
    /// The longest wait
    #[arg(long, value_name = "DURATION", default_value = "4m", value_parser = super::super::serve::duration)]
    timeout: Duration,
}

impl WriteArgs {
    /// Whether the command sees the write through.
    fn waits(&self) -> bool {
        self.wait && !self.dry_run
    }
}

#[derive(Args, Debug)]
pub(super) struct Apply {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    write: WriteArgs,
    /// How long cluster DNS may take to answer through the edit before it is rolled back
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = super::super::serve::duration)]
    rollback_after: Duration,
}

#[derive(Args, Debug)]
pub(super) struct Remove {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    write: WriteArgs,
}

/// What a command works with.
struct Session {
    engine: Engine,
    writer: Writer,
    target: Target,
    output: Output,
}

impl ClusterArgs {
    async fn session(self, right: Right, dry_run: bool, rollback_after: Duration) -> anyhow::Result<Session> {
        let target = self.stub.target().await?;
        self.session_with(target, right, dry_run, rollback_after)
    }

    /// For a removal: the Service may be gone already, but not what we recorded.
    async fn session_for_removal(self, dry_run: bool) -> anyhow::Result<Session> {
        let error = match self.stub.target().await {
            Ok(target) => return self.session_with(target, Right::Always, dry_run, engine::PROOF_LIMIT),
            Err(error) => error,
        };
        let access = self.stub.access().await?;
        let record = self.writer(access.client()?, dry_run).load().await?.record;
        let servers = record.places.values().flat_map(|entry| entry.servers.clone());
        let stub = Stub::new(self.stub.zones()?, servers).map_err(|_| error)?;
        self.session_with(Target { stub, access }, Right::Always, dry_run, engine::PROOF_LIMIT)
    }

    fn writer(&self, client: Client, dry_run: bool) -> Writer {
        let namespace = self.record_namespace.clone().unwrap_or_else(|| self.stub.service().namespace);
        Writer::new(client, &namespace, dry_run)
    }

    fn session_with(
        self,
        target: Target,
        right: Right,
        dry_run: bool,
        rollback_after: Duration,
    ) -> anyhow::Result<Session> {
        let client = target.access.client()?;
        let writer = self.writer(client.clone(), dry_run);
        let settings = Settings {
            edit_managed: self.edit_managed,
            proof_limit: rollback_after,
            identity: format!("stub-domains on {}", String::from_utf8_lossy(&host_name(200))),
            started: Timestamp::now(),
            insist_on_answer: false,
        };
        let engine = Engine::new(client, writer.clone(), settings, right, Tally::default());
        Ok(Session { engine, writer, target, output: self.output })
    }
}

impl Session {
    async fn look(&mut self) -> anyhow::Result<Vec<Seen>> {
        self.engine.step(Some(&self.target.stub)).await
    }

    /// Changes the record, whoever else changes it meanwhile.
    async fn amend(&self, change: impl Fn(&mut Record)) -> anyhow::Result<()> {
        let mut tries = AMEND_TRIES;
        loop {
            let mut loaded = self.writer.load().await?;
            let mut record = loaded.record.clone();
            change(&mut record);
            match self.writer.save(&mut loaded, record).await {
                Err(WriteError::Stale(_)) if tries > 0 => tries -= 1,
                done => return Ok(done?),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Steps until everything has come to an end, or the time is over.
    async fn settle(&mut self, write: &WriteArgs) -> anyhow::Result<Vec<Seen>> {
        let begun = Instant::now();
        let deadline = begun + write.timeout;
        let mut progress = Progress::new();
        loop {
            let seen = match self.engine.step(Some(&self.target.stub)).await {
                Ok(seen) => seen,
                // Somebody else wrote in between: look again.
                Err(error) if is_stale(&error) && Instant::now() < deadline => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let waits = seen.iter().find(|layer| !layer.entry.state.is_final());
            let written = seen.iter().all(|layer| layer.entry.state != State::Planned);
            let Some(waits) = waits else { return Ok(seen) };
            if write.dry_run || (written && !write.wait) || Instant::now() >= deadline {
                return Ok(seen);
            }
            progress.say(&format!(
                "{} {}: {} ({} s of at most {} s)",
                waits.planned.layer.role.as_str(),
                waits.entry.state.as_str(),
                waits.entry.message,
                begun.elapsed().as_secs(),
                write.timeout.as_secs()
            ));
            tokio::time::sleep(EVERY).await;
        }
    }

    fn print(&self, seen: &[Seen], dry_run: bool) -> anyhow::Result<()> {
        if let Some(text) = for_programs(self.output, seen)? {
            return print(&text);
        }
        if dry_run {
            let plans: String = seen.iter().map(plan).collect();
            return print(&format!("{plans}# dry run: the API server has checked this and kept nothing\n"));
        }
        print(&seen.iter().map(|layer| state(layer, self.output)).collect::<String>())
    }
}

fn is_stale(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<WriteError>(), Some(WriteError::Stale(_)))
}

impl Plan {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            let mut session = self.cluster.session(Right::Never, true, engine::PROOF_LIMIT).await?;
            session.engine.ignore_removal();
            let seen = session.look().await?;
            match for_programs(session.output, &seen)? {
                Some(text) => print(&text)?,
                None => print(&seen.iter().map(plan).collect::<String>())?,
            }
            let refused = seen.iter().any(|layer| matches!(layer.planned.outcome, Outcome::Refused(_)));
            Ok(ExitCode::from(u8::from(refused)))
        })
    }
}

impl Status {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            let mut session = self.cluster.session(Right::Never, true, engine::PROOF_LIMIT).await?;
            let mut seen = session.look().await?;
            for layer in seen.iter_mut().filter(|layer| layer.answers.is_empty()) {
                let zones = session.target.stub.zones();
                layer.answers =
                    probe::survey(&layer.planned.layer.endpoints, zones, engine::PROBE_TIMEOUT).await;
            }
            match for_programs(session.output, &seen)? {
                Some(text) => print(&text)?,
                None => {
                    let states = seen.iter().map(|layer| state(layer, session.output));
                    print(&states.chain(seen.iter().map(answers)).collect::<String>())?;
                }
            }
            let resolves = seen.iter().all(answers_as_it_stands);
            Ok(if resolves { outcome_of(&seen) } else { ExitCode::FAILURE })
        })
    }
}

impl Apply {
    /// An edit that is not proved has to be undone while somebody is there to do it.
    fn check(&self) -> Result<(), ConfigError> {
        let (timeout, rollback) = (self.write.timeout, self.rollback_after);
        if !self.write.waits() || timeout > rollback {
            return Ok(());
        }
        Err(ConfigError(format!(
            "--timeout {} s is not longer than --rollback-after {} s, so the command would end before an edit that \
             does not work is undone; give a longer --timeout or a shorter --rollback-after",
            timeout.as_secs(),
            rollback.as_secs()
        )))
    }

    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            self.check()?;
            let mut session =
                self.cluster.session(Right::Always, self.write.dry_run, self.rollback_after).await?;
            // Asked for by hand: what had made us stop no longer counts.
            session
                .amend(|record| {
                    record.removed = None;
                    for entry in record.places.values_mut() {
                        if matches!(entry.state, State::Fighting | State::RolledBack) {
                            entry.enter(State::Detected, "tried again by hand", Timestamp::now());
                            entry.reverts.clear();
                        }
                    }
                })
                .await?;
            if self.write.dry_run {
                // The record still says so: it was not written.
                session.engine.ignore_removal();
            }
            let seen = session.settle(&self.write).await?;
            session.print(&seen, self.write.dry_run)?;
            if self.write.waits() {
                seen.iter().filter_map(unproved).for_each(|line| called::tell(&line));
            }
            if !self.write.waits() {
                let stopped = seen.iter().any(|layer| {
                    matches!(layer.entry.state, State::Conflict | State::Refused | State::EmitOnly)
                });
                return Ok(ExitCode::from(u8::from(stopped)));
            }
            Ok(outcome_of(&seen))
        })
    }
}

impl Remove {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            let mut session = self.cluster.session_for_removal(self.write.dry_run).await?;
            // Controllers that run now see this, and stay out.
            session.amend(|record| record.removed = Some(Timestamp::now())).await?;
            let seen = if self.write.dry_run {
                session.removal_alone().await?
            } else {
                session.taken_out(&self.write).await?
            };
            session.print(&seen, self.write.dry_run)?;
            let places: Vec<_> = seen.iter().map(|layer| layer.planned.layer.place.name()).collect();
            let record = session.writer.load().await?.record;
            let orphans = orphans(&record, &places);
            orphans.iter().for_each(|place| {
                called::tell(&format!(
                    "{place}: written by us, but cluster DNS no longer reads it; look there for our zones and take \
                     them out by hand, if they are left\n"
                ));
            });
            let good = orphans.is_empty() && seen.iter().all(|layer| layer.entry.state.is_good());
            let remembered = if good && self.write.waits() { session.forgotten(&seen).await } else { None };
            if let Some(still) = &remembered {
                called::tell(&format!(
                    "cluster DNS has not forgotten us: {still} after {} s; leave the Service of globaldns until \
                     `globaldns stub-domains status` says otherwise, or restart the pods of cluster DNS\n",
                    FORGET_LIMIT.as_secs()
                ));
            }
            let left = !good || remembered.is_some();
            Ok(ExitCode::from(u8::from(left && !self.write.dry_run)))
        })
    }
}

/// Recorded places with something of ours that are not among those just seen: what led to them is gone.
fn orphans<'r>(record: &'r Record, seen: &[String]) -> Vec<&'r str> {
    let left = |entry: &Entry| {
        let there = matches!(entry.state, State::Propagating | State::Verified | State::Unproved);
        entry.state != State::Removed && (there || entry.written.is_some())
    };
    let places = record.places.iter().filter(|(place, entry)| left(entry) && !seen.contains(place));
    places.map(|(place, _)| place.as_str()).collect()
}

impl Session {
    /// A dry run keeps no record, so the removal is asked for directly.
    async fn removal_alone(&mut self) -> anyhow::Result<Vec<Seen>> {
        self.engine.remove(&self.target.stub).await
    }

    /// Takes everything out, also where the first removal brings another to light.
    async fn taken_out(&mut self, write: &WriteArgs) -> anyhow::Result<Vec<Seen>> {
        let mut seen = self.settle(write).await?;
        for _ in 0..REMOVALS {
            let changed = |layer: &Seen| {
                layer.entry.state.is_good() && matches!(layer.planned.outcome, Outcome::Change(_))
            };
            if !seen.iter().any(changed) {
                break;
            }
            seen = self.settle(write).await?;
        }
        Ok(seen)
    }

    /// Waits until no endpoint sends us probes any more: until then the Service must stay. Says what still comes
    /// through at the end.
    async fn forgotten(&self, seen: &[Seen]) -> Option<String> {
        let begun = Instant::now();
        let endpoints: Vec<SocketAddr> =
            seen.iter().flat_map(|layer| layer.planned.layer.endpoints.iter().copied()).collect();
        let mut progress = Progress::new();
        let mut last = None;
        while begun.elapsed() < FORGET_LIMIT {
            let answers = probe::survey(&endpoints, self.target.stub.zones(), engine::PROBE_TIMEOUT).await;
            let still = answers.iter().filter(|asked| asked.failure().is_none()).count();
            let heard = answers.iter().any(|asked| !asked.is_silent());
            if still == 0 && heard {
                return None;
            }
            if heard {
                last = Some(format!("{still} of {} probes still come through", answers.len()));
            }
            let what = match &last {
                Some(still) if heard => still,
                _ => "no endpoint of cluster DNS can be asked from here",
            };
            progress.say(&format!(
                "waiting for cluster DNS to forget us: {what} ({} s of at most {} s)",
                begun.elapsed().as_secs(),
                FORGET_LIMIT.as_secs()
            ));
            tokio::time::sleep(EVERY).await;
        }
        drop(progress);
        if last.is_none() {
            called::tell(&format!(
                "no endpoint of cluster DNS can be asked from here, so it is not known whether it has forgotten us; \
                 it does so within about {} s\n",
                FORGET_LIMIT.as_secs()
            ));
        }
        last
    }
}

/// What to tell of an edit that stands there unproved when the command ends.
fn unproved(seen: &Seen) -> Option<String> {
    if !matches!(seen.entry.state, State::Propagating | State::Unproved) {
        return None;
    }
    Some(format!(
        "{}: the edit stays, but is not proved: {}; prove it from a pod (kubectl exec … -- globaldns stub-domains \
         apply), or take it out with `globaldns stub-domains remove`\n",
        seen.planned.layer.place.name(),
        seen.entry.message
    ))
}

fn outcome_of(seen: &[Seen]) -> ExitCode {
    let good = !seen.is_empty() && seen.iter().all(|layer| layer.entry.state.is_good());
    ExitCode::from(u8::from(!good))
}

/// Whether nobody answers otherwise than by proof; where nothing of ours is to be, nobody has to.
fn answers_as_it_stands(seen: &Seen) -> bool {
    let fails = |asked: &Asked| asked.failure().is_some() && !asked.is_silent();
    seen.entry.state == State::Removed || !seen.answers.iter().any(fails)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        apply: Apply,
    }

    /// [T8] The command must be there to undo what does not work.
    #[test]
    fn apply_waits_longer_than_an_edit_may_stay_unproved() {
        for (arguments, fits) in [
            (&[][..], true),
            (&["--timeout", "3m"], false),
            (&["--timeout", "60s"], false),
            (&["--timeout", "60s", "--rollback-after", "50s"], true),
            (&["--rollback-after", "10m"], false),
            (&["--timeout", "60s", "--wait=false"], true),
            (&["--timeout", "60s", "--dry-run"], true),
        ] {
            let program = Program::parse_from([&["apply"], arguments].concat());
            assert_eq!(program.apply.check().is_ok(), fits, "{arguments:?}");
        }
    }

    /// [T11]
    #[test]
    fn what_we_wrote_where_nobody_looks_any_more_is_named() {
        let entry = |state, written: bool| Entry {
            state,
            written: written.then_some(Timestamp::UNIX_EPOCH),
            ..Entry::default()
        };
        let places = [
            ("seen", entry(State::Verified, true)),
            ("written", entry(State::Conflict, true)),
            ("its owner's", entry(State::Verified, false)),
            ("not proved", entry(State::Unproved, false)),
            ("removed", entry(State::Removed, true)),
            ("told", entry(State::EmitOnly, false)),
        ];
        let places = places.map(|(place, entry)| (place.to_owned(), entry)).into();
        let record = Record { removed: None, places };
        assert_eq!(orphans(&record, &["seen".to_owned()]), ["its owner's", "not proved", "written"]);
    }
}
