use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let mut octets = [0; N];
    assert_eq!(text.len(), 2 * N, "{text}");
    for (at, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&text[2 * at..][..2], 16).expect(text);
    }
    octets
}

fn option(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..][..2], 16).expect(text)).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

const A: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

/// [D19] The examples of RFC 9018 appendix A: secrets, client, what it sends, when, what it gets.
#[test]
fn cookies_are_those_of_rfc_9018() {
    let (old, new) = ("dd3bdf9344b678b185a6f5cb60fca715", "445536bcd2513298075a5d379663c962");
    let cases = [
        // A.1: a client that knows nothing.
        (
            &[A][..],
            "198.51.100.100",
            "2464c4abcf10c957",
            1_559_731_985,
            "010000005cf79f111f8130c3eee29480",
            CookieKind::Client,
        ),
        // A.2: the same one, forty minutes later.
        (
            &[A],
            "198.51.100.100",
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
            1_559_734_385,
            "010000005cf7a871d4a564a1442aca77",
            CookieKind::Valid,
        ),
        // A.3: another one, with a cookie whose reserved octets are not zero.
        (
            &[A],
            "203.0.113.203",
            "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
            1_559_727_985,
            "01abcdef5cf78f71a314227b6679ebf5",
            CookieKind::Valid,
        ),
        (
            &[A],
            "203.0.113.203",
            "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
            1_559_734_700,
            "010000005cf7a9acf73a7810aca2381e",
            CookieKind::Invalid,
        ),
        // A.4: IPv6, and the secret has been replaced.
        (
            &[new, old],
            "2001:db8:220:1:59de:d0f4:8769:82b8",
            "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
            1_559_741_961,
            "010000005cf7c609a6bb79d16625507a",
            CookieKind::Valid,
        ),
    ];
    for (secrets, client, sent, now, server_cookie, kind) in cases {
        let secrets: Vec<_> = secrets.iter().map(|text| hex(text)).collect();
        let cookies = Cookies::new(Secrets::new(secrets[0], &secrets[1..]));
        let expected = hex(&format!("{}{server_cookie}", &sent[..16]));
        let judged = cookies.judge(&option(sent), ip(client), now);
        assert_eq!(judged, Judged { kind, reply: Some(expected) }, "{client} {sent}");
    }
}

/// [D19]
#[test]
fn a_cookie_is_good_for_an_hour_and_renewed_after_half_of_it() {
    let cookies = Cookies::new(Secrets::new(hex(A), &[]));
    for made in [1_700_000_000, 100, u32::MAX - 100] {
        let sent = cookies.judge(&[7; 8], ip("192.0.2.1"), made).reply.expect("a cookie");
        for (age, kind, renewed) in [
            (0, CookieKind::Valid, false),
            (1800, CookieKind::Valid, false),
            (1801, CookieKind::Valid, true),
            (3600, CookieKind::Valid, true),
            (3601, CookieKind::Invalid, true),
            (-1, CookieKind::Valid, false),
            (-300, CookieKind::Valid, false),
            (-301, CookieKind::Invalid, true),
            (i32::MAX, CookieKind::Invalid, true),
            (i32::MIN, CookieKind::Invalid, true),
        ] {
            let now = made.wrapping_add_signed(age);
            let judged = cookies.judge(&sent, ip("192.0.2.1"), now);
            let reply = judged.reply.expect("a cookie");
            assert_eq!((judged.kind, reply != sent), (kind, renewed), "made {made}, {age} s old");
            let again = cookies.judge(&reply, ip("192.0.2.1"), now);
            assert_eq!((again.kind, again.reply), (CookieKind::Valid, Some(reply)), "what we make is good");
        }
    }
}

/// [D19] Every octet counts, and so does the address.
#[test]
fn a_cookie_is_good_for_nobody_else() {
    let cookies = Cookies::new(Secrets::new(hex(A), &[]));
    let now = 1_700_000_000;
    for (client, others) in [
        ("192.0.2.1", ["192.0.2.2", "2001:db8::1", "::ffff:192.0.2.1"]),
        ("2001:db8::1", ["2001:db8::2", "192.0.2.1", "2001:db8:0:1::1"]),
    ] {
        let sent = cookies.judge(&[7; 8], ip(client), now).reply.expect("a cookie");
        let kind = |option: &[u8], client: &str| cookies.judge(option, ip(client), now).kind;
        assert_eq!(kind(&sent, client), CookieKind::Valid);
        for other in others {
            assert_eq!(kind(&sent, other), CookieKind::Invalid, "{other}");
        }
        for bit in 0..8 * COOKIE {
            let mut forged = sent;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(kind(&forged, client), CookieKind::Invalid, "bit {bit}");
        }
        // Longer or shorter than ours, as others may make them.
        assert_eq!(kind(&[&sent[..], &[0]].concat(), client), CookieKind::Invalid);
        assert_eq!(kind(&sent[..COOKIE - 1], client), CookieKind::Invalid);
    }
    let one = Cookies::new(Secrets::random()).judge(&[7; 8], ip("192.0.2.1"), now);
    let other = Cookies::new(Secrets::random()).judge(&[7; 8], ip("192.0.2.1"), now);
    assert_ne!(one.reply, other.reply, "random secrets differ");
}

/// [D19] RFC 7873 section 5.2.2.
#[test]
fn an_option_has_eight_or_sixteen_to_forty_octets() {
    let cookies = Cookies::new(Secrets::random());
    for length in 0..100 {
        let option = vec![1; length];
        let legal = length == 8 || (16..=40).contains(&length);
        let judged = cookies.judge(&option, ip("192.0.2.1"), 1);
        assert_eq!(is_malformed(&option), !legal, "{length}");
        assert_eq!(
            (judged.kind != CookieKind::Malformed, judged.reply.is_some()),
            (legal, legal),
            "{length}"
        );
    }
}

/// [D19]
#[test]
fn a_file_has_a_secret_a_line_and_an_error_names_the_line_but_no_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("secrets");
    let read = |path: &Path| {
        Follower::new(path.to_owned(), Arc::default()).map(|(_, cookies)| cookies.0.load().count())
    };
    let other = "DD3BDF9344B678B185A6F5CB60FCA715";
    let good = [
        (A.to_owned(), 1),
        (format!("{A}\n"), 1),
        (format!("# makes\r\n  {A}\r\n\n# checks\n\t{other}\n\n"), 2),
        (format!("{A}\n").repeat(8), 8),
    ];
    for (text, count) in good {
        std::fs::write(&path, &text).expect("written");
        assert_eq!(read(&path).expect(&text), count);
    }
    let bad = [
        (String::new(), ": has no secret; write 32 "),
        ("# later\n\n".to_owned(), ": has no secret; write 32 "),
        (format!("{A}\n{}\n", &A[1..]), ":2: the line has 31 characters; write 32 "),
        (format!("\n{A}{A}\n"), ":2: the line has 64 characters; write 32 "),
        (format!("{}g", &A[1..]), ":1: character 32 is no hexadecimal digit; write 32 "),
        (format!("{}é", &A[2..]), ":1: character 31 is no hexadecimal digit; write 32 "),
        (format!("{A}\n").repeat(9), ":9: there are more than 8 secrets; write 32 "),
        ("#".repeat(5000), ":1: the file has more than 4096 octets; write 32 "),
    ];
    for (text, expected) in bad {
        std::fs::write(&path, &text).expect("written");
        let error = read(&path).expect_err(expected).to_string();
        assert!(error.starts_with(&format!("{}{expected}", path.display())), "{error}");
        assert!(!error.contains(&A[4..12]), "{error}");
    }
    let missing = read(&directory.path().join("nowhere")).expect_err("missing").to_string();
    assert!(missing.contains("nowhere: cannot be read: No such file"), "{missing}");
}

/// [D19] Secrets are rolled as RFC 9018 section 5 says; what is half written, gone or bad changes nothing.
#[test]
fn a_file_is_followed_and_a_bad_one_keeps_the_last_good_secrets() {
    let directory = tempfile::tempdir().expect("a directory");
    // As the kubelet mounts a Secret: the file is a link into a directory that is swapped.
    let write = |version: &str, text: &str| {
        let data = directory.path().join(version);
        std::fs::create_dir(&data).expect("made");
        std::fs::write(data.join("secrets"), text).expect("written");
        let link = directory.path().join("..next");
        std::os::unix::fs::symlink(&data, &link).expect("a link");
        std::fs::rename(&link, directory.path().join("..data")).expect("swapped");
    };
    let path = directory.path().join("secrets");
    std::os::unix::fs::symlink("..data/secrets", &path).expect("a link");
    write("v1", A);
    let up = Arc::new(AtomicBool::new(false));
    let (mut follower, cookies) = Follower::new(path, up.clone()).expect("a good file");
    let now = 1_700_000_000;
    let judge = |option: &[u8]| cookies.judge(option, ip("192.0.2.1"), now);
    let first = judge(&[7; 8]).reply.expect("a cookie");
    let is_up = || up.load(Ordering::Relaxed);
    assert!(is_up());
    let other = "dd3bdf9344b678b185a6f5cb60fca715";

    write("v2", &format!("{other}\n{A}\n"));
    follower.look();
    assert_eq!(judge(&[7; 8]).reply, Some(first), "one look is not enough: it may be half written");
    follower.look();
    let second = judge(&[7; 8]).reply.expect("a cookie");
    assert_ne!(second, first, "the first secret makes them");
    assert_eq!(
        judge(&first),
        Judged { kind: CookieKind::Valid, reply: Some(second) },
        "the old one is renewed"
    );

    for (version, text) in [("v3", "short"), ("v4", "")] {
        write(version, text);
        follower.look();
        follower.look();
        assert!(!is_up(), "{text:?}");
        assert_eq!(judge(&second).reply, Some(second), "{text:?}");
    }
    std::fs::remove_file(directory.path().join("..data")).expect("removed");
    follower.look();
    follower.look();
    assert!(!is_up());
    assert_eq!(judge(&second).reply, Some(second), "gone");

    write("v5", other);
    follower.look();
    follower.look();
    assert!(is_up());
    assert_eq!((judge(&first).kind, judge(&second).kind), (CookieKind::Invalid, CookieKind::Valid));
}
