//! The probe (D18): a name that nobody but this server answers, and what its answer proves.
//!
//! Both ends are here, so that they cannot differ: the responder writes a [`Proof`], `stub` reads it.

use std::io::Write;

use super::name;
use super::reply::MAX_NSID;

/// What the label of a probe begins with, in lower case; the nonce follows.
pub const PREFIX: &str = "_probe-";
/// TTL of the proof, seconds. Caches may raise it, CoreDNS's to 5: so who asks takes a new nonce each time.
pub const TTL: u32 = 0;
/// The most octets of a proof's RDATA.
pub const MAX_RDATA: usize =
    1 + PROGRAM.len() + 1 + INSTANCE.len() + MAX_NSID + 1 + SERIAL.len() + MAX_SERIAL;

const PROGRAM: &[u8] = b"globaldns";
const INSTANCE: &[u8] = b"instance=";
const SERIAL: &[u8] = b"serial=";
/// Digits of the largest serial.
const MAX_SERIAL: usize = 10;

/// Whether these lower-case labels in front of a zone are a probe's: one, and with a nonce.
pub fn is_probe(relative: &[u8]) -> bool {
    relative.len() > 1 + PREFIX.len()
        && relative[1..].starts_with(PREFIX.as_bytes())
        && relative.len() == 1 + usize::from(relative[0])
}

/// What a probe's TXT record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The name server identifier of the replica that answered (`--nsid`), if it has one.
    pub instance: Option<String>,
    /// Its serial of the zone (D6).
    pub serial: u32,
}

impl Proof {
    /// Reads the character-strings of a TXT record; `None` if they are not ours. Strings we do not know are passed
    /// over.
    pub fn read<'s>(strings: impl IntoIterator<Item = &'s [u8]>) -> Option<Proof> {
        let mut strings = strings.into_iter();
        if strings.next()? != PROGRAM {
            return None;
        }
        let (mut instance, mut serial) = (None, None);
        for string in strings {
            if let Some(id) = string.strip_prefix(INSTANCE) {
                instance = Some(String::from_utf8_lossy(id).into_owned());
            } else if let Some(number) = string.strip_prefix(SERIAL) {
                serial = std::str::from_utf8(number).ok()?.parse().ok();
            }
        }
        Some(Proof { instance, serial: serial? })
    }
}

/// The RDATA of a proof, in `room`. An empty `instance` is left out.
pub fn rdata<'r>(instance: &[u8], serial: u32, room: &'r mut [u8; MAX_RDATA]) -> &'r [u8] {
    let instance = &instance[..instance.len().min(MAX_NSID)];
    let mut digits = [0; MAX_SERIAL];
    let mut unused = &mut digits[..];
    // It has room for every u32.
    let _ = write!(unused, "{serial}");
    let unused = unused.len();
    let serial = &digits[..MAX_SERIAL - unused];
    let mut end = 0;
    for (key, value) in [(PROGRAM, &b""[..]), (INSTANCE, instance), (SERIAL, serial)] {
        if key == INSTANCE && value.is_empty() {
            continue;
        }
        for part in [&[(key.len() + value.len()) as u8], key, value] {
            room[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
    }
    &room[..end]
}

/// The character-strings of a TXT record's RDATA.
pub fn strings(rdata: &[u8]) -> impl Iterator<Item = &[u8]> {
    // A length and so many octets, as labels are: RFC 1035 section 3.3.
    name::labels(rdata)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [D18]
    #[test]
    fn a_probe_is_one_label_with_a_nonce() {
        for (relative, expected) in [
            (&b"\x08_probe-a"[..], true),
            (b"\x09_probe-\x00.", true),
            (b"", false),
            (b"\x07_probe-", false),
            (b"\x07_probes", false),
            (b"\x08_probe_a", false),
            (b"\x08xprobe-a", false),
            (b"\x08_probe-a\x01b", false),
            (b"\x01b\x08_probe-a", false),
            // A shorter label whose successors happen to spell the rest.
            (b"\x07_probe-\x01a", false),
        ] {
            assert_eq!(is_probe(relative), expected, "{relative:?}");
        }
        let longest = [&[63], PREFIX.as_bytes(), &[b'z'; 56]].concat();
        assert!(is_probe(&longest));
    }

    /// [D18]
    #[test]
    fn a_proof_is_read_as_it_was_written() {
        let longest = "n".repeat(MAX_NSID);
        for (instance, serial, octets) in
            [("", 0, 10 + 9), ("pod-1", 1_700_000_000, 10 + 15 + 18), (longest.as_str(), u32::MAX, MAX_RDATA)]
        {
            let mut room = [0xaa; MAX_RDATA];
            let written = rdata(instance.as_bytes(), serial, &mut room);
            assert_eq!(written.len(), octets);
            let instance = (!instance.is_empty()).then(|| instance.to_owned());
            assert_eq!(Proof::read(strings(written)), Some(Proof { instance, serial }));
        }
        let mut room = [0; MAX_RDATA];
        assert_eq!(rdata(b"a", 7, &mut room), b"\x09globaldns\x0ainstance=a\x08serial=7");
    }

    /// [D18]
    #[test]
    fn what_others_write_is_no_proof() {
        let cases: [(&[&[u8]], Option<u32>); 7] = [
            (&[], None),
            (&[b"v=spf1 -all"], None),
            (&[b"globaldns"], None),
            (&[b"globaldns", b"serial="], None),
            (&[b"globaldns", b"serial=-1"], None),
            (&[b"serial=1", b"globaldns"], None),
            (&[b"globaldns", b"later=x", b"serial=1"], Some(1)),
        ];
        for (strings, serial) in cases {
            let read = Proof::read(strings.iter().copied());
            assert_eq!(read.map(|proof| proof.serial), serial, "{strings:?}");
        }
    }
}
