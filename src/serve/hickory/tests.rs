use super::*;
use crate::serve::fixture::{Fixture, query, render, settings, table};

fn fixture(hosts: &[(String, Vec<IpAddr>)]) -> Fixture {
    let hosts: Vec<_> = hosts.iter().map(|(h, a)| (h.as_str(), a.clone())).collect();
    Fixture::new(table(&["global", "eu.global", "c2"], &hosts), settings(), &["10.96.0.9"])
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

/// [D12] [D17] hickory would say TC, and have no room for the OPT.
#[test]
fn glue_that_does_not_fit_is_left_out_on_the_general_path_too() {
    let many: Vec<_> = (0..60).map(|i| format!("10.96.0.{i}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let f = Fixture::new(table(&["global"], &[]), settings(), &many);
    let (message, transport) = query("global NS +udp=512");
    let reply = f.general(&message, transport).expect("a reply");
    assert!((512 - 15..=512).contains(&reply.len()), "{}", reply.len());
    let lines = render(&reply);
    assert_eq!(lines[..2], ["NOERROR qr aa rd", "= global. 30 NS ns.dns.global."]);
    assert_eq!(lines.last().expect("an OPT"), "OPT 1232");
}

/// [D13] hickory would leave half a record behind the last one that it counts.
#[test]
fn an_soa_that_does_not_fit_on_the_general_path_leaves_nothing_of_it() {
    let label = "z".repeat(63);
    let zone = [&label, &label, &label, &label[..50]].join(".");
    let f = Fixture::new(table(&[&zone], &[]), settings(), &[]);
    let (message, transport) = query(&format!("{zone} SOA"));
    let reply = f.general(&message, transport).expect("a reply");
    assert_eq!(reply.len(), message.len());
    assert_eq!(render(&reply), ["NOERROR qr aa tc rd"]);
    let fast = f.fast(&message, transport).expect("a reply");
    assert!(render(&fast)[1].ends_with(" 1700000000 7200 1800 86400 5"));
}

/// [D11] Behind an opcode other than QUERY nothing is read, and several questions are none.
#[test]
fn what_was_not_read_is_not_echoed_on_the_general_path_either() {
    let f = fixture(&[]);
    let (mut notify, transport) = query("a.global A");
    notify[2] |= 4 << 3;
    let (mut two, _) = query("a.global A");
    two[5] = 2;
    two.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01");
    for (message, flags, code) in [(notify, 0xa1, 4), (two, 0x81, 1)] {
        let header = [0x42, 0x42, flags, code, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(f.general(&message, transport).expect("a reply"), header);
        assert_eq!(f.fast(&message, transport).expect("a reply"), header);
    }
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
