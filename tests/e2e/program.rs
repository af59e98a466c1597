//! The program under test: the real binary, its log, and its admin listener.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::dns::Resolver;
use crate::process::Process;
use crate::wait::{DEADLINE, poll, wait_until};

/// A running `globaldns serve`.
pub(crate) struct Program {
    /// Where it answers DNS.
    pub(crate) dns_addr: SocketAddr,
    /// Where its admin listener is.
    pub(crate) admin_addr: SocketAddr,
    log: Log,
    process: Process,
}

/// One line of its log.
#[derive(Clone)]
pub(crate) struct LogLine {
    pub(crate) text: String,
    json: Value,
}

impl fmt::Debug for LogLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl LogLine {
    /// `WARN` or `ERROR`.
    pub(crate) fn is_complaint(&self) -> bool {
        self.json["level"] == "WARN" || self.json["level"] == "ERROR"
    }

    fn message(&self) -> &str {
        self.json["fields"]["message"].as_str().unwrap_or_default()
    }
}

impl Program {
    /// Starts `serve` with this kubeconfig and more `arguments`, and waits until both listeners are bound.
    pub(crate) fn start(arguments: &[&str], kubeconfig: &Path) -> Self {
        Self::start_at(["127.0.0.1:0"; 2], arguments, kubeconfig)
    }

    /// The same with given addresses for DNS and for the admin listener.
    pub(crate) fn start_at([dns, admin]: [&str; 2], arguments: &[&str], kubeconfig: &Path) -> Self {
        let mut command = command(kubeconfig, "serve");
        command
            .args(["--listen", dns, "--admin-listen", admin])
            .args(["--lameduck", "0s", "--log-format", "json"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = Process::start("globaldns", command);
        let log = Log::follow(process.take_stderr().expect("stderr is piped"));
        let mut address = |message: &str| {
            let found = poll(DEADLINE, || {
                if let Some(end) = process.ended() {
                    panic!("{end}");
                }
                log.address(message)
            });
            found.unwrap_or_else(|| panic!("no line {message:?} in the log:\n{}", log.text()))
        };
        let dns_addr = address("serving DNS");
        let admin_addr = address("serving admin");
        Self { dns_addr, admin_addr, log, process }
    }

    /// Starts `serve` and waits until it is ready.
    pub(crate) fn start_ready(arguments: &[&str], kubeconfig: &Path) -> Self {
        let program = Self::start(arguments, kubeconfig);
        program.wait_until_ready();
        program
    }

    /// Ends it at once, as the kernel does when memory is short.
    pub(crate) fn kill(mut self) {
        self.process.stop();
    }

    /// Ends it with SIGTERM, as Kubernetes does, and asserts that it ends well (L5).
    #[track_caller]
    pub(crate) fn terminate(mut self) {
        let killed = Command::new("kill").arg(self.id().to_string()).status().expect("run kill");
        assert!(killed.success(), "{killed}");
        let end = poll(DEADLINE, || self.process.ended());
        assert_eq!(end.as_deref(), Some("globaldns ended with exit status: 0"));
    }

    /// Its process id, good as long as it has not ended.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The most memory that was ever resident, as the kernel writes it.
    pub(crate) fn peak_memory(&self) -> String {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.map_or_else(|| "unknown".to_owned(), |peak| peak.trim().to_owned())
    }

    /// A DNS client of this program.
    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::new(self.dns_addr)
    }

    /// Whether `/ready` is 200 now.
    pub(crate) fn ready(&self) -> bool {
        matches!(self.get("/ready"), Some((200, _)))
    }

    #[track_caller]
    pub(crate) fn wait_until_ready(&self) {
        wait_until("/ready is 200", DEADLINE, || self.ready());
    }

    /// The value of one sample of `/metrics`: the name and exactly these labels, in any order.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let (status, text) = self.get("/metrics")?;
        assert_eq!(status, 200, "/metrics: {text}");
        text.lines().filter(|line| !line.starts_with('#')).find_map(|line| sample(line, name, labels))
    }

    /// Every line of the log so far that says that something is wrong.
    pub(crate) fn complaints(&self) -> Vec<LogLine> {
        self.log.lines().iter().filter(|line| line.is_complaint()).cloned().collect()
    }

    /// Waits for a line for which `wanted` holds and returns it.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, what: &str, wanted: impl Fn(&LogLine) -> bool) -> LogLine {
        let found = poll(DEADLINE, || self.log.lines().iter().find(|line| wanted(line)).cloned());
        found.unwrap_or_else(|| panic!("no line in the log: {what}"))
    }

    /// Asserts that the process has not ended.
    #[track_caller]
    pub(crate) fn assert_running(&mut self) {
        assert_eq!(self.process.ended(), None);
    }

    /// Status and body of a GET from the admin listener.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin_addr).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: e2e\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        let (head, body) = reply.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of globaldns ---\n{}", self.log.text());
        }
    }
}

/// Runs `globaldns` to its end with `arguments` and this kubeconfig.
pub(crate) fn run(subcommand: &str, arguments: &[&str], kubeconfig: &Path) -> Output {
    command(kubeconfig, subcommand).args(arguments).stdin(Stdio::null()).output().expect("run globaldns")
}

fn command(kubeconfig: &Path, subcommand: &str) -> Command {
    let ours = std::env::var_os("GLOBALDNS_E2E_BINARY");
    let mut command = Command::new(ours.unwrap_or_else(|| env!("CARGO_BIN_EXE_globaldns").into()));
    command.args(subcommand.split(' ')).arg("--kubeconfig").arg(kubeconfig);
    // The caller's own configuration is none of the tests' business.
    for (name, _) in std::env::vars_os() {
        if name == "KUBECONFIG" || name.to_string_lossy().starts_with("GLOBALDNS_") {
            command.env_remove(name);
        }
    }
    command
}

/// `name{label="value",…} number`, if the line is that sample.
fn sample(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (found, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    let mut found: Vec<&str> = found.split(',').filter(|pair| !pair.is_empty()).collect();
    let mut wanted: Vec<String> =
        labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    if found != wanted {
        return None;
    }
    value.split(' ').next()?.parse().ok()
}

struct Log {
    lines: Arc<Mutex<Vec<LogLine>>>,
    _reader: JoinHandle<()>,
}

impl Log {
    fn follow(stderr: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for text in BufReader::new(stderr).lines().map_while(Result::ok) {
                let json = serde_json::from_str(&text).unwrap_or_default();
                let line = LogLine { text, json };
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { lines, _reader: reader }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<LogLine>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        let lines = self.lines();
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        texts.join("\n")
    }

    /// The `address` of the first line with this message.
    fn address(&self, message: &str) -> Option<SocketAddr> {
        let lines = self.lines();
        let line = lines.iter().find(|line| line.message() == message)?;
        let address = line.json["fields"]["address"].as_str()?;
        Some(address.parse().expect("an address in the log"))
    }
}
