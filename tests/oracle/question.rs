//! Random questions: what exists, what almost exists, and what does not.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use crate::random::Random;
use crate::table::{LABELS, Table, below};

/// One query, and how it is sent.
pub(crate) struct Question {
    /// As it is spelled in the query.
    pub(crate) name: Name,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) edns: Option<Opt>,
    pub(crate) recursion_desired: bool,
    pub(crate) tcp: bool,
}

/// What the query's OPT says.
#[derive(Clone, Copy)]
pub(crate) struct Opt {
    pub(crate) udp_payload: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
}

const A: u16 = 1;
const AAAA: u16 = 28;
const DS: u16 = 43;
const SRV: u16 = 33;
const PTR: u16 = 12;
const ANY: u16 = 255;
/// NS, SOA, MX, TXT, SRV, HTTPS, CNAME, DNSKEY, PTR.
const OTHER_TYPES: [u16; 9] = [2, 6, 15, 16, SRV, 65, 5, 48, PTR];
/// OPT, TKEY, TSIG, IXFR, AXFR, MAILB, MAILA, and what no registry has given out.
const SPECIAL_TYPES: [u16; 9] = [41, 249, 250, 251, 252, 253, 254, 0, 65535];
/// RFC 1035 section 2.3.4: the most octets of a name, root label included.
const MAX_WIRE: usize = 255;

type Labels = Vec<Vec<u8>>;

impl Question {
    /// The next question of a sequence.
    pub(crate) fn random(table: &Table, random: &mut Random) -> Question {
        let mut labels = name(table, random);
        let mut rtype = match random.range(0..100) {
            0..32 => A,
            32..52 => AAAA,
            52..60 => ANY,
            60..64 => DS,
            64..92 => *random.pick(&OTHER_TYPES),
            92..95 => *random.pick(&SPECIAL_TYPES),
            _ => random.range(0..65536) as u16,
        };
        if random.chance(60) {
            rtype = match labels.first() {
                Some(first) if first.starts_with(b"_") => SRV,
                _ if labels.last().is_some_and(|last| last == b"arpa") => PTR,
                _ => rtype,
            };
        }
        if random.chance(3) {
            labels = split(random.pick::<String>(&table.zones));
            rtype = *random.pick(&[DS, DS, 2, 6]);
        }
        if random.chance(50) {
            let upper = random.range(1..101);
            for octet in labels.iter_mut().flatten() {
                if random.chance(upper) {
                    octet.make_ascii_uppercase();
                }
            }
        }
        let class = if random.chance(2) { *random.pick(&[3, 4, 254, 255, 0, 2, 4096]) } else { 1 };
        Question {
            name: wire_name(labels).expect("the name is of valid labels and length"),
            rtype,
            class,
            edns: random.chance(70).then(|| Opt::random(random)),
            recursion_desired: random.chance(50),
            tcp: random.chance(15),
        }
    }

    /// A question for a type of the same name over TCP without EDNS: its answer is not cut.
    pub(crate) fn whole(&self, rtype: u16) -> Question {
        Question { name: self.name.clone(), rtype, edns: None, tcp: true, ..*self }
    }

    /// The query's octets.
    pub(crate) fn octets(&self, id: u16) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        let mut query = Query::query(self.name.clone(), RecordType::from(self.rtype));
        query.set_query_class(DNSClass::from(self.class));
        message.add_query(query);
        if let Some(opt) = self.edns {
            let mut edns = Edns::new();
            edns.set_version(opt.version).set_dnssec_ok(opt.dnssec_ok);
            message.set_edns(edns);
        }
        let mut octets = message.to_vec().expect("a query can be encoded");
        if let Some(opt) = self.edns {
            // hickory writes no size below 512. The OPT is last: owner 1, type 2, class 2 (the size), TTL 4, length 2.
            let class = octets.len() - 8;
            octets[class..class + 2].copy_from_slice(&opt.udp_payload.to_be_bytes());
        }
        octets
    }

    /// The command that asks it.
    pub(crate) fn dig(&self) -> String {
        let Question { name, rtype, class, .. } = self;
        let edns = match self.edns {
            None => "+noedns".to_owned(),
            Some(Opt { udp_payload, version, dnssec_ok }) => {
                format!("+edns={version} +bufsize={udp_payload} +{}dnssec", if dnssec_ok { "" } else { "no" })
            }
        };
        let transport = if self.tcp { "+tcp" } else { "+notcp +ignore" };
        let rd = if self.recursion_desired { "+rec" } else { "+norec" };
        format!("dig {edns} {transport} {rd} -q {name} -t TYPE{rtype} -c CLASS{class}")
    }
}

impl Opt {
    fn random(random: &mut Random) -> Opt {
        let udp_payload = match random.range(0..10) {
            0..7 => *random.pick(&[0, 300, 512, 1232, 4096, 65535]),
            _ => random.range(500..1300) as u16,
        };
        let version = if random.chance(2) { random.range(1..256) as u8 } else { 0 };
        Opt { udp_payload, version, dnssec_ok: random.chance(50) }
    }
}

fn name(table: &Table, random: &mut Random) -> Labels {
    let zones: Vec<_> = table.all_zones().collect();
    let zone = (*random.pick(&zones)).clone();
    if !table.further.is_empty() && random.chance(20) {
        let mut labels = split(random.pick::<String>(&table.further));
        return match random.range(0..10) {
            0..6 => labels,
            6..8 => near_miss(labels, random),
            _ => labels.split_off(random.range(0..labels.len())),
        };
    }
    let host = {
        let nth = random.range(0..table.hosts.len().max(1));
        table.hosts.keys().nth(nth).cloned().unwrap_or_else(|| zone.clone())
    };
    match random.range(0..100) {
        0..35 => split(&host),
        35..50 => near_miss(split(&host), random),
        50..60 => {
            let mut labels = split(&host);
            labels.drain(..random.range(0..labels.len()));
            labels
        }
        60..66 => split(&zone),
        66..71 => split(&format!("ns.dns.{zone}")),
        71..74 => split(&format!("dns.{zone}")),
        74..77 => near_miss(split(&format!("{}dns.{zone}", random.pick(&["", "ns."]))), random),
        // The same relative name on another side of a zone cut.
        77..84 => {
            let own = table.zone_of(&host).unwrap_or_default();
            let relative = host.strip_suffix(own).unwrap_or_default();
            split(&format!("{relative}{zone}"))
        }
        84..92 => outside(&zone, random),
        _ => split(&below(&zone, random)),
    }
}

fn near_miss(mut labels: Labels, random: &mut Random) -> Labels {
    let at = random.range(0..labels.len());
    let label = &mut labels[at];
    let octet = random.range(0..label.len());
    match random.range(0..8) {
        0 => label[octet] = *random.pick(b"abcxyz019-_"),
        // The bit that makes letters of other case makes other octets of all else.
        1 | 2 => label[octet] ^= 0x20,
        3 => label[octet] = random.range(0..256) as u8,
        4 if label.len() > 1 => _ = label.remove(octet),
        5 if labels.len() > 1 => _ = labels.remove(at),
        6 => labels.insert(at, random.pick(&LABELS).as_bytes().to_vec()),
        _ => labels[0] = random.pick(&LABELS).as_bytes().to_vec(),
    }
    labels
}

fn outside(zone: &str, random: &mut Random) -> Labels {
    let label = *random.pick(&LABELS);
    match random.range(0..6) {
        0 => Labels::new(),
        1 => split("com"),
        2 => split(&format!("{zone}.com")),
        3 => split(&format!("{label}{zone}")),
        4 => split(&format!("{label}.example")),
        _ => split(&zone[1..]).into_iter().filter(|label| !label.is_empty()).collect(),
    }
}

fn split(name: &str) -> Labels {
    name.split('.').map(|label| label.as_bytes().to_vec()).collect()
}

/// The labels as a name; a near-miss that became too long loses its first labels.
fn wire_name(mut labels: Labels) -> Option<Name> {
    while labels.iter().map(|label| label.len() + 1).sum::<usize>() >= MAX_WIRE {
        labels.remove(0);
    }
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}
