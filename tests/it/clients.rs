//! What is asked of clients: access lists, limits, cookies.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::cli::{end, refused};
use crate::dig::{Question, dig};
use crate::support::{DEADLINE, Program, wait_until};

const EXAMPLE: &str = "examples/banzai-multimesh";
const ECHO: &str = "echo.default.global A";
const COOKIE: u16 = 10;

/// Asks over UDP from this address, with a cookie if it is not empty.
fn ask(server: SocketAddr, from: [u8; 4], cookie: &[u8]) -> Message {
    let mut message = Question::parse(ECHO).message();
    if !cookie.is_empty() {
        let edns = message.edns.as_mut().expect("EDNS");
        edns.options_mut().insert(EdnsOption::Unknown(COOKIE, cookie.to_vec()));
    }
    let socket = UdpSocket::bind((IpAddr::from(from), 0)).expect("an address of loopback");
    socket.connect(server).expect("a route");
    socket.set_read_timeout(Some(DEADLINE)).expect("possible");
    socket.send(&message.to_vec().expect("encodes")).expect("sent");
    let mut reply = [0; 1232];
    let length = socket.recv(&mut reply).expect("a reply");
    Message::from_vec(&reply[..length]).expect("a reply that decodes")
}

/// The cookie of a reply.
fn cookie(message: &Message) -> Vec<u8> {
    let option =
        message.edns.as_ref().and_then(|edns| edns.option(COOKIE.into()).cloned()).expect("a cookie");
    Vec::try_from(&option).expect("octets")
}

fn metric(program: &Program, series: &str) -> f64 {
    let (_, metrics) = program.get("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("no {series}"))
}

/// [D21]
#[test]
fn who_may_not_ask_is_refused_over_udp_and_tcp_and_counted() {
    let lists = ["--allow", "127.0.0.0/8", "--deny", "127.0.0.1,127.0.0.3"];
    let program = Program::serve(&[&["--file", EXAMPLE], &lists[..]].concat());
    for transport in ["", "+tcp"] {
        let reply = dig(program.dns(), &format!("{ECHO} {transport}"));
        assert!(reply.contains("status: REFUSED") && reply.contains("EDE: 18"), "{reply}");
    }
    assert_eq!(ask(program.dns(), [127, 0, 0, 2], &[]).answers.len(), 1);
    assert_eq!(ask(program.dns(), [127, 0, 0, 3], &[]).metadata.response_code, ResponseCode::Refused);
    let denied =
        |transport| metric(&program, &format!("globaldns_dns_denied_total{{transport=\"{transport}\"}}"));
    assert_eq!((denied("udp"), denied("tcp")), (2.0, 1.0));
}

/// [D20]
#[test]
fn a_flood_is_sent_to_tcp_and_touches_no_other_network() {
    let limit = ["--rate-limit", "1", "--rate-limit-exempt", "none"];
    let program = Program::serve(&[&["--file", EXAMPLE], &limit[..]].concat());
    // A second may end between any two of them.
    let limited = wait_until("a limited reply", || {
        let reply = ask(program.dns(), [127, 0, 0, 1], &[]);
        reply.metadata.truncation.then_some(reply)
    });
    assert_eq!(
        (limited.metadata.response_code, limited.metadata.authoritative),
        (ResponseCode::NoError, false)
    );
    assert!(limited.answers.is_empty());
    assert!(dig(program.dns(), &format!("{ECHO} +tcp")).contains("127.255.0.1"));
    let other = ask(program.dns(), [127, 0, 1, 1], &[]);
    assert_eq!((other.metadata.truncation, other.answers.len()), (false, 1));
    assert!(metric(&program, "globaldns_dns_rate_limited_total{action=\"truncated\"}") >= 1.0);
    assert_eq!(metric(&program, "globaldns_dns_rate_limited_total{action=\"dropped\"}"), 0.0);

    let private = Program::serve(&["--file", EXAMPLE, "--rate-limit", "1"]);
    for _ in 0..20 {
        assert_eq!(ask(private.dns(), [127, 0, 0, 1], &[]).answers.len(), 1, "loopback is exempt by default");
    }
}

/// [D19] Two replicas with one file take each other's cookies; the file is rolled without a restart.
#[test]
fn replicas_with_one_secret_share_cookies_and_follow_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("secrets");
    let write = |text: &str| {
        let next = directory.path().join("next");
        std::fs::write(&next, text).expect("written");
        std::fs::rename(&next, &path).expect("renamed");
    };
    let (old, new) = ("000102030405060708090a0b0c0d0e0f", "f0e0d0c0b0a090807060504030201000");
    write(old);
    let flags = ["--file", EXAMPLE, "--cookies", "on", "--cookie-secret-file", path.to_str().expect("UTF-8")];
    let replicas = [Program::serve(&flags), Program::serve(&flags)];
    let from = [127, 0, 0, 1];
    let kinds = |program: &Program| {
        ["client", "valid", "invalid"]
            .map(|kind| metric(program, &format!("globaldns_dns_cookies_total{{kind=\"{kind}\"}}")))
    };
    let first = cookie(&ask(replicas[0].dns(), from, &[7; 8]));
    assert_eq!((first.len(), &first[..8]), (24, &[7; 8][..]));
    assert_eq!(cookie(&ask(replicas[1].dns(), from, &first)), first);
    assert_eq!((kinds(&replicas[0]), kinds(&replicas[1])), ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]));

    // RFC 9018 section 5: the old one is still taken.
    write(&format!("{new}\n{old}\n"));
    for program in &replicas {
        program.log("cookie secrets loaded", |line| line["secrets"] == 2);
    }
    let second = cookie(&ask(replicas[0].dns(), from, &first));
    assert_ne!(second, first);
    assert_eq!(cookie(&ask(replicas[1].dns(), from, &second)), second);

    write("broken");
    for program in &replicas {
        program.log_containing("secrets:1: the line has 6 characters; write 32 hexadecimal digits a line");
        assert_eq!(metric(program, "globaldns_cookie_secrets_up"), 0.0);
        assert_eq!(cookie(&ask(program.dns(), from, &second)), second, "the last good ones stay");
    }
    write(new);
    for program in &replicas {
        wait_until("secrets that can be used", || {
            (metric(program, "globaldns_cookie_secrets_up") == 1.0).then_some(())
        });
        assert!(
            !program.stderr().contains(&old[..8]) && !program.stderr().contains(&new[..8]),
            "no secret is shown"
        );
    }
    assert_eq!(kinds(&replicas[0])[2], 0.0);
    let mut forged = first;
    forged[23] ^= 1;
    assert_eq!(ask(replicas[0].dns(), from, &forged).metadata.response_code, ResponseCode::NoError);
    assert_eq!(kinds(&replicas[0])[2], 1.0);
}

/// [D19] [D20] [D21] [X1]
#[test]
fn flags_that_cannot_be_meant_are_refused_with_the_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("secrets");
    std::fs::write(&path, "# made by hand\nx23456789012345678901234567890ab\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let nowhere = Path::new(path).with_file_name("nowhere");
    let nowhere = nowhere.to_str().expect("UTF-8");
    let long = "of no use while --cookies is off; add --cookies on, or leave the file out";
    let cases: &[(&[&str], String)] = &[
        (&["--cookie-secret-file", path], long.to_owned()),
        (
            &["--cookies", "on", "--cookie-secret-file", path],
            format!("{path}:2: character 1 is no hexadecimal digit; write 32 hexadecimal digits a line"),
        ),
        (&["--cookies", "on", "--cookie-secret-file", nowhere], format!("{nowhere}: cannot be read: ")),
        (&["--allow", "10.0.0.1/8"], "'--allow <NETWORK>': the address has bits set beyond the first 8; write 10.0.0.0/8 ".to_owned()),
        (&["--deny", "pods"], "'--deny <NETWORK>': it is no network; write ADDRESS/LENGTH (10.0.0.0/8, ".to_owned()),
        (&["--deny", "0.0.0.0/0,::/0"], "--allow and --deny leave no address that may ask".to_owned()),
        (&["--allow", "10.0.0.0/8", "--deny", "10.0.0.0/8"], "--allow and --deny leave no address that may ask".to_owned()),
        (&["--rate-limit", "500001"], "write a whole number from 0 to 500000".to_owned()),
        (&["--rate-limit-slip", "11"], "write a whole number from 0 to 10".to_owned()),
        (&["--rate-limit-prefix-v4", "0"], "write a whole number from 1 to 32".to_owned()),
        (&["--rate-limit-exempt", "none,10.0.0.0/8"], "--rate-limit-exempt none cannot stand beside a network".to_owned()),
        (&["--rate-limit-exempt", "public"], "it is no network; write ADDRESS/LENGTH (10.0.0.0/8, 2001:db8::/32) or one address, private or none".to_owned()),
    ];
    for (flags, expected) in cases {
        let nowhere = ["serve", "--file", EXAMPLE, "--listen", "127.0.0.1:0", "--admin-listen", "off"];
        let said = refused(&[&nowhere, *flags].concat());
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
}

/// [D20] [D21] What may be meant, and still is worth a warning.
#[test]
fn a_limit_for_cluster_dns_and_a_network_in_both_lists_are_warned_of() {
    let lists = [
        "--allow",
        "127.0.0.0/8,10.0.0.0/8",
        "--deny",
        "10.0.0.0/8",
        "--rate-limit",
        "9",
        "--rate-limit-exempt",
        "203.0.113.0/24",
    ];
    let program = Program::serve(&[&["--file", EXAMPLE], &lists[..]].concat());
    program.log("--allow and --deny name the same network; it is denied", |line| {
        line["network"] == "10.0.0.0/8"
    });
    program.log_containing("--rate-limit concerns private addresses, too; cluster DNS asks for all pods");
    let quiet = Program::serve(&["--file", EXAMPLE, "--rate-limit", "9", "--deny", "10.0.0.0/8"]);
    // The example's own findings are warnings, too, and come when they are found.
    let of_flags = |line: &str| line.contains("\"WARN\"") && !line.contains("\"code\"");
    assert!(!quiet.stderr().lines().any(of_flags), "{}", quiet.stderr());
    assert_eq!(end(&["serve", "--cookies", "maybe"]).code, Some(2));
}
