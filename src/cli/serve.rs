//! `globaldns serve`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::clients::{ClientArgs, Switch};
use super::insight::InsightArgs;
use super::plugin;
use super::table::TableArgs;
use super::value::{number, switch};
use super::{OR_FILES, without_cluster};
use crate::admin::host::HostNames;
use crate::admin::peers::PeerName;
use crate::app;
use crate::config::{
    Config, ConfigError, Encrypted, Listen, MetricsCompat, Pages, State, StubDomains, host_name,
};
use crate::serve::responder::Settings;
use crate::serve::{grpc, https, tls};
use crate::source::advertise::ServiceName;
use crate::stub::controller::Mode;
use crate::telemetry::{self, LogFormat};
use crate::wire::name::Name;
use crate::wire::reply::MAX_NSID;

/// Where admin listeners listen by default; CoreDNS's metrics are there, too.
const ADMIN_PORT: u16 = 9153;

#[derive(Args, Debug)]
pub(super) struct Serve {
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    clients: ClientArgs,
    #[command(flatten)]
    insight: InsightArgs,

    /// Always give addresses in listed order instead of taking turns
    #[arg(long, env = "GLOBALDNS_NO_ROTATE", value_parser = switch, help_heading = "Answers")]
    no_rotate: bool,
    /// The name server identifier (RFC 5001) for clients that ask; empty for none [default: the host name]
    #[arg(long, env = "GLOBALDNS_NSID", value_name = "TEXT", help_heading = "Answers")]
    nsid: Option<String>,

    /// Answer DNS over UDP and TCP here: ADDRESS:PORT, ADDRESS, :PORT, or off; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = ":53",
        help_heading = "Life"
    )]
    listen: Vec<String>,
    /// Answer DNS over gRPC here, for the plugin grpc of CoreDNS: ADDRESS:PORT, ADDRESS, :PORT, or off; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_GRPC_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "off",
        help_heading = "Life"
    )]
    grpc_listen: Vec<String>,
    /// Answer DNS over TLS (RFC 7858) here, with --tls-cert: ADDRESS:PORT, ADDRESS, :PORT, or off; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_TLS_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "off",
        help_heading = "Encryption"
    )]
    tls_listen: Vec<String>,
    /// Answer DNS over HTTPS (RFC 8484) here, with --tls-cert: ADDRESS:PORT, ADDRESS, :PORT, or off; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_HTTPS_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "off",
        help_heading = "Encryption"
    )]
    https_listen: Vec<String>,
    /// The path of DNS over HTTPS
    #[arg(
        long, env = "GLOBALDNS_HTTPS_PATH", value_name = "PATH", default_value = https::PATH,
        value_parser = https_path, help_heading = "Encryption"
    )]
    https_path: String,
    /// Answer DNS over QUIC (RFC 9250) here, with --tls-cert: ADDRESS:PORT, ADDRESS, :PORT, or off; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_QUIC_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "off",
        help_heading = "Encryption"
    )]
    quic_listen: Vec<String>,
    /// The certificate for DNS over TLS, HTTPS and QUIC, in PEM, those that lead to its authority behind it; read again
    /// when it changes
    #[arg(long, env = "GLOBALDNS_TLS_CERT", value_name = "PATH", help_heading = "Encryption")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, env = "GLOBALDNS_TLS_KEY", value_name = "PATH", help_heading = "Encryption")]
    tls_key: Option<PathBuf>,
    /// Threads that answer UDP on each address [default: the processors this program may use]
    #[arg(
        long, env = "GLOBALDNS_WORKERS", value_name = "NUMBER",
        value_parser = number::<u32>(1..=1024), help_heading = "Life"
    )]
    workers: Option<u32>,
    /// The most connections at a time, over TCP, gRPC, TLS, HTTPS and QUIC together
    #[arg(
        long, env = "GLOBALDNS_TCP_CONNECTIONS", value_name = "NUMBER", default_value_t = 1024,
        value_parser = number::<u32>(1..=1_000_000), help_heading = "Life"
    )]
    tcp_connections: u32,
    /// Serve /metrics, /health, /ready, the status page and the JSON API here: ADDRESS:PORT, ADDRESS, :PORT, or off
    #[arg(
        long,
        env = "GLOBALDNS_ADMIN_LISTEN",
        value_name = "ADDRESS",
        default_value = ":9153",
        help_heading = "Life"
    )]
    admin_listen: String,
    /// Whether the status page (/) and the JSON API (/api/v1/) are there: on, off
    #[arg(
        long,
        env = "GLOBALDNS_ADMIN_PAGES",
        value_name = "SWITCH",
        value_enum,
        default_value = "on",
        help_heading = "Life"
    )]
    admin_pages: Switch,
    /// Another host name that page and API may be asked for under, as behind the API server's proxy; * for any. Addresses,
    /// localhost, names without a dot and Services' names need no mention; repeatable
    #[arg(
        long, env = "GLOBALDNS_ADMIN_HOST", value_name = "NAME", value_delimiter = ',', value_parser = admin_host,
        help_heading = "Life"
    )]
    admin_host: Vec<String>,
    /// Ask the replicas that this name resolves to, every 10 s, whether their answers are the same, and show it on the
    /// status page: NAME or NAME:PORT of their admin listeners (9153); repeatable
    #[arg(
        long, env = "GLOBALDNS_PEERS", value_name = "NAME", value_delimiter = ',', value_parser = peer,
        help_heading = "Life"
    )]
    peers: Vec<PeerName>,
    /// Offer the metrics also under the names that dashboards read from another server: off, coredns
    #[arg(
        long,
        env = "GLOBALDNS_METRICS_COMPAT",
        value_name = "NAMES",
        value_enum,
        default_value = "off",
        help_heading = "Life"
    )]
    metrics_compat: MetricsCompatNames,
    /// How long to go on answering after SIGTERM, while clients notice that we are not ready (5s, 500ms)
    #[arg(
        long, env = "GLOBALDNS_LAMEDUCK", value_name = "DURATION", default_value = "5s",
        value_parser = duration, help_heading = "Life"
    )]
    lameduck: Duration,
    /// Save the entries of every source in this directory, and answer from there after a restart if a source cannot be
    /// heard
    #[arg(long, env = "GLOBALDNS_STATE_DIR", value_name = "DIRECTORY", help_heading = "Life")]
    state_dir: Option<PathBuf>,
    /// Saved state is not used when the source was last heard longer ago than this (7d, 12h)
    #[arg(
        long, env = "GLOBALDNS_STATE_MAX_AGE", value_name = "DURATION", default_value = "7d",
        value_parser = duration, help_heading = "Life"
    )]
    state_max_age: Duration,
    /// Look after the stub domains of cluster DNS, which make it forward our zones to us: off, plan (say what would be
    /// written), manage (write it, prove it, repair it)
    #[arg(
        long,
        env = "GLOBALDNS_STUB_DOMAINS",
        value_name = "MODE",
        value_enum,
        default_value = "off",
        help_heading = "Stub domains"
    )]
    stub_domains: StubDomainsMode,
    /// Write also where Helm, kops, Argo CD, an addon manager and the like are known to write
    #[arg(
        long, env = "GLOBALDNS_STUB_DOMAINS_EDIT_MANAGED", value_parser = switch,
        help_heading = "Stub domains"
    )]
    stub_domains_edit_managed: bool,
    /// How long cluster DNS may take to answer through a new edit before it is rolled back
    #[arg(
        long, env = "GLOBALDNS_STUB_DOMAINS_TIMEOUT", value_name = "DURATION", default_value = "3m",
        value_parser = duration, help_heading = "Stub domains"
    )]
    stub_domains_timeout: Duration,
    /// Write a Kubernetes Event about each entry of the cluster that has a finding of severity error or warning, so that
    /// `kubectl describe` shows it
    #[arg(
        long, env = "GLOBALDNS_EVENTS", value_parser = switch, help_heading = "Findings"
    )]
    events: bool,

    /// error, warn, info, debug, trace, or a filter such as globaldns=debug,kube_client=warn
    #[arg(
        long,
        env = "GLOBALDNS_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Life"
    )]
    log_level: String,
    /// How log lines look
    #[arg(
        long,
        env = "GLOBALDNS_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value = "auto",
        help_heading = "Life"
    )]
    log_format: LogFormat,

    /// Flags that were left out because we were called by the old plugin's name; `None` if we were not.
    #[arg(skip)]
    pub(super) left_out: Option<Vec<String>>,
}

/// `--metrics-compat`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MetricsCompatNames {
    /// None.
    Off,
    /// Of CoreDNS's plugin prometheus.
    Coredns,
}

/// `--stub-domains`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StubDomainsMode {
    /// Do not touch or look at them.
    Off,
    /// Say what would be written.
    Plan,
    /// Write it, prove it, repair it.
    Manage,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        telemetry::start(&self.log_level, self.log_format).map_err(|error| ConfigError(error.to_string()))?;
        if let Some(left_out) = &self.left_out {
            plugin::announce(left_out);
        }
        app::run(self.config()?).map_err(without_cluster(OR_FILES))
    }

    fn config(self) -> Result<Config, ConfigError> {
        let encrypted = self.encrypted()?;
        let mut table = self.table.config()?;
        let stub_domains = match self.stub_domains {
            StubDomainsMode::Off => None,
            StubDomainsMode::Plan => Some(Mode::Plan),
            StubDomainsMode::Manage => Some(Mode::Manage),
        };
        if self.stub_domains_timeout < Duration::from_secs(1) {
            return Err(ConfigError(
                "--stub-domains-timeout must be at least 1s; cluster DNS takes up to two minutes to read an edit"
                    .to_owned(),
            ));
        }
        if self.stub_domains_edit_managed && stub_domains.is_none() {
            return Err(ConfigError(
                "--stub-domains-edit-managed is of no use while --stub-domains is off; add --stub-domains plan or manage, or \
                 leave it out"
                    .to_owned(),
            ));
        }
        if stub_domains.is_some() {
            if table.sources.cluster.is_none() {
                return Err(ConfigError(
                    "--stub-domains needs a cluster, and with --file alone none is contacted; add --kubernetes"
                        .to_owned(),
                ));
            }
            table.advertise_service.get_or_insert_with(ServiceName::usual);
        }
        if self.events && table.sources.cluster.is_none() {
            return Err(ConfigError(
                "--events needs a cluster, and with --file alone none is contacted; add --kubernetes"
                    .to_owned(),
            ));
        }
        let nsid = self.nsid.map_or_else(|| host_name(MAX_NSID), String::into_bytes);
        if nsid.len() > MAX_NSID {
            return Err(ConfigError(format!(
                "--nsid is {} octets long; at most {MAX_NSID} fit beside an answer, so shorten it",
                nsid.len()
            )));
        }
        let listen = parse_listens("--listen", &self.listen, 53)?;
        let grpc_listen = parse_listens("--grpc-listen", &self.grpc_listen, grpc::PORT)?;
        let admin_listen = parse_listen("--admin-listen", &self.admin_listen, ADMIN_PORT)?;
        if listen.is_empty() && grpc_listen.is_empty() && encrypted.is_none() && admin_listen.is_none() {
            return Err(ConfigError(
                "--listen, --grpc-listen and --admin-listen are all off, and nothing would be served; give one of them \
                 an address, such as --listen :53"
                    .to_owned(),
            ));
        }
        let metrics_compat = match self.metrics_compat {
            MetricsCompatNames::Off => MetricsCompat::Off,
            MetricsCompatNames::Coredns => MetricsCompat::Coredns,
        };
        if metrics_compat != MetricsCompat::Off && admin_listen.is_none() {
            return Err(ConfigError(
                "--metrics-compat needs the listener that serves /metrics, and --admin-listen is off; give it an \
                 address, such as --admin-listen :9154, or leave --metrics-compat out"
                    .to_owned(),
            ));
        }
        let pages = match self.admin_pages {
            Switch::On if admin_listen.is_some() => {
                let hosts = HostNames::new(&table.cluster_domain, &self.admin_host);
                Some(Pages { hosts, peers: self.peers })
            }
            _ if !self.peers.is_empty() => {
                return Err(ConfigError(
                    "--peers needs the page and the API that show what it finds; leave it out, or leave --admin-pages on \
                     and give --admin-listen an address"
                        .to_owned(),
                ));
            }
            _ => None,
        };
        let clients = self.clients.config()?;
        let answers = Settings {
            ttl: table.policy.ttl,
            negative_ttl: table.negative_ttl,
            rotate: !self.no_rotate,
            nsid,
        };
        Ok(Config {
            table,
            answers,
            listen,
            grpc_listen,
            encrypted,
            admin_listen,
            pages,
            workers: self.workers.map_or_else(processors, |workers| workers as usize),
            tcp_connections: self.tcp_connections as usize,
            lameduck: self.lameduck,
            metrics_compat,
            stub_domains: stub_domains.map(|mode| StubDomains {
                mode,
                edit_managed: self.stub_domains_edit_managed,
                timeout: self.stub_domains_timeout,
            }),
            events: self.events,
            state: self.state_dir.map(|directory| State { directory, max_age: self.state_max_age }),
            cookies: clients.cookies,
            rate_limit: clients.rate_limit,
            access: clients.access,
            insight: self.insight.config()?,
        })
    }

    /// Chapter E: certificate and listeners go together.
    fn encrypted(&self) -> Result<Option<Encrypted>, ConfigError> {
        let tls = parse_listens("--tls-listen", &self.tls_listen, 853)?;
        let https = parse_listens("--https-listen", &self.https_listen, 443)?;
        let quic = parse_listens("--quic-listen", &self.quic_listen, 853)?;
        let listening = [("--tls-listen", &tls), ("--https-listen", &https), ("--quic-listen", &quic)];
        let flag = listening.iter().find(|(_, listens)| !listens.is_empty()).map(|(flag, _)| *flag);
        match (flag, &self.tls_cert, &self.tls_key) {
            (None, None, None) => Ok(None),
            (None, ..) => Err(ConfigError(
                "--tls-cert and --tls-key are given, and nothing is served with them; add --tls-listen, --https-listen \
                 or --quic-listen, or leave them out"
                    .to_owned(),
            )),
            (Some(_), Some(cert), Some(key)) => {
                let certificate = tls::Paths { cert: cert.clone(), key: key.clone() };
                Ok(Some(Encrypted { certificate, tls, https, path: self.https_path.clone(), quic }))
            }
            (Some(flag), cert, _) => Err(ConfigError(format!(
                "{flag} needs a certificate and its private key, and there is no {}; give both, in PEM",
                if cert.is_none() { "--tls-cert" } else { "--tls-key" }
            ))),
        }
    }
}

/// A path and nothing that ends one, RFC 3986 section 3.3.
fn https_path(text: &str) -> Result<String, String> {
    let fits = |octet: u8| octet.is_ascii_graphic() && !b"?#".contains(&octet);
    if text.starts_with('/') && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err("write a path that begins with /, without ?, # and spaces, such as /dns-query".to_owned())
}

fn parse_listens(flag: &str, texts: &[String], port: u16) -> Result<Vec<Listen>, ConfigError> {
    let listens: Vec<_> =
        texts.iter().map(|text| parse_listen(flag, text, port)).collect::<Result<_, _>>()?;
    if listens.contains(&None) && listens.iter().any(Option::is_some) {
        return Err(ConfigError(format!(
            "{flag} off cannot stand beside another address; name one or the other"
        )));
    }
    Ok(listens.into_iter().flatten().collect())
}

fn parse_listen(flag: &str, text: &str, port: u16) -> Result<Option<Listen>, ConfigError> {
    Listen::parse(text, port)
        .map_err(|error| ConfigError(format!("{flag} {text:?} is not an address to listen on; {error}")))
}

/// Where replicas are.
fn peer(text: &str) -> Result<PeerName, String> {
    PeerName::parse(text, ADMIN_PORT)
}

/// A name as a `Host` has it, without a port.
fn admin_host(text: &str) -> Result<String, String> {
    match text == "*" || Name::parse(text.strip_suffix('.').unwrap_or(text)).is_ok() {
        true => Ok(text.to_owned()),
        false => {
            Err("write a host name without scheme, port and path, such as api.example.com, or *".to_owned())
        }
    }
}

/// Those our affinity mask and our cgroup's quota leave us.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A number with a unit, or seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|error| format!("{error}; write 5s, 500ms or 1m")),
    }
}
