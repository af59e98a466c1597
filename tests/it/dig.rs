//! A small `dig`: asks one question and writes the reply as dig prints it, with single spaces, without
//! empty lines, the message id and dig's own remarks, and with `SERIAL` for the serial of an SOA and of a probe's answer.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// The longest wait for one reply. On loopback a reply is lost only if it was never sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// The payload size dig announces.
const BUFSIZE: u16 = 1232;
const NSID: u16 = 3;
const EXTENDED_ERROR: u16 = 15;

/// What is asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) qtype: RecordType,
    pub(crate) qclass: DNSClass,
    pub(crate) tcp: bool,
    pub(crate) recurse: bool,
    /// EDNS version and payload size.
    pub(crate) edns: Option<(u8, u16)>,
    pub(crate) dnssec_ok: bool,
    pub(crate) nsid: bool,
}

impl Question {
    /// Reads dig's arguments: `NAME [TYPE] [CLASS] [+tcp] [+noedns] [+edns=V] [+bufsize=N] [+dnssec] [+nsid] [+norec]`.
    pub(crate) fn parse(args: &str) -> Question {
        let mut words = args.split_whitespace();
        let mut question = Question {
            name: words.next().expect("a name to ask for").to_owned(),
            qtype: RecordType::A,
            qclass: DNSClass::IN,
            tcp: false,
            recurse: true,
            edns: Some((0, BUFSIZE)),
            dnssec_ok: false,
            nsid: false,
        };
        for word in words {
            let (version, size) = question.edns.unwrap_or((0, BUFSIZE));
            match word.split_once('=').unwrap_or((word, "")) {
                ("+tcp", _) => question.tcp = true,
                ("+norec", _) => question.recurse = false,
                ("+noedns", _) => question.edns = None,
                ("+edns", v) => question.edns = Some((v.parse().expect("an EDNS version"), size)),
                ("+bufsize", n) => question.edns = Some((version, n.parse().expect("a size"))),
                ("+dnssec", _) => question.dnssec_ok = true,
                ("+nsid", _) => question.nsid = true,
                ("IN" | "CH" | "HS", _) => question.qclass = word.parse().expect("a class"),
                _ => question.qtype = record_type(word),
            }
        }
        question
    }

    /// The query message.
    pub(crate) fn message(&self) -> Message {
        static NEXT_ID: AtomicU16 = AtomicU16::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recurse;
        let mut name = Name::from_ascii(&self.name).expect("a name that can be asked");
        name.set_fqdn(true);
        let mut query = Query::query(name, self.qtype);
        query.set_query_class(self.qclass);
        message.add_query(query);
        if let Some((version, size)) = self.edns {
            let mut edns = Edns::new();
            edns.set_version(version).set_max_payload(size).set_dnssec_ok(self.dnssec_ok);
            if self.nsid {
                edns.options_mut().insert(EdnsOption::Unknown(NSID, Vec::new()));
            }
            message.set_edns(edns);
        }
        message
    }
}

fn record_type(text: &str) -> RecordType {
    match text.strip_prefix("TYPE") {
        Some(number) => RecordType::from(number.parse::<u16>().expect("a type number")),
        None => text.parse().unwrap_or_else(|_| panic!("{text} is no record type")),
    }
}

/// Asks as dig would with these arguments, and returns what it would print.
pub(crate) fn dig(server: SocketAddr, args: &str) -> String {
    let question = Question::parse(args);
    let query = question.message();
    let octets = query.to_vec().expect("a query that can be encoded");
    let reply = if question.tcp { over_tcp(server, &octets) } else { over_udp(server, &octets) };
    let message = Message::from_vec(&reply).expect("a reply that can be decoded");
    assert_eq!(message.metadata.id, query.metadata.id, "the reply's id is the query's");
    render(&message)
}

/// Runs every `$ dig …` of a transcript and compares what it prints. Lines that begin with `# ` are remarks.
pub(crate) fn check_transcript(server: SocketAddr, transcript: &str) {
    let mut asked = 0;
    let (mut wanted, mut found) = (String::new(), String::new());
    for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        // Adding to a String cannot fail.
        let _ = writeln!(wanted, "{line}");
        if let Some(args) = line.strip_prefix("$ dig ") {
            asked += 1;
            let _ = write!(found, "{line}\n{}", dig(server, args));
        }
    }
    assert!(asked > 0, "a transcript that asks nothing");
    if wanted != found {
        let at = wanted.lines().zip(found.lines()).take_while(|(a, b)| a == b).count();
        let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
        panic!(
            "line {}: wanted {:?}, found {:?}; found in all:\n{found}",
            at + 1,
            line(&wanted),
            line(&found)
        );
    }
}

/// Sends one datagram and returns the reply to it.
pub(crate) fn over_udp(server: SocketAddr, message: &[u8]) -> Vec<u8> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).expect("a free port");
    // Only what comes from the address that was asked counts.
    socket.connect(server).expect("a route to the server");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    socket.send(message).expect("the query can be sent");
    let mut reply = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut reply).expect("a reply within the deadline");
    reply.truncate(length);
    reply
}

/// Sends one message over a connection of its own and returns the reply to it.
pub(crate) fn over_tcp(server: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let length = u16::try_from(message.len()).expect("a message of at most 65535 octets");
    stream.write_all(&[&length.to_be_bytes(), message].concat()).expect("the query can be sent");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a reply within the deadline");
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).expect("the whole reply");
    reply
}

/// A message as dig prints it.
pub(crate) fn render(message: &Message) -> String {
    let mut out = String::new();
    let line = |out: &mut String, text: String| out.extend([text.as_str(), "\n"]);
    let head = &message.metadata;
    let opcode = match head.op_code {
        OpCode::Query => "QUERY".to_owned(),
        other => format!("{other:?}").to_uppercase(),
    };
    line(
        &mut out,
        format!(";; ->>HEADER<<- opcode: {opcode}, status: {}", status(head.response_code.into())),
    );
    let flags = [
        (head.message_type == MessageType::Response, " qr"),
        (head.authoritative, " aa"),
        (head.truncation, " tc"),
        (head.recursion_desired, " rd"),
        (head.recursion_available, " ra"),
        (head.authentic_data, " ad"),
        (head.checking_disabled, " cd"),
    ];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    line(
        &mut out,
        format!(
            ";; flags:{flags}; QUERY: {}, ANSWER: {}, AUTHORITY: {}, ADDITIONAL: {}",
            message.queries.len(),
            message.answers.len(),
            message.authorities.len(),
            message.additionals.len() + usize::from(message.edns.is_some()),
        ),
    );
    if let Some(edns) = &message.edns {
        line(&mut out, ";; OPT PSEUDOSECTION:".to_owned());
        let dnssec_ok = if edns.flags().dnssec_ok { " do" } else { "" };
        let (version, size) = (edns.version(), edns.max_payload());
        line(&mut out, format!("; EDNS: version: {version}, flags:{dnssec_ok}; udp: {size}"));
        for (_, option) in &edns.options().options {
            line(&mut out, edns_option(option));
        }
    }
    if !message.queries.is_empty() {
        line(&mut out, ";; QUESTION SECTION:".to_owned());
    }
    for query in &message.queries {
        line(
            &mut out,
            format!(";{} {} {}", query.name(), query.query_class(), type_name(query.query_type())),
        );
    }
    for (title, records) in [
        ("ANSWER", &message.answers),
        ("AUTHORITY", &message.authorities),
        ("ADDITIONAL", &message.additionals),
    ] {
        if !records.is_empty() {
            line(&mut out, format!(";; {title} SECTION:"));
        }
        for record in records {
            line(&mut out, resource_record(record));
        }
    }
    out
}

fn resource_record(record: &Record) -> String {
    let data = match &record.data {
        RData::SOA(soa) => format!(
            "{} {} SERIAL {} {} {} {}",
            soa.mname, soa.rname, soa.refresh, soa.retry, soa.expire, soa.minimum
        ),
        RData::TXT(text) => {
            let string = |octets: &[u8]| match &*String::from_utf8_lossy(octets) {
                text if text.starts_with("serial=") => "\"serial=SERIAL\"".to_owned(),
                text => format!("{text:?}"),
            };
            text.txt_data.iter().map(|octets| string(octets)).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    format!("{} {} {} {} {data}", record.name, record.ttl, record.dns_class, type_name(record.record_type()))
}

fn type_name(rtype: RecordType) -> String {
    match rtype {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

fn edns_option(option: &EdnsOption) -> String {
    let (code, data): (u16, &[u8]) = match option {
        EdnsOption::NSID(id) => (NSID, id.as_ref()),
        EdnsOption::Unknown(code, data) => (*code, data),
        other => panic!("an option nobody asked for: {other:?}"),
    };
    match (code, data) {
        (NSID, id) => {
            let hex: String = id.iter().map(|octet| format!(" {octet:02x}")).collect();
            format!("; NSID:{hex} (\"{}\")", String::from_utf8_lossy(id))
        }
        (EXTENDED_ERROR, [high, low, text @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            let name = match code {
                14 => "Not Ready",
                18 => "Prohibited",
                20 => "Not Authoritative",
                _ => "?",
            };
            let text = if text.is_empty() {
                String::new()
            } else {
                format!(": ({})", String::from_utf8_lossy(text))
            };
            format!("; EDE: {code} ({name}){text}")
        }
        (code, data) => format!("; OPT={code}: {data:02x?}"),
    }
}

fn status(code: u16) -> String {
    let names = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    match (names.get(usize::from(code)), code) {
        (Some(name), _) => (*name).to_owned(),
        (None, 16) => "BADVERS".to_owned(),
        (None, other) => format!("RESERVED{other}"),
    }
}
