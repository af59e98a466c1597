//! Objects, elements and variables of clusters.

use serde_json::{Value, json};

use crate::stub::corefile::Block;
use crate::stub::edit::{Edit, zones_are_subdomains};
use crate::stub::{Ours, Refusal, RefusalKind, Stub, custom_dns, kube_dns, openshift, server_text};
use crate::wire::name::Name;

/// The ConfigMap whose `*.server` keys the Corefile imports, with our key alone: applied by the server, it leaves
/// the keys of others.
pub(super) fn custom(block: &Block) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: coredns-custom, namespace: \
         kube-system}}\ndata:\n  \
         globaldns.server: |\n{}",
        indented(&block.bare(), 4)
    )
}

pub(super) fn eks_addon(block: &Block, whole: Option<String>) -> String {
    let corefile = whole.unwrap_or_else(|| format!("<live>{}", block.bare()));
    format!("{}\n", json!({ "corefile": corefile }))
}

/// The whole Corefile, or what stands for it and our block.
fn whole_or_place(block: &Block, whole: Option<String>, by: usize) -> String {
    let whole = whole.unwrap_or_else(|| format!("# live Corefile here, followed by\n{block}"));
    // A block scalar's first line says how far in all others are.
    indented(whole.trim_start(), by)
}

pub(super) fn k0s(block: &Block, whole: Option<String>) -> String {
    let text = whole_or_place(block, whole, 16);
    format!(
        "spec:\n  network:\n    coreDNS:\n      patches:\n      - target: {{kind: ConfigMap, name: \
         coredns, namespace: \
         kube-system}}\n        patch:\n          type: MergePatch\n          content: |\n            data:\n              \
         Corefile: |\n{text}"
    )
}

pub(super) fn kops(block: &Block, whole: Option<String>) -> String {
    format!("spec:\n  kubeDNS:\n    externalCoreFile: |\n{}", whole_or_place(block, whole, 6))
}

pub(super) fn kops_node_local(block: &Block) -> String {
    let text = indented(&block.bare(), 8);
    format!("spec:\n  kubeDNS:\n    nodeLocalDNS:\n      additionalConfig: |\n{text}")
}

pub(super) fn kops_kube_dns(stub: &Stub) -> Result<String, Refusal> {
    zones_are_subdomains(stub, "kube-dns")?;
    let servers: Vec<_> = stub.servers().iter().map(|s| format!("{:?}", server_text(s))).collect();
    let servers = servers.join(", ");
    let zones: Vec<_> = stub.zones().iter().map(|zone| format!("{}: [{servers}]", yaml(zone))).collect();
    Ok(format!("spec:\n  kubeDNS:\n    provider: KubeDNS\n    stubDomains: {{{}}}\n", zones.join(", ")))
}

pub(super) fn kubespray(stub: &Stub) -> String {
    let zones: Vec<_> = stub.zones().iter().map(yaml).collect();
    let servers: Vec<_> = stub.servers().iter().map(|server| yaml_text(&server_text(server))).collect();
    format!(
        "coredns_external_zones: &globaldns\n- {{zones: [{}], nameservers: [{}], cache: 30}}\n\
         nodelocaldns_external_zones: *globaldns\n",
        zones.join(", "),
        servers.join(", ")
    )
}

pub(super) fn stub_domains(stub: &Stub, live: Option<&str>) -> Result<String, Refusal> {
    let edited = kube_dns::edit(live, Some(stub), &Ours::default())?;
    let text = edited.applied(live.map(str::to_owned)).unwrap_or_default();
    Ok(if text.ends_with('\n') { text } else { format!("{text}\n") })
}

pub(super) fn openshift(stub: &Stub) -> Result<String, Refusal> {
    zones_are_subdomains(stub, "OpenShift")?;
    Ok(format!("{}\n", element(stub)))
}

/// `test` on the version makes the API server refuse the patch if somebody wrote meanwhile.
pub(super) fn openshift_patch(stub: &Stub, live: Option<&str>) -> Result<String, Refusal> {
    let Some(live) = live else {
        zones_are_subdomains(stub, "OpenShift")?;
        return Ok(lines(&[
            operation("test", "/metadata/resourceVersion", &json!("<rv>").to_string()),
            operation("add", "/spec/servers/-", &element(stub)),
        ]));
    };
    let wrong = |why: String| {
        let remedy = "give the output of: oc get dnses.operator.openshift.io default -o json";
        Refusal::new(RefusalKind::Invalid, "the live object", why, remedy)
    };
    let object: Value =
        serde_json::from_str(live).map_err(|error| wrong(format!("it is not JSON ({error})")))?;
    let version = object["metadata"]["resourceVersion"].as_str();
    let version = version.ok_or_else(|| wrong("it has no metadata.resourceVersion".to_owned()))?;
    Ok(match openshift::edit(object["spec"].get("servers"), Some(stub), &Ours::default())? {
        Edit::Set(servers) => lines(&[
            operation("test", "/metadata/resourceVersion", &json!(version).to_string()),
            operation("add", "/spec/servers", &servers.to_string()),
        ]),
        Edit::Unchanged | Edit::Remove => "[]\n".to_owned(),
    })
}

/// Our element in the order in which people read such objects, which a map would not keep.
fn element(stub: &Stub) -> String {
    let element = openshift::element(stub);
    let (zones, upstreams) = (&element["zones"], &element["forwardPlugin"]["upstreams"]);
    format!(
        "{{\"name\":{},\"zones\":{zones},\"forwardPlugin\":{{\"policy\":\"Random\",\"upstreams\":{upstreams}}}}}",
        element["name"]
    )
}

fn operation(op: &str, path: &str, value: &str) -> String {
    format!("{{\"op\":\"{op}\",\"path\":\"{path}\",\"value\":{value}}}")
}

fn lines(operations: &[String]) -> String {
    format!("[{}]\n", operations.join(",\n "))
}

pub(super) fn ack(stub: &Stub) -> Result<String, Refusal> {
    custom_dns::zones(stub)?;
    let servers: Vec<_> = stub.servers().iter().map(|s| format!("{:?}", server_text(s))).collect();
    let servers = servers.join(", ");
    let element = |zone: &Name| format!("- {{name: {}, forward: {{upstreams: [{servers}]}}}}\n", yaml(zone));
    Ok(stub.zones().iter().map(element).collect())
}

pub(super) fn cce(stub: &Stub) -> Result<String, Refusal> {
    zones_are_subdomains(stub, "CCE")?;
    let servers: Vec<_> = stub.servers().iter().map(server_text).collect();
    let zones: Vec<_> =
        stub.zones().iter().map(|zone| format!("{:?}:{}", zone.to_string(), json!(servers))).collect();
    Ok(format!("{{{}}}\n", zones.join(",")))
}

/// Every line further in; empty lines stay empty.
pub(super) fn indented(text: &str, by: usize) -> String {
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{:by$}{line}\n", "") };
    text.lines().map(line).collect()
}

/// A zone as YAML text.
pub(super) fn yaml(zone: &Name) -> String {
    yaml_text(&zone.to_string())
}

/// Text that YAML takes for text: quoted unless it is plainly a word or an IPv4 address.
pub(super) fn yaml_text(text: &str) -> String {
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_word = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    if (is_word && !reserved.contains(&text)) || text.parse::<std::net::Ipv4Addr>().is_ok() {
        text.to_owned()
    } else {
        format!("{text:?}")
    }
}
