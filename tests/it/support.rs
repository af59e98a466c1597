//! The real program as a child process: started on free ports, waited for, ended by its handle.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest wait for anything that is about to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// What [`Program::serve`] adds.
const DEFAULTS: [(&str, &str); 4] = [
    ("--listen", "127.0.0.1:0"),
    ("--admin-listen", "127.0.0.1:0"),
    ("--lameduck", "0s"),
    ("--log-format", "json"),
];
/// Between two looks at something that does not announce itself.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The program with arguments, in the root of the package and with none of our variables in its environment.
pub(crate) fn globaldns(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_globaldns"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("KUBECONFIG").stdin(Stdio::null());
    // clap finds the width of a terminal in this one.
    command.env_remove("COLUMNS");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"GLOBALDNS_") {
            command.env_remove(name);
        }
    }
    command
}

/// Looks until `found` finds something. `what` names it in the failure.
pub(crate) fn wait_until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end.
pub(crate) fn run(command: Command) -> Ended {
    Program::spawn(command).wait()
}

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    stdout: Arc<Captured>,
    stderr: Arc<Captured>,
    /// Where it serves DNS, in the order of `--listen`.
    pub(crate) dns: Vec<SocketAddr>,
    /// Where it serves DNS over gRPC, in the order of `--grpc-listen`.
    pub(crate) grpc: Vec<SocketAddr>,
    /// Where it serves DNS over TLS, HTTPS and QUIC, by this name.
    pub(crate) encrypted: Vec<(String, SocketAddr)>,
    /// Its admin listener.
    pub(crate) admin: Option<SocketAddr>,
}

impl Program {
    /// `globaldns serve`, ready: on free ports of 127.0.0.1, without lameduck time and with JSON logs unless
    /// the arguments say otherwise.
    pub(crate) fn serve(args: &[&str]) -> Program {
        let mut command = globaldns(&["serve"]);
        command.args(args);
        for (flag, value) in DEFAULTS {
            if !args.contains(&flag) {
                command.args([flag, value]);
            }
        }
        let mut program = Program::spawn(command);
        program.ready();
        program
    }

    /// Starts any command without waiting for anything.
    pub(crate) fn spawn(mut command: Command) -> Program {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = Captured::read(child.stdout.take().expect("standard output is a pipe"));
        let stderr = Captured::read(child.stderr.take().expect("standard error is a pipe"));
        Program {
            child,
            stdout,
            stderr,
            dns: Vec::new(),
            grpc: Vec::new(),
            encrypted: Vec::new(),
            admin: None,
        }
    }

    /// Starts `globaldns serve` with a standard error of the caller's, which nobody has to read. Waits until it serves DNS
    /// on one address of 127.0.0.1, and the admin pages on another; finds both in `/proc`.
    pub(crate) fn with_stderr(mut command: Command, stderr: impl Into<Stdio>) -> Program {
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().expect("the program starts");
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let mut program = Program {
            child,
            stdout,
            stderr,
            dns: Vec::new(),
            grpc: Vec::new(),
            encrypted: Vec::new(),
            admin: None,
        };
        let (dns, admin) = wait_until("two listeners", || {
            let listeners = program.listeners("tcp", "0A");
            let dns = *program.listeners("udp", "07").first()?;
            Some((dns, *listeners.iter().find(|port| **port != dns)?))
        });
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        (program.dns, program.admin) = (vec![local(dns)], Some(local(admin)));
        program
    }

    /// The local ports of its IPv4 sockets of a protocol that are in a state, as `/proc/net` writes it.
    fn listeners(&self, protocol: &str, state: &str) -> Vec<u16> {
        let process = format!("/proc/{}", self.child.id());
        let Ok(all) = std::fs::read_dir(format!("{process}/fd")) else { return Vec::new() };
        let open: Vec<_> = all.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).collect();
        let table = std::fs::read_to_string(format!("{process}/net/{protocol}")).unwrap_or_default();
        let port = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let ours = Path::new(&format!("socket:[{}]", fields.get(9)?)).to_owned();
            let listens = fields[3] == state && open.contains(&ours);
            listens.then(|| u16::from_str_radix(fields[1].split_once(':')?.1, 16).ok())?
        };
        table.lines().skip(1).filter_map(port).collect()
    }

    /// How many descriptors it has.
    pub(crate) fn descriptors(&self) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        all.expect("a running program").count()
    }

    /// Waits for the log line "ready" and takes the addresses from those before it. Needs JSON logs.
    pub(crate) fn ready(&mut self) {
        self.log("ready", |_| true);
        self.take_addresses();
    }

    /// Waits until the sockets are bound, ready or not. Needs `--listen` and `--admin-listen`, and JSON logs.
    pub(crate) fn listening(&mut self) {
        self.log("serving admin", |_| true);
        self.take_addresses();
    }

    fn take_addresses(&mut self) {
        self.dns.clear();
        self.grpc.clear();
        self.encrypted.clear();
        for line in self.stderr.lines().iter().filter_map(|line| fields(line)) {
            let address = || {
                let text = line["address"].as_str().expect("an address in the log");
                text.parse().expect("an address and port")
            };
            match line["message"].as_str() {
                Some("serving DNS") => self.dns.push(address()),
                Some("serving DNS over gRPC") => self.grpc.push(address()),
                Some(other) if let Some(over) = other.strip_prefix("serving DNS over ") => {
                    self.encrypted.push((over.to_owned(), address()));
                }
                Some("serving admin") => self.admin = Some(address()),
                _ => {}
            }
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its state as ps prints it: `T` is stopped.
    pub(crate) fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a program");
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("a state")
    }

    /// The names of its threads, in order.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a running program");
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        let mut names: Vec<_> = tasks.filter_map(name).map(|name| name.trim_end().to_owned()).collect();
        names.sort();
        names
    }

    /// The first address of DNS over TLS, HTTPS or QUIC.
    pub(crate) fn over(&self, name: &str) -> SocketAddr {
        let found = self.encrypted.iter().find(|(over, _)| over == name);
        found.unwrap_or_else(|| panic!("DNS over {name} is not served")).1
    }

    /// The first DNS address.
    pub(crate) fn dns(&self) -> SocketAddr {
        *self.dns.first().expect("the program serves DNS")
    }

    /// Waits for a log line with this message whose fields pass, and returns its fields.
    pub(crate) fn log(&self, message: &str, passes: impl Fn(&Value) -> bool) -> Value {
        self.stderr.wait_for(&format!("the log line {message:?}"), |line| {
            fields(line).filter(|fields| fields["message"] == message && passes(fields))
        })
    }

    /// Waits for a log line that contains a text anywhere, quotes unescaped.
    pub(crate) fn log_containing(&self, text: &str) -> String {
        let unescaped = |line: &str| line.replace("\\\"", "\"");
        self.stderr.wait_for(&format!("a log line with {text:?}"), |line| {
            line.contains(text).then(|| unescaped(line))
        })
    }

    /// Everything on standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The body of a page of the admin listener, with its status.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let admin = self.admin.expect("the program has an admin listener");
        let mut stream = TcpStream::connect(admin).expect("the admin listener accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("a request can be sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("the whole reply arrives");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        (status, body.to_owned())
    }

    /// The findings as the metrics count them, once they are exactly as many as given: code and number.
    pub(crate) fn findings(&self, expected: &[(&str, u64)]) {
        let mut last = Vec::new();
        wait_until(&format!("the findings {expected:?}"), || {
            let (_, metrics) = self.get("/metrics");
            let found: Vec<(String, u64)> = metrics
                .lines()
                .filter_map(|line| {
                    let rest = line.strip_prefix("globaldns_findings{code=\"")?;
                    let count = rest.rsplit_once(' ')?.1.parse().ok().filter(|count| *count > 0)?;
                    Some((rest.split_once('"')?.0.to_owned(), count))
                })
                .collect();
            if found != last {
                eprintln!("findings: {found:?}");
                last.clone_from(&found);
            }
            found
                .iter()
                .map(|(code, count)| (code.as_str(), *count))
                .eq(expected.iter().copied())
                .then_some(())
        });
    }

    /// Sends a signal such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success(), "SIG{name} is delivered");
    }

    /// Waits for the end of one whose standard error is the caller's.
    pub(crate) fn wait_for_code(mut self) -> Option<i32> {
        wait_until("the end of the program", || self.child.try_wait().expect("the child can be waited for"))
            .code()
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Ended {
        let status: ExitStatus = wait_until("the end of the program", || {
            self.child.try_wait().expect("the child can be waited for")
        });
        Ended { code: status.code(), stdout: self.stdout.to_end(), stderr: self.stderr.to_end() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- standard error of the program\n{}", self.stderr.text());
        }
    }
}

fn fields(line: &str) -> Option<Value> {
    serde_json::from_str::<Value>(line).ok()?.get("fields").cloned()
}

/// What a program has written so far, line by line.
#[derive(Default)]
struct Captured {
    state: Mutex<CapturedState>,
    changed: Condvar,
}

#[derive(Default)]
struct CapturedState {
    lines: Vec<String>,
    ended: bool,
}

impl Captured {
    fn read(pipe: impl Read + Send + 'static) -> Arc<Captured> {
        let captured = Arc::new(Captured::default());
        let writer = captured.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            loop {
                let mut line = Vec::new();
                let more = pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0);
                let mut state = writer.lock();
                if more {
                    state.lines.push(String::from_utf8_lossy(&line).into_owned());
                } else {
                    state.ended = true;
                }
                writer.changed.notify_all();
                if !more {
                    return;
                }
            }
        });
        captured
    }

    fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    fn text(&self) -> String {
        self.lock().lines.concat()
    }

    /// The whole text, once the program has closed the pipe.
    fn to_end(&self) -> String {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, DEADLINE, |state| !state.ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(state.ended, "the pipe is still open");
        state.lines.concat()
    }

    fn wait_for<T>(&self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut seen = 0;
        let mut state = self.lock();
        loop {
            if let Some(found) = state.lines[seen..].iter().find_map(|line| found(line)) {
                return found;
            }
            seen = state.lines.len();
            let left = DEADLINE.saturating_sub(begun.elapsed());
            assert!(!state.ended && !left.is_zero(), "no {what} in:\n{}", state.lines.concat());
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, CapturedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
