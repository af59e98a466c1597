//! Whose a server block is, and whether it does what is wanted.
//!
//! Comments cannot tell: kubeadm's upgrade writes a Corefile anew from its tokens, without them, and adds a plugin
//! or an option here and there (kubernetes/kubernetes#88811). Zones, plugins and servers can. Our comments around a
//! block make only one difference: its servers need not be known, for a record of them can be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::parts::{Directive, Server};
use super::wanted::{Block, Plugin};
use super::{Claim, Zone};
use crate::stub::{DNS_PORT, Ours};
use crate::wire::name::Name;

/// What upgrades and people add to a block without changing where its zones are looked up.
const PLUGINS: [&str; 7] = ["errors", "cache", "forward", "proxy", "loop", "log", "reload"];
/// The same, of options of `forward` and `proxy`.
const OPTIONS: [&str; 13] = [
    "expire",
    "fail_fast",
    "fail_timeout",
    "failfast_all_unhealthy_upstreams",
    "force_tcp",
    "health_check",
    "max_concurrent",
    "max_connect_attempts",
    "max_fails",
    "policy",
    "prefer_udp",
    "read_timeout",
    "spray",
];

/// What is known when a block is judged.
pub(super) struct Known<'a> {
    pub(super) ours: &'a Ours,
    /// Whether a block of ours may have a `bind`.
    pub(super) binds: bool,
}

/// Why a block is not ours; `None` if it is.
pub(super) fn stranger(server: &Server<'_>, marked: bool, known: &Known<'_>) -> Option<String> {
    if server.copied {
        return Some("some of it comes from a snippet".to_owned());
    }
    if server.opaque {
        return Some("it imports a file".to_owned());
    }
    let ours = |claim: &&Claim| {
        claim.transport == "dns" && matches!(&claim.zone, Zone::Name(name) if known.ours.zones.contains(name))
    };
    if let Some(other) = server.claims.iter().find(|claim| !ours(claim)) {
        return Some(format!("it serves {} too", other.key));
    }
    let may_be_there = |name: &str| PLUGINS.contains(&name) || name == "bind" && (marked || known.binds);
    if let Some(other) = server.directives.iter().find(|directive| !may_be_there(directive.name())) {
        return Some(format!("it has {}", other.name()));
    }
    if marked {
        return None;
    }
    let mut asking = server.directives.iter().filter(|directive| asks(directive)).peekable();
    if asking.peek().is_none() {
        return Some("it asks no server".to_owned());
    }
    asking.find_map(|directive| asks_others(directive, &known.ours.servers))
}

fn asks(directive: &Directive<'_>) -> bool {
    [Plugin::Forward, Plugin::Proxy].iter().any(|plugin| plugin.name() == directive.name())
}

fn asks_others(directive: &Directive<'_>, ours: &BTreeSet<SocketAddr>) -> Option<String> {
    if let Some(option) = strange_option(directive) {
        return Some(format!("its {} has the option {option}", directive.name()));
    }
    let targets = directive.arguments().get(1..).unwrap_or_default();
    if targets.is_empty() {
        return Some("it asks no server".to_owned());
    }
    let other =
        targets.iter().find(|target| server(&target.text).is_none_or(|server| !ours.contains(&server)));
    other.map(|target| format!("it asks {}", target.text))
}

fn strange_option(directive: &Directive<'_>) -> Option<String> {
    let options = directive.options();
    let mut names = options.iter().filter_map(|words| words.first());
    names.find(|name| !OPTIONS.contains(name)).map(|&name| name.to_owned())
}

/// The server that `forward` or `proxy` asks for this word.
fn server(word: &str) -> Option<SocketAddr> {
    let word = word.strip_prefix("dns://").unwrap_or(word);
    let ip = || word.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    word.parse().ok().or_else(|| Some(SocketAddr::new(ip()?, DNS_PORT)))
}

/// The zones of a block of ours.
pub(super) fn zones<'a>(server: &'a Server<'_>) -> impl Iterator<Item = &'a Name> {
    server.claims.iter().filter_map(|claim| match &claim.zone {
        Zone::Name(name) => Some(name),
        _ => None,
    })
}

/// Whether a block of ours does for its zones what is wanted, whatever else is in it.
pub(super) fn is_right(block: &Server<'_>, wanted: &Block) -> bool {
    let mut directives = BTreeMap::new();
    for directive in &block.directives {
        // CoreDNS does not start with a plugin twice in a block, or did not for long.
        if directives.insert(directive.name(), directive).is_some() {
            return false;
        }
    }
    let other = if wanted.plugin == Plugin::Forward { Plugin::Proxy } else { Plugin::Forward };
    let Some(asking) = directives.get(wanted.plugin.name()) else { return false };
    let [from, targets @ ..] = asking.arguments() else { return false };
    let targets: BTreeSet<_> = targets.iter().map(|target| server(&target.text)).collect();
    let bind: BTreeSet<_> = directives
        .get("bind")
        .map(|bind| bind.arguments().iter().map(|token| token.text.to_string()).collect())
        .unwrap_or_default();
    block.claims.iter().all(|claim| claim.is_asked_on(wanted.port))
        && !directives.contains_key(other.name())
        && from.text == "."
        && targets == wanted.stub.servers().iter().copied().map(Some).collect()
        && strange_option(asking).is_none()
        && bind == wanted.bind.words().iter().cloned().collect()
        && directives.get("bind").is_none_or(|bind| bind.options().is_empty())
}
