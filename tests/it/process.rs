//! Faults of the process: signals, a log that nobody reads, descriptors that are used up. Answers go on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::api_server::{ApiServer, Fault};
use crate::cluster::{answer, spawn, spec, wait_answer, wait_metric};
use crate::support::{DEADLINE, Program, globaldns, wait_until};

const EXAMPLE: [&str; 2] = ["--file", "examples/banzai-multimesh"];
/// A name of the example.
const NAME: &str = "echo.default.global";
const DROPPED: &str = "globaldns_log_lines_dropped_total";
const UP: &str = "globaldns_source_up{source=\"kubernetes\"}";
const AGE: &str = "globaldns_source_contact_age_seconds{source=\"kubernetes\"}";

/// A query for A of a name.
pub(crate) fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// A socket for one server.
pub(crate) fn client(server: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.connect(server).expect("an address");
    client.set_read_timeout(Some(DEADLINE)).expect("possible");
    client
}

/// The id of a reply that has an address.
pub(crate) fn answered(client: &UdpSocket) -> std::io::Result<u16> {
    let mut reply = [0; 512];
    let length = client.recv(&mut reply)?;
    assert!(length > 40 && reply[3] & 15 == 0 && reply[7] == 1, "{:?}", &reply[..length]);
    Ok(u16::from_be_bytes([reply[0], reply[1]]))
}

fn framed(id: u16) -> Vec<u8> {
    let message = query(id, NAME);
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

/// Asks over a connection that is open; false if it was closed instead of the reply's beginning.
fn ask(stream: &mut TcpStream, id: u16) -> bool {
    let mut head = [0; 4];
    if stream.write_all(&framed(id)).is_err() || stream.read_exact(&mut head).is_err() {
        return false;
    }
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[0], head[1]])) - 2];
    stream.read_exact(&mut rest).expect("a reply that has begun is whole");
    assert_eq!(u16::from_be_bytes([head[2], head[3]]), id);
    assert!(rest[1] & 15 == 0 && rest[5] == 1, "{rest:?}");
    true
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("possible");
    stream
}

/// Sends `window` queries at a time until the server is gone. Returns how many were sent and answered; of one socket
/// none is left out before one that is answered.
fn load_udp(server: SocketAddr, window: u16, progress: &AtomicUsize) -> (usize, usize) {
    let client = client(server);
    let (mut sent, mut received) = (0usize, 0usize);
    loop {
        while sent - received < usize::from(window) {
            if client.send(&query(sent as u16, NAME)).is_err() {
                return (sent, received);
            }
            sent += 1;
        }
        match answered(&client) {
            Ok(id) => assert_eq!(id, received as u16, "an earlier query was not answered, and this one was"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return (sent, received),
            Err(error) => panic!("{error}: a query is neither answered nor refused"),
        }
        received += 1;
        progress.fetch_add(1, Ordering::Relaxed);
    }
}

/// [L5] Every query sent before one that was answered is answered, too: there are no holes.
#[test]
fn nothing_that_arrived_before_the_end_is_lost_under_load() {
    let program = Program::serve(&[&EXAMPLE[..], &["--lameduck", "1s", "--workers", "2"]].concat());
    let server = program.dns();
    let (progress, signalled) = (AtomicUsize::new(0), AtomicBool::new(false));
    let load = |window| load_udp(server, window, &progress);
    std::thread::scope(|scope| {
        // One that has sent one query is answered or refused, and never waits in vain.
        let udp: Vec<_> = [1, 1, 1, 1, 32, 32]
            .map(|window| {
                let load = &load;
                scope.spawn(move || load(window))
            })
            .into();
        let tcp: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut stream, mut id) = (connect(server), 0u16);
                    loop {
                        let before = !signalled.load(Ordering::SeqCst);
                        if !ask(&mut stream, id) {
                            assert!(!before, "a query sent before the signal was not answered");
                            return;
                        }
                        id = id.wrapping_add(1);
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        wait_until("load", || (progress.load(Ordering::Relaxed) > 2000).then_some(()));
        let at_signal = progress.load(Ordering::Relaxed);
        signalled.store(true, Ordering::SeqCst);
        program.signal("TERM");
        for client in tcp {
            client.join().expect("no reply is lost over TCP");
        }
        for client in udp {
            let (sent, received) = client.join().expect("no reply is lost over UDP");
            assert!(sent - received <= 32);
        }
        assert!(progress.load(Ordering::Relaxed) > at_signal, "the lameduck time is one of answers");
    });
    assert_eq!(program.wait().code, Some(0));
}

/// Stops the program for some time; meanwhile a name changes and queries come. Nothing is lost, nothing is stale.
fn stopped_and_continued(stopped: Duration) {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/a", spec(NAME, "240.0.0.1"));
    let mut program = spawn(&api, &[]);
    program.ready();
    let clients = [(); 4].map(|()| client(program.dns()));
    let mut stream = connect(program.dns());
    assert!(ask(&mut stream, 7));
    program.signal("STOP");
    wait_until("the stop", || (program.state() == 'T').then_some(()));
    api.apply("foo/b", spec("b.global", "240.0.0.2"));
    let begun = Instant::now();
    for id in 0..100 {
        clients.iter().for_each(|client| _ = client.send(&query(id, NAME)).expect("sent"));
    }
    stream.write_all(&framed(8)).expect("sent");
    // The fault is a length of time.
    while begun.elapsed() < stopped {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    program.signal("CONT");
    for id in 0..100 {
        clients.iter().for_each(|client| assert_eq!(answered(client).expect("a reply"), id));
    }
    assert_eq!(answer(&program, NAME), "NOERROR 240.0.0.1");
    wait_answer(&program, "b.global", "NOERROR 240.0.0.2");
    if stopped < Duration::from_secs(20) {
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("a reply over TCP");
    }
    wait_metric(&program, UP, |up| up == 1.0);
    wait_metric(&program, AGE, |age| age < 20.0);
    api.apply("foo/c", spec("c.global", "240.0.0.3"));
    wait_answer(&program, "c.global", "NOERROR 240.0.0.3");
    assert_eq!(program.get("/ready").0, 200);
    // Longer than a watch lasts, it is begun anew; a watch is no failure.
    let stderr = program.stderr();
    assert!(stopped > Duration::from_secs(40) || !stderr.contains("WARN"), "{stderr}");
}

/// [L2] [L4]
#[test]
fn a_program_that_was_stopped_goes_on_where_it_was() {
    stopped_and_continued(Duration::from_secs(3));
}

/// [L2] [L4] Longer than any time limit there is.
#[test]
#[ignore = "takes 70 s: cargo test --test it -- --ignored"]
fn a_program_that_was_stopped_for_a_minute_goes_on_where_it_was() {
    stopped_and_continued(Duration::from_secs(65));
}

/// The program over the scripted server and a directory of files, with a standard error that nobody reads.
struct Unheard {
    api: ApiServer,
    files: tempfile::TempDir,
    program: Program,
}

impl Unheard {
    fn start(stderr: impl Into<Stdio>) -> Unheard {
        let (api, files) = (ApiServer::start(&["v1"]), tempfile::tempdir().expect("a temporary directory"));
        let mut command = globaldns(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--lameduck", "0s", "--kubernetes", "--kubeconfig", api.kubeconfig(), "--file"]);
        command.arg(files.path());
        let program = Program::with_stderr(command, stderr);
        wait_until("readiness", || (program.get("/ready").0 == 200).then_some(()));
        Unheard { api, files, program }
    }

    /// Has more lines written than wait anywhere, one for each file. Everything else goes on.
    fn goes_on(&self) {
        for i in 0..2000 {
            let spec = spec(&format!("file{i}.global"), "240.0.0.1");
            let object = serde_json::json!({"kind": "ServiceEntry", "metadata": {"name": format!("f{i}")}, "spec": spec});
            std::fs::write(self.files.path().join(format!("{i}.json")), object.to_string()).expect("written");
        }
        wait_answer(&self.program, "file1999.global", "NOERROR 240.0.0.1");
        wait_metric(&self.program, DROPPED, |dropped| dropped > 0.0);
        // The same thread logs this, hears changes and serves these pages.
        self.api.set_fault(Fault::Status(500));
        wait_metric(&self.program, UP, |up| up == 0.0);
        self.api.set_fault(Fault::None);
        wait_metric(&self.program, UP, |up| up == 1.0);
        self.api.apply("foo/a", spec("a.global", "240.0.0.2"));
        wait_answer(&self.program, "a.global", "NOERROR 240.0.0.2");
        assert_eq!(self.program.get("/ready").0, 200);
    }

    fn ends(self) {
        self.program.signal("TERM");
        assert_eq!(self.program.wait_for_code(), Some(0));
    }
}

/// [L1] [L2] [L5] A pipe takes 64 KiB; then whoever writes to it waits until somebody reads.
#[test]
fn a_log_that_nobody_reads_holds_up_nothing_not_even_the_end() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let unheard = Unheard::start(writer);
    unheard.goes_on();
    unheard.ends();
    drop(reader);
}

/// [L1] [L2] [L5] Nobody is there who could read it: EPIPE.
#[test]
fn a_log_whose_reader_is_gone_holds_up_nothing() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let unheard = Unheard::start(writer);
    unheard.goes_on();
    unheard.ends();
}

/// [L1] [X1] It has no standard error at all (EBADF), or one without a reader, and its message goes nowhere.
#[test]
fn a_program_without_standard_error_serves_and_ends_with_its_code() {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec \"$0\" \"$@\" 2>&-",
        env!("CARGO_BIN_EXE_globaldns"),
        "serve",
        "--lameduck",
        "0s",
    ]);
    command.args(EXAMPLE).args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let program = Program::with_stderr(command, Stdio::null());
    wait_answer(&program, NAME, "NOERROR 127.255.0.1");
    program.signal("TERM");
    assert_eq!(program.wait_for_code(), Some(0));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command =
        globaldns(&["serve", "--file", "/nowhere", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    let status = command.stdout(Stdio::null()).stderr(writer).status().expect("it starts");
    assert_eq!(status.code(), Some(2));
    // One that is full, and stays so.
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b' '; 65_536]).expect("a pipe has as much room");
    let mut command =
        globaldns(&["serve", "--file", "/nowhere", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    let mut child = command.stdout(Stdio::null()).stderr(writer).spawn().expect("it starts");
    let status = wait_until("the end", || child.try_wait().expect("it can be waited for"));
    assert_eq!(status.code(), Some(2));
    drop(reader);
}

/// [L1] Slow readers, requests that do not end, and a hundred scrapes a second.
#[test]
fn the_admin_listener_cannot_be_used_up_and_answers_do_not_notice() {
    let program = Program::serve(&EXAMPLE);
    let admin = program.admin.expect("an admin listener");
    let before = program.descriptors();
    let mut held = Vec::new();
    for i in 0..300 {
        let mut stream = TcpStream::connect(admin).expect("connects");
        let request = if i % 2 == 0 { "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" } else { "GET /metrics HT" };
        // It may have had to make room already.
        let _ = stream.write_all(request.as_bytes());
        held.push(stream);
    }
    // One more, for whoever is just accepted.
    wait_until("no more than 32 connections", || (program.descriptors() <= before + 33).then_some(()));
    let progress = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = client(program.dns());
            while !done.load(Ordering::Relaxed) {
                client.send(&query(1, NAME)).expect("sent");
                answered(&client).expect("a reply");
                progress.fetch_add(1, Ordering::Relaxed);
            }
        });
        let begun = Instant::now();
        for n in 0..300 {
            // A hundred a second, where the machine can.
            std::thread::sleep((n * Duration::from_millis(10)).saturating_sub(begun.elapsed()));
            let (status, page) = program.get("/metrics");
            assert!(status == 200 && page.contains("globaldns_ready 1"), "{status} {page}");
        }
        println!("{:.0} scrapes a second", 300.0 / begun.elapsed().as_secs_f64());
        let scraped = progress.load(Ordering::Relaxed);
        wait_until("more answers", || (progress.load(Ordering::Relaxed) > scraped).then_some(()));
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(program.get("/health").0, 200);
    assert!(program.descriptors() <= before + 33);
    drop(held);
    wait_until("all of them gone", || (program.descriptors() <= before + 1).then_some(()));
}

/// [L1] A request that does not come has five seconds, and is no longer there then.
#[test]
fn a_request_that_does_not_come_is_not_waited_for() {
    let program = Program::serve(&EXAMPLE);
    let mut stream = connect(program.admin.expect("an admin listener"));
    // Before the 30 s that a connection has in all.
    stream.set_read_timeout(Some(DEADLINE / 2)).expect("possible");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").expect("sent");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("it is closed");
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

/// [D14] [L2]
#[test]
fn without_descriptors_udp_goes_on_and_the_rest_comes_back_with_them() {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/a", spec(NAME, "240.0.0.1"));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 48; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_globaldns"), "serve"]);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--lameduck", "0s"]);
    command.args(["--workers", "1", "--log-format", "json", "--kubeconfig", api.kubeconfig()]);
    let mut program = Program::spawn(command);
    program.ready();
    program.log_containing("the limit of open files is below --tcp-connections");
    let held: Vec<_> = (0..100).map(|_| connect(program.dns())).collect();
    program.log_containing("connections cannot be accepted");
    let client = client(program.dns());
    for id in 0..500 {
        client.send(&query(id, NAME)).expect("sent");
        assert_eq!(answered(&client).expect("a reply"), id);
    }
    // The watch that is open goes on; one that breaks cannot be opened again.
    api.apply("foo/b", spec("b.global", "240.0.0.2"));
    wait_answer(&program, "b.global", "NOERROR 240.0.0.2");
    api.set_fault(Fault::Expired);
    assert_eq!(answer(&program, NAME), "NOERROR 240.0.0.1");
    drop(held);
    let mut stream = connect(program.dns());
    assert!(ask(&mut stream, 1));
    api.apply("foo/c", spec("c.global", "240.0.0.3"));
    wait_answer(&program, "c.global", "NOERROR 240.0.0.3");
    wait_metric(&program, UP, |up| up == 1.0);
    let told =
        program.stderr().lines().filter(|line| line.contains("connections cannot be accepted")).count();
    assert!(told <= 3, "{}", program.stderr());
}

/// [S2] [S3] A file that could not be opened for a moment is tried again, though it has not changed since.
#[test]
fn a_file_that_could_not_be_read_for_a_moment_is_read_when_it_can_be() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (file, next) = (directory.path().join("a.yaml"), directory.path().join("next"));
    let entry = |address: &str| {
        format!(
            "kind: ServiceEntry\nmetadata: {{name: a}}\nspec: {{hosts: [a.global], addresses: [{address}]}}\n"
        )
    };
    // Never half of it: that would be another trouble.
    let write = |address: &str| {
        std::fs::write(&next, entry(address)).expect("written");
        std::fs::rename(&next, &file).expect("renamed");
    };
    write("240.0.0.1");
    let program = Program::serve(&["--file", file.to_str().expect("UTF-8")]);
    wait_answer(&program, "a.global", "NOERROR 240.0.0.1");
    let pid = program.pid().to_string();
    let limit = |soft: &str| {
        let limit = format!("--nofile={soft}:");
        let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(status.expect("prlimit runs").success());
    };
    limit("1");
    write("240.0.0.2");
    program.log_containing("Too many open files");
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    limit("1024");
    wait_answer(&program, "a.global", "NOERROR 240.0.0.2");
    program.findings(&[]);
    let told =
        program.stderr().lines().filter(|line| line.contains("its last good content is served")).count();
    assert_eq!(told, 1, "{}", program.stderr());
}
