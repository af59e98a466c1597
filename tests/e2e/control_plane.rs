//! A real etcd and a real kube-apiserver on loopback.
//!
//! TLS and RBAC are on; users come from a static token file. There is no controller manager:
//! nothing deletes the content of a namespace, makes service-account tokens or runs pods.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::credentials::{Credentials, User};
use crate::pod::at_home;
use crate::process::{Process, fresh_directory, tail};
use crate::wait::poll;

/// Longer than a start takes on a machine that has much else to do; a long run has many.
const START: Duration = Duration::from_secs(300);

/// etcd, kube-apiserver and an administrator's connection to them.
pub(crate) struct ControlPlane {
    directory: PathBuf,
    binaries: PathBuf,
    credentials: Credentials,
    etcd_port: u16,
    peer_port: u16,
    api_port: u16,
    api_server: Option<Process>,
    etcd: Process,
    /// Objects, as an administrator.
    pub(crate) cluster: Cluster,
}

/// The control plane that tests share, alone and in its initial state: API server running,
/// CRD served in all versions, no ServiceEntry anywhere, rights as documented.
pub(crate) fn shared() -> MutexGuard<'static, Option<ControlPlane>> {
    static SHARED: Mutex<Option<ControlPlane>> = Mutex::new(None);
    // A failed test poisons it; what it left behind is what `reset` is for.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    match shared.as_mut() {
        Some(plane) => plane.reset(),
        None => *shared = Some(ControlPlane::start()),
    }
    shared
}

/// Runs `test` with the shared control plane.
pub(crate) fn with_shared(test: impl FnOnce(&mut ControlPlane)) {
    let mut shared = shared();
    test(shared.as_mut().expect("started by `shared`"));
}

impl ControlPlane {
    /// Starts both with nothing but the ServiceEntry CRD and the users' rights in them.
    pub(crate) fn start() -> Self {
        // More than one provider is linked into some builds; rustls then refuses to choose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = fresh_directory("control-plane");
        let binaries = binaries();
        let credentials = Credentials::create(&directory);
        let (etcd_port, peer_port, api_port) = (free_port(), free_port(), free_port());
        let etcd = start_etcd(&binaries, &directory, etcd_port, peer_port);
        let admin = credentials.kubeconfig(User::Admin, api_port);
        let mut plane = Self {
            cluster: Cluster::connect(&admin),
            directory,
            binaries,
            credentials,
            etcd_port,
            peer_port,
            api_port,
            api_server: None,
            etcd,
        };
        plane.start_api_server();
        plane.cluster.install_crd();
        plane.cluster.grant_documented_rights();
        plane
    }

    /// A kubeconfig of `user`.
    pub(crate) fn kubeconfig(&self, user: User) -> PathBuf {
        self.kubeconfig_through(user, self.api_port)
    }

    /// A kubeconfig of `user` that reaches the API server through another port of loopback.
    pub(crate) fn kubeconfig_through(&self, user: User, port: u16) -> PathBuf {
        self.credentials.kubeconfig(user, port)
    }

    /// A kubeconfig that takes its token from a file.
    pub(crate) fn kubeconfig_with_token_file(&self, file: &Path) -> PathBuf {
        self.credentials.kubeconfig_of("token-file", &json!({ "tokenFile": file }), self.api_port)
    }

    /// The certificate that the API server's is signed with.
    pub(crate) fn ca_certificate(&self) -> PathBuf {
        self.credentials.path("ca.crt")
    }

    /// The API server's port.
    pub(crate) fn port(&self) -> u16 {
        self.api_port
    }

    /// Kills the API server. etcd keeps running.
    pub(crate) fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// Kills etcd, and leaves what it has on disk.
    pub(crate) fn stop_etcd(&mut self) {
        self.etcd.stop();
    }

    /// Starts etcd on its port again, and waits until the API server is ready.
    pub(crate) fn start_etcd(&mut self) {
        // As in `start_api_server`.
        let start = || start_etcd(&self.binaries, &self.directory, self.etcd_port, self.peer_port);
        self.etcd = at_home(start);
        self.start_api_server();
    }

    /// Starts the API server on its port, unless it runs, and waits until it is ready.
    pub(crate) fn start_api_server(&mut self) {
        if self.api_server.is_none() {
            // Its port is one of our own loopback, also when a test is in a pod.
            let process = at_home(|| self.spawn_api_server());
            self.api_server = Some(process);
        }
        let ready = poll(START, || {
            let mut processes = self.api_server.iter_mut().chain([&mut self.etcd]);
            let ended = processes.find_map(Process::ended);
            drop(processes);
            if let Some(end) = ended {
                panic!("{end}; {}\n{}", self.free_space(), self.logs());
            }
            self.cluster.is_ready().then_some(())
        });
        assert!(ready.is_some(), "no ready API server after {START:?}\n{}", self.logs());
    }

    /// Stops the API server where it is, as a machine does that has no time for it, or lets it go on.
    pub(crate) fn freeze_api_server(&self, frozen: bool) {
        let pid = self.api_server.as_ref().expect("it runs").id().to_string();
        let signal = if frozen { "STOP" } else { "CONT" };
        let status = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(status.expect("kill runs").success(), "SIG{signal} is delivered");
    }

    /// What etcd holds now, for [`restore`](Self::restore). The API server goes on.
    pub(crate) fn back_up(&mut self) -> PathBuf {
        let backup = fresh_directory("backup").join("etcd");
        self.stop_etcd();
        copy(&self.directory.join("etcd"), &backup);
        self.start_etcd();
        backup
    }

    /// Restores etcd from a backup, and restarts the API server, as Kubernetes' documentation asks for.
    pub(crate) fn restore(&mut self, backup: &Path) {
        let present = self.directory.join("etcd");
        self.stop_etcd();
        std::fs::remove_dir_all(&present).expect("remove what etcd holds");
        copy(backup, &present);
        self.stop_api_server();
        self.start_etcd();
    }

    /// Makes every watch from before this call expire (`410 Gone`): moves the revision on,
    /// compacts etcd's history, and restarts the API server, whose watch cache would
    /// otherwise still know the events.
    pub(crate) fn expire_watches(&mut self) {
        self.cluster.move_revision();
        let before = self.cluster.revision();
        self.cluster.move_revision();
        self.stop_api_server();
        self.compact(self.etcd_revision());
        self.start_api_server();
        self.cluster.assert_watch_expired(&before);
    }

    /// How often `user` has asked `verb` of the ServiceEntries, by the API server's audit log.
    pub(crate) fn requests(&self, user: User, verb: &str) -> usize {
        self.audit(user).filter(|event| event["verb"] == verb).count()
    }

    /// How often the API server has refused `user` the ServiceEntries for want of rights.
    pub(crate) fn refusals(&self, user: User) -> usize {
        self.audit(user).filter(|event| event["responseStatus"]["code"] == 403).count()
    }

    /// The API versions in which `user` has listed the ServiceEntries, in order.
    pub(crate) fn versions_listed(&self, user: User) -> Vec<String> {
        self.audit(user)
            .filter(|event| event["verb"] == "list")
            .filter_map(|event| Some(event["objectRef"]["apiVersion"].as_str()?.to_owned()))
            .collect()
    }

    fn audit(&self, user: User) -> impl Iterator<Item = Value> {
        let log = std::fs::read_to_string(self.directory.join("audit.log")).unwrap_or_default();
        let events: Vec<Value> = log
            .lines()
            // The last line may be half-written.
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|event: &Value| {
                event["user"]["username"] == user.name() && event["objectRef"]["resource"] == "serviceentries"
            })
            .collect();
        events.into_iter()
    }

    fn reset(&mut self) {
        // A test that failed may have left it as it was.
        if self.api_server.is_some() {
            self.freeze_api_server(false);
        }
        self.start_api_server();
        self.cluster.reset();
    }

    fn spawn_api_server(&self) -> Process {
        let path = |name: &str| self.credentials.path(name).display().to_string();
        let mut command = Command::new(self.binaries.join("kube-apiserver"));
        command.args([
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            // Compaction happens when a test wants it.
            "--etcd-compaction-interval=0".into(),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            // Loopback may not be in an EndpointSlice.
            "--endpoint-reconciler-type=none".into(),
            format!("--secure-port={}", self.api_port),
            format!("--cert-dir={}", self.directory.display()),
            format!("--tls-cert-file={}", path("server.crt")),
            format!("--tls-private-key-file={}", path("server.key")),
            "--authorization-mode=RBAC".into(),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-signing-key-file={}", path("service-accounts.key")),
            format!("--service-account-key-file={}", path("service-accounts.pub")),
            "--service-cluster-ip-range=10.0.0.0/16".into(),
            "--disable-admission-plugins=ServiceAccount".into(),
            format!("--audit-policy-file={}", path("audit-policy.yaml")),
            format!("--audit-log-path={}", path("audit.log")),
            "--profiling=false".into(),
            "--v=0".into(),
        ]);
        Process::start_with_log("kube-apiserver", command, &self.log("kube-apiserver"))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    fn logs(&self) -> String {
        ["etcd", "kube-apiserver"].map(|name| tail(&self.log(name), 30)).join("\n")
    }

    /// etcd whose disk is full ends without a word in its log.
    fn free_space(&self) -> String {
        let directory = self.directory.display();
        match nix::sys::statvfs::statvfs(&self.directory) {
            Ok(disk) => {
                let free = disk.blocks_available() * disk.fragment_size();
                format!("{} MiB are free in {directory}", free >> 20)
            }
            Err(error) => format!("how much is free in {directory} is not known: {error}"),
        }
    }

    fn etcd_revision(&self) -> i64 {
        // "AA==" is the key \0: the cheapest question whose header tells the revision.
        let reply = self.ask_etcd("/v3/kv/range", r#"{"key":"AA==","count_only":true}"#);
        let revision = reply["header"]["revision"].as_str().map(str::parse);
        revision.and_then(Result::ok).unwrap_or_else(|| panic!("no revision in etcd's reply: {reply}"))
    }

    fn compact(&self, revision: i64) {
        let body = format!(r#"{{"revision":"{revision}","physical":true}}"#);
        let reply = self.ask_etcd("/v3/kv/compaction", &body);
        assert!(reply.get("header").is_some(), "etcd did not compact: {reply}");
    }

    /// One call of etcd's HTTP gateway, which every etcd since 3.4 serves on its client port.
    fn ask_etcd(&self, path: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.etcd_port)).expect("connect to etcd");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set a read timeout");
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).expect("ask etcd");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("read etcd's reply");
        let body = reply.split_once("\r\n\r\n").map(|(_, body)| body);
        body.and_then(|body| serde_json::from_str(body).ok())
            .unwrap_or_else(|| panic!("not an etcd reply: {reply}"))
    }
}

fn start_etcd(binaries: &Path, directory: &Path, port: u16, peer_port: u16) -> Process {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut command = Command::new(binaries.join("etcd"));
    command.args([
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--logger=zap".into(),
        "--log-level=warn".into(),
    ]);
    Process::start_with_log("etcd", command, &directory.join("etcd.log"))
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(status.expect("cp runs").success(), "copy {} to {}", from.display(), to.display());
}

fn binaries() -> PathBuf {
    let remedy = "run the end-to-end tests with tests/e2e/run, which provides etcd and kube-apiserver";
    let directory = std::env::var_os("KUBEBUILDER_ASSETS")
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("KUBEBUILDER_ASSETS is not set; {remedy}"));
    for name in ["etcd", "kube-apiserver"] {
        let path = directory.join(name);
        assert!(path.exists(), "{} does not exist; {remedy}", path.display());
    }
    directory
}

/// A loopback port that is free now and that the kernel gives to nobody else.
///
/// Below the ephemeral range: a client that keeps dialling a closed port *inside* it is one
/// day given that very port as its source, connects to itself, and holds the port.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 9_000).expect("below 9,000");
    (0..9_000)
        .map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 9_000)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port between 20,000 and 29,000")
}
