//! Names as text and in wire form, held to hickory's (H1, H2, H4, H5, Z3, H6, D11, D15, K1).

use hickory_proto::rr::Name as HickoryName;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use serde_json::json;

use super::Octets;
use crate::entry::{Entry, Origin, Rules};
use crate::wire::name::{self, MAX_LABEL, MAX_WIRE, Name};
use crate::wire::query::{self, HEADER};
use crate::zone::Zones;

/// Labels few enough for names to meet; some hold what looks like the length of a label.
const LABELS: [&[u8]; 10] =
    [b"a", b"b", b"global", b"eu", b"svc", b"cluster", b"local", b"x\x01a", b"\x06global", b"a.b"];
const CLUSTER_DOMAIN: &[u8] = b"\x07cluster\x05local\x00";

pub(super) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    match octets.below(3) {
        0 => text(&String::from_utf8_lossy(octets.rest())),
        1 => wire(octets.rest()),
        _ => suffixes(&mut octets),
    }
}

/// A text is a name to us exactly if it has only the letters of H1 and hickory takes its labels, and then it is the
/// same one.
fn text(text: &str) {
    let ours = Name::parse(text);
    let letters = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let is_written_well = text.chars().all(letters) && labels.clone().all(|label| !label.is_empty());
    let theirs = HickoryName::from_labels(labels.map(str::as_bytes)).ok().filter(|_| is_written_well);
    assert_eq!(ours.is_ok(), theirs.is_some(), "{text:?}: {ours:?}, {theirs:?}");
    if let (Ok(ours), Some(theirs)) = (&ours, &theirs) {
        assert_eq!(ours.wire(), in_wire_form(&theirs.to_lowercase()), "{text:?}");
        assert_eq!(ours.to_string(), text.trim_end_matches('.').to_ascii_lowercase());
        assert_eq!(Name::parse(&format!("{ours}.")).as_ref(), Ok(ours));
        assert_eq!(Name::parse(&text.to_ascii_uppercase()).as_ref(), Ok(ours));
        meets_its_parts(ours.wire());
    }
    as_a_host(text);
}

/// What an entry makes of a host: a claim, a host of others, or one finding.
fn as_a_host(text: &str) {
    let zones = Zones::new([b"\x06global\x00"].map(|apex| Name::from_tail(&apex[..])).into(), cluster(), 0);
    let zones = zones.expect("a zone");
    let object = json!({ "metadata": { "name": "a" }, "spec": { "hosts": [text] } });
    let entry = Entry::read(&object, Origin::Object, &zones, &Rules::default());
    let (wildcard, rest) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
    let name = Name::parse(rest).ok().filter(|_| text.trim_end_matches('.').len() <= 253);
    let relative = name.as_ref().and_then(|name| name.wire().strip_suffix(b"\x06global\x00"));
    let is_below = relative.is_some_and(|relative| {
        name::offsets(relative).last().is_none_or(|at| at + 1 + usize::from(relative[at]) == relative.len())
    });
    let served = is_below
        && match relative {
            Some(b"") => !wildcard,
            Some(b"\x03dns" | b"\x02ns\x03dns") => wildcard,
            Some(label) if wildcard => !label.is_empty(),
            Some([length, label @ ..]) => {
                usize::from(*length) != label.len() || !label.starts_with(b"_probe-") || label.len() == 7
            }
            None => false,
        };
    let outside = name.is_some() && !is_below;
    let counts = (entry.claims.len(), entry.unserved.len(), entry.findings.len());
    let expected = (usize::from(served), usize::from(outside), usize::from(!served && !outside));
    assert_eq!(counts, expected, "{text:?}: {entry:?}");
    if let [claim] = &entry.claims[..] {
        assert_eq!(claim.host.to_string(), text.trim_end_matches('.').to_ascii_lowercase());
    }
}

/// The name of a question is read as hickory reads one that is not compressed.
fn wire(octets: &[u8]) {
    let header = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let message = [&header, octets].concat();
    let mut decoder = BinDecoder::new(octets);
    let theirs = HickoryName::read(&mut decoder).ok();
    let end = decoder.index();
    let theirs = theirs.filter(|name| in_wire_form(name).len() == end && octets.len() == end + 4);
    let ours = query::parse(&message);
    assert_eq!(ours.is_ok(), theirs.is_some(), "{octets:?}: {ours:?}, {theirs:?}");
    if let (Ok(ours), Some(theirs)) = (ours, theirs) {
        assert_eq!(ours.name(), &octets[..end]);
        assert_eq!(message[HEADER..], *ours.question);
        let mut room = [0; MAX_WIRE];
        let lower = ours.lower_name(&mut room);
        assert_eq!(lower, in_wire_form(&theirs.to_lowercase()), "{octets:?}");
        if !theirs.is_root() {
            meets_its_parts(lower);
        }
    }
}

/// Labels, parents and tails of a name are hickory's.
fn meets_its_parts(wire: &[u8]) {
    let theirs = read(wire);
    let ours = Name::from_tail(wire);
    let run = ours.labels_wire();
    assert!(name::labels(run).eq(theirs.iter()), "{wire:?}");
    assert_eq!(name::offsets(run).count(), theirs.iter().count());
    let base = theirs.base_name();
    match name::parent(wire) {
        Some(up) => assert_eq!(up, in_wire_form(&base), "{wire:?}"),
        None => assert!(base.is_root()),
    }
    for at in 0..run.len() {
        let is_label = name::offsets(run).any(|offset| offset == at);
        assert_eq!(name::ends_in(run, &run[at..]), is_label, "{wire:?} at {at}");
    }
}

/// Zones and names whose labels are alike: which zone is a name's, and is it what a search path makes?
fn suffixes(octets: &mut Octets<'_>) {
    let apexes: Vec<Name> = (0..1 + octets.below(4)).map(|_| Name::from_tail(drawn(octets, 3))).collect();
    let Ok(zones) = Zones::new(apexes, cluster(), 0) else { return };
    let mut name = drawn(octets, 6);
    if octets.one_in(2) {
        let apex = zones.get(octets.below(zones.count())).expect("a zone").apex();
        name.truncate(name.len() - 1);
        name.extend(apex.wire());
    }
    let theirs = read(&name);
    let in_zone = |apex: &Name| read(apex.wire()).zone_of(&theirs);
    let longest =
        zones.iter().filter(|zone| in_zone(zone.apex())).max_by_key(|zone| zone.apex().wire().len());
    let covering = zones.covering(&name);
    assert_eq!(covering.map(|(zone, _)| zone.apex()), longest.map(|zone| zone.apex()), "{name:?}");
    let ours = Name::from_tail(name.as_slice());
    for zone in zones.iter() {
        assert_eq!(zone.apex().covers(&ours), in_zone(zone.apex()), "{name:?} below {:?}", zone.apex());
    }
    if let Some((zone, at)) = covering {
        assert_eq!(&name[at..], zone.apex().wire());
        // H6, asked of the name without its zone.
        let relative = read(&[&name[..at], &[0]].concat());
        let product = read(CLUSTER_DOMAIN).zone_of(&relative)
            || zones.iter().any(|zone| read(zone.apex().wire()).zone_of(&relative));
        assert_eq!(zones.is_search_path_product(&name[..at]), product, "{name:?}");
    }
    meets_its_parts(&name);
}

/// A name in lower-case wire form, not the root, of at most so many labels.
fn drawn(octets: &mut Octets<'_>, most: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..1 + octets.below(most) {
        let label = match octets.below(16) {
            15 => {
                let length = 1 + octets.below(MAX_LABEL);
                octets.many(length).to_ascii_lowercase()
            }
            n => LABELS[n % LABELS.len()].to_vec(),
        };
        if wire.len() + label.len() < 120 {
            wire.push(label.len() as u8);
            wire.extend(label);
        }
    }
    wire.push(0);
    wire
}

fn cluster() -> Name {
    Name::from_tail(CLUSTER_DOMAIN)
}

fn read(wire: &[u8]) -> HickoryName {
    HickoryName::read(&mut BinDecoder::new(wire)).expect("a name")
}

fn in_wire_form(name: &HickoryName) -> Vec<u8> {
    let labels = name.iter().flat_map(|label| [&[label.len() as u8], label].concat());
    labels.chain([0]).collect()
}
