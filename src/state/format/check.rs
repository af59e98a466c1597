//! Files that are damaged, and files that nobody wrote but whose checksums are right (L6): what is not as it was written
//! is not used, and what can be read can be written and served.

use std::net::IpAddr;

use ring::digest::digest;

use super::*;
use crate::index::{Index, Partition, Policy};
use crate::testing::Octets;
use crate::zone::{Table, Zones};

const SOURCE: Partition = Partition(0);

/// Makes a file of octets, and panics where what is read of it breaks a rule.
pub(crate) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    match octets.below(4) {
        0 => {
            let file = octets.rest();
            assert!(read(file).is_err() || is_as_written(file), "{file:?}");
        }
        1 => damaged(&mut octets),
        2 => signed(&header(), &[octets.rest()]),
        _ => {
            let (mut header, mut records) = (header(), Vec::new());
            for entry in entries(&mut octets) {
                records =
                    postcard::to_extend(&Record::of(&entry), records).expect("a vector takes everything");
            }
            let inside = if octets.one_in(4) { &mut header } else { &mut records };
            mutated(&mut octets, inside);
            let (first, second) = records.split_at(records.len() / (1 + octets.below(4)));
            signed(&header, &[first, second]);
        }
    }
}

fn read(file: &[u8]) -> Result<(Header, Vec<Entry>), Unusable> {
    let reader = Reader::new(file)?;
    let (header, mut entries) = (reader.header.clone(), Vec::new());
    reader.read(|entry| entries.push(entry))?;
    Ok((header, entries))
}

fn written(header: &Header, entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), header).expect("a vector takes everything");
    entries.iter().for_each(|entry| writer.write(entry).expect("a vector takes everything"));
    writer.finish().expect("a vector takes everything")
}

/// The module text once more: every sum is that of all before it, and the empty frame is the end.
fn is_as_written(file: &[u8]) -> bool {
    let mut at = "globaldns-state 2\n".len();
    while let Some(length) = file.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let (length, end) = (u32::from_le_bytes(*length) as usize, at + 4);
        let Some(sum) = file.get(end + length..end + length + SHA256_OUTPUT_LEN) else { return false };
        if digest(&SHA256, &file[..end + length]).as_ref() != sum {
            return false;
        }
        at = end + length + SHA256_OUTPUT_LEN;
        if length == 0 {
            return at == file.len() && file.starts_with(b"globaldns-state 2\n");
        }
    }
    false
}

fn damaged(octets: &mut Octets<'_>) {
    let known: Header = serde_json::from_slice(&header()).expect("a header");
    let entries = entries(octets);
    let file = written(&known, &entries);
    assert!(is_as_written(&file));
    assert!(read(&file).is_ok_and(|found| found == (known, entries)), "{file:?}");
    let mut other = file.clone();
    mutated(octets, &mut other);
    assert!(other == file || read(&other).is_err(), "{file:?}\n{other:?}");
}

/// A file of these contents with the right sums.
fn signed(header: &[u8], frames: &[&[u8]]) {
    let mut file = format!("{MAGIC}{FORMAT}\n").into_bytes();
    let frames = [header].into_iter().chain(frames.iter().copied().filter(|frame| !frame.is_empty()));
    for frame in frames.chain([&[][..]]) {
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(frame);
        file.extend(digest(&SHA256, &file).as_ref().to_vec());
    }
    match read(&file) {
        Ok((header, entries)) => {
            let again = read(&written(&header, &entries)).expect("just written");
            assert_eq!(again, (header, entries.clone()));
            served(entries);
        }
        Err(Unusable::Damaged(why)) => {
            let content = [
                "its header cannot be read",
                "an entry cannot be read",
                "a host cannot be read",
                "a port cannot be read",
            ];
            // An empty header is the end of a file too early.
            assert!(content.contains(&why) || header.is_empty(), "{why}: {file:?}");
        }
        Err(other) => panic!("{other}: {file:?}"),
    }
}

/// As it is when it stands in for a list: nothing ends the program, and nothing is left when it is replaced.
fn served(entries: Vec<Entry>) {
    let name = |text: &str| Name::parse(text).expect(text);
    let zones = Zones::new(vec![name("global"), name("c2")], name("cluster.local"), 0).expect("zones");
    let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 };
    let index = Index::new(policy, Arc::new(Table::new(zones)), || 1000);
    let packed = entries.into_iter().map(|mut entry| {
        entry.claims.retain(|claim| index.table().zones().covering(claim.host.name.wire()).is_some());
        index.pack(SOURCE, entry)
    });
    index.reset(SOURCE, packed.collect());
    index.findings();
    index.reset(SOURCE, Vec::new());
    index.table().for_each(|host, _| panic!("{host} is left"));
    assert!(index.findings().is_empty() && index.table().zones().iter().all(|zone| zone.digest() == 0));
}

/// Some octets changed, cut out, put in or taken away at the end.
fn mutated(octets: &mut Octets<'_>, of: &mut Vec<u8>) {
    for _ in 0..octets.below(4) {
        let at = usize::from(octets.u16()) % (of.len() + 1);
        match octets.below(4) {
            0 => of.truncate(at),
            1 => of.insert(at, octets.octet()),
            _ if at == of.len() => of.push(octets.octet()),
            2 => _ = of.remove(at),
            _ => of[at] = octets.octet(),
        }
    }
}

fn header() -> Vec<u8> {
    let header = Header {
        program: "0.1.0".to_owned(),
        made_from: [("zones".to_owned(), vec!["global".to_owned()])].into(),
        heard: 1_795_000_000,
        serials: [("global".to_owned(), 1_795_000_000)].into(),
    };
    serde_json::to_vec(&header).expect("JSON")
}

fn entries(octets: &mut Octets<'_>) -> Vec<Entry> {
    (0..octets.below(4)).map(|_| entry(octets)).collect()
}

fn services(flags: u8) -> Vec<Service> {
    let named = [("http", Protocol::Tcp, 80), ("dns", Protocol::Udp, u16::MAX)];
    let count = usize::from(flags >> 6).min(named.len());
    named[..count].iter().filter_map(|(name, protocol, port)| Service::new(name, *protocol, *port)).collect()
}

fn entry(octets: &mut Octets<'_>) -> Entry {
    let flags = octets.octet();
    let origin = match flags & 1 {
        0 => Origin::Object,
        _ => Origin::Document { path: octets.text().into(), position: (octets.u16().into(), 0) },
    };
    let mut addresses: Arc<[IpAddr]> = Arc::default();
    let claims = (0..octets.below(4)).map(|field| {
        if octets.one_in(2) {
            let v4 = |n: u8| IpAddr::from([240, 0, 0, n]);
            let v6 = |n: u8| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()]);
            addresses =
                (0..octets.below(4)).map(|n| if n % 2 == 0 { v4(n as u8) } else { v6(n as u8) }).collect();
        }
        let name = octets.pick(&["a.global", "b.a.global", "global", "x.c2", "outside.com"]);
        let host = Host { name: Name::parse(name).expect(name), wildcard: octets.one_in(4) };
        Claim { host, addresses: addresses.clone(), field: field as u32 }
    });
    let claims = claims.collect();
    let finding = |octets: &mut Octets<'_>| {
        let code = Code::ALL[octets.below(Code::ALL.len())];
        Finding::new(code, octets.text(), "spec.hosts[0]", octets.text().as_str(), "why", "remedy")
    };
    Entry {
        id: EntryId { namespace: octets.text().into(), name: octets.text().into(), origin },
        created: (flags & 2 != 0).then(|| i64::from(octets.u16()) - 9),
        public: flags & 4 != 0,
        resolution_none: flags & 8 != 0,
        allocated: flags & 16 != 0,
        ttl: (flags & 32 != 0).then(|| octets.u16().into()),
        claims,
        services: services(flags),
        findings: (0..octets.below(2)).map(|_| finding(octets)).collect(),
        unserved: (0..octets.below(2))
            .map(|n| Unserved::new((n as u32 & 3) << 28 | n as u32, &octets.text()))
            .collect(),
    }
}
