//! Which objects hold the stub domains of a cluster, decided from a [`Survey`].
//!
//! There are one or two layers: cluster DNS itself, and NodeLocal DNSCache in front of it, whose root block goes past
//! cluster DNS to the node's resolver. In each, one object and one key is the place; a place that someone else writes
//! is only told about (`managed_by`).

mod imports;
mod mounts;
mod owners;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use self::imports::{Process, Root};
use self::mounts::{arguments, flag, mount_at};
use self::owners::flavour;
pub(super) use self::owners::writers;
use super::corefile::{self, Bind};
use super::emit::Flavour;
use super::survey::{KUBE_SYSTEM, Key, Survey, node_cache, template};
use super::{DNS_PORT, Refusal, RefusalKind};

/// The data key that is ours alone in a ConfigMap whose keys a Corefile imports.
pub const DATA_KEY: &str = "globaldns";
/// The key of kube-dns's ConfigMap.
pub const STUB_DOMAINS: &str = "stubDomains";
/// What the file is called where nothing says otherwise.
const COREFILE: &str = "Corefile";

/// Who answers pods there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Cluster DNS.
    ClusterDns,
    /// NodeLocal DNSCache.
    NodeLocal,
}

impl Role {
    /// As metrics and messages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::ClusterDns => "cluster-dns",
            Role::NodeLocal => "node-local",
        }
    }
}

/// One resolver that has to know our zones, and where it is told.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Whose configuration it is.
    pub role: Role,
    /// The distribution or product, for its text and its habits.
    pub flavour: Flavour,
    /// Where the stub domains go.
    pub place: Place,
    /// What was seen that led here, one sentence each.
    pub why: Vec<String>,
    /// Who else writes the place, so that an edit would not last.
    pub managed_by: Vec<String>,
    /// Where proof is asked for.
    pub endpoints: Vec<SocketAddr>,
    /// The address families the resolver has; empty for unknown.
    pub families: Vec<Family>,
    /// Its release, by the tag of its image.
    pub version: Option<Version>,
    /// What the container adds to the text of its Corefile.
    pub environment: Environment,
}

impl Layer {
    /// The place, as people and the record name it. No two layers of a cluster share one.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Nowhere | Place::Unclear(_) => format!("{} ({})", self.place.name(), self.role.as_str()),
            place => place.name(),
        }
    }
}

/// What a container adds to the text of its Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `-dns.port`.
    port: u16,
    /// `None` where the value comes from elsewhere.
    variables: BTreeMap<String, Option<String>>,
}

impl Default for Environment {
    fn default() -> Self {
        Environment { port: DNS_PORT, variables: BTreeMap::new() }
    }
}

impl Environment {
    fn of(container: &Container) -> Environment {
        let port = flag(&arguments(container), "dns.port").and_then(|text| text.parse().ok());
        let variables = container.env.iter().flatten().map(|variable| {
            let value = variable.value_from.is_none().then(|| variable.value.clone().unwrap_or_default());
            (variable.name.clone(), value)
        });
        Environment { port: port.unwrap_or(DNS_PORT), variables: variables.collect() }
    }

    /// Calls `with` with what [`corefile`] asks for. A variable that Kubernetes or the image may set is not known.
    pub fn process<T>(&self, with: impl FnOnce(&corefile::Process<'_>) -> T) -> T {
        let env = |name: &str| self.variables.get(name).cloned().flatten();
        with(&corefile::Process { port: self.port, env: &env })
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// A text of the process that reads a place: a Corefile or something it imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its ConfigMap.
    pub config_map: Key,
    /// Its key there.
    pub key: String,
    /// What it says.
    pub text: String,
}

impl Neighbour {
    /// As messages write it.
    pub fn name(&self) -> String {
        format!("ConfigMap {}/{} key {}", self.config_map.0, self.config_map.1, self.key)
    }

    fn is_at(&self, config_map: &Key, key: &str) -> bool {
        &self.config_map == config_map && self.key == key
    }
}

/// Where the stub domains go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A key of our own in a ConfigMap whose keys the Corefile imports.
    DataKey {
        /// The ConfigMap.
        config_map: Key,
        /// The key.
        key: String,
        /// The port of the root block.
        port: u16,
        /// What the root block binds to.
        bind: Bind,
        /// What else the process reads.
        beside: Vec<Neighbour>,
    },
    /// A block in somebody's Corefile.
    Corefile {
        /// The ConfigMap.
        config_map: Key,
        /// The key.
        key: String,
        /// The port of the root block.
        port: u16,
        /// What the root block binds to.
        bind: Bind,
        /// What else the process reads.
        beside: Vec<Neighbour>,
    },
    /// Entries in kube-dns's `stubDomains`.
    StubDomains {
        /// The ConfigMap.
        config_map: Key,
        /// The Corefile that NodeLocal adds them to, and what that imports.
        beside: Vec<Neighbour>,
        /// NodeLocal reads them, perhaps beside kube-dns.
        node_local: bool,
    },
    /// `spec.servers` of OpenShift's `dnses.operator.openshift.io/default`.
    OpenShift,
    /// `spec.zones` of Alibaba's `CustomDNSConfig` `default`.
    CustomDns,
    /// Nothing in this cluster can be edited.
    Nowhere,
    /// Nothing that can be edited safely was found, and why.
    Unclear(Refusal),
}

impl Place {
    /// The object and field, as people and the record name it.
    pub fn name(&self) -> String {
        match self {
            Place::DataKey { config_map, key, .. } | Place::Corefile { config_map, key, .. } => {
                format!("ConfigMap {}/{} {key}", config_map.0, config_map.1)
            }
            Place::StubDomains { config_map, .. } => {
                format!("ConfigMap {}/{} {STUB_DOMAINS}", config_map.0, config_map.1)
            }
            Place::OpenShift => "DNS.operator.openshift.io default spec.servers".to_owned(),
            Place::CustomDns => "CustomDNSConfig default spec.zones".to_owned(),
            Place::Nowhere | Place::Unclear(_) => "nothing".to_owned(),
        }
    }

    /// The ConfigMap, for places that are in one.
    pub fn config_map(&self) -> Option<&Key> {
        match self {
            Place::DataKey { config_map, .. }
            | Place::Corefile { config_map, .. }
            | Place::StubDomains { config_map, .. } => Some(config_map),
            _ => None,
        }
    }
}

/// A release of CoreDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// From an image reference; registries with ports and digests are no trouble.
    pub fn of_image(image: &str) -> Option<Version> {
        let name = image.split('@').next()?.rsplit('/').next()?;
        let tag = name.split_once(':')?.1.trim_start_matches('v');
        let mut numbers = tag.split(['.', '-', '_', '+']).map_while(|part| part.parse().ok());
        Some(Version(numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The layers of a cluster: cluster DNS first.
pub fn layers(survey: &Survey) -> Vec<Layer> {
    let mut layers = vec![cluster_dns(survey)];
    if let Some(layer) = survey.node_local.as_ref().and_then(|set| node_local(survey, set)) {
        // Where it takes the Service's address for itself, no pod reaches cluster DNS there.
        layers[0].endpoints.retain(|endpoint| !layer.endpoints.contains(endpoint));
        let same = layers.iter_mut().find(|other| is_same(&other.place, &layer.place));
        match same {
            // kube-dns and NodeLocal read the same key: one edit, proved at both.
            Some(other) => {
                other.endpoints.extend(layer.endpoints);
                other.why.extend(layer.why);
                other.place = layer.place;
            }
            None => layers.push(layer),
        }
    }
    layers
}

fn is_same(one: &Place, other: &Place) -> bool {
    one.config_map().is_some() && one.name() == other.name()
}

fn cluster_dns(survey: &Survey) -> Layer {
    let mut layer = Layer {
        role: Role::ClusterDns,
        flavour: Flavour::Coredns,
        place: Place::Nowhere,
        why: Vec::new(),
        managed_by: Vec::new(),
        endpoints: survey.endpoints.clone(),
        families: families(survey),
        version: None,
        environment: Environment::default(),
    };
    let service_address = survey.cluster_ips().into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT));
    layer.endpoints.extend(service_address);
    if survey.openshift.is_some() {
        layer.why.push("dnses.operator.openshift.io/default exists: OpenShift's DNS operator".to_owned());
        (layer.flavour, layer.place) = (Flavour::Openshift, Place::OpenShift);
        return layer;
    }
    if survey.custom_dns.is_some() {
        layer.why.push("CustomDNSConfig default exists: Alibaba's managed CoreDNS".to_owned());
        (layer.flavour, layer.place) = (Flavour::Ack, Place::CustomDns);
        return layer;
    }
    let (Some(service), Some(pod)) = (&survey.service, &survey.pod) else {
        nothing_there(survey, &mut layer);
        return layer;
    };
    let name = service.metadata.name.clone().unwrap_or_default();
    layer.why.push(format!("Service {}/{name} is what pods ask", survey.namespace()));
    if let Some(workload) = &survey.workload {
        let its_name = workload.metadata.name.as_deref().unwrap_or_default();
        layer.why.push(format!("{} {its_name} runs its pods", workload.kind));
    }
    if let Some(mount) = kube_dns_mount(pod, survey) {
        layer.why.push("its pods run kube-dns, which reads stubDomains".to_owned());
        layer.flavour = Flavour::KubeDns;
        if let Err(refusal) = readable(survey, &mount) {
            layer.place = Place::Unclear(refusal);
            return layer;
        }
        layer.managed_by = writers(survey, &mount, STUB_DOMAINS);
        layer.place = Place::StubDomains { config_map: mount, beside: Vec::new(), node_local: false };
        return layer;
    }
    coredns(survey, pod, &mut layer);
    layer
}

/// No pods behind a Service: the platform answers by itself.
fn nothing_there(survey: &Survey, layer: &mut Layer) {
    let has_label = |label: &str, value: &str| {
        let node = survey.node.as_ref().and_then(|n| n.metadata.labels.as_ref());
        node.and_then(|labels| labels.get(label)).is_some_and(|v| v == value)
    };
    let gke_metadata = IpAddr::from([169, 254, 169, 254]);
    if survey.nameservers.contains(&gke_metadata) {
        layer.flavour = Flavour::GkeCloudDns;
        layer.why.push(
            "the name server is 169.254.169.254: GKE's Cloud DNS, which no object here tells".to_owned(),
        );
    } else if has_label("eks.amazonaws.com/compute-type", "auto") {
        layer.flavour = Flavour::EksAuto;
        layer.why.push("no pods of cluster DNS, and the nodes are EKS Auto Mode's".to_owned());
    } else {
        layer
            .why
            .push("no Service of cluster DNS with pods was found in kube-system or openshift-dns".to_owned());
    }
}

/// The families of the Service pods ask: an address of another family would cost a timeout on every other miss.
fn families(survey: &Survey) -> Vec<Family> {
    let spec = survey.service.as_ref().and_then(|service| service.spec.as_ref());
    let listed = spec.and_then(|spec| spec.ip_families.as_ref()).into_iter().flatten();
    let listed: Vec<_> =
        listed.map(|family| if family == "IPv6" { Family::V6 } else { Family::V4 }).collect();
    if !listed.is_empty() {
        return listed;
    }
    survey.cluster_ips().into_iter().map(Family::of).collect()
}

/// The ConfigMap that classic kube-dns reads, if these pods are kube-dns.
fn kube_dns_mount(pod: &PodSpec, survey: &Survey) -> Option<Key> {
    let image = |c: &&Container| c.image.as_deref().is_some_and(|image| image.contains("k8s-dns-kube-dns"));
    let container = pod.containers.iter().find(|c| c.name == "kubedns" || image(c))?;
    let arguments = arguments(container);
    let dir = flag(&arguments, "config-dir").unwrap_or_else(|| "/kube-dns-config".to_owned());
    let name = mount_at(pod, container, &dir).map_or_else(|| "kube-dns".to_owned(), |m| m.config_map);
    Some((survey.namespace(), name))
}

fn coredns(survey: &Survey, pod: &PodSpec, layer: &mut Layer) {
    let is_coredns = |c: &&Container| {
        c.image.as_deref().is_some_and(|image| image.contains("coredns"))
            || arguments(c).iter().any(|a| a.trim_start_matches('-').starts_with("conf"))
    };
    let Some(container) = pod.containers.iter().find(is_coredns) else {
        let images: Vec<_> = pod.containers.iter().filter_map(|c| c.image.as_deref()).collect();
        layer.place = unclear(
            format!("the pods of cluster DNS run neither CoreDNS nor kube-dns but {}", images.join(", ")),
            "configure its stub domains by hand; `globaldns stub-domains emit --list` has texts for others",
        );
        return;
    };
    layer.environment = Environment::of(container);
    layer.version = container.image.as_deref().and_then(Version::of_image);
    if let Some(version) = layer.version {
        layer.why.push(format!("its pods run CoreDNS {version}"));
    }
    let path = flag(&arguments(container), "conf").unwrap_or_else(|| format!("/{COREFILE}"));
    let Some(file) = mount_at(pod, container, &path) else {
        layer.place = unclear(
            format!("no ConfigMap is mounted at {path}, from where CoreDNS reads its Corefile"),
            "tell it by hand: `globaldns stub-domains emit --for coredns`",
        );
        return;
    };
    let key = file.key.clone().unwrap_or_else(|| COREFILE.to_owned());
    let main: Key = (survey.namespace(), file.config_map.clone());
    layer.why.push(format!("it reads {path}: ConfigMap {}/{} key {key}", main.0, main.1));
    if file.sub_path {
        layer.why.push("mounted by subPath: a change is seen only after a restart of the pods".to_owned());
    }
    if let Err(refusal) = readable(survey, &main) {
        layer.place = Place::Unclear(refusal);
        return;
    }
    let Some(text) = survey.text(&main, &key) else {
        layer.place = unclear(
            format!("ConfigMap {}/{} has no key {key}", main.0, main.1),
            "restore the Corefile of cluster DNS first",
        );
        return;
    };
    let process = Process { survey, namespace: survey.namespace(), pod, container, path: &path };
    layer.flavour = flavour(survey, &main);
    layer.place = process.place(&main, &key, text, layer);
    layer.managed_by = match &layer.place {
        Place::Corefile { config_map, key, .. } => writers(survey, config_map, key),
        _ => Vec::new(),
    };
}

fn node_local(survey: &Survey, set: &DaemonSet) -> Option<Layer> {
    let pod = template(set)?;
    let container = node_cache(&pod).or_else(|| pod.containers.first())?;
    let name = set.metadata.name.clone().unwrap_or_default();
    let arguments = arguments(container);
    let addresses = flag(&arguments, "localip").unwrap_or_default();
    // With iptables rules the address of the Service is one of them.
    let endpoints: Vec<_> = addresses
        .split(',')
        .filter_map(|text| text.trim().parse().ok())
        .map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT))
        .collect();
    let volumes = pod.volumes.iter().flatten().filter_map(|v| v.config_map.as_ref());
    let names: Vec<String> = volumes.map(|source| source.name.clone()).collect();
    let mut layer = Layer {
        role: Role::NodeLocal,
        flavour: Flavour::Nodelocal,
        place: Place::Nowhere,
        why: vec![format!(
            "DaemonSet {KUBE_SYSTEM}/{name} is NodeLocal DNSCache, which asks the node's resolver, not cluster DNS, for other names"
        )],
        managed_by: Vec::new(),
        endpoints,
        families: families(survey),
        version: None,
        environment: Environment::default(),
    };
    let forbidden = names.iter().map(|name| readable(survey, &(KUBE_SYSTEM.to_owned(), name.clone())));
    if let Some(refusal) = forbidden.filter_map(Result::err).next() {
        layer.place = Place::Unclear(refusal);
        return Some(layer);
    }
    let path = flag(&arguments, "conf").unwrap_or_else(|| format!("/etc/coredns/{COREFILE}"));
    let process = Process { survey, namespace: KUBE_SYSTEM.to_owned(), pod: &pod, container, path: &path };
    // The base Corefile is whatever else the pod mounts, under the names its file has had.
    let of_base = names.iter().filter(|name| *name != "kube-dns").find_map(|name| {
        let key: Key = (KUBE_SYSTEM.to_owned(), name.clone());
        let entries = entries(survey, &key);
        let (file, text) = entries.into_iter().find(|(file, _)| file.starts_with(COREFILE))?;
        Some((key.clone(), file.to_owned(), text.to_owned()))
    });
    if names.iter().any(|name| name == "kube-dns") {
        layer.why.push("it mounts ConfigMap kube-dns, so stubDomains is read".to_owned());
        let config_map = (KUBE_SYSTEM.to_owned(), "kube-dns".to_owned());
        layer.managed_by = writers(survey, &config_map, STUB_DOMAINS);
        let mut beside = Vec::new();
        if let Some((base, file, text)) = &of_base {
            beside.push(neighbour(base, file, text));
            // What cannot be read is the plan's to refuse: a removal goes on.
            let imports = Root::read(text, &layer.environment).map(|root| root.imports).unwrap_or_default();
            match process.imported(base, file, &imports) {
                Ok(imported) => beside.extend(imported.beside),
                Err(refusal) => {
                    layer.place = Place::Unclear(refusal);
                    return Some(layer);
                }
            }
        }
        layer.place = Place::StubDomains { config_map, beside, node_local: true };
        return Some(layer);
    }
    layer.flavour = Flavour::NodelocalCorefile;
    let Some((config_map, key, text)) = of_base else {
        layer.place = unclear(
            format!("no Corefile was found in the ConfigMaps that DaemonSet {KUBE_SYSTEM}/{name} mounts"),
            "tell it by hand: `globaldns stub-domains emit --for nodelocal-corefile`",
        );
        return Some(layer);
    };
    layer.managed_by = writers(survey, &config_map, &key);
    if config_map.1 == "nodelocaldns" {
        layer.flavour = Flavour::Kubespray;
        layer.managed_by.push("kubespray (its ConfigMap is called nodelocaldns)".to_owned());
    }
    layer.environment = Environment::of(container);
    let read = Root::read(&text, &layer.environment)
        .and_then(|root| Ok((process.imported(&config_map, &key, &root.imports)?.beside, root)));
    layer.place = match read {
        Ok((beside, Root { port, bind, .. })) => Place::Corefile { config_map, key, port, bind, beside },
        Err(refusal) => Place::Unclear(refusal),
    };
    Some(layer)
}

fn unclear(why: String, remedy: &str) -> Place {
    Place::Unclear(Refusal::new(RefusalKind::Unsure, "", why, remedy))
}

/// Whether what a ConfigMap says, or that it does not exist, is known.
fn readable(survey: &Survey, config_map: &Key) -> Result<(), Refusal> {
    if !survey.is_forbidden(config_map) {
        return Ok(());
    }
    let (namespace, name) = config_map;
    Err(Refusal::new(
        RefusalKind::Unsure,
        "",
        format!("ConfigMap {namespace}/{name} cannot be read"),
        "grant get, list, watch, update and patch on it: docs/stub-domains.md (Rights)",
    ))
}

fn neighbour(config_map: &Key, key: &str, text: &str) -> Neighbour {
    Neighbour { config_map: config_map.clone(), key: key.to_owned(), text: text.to_owned() }
}

fn entries<'s>(survey: &'s Survey, config_map: &Key) -> Vec<(&'s str, &'s str)> {
    let data = survey.config_map(config_map).and_then(|map| map.data.as_ref());
    data.into_iter().flatten().map(|(key, text)| (key.as_str(), text.as_str())).collect()
}

#[cfg(test)]
mod tests;
