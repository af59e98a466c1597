//! `globaldns compare`.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures::StreamExt;

use super::export::print;
use super::serve::duration;
use super::table::TableArgs;
use crate::app;
use crate::client::{self, Manner};
use crate::compare::judge::Judge;
use crate::compare::legacy::Legacy;
use crate::compare::questions::{Plan, Question, Subject};
use crate::compare::report::{Report, parse_type};
use crate::compare::view::Reply;
use crate::compare::{Asker, Compared};
use crate::config::ConfigError;
use crate::stub::probe;
use crate::telemetry::{self, LogFormat};
use crate::wire::name::Name;
use crate::wire::{Transport, rtype};
use crate::zone::Zones;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// So many questions in a row without a reply, and the server is gone.
const GONE: usize = 50;

#[derive(Args, Debug)]
pub(super) struct Compare {
    /// The server that is to be replaced: IP or IP:PORT, an IPv6 address in brackets before a port
    #[arg(long, value_name = "ADDRESS", help_heading = "Servers")]
    old: String,
    /// The globaldns that is to replace it
    #[arg(long, value_name = "ADDRESS", help_heading = "Servers")]
    new: String,
    /// Ask over TCP; over UDP only truncated answers are fetched so
    #[arg(long, help_heading = "Servers")]
    tcp: bool,
    /// How long to wait for a reply, each time (2s, 500ms)
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration, help_heading = "Servers")]
    timeout: Duration,
    /// How often to ask before silence counts
    #[arg(
        long, value_name = "NUMBER", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..=10), help_heading = "Servers"
    )]
    tries: u32,
    /// The most questions a second to each server
    #[arg(
        long, value_name = "NUMBER", default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Servers"
    )]
    rate: u32,
    /// The most names that wait for replies at a time
    #[arg(
        long, value_name = "NUMBER", default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(1..=1024), help_heading = "Servers"
    )]
    in_flight: u32,

    /// Names to ask for, one a line, types behind it if it has others; - for standard input. Alone, no entries are read
    #[arg(long, value_name = "PATH", help_heading = "Questions")]
    names: Option<PathBuf>,
    /// A type to ask for, for every name; repeatable
    #[arg(
        long = "type",
        value_name = "TYPE",
        value_delimiter = ',',
        default_value = "A,AAAA,TXT",
        help_heading = "Questions"
    )]
    types: Vec<String>,
    /// Ask for the names themselves only, not also in mixed case, below wildcards and through search paths
    #[arg(long, help_heading = "Questions")]
    only_names: bool,

    /// Fail on any difference, explained or not
    #[arg(long, help_heading = "Output")]
    strict: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value = "text", visible_alias = "format", help_heading = "Output")]
    output: Output,

    #[command(flatten)]
    table: TableArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Compare {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        telemetry::start("warn", LogFormat::Text)?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.compare())
    }

    async fn compare(self) -> anyhow::Result<ExitCode> {
        let (old, new) = (server("--old", &self.old)?, server("--new", &self.new)?);
        if old == new {
            return Err(ConfigError(format!(
                "--old and --new are both {old}; name the server that is to go and the one that is to come"
            ))
            .into());
        }
        if self.timeout.is_zero() {
            return Err(ConfigError("--timeout 0s waits for nothing; write 2s or 500ms".to_owned()).into());
        }
        let types = self.types.iter().map(|text| rtype("--type", text)).collect::<Result<Vec<_>, _>>()?;
        let listed = self.names.as_deref().map(read_names).transpose()?;
        let has_entries = listed.is_none() || self.table.names_a_source();
        let mut config = self.table.config()?;
        if !has_entries {
            config.sources.cluster = None;
        }
        let legacy = Arc::new(Mutex::new(Legacy::default()));
        let seen = legacy.clone();
        let (index, _) = app::load_once_seen_by(
            &config,
            Some(Arc::new(move |object, entry| {
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(object, entry);
            })),
        )
        .await?;
        let legacy = std::mem::take(&mut *legacy.lock().unwrap_or_else(PoisonError::into_inner));
        let zones = index.table().zones();
        let mut plan = Plan::new(zones, types);
        for (name, types) in listed.iter().flatten() {
            plan.add(name, types).map_err(|error| {
                ConfigError(format!(
                    "--names: {name:?} is no name: {error}; write names such as echo.default.global"
                ))
            })?;
        }
        plan.add_hosts(&legacy);
        if !self.only_names {
            plan.add_derived(&config.cluster_domain);
        }
        let (subjects, outside) = plan.finish();
        if outside > 0 {
            eprintln!(
                "globaldns: {outside} hosts of the entries are in none of the zones and are not asked for (H2); --zone adds one"
            );
        }
        let transport = if self.tcp { Transport::Tcp } else { Transport::Udp };
        let manner = Manner { transport, patience: self.timeout, tries: self.tries };
        let asker = Asker::new(old, new, manner, self.in_flight as usize, self.rate);
        for (flag, server) in [("--old", old), ("--new", new)] {
            ensure_presence(&asker, flag, server, zones, &subjects).await?;
        }
        warn_of_exchange(old, new, zones, self.timeout).await;

        let judge = Judge::new(&index, has_entries.then_some(&legacy));
        let total = subjects.iter().map(|subject| subject.questions().len()).sum();
        let report = ask_all(&asker, &subjects, &judge, total).await?;
        match self.output {
            Output::Text => print(&report.text())?,
            Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report.json())?))?,
        }
        let failed = report.unexplained() > 0 || self.strict && report.explained() > 0;
        Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}

async fn ask_all(
    asker: &Asker,
    subjects: &[Subject],
    judge: &Judge<'_>,
    total: usize,
) -> anyhow::Result<Report> {
    let mut report = Report::new(asker.old, asker.new);
    let mut told = Instant::now();
    let mut silences = [("--old", asker.old, 0), ("--new", asker.new, 0)];
    let mut compared = pin!(asker.compare(subjects, judge));
    while let Some(subject) = compared.next().await {
        for Compared { old, new, .. } in &subject {
            for (reply, (flag, server, silent)) in [old, new].into_iter().zip(&mut silences) {
                *silent = if is_silence(reply) { *silent + 1 } else { 0 };
                if *silent >= GONE {
                    anyhow::bail!(
                        "{flag} {server} has stopped answering: no reply to {GONE} questions in a row; see that it runs, or ask more slowly with --rate"
                    );
                }
            }
        }
        report.add(subject);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            eprintln!(
                "globaldns: {} of {total} questions, {} unexplained so far",
                report.questions(),
                report.unexplained()
            );
        }
    }
    Ok(report)
}

fn is_silence(reply: &Reply) -> bool {
    reply.is_err()
}

/// Some question must get a reply, whatever it says.
async fn ensure_presence(
    asker: &Asker,
    flag: &str,
    server: SocketAddr,
    zones: &Zones,
    subjects: &[Subject],
) -> anyhow::Result<()> {
    let apexes = zones.iter().map(|zone| zone.apex().clone());
    let names: Vec<Name> =
        apexes.chain(subjects.iter().map(|subject| subject.name.clone())).take(3).collect();
    let mut last = None;
    for name in names {
        let spelling = name.to_string();
        match asker.ask(server, &Question { name, spelling, rtype: rtype::A }).await {
            Ok(_) => return Ok(()),
            Err(why) => last = Some(why),
        }
    }
    let why = last.map_or_else(String::new, |why| why.to_string());
    let over = if asker.manner.transport == Transport::Tcp { "TCP" } else { "UDP" };
    anyhow::bail!(
        "{flag} {server} does not answer over {over}: {why}; give the address where it serves DNS, from where it can be reached (a ClusterIP: from a pod), or a longer --timeout"
    )
}

/// Only globaldns can prove that it serves a zone (D18).
async fn warn_of_exchange(old: SocketAddr, new: SocketAddr, zones: &Zones, timeout: Duration) {
    let Some(zone) = zones.iter().next() else { return };
    let proves = async |server| probe::ask(server, zone.apex(), timeout).await;
    let is_proved = |outcome: &probe::Outcome| matches!(outcome, probe::Outcome::Proved { .. });
    if let probe::Outcome::Failed(failure) = proves(new).await {
        let swapped =
            if is_proved(&proves(old).await) { "; --old is: are the two the wrong way round?" } else { "" };
        eprintln!(
            "globaldns: --new {new} does not prove that it is a globaldns with the zone {}: {failure}{swapped}",
            zone.apex()
        );
    }
}

fn server(flag: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    client::parse_server(text).ok_or_else(|| {
        ConfigError(format!(
            "{flag} {text:?} is not the address of a server; write 10.96.0.53, 10.96.0.53:5353, fd00::35 or [fd00::35]:5353"
        ))
    })
}

fn rtype(flag: &str, text: &str) -> Result<u16, ConfigError> {
    parse_type(text).ok_or_else(|| {
        ConfigError(format!(
            "{flag} {text:?} is not a type that can be asked for; write A, AAAA, TXT, HTTPS or TYPE65"
        ))
    })
}

/// Lines of a name and, if it has others than all, types; `#` begins a remark.
fn read_names(path: &Path) -> Result<Vec<(String, Vec<u16>)>, ConfigError> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let shown = path.display();
    let text = text.map_err(|error| {
        ConfigError(format!("--names {shown} cannot be read: {error}; give a file with one name a line"))
    })?;
    let mut names: BTreeMap<usize, (String, Vec<u16>)> = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let mut words = text.split('#').next().unwrap_or_default().split_whitespace();
        let Some(name) = words.next() else { continue };
        let flag = format!("--names {shown}:{line}:");
        let types = words.map(|word| rtype(&flag, word)).collect::<Result<_, _>>()?;
        names.insert(line, (name.to_owned(), types));
    }
    if names.is_empty() {
        return Err(ConfigError(format!("--names {shown} has no name; write one a line")));
    }
    Ok(names.into_values().collect())
}
