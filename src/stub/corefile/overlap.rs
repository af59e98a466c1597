//! Whether CoreDNS would find a zone served twice.
//!
//! This follows `zoneOverlap` (core/dnsserver/address.go): a zone and port may be served by several blocks only if
//! each binds to addresses of its own, or chooses its clients with `view`.

use std::collections::BTreeMap;

use super::key::Zone;
use super::parts::Server;
use crate::stub::{Refusal, RefusalKind};

/// Refuses a text with a zone served twice, as far as that can be told without other files.
pub(super) fn check<'a>(servers: impl IntoIterator<Item = &'a Server<'a>>) -> Result<(), Refusal> {
    // The line of every transport, zone and port, by the address it binds to, which is empty without `bind`.
    let mut seen: BTreeMap<(&str, &Zone, u16), BTreeMap<&str, usize>> = BTreeMap::new();
    for server in servers {
        let Some(addresses) = addresses(server) else { continue };
        for claim in &server.claims {
            let (Some(port), Zone::Root | Zone::Name(_) | Zone::Other(_)) = (claim.port, &claim.zone) else {
                continue;
            };
            let taken = seen.entry((claim.transport, &claim.zone, port)).or_default();
            let filtered = server.has("view");
            for &address in &addresses {
                let same = taken.get(address).filter(|_| !filtered);
                let wider = if address.is_empty() { taken.values().next() } else { taken.get("") };
                let wider = wider.filter(|_| !filtered || !taken.contains_key(address));
                if let Some(line) = same.or(wider) {
                    return Err(Refusal::new(
                        RefusalKind::Invalid,
                        format!("line {}", claim.line),
                        format!("{} is served in line {line} already", claim.key),
                        "correct the Corefile: CoreDNS does not start with it as it is",
                    ));
                }
                if !filtered {
                    taken.insert(address, claim.line);
                }
            }
        }
    }
    Ok(())
}

/// What a server binds to; `None` if it cannot be told.
fn addresses<'a>(server: &'a Server<'_>) -> Option<Vec<&'a str>> {
    if server.opaque {
        return None;
    }
    let mut addresses = Vec::new();
    for bind in server.directives.iter().filter(|directive| directive.name() == "bind") {
        if !bind.options().is_empty() {
            return None;
        }
        addresses.extend(bind.arguments().iter().map(|token| &*token.text));
    }
    if addresses.is_empty() {
        addresses.push("");
    }
    Some(addresses)
}
