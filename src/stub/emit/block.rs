//! The server block that forwards our zones, as CoreDNS reads it.
//!
//! All zones on one line, each with its port: kubeadm's migration takes a line of keys that goes on below for
//! another server, and a key without port listens on whatever `-dns.port` says. Nothing but `errors`, `cache` and
//! `forward`: other plugins are unknown to the check of kubeadm's upgrade
//! (<https://github.com/kubernetes/kubernetes/issues/82889>), want listeners of their own, or may not come twice.

use crate::stub::{DNS_PORT, Refusal, RefusalKind, Stub, server_text};
use crate::wire::name::Name;

const BEGIN: &str = "# BEGIN globaldns managed stub zones (do not edit)\n";
const END: &str = "# END globaldns managed stub zones\n";

/// How the block is to be written.
#[derive(Clone)]
pub(super) struct Block<'a> {
    stub: &'a Stub,
    port: u16,
    directive: &'static str,
    bind: Option<String>,
}

impl<'a> Block<'a> {
    pub(super) fn new(stub: &'a Stub) -> Block<'a> {
        Block { stub, port: DNS_PORT, directive: "forward", bind: None }
    }

    /// The port of the block for `.`, on which pods ask.
    pub(super) fn port(self, port: u16) -> Block<'a> {
        Block { port, ..self }
    }

    /// `proxy` is what CoreDNS had before 1.1; 1.5 and newer do not load with it.
    pub(super) fn proxy(self) -> Block<'a> {
        Block { directive: "proxy", ..self }
    }

    /// The addresses of NodeLocal DNSCache's own blocks.
    pub(super) fn bind(self, addresses: String) -> Block<'a> {
        Block { bind: Some(addresses), ..self }
    }

    /// The block alone.
    pub(super) fn text(&self) -> String {
        let Block { stub, port, directive, bind } = self;
        let keys: Vec<_> = stub.zones().iter().map(|zone| format!("{zone}:{port}")).collect();
        let servers: Vec<_> = stub.servers().iter().map(server_text).collect();
        let bind = bind.as_ref().map(|addresses| format!("    bind {addresses}\n")).unwrap_or_default();
        let (keys, servers) = (keys.join(" "), servers.join(" "));
        format!("{keys} {{\n    errors\n    cache 30\n{bind}    {directive} . {servers}\n}}\n")
    }

    /// The block between the lines by which people find it.
    pub(super) fn marked(&self) -> String {
        format!("{BEGIN}{}{END}", self.text())
    }

    /// The whole of a live Corefile with the block at its end, on the port of its block for `.`.
    ///
    /// # Errors
    ///
    /// `Conflict`: it serves one of our zones already. `Unsure`: it has no server block, so it is one itself.
    pub(super) fn appended_to(self, live: &str, mark: bool) -> Result<String, Refusal> {
        let rest = without_ours(live);
        let tokens: Vec<_> = words(&rest).collect();
        if !tokens.iter().any(|(_, word)| *word == "{") {
            return Err(Refusal::new(
                RefusalKind::Unsure,
                "the Corefile",
                "it has no server block in braces, so whatever is appended becomes a part of what is there",
                "put braces around what is there",
            ));
        }
        let mut depth = 0usize;
        for (line, word) in &tokens {
            match *word {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ if depth > 0 => continue,
                _ => {}
            }
            if let Some(zone) = self.stub.zones().iter().find(|zone| is_key_of(word, zone)) {
                return Err(Refusal::new(
                    RefusalKind::Conflict,
                    format!("line {line}"),
                    format!(
                        "the zone {zone} is served there, and CoreDNS does not load one that comes twice"
                    ),
                    "take that block out first, or choose another zone",
                ));
            }
        }
        let port = root_port(&rest).unwrap_or(self.port);
        let block = self.port(port);
        let text = if mark { block.marked() } else { block.text() };
        let newline = if rest.ends_with('\n') || rest.is_empty() { "" } else { "\n" };
        Ok(format!("{rest}{newline}{text}"))
    }
}

/// The `bind` of a live Corefile's block for `.`.
pub(super) fn bind_of(live: &str) -> Option<String> {
    let at =
        live.lines().skip_while(|line| !line.split_whitespace().any(|word| port_of_root(word).is_some()));
    let line = at.map(str::trim).find(|line| line.starts_with("bind "))?;
    Some(line.trim_start_matches("bind ").trim().to_owned())
}

fn without_ours(live: &str) -> String {
    match (live.find(BEGIN), live.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}{}", &live[..begin], &live[end + END.len()..])
        }
        _ => live.to_owned(),
    }
}

/// What stands between white space and outside of comments, with its line.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(at, line)| {
        let code = line.split('#').next().unwrap_or_default();
        code.split_whitespace().map(move |word| (at + 1, word))
    })
}

fn is_key_of(word: &str, zone: &Name) -> bool {
    let key = word.split_once("://").map_or(word, |(_, key)| key).trim_end_matches(',');
    let host = key.rsplit_once(':').map_or(key, |(host, _)| host);
    Name::parse(host).is_ok_and(|name| name == *zone)
}

fn port_of_root(word: &str) -> Option<u16> {
    let key = word.split_once("://").map_or(word, |(_, key)| key).trim_end_matches(',');
    match key.strip_prefix('.')?.strip_prefix(':') {
        Some(port) => port.parse().ok(),
        None => None,
    }
}

fn root_port(text: &str) -> Option<u16> {
    words(text).find_map(|(_, word)| port_of_root(word))
}
