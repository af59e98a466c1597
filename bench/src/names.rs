//! The names that every server is given, in each server's own format, and the queries for them.
//!
//! N hosts over 100 namespaces, one address each, one ServiceEntry each. All come from their number, so a
//! server in this process and one that reads a file know the same ones.

use std::io::{self, Write};
use std::net::Ipv4Addr;

/// The zone of all names.
pub const ZONE: &str = "global";
/// TTL of addresses, seconds: globaldns' default.
const TTL: u32 = 30;
/// TTL of negative answers, seconds: globaldns' default.
const NEGATIVE_TTL: u32 = 5;
const NAMESPACES: u32 = 100;
/// The most hosts that fit into 240.0.0.0/8 twice ([`changed_address`]).
pub const MOST_HOSTS: u32 = 1 << 22;

/// The name of a host, without the trailing dot.
pub fn host(number: u32) -> String {
    format!("svc-{number:06}.{}.{ZONE}", namespace(number))
}

/// A name that no server has, beside that of a host.
fn missing(number: u32) -> String {
    format!("gone-{number:06}.{}.{ZONE}", namespace(number))
}

/// The namespace of a host's ServiceEntry.
pub fn namespace(number: u32) -> String {
    format!("ns-{:02}", number % NAMESPACES)
}

/// The address of a host.
pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xf000_0001 + number)
}

/// The address a host has while a change moves it.
pub fn changed_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xf080_0001 + number)
}

/// ServiceEntries as YAML documents.
pub fn yaml(hosts: u32, out: &mut impl Write) -> io::Result<()> {
    for number in 0..hosts {
        write!(
            out,
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: svc-{number:06}\n  \
             namespace: {}\nspec:\n  hosts:\n  - {}\n  addresses:\n  - {}\n  location: MESH_INTERNAL\n  ports:\n  \
             - number: 8000\n    name: http\n    protocol: HTTP\n  resolution: DNS\n",
            namespace(number),
            host(number),
            address(number)
        )?;
    }
    Ok(())
}

/// ServiceEntries as a JSON list, as `kubectl get -o json` prints it.
pub fn json(hosts: u32, out: &mut impl Write) -> io::Result<()> {
    out.write_all(br#"{"apiVersion":"v1","kind":"List","items":["#)?;
    for number in 0..hosts {
        let comma = if number == 0 { "" } else { "," };
        write!(out, "{comma}\n{}", service_entry(number, address(number)))?;
    }
    out.write_all(b"\n]}\n")
}

/// One ServiceEntry as JSON.
pub fn service_entry(number: u32, address: Ipv4Addr) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"namespace": namespace(number), "name": format!("svc-{number:06}")},
        "spec": {
            "hosts": [host(number)],
            "addresses": [address.to_string()],
            "location": "MESH_INTERNAL",
            "ports": [{"number": 8000, "name": "http", "protocol": "HTTP"}],
            "resolution": "DNS",
        }
    })
}

/// A zone file as every name server reads it (RFC 1035 section 5), with the apex globaldns gives a zone.
pub fn zone_file(hosts: u32, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "$ORIGIN {ZONE}.\n$TTL {TTL}\n\
         @ {NEGATIVE_TTL} IN SOA ns.dns hostmaster 1 7200 1800 86400 {NEGATIVE_TTL}\n\
         @ IN NS ns.dns\nns.dns IN A 127.0.0.1\n"
    )?;
    for number in 0..hosts {
        writeln!(out, "{}. IN A {}", host(number), address(number))?;
    }
    Ok(())
}

/// Queries for addresses that exist, one line each: name, type, what the reply must be.
pub fn hits(hosts: u32, out: &mut impl Write) -> io::Result<()> {
    for number in 0..hosts {
        writeln!(out, "{} A {}", host(number), address(number))?;
    }
    Ok(())
}

/// Queries as a dual-stack client behind a search path asks: 45 % A, 45 % AAAA, which no host has, and 10 %
/// for names that do not exist.
pub fn mix(hosts: u32, out: &mut impl Write) -> io::Result<()> {
    for number in 0..hosts {
        writeln!(out, "{} A {}", host(number), address(number))?;
        writeln!(out, "{} AAAA NODATA", host(number))?;
        // 10 % beside twice 45 %: two for every nine.
        if number % 9 < 2 {
            writeln!(out, "{} A NXDOMAIN", missing(number))?;
        }
    }
    Ok(())
}

/// Queries of which many fail: 35 % A, 35 % AAAA, and 10 % each of names that do not exist, names that a search path has
/// made, and names that are not ours.
pub fn failing(hosts: u32, out: &mut impl Write) -> io::Result<()> {
    for number in 0..hosts {
        writeln!(out, "{} A {}", host(number), address(number))?;
        writeln!(out, "{} AAAA NODATA", host(number))?;
        // 10 % beside twice 35 %: two for every seven.
        if number % 7 < 2 {
            writeln!(out, "{} A NXDOMAIN", missing(number))?;
            writeln!(out, "web-{number}.{}.svc.cluster.local.{ZONE} A NXDOMAIN", namespace(number))?;
            writeln!(out, "web-{number}.example.com A REFUSED")?;
        }
    }
    Ok(())
}

/// Queries for hosts whose address a change may have moved.
pub fn changing(hosts: u32, out: &mut impl Write) -> io::Result<()> {
    for number in 0..hosts {
        writeln!(out, "{} A {}|{}", host(number), address(number), changed_address(number))?;
    }
    Ok(())
}
