//! The flags of every command that builds a name table.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches};
use ipnet::IpNet;

use super::value::{address, number, switch};
use crate::config::{ClusterSource, ConfigError, Sources, TableConfig};
use crate::entry::{Rules, TTL_RANGE, is_namespace};
use crate::index::Policy;
use crate::source::advertise::ServiceName;
use crate::wire::name::Name;
use crate::zone::answer::Family;
use crate::zone::{Ownership, reverse};

#[derive(Args, Debug)]
pub(super) struct TableArgs {
    // Before all others: what has been read is not in the matches any more.
    #[command(flatten)]
    given: Given,
    /// A zone to answer for, with everything below it; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_ZONE",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "global",
        help_heading = "Zones"
    )]
    zone: Vec<String>,
    /// Answer PTR of the addresses of hosts in this network, in reverse zones that cover exactly it; repeatable. The range
    /// that VIPs are taken from, and nothing that pods or services have: 240.240.0.0/16, 2001:2::/48
    #[arg(
        long,
        env = "GLOBALDNS_REVERSE",
        value_name = "CIDR",
        value_delimiter = ',',
        help_heading = "Zones"
    )]
    reverse: Vec<String>,
    /// The cluster's own domain: never a zone, and never captured by a wildcard
    #[arg(
        long,
        env = "GLOBALDNS_CLUSTER_DOMAIN",
        value_name = "NAME",
        default_value = "cluster.local",
        help_heading = "Zones"
    )]
    cluster_domain: String,

    /// Read ServiceEntries from a file or directory (*.yaml, *.yml, *.json), or - for standard input;
    /// repeatable. Without --kubernetes, --kubeconfig or --context no cluster is contacted then
    #[arg(
        long,
        env = "GLOBALDNS_FILE",
        value_name = "PATH",
        value_delimiter = ',',
        help_heading = "Sources"
    )]
    file: Vec<PathBuf>,
    /// Read the cluster as well when --file is given
    #[arg(long, env = "GLOBALDNS_KUBERNETES", value_parser = switch, help_heading = "Sources")]
    kubernetes: bool,
    /// Read this namespace of the cluster instead of all; repeatable
    #[arg(
        long,
        short,
        env = "GLOBALDNS_NAMESPACE",
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "Sources"
    )]
    namespace: Vec<String>,
    /// The kubeconfig file, instead of in-cluster credentials or $KUBECONFIG
    #[arg(long, env = "GLOBALDNS_KUBECONFIG", value_name = "PATH", help_heading = "Sources")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig context, instead of the current one
    #[arg(long, env = "GLOBALDNS_CONTEXT", value_name = "NAME", help_heading = "Sources")]
    context: Option<String>,

    /// The address of hosts whose entries give none (except with resolution NONE); at most one IPv4 and
    /// one IPv6 address
    #[arg(
        long,
        env = "GLOBALDNS_DEFAULT_ADDRESS",
        value_name = "IP",
        value_delimiter = ',',
        value_parser = address,
        help_heading = "Addresses"
    )]
    default_address: Vec<IpAddr>,
    /// Skip entries with resolution NONE, as istiocoredns did
    #[arg(
        long, env = "GLOBALDNS_SKIP_RESOLUTION_NONE", value_parser = switch,
        help_heading = "Addresses"
    )]
    skip_resolution_none: bool,

    /// Serve wildcards directly under a zone (*.global)
    #[arg(
        long, env = "GLOBALDNS_APEX_WILDCARDS", value_parser = switch, help_heading = "Hosts"
    )]
    apex_wildcards: bool,

    /// A namespace whose entries own a host before all others, most preferred first; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_PREFER_NAMESPACE",
        value_name = "NAME",
        value_delimiter = ',',
        help_heading = "Owners"
    )]
    prefer_namespace: Vec<String>,
    /// Serve only entries exported to every namespace
    #[arg(
        long, env = "GLOBALDNS_PUBLIC_ONLY", value_parser = switch, help_heading = "Owners"
    )]
    public_only: bool,
    /// The namespaces whose entries alone may give hosts at or below this name, which is in one of the zones; repeatable.
    /// payments.global=payments,shared
    #[arg(
        long,
        env = "GLOBALDNS_ZONE_OWNER",
        value_name = "ZONE=NAMESPACE[,NAMESPACE…]",
        help_heading = "Owners"
    )]
    zone_owner: Vec<String>,

    /// TTL of answers in seconds; an entry's annotation globaldns.io/ttl overrides it
    #[arg(
        long, env = "GLOBALDNS_TTL", value_name = "SECONDS", default_value_t = 30,
        value_parser = number::<u32>(TTL_RANGE), help_heading = "Answers"
    )]
    ttl: u32,
    /// TTL of negative answers in seconds
    #[arg(
        long, env = "GLOBALDNS_NEGATIVE_TTL", value_name = "SECONDS", default_value_t = 5,
        value_parser = number::<u32>(0..=300), help_heading = "Answers"
    )]
    negative_ttl: u32,
    /// Answer SRV from the named ports of entries: _http._tcp.HOST
    #[arg(long, env = "GLOBALDNS_SRV", value_parser = switch, help_heading = "Answers")]
    srv: bool,
    /// Answer TXT of every host with the entries that its answer comes from; whoever can ask sees their namespaces
    #[arg(long, env = "GLOBALDNS_TXT", value_parser = switch, help_heading = "Answers")]
    txt: bool,
    /// The address of the zones' name server; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_ADVERTISE_ADDRESS",
        value_name = "IP",
        value_delimiter = ',',
        value_parser = address,
        help_heading = "Answers"
    )]
    advertise_address: Vec<IpAddr>,
    /// Take the name server's addresses from this Service's ClusterIPs
    #[arg(
        long,
        env = "GLOBALDNS_ADVERTISE_SERVICE",
        value_name = "NAMESPACE/NAME",
        help_heading = "Answers"
    )]
    advertise_service: Option<ServiceName>,

    /// How files and the cluster are named on this command line, for messages.
    #[arg(skip = ("--file", "--kubernetes"))]
    words: (&'static str, &'static str),
    /// The table is read once, and not served.
    #[arg(skip)]
    once: bool,
}

/// How values of some flags were given.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    /// A zone by flag or variable.
    zone: bool,
    /// A file by flag.
    file: bool,
    /// A namespace by flag.
    namespace: bool,
    /// A Service by flag.
    advertise_service: bool,
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Given, clap::Error> {
        let is_typed = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        Ok(Given {
            zone: matches.value_source("zone") != Some(ValueSource::DefaultValue),
            file: is_typed("file"),
            namespace: is_typed("namespace"),
            advertise_service: is_typed("advertise_service"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Given::from_arg_matches(matches)?;
        Ok(())
    }
}

/// It has no flags of its own.
impl Args for Given {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command
    }
}

/// What kubectl's users type.
#[derive(Args, Debug)]
pub(super) struct AllNamespaces {
    /// Read all namespaces of the cluster, whatever --namespace or its variable says. That is the default
    #[arg(long, short = 'A', help_heading = "Sources")]
    all_namespaces: bool,
}

impl TableArgs {
    /// Whether a source is asked for, rather than the cluster taken for want of one.
    pub(super) fn names_a_source(&self) -> bool {
        self.is_given_a_source() || !self.namespace.is_empty()
    }

    /// The same, where the variable of `--namespace` is that of a server beside this command.
    pub(super) fn is_given_a_source(&self) -> bool {
        !self.file.is_empty()
            || self.kubernetes
            || self.kubeconfig.is_some()
            || self.context.is_some()
            || self.given.namespace
    }

    /// The table is read once, with `-A` from all namespaces. `paths`: files that are named in another way.
    pub(super) fn read_once(&mut self, all: &AllNamespaces, paths: &[PathBuf]) {
        self.once = true;
        if all.all_namespaces {
            self.namespace.clear();
            // It chooses no source beside files (S4).
            self.kubernetes |= self.file.is_empty() && paths.is_empty();
        }
    }

    /// A running server is asked, which has files of its own. A variable may mean another server's.
    pub(super) fn leave_out_files(&mut self) -> Result<(), ConfigError> {
        if self.given.file {
            return Err(ConfigError(
                "--file does not go with --server, which has its own; leave one out".to_owned(),
            ));
        }
        self.file.clear();
        Ok(())
    }

    /// Whether somebody has chosen the zones.
    pub(super) fn names_zones(&self) -> bool {
        self.given.zone
    }

    /// Sources that are named in another way than by their flags.
    pub(super) fn add_sources(&mut self, files: Vec<PathBuf>, cluster: bool) {
        self.file.extend(files);
        self.kubernetes |= cluster;
        self.words = ("PATH", "--cluster");
    }

    pub(super) fn config(mut self) -> Result<TableConfig, ConfigError> {
        let zones = self.zone.iter().map(|text| name("--zone", text)).collect::<Result<_, _>>()?;
        let reverse = reverse_zones(&self.reverse)?;
        let cluster_domain = name("--cluster-domain", &self.cluster_domain)?;
        let zone_owners =
            self.zone_owner.iter().map(|text| ownerships(text)).collect::<Result<Vec<_>, _>>()?;
        let from_cluster =
            self.file.is_empty() || self.kubernetes || self.kubeconfig.is_some() || self.context.is_some();
        if !from_cluster {
            // Beside a server that watches a cluster, its variables mean that cluster.
            if self.once && !self.given.namespace {
                self.namespace.clear();
            }
            if self.once && !self.given.advertise_service {
                self.advertise_service = None;
            }
            let unused = if !self.namespace.is_empty() {
                Some("--namespace")
            } else if self.advertise_service.is_some() {
                Some("--advertise-service")
            } else {
                None
            };
            if let Some(flag) = unused {
                let (file, cluster) = self.words;
                return Err(ConfigError(format!(
                    "{flag} needs a cluster, and with {file} alone none is contacted; add {cluster}, or leave {flag} out"
                )));
            }
        }
        let mut namespaces: Vec<String> = Vec::new();
        for namespace in self.namespace {
            if !is_namespace(&namespace) {
                return Err(not_a_namespace("--namespace", &namespace));
            }
            if !namespaces.contains(&namespace) {
                namespaces.push(namespace);
            }
        }
        if let Some(namespace) = self.prefer_namespace.iter().find(|namespace| !is_namespace(namespace)) {
            return Err(not_a_namespace("--prefer-namespace", namespace));
        }
        for family in [Family::V4, Family::V6] {
            let of_family: Vec<_> =
                self.default_address.iter().filter(|a| Family::of(**a) == family).collect();
            if let [_, second, ..] = of_family[..] {
                return Err(ConfigError(format!(
                    "--default-address {second}: there is already one of this family; give at most one IPv4 and one IPv6 address"
                )));
            }
        }
        for (flag, addresses) in
            [("--default-address", &self.default_address), ("--advertise-address", &self.advertise_address)]
        {
            if let Some(address) = addresses.iter().find(|a| a.is_unspecified()) {
                return Err(ConfigError(format!(
                    "{flag} {address}: the unspecified address reaches nothing; give the address clients shall use"
                )));
            }
        }
        Ok(TableConfig {
            zones,
            reverse,
            diagnoses: self.txt,
            cluster_domain,
            zone_owners: zone_owners.concat(),
            sources: Sources {
                files: self.file,
                cluster: from_cluster.then_some(ClusterSource {
                    kubeconfig: self.kubeconfig,
                    context: self.context,
                    namespaces,
                }),
            },
            rules: Rules {
                apex_wildcards: self.apex_wildcards,
                skip_resolution_none: self.skip_resolution_none,
                public_only: self.public_only,
                services: self.srv,
            },
            policy: Policy {
                prefer_namespaces: self.prefer_namespace,
                default_addresses: self.default_address,
                ttl: self.ttl,
            },
            negative_ttl: self.negative_ttl,
            advertise_addresses: self.advertise_address,
            advertise_service: self.advertise_service,
        })
    }
}

/// `ZONE=NAMESPACE,NAMESPACE`, and any number of them behind each other: no namespace has a `=`, so an item with one
/// begins the next. That is how the variable holds what the flag says several times (X0).
fn ownerships(text: &str) -> Result<Vec<Ownership>, ConfigError> {
    const FLAG: &str = "--zone-owner";
    let mut found: Vec<Ownership> = Vec::new();
    for item in text.split(',').map(str::trim) {
        let namespace = match item.split_once('=') {
            Some((suffix, namespace)) => {
                found.push(Ownership { suffix: name(FLAG, suffix.trim())?, namespaces: BTreeSet::new() });
                namespace.trim()
            }
            None => item,
        };
        let Some(Ownership { namespaces, .. }) = found.last_mut() else {
            return Err(ConfigError(format!(
                "{FLAG} {text:?} names no zone; write ZONE=NAMESPACE, for example payments.global=payments,shared"
            )));
        };
        if !is_namespace(namespace) {
            return Err(ConfigError(format!(
                "{FLAG} {text:?}: {namespace:?} is not a namespace; {WRITE_A_NAMESPACE}"
            )));
        }
        namespaces.insert(namespace.to_owned());
    }
    Ok(found)
}

/// The remedy for what is no namespace.
pub(super) const WRITE_A_NAMESPACE: &str =
    "write a label of lower-case letters, digits and '-', at most 63 octets";

fn not_a_namespace(flag: &str, text: &str) -> ConfigError {
    ConfigError(format!("{flag} {text:?} is not a namespace; {WRITE_A_NAMESPACE}"))
}

/// D22: the zones of `--reverse`.
pub(super) fn reverse_zones(networks: &[String]) -> Result<Vec<Name>, ConfigError> {
    let network = |text: &String| {
        text.parse::<IpNet>().map_err(|_| {
            ConfigError(format!(
                "--reverse {text:?} is not a network; write a CIDR such as 240.240.0.0/16 or 2001:2::/48"
            ))
        })
    };
    let networks = networks.iter().map(network).collect::<Result<Vec<_>, _>>()?;
    reverse::zones(&networks).map_err(|error| ConfigError(format!("--reverse: {error}")))
}

pub(super) fn name(flag: &str, text: &str) -> Result<Name, ConfigError> {
    let error = match Name::parse(text) {
        Ok(name) => return Ok(name),
        Err(_) if text == "." => "the root cannot be a zone of ours: every name would end here".to_owned(),
        Err(error) => error.to_string(),
    };
    let example = if flag == "--cluster-domain" { "cluster.local" } else { "global or cluster2" };
    Err(ConfigError(format!(
        "{flag} {text:?} is not a usable name: {error}; write a DNS name such as {example}"
    )))
}
