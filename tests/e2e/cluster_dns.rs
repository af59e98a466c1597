//! Cluster DNS: its objects in the API server, real CoreDNS processes that answer for its pods, and what
//! a kubelet does for them.
//!
//! ```text
//! node (bridge 10.244.0.1, our Service's 10.0.0.53, node-local 169.254.20.10)
//!  ├─ coredns-0  10.244.0.2   and the ClusterIP of kube-dns, 10.0.0.10
//!  └─ coredns-1  10.244.0.3   and the ClusterIP of kube-dns-upstream, 10.0.0.11
//! ```
//!
//! Each of them has a network of its own, in which the API server is where it is for us: on the same port
//! of loopback, through a [`Gate`]. What a test starts in [`ClusterDns::inside`] is on the node: it reaches
//! the pods, the Services above, and the API server.
//!
//! The objects are octet for octet what an installer writes. Only the copy that a process reads differs:
//! `reload` there is `reload 2s 1s`, for speed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::control_plane::ControlPlane;
use crate::coredns::{CoreDns, DIRECTORY, Start, dns_port};
use crate::credentials::User;
use crate::dns::{Answer, Resolver};
use crate::gate::Gate;
use crate::pod::{Mount, Pod};
use crate::process::fresh_directory;
use crate::wait::{DEADLINE, poll};

mod kubelet;
mod objects;

use kubelet::{Kubelet, Volume};

/// The ClusterIP of the Service in front of globaldns: an address of the node.
pub(crate) const OUR_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 53);
/// All ClusterIPs.
const SERVICES: &str = "10.0.0.0/16";
/// The ClusterIP of cluster DNS.
pub(crate) const KUBE_DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// The ClusterIP that a node's cache asks.
const KUBE_DNS_UPSTREAM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
/// Where a node's cache listens.
pub(crate) const NODE_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const PODS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 244, 0, 2), Ipv4Addr::new(10, 244, 0, 3)];

const NAMESPACE: &str = "kube-system";
const SECRETS: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How cluster DNS was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// As kubeadm does: everything in the ConfigMap `coredns`.
    Kubeadm,
    /// As AKS does: a Corefile that imports `*.server` from `coredns-custom`, which is optional and not there.
    Custom,
    /// As kubeadm does, with the cache on every node, which takes stub domains from the ConfigMap `kube-dns`;
    /// that is optional and not there.
    NodeLocal,
    /// As kubeadm does, but only the objects: nothing runs, and the node itself has the ClusterIP. For what
    /// concerns writers alone.
    Objects,
}

/// A running cluster DNS. Dropping it ends its processes and deletes its objects.
pub(crate) struct ClusterDns {
    flavour: Flavour,
    cluster: Cluster,
    program: PathBuf,
    api_port: u16,
    servers: Vec<Server>,
    kubelet: Kubelet,
    secrets: PathBuf,
    // Last: what is above lives in it.
    node: Node,
}

/// One process of cluster DNS and where it answers.
struct Server {
    name: String,
    address: SocketAddr,
    corefile: String,
    log: PathBuf,
    process: CoreDns,
    /// None: on the node.
    node: Option<Node>,
}

/// A network with the API server in it.
struct Node {
    pod: Pod,
    _gate: Gate,
}

impl ClusterDns {
    /// Creates the objects, starts the processes, and waits until each answers.
    pub(crate) fn start(plane: &ControlPlane, flavour: Flavour) -> Self {
        let program = program();
        let directory = fresh_directory("cluster-dns");
        let cluster = Cluster::connect(&plane.kubeconfig(User::Admin));
        objects::delete(&cluster);
        objects::create(&cluster, flavour);

        let secrets = directory.join("service-account");
        std::fs::create_dir(&secrets).expect("create a directory");
        std::fs::write(secrets.join("token"), objects::token(&cluster)).expect("write a token");
        std::fs::copy(plane.ca_certificate(), secrets.join("ca.crt")).expect("copy the CA certificate");
        std::fs::write(secrets.join("namespace"), NAMESPACE).expect("write a namespace");

        let api_port = plane.port();
        let volumes = volumes(flavour, &directory);
        let kubelet = Kubelet::start(Cluster::connect(&plane.kubeconfig(User::Admin)), volumes.clone());
        let mounts = |of: &str| {
            let of = volumes.iter().filter(|volume| volume.of == of);
            let mut mounts: Vec<Mount> = of.map(|volume| volume.mount.clone()).collect();
            mounts.push(Mount { source: secrets.clone(), path: SECRETS.to_owned() });
            mounts
        };

        let node = Node::start("node", &mounts("node"), api_port);
        node.pod.become_node(NODE);
        for address in [OUR_SERVICE, NODE_LOCAL] {
            node.pod.add_address(address);
        }
        let mut servers = Vec::new();
        if flavour == Flavour::Objects {
            node.pod.add_address(KUBE_DNS);
            return Self { flavour, cluster, program, api_port, servers, kubelet, secrets, node };
        }
        for (number, (address, service)) in PODS.into_iter().zip([KUBE_DNS, KUBE_DNS_UPSTREAM]).enumerate() {
            let name = format!("coredns-{number}");
            let home = Node::start(&name, &mounts("coredns"), api_port);
            home.pod.join(&node.pod, address);
            home.pod.route(SERVICES, NODE);
            home.pod.add_address(service);
            node.pod.route(&format!("{service}/32"), address);
            let corefile = format!("{DIRECTORY}/Corefile");
            let log = directory.join(format!("{name}.log"));
            let process = start(&home.pod, &program, &corefile, api_port, &log);
            let node = Some(home);
            servers.push(Server { name, address: dns_port(address), corefile, log, process, node });
        }
        if flavour == Flavour::NodeLocal {
            let name = "node-local-dns".to_owned();
            let corefile = format!("{}/Corefile", kubelet::RENDERED);
            let log = directory.join(format!("{name}.log"));
            let process = start(&node.pod, &program, &corefile, api_port, &log);
            let address = dns_port(NODE_LOCAL);
            servers.push(Server { name, address, corefile, log, process, node: None });
        }
        let mut dns = Self { flavour, cluster, program, api_port, servers, kubelet, secrets, node };
        for number in 0..dns.servers.len() {
            dns.wait_until_answers(number);
        }
        dns
    }

    /// Calls `inside` on the node: what is started and asked there reaches the pods of cluster DNS, its
    /// Service, and the API server; and [`OUR_SERVICE`] is an address of it.
    pub(crate) fn inside<T>(&self, inside: impl FnOnce() -> T) -> T {
        self.node.pod.inside(inside)
    }

    /// Makes one more address the node's, as a further Service of ours would be.
    pub(crate) fn add_address(&self, address: Ipv4Addr) {
        self.node.pod.add_address(address);
    }

    /// The present Corefile.
    pub(crate) fn corefile(&self) -> String {
        self.value(self.corefile_map(), "Corefile").expect("a Corefile")
    }

    /// The name of the ConfigMap with the Corefile.
    pub(crate) fn corefile_map(&self) -> &'static str {
        "coredns"
    }

    /// Changes the Corefile as somebody else with an editor would.
    pub(crate) fn edit(&self, change: impl FnOnce(&str) -> String) {
        let path = config_map(self.corefile_map());
        let mut object = self.cluster.get(&path);
        let text = object["data"]["Corefile"].as_str().expect("a Corefile");
        object["data"]["Corefile"] = change(text).into();
        let replaced = self.cluster.call(
            "PUT",
            &format!("{path}?fieldManager=kubectl-edit"),
            "application/json",
            &object,
        );
        replaced.unwrap_or_else(|error| panic!("PUT {path}: {error}"));
    }

    /// One value of a ConfigMap of kube-system.
    pub(crate) fn value(&self, name: &str, key: &str) -> Option<String> {
        let object = self.cluster.call("GET", &config_map(name), "application/json", &Value::Null);
        Some(object.ok()?["data"][key].as_str()?.to_owned())
    }

    /// Sets one value of a ConfigMap of kube-system as somebody else would; creates the ConfigMap if need be.
    pub(crate) fn set_value(&self, name: &str, key: &str, value: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "data": { key: value },
        });
        self.cluster.create_unless_present(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps"), &object);
        self.cluster.merge(&config_map(name), &json!({ "data": { key: value } }));
    }

    /// How long after a change of a ConfigMap its pods see it; nothing at first. Real ones take a minute.
    pub(crate) fn set_kubelet_sync_delay(&self, delay: Duration) {
        self.kubelet.set_delay(delay);
    }

    /// The pods of the Service, and the node's cache where there is one.
    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// What each endpoint answers to `name` A; `None` if nothing within two seconds.
    pub(crate) fn dig(&self, name: &str) -> Vec<Option<Answer>> {
        let ask = |address| self.inside(|| Resolver::new(address)).a(name).map(unsigned);
        self.endpoints().into_iter().map(ask).collect()
    }

    /// What the Service's ClusterIP answers to `name` A.
    pub(crate) fn dig_service(&self, name: &str) -> Option<Answer> {
        self.inside(|| Resolver::new(dns_port(KUBE_DNS))).a(name).map(unsigned)
    }

    /// Waits until every endpoint answers `name` A like this, whoever has the authority.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str, expected: &Answer) {
        let expected = Some(unsigned(expected.clone()));
        let mut last = Vec::new();
        let seen = poll(DEADLINE, || {
            last = self.dig(name);
            last.iter().all(|answer| *answer == expected).then_some(())
        });
        if seen.is_none() {
            panic!("{name} A: not within {DEADLINE:?}: {expected:?}; last: {last:?}\n{}", self.logs());
        }
    }

    /// Ends one process and starts it on the files it has now, as after an eviction: panics with its log
    /// if it does not answer again.
    pub(crate) fn restart_one(&mut self, number: usize) {
        let server = &mut self.servers[number];
        let pod = server.node.as_ref().map_or(&self.node.pod, |node| &node.pod);
        // The old one holds the port until it is gone.
        server.process.stop();
        server.process = start(pod, &self.program, &server.corefile, self.api_port, &server.log);
        self.wait_until_answers(number);
    }

    /// Whether a pod of cluster DNS that starts now, with what is in its ConfigMaps now, answers; its log if not.
    /// Nothing that runs is touched.
    pub(crate) fn restarts_cleanly(&self) -> Result<(), String> {
        let directory = fresh_directory("restart");
        for (of, corefile, port) in self.kinds() {
            let volumes = volumes(self.flavour, &directory.join(of));
            let mut mounts = vec![Mount { source: self.secrets.clone(), path: SECRETS.to_owned() }];
            mounts.extend(volumes.iter().filter(|volume| volume.of == of).map(|volume| volume.mount.clone()));
            kubelet::sync_once(&self.cluster, &volumes);
            let node = Node::start("restart", &mounts, self.api_port);
            node.pod.add_address(NODE_LOCAL);
            let log = directory.join(format!("{of}.log"));
            let mut process = start(&node.pod, &self.program, &corefile, self.api_port, &log);
            process.wait_until_it_answers(&node.pod, port).map_err(|error| format!("{of}: {error}"))?;
        }
        Ok(())
    }

    /// The kinds of pods there are: name, Corefile, where one answers.
    fn kinds(&self) -> Vec<(&'static str, String, SocketAddr)> {
        let mut kinds = vec![("coredns", format!("{DIRECTORY}/Corefile"), dns_port(Ipv4Addr::LOCALHOST))];
        if self.flavour == Flavour::NodeLocal {
            kinds.push(("node", format!("{}/Corefile", kubelet::RENDERED), dns_port(NODE_LOCAL)));
        }
        kinds
    }

    /// Everything the processes said, for the message of a failed test.
    pub(crate) fn logs(&self) -> String {
        let logs =
            self.servers.iter().map(|server| format!("{}: {}", server.name, server.process.log_tail()));
        logs.collect::<Vec<_>>().join("\n")
    }

    fn wait_until_answers(&mut self, number: usize) {
        let server = &mut self.servers[number];
        let answers = server.process.wait_until_it_answers(&self.node.pod, server.address);
        answers.unwrap_or_else(|error| panic!("{}: {error}", server.name));
    }
}

impl Drop for ClusterDns {
    fn drop(&mut self) {
        self.kubelet.stop();
        // A failed test may have left no API server; the next start deletes what is left.
        if self.cluster.is_ready() {
            objects::delete(&self.cluster);
        }
    }
}

impl Node {
    fn start(name: &str, mounts: &[Mount], api_port: u16) -> Self {
        let pod = Pod::start(name, mounts);
        let listener = pod.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, api_port)));
        let _gate = Gate::on(listener.expect("bind the API server's port in a pod"), api_port);
        Self { pod, _gate }
    }
}

fn start(pod: &Pod, program: &Path, corefile: &str, api_port: u16, log: &Path) -> CoreDns {
    let api_server = SocketAddr::from((Ipv4Addr::LOCALHOST, api_port));
    CoreDns::start(pod, &Start { program, corefile, api_server, log })
}

/// Which ConfigMaps the pods of a flavour mount, and where; the files are below `directory`.
fn volumes(flavour: Flavour, directory: &Path) -> Vec<Volume> {
    let volume = |of, config_map, items: &[(&'static str, &'static str)], path: &str| {
        let source = directory.join("volumes").join(of).join(config_map);
        std::fs::create_dir_all(&source).expect("create a directory");
        Volume { of, config_map, items: items.to_vec(), mount: Mount { source, path: path.to_owned() } }
    };
    let mut volumes = vec![volume("coredns", "coredns", &[("Corefile", "Corefile")], DIRECTORY)];
    match flavour {
        Flavour::Kubeadm | Flavour::Objects => {}
        Flavour::Custom => {
            // A mount point inside another mount has to be there before.
            std::fs::create_dir_all(volumes[0].mount.source.join("custom")).expect("create a directory");
            volumes.push(volume("coredns", "coredns-custom", &[], &format!("{DIRECTORY}/custom")));
        }
        Flavour::NodeLocal => {
            volumes.push(volume("node", "node-local-dns", &[("Corefile", "Corefile.base")], DIRECTORY));
            volumes.push(volume("node", "kube-dns", &[], "/etc/kube-dns"));
            volumes.push(volume("node", kubelet::RENDERED_MAP, &[], kubelet::RENDERED));
        }
    }
    volumes
}

fn config_map(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{name}")
}

/// The answer without who has the authority: caches and their versions differ in that.
fn unsigned(answer: Answer) -> Answer {
    Answer { authoritative: false, ..answer }
}

fn program() -> PathBuf {
    let program = std::env::var_os("GLOBALDNS_E2E_COREDNS").map(PathBuf::from);
    let program = program.filter(|program| program.exists());
    program.expect("GLOBALDNS_E2E_COREDNS names no CoreDNS; run the end-to-end tests with tests/e2e/run")
}
