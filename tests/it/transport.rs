//! What only a running program shows of its sockets and of its end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::dig::dig;
use crate::support::{Program, globaldns, run, wait_until};

const EXAMPLE: &str = "examples/banzai-multimesh";

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// [D16] [D5] [L1]
#[test]
fn replies_leave_from_the_address_the_query_arrived_at_on_wildcard_listens_too() {
    let mut listens = vec!["0.0.0.0:0"];
    if has_ipv6() {
        listens.push("[::]:0");
    }
    for listen in listens {
        let mut command = globaldns(&["serve", "--file", EXAMPLE, "--listen", listen]);
        command.args(["--admin-listen", "off", "--log-format", "json"]);
        let mut program = Program::spawn(command);
        program.ready();
        let port = program.dns().port();
        let mut addresses: Vec<IpAddr> = vec![
            Ipv4Addr::LOCALHOST.into(),
            Ipv4Addr::new(127, 0, 0, 5).into(),
            Ipv4Addr::new(127, 9, 8, 7).into(),
        ];
        if listen.starts_with('[') {
            addresses.push("::1".parse().expect("valid"));
        }
        for address in addresses {
            let server = SocketAddr::new(address, port);
            let qtype = if address.is_ipv4() { "A" } else { "AAAA" };
            // dig's socket is connected: the kernel drops a reply from another address.
            let reply = dig(server, &format!("ns.dns.global {qtype}"));
            // Without --advertise-address the name server is where the query arrived.
            let expected = format!("ns.dns.global. 30 IN {qtype} {address}");
            assert!(reply.contains(&expected), "{listen} {address}: no {expected} in\n{reply}");
        }
    }
}

/// [D14] [L1]
#[test]
fn udp_and_tcp_share_every_listen_address() {
    let program = Program::serve(&["--file", EXAMPLE, "--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]);
    assert_eq!(program.dns.len(), 2);
    for server in &program.dns {
        for transport in ["", "+tcp"] {
            let reply = dig(*server, &format!("echo.default.global A {transport}"));
            assert!(
                reply.contains("echo.default.global. 30 IN A 127.255.0.1"),
                "{server} {transport}: {reply}"
            );
        }
    }
}

/// [L1] [X0]
#[test]
fn workers_are_as_many_as_asked_for_on_each_address_else_one_per_processor() {
    // A thread names itself, maybe after the program is ready.
    let has = |program: &Program, wanted: usize| {
        wait_until(&format!("{wanted} UDP workers"), || {
            let threads = program.threads();
            let workers = threads.iter().filter(|name| name.starts_with("udp-")).count();
            (workers == wanted).then_some(())
        });
    };
    let two = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"];
    let program = Program::serve(&[&["--file", EXAMPLE, "--workers", "3"], &two[..]].concat());
    has(&program, 6);
    let processors = std::thread::available_parallelism().expect("their number").get();
    has(&Program::serve(&["--file", EXAMPLE]), processors);
}

/// [L1]
#[test]
fn a_second_instance_is_noticed_however_many_workers_share_the_port() {
    for workers in ["1", "4"] {
        let first = Program::serve(&["--file", EXAMPLE, "--workers", workers]);
        let address = first.dns().to_string();
        let mut second = globaldns(&["serve", "--file", EXAMPLE, "--admin-listen", "off"]);
        second.args(["--listen", &address, "--workers", workers]);
        let ended = run(second);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("another program has port"), "{}", ended.stderr);
    }
}

/// [L1] [D9]
#[test]
fn listening_on_nothing_is_allowed() {
    let mut command =
        globaldns(&["serve", "--file", EXAMPLE, "--listen", "off", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--log-format", "json"]);
    let mut program = Program::spawn(command);
    program.ready();
    assert!(program.dns.is_empty());
    assert_eq!(program.get("/ready"), (200, "ready\n".to_owned()));
}

/// [L5]
#[test]
fn after_sigterm_it_is_not_ready_answers_on_and_a_second_signal_ends_it() {
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let program = Program::serve(&["--file", EXAMPLE, "--lameduck", "1h"]);
        assert_eq!(program.get("/ready").0, 200);
        program.signal("TERM");
        wait_until("not ready", || (program.get("/ready").0 == 503).then_some(()));
        assert_eq!(program.get("/ready").1, "not ready\nshutting down\n");
        assert_eq!(program.get("/health"), (200, "ok\n".to_owned()));
        for transport in ["", "+tcp"] {
            let reply = dig(program.dns(), &format!("echo.default.global A {transport}"));
            assert!(reply.contains("127.255.0.1"), "{reply}");
        }
        program.signal(second);
        assert_eq!(program.wait().code, Some(code), "SIG{second}");
    }
}

/// [L5]
#[test]
fn what_has_arrived_when_it_stops_is_answered() {
    let program = Program::serve(&["--file", EXAMPLE, "--workers", "2"]);
    let query = b"\x42\x42\x01\0\0\x01\0\0\0\0\0\0\x04echo\x07default\x06global\0\0\x01\0\x01";
    // Stopped in the literal sense, so that all of it waits in the sockets' queues when the end begins.
    program.signal("STOP");
    wait_until("a stopped program", || (program.state() == 'T').then_some(()));
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            client.connect(program.dns()).expect("an address");
            client.send(query).expect("sent");
            client
        })
        .collect();
    program.signal("TERM");
    program.signal("CONT");
    assert_eq!(program.wait().code, Some(0));
    for client in clients {
        client.set_nonblocking(true).expect("possible");
        assert!(client.recv(&mut [0; 512]).is_ok_and(|length| length > query.len()), "a reply");
    }
}

/// [L5] [X1]
#[test]
fn a_drain_ends_with_exit_code_0() {
    for signal in ["TERM", "INT"] {
        let program = Program::serve(&["--file", EXAMPLE]);
        program.signal(signal);
        assert_eq!(program.wait().code, Some(0), "SIG{signal}");
    }
}

/// [S3] [F1] [S2]
#[test]
fn a_file_that_breaks_while_served_is_a_log_line_a_metric_and_a_finding() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, a_global("240.0.0.1")).expect("written");
    let program = Program::serve(&["--file", dir.path().to_str().expect("a path in UTF-8")]);
    let answers = |address: &str| dig(program.dns(), "a.global A").contains(address).then_some(());
    assert!(answers("240.0.0.1").is_some());
    std::fs::write(&file, "a: [").expect("written");
    program.findings(&[("file-unreadable", 1)]);
    let (_, metrics) = program.get("/metrics");
    assert!(
        metrics.contains("globaldns_source_errors_total{source=\"files\",reason=\"reload\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("globaldns_source_up{source=\"files\"} 0"), "{metrics}");
    assert!(program.stderr().contains("its last good content is served"));
    assert!(answers("240.0.0.1").is_some());
    std::fs::write(&file, a_global("240.0.0.2")).expect("written");
    wait_until("the corrected file", || answers("240.0.0.2"));
    program.findings(&[]);
}

/// [D6]
#[test]
fn the_serial_is_the_second_of_the_last_visible_change() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, a_global("240.0.0.1")).expect("written");
    let program = Program::serve(&["--file", dir.path().to_str().expect("a path in UTF-8")]);
    let serial = || -> u32 {
        let (_, metrics) = program.get("/metrics");
        let line =
            metrics.lines().find(|l| l.starts_with("globaldns_zone_serial")).expect("a serial").to_owned();
        line.rsplit_once(' ').and_then(|(_, n)| n.parse().ok()).expect("a number")
    };
    let before = serial();
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(u64::from(before).abs_diff(now) < 60, "{before} is a Unix second");
    // Into the next second, so that the change can show.
    wait_until("the next second", || {
        let later = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        (later.as_secs() > u64::from(before)).then_some(())
    });
    std::fs::write(&file, a_global("240.0.0.2")).expect("written");
    wait_until("a new serial", || (serial() > before).then_some(()));
}

fn a_global(address: &str) -> String {
    format!("kind: ServiceEntry\nspec: {{hosts: [a.global], addresses: [{address}], resolution: DNS}}\n")
}
