//! Pods in which CoreDNS servers are started one after the other, and the node with globaldns that links them.

use std::collections::VecDeque;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::coredns::{CoreDns, DIRECTORY, Start, dns_port};
use crate::corpus::{Case, Refused};
use crate::dns::{Answer, Resolver};
use crate::pod::{Mount, Pod};
use crate::process::{Process, fresh_directory};

/// A zone of addresses that is forwarded, too.
pub(crate) const REVERSE: &str = "240.in-addr.arpa";
/// Where globaldns listens.
pub(crate) const OUR_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 53);
/// The address of `echo.default.global` in `examples/banzai-multimesh`.
pub(crate) const ECHO: Ipv4Addr = Ipv4Addr::new(127, 255, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// Addresses that Corefiles of the corpus bind.
const BOUND: [Ipv4Addr; 3] =
    [Ipv4Addr::new(169, 254, 20, 10), Ipv4Addr::new(169, 254, 25, 10), Ipv4Addr::new(10, 96, 0, 10)];
/// `kubernetes` waits five seconds for an API server that is not there, so most of the time nobody works.
const JUDGES: u8 = 32;

/// A version number; what is not said is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(pub(crate) u16, pub(crate) u16, pub(crate) u16);

/// A CoreDNS that can be started.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) number: Number,
    program: PathBuf,
}

impl Version {
    /// Its program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }
}

/// A pod with room for one CoreDNS, which reaches globaldns.
pub(crate) struct Judge {
    directory: PathBuf,
    pod: Pod,
}

/// Where globaldns runs.
struct Node {
    _globaldns: Process,
    pod: Pod,
}

/// A CoreDNS that answers.
pub(crate) struct Running {
    process: CoreDns,
    resolver: Resolver,
}

impl Number {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = text.split('.').map(|part| part.parse().expect("a version number"));
        let mut next = || parts.next().unwrap_or(0);
        Self(next(), next(), next())
    }
}

/// The versions that `tests/coredns/install` has provided.
pub(crate) fn versions() -> Vec<Version> {
    let list = std::env::var("GLOBALDNS_COREDNS")
        .expect("GLOBALDNS_COREDNS is not set; run these tests with tests/coredns/run");
    let version = |line: &str| {
        let (version, program) = line.split_once(' ').expect("a version and a path");
        Version { number: Number::parse(version.trim_start_matches('v')), program: program.into() }
    };
    let versions: Vec<Version> = list.lines().map(version).collect();
    assert!(!versions.is_empty(), "GLOBALDNS_COREDNS names no CoreDNS");
    versions
}

/// What a test has one of for each judgement.
pub(crate) trait Named {
    fn name(&self) -> String;
}

impl Named for (&Case, &Version) {
    fn name(&self) -> String {
        format!("{} with {:?}", self.0.name, self.1.number)
    }
}

impl Named for (&Refused, &Version) {
    fn name(&self) -> String {
        format!("refused/{} with {:?}", self.0.case.name, self.1.number)
    }
}

/// Judges all of `items`, several at a time, and fails with everything that was wrong.
pub(crate) fn for_each<T: Named + Copy + Send>(
    items: Vec<T>,
    judge: impl Fn(&Judge, T) -> Result<(), String> + Sync,
) {
    let queue = Mutex::new(VecDeque::from(items));
    let wrong = Mutex::new(Vec::new());
    let node = Node::new();
    let work = |number: u8| {
        let room = Judge::new(&node, number);
        loop {
            let item = queue.lock().expect("no judge panics with it").pop_front();
            let Some(item) = item else { return };
            if let Err(error) = judge(&room, item) {
                wrong.lock().expect("no judge panics with it").push(format!("{}: {error}", item.name()));
            }
        }
    };
    let work = &work;
    std::thread::scope(|scope| {
        for number in 0..JUDGES {
            scope.spawn(move || work(number));
        }
    });
    let mut wrong = wrong.into_inner().expect("no judge panics with it");
    wrong.sort();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

impl Node {
    fn new() -> Self {
        let pod = Pod::start("node", &[]);
        pod.become_node(NODE);
        pod.add_address(OUR_SERVICE);
        let _globaldns = start_globaldns(&pod, &fresh_directory("node").join("globaldns.log"));
        Self { _globaldns, pod }
    }
}

impl Judge {
    fn new(node: &Node, number: u8) -> Self {
        let directory = fresh_directory("judge");
        for (name, file, text) in
            [("config", "Corefile", ""), ("user", "Corefile", ""), ("secrets", "token", "-")]
        {
            fs::create_dir(directory.join(name)).expect("create a directory");
            fs::write(directory.join(name).join(file), text).expect("write a file");
        }
        let mount = |name: &str, path: &str| Mount { source: directory.join(name), path: path.to_owned() };
        let mounts = [
            mount("config", DIRECTORY),
            mount("user", "/etc/coredns-user"),
            mount("secrets", "/var/run/secrets/kubernetes.io/serviceaccount"),
        ];
        let pod = Pod::start("judge", &mounts);
        for address in BOUND {
            pod.add_address(address);
        }
        pod.join(&node.pod, Ipv4Addr::new(10, 244, 0, 2 + number));
        pod.route(&format!("{OUR_SERVICE}/32"), NODE);
        Self { directory, pod }
    }

    /// Makes this the Corefile, with what is in `beside` beside it.
    pub(crate) fn put(&self, beside: &Path, text: &str) {
        let (config, user) = (self.directory.join("config"), self.directory.join("user"));
        empty(&config);
        empty(&user);
        if beside.is_dir() {
            copy(beside, &config);
        }
        if beside.join("user").is_dir() {
            copy(&beside.join("user"), &user);
        }
        fs::write(config.join("Corefile"), text).expect("write a Corefile");
    }

    /// Starts this version with the Corefile and waits until it answers at `at`; the end of its log if it ends.
    pub(crate) fn start(&self, version: &Version, at: SocketAddr) -> Result<Running, String> {
        let log = self.directory.join("coredns.log");
        let _ = fs::remove_file(&log);
        let mut process = CoreDns::start(
            &self.pod,
            &Start {
                program: &version.program,
                corefile: &format!("{DIRECTORY}/Corefile"),
                // Nobody is there.
                api_server: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
                log: &log,
            },
        );
        process.wait_until_it_answers(&self.pod, at)?;
        let resolver = self.pod.inside(|| Resolver::new(at));
        Ok(Running { process, resolver })
    }
}

impl Running {
    /// Whether our zones are answered by us through it, and others are not.
    pub(crate) fn forwards(&mut self) -> Result<(), String> {
        let ours = self.ask("echo.default.global", RecordType::A)?;
        let other = self.ask("echo.default.global.example", RecordType::A)?;
        let echo = |answer: &Answer| answer.addresses.contains(&ECHO.into());
        if !echo(&ours) || echo(&other) {
            return Err(format!("{ours:?}, {other:?}"));
        }
        // The reverse zone is ours, and what pods and services have stays its own: we would refuse it.
        let ours = self.ask(&format!("6.0.0.{REVERSE}"), RecordType::PTR)?;
        let other = self.ask("10.0.96.10.in-addr.arpa", RecordType::PTR)?;
        let split = ours.rcode == ResponseCode::NoError && other.rcode != ResponseCode::Refused;
        if split { Ok(()) } else { Err(format!("{ours:?}, {other:?}")) }
    }

    /// What it answers to a question.
    fn ask(&mut self, name: &str, record_type: RecordType) -> Result<Answer, String> {
        // A first packet may wait for the neighbour's address, and get lost.
        let answer = (0..3).find_map(|_| self.resolver.ask(name, record_type));
        answer.ok_or_else(|| format!("{name}: no answer\n{}", self.process.log_tail()))
    }
}

fn start_globaldns(pod: &Pod, log: &Path) -> Process {
    let mut command = pod.command(Path::new(env!("CARGO_BIN_EXE_globaldns")));
    let listen = dns_port(OUR_SERVICE);
    // In a pod, paths begin at the root.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/banzai-multimesh");
    // It has 240.0.0.6.
    let named = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gke");
    command
        .args(["serve", "--file", file, "--file", named, "--reverse", "240.0.0.0/8"])
        .args(["--admin-listen", "127.0.0.1:9154"])
        .args(["--listen", &listen.to_string()]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GLOBALDNS_"))
    {
        command.env_remove(name);
    }
    let process = Process::start_with_log("globaldns", command, log);
    let echo = Answer::of(&[&ECHO.to_string()]);
    pod.inside(|| Resolver::new(listen)).wait_for("echo.default.global", &echo);
    process
}

fn empty(directory: &Path) {
    for entry in fs::read_dir(directory).expect("list a directory") {
        let path = entry.expect("an entry").path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("empty a directory");
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("list a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&to).expect("create a directory");
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copy a file");
        }
    }
}
