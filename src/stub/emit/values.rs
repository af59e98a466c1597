//! Values of the Helm chart `coredns`, which RKE2 uses too.
//!
//! `servers` is a list, and a list in values replaces the chart's own, so the server for `.` is said again: as the
//! chart has it, or as the live Corefile does. One server per zone: the chart writes a port after the last zone of a
//! server only.

use super::manifests::yaml;
use crate::stub::corefile::{self, Block, Process};
use crate::stub::{Ours, Refusal, RefusalKind, server_text};

/// The charts' own server, that of RKE2 without the cluster domain.
const DEFAULT: &str = "\
.:53 {
    errors
    health {
        lameduck 10s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus 0.0.0.0:9153
    forward . /etc/resolv.conf
    cache 30
    loop
    reload
    loadbalance
}
";

pub(super) fn rke2(block: &Block, live: Option<&str>) -> Result<String, Refusal> {
    let mut values = String::new();
    for line in servers(block, live, true)?.lines() {
        values.push_str(&format!("    {line}\n"));
    }
    Ok(format!(
        "apiVersion: helm.cattle.io/v1\nkind: HelmChartConfig\nmetadata: {{name: rke2-coredns, namespace: \
         kube-system}}\nspec:\n  valuesContent: |-\n{values}"
    ))
}

pub(super) fn chart(block: &Block, live: Option<&str>) -> Result<String, Refusal> {
    servers(block, live, false)
}

/// RKE2's chart puts the cluster domain before the parameters of `kubernetes`, so it must not stand there.
fn servers(block: &Block, live: Option<&str>, domain_is_added: bool) -> Result<String, Refusal> {
    let Block { stub, port, bind, .. } = block;
    let without_ours = match live {
        Some(live) => corefile::edit(live, None, &Ours::default().with(stub), &Process::default())?.text,
        None => DEFAULT.to_owned(),
    };
    let mut text = "servers:\n".to_owned();
    for mut server in read(&without_ours)? {
        for plugin in server.plugins.iter_mut().filter(|p| domain_is_added && p.name == "kubernetes") {
            let domain = plugin.parameters.first().filter(|p| !p.ends_with(".arpa")).cloned();
            plugin.parameters.retain(|parameter| Some(parameter) != domain.as_ref());
        }
        text.push_str(&server.yaml()?);
    }
    let upstreams: Vec<_> = stub.servers().iter().map(server_text).collect();
    let bind = match bind.words() {
        [] => String::new(),
        words => format!("{{name: bind, parameters: {:?}}}, ", words.join(" ")),
    };
    for zone in stub.zones() {
        text.push_str(&format!(
            "- zones: [{{zone: {}}}]\n  port: {port}\n  plugins: [{{name: errors}}, {{name: cache, \
             parameters: 30}}, \
             {bind}{{name: forward, parameters: \". {}\"}}]\n",
            yaml(zone),
            upstreams.join(" ")
        ));
    }
    Ok(text)
}

/// A server block.
struct Server {
    line: usize,
    keys: Vec<String>,
    plugins: Vec<Plugin>,
}

/// A line of it, with the lines of its block.
struct Plugin {
    name: String,
    parameters: Vec<String>,
    block: Vec<String>,
}

impl Server {
    fn yaml(&self) -> Result<String, Refusal> {
        let mut zones = Vec::new();
        let mut port = None;
        for key in &self.keys {
            let (zone, at) = key.rsplit_once(':').ok_or_else(|| unsure(self.line, "a key without port"))?;
            if zone.contains("://") || port.is_some_and(|port| port != at) {
                return Err(unsure(self.line, "a key with a scheme, or ports that differ"));
            }
            port = Some(at);
            let tcp = if zone == "." { ", use_tcp: true" } else { "" };
            zones.push(format!(
                "{{zone: {}{tcp}}}",
                if zone == "." { zone.to_owned() } else { format!("{zone:?}") }
            ));
        }
        // The chart would write the port after the last zone only.
        let mut text = String::new();
        for zone in zones {
            text.push_str(&format!("- zones: [{zone}]\n  port: {}\n  plugins:\n", port.unwrap_or_default()));
            self.plugins.iter().for_each(|plugin| text.push_str(&plugin.yaml()));
        }
        Ok(text)
    }
}

impl Plugin {
    fn yaml(&self) -> String {
        let name = &self.name;
        let parameters = match self.parameters.join(" ") {
            digits if digits.bytes().all(|c| c.is_ascii_digit()) => digits,
            text => format!("{text:?}"),
        };
        match (parameters.is_empty(), &self.block[..]) {
            (true, []) => format!("  - name: {name}\n"),
            (false, []) => format!("  - {{name: {name}, parameters: {parameters}}}\n"),
            (true, [line]) => format!("  - {{name: {name}, configBlock: {line:?}}}\n"),
            (empty, lines) => {
                let parameters =
                    if empty { String::new() } else { format!("    parameters: {parameters}\n") };
                let lines: String = lines.iter().map(|line| format!("      {line}\n")).collect();
                format!("  - name: {name}\n{parameters}    configBlock: |-\n{lines}")
            }
        }
    }
}

fn unsure(line: usize, what: &str) -> Refusal {
    Refusal::new(
        RefusalKind::Unsure,
        format!("line {line}"),
        format!("{what} cannot be said in the chart's values with certainty"),
        "leave the live text out, and put the servers it has into the values by hand",
    )
}

/// The server blocks of a Corefile as such files look when a chart wrote them; anything finer is refused.
fn read(corefile: &str) -> Result<Vec<Server>, Refusal> {
    let mut servers: Vec<Server> = Vec::new();
    let mut depth = 0;
    for (at, line) in corefile.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if line.contains(['"', '(', '\\']) || line.starts_with("import ") {
            return Err(unsure(at, "a quote, a snippet or an import"));
        }
        let opens = line.ends_with(" {") || line == "{";
        let words: Vec<_> = line.split_whitespace().filter(|word| *word != "{").map(str::to_owned).collect();
        match (depth, line, servers.last_mut()) {
            (0, _, _) if opens && !words.is_empty() => {
                servers.push(Server { line: at, keys: words, plugins: Vec::new() });
            }
            (1, "}", _) | (2, "}", _) => {}
            (1, _, Some(server)) if !words.is_empty() => {
                let (name, parameters) = (words[0].clone(), words[1..].to_vec());
                server.plugins.push(Plugin { name, parameters, block: Vec::new() });
            }
            (2.., _, Some(server)) => {
                let inside = "  ".repeat(depth - 2 - usize::from(line == "}"));
                if let Some(plugin) = server.plugins.last_mut() {
                    plugin.block.push(format!("{inside}{line}"));
                }
            }
            _ => return Err(unsure(at, "what stands there")),
        }
        if opens {
            depth += 1;
        } else if line == "}" {
            depth -= 1;
        }
    }
    if depth != 0 || servers.is_empty() {
        return Err(unsure(corefile.lines().count(), "a Corefile without balanced braces"));
    }
    Ok(servers)
}
