//! `globaldns stub-domains`.

mod cluster;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::export::print;
use super::output::Output;
use super::table::{WRITE_A_NAMESPACE, name, reverse_zones};
use super::{called, without_cluster};
use crate::client;
use crate::config::ConfigError;
use crate::entry::is_namespace;
use crate::limits::{self, MOST_LIVE};
use crate::source::advertise::{self, ServiceName};
use crate::source::cluster::Access;
use crate::stub::emit::{Flavour, emit};
use crate::stub::{DNS_PORT, RefusalKind, Stub, StubError};
use crate::telemetry::{self, LogFormat};
use crate::wire::name::Name;
use crate::zone::Zones;

#[derive(Args, Debug)]
pub(super) struct StubDomains {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the text that makes a cluster's DNS, or another resolver, send the zones here
    Emit(Emit),
    /// Print what would be written in this cluster, where, and why there; change nothing
    Plan(cluster::Plan),
    /// Write the stub domains of this cluster once, and prove that they work
    Apply(cluster::Apply),
    /// Take our stub domains out of this cluster, and keep them out
    Remove(cluster::Remove),
    /// Print what is in place and what is answered through every address of cluster DNS
    Status(cluster::Status),
}

impl StubDomains {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        telemetry::start("warn", LogFormat::Text)?;
        match self.command {
            Command::Emit(command) => command.run(),
            Command::Plan(command) => command.run(),
            Command::Apply(command) => command.run(),
            Command::Remove(command) => command.run(),
            Command::Status(command) => command.run(),
        }
    }
}

#[derive(Args, Debug)]
// Elsewhere the Service says whose record it is, too.
#[command(mut_arg("service", |arg| arg.conflicts_with("dns_ip")))]
#[command(mut_arg("namespace", |arg| arg.conflicts_with("dns_ip")))]
struct Emit {
    /// What the text is for; --list says what there is
    #[arg(
        long = "for",
        value_name = "FLAVOUR",
        value_enum,
        hide_possible_values = true,
        ignore_case = true,
        required_unless_present = "list"
    )]
    flavour: Option<Flavour>,
    /// List the flavours and end
    #[arg(long)]
    list: bool,
    /// The live text to extend: the Corefile, the value of stubDomains or the object, as --for needs; - for standard
    /// input
    #[arg(long, value_name = "PATH", visible_alias = "corefile")]
    live: Option<PathBuf>,
    /// How to print it; in json and yaml the text is one field. wide is for --list
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
    #[command(flatten)]
    stub: StubArgs,
}

impl Emit {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Some(flavour) = self.flavour.filter(|_| !self.list) else {
            print(&list(self.output)?)?;
            return Ok(ExitCode::SUCCESS);
        };
        let live = self.live.as_deref().map(read).transpose()?;
        let stub = self.stub.stub().map_err(without_cluster(", or the address with --dns-ip"))?;
        let own = stub.servers().iter().find(|server| server.ip().is_loopback() && server.port() == DNS_PORT);
        if let Some(own) = own.filter(|_| runs_in_pods(flavour)) {
            return Err(ConfigError(format!(
                "--for {}: {} is cluster DNS itself, where that runs, and would ask itself without end; give the ClusterIP of \
                 the Service in front of globaldns",
                flavour.name(),
                own.ip()
            ))
            .into());
        }
        let emitted = match emit(flavour, &stub, live.as_deref()) {
            Ok(emitted) => emitted,
            Err(refusal) if refusal.kind == RefusalKind::Invalid => {
                return Err(ConfigError(format!("--for {}: {refusal}", flavour.name())).into());
            }
            Err(refusal) => anyhow::bail!("--for {}: {refusal}", flavour.name()),
        };
        if let Some(text) = self.output.for_programs(&emitted)? {
            print(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
        let (text, beside) = emitted.file();
        beside.iter().for_each(|line| called::tell(&format!("{line}\n")));
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether it is DNS of a cluster, which has a loopback address to itself; a resolver of a machine may have globaldns
/// beside it.
fn runs_in_pods(flavour: Flavour) -> bool {
    use Flavour::{
        Bind, BindStaticStub, Dnsmasq, Macos, SystemdResolved, SystemdResolvedLink, Unbound, Windows,
    };
    !matches!(
        flavour,
        Dnsmasq | SystemdResolved | SystemdResolvedLink | Bind | BindStaticStub | Unbound | Windows | Macos
    )
}

fn list(output: Output) -> anyhow::Result<String> {
    let flavour = |f: &Flavour| serde_json::json!({"name": f.name(), "about": f.about(), "live": f.live()});
    let flavours: Vec<_> = Flavour::all().iter().map(flavour).collect();
    if let Some(text) = output.for_programs(&flavours)? {
        return Ok(text);
    }
    let width = Flavour::all().iter().map(|f| f.name().len()).max().unwrap_or_default();
    let live = |f: &Flavour| match f.live() {
        Some(live) if output == Output::Wide => format!(" [--live: {live}]"),
        _ => String::new(),
    };
    let line = |f: &Flavour| format!("{:width$}  {}{}\n", f.name(), f.about(), live(f));
    Ok(Flavour::all().iter().map(line).collect())
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let text = if path == Path::new("-") {
        limits::read_to_string(std::io::stdin(), MOST_LIVE)
    } else {
        limits::read_file(path, MOST_LIVE)
    };
    text.map_err(|error| {
        let path = path.display();
        ConfigError(format!("--live {path} cannot be read: {error}; give a file with the live text"))
    })
}

/// The zones and the servers that are to be asked for them.
#[derive(Args, Debug)]
pub(super) struct StubArgs {
    /// A zone that is sent here; repeatable
    #[arg(
        long,
        env = "GLOBALDNS_ZONE",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "global"
    )]
    zone: Vec<String>,
    /// A network whose reverse zones are sent here, too; repeatable. Nothing in it may belong to pods or services
    #[arg(long, env = "GLOBALDNS_REVERSE", value_name = "CIDR", value_delimiter = ',')]
    reverse: Vec<String>,
    /// The cluster's own domain, which is never a zone
    #[arg(long, env = "GLOBALDNS_CLUSTER_DOMAIN", value_name = "NAME", default_value = "cluster.local")]
    cluster_domain: String,
    /// An address at which globaldns is asked; repeatable. Without it: the ClusterIPs of --service
    #[arg(long, value_name = "IP[:PORT]", value_delimiter = ',')]
    dns_ip: Vec<String>,
    /// The Service in front of globaldns
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "istio-system/globaldns")]
    service: ServiceName,
    /// The namespace of that Service, in the place of the one in --service
    #[arg(long, short, value_name = "NAME", value_parser = namespace)]
    namespace: Option<String>,
    /// The kubeconfig file, instead of in-cluster credentials or $KUBECONFIG
    #[arg(long, env = "GLOBALDNS_KUBECONFIG", value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig context, instead of the current one
    #[arg(long, env = "GLOBALDNS_CONTEXT", value_name = "NAME")]
    context: Option<String>,
}

/// What is wanted of a cluster, and the way to it.
pub(super) struct Target {
    stub: Stub,
    access: Access,
}

fn namespace(text: &str) -> Result<String, String> {
    if is_namespace(text) {
        return Ok(text.to_owned());
    }
    Err(WRITE_A_NAMESPACE.to_owned())
}

impl StubArgs {
    /// `--service`, in `--namespace`.
    fn service(&self) -> ServiceName {
        let mut service = self.service.clone();
        service.namespace = self.namespace.clone().unwrap_or(service.namespace);
        service
    }

    /// Asks the cluster only where no address is given.
    fn stub(self) -> anyhow::Result<Stub> {
        let zones = self.zones()?;
        if let Some(given) = self.given(&zones)? {
            return Ok(given);
        }
        block_on(async { Ok(self.target().await?.stub) })
    }

    /// What is wanted of a cluster that is contacted in any case.
    async fn target(&self) -> anyhow::Result<Target> {
        let zones = self.zones()?;
        let access = self.access().await?;
        if let Some(stub) = self.given(&zones)? {
            return Ok(Target { stub, access });
        }
        let service = &self.service();
        let live = advertise::cluster_ips_once(&access, service).await.with_context(|| {
            format!("reading the Service {service}; --service names another, --dns-ip does without")
        })?;
        let servers = live.into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT));
        let stub = Stub::new(zones, servers).map_err(|error| match error {
            StubError::NoServer => anyhow::anyhow!(
                "the Service {service} has no ClusterIP; give the Service one (clusterIP: None is a headless \
                 Service), or give --dns-ip"
            ),
            error => anyhow::anyhow!("the Service {service}: {error}"),
        })?;
        Ok(Target { stub, access })
    }

    async fn access(&self) -> anyhow::Result<Access> {
        Ok(Access::find(self.kubeconfig.clone(), self.context.clone()).await?)
    }

    fn zones(&self) -> Result<Vec<Name>, ConfigError> {
        let zones: Vec<Name> = self.zone.iter().map(|text| name("--zone", text)).collect::<Result<_, _>>()?;
        let reverse = reverse_zones(&self.reverse)?;
        let cluster_domain = name("--cluster-domain", &self.cluster_domain)?;
        Zones::new(zones.clone(), cluster_domain, 0)
            .map_err(|error| ConfigError(format!("--zone: {error}")))?
            .with_reverse(reverse.clone(), 0)
            .map_err(|error| ConfigError(format!("--reverse: {error}")))?;
        Ok([zones, reverse].concat())
    }

    /// The stub of `--dns-ip`, if there is one.
    fn given(&self, zones: &[Name]) -> Result<Option<Stub>, ConfigError> {
        if self.dns_ip.is_empty() {
            return Ok(None);
        }
        let given = self.dns_ip.iter().map(|text| server(text)).collect::<Result<Vec<_>, _>>()?;
        let stub = Stub::new(zones.to_vec(), given);
        Ok(Some(stub.map_err(|error| ConfigError(format!("--dns-ip: {error}")))?))
    }
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// `IP`, `IP:port` or `[IPv6]:port`.
fn server(text: &str) -> Result<SocketAddr, ConfigError> {
    if let Some(server) = client::parse_server(text) {
        return Ok(server);
    }
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let looks_like_ip = host.bytes().all(|c| c.is_ascii_digit() || c == b'.') || text.contains('[');
    let why = if !looks_like_ip && Name::parse(host).is_ok() {
        "is a host name, and a resolver would have to look it up through the very configuration it stands \
         in: most versions of CoreDNS do not load with one, and NodeLocal DNSCache has crashed on one \
         (https://github.com/kubernetes/dns/issues/539)"
    } else {
        "is not an IP address"
    };
    Err(ConfigError(format!(
        "--dns-ip {text:?} {why}; give the ClusterIP of the Service in front of globaldns, for example \
         10.96.0.53, \
         10.96.0.53:5353 or [fd00::35]:5353"
    )))
}
