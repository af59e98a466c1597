//! Resolvers outside of the cluster: on VMs, in a VPC, on laptops.
//!
//! Those that validate or protect against rebinding must be told: `cluster2` is not delegated anywhere, `global` is a
//! signed top-level domain, and the addresses of meshes look private.

use std::net::SocketAddr;

use crate::stub::{DNS_PORT, Refusal, RefusalKind, Stub, server_text};
use crate::wire::name::Name;
use crate::zone::reverse;

/// The most name servers that macOS' resolver takes.
const MACOS_SERVERS: usize = 3;

fn cannot(why: String, remedy: &str) -> Refusal {
    Refusal::new(RefusalKind::Invalid, "", why, remedy)
}

/// `text`, once for each zone.
fn per_zone(stub: &Stub, text: impl Fn(&str) -> String) -> String {
    stub.zones().iter().map(|zone| text(&zone.to_string())).collect()
}

fn joined(stub: &Stub, between: &str, text: impl Fn(&str) -> String) -> String {
    stub.zones().iter().map(|zone| text(&zone.to_string())).collect::<Vec<_>>().join(between)
}

fn servers(stub: &Stub, between: &str, text: impl Fn(&SocketAddr) -> String) -> String {
    stub.servers().iter().map(text).collect::<Vec<_>>().join(between)
}

/// `IP`, or `IP`, `mark` and the port.
fn marked(server: &SocketAddr, mark: &str) -> String {
    match server.port() {
        DNS_PORT => server.ip().to_string(),
        port => format!("{}{mark}{port}", server.ip()),
    }
}

/// The addresses, for what asks on port 53 alone.
fn only_53(stub: &Stub, what: &str, remedy: &str) -> Result<Vec<String>, Refusal> {
    match stub.servers().iter().find(|server| server.port() != DNS_PORT) {
        Some(server) => {
            Err(cannot(format!("{what} cannot ask on port {} ({server})", server.port()), remedy))
        }
        None => Ok(stub.servers().iter().map(|server| server.ip().to_string()).collect()),
    }
}

pub(super) fn dnsmasq(stub: &Stub) -> String {
    let zone = |zone: &str| servers(stub, "", |server| format!("server=/{zone}/{}\n", marked(server, "#")));
    let all = joined(stub, "/", str::to_owned);
    format!("{}rebind-domain-ok=/{all}/\n", per_zone(stub, zone))
}

pub(super) fn resolved(stub: &Stub) -> String {
    let (servers, zones) = (servers(stub, " ", server_text), joined(stub, " ", |zone| format!("~{zone}")));
    format!("[Resolve]\nDNS={servers}\nDomains={zones}\n")
}

pub(super) fn resolved_link(stub: &Stub) -> String {
    let (servers, zones) = (servers(stub, " ", server_text), joined(stub, " ", |zone| format!("'~{zone}'")));
    let plain = joined(stub, " ", str::to_owned);
    format!(
        ": \"${{IF:?name the link, for example IF=eth0}}\"\nresolvectl dns \"$IF\" {servers}\nresolvectl \
         domain \"$IF\" \
         {zones}\nresolvectl nta \"$IF\" {plain}\n"
    )
}

/// `options` may come only once in BIND's configuration, so what belongs there is a comment.
fn bind_options(stub: &Stub) -> String {
    format!("// In options: validate-except {{ {} }};", joined(stub, " ", |zone| format!("\"{zone}\";")))
}

pub(super) fn bind(stub: &Stub) -> String {
    let forwarders = servers(stub, " ", |server| format!("{};", marked(server, " port ")));
    let zone = |zone: &str| {
        format!("zone \"{zone}\" {{ type forward; forward only; forwarders {{ {forwarders} }}; }};\n")
    };
    // An empty zone of its own below one that it forwards, BIND leaves out by itself.
    bind_options(stub) + "\n" + &per_zone(stub, zone)
}

pub(super) fn bind_static_stub(stub: &Stub) -> Result<String, Refusal> {
    let addresses =
        only_53(stub, "a static-stub zone of BIND", "emit it for bind, whose forwarders take a port")?;
    let addresses: String = addresses.iter().map(|ip| format!(" {ip};")).collect();
    let zone =
        |zone: &str| format!("zone \"{zone}\" {{ type static-stub; server-addresses {{{addresses} }}; }};\n");
    // It answers these itself, though they lie below a zone that is configured.
    let below = |empty: &Name| stub.zones().iter().any(|zone| zone != empty && zone.covers(empty));
    let empty = reverse::answered_by_resolvers().into_iter().filter(below);
    let empty: String = empty.map(|zone| format!(" disable-empty-zone \"{zone}\";")).collect();
    Ok(bind_options(stub) + &empty + "\n" + &per_zone(stub, zone))
}

pub(super) fn unbound(stub: &Stub) -> String {
    let loopback = stub.servers().iter().any(|server| server.ip().is_loopback());
    let localhost = if loopback { "    do-not-query-localhost: no\n" } else { "" };
    let insecure = per_zone(stub, |zone| format!("    domain-insecure: \"{zone}\"\n"));
    let private = per_zone(stub, |zone| format!("    private-domain: \"{zone}\"\n"));
    // A zone that Unbound answers by itself lets ours through if it is switched off, or if ours has one of its own.
    let own: String = reverse::answered_by_resolvers()
        .iter()
        .flat_map(|empty| {
            let below = stub.zones().iter().any(|zone| zone.covers(empty));
            let above = stub.zones().iter().filter(|zone| *zone != empty && empty.covers(zone));
            let above = above.map(|zone| format!("    local-zone: \"{zone}\" transparent\n"));
            let below = below.then(|| format!("    local-zone: \"{empty}\" nodefault\n"));
            below.into_iter().chain(above).collect::<Vec<_>>()
        })
        .collect();
    let addresses = servers(stub, "", |server| format!("    stub-addr: {}\n", marked(server, "@")));
    let zone = |zone: &str| format!("stub-zone:\n    name: \"{zone}\"\n{addresses}    stub-prime: no\n");
    format!("server:\n{insecure}{private}{own}{localhost}{}", per_zone(stub, zone))
}

pub(super) fn cloud_dns(stub: &Stub) -> Result<String, Refusal> {
    let targets = only_53(stub, "a forwarding zone of Cloud DNS", "give an address that answers on port 53")?;
    if let Some(server) = stub.servers().iter().find(|server| !server.is_ipv4()) {
        let why = format!("gcloud takes IPv4 addresses as forwarding targets, and {} is none", server.ip());
        return Err(cannot(why, "give the IPv4 address of an internal load balancer in front of globaldns"));
    }
    let targets = targets.join(",");
    let zone = |zone: &str| {
        format!(
            "gcloud dns managed-zones create mesh-{} --visibility=private --dns-name={zone}. \
             --description=mesh \
             --networks=\"${{VPC:?name the VPC network}}\" --private-forwarding-targets={targets}\n",
            zone_id(zone)
        )
    };
    Ok(per_zone(stub, zone))
}

/// A zone as part of the name of a managed zone: letters, digits and `-`.
pub(super) fn zone_id(zone: &str) -> String {
    zone.replace(['.', '_'], "-")
}

pub(super) fn windows(stub: &Stub) -> Result<String, Refusal> {
    let addresses = only_53(
        stub,
        "a rule of Windows' name resolution policy",
        "give an address that answers on port 53",
    )?;
    let addresses = addresses.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(",");
    let zone = |zone: &str| {
        format!(
            "Add-DnsClientNrptRule -Namespace \".{zone}\" -NameServers {addresses} -Comment \"globaldns\"\n"
        )
    };
    Ok(per_zone(stub, zone))
}

pub(super) fn macos(stub: &Stub) -> Result<String, Refusal> {
    let (first, all) = (stub.servers()[0].port(), stub.servers());
    if let Some(other) = all.iter().find(|server| server.port() != first) {
        let why = format!("a file of /etc/resolver has one port, and {first} and {} are given", other.port());
        return Err(cannot(why, "give servers of one port"));
    }
    if all.len() > MACOS_SERVERS {
        let why =
            format!("a file of /etc/resolver takes {MACOS_SERVERS} servers, and {} are given", all.len());
        return Err(cannot(why, "leave some out"));
    }
    let port = if first == DNS_PORT { String::new() } else { format!("port {first}\n") };
    Ok(servers(stub, "", |server| format!("nameserver {}\n", server.ip())) + &port)
}
