//! `globaldns check`.

mod sarif;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use super::export::print;
use super::table::{AllNamespaces, TableArgs};
use super::{called, output, without_cluster};
use crate::app;
use crate::check::places::Places;
use crate::check::{self, Holder, Range, Read};
use crate::config::ConfigError;
use crate::entry::{self, Entry, EntryId, Origin};
use crate::finding::{Code, Finding, Severity};
use crate::limits::{self, MOST_FILE};
use crate::source::files::LoadError;
use crate::source::ranges;
use crate::telemetry::{self, LogFormat};

/// Of other flags those that change nothing that is found.
pub(super) const WITHOUT_EFFECT: [&str; 5] =
    ["file", "kubernetes", "negative_ttl", "advertise_address", "advertise_service"];

#[derive(Args, Debug)]
pub(super) struct Check {
    /// Manifests to check: files, directories (*.yaml, *.yml, *.json below them), or - for standard input
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Check the ServiceEntries of a cluster. --kubeconfig and --context mean the same; so do --namespace and -A without a
    /// PATH
    #[arg(long)]
    cluster: bool,
    /// istiod allocates addresses in the mesh these manifests are for (its default since Istio 1.25): a host that will
    /// have one by that is no finding
    #[arg(long)]
    auto_allocation: bool,
    /// Fail on warnings too, and on a PATH without any ServiceEntry
    #[arg(long)]
    strict: bool,
    /// How to print the findings; text tells of each kind of severity info only once
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,

    /// Addresses of the cluster's pods, which no host should have; repeatable. With --cluster also what its nodes say
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr, help_heading = "Ranges")]
    pod_cidr: Vec<IpNet>,
    /// Addresses of its Services; repeatable. With --cluster also its ServiceCIDRs, or the ClusterIPs of its Services
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr, help_heading = "Ranges")]
    service_cidr: Vec<IpNet>,
    /// Addresses of its nodes; repeatable. With --cluster also those its nodes have
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = cidr, help_heading = "Ranges")]
    node_cidr: Vec<IpNet>,
    /// A range from which somebody else allocates virtual addresses, who writes entries to that namespace; repeatable.
    /// Besides 240.240.0.0/16 and 2001:2::/48 (istiod) and 240.0.0.0/16=admiral-sync (Admiral)
    #[arg(long, value_name = "CIDR[=NAMESPACE]", value_delimiter = ',', value_parser = allocated, help_heading = "Ranges")]
    allocated_cidr: Vec<Range>,

    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    all: AllNamespaces,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each error and warning
    Text,
    /// A line for every finding
    Wide,
    /// One JSON value
    Json,
    /// The same as YAML
    Yaml,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let net = entry::network(text).ok_or("write a CIDR such as 10.244.0.0/16 or fd00:10:244::/56")?;
    if net.trunc() == net {
        return Ok(net);
    }
    Err(format!("its address goes on behind its length; write {}", net.trunc()))
}

fn allocated(text: &str) -> Result<Range, String> {
    let (net, namespace) = match text.split_once('=') {
        Some((net, namespace)) => (net, Some(namespace)),
        None => (text, None),
    };
    match namespace {
        Some("") => {
            return Err("it names no namespace behind its =; write one, or leave the = out".to_owned());
        }
        Some(namespace) if !entry::is_namespace(namespace) => {
            return Err(format!("{namespace:?} is not a namespace; {}", super::table::WRITE_A_NAMESPACE));
        }
        _ => {}
    }
    let name = namespace.map_or_else(
        || "somebody else".to_owned(),
        |namespace| format!("whoever writes to the namespace {namespace}"),
    );
    let holder = Holder::Allocator { name, namespace: namespace.map(str::to_owned) };
    Ok(Range { net: cidr(net)?, holder })
}

/// A finding, and where it is if it is in a file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Located {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
    #[serde(flatten)]
    finding: Finding,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Checked {
    /// ServiceEntries that were read.
    entries: usize,
    errors: usize,
    warnings: usize,
    infos: usize,
    findings: Vec<Located>,
    /// Of the paths that were named those without a ServiceEntry.
    #[serde(skip)]
    empty: Vec<PathBuf>,
}

/// What is remembered of what is read.
#[derive(Default)]
struct Noted {
    entries: usize,
    read: BTreeMap<EntryId, Read>,
    /// The files that have one.
    files: BTreeSet<Arc<str>>,
    /// Documents by the name that findings give them.
    documents: HashMap<String, (Arc<str>, (u32, u32))>,
    /// Those of them whose hosts istiod may give addresses (A2).
    allocatable: HashSet<String>,
}

impl Noted {
    fn note(&mut self, object: &Value, entry: &Entry) {
        self.entries += 1;
        if let Origin::Document { path, position } = &entry.id.origin {
            if !self.files.contains(path) {
                self.files.insert(path.clone());
            }
            self.documents.insert(entry.id.to_string(), (path.clone(), *position));
            self.allocatable.extend(entry.allocated.then(|| entry.id.to_string()));
        }
        if let Some(read) = Read::of(object, entry) {
            self.read.insert(entry.id.clone(), read);
        }
    }

    /// Whether there is a ServiceEntry in this file, or below this directory.
    fn has_below(&self, path: &Path) -> bool {
        self.files.iter().any(|file| Path::new(&**file).starts_with(path))
    }
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        telemetry::start("error", LogFormat::Text)?;
        let (format, strict) = (self.output, self.strict);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let checked = runtime.block_on(self.check())?;
        let text = match format {
            Output::Text => checked.text(false),
            Output::Wide => checked.text(true),
            Output::Json => output::json(&checked)?,
            Output::Yaml => output::yaml(&checked)?,
            Output::Sarif => sarif::text(&checked.findings)?,
        };
        print(&text)?;
        for path in &checked.empty {
            let path = if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy() };
            called::say(&format!("{path} has no ServiceEntry in it"));
        }
        called::tell(&format!("{}\n", checked.summary()));
        let fails = checked.errors > 0 || strict && (checked.warnings > 0 || !checked.empty.is_empty());
        Ok(ExitCode::from(u8::from(fails)))
    }

    async fn check(mut self) -> anyhow::Result<Checked> {
        self.table.read_once(&self.all, &self.paths);
        if self.paths.is_empty() && !self.cluster && !self.table.is_given_a_source() {
            return Err(ConfigError(
                "there is nothing to check: name files or directories, - for standard input, or --cluster"
                    .to_owned(),
            )
            .into());
        }
        self.table.add_sources(self.paths.clone(), self.cluster);
        let names_zones = self.table.names_zones();
        let mut all_ranges = Range::usual().to_vec();
        for (nets, holder) in [
            (self.pod_cidr, Holder::Pods),
            (self.service_cidr, Holder::Services),
            (self.node_cidr, Holder::Nodes),
        ] {
            all_ranges.extend(nets.into_iter().map(|net| Range { net, holder: holder.clone() }));
        }
        // Before the usual ones: who names one knows more of it.
        all_ranges.splice(0..0, self.allocated_cidr);
        let config = self.table.config()?;
        let noted = Arc::new(Mutex::new(Noted::default()));
        let onlooker = {
            let noted = noted.clone();
            Arc::new(move |object: &Value, entry: &Entry| {
                noted.lock().unwrap_or_else(PoisonError::into_inner).note(object, entry);
            })
        };
        let (index, access, unread) =
            app::look_once(&config, onlooker).await.map_err(without_cluster(", or name a PATH"))?;
        if let Some(access) = access {
            let (found, missing) = ranges::of_cluster(&access).await?;
            missing.iter().for_each(|what| called::say(what));
            all_ranges.extend(found);
        }
        let noted = std::mem::take(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner));
        let mut findings = index.findings();
        // Nor does istiod give a wildcard one.
        let will_have_one = |finding: &Finding| {
            finding.code == Code::HostNoAddress
                && noted.allocatable.contains(&finding.object)
                && !finding.value.starts_with('*')
        };
        findings.retain(|finding| !(self.auto_allocation && will_have_one(finding)));
        findings.extend(check::search(&noted.read, all_ranges));
        if names_zones {
            findings.extend(check::public_zones(index.table().zones()));
        }
        let empty = self.paths.into_iter().filter(|path| {
            !noted.has_below(path) && !unread.iter().any(|error| error.path().starts_with(path))
        });
        Ok(Checked { empty: empty.collect(), ..Checked::new(findings, &unread, &noted) })
    }
}

impl Checked {
    fn new(findings: Vec<Finding>, unread: &[LoadError], noted: &Noted) -> Checked {
        let mut located = locate(findings, noted);
        located.extend(unread.iter().map(|error| {
            let position = error.position();
            Located {
                file: (error.path() != Path::new("-")).then(|| error.path().display().to_string()),
                line: position.map(|(line, _)| line),
                column: position.map(|(_, column)| column),
                finding: error.first_finding(),
            }
        }));
        located.sort();
        let count = |severity| located.iter().filter(|l| l.finding.code.severity() == severity).count();
        Checked {
            entries: noted.entries,
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            infos: count(Severity::Info),
            findings: located,
            empty: Vec::new(),
        }
    }

    /// A line for each finding; of each code of severity info one, if not `all`.
    fn text(&self, all: bool) -> String {
        let mut text = String::new();
        let mut infos: BTreeMap<_, (usize, &Located)> = BTreeMap::new();
        // Writing to a String cannot fail.
        for located in &self.findings {
            if all || located.finding.code.severity() != Severity::Info {
                let _ = writeln!(text, "{located}");
            } else {
                infos.entry(located.finding.code).or_insert((0, located)).0 += 1;
            }
        }
        for (count, first) in infos.values() {
            let _ = match count {
                1 => writeln!(text, "{first}"),
                _ => writeln!(text, "{first} (and {} more like this: -o wide)", count - 1),
            };
        }
        text
    }

    fn summary(&self) -> String {
        let count =
            |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        format!(
            "{}, {} and {} in {}",
            count(self.errors, "error", "errors"),
            count(self.warnings, "warning", "warnings"),
            count(self.infos, "note", "notes"),
            count(self.entries, "ServiceEntry", "ServiceEntries")
        )
    }
}

impl std::fmt::Display for Located {
    /// As compilers do it, so that editors find the place.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (finding, code) = (&self.finding, self.finding.code);
        let Some(file) = &self.file else { return finding.fmt(f) };
        write!(f, "{file}:")?;
        // What cannot be read has no lines.
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {} [{}] {}", code.severity().as_str(), code.as_str(), finding.told())
    }
}

/// Finds the places of what is in files: each file with a finding is read once more.
fn locate(findings: Vec<Finding>, noted: &Noted) -> Vec<Located> {
    let mut wanted: HashMap<&str, Places> = HashMap::new();
    for finding in &findings {
        if let Some((path, position)) = noted.documents.get(&finding.object) {
            wanted.entry(&**path).or_default().want(*position, &finding.field);
        }
    }
    for (path, places) in &mut wanted {
        // It was read a moment ago; standard input is gone.
        if *path != "-"
            && let Ok(text) = limits::read_file(Path::new(path), MOST_FILE)
        {
            places.look(&text);
        }
    }
    let locate = |finding: Finding| {
        let (mut file, mut at) = (None, None);
        if let Some((path, position)) =
            noted.documents.get(&finding.object).filter(|(path, _)| **path != *"-")
        {
            file = Some(path.to_string());
            at = wanted.get(&**path).and_then(|places| places.get(*position, &finding.field));
        }
        Located { file, line: at.map(|(line, _)| line), column: at.map(|(_, column)| column), finding }
    };
    findings.into_iter().map(locate).collect()
}
