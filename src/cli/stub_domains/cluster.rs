//! `globaldns stub-domains plan | apply | remove | status`: the stub domains of a live cluster.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{ArgAction, Args};
use jiff::Timestamp;
use kube::Client;
use serde_json::json;

use super::{Output, StubArgs, Target};
use crate::config::host_name;
use crate::stub::Stub;
use crate::stub::engine::{self, Engine, Right, Seen, Settings};
use crate::stub::plan::Outcome;
use crate::stub::probe;
use crate::stub::record::State;
use crate::stub::tally::Tally;
use crate::stub::write::{WriteError, Writer};

/// How often a command looks while it waits.
const EVERY: Duration = Duration::from_secs(2);
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
        let record = self.writer(access.plain_client()?, dry_run).load().await?.record;
        let servers = record.places.values().flat_map(|entry| entry.servers.clone());
        let stub = Stub::new(self.stub.zones()?, servers).map_err(|_| error)?;
        self.session_with(Target { stub, access }, Right::Always, dry_run, engine::PROOF_LIMIT)
    }

    fn writer(&self, client: Client, dry_run: bool) -> Writer {
        let namespace = self.record_namespace.as_ref().unwrap_or(&self.stub.service.namespace);
        Writer::new(client, namespace, dry_run)
    }

    fn session_with(
        self,
        target: Target,
        right: Right,
        dry_run: bool,
        rollback_after: Duration,
    ) -> anyhow::Result<Session> {
        let client = target.access.plain_client()?;
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
                    tokio::time::sleep(Duration::from_millis(200)).await;
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

    fn print(&self, seen: &[Seen], dry_run: bool) {
        match (self.output, dry_run) {
            (Output::Json, _) => print_json(seen),
            (Output::Text, false) => seen.iter().for_each(print_state),
            (Output::Text, true) => {
                seen.iter().for_each(print_plan);
                println!("# dry run: the API server has checked this and kept nothing");
            }
        }
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
            match session.output {
                Output::Json => print_json(&seen),
                Output::Text => seen.iter().for_each(print_plan),
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
            match session.output {
                Output::Json => print_json(&seen),
                Output::Text => {
                    seen.iter().for_each(print_state);
                    seen.iter().for_each(print_answers);
                }
            }
            Ok(outcome_of(&seen))
        })
    }
}

impl Apply {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            let mut session =
                self.cluster.session(Right::Always, self.write.dry_run, self.rollback_after).await?;
            // Asked for by hand: what had made us stop no longer counts.
            let mut loaded = session.writer.load().await?;
            let mut record = loaded.record.clone();
            record.removed = None;
            for entry in record.places.values_mut() {
                if matches!(entry.state, State::Fighting | State::RolledBack) {
                    entry.enter(State::Detected, "tried again by hand", Timestamp::now());
                    entry.reverts.clear();
                }
            }
            session.writer.save(&mut loaded, record).await?;
            let seen = session.settle(&self.write).await?;
            session.print(&seen, self.write.dry_run);
            if self.write.dry_run || !self.write.wait {
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
            let mut loaded = session.writer.load().await?;
            let mut record = loaded.record.clone();
            // Controllers that run now see this, and stay out.
            record.removed = Some(Timestamp::now());
            session.writer.save(&mut loaded, record).await?;
            let seen = if self.write.dry_run {
                session.removal_alone().await?
            } else {
                session.settle(&self.write).await?
            };
            session.print(&seen, self.write.dry_run);
            if self.write.wait && !self.write.dry_run && seen.iter().all(|layer| layer.entry.state.is_good())
            {
                session.forgotten(&seen).await;
            }
            let left = seen.iter().any(|layer| !layer.entry.state.is_good());
            Ok(ExitCode::from(u8::from(left && !self.write.dry_run)))
        })
    }
}

impl Session {
    /// A dry run keeps no record, so the removal is asked for directly.
    async fn removal_alone(&mut self) -> anyhow::Result<Vec<Seen>> {
        self.engine.remove(&self.target.stub).await
    }

    /// Waits until no endpoint sends us probes any more: until then the Service must stay.
    async fn forgotten(&self, seen: &[Seen]) {
        let begun = Instant::now();
        let endpoints: Vec<SocketAddr> =
            seen.iter().flat_map(|layer| layer.planned.layer.endpoints.iter().copied()).collect();
        let mut progress = Progress::new();
        while begun.elapsed() < FORGET_LIMIT {
            let answers = probe::survey(&endpoints, self.target.stub.zones(), engine::PROBE_TIMEOUT).await;
            let still = answers.iter().filter(|asked| asked.failure().is_none()).count();
            let heard = answers.iter().any(|asked| !asked.is_silent());
            if still == 0 && heard {
                return;
            }
            let what = if heard {
                format!("{still} of {} probes still come through", answers.len())
            } else {
                "no endpoint of cluster DNS can be asked from here".to_owned()
            };
            progress.say(&format!(
                "waiting for cluster DNS to forget us: {what} ({} s of at most {} s)",
                begun.elapsed().as_secs(),
                FORGET_LIMIT.as_secs()
            ));
            tokio::time::sleep(EVERY).await;
        }
    }
}

fn outcome_of(seen: &[Seen]) -> ExitCode {
    let good = !seen.is_empty() && seen.iter().all(|layer| layer.entry.state.is_good());
    ExitCode::from(u8::from(!good))
}

/// One line that is written over on a terminal, and a line per news elsewhere.
struct Progress {
    terminal: bool,
    last: String,
}

impl Progress {
    fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), last: String::new() }
    }

    fn say(&mut self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[2K{text}");
            return;
        }
        // Without the seconds it is the same news.
        let news = text.rsplit_once(" (").map_or(text, |(news, _)| news);
        if self.last != news {
            eprintln!("{text}");
            self.last = news.to_owned();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
    }
}

fn print_plan(seen: &Seen) {
    let planned = &seen.planned;
    let layer = &planned.layer;
    println!("# {}: {} ({})", layer.role.as_str(), layer.place.name(), layer.flavour.name());
    for why in &layer.why {
        println!("#   {why}");
    }
    for who in &layer.managed_by {
        println!("#   also written by {who}");
    }
    for note in &planned.notes {
        println!("#   note: {note}");
    }
    match &planned.outcome {
        Outcome::InPlace => println!("# nothing to do: it is as it should be"),
        Outcome::Refused(refusal) => println!("# nothing is written: {refusal}"),
        Outcome::Change(change) => print!("{}", change.diff(&layer.place.name())),
        Outcome::Emit(text) => {
            println!("# nothing is written here; what to tell its owner:");
            println!("{}", text.trim_end());
        }
    }
}

fn print_state(seen: &Seen) {
    let entry = &seen.entry;
    let layer = &seen.planned.layer;
    println!("{}: {}: {}: {}", layer.role.as_str(), layer.place.name(), entry.state.as_str(), entry.message);
    if let Outcome::Emit(text) = &seen.planned.outcome {
        println!("{}", text.trim_end());
    }
}

fn print_answers(seen: &Seen) {
    for asked in &seen.answers {
        println!("  {asked}");
    }
}

fn print_json(seen: &[Seen]) {
    let layers: Vec<_> = seen
        .iter()
        .map(|seen| {
            let layer = &seen.planned.layer;
            let place = layer.place.name();
            let outcome = match &seen.planned.outcome {
                Outcome::InPlace => json!({"kind": "in-place"}),
                Outcome::Change(change) => json!({
                    "kind": "change", "before": change.before, "after": change.after, "diff": change.diff(&place),
                }),
                Outcome::Refused(refusal) => json!({
                    "kind": "refused", "reason": format!("{:?}", refusal.kind), "place": refusal.place,
                    "why": refusal.why, "remedy": refusal.remedy,
                }),
                Outcome::Emit(text) => json!({"kind": "emit", "text": text}),
            };
            let answers: Vec<_> = seen
                .answers
                .iter()
                .map(|asked| {
                    json!({"server": asked.server, "zone": asked.zone.to_string(),
                        "proved": asked.failure().is_none(),
                        "failure": asked.failure().map(|failure| failure.to_string())})
                })
                .collect();
            json!({
                "layer": layer.role.as_str(), "place": place, "flavour": layer.flavour.name(),
                "why": layer.why, "managedBy": layer.managed_by, "notes": seen.planned.notes,
                "endpoints": layer.endpoints, "outcome": outcome, "answers": answers,
                "state": seen.entry.state.as_str(), "message": seen.entry.message, "since": seen.entry.since,
            })
        })
        .collect();
    println!("{}", serde_json::to_string_pretty(&json!({"layers": layers})).unwrap_or_default());
}
