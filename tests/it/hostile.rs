//! Clients over TCP that mean ill, as the running program bears them.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::dig::{Question, dig, over_tcp, over_udp};
use crate::support::{DEADLINE, Program, wait_until};

const EXAMPLE: &str = "examples/banzai-multimesh";
/// The addresses of two clients.
const POLITE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// A connection from this address.
fn connect(from: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into()).expect("an address of this host");
    socket.connect(&server.into()).expect("connects");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    stream
}

fn query(text: &str) -> Vec<u8> {
    let message = Question::parse(text).message().to_vec().expect("a query");
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

/// Asks over a connection that stays; false if it has ended.
fn asks(stream: &mut TcpStream) -> bool {
    let mut length = [0; 2];
    let asked =
        stream.write_all(&query("echo.default.global A")).and_then(|()| stream.read_exact(&mut length));
    if asked.is_err() {
        return false;
    }
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).expect("a whole reply");
    true
}

fn counted(program: &Program, name: &str) -> u64 {
    let (_, metrics) = program.get("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
}

/// As many descriptors as this process may have, and how many more than the others of these tests need.
fn descriptors() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("it can be raised");
    }
    usize::try_from(hard).unwrap_or(usize::MAX).saturating_sub(1000)
}

/// [D14]
#[test]
fn ten_thousand_connections_of_one_client_cost_another_one_nothing() {
    let number = 10_000.min(descriptors());
    let program = Program::serve(&["--file", EXAMPLE, "--tcp-connections", "1024"]);
    let mut kept = connect(POLITE, program.dns());
    assert!(asks(&mut kept));
    let mut hostile = Vec::new();
    for n in 0..number {
        let mut stream = connect(HOSTILE, program.dns());
        // Some say nothing, others half a query.
        if n % 2 == 0 {
            let _ = stream.write_all(&query("echo.default.global A")[..9]);
        }
        hostile.push(stream);
        if n % 500 == 0 {
            assert!(asks(&mut kept), "after {n} connections of another client");
            assert!(asks(&mut connect(POLITE, program.dns())), "after {n} connections of another client");
        }
    }
    assert!(asks(&mut kept) && asks(&mut connect(POLITE, program.dns())));
    assert!(counted(&program, "globaldns_tcp_connections") <= 1024);
    assert!(number < 2000 || counted(&program, "globaldns_tcp_evicted_total") > 0);
    assert_eq!(counted(&program, "globaldns_tcp_rejected_total"), 0);
    // Where they all seem to be one client, as behind a NAT, new connections are answered all the same.
    assert!(asks(&mut connect(HOSTILE, program.dns())));
}

/// A file with one host that has so many addresses.
fn big(addresses: u16) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    write!(file, "kind: ServiceEntry\nspec:\n  hosts: [echo.default.global]\n  addresses:\n")
        .expect("written");
    for n in 0..addresses {
        writeln!(file, "  - 240.1.{}.{}", n >> 8, n & 0xff).expect("written");
    }
    file
}

/// [D14] [L5]
#[test]
fn replies_that_nobody_reads_keep_nobody_out_and_hold_up_no_end() {
    let file = big(2000);
    let path = file.path().to_str().expect("UTF-8");
    let program = Program::serve(&["--file", path, "--tcp-connections", "20"]);
    let questions = query("echo.default.global A").repeat(2000);
    let mut deaf = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(HOSTILE, program.dns());
        stream.set_write_timeout(Some(std::time::Duration::from_millis(50))).expect("a timeout can be set");
        // 64 MB of replies, of which the kernel holds a few.
        let _ = stream.write_all(&questions);
        deaf.push(stream);
    }
    // At once: the other client has more than one connection, whatever keeps them busy.
    assert!(asks(&mut connect(POLITE, program.dns())));
    dig(program.dns(), "echo.default.global A +noedns +norec");
    program.signal("TERM");
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("replies were still in flight; closing their connections"),
        "{}",
        ended.stderr
    );
    drop(deaf);
}

/// The program with so many descriptors.
fn with_descriptors(number: usize, more: &[&str]) -> Program {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("ulimit -n {number} && exec \"$0\" \"$@\""),
        env!("CARGO_BIN_EXE_globaldns"),
    ]);
    command.args(["serve", "--file", EXAMPLE, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--lameduck", "0s", "--log-format", "json", "--workers", "1"]).args(more);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut program = Program::spawn(command);
    program.ready();
    program
}

/// [D14]
#[test]
fn with_few_descriptors_there_are_fewer_connections_and_new_ones_are_answered() {
    let program = with_descriptors(120, &[]);
    let said = program.log(
        "the limit of open files is below --tcp-connections and what else is needed, so fewer \
         connections are taken; raise it (ulimit -n, LimitNOFILE) or lower --tcp-connections",
        |_| true,
    );
    assert_eq!((&said["limit"], &said["connections"]), (&120.into(), &60.into()));
    let hostile: Vec<_> = (0..500).map(|_| connect(HOSTILE, program.dns())).collect();
    let mut polite = connect(POLITE, program.dns());
    assert!(asks(&mut polite));
    assert_eq!(program.get("/ready").0, 200);
    // The polite one, which took a place, may have gone already.
    assert!((59..=60).contains(&counted(&program, "globaldns_tcp_connections")));
    drop(hostile);
}

/// [D14]
#[test]
fn without_any_descriptor_udp_is_answered_and_connections_come_back() {
    // Fewer than the program has beside connections, those that the admin listener takes, and one.
    let program = with_descriptors(45, &[]);
    let admin = program.admin.expect("an admin listener");
    // Connections that our bound does not know take the rest.
    let message = &query("echo.default.global A")[2..];
    let mut takers = Vec::new();
    let mut kept = connect(POLITE, program.dns());
    assert!(asks(&mut kept));
    for _ in 0..200 {
        takers.push(connect(HOSTILE, admin));
    }
    let mut waiting = Vec::new();
    // As soon as they have been accepted.
    let said = "connections cannot be accepted; is the limit of open files (ulimit -n) reached?";
    wait_until(said, || {
        waiting.push(connect(POLITE, program.dns()));
        program.stderr().contains(said).then_some(())
    });
    assert!(program.stderr().contains("Too many open files"));
    for _ in 0..100 {
        assert!(!over_udp(program.dns(), message).is_empty());
    }
    // An idle one has made room for one that waits.
    assert!(!asks(&mut kept));
    drop(takers);
    assert!(!over_tcp(program.dns(), message).is_empty());
    assert_eq!(program.get("/ready").0, 200);
}
