use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::entry::Rules;
use crate::zone::Zones;

fn zones() -> Zones {
    let name = |text: &str| Name::parse(text).expect(text);
    Zones::new(vec![name("global"), name("cluster2")], name("cluster.local"), 0).expect("valid zones")
}

fn header() -> Header {
    Header {
        program: "0.1.0".to_owned(),
        made_from: [("zones".to_owned(), vec!["global".to_owned(), "cluster2".to_owned()])].into(),
        heard: 1_795_000_000,
        serials: [("global".to_owned(), 1_795_000_000)].into(),
    }
}

fn read_entry(object: serde_json::Value, origin: Origin) -> Entry {
    Entry::read(&object, origin, &zones(), &Rules { services: true, ..Rules::default() })
}

/// An ordinary entry, and one with everything an entry can have.
fn entries() -> Vec<Entry> {
    let rich = json!({
        "metadata": {"namespace": "foo", "name": "rich", "creationTimestamp": "2024-01-31T12:00:00Z",
                     "annotations": {"globaldns.io/ttl": "77"}},
        "spec": {"hosts": ["a.global", "x.com", "*.b.cluster2", "bad name", "global"], "exportTo": ["."],
                 "addresses": ["240.0.0.1", "2001:db8::1", "10.0.0.0/8"], "resolution": "DNS",
                 "ports": [{"number": 80, "name": "http"}, {"number": 53, "name": "dns", "protocol": "UDP"}]}
    });
    let allocated = json!({
        "metadata": {"name": "allocated"},
        "spec": {"hosts": ["c.global", "d.global"], "resolution": "STATIC"},
        "status": {"addresses": [{"host": "c.global", "value": "240.0.0.2"}]}
    });
    let document = Origin::Document { path: "/a/b.yaml".into(), position: (3, 4) };
    vec![read_entry(rich, Origin::Object), read_entry(allocated, document)]
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &header()).expect("a vector takes everything");
    for entry in entries {
        writer.write(entry).expect("a vector takes everything");
    }
    writer.finish().expect("a vector takes everything");
    file
}

fn read(file: &[u8]) -> Result<(Header, Vec<Entry>), Unusable> {
    let reader = Reader::new(file)?;
    let (header, mut entries) = (reader.header.clone(), Vec::new());
    reader.read(|entry| entries.push(entry))?;
    Ok((header, entries))
}

/// [L6] So answers and findings are the same after a restart.
#[test]
fn what_is_read_is_what_was_written() {
    let entries = entries();
    assert!(entries.iter().any(|entry| !entry.findings.is_empty()));
    assert!(entries.iter().any(|entry| !entry.unserved.is_empty()));
    let (found, read_back) = read(&written(&entries)).expect("as it was written");
    assert_eq!((found, read_back), (header(), entries));
    let (_, none) = read(&written(&[])).expect("as it was written");
    assert_eq!(none, []);
}

/// [L6]
#[test]
fn a_file_cut_at_any_octet_is_damaged() {
    let file = written(&entries());
    for end in 0..file.len() {
        assert!(matches!(read(&file[..end]), Err(Unusable::Damaged(_))), "cut at {end}");
    }
    let longer = [&file[..], b"\0"].concat();
    assert!(matches!(read(&longer), Err(Unusable::Damaged("something follows its end"))));
}

/// [L6]
#[test]
fn a_file_with_any_bit_turned_is_not_used() {
    let file = written(&entries());
    for bit in 0..file.len() * 8 {
        let mut other = file.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let read = read(&other);
        // A turned bit in the number of the format is another format.
        assert!(matches!(read, Err(Unusable::Damaged(_) | Unusable::Format(_))), "bit {bit}");
    }
}

/// [L6]
#[test]
fn another_format_is_told_by_its_number() {
    let file = written(&entries());
    for number in ["0", "3", "17"] {
        let line = format!("globaldns-state {number}\n");
        let other = [line.as_bytes(), &file[line.len()..]].concat();
        let Err(error) = read(&other) else { panic!("format {number} was read") };
        assert!(error.to_string().contains(&format!("format {number}, and this version reads format 2")));
    }
}

/// Whoever changes what is written has to change the number of the format: an installed program reads old files.
#[test]
fn format_2_is_what_it_always_was() {
    let mut entries = entries();
    for entry in &mut entries {
        // Their own texts may change.
        entry.findings = vec![Finding::new(Code::HostInvalid, "object", "field", "value", "why", "remedy")];
    }
    let digest = ring::digest::digest(&SHA256, &written(&entries));
    let text: String = digest.as_ref()[..8].iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!((FORMAT, text.as_str()), (2, "6c5b71820836d9fc"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// [L6]
    #[test]
    fn files_of_many_frames_come_back_and_no_damage_is_taken_for_state(
        many in 0..3000usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let entry = entries().remove(1);
        let all = vec![entry; many];
        let file = written(&all);
        prop_assert!(read(&file).is_ok_and(|(_, back)| back == all));
        let mut other = file.clone();
        for (at, octet) in damage {
            let at = at.index(other.len());
            other[at] = octet;
        }
        if let Some(cut) = cut {
            other.truncate(cut.index(file.len()));
        }
        prop_assert!(other == file || read(&other).is_err());
    }
}

/// [L6] A disk may have terabytes.
#[test]
fn a_damaged_length_is_not_read_to_the_end() {
    let file = written(&entries());
    let first = format!("{MAGIC}{FORMAT}\n").len();
    let length = u32::from_le_bytes(file[first..first + 4].try_into().expect("four octets")) as usize;
    for (at, most) in [(first, MOST_HEADER), (first + 4 + length + SHA256_OUTPUT_LEN, MOST_FRAME)] {
        let mut damaged = file.clone();
        damaged[at..at + 4].copy_from_slice(&(most + 1).to_le_bytes());
        let read = Reader::new(&damaged[..]).and_then(|reader| reader.read(|_| {}));
        assert!(matches!(read, Err(Unusable::Damaged("a length in it cannot be right"))), "{read:?}");
    }
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, &header()).expect("a vector takes everything");
    writer.frame = vec![0; MOST_FRAME as usize + 1];
    assert!(writer.flush().is_err(), "what could not be read is not written");
}
