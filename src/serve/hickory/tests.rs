use super::*;
use crate::serve::fixture::{Fixture, query, render, settings, table};
use proptest::prelude::*;
use std::net::Ipv6Addr;

/// A table whose hosts are drawn from few labels, so that queries meet them.
fn any_table() -> impl Strategy<Value = Vec<(String, Vec<IpAddr>)>> {
    let host = prop_oneof![
        Just("".to_owned()),
        "[a-c]\\.",
        "[a-c]\\.[a-c]\\.",
        "\\*\\.[a-c]\\.",
        "[a-c]\\.[a-c]\\.[a-c]\\.",
    ];
    let address = prop_oneof![
        any::<u8>().prop_map(|n| IpAddr::from([240, 0, 0, n])),
        any::<u8>().prop_map(|n| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()))),
    ];
    let zone = prop_oneof![3 => Just("global"), 1 => Just("eu.global"), 1 => Just("c2")];
    let entry = (host, zone, proptest::collection::vec(address, 1..60))
        .prop_map(|(host, zone, addresses)| (format!("{host}{zone}"), addresses));
    proptest::collection::vec(entry, 0..12)
}

fn any_query() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        4 => "([a-cA-C]\\.){0,4}(global|GLOBAL|eu\\.global|c2|C2)",
        1 => "(ns\\.)?dns\\.(global|eu\\.global)",
        1 => "([a-z]{1,8}\\.){1,3}svc\\.cluster\\.local\\.global",
        1 => "([a-z]{1,8}\\.){0,3}(com|org|)",
        1 => "([a-z0-9_-]{1,63}\\.){0,3}global",
    ]
    .prop_map(|name| if name.is_empty() { ".".to_owned() } else { name });
    let rtype = prop_oneof![
        4 => Just("A".to_owned()),
        4 => Just("AAAA".to_owned()),
        2 => prop_oneof![Just("ANY"), Just("SOA"), Just("NS"), Just("DS"), Just("AXFR"), Just("TXT")].prop_map(str::to_owned),
        1 => any::<u16>().prop_map(|n| format!("TYPE{n}")),
    ];
    let options = prop_oneof![
        3 => Just(String::new()),
        2 => any::<u16>().prop_map(|n| format!(" +udp={n}")),
        1 => (0..2000u16).prop_map(|n| format!(" +do +udp={n}")),
        1 => Just(" +edns=1".to_owned()),
        1 => Just(" +nsid".to_owned()),
        1 => Just(" +class=CH".to_owned()),
    ];
    (name, rtype, options, any::<bool>()).prop_map(|(name, rtype, options, tcp)| {
        format!("{name} {rtype}{options}{}", if tcp { " +tcp" } else { "" })
    })
}

/// Bytes to change in a valid message, and how much to cut or add at its end.
fn any_damage() -> impl Strategy<Value = (Vec<(usize, u8)>, isize)> {
    (proptest::collection::vec((0..80usize, any::<u8>()), 0..4), -20..20isize)
}

fn fixture(hosts: &[(String, Vec<IpAddr>)]) -> Fixture {
    let hosts: Vec<_> = hosts.iter().map(|(h, a)| (h.as_str(), a.clone())).collect();
    Fixture::new(table(&["global", "eu.global", "c2"], &hosts), settings(), &["10.96.0.9"])
}

/// What two replies must have in common: everything but compression.
fn meaning(reply: Result<Vec<u8>, Outcome>) -> Result<(Vec<u8>, Vec<String>), Outcome> {
    reply.map(|reply| (reply[..4].to_vec(), render(&reply)))
}

/// Both paths on one message, and the same decoded replies wherever both can answer.
fn compare(f: &Fixture, message: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    let (fast, general) = (f.fast(message, transport), f.general(message, transport));
    if fast == Err(Outcome::Declined) {
        prop_assert!(matches!(general, Ok(_) | Err(Outcome::Silence)), "the general path must answer");
        return Ok(());
    }
    // A message hickory cannot decode is FORMERR there, though we have understood it: not comparable.
    let decodes =
        Request::from_bytes(message.to_vec(), Fixture::arrival(transport).peer, Protocol::Udp).is_ok();
    if !decodes {
        return Ok(());
    }
    let limit = match crate::wire::query::parse(message) {
        Ok(query) => reply::limit(transport, query.edns),
        Err(_) => u16::MAX,
    };
    for reply in [&fast, &general].into_iter().flatten() {
        prop_assert!(reply.len() <= usize::from(limit), "{} octets of {}", reply.len(), limit);
    }
    let (fast, general) = (meaning(fast), meaning(general));
    if let (Ok((_, fast)), Ok((_, general))) = (&fast, &general)
        && general[0].contains(" tc")
    {
        // D13: how many fit depends on compression, and hickory's is a little weaker.
        let answers = |reply: &[String]| -> Vec<String> {
            reply.iter().filter(|line| line.starts_with('=')).cloned().collect()
        };
        let others = |reply: &[String]| -> Vec<String> {
            reply.iter().filter(|line| !line.starts_with('=')).map(|line| line.replace(" tc", "")).collect()
        };
        prop_assert!(answers(fast).starts_with(&answers(general)));
        prop_assert_eq!(others(fast), others(general));
    } else {
        prop_assert_eq!(fast, general);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// [D1] [D13] The two paths say the same to any valid query over any table.
    #[test]
    fn both_paths_agree_on_queries(hosts in any_table(), questions in proptest::collection::vec(any_query(), 1..8)) {
        let f = fixture(&hosts);
        for question in questions {
            let (message, transport) = query(&question);
            compare(&f, &message, transport)?;
        }
    }

    /// [D11] And to damaged ones.
    #[test]
    fn both_paths_agree_on_damaged_messages(question in any_query(), (changes, grow) in any_damage()) {
        let f = fixture(&[("a.b.global".to_owned(), vec![IpAddr::from([240, 0, 0, 1])])]);
        let (mut message, transport) = query(&question);
        for (at, value) in changes {
            let at = at % message.len();
            message[at] = value;
        }
        message.resize(message.len().saturating_add_signed(grow), 0);
        compare(&f, &message, transport)?;
    }

    /// [D11] Garbage gets a reply or silence, and never ends the program.
    #[test]
    fn both_paths_survive_garbage(message in proptest::collection::vec(any::<u8>(), 0..600)) {
        compare(&fixture(&[]), &message, Transport::Udp)?;
    }
}

/// [D11] [D10]
#[test]
fn declined_messages_are_answered_by_the_general_path() {
    let f = fixture(&[("a.global".to_owned(), vec![IpAddr::from([240, 0, 0, 1])])]);
    // A TXT record in the additional section is nothing we act on.
    let (mut message, _) = query("a.global A");
    message[11] = 1;
    message.extend_from_slice(b"\x01x\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x02\x01a");
    assert_eq!(f.fast(&message, Transport::Udp), Err(Outcome::Declined));
    let reply = f.ask(&message, Transport::Udp).expect("a reply");
    assert_eq!(render(&reply), ["NOERROR qr aa rd", "= a.global. 30 A 240.0.0.1"]);
    // A record whose data is broken makes the message broken.
    let (mut message, _) = query("a.global A");
    message[11] = 1;
    message.extend_from_slice(b"\x01x\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x03\x01\x02\x03");
    let reply = f.ask(&message, Transport::Udp).expect("a reply");
    assert_eq!(render(&reply), ["FORMERR qr rd"]);
    // IXFR carries the client's SOA in the authority section.
    let (mut message, _) = query("global TYPE251");
    message[9] = 1;
    message.extend_from_slice(b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x00\x00\x16\x00\x00");
    message.extend_from_slice(&[0; 20]);
    let reply = f.ask(&message, Transport::Udp).expect("a reply");
    assert_eq!(render(&reply), ["REFUSED qr rd"]);
}

/// [D13] Next to a name of 255 octets that hickory spells out twice, no record fits 512; nor may it panic.
#[test]
fn the_longest_name_on_the_general_path_leaves_room_for_nothing() {
    let f = fixture(&[("*.global".to_owned(), vec![IpAddr::from([240, 0, 0, 1])])]);
    let label = "a".repeat(63);
    let (mut message, _) =
        query(&format!("{label}.{label}.{label}.{}.global A +nsid +udp=512", "b".repeat(54)));
    message[11] += 1;
    message.extend_from_slice(b"\x01x\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x02\x01a");
    assert_eq!(f.fast(&message, Transport::Udp), Err(Outcome::Declined));
    let reply = f.ask(&message, Transport::Udp).expect("a reply");
    assert!(reply.len() <= 512);
    assert_eq!(render(&reply), ["NOERROR qr aa tc rd", "OPT 1232 nsid=pod-1"]);
}

/// [D12] An option we do not know is ignored whatever it holds, beside one we do know as well.
#[test]
fn broken_contents_of_unknown_options_do_not_matter() {
    let f = fixture(&[("a.global".to_owned(), vec![IpAddr::from([240, 0, 0, 1])])]);
    for options in
        [&b"\x00\x08\x00\x02\xff\xff"[..], b"\x00\x08\x00\x00", b"\x00\x03\x00\x00\x00\x08\x00\x01\xff"]
    {
        let (mut message, _) = query("a.global A");
        message[11] = 1;
        message.extend_from_slice(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00");
        message.push(options.len() as u8);
        message.extend_from_slice(options);
        let reply = render(&f.ask(&message, Transport::Udp).expect("a reply"));
        assert_eq!(reply[..2], ["NOERROR qr aa rd", "= a.global. 30 A 240.0.0.1"], "{options:?}");
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<std::sync::Mutex<Vec<u8>>>);

#[async_trait::async_trait]
impl ResponseHandler for Captured {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut octets = Vec::new();
        let info = response.destructive_emit(&mut BinEncoder::new(&mut octets))?;
        *self.0.lock().expect("not poisoned") = octets;
        Ok(info)
    }
}

/// hickory-server's own listeners reach the same answers through the trait.
#[tokio::test]
async fn the_request_handler_answers_hickorys_listeners() {
    let f = fixture(&[("a.global".to_owned(), vec![IpAddr::from([240, 0, 0, 1])])]);
    let handler = Handler::new(f.responder.clone(), f.counters.clone());
    let sent = Captured::default();
    let peer = Fixture::arrival(Transport::Tcp).peer;
    let request = |text: &str| Request::from_bytes(query(text).0, peer, Protocol::Tcp).expect("decodes");
    let info = handler
        .handle_request::<_, hickory_server::net::runtime::TokioTime>(&request("a.global A"), sent.clone())
        .await;
    assert_eq!((info.response_code, info.counts().answers), (ResponseCode::NoError, 1));
    let octets = sent.0.lock().expect("not poisoned").clone();
    assert_eq!(render(&octets), ["NOERROR qr aa rd", "= a.global. 30 A 240.0.0.1"]);
}
