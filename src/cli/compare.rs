//! `globaldns compare`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use futures::StreamExt;

use super::export::print;
use super::output::Plain;
use super::serve::duration;
use super::table::{AllNamespaces, TableArgs};
use super::value::number;
use super::{OR_FILES, called, output, without_cluster};
use crate::app;
use crate::client::{self, Manner};
use crate::compare::judge::{Judge, Verdict};
use crate::compare::legacy::Legacy;
use crate::compare::questions::{Extent, Plan, Question, Subject};
use crate::compare::report::{Report, parse_type};
use crate::compare::view::NoReply;
use crate::compare::{Asker, Compared};
use crate::config::{ConfigError, Sources};
use crate::limits::{self, MOST_NAMES};
use crate::stub::probe;
use crate::telemetry::{self, LogFormat};
use crate::wire::name::Name;
use crate::wire::{Transport, rtype};
use crate::zone::Zones;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long standard input may stay open before it is said that its end is waited for.
const STDIN_PATIENCE: Duration = Duration::from_secs(5);
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
        value_parser = number::<u32>(1..=10), help_heading = "Servers"
    )]
    tries: u32,
    /// The most questions a second to each server
    #[arg(
        long, value_name = "NUMBER", default_value_t = 500,
        value_parser = number::<u32>(1..=100_000), help_heading = "Servers"
    )]
    rate: u32,
    /// The most names that wait for replies at a time
    #[arg(
        long, value_name = "NUMBER", default_value_t = 32,
        value_parser = number::<u32>(1..=1024), help_heading = "Servers"
    )]
    in_flight: u32,

    /// Names to ask for, one a line, types behind it if it has others; - for standard input. With names and no source
    /// (--file, --kubernetes, --kubeconfig, --context, --namespace or their variables) no entries are read
    #[arg(long, value_name = "PATH", help_heading = "Questions")]
    names: Option<PathBuf>,
    /// A name to ask for, as on a line of --names; repeatable
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Questions")]
    name: Vec<String>,
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
    /// Ask for no host of the entries that is in no zone. Else those of which istiocoredns has an address are asked for,
    /// and where it does not answer them itself it forwards them
    #[arg(long, help_heading = "Questions")]
    only_zones: bool,

    /// Fail on any difference, explained or not
    #[arg(long, help_heading = "Output")]
    strict: bool,
    /// How to print the result
    #[arg(
        long,
        short,
        value_enum,
        default_value = "text",
        visible_alias = "format",
        help_heading = "Output"
    )]
    output: Plain,

    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    all: AllNamespaces,
}

impl Compare {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        telemetry::start("warn", LogFormat::Text)?;
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.compare())
    }

    async fn compare(mut self) -> anyhow::Result<ExitCode> {
        self.table.read_once(&self.all, &[]);
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
        let mut listed = self.names.as_deref().map(read_names).transpose()?.unwrap_or_default();
        for line in &self.name {
            let Some(named) = read_name("--name", line)? else {
                return Err(ConfigError(
                    "--name \"\" is no name; write one such as echo.default.global".to_owned(),
                )
                .into());
            };
            listed.push(named);
        }
        let has_entries = listed.is_empty() || self.table.names_a_source();
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
        .await
        .map_err(without_cluster(OR_FILES))?;
        let legacy = std::mem::take(&mut *legacy.lock().unwrap_or_else(PoisonError::into_inner));
        let zones = index.table().zones();
        let mut plan = Plan::new(zones, types);
        for Listed { flag, name, types } in &listed {
            plan.add(name, types).map_err(|error| {
                ConfigError(format!(
                    "{flag} {name:?} is no name: {error}; write names such as echo.default.global"
                ))
            })?;
        }
        plan.add_hosts(&legacy);
        let entries = has_entries.then_some(legacy.entries().len());
        if !plan.has_name_in_a_zone() {
            anyhow::bail!(nothing_to_ask(entries, &config.sources, zones));
        }
        if !self.only_names {
            plan.add_derived(&config.cluster_domain);
        }
        // Behind all others, for an old server may be slow to forward them.
        plan.add_outside(&legacy, !self.only_zones);
        let (subjects, extent) = plan.finish();
        tell_of_outside(extent);
        let transport = if self.tcp { Transport::Tcp } else { Transport::Udp };
        let manner = Manner { transport, patience: self.timeout, tries: self.tries };
        let asker = Asker::new(old, new, manner, self.in_flight as usize, self.rate);
        for (flag, server) in [("--old", old), ("--new", new)] {
            ensure_presence(&asker, flag, server, zones, &subjects).await?;
        }
        warn_of_exchange(old, new, zones, self.timeout).await;

        let judge = Judge::new(&index, has_entries.then_some(&legacy));
        let total = subjects.iter().map(|subject| subject.questions().len()).sum();
        let report = Report::new(old, new, entries, extent);
        let report = ask_all(&asker, &subjects, &judge, total, report).await?;
        match self.output {
            Plain::Text => print(&report.text())?,
            Plain::Json => print(&output::json(&report.json())?)?,
            Plain::Yaml => print(&output::yaml(&report.json())?)?,
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
    mut report: Report,
) -> anyhow::Result<Report> {
    let mut told = Instant::now();
    let mut silences = [("--old", asker.old, 0), ("--new", asker.new, 0)];
    let mut compared = pin!(asker.compare(subjects, judge));
    while let Some(subject) = compared.next().await {
        for Compared { old, new, verdict, .. } in &subject {
            for (reply, (flag, server, silent)) in [old, new].into_iter().zip(&mut silences) {
                match reply {
                    // Whoever cannot forward a name is not gone.
                    Err(NoReply::Silent(_)) if !matches!(verdict, Verdict::Unexplained(_)) => {}
                    Err(NoReply::Silent(_)) => *silent += 1,
                    Ok(_) | Err(NoReply::Broken(_)) => *silent = 0,
                }
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
            called::say(&format!(
                "{} of {total} questions, {} unexplained so far",
                report.questions(),
                report.unexplained()
            ));
        }
    }
    Ok(report)
}

/// Why an empty comparison is none: it would find everything in order.
fn nothing_to_ask(entries: Option<usize>, sources: &Sources, zones: &Zones) -> String {
    let apexes: Vec<_> = zones.iter().map(|zone| zone.apex().to_string()).collect();
    let zones = format!("zone{} {}", if apexes.len() == 1 { "" } else { "s" }, apexes.join(", "));
    let Some(entries) = entries else {
        return format!("none of the names given lies in {zones}; check them and --zone");
    };
    let mut places: Vec<String> = sources.files.iter().map(|path| path.display().to_string()).collect();
    if let Some(cluster) = &sources.cluster {
        let context = cluster.context.as_ref().map_or_else(String::new, |name| format!(" of context {name}"));
        let namespaces = match &cluster.namespaces[..] {
            [] => String::new(),
            namespaces => format!(" (namespaces {})", namespaces.join(", ")),
        };
        places.push(format!("the cluster{context}{namespaces}"));
    }
    format!(
        "no host of the {entries} entries in {} lies in {zones}; check --file, --context, --namespace and --zone",
        places.join(", ")
    )
}

fn tell_of_outside(Extent { outside, unasked, .. }: Extent) {
    if outside > 0 {
        called::say(&format!(
            "{} in none of the zones, and istiocoredns may answer: the address is asked for (D8); --zone adds a zone, --only-zones leaves them out",
            hosts(outside)
        ));
    }
    if unasked > 0 {
        called::say(&format!(
            "{} in none of the zones and not asked for (H2); --zone adds a zone",
            hosts(unasked)
        ));
    }
}

fn hosts(count: usize) -> String {
    if count == 1 {
        "1 host of the entries is".to_owned()
    } else {
        format!("{count} hosts of the entries are")
    }
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
            Err(NoReply::Silent(why)) => last = Some(why),
            Ok(_) | Err(NoReply::Broken(_)) => return Ok(()),
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
        called::say(&format!(
            "--new {new} does not prove that it is a globaldns with the zone {}: {failure}{swapped}",
            zone.apex()
        ));
    }
}

fn server(flag: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    client::parse_server(text).filter(|server| server.port() != 0).ok_or_else(|| {
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

/// A name to ask for, of which flag, and its own types.
pub(super) struct Listed {
    flag: String,
    pub(super) name: String,
    pub(super) types: Vec<u16>,
}

/// Lines of a name and, if it has others than all, types; `#` begins a remark.
fn read_names(path: &Path) -> Result<Vec<Listed>, ConfigError> {
    let text = if path == Path::new("-") { read_stdin() } else { limits::read_file(path, MOST_NAMES) };
    let shown = path.display();
    let text = text.map_err(|error| {
        ConfigError(format!("--names {shown} cannot be read: {error}; give a file with one name a line"))
    })?;
    let mut names = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        names.extend(read_name(&format!("--names {shown}:{line}:"), text)?);
    }
    if names.is_empty() {
        return Err(ConfigError(format!("--names {shown} has no name; write one a line")));
    }
    Ok(names)
}

pub(super) fn read_name(flag: &str, line: &str) -> Result<Option<Listed>, ConfigError> {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    let Some(name) = words.next() else { return Ok(None) };
    let types = words.map(|word| rtype(flag, word)).collect::<Result<_, _>>()?;
    Ok(Some(Listed { flag: flag.to_owned(), name: name.to_owned(), types }))
}

/// Says so if it waits: a container's standard input may never end.
fn read_stdin() -> io::Result<String> {
    let (read, waits) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if waits.recv_timeout(STDIN_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            called::say(
                "--names - waits for the end of standard input, which kubectl debug -i never sends; --name takes names as arguments",
            );
        }
    });
    let text = limits::read_to_string(io::stdin(), MOST_NAMES);
    drop(read);
    text
}
