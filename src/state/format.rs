//! What a file of saved state holds: a header and every entry of one source.
//!
//! ```text
//! globaldns-state 2⏎   header   entries   entries   …   (nothing)
//! ```
//!
//! After the first line come frames: the length of what is in it (four octets, little-endian), that, and the SHA-256 of
//! the whole file so far. So the header can be trusted without the rest, and nothing is read before it is known to be
//! as it was written. A frame of nothing is the last. The header is JSON; entries are in the format of [`postcard`].
//!
//! The file has what was read from the objects, not the objects: nobody keeps those, and the index is what has to be
//! the same. So the settings an entry is read under belong to what it was made from.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod check;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Serialize};

use crate::entry::{Claim, Entry, EntryId, Origin, Unserved};
use crate::finding::{Code, Finding};
use crate::wire::name::Name;
use crate::zone::Host;
use crate::zone::extra::{Protocol, Service};

/// The format of this version. Another number is needed whenever an older program would misread a newer file or the
/// other way round, also because the same object is now read as something else.
const FORMAT: u32 = 2;
/// The format before this one, whose header is the same: the serials in it count (D6), its entries do not.
const BEFORE: u32 = 1;
const MAGIC: &str = "globaldns-state ";
/// A frame is written when it has so many octets.
const FRAME: usize = 64 * 1024;
/// No frame is longer, be it of one entry. What says so is damaged, and not read to the end of the disk.
const MOST_FRAME: u32 = 64 << 20;
/// The same for the header.
const MOST_HEADER: u32 = 1 << 20;

/// What the entries were made from, by name: the cluster or the files, the zones, the settings. Another one has others.
pub(super) type Fingerprint = BTreeMap<String, Vec<String>>;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// The version of the program that wrote it.
    pub(super) program: String,
    /// What it was made from.
    pub(super) made_from: Fingerprint,
    /// When the source was last heard, Unix seconds.
    pub(super) heard: u64,
    /// The serials of the zones (D6).
    pub(super) serials: BTreeMap<String, u32>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// The operating system says no.
    #[error("it cannot be read ({0}); check the directory and its permissions")]
    Io(io::Error),
    /// Not as it was written.
    #[error(
        "it is damaged ({0}); the source's next complete list replaces it, and if it happens again, check the disk"
    )]
    Damaged(&'static str),
    /// Written by another version.
    #[error(
        "it has format {0}, and this version reads format {FORMAT}; the source's next complete list replaces it"
    )]
    Format(String),
    /// Not ours.
    #[error("{0}")]
    Other(String),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Unusable {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Unusable::Damaged("it ends too early"),
            _ => Unusable::Io(error),
        }
    }
}

/// Writes a file.
pub(super) struct Writer<W> {
    out: W,
    sum: Context,
    frame: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W, header: &Header) -> io::Result<Writer<W>> {
        let first = format!("{MAGIC}{FORMAT}\n");
        out.write_all(first.as_bytes())?;
        let mut sum = Context::new(&SHA256);
        sum.update(first.as_bytes());
        let mut writer = Writer { out, sum, frame: serde_json::to_vec(header)? };
        writer.flush()?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let frame = std::mem::take(&mut self.frame);
        self.frame = postcard::to_extend(&Record::of(entry), frame).map_err(io::Error::other)?;
        if self.frame.len() >= FRAME { self.flush() } else { Ok(()) }
    }

    /// Gives back what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.frame.is_empty() {
            self.flush()?;
        }
        self.flush()?;
        Ok(self.out)
    }

    fn flush(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.frame.len()).map_err(io::Error::other)?;
        if length > MOST_FRAME {
            return Err(io::Error::other("an entry is too big to be saved"));
        }
        let length = length.to_le_bytes();
        for part in [&length[..], &self.frame] {
            self.sum.update(part);
            self.out.write_all(part)?;
        }
        let sum = self.sum.clone().finish();
        self.sum.update(sum.as_ref());
        self.out.write_all(sum.as_ref())?;
        self.frame.clear();
        Ok(())
    }
}

/// Reads a file.
pub(super) struct Reader<R> {
    input: R,
    sum: Context,
    /// Whether its entries can be read, too.
    is_current: bool,
    /// What it says of itself.
    pub(super) header: Header,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(mut input: R) -> Result<Reader<R>, Unusable> {
        let mut first = Vec::new();
        while first.last() != Some(&b'\n') {
            let mut octet = [0];
            input.read_exact(&mut octet)?;
            first.extend(octet);
            if first.len() > MAGIC.len() + 11 {
                break;
            }
        }
        let text = std::str::from_utf8(&first).ok().and_then(|text| text.strip_suffix('\n'));
        let is_current = match text.and_then(|text| text.strip_prefix(MAGIC)) {
            None => return Err(Unusable::Damaged("it does not begin as saved state does")),
            Some(format) if format == FORMAT.to_string() => true,
            Some(format) if format == BEFORE.to_string() => false,
            Some(format) => return Err(Unusable::Format(format.to_owned())),
        };
        let mut sum = Context::new(&SHA256);
        sum.update(&first);
        let frame = next(&mut input, &mut sum, MOST_HEADER)?;
        let header =
            serde_json::from_slice(&frame).map_err(|_| Unusable::Damaged("its header cannot be read"))?;
        Ok(Reader { input, sum, is_current, header })
    }

    /// Whether its entries can be read.
    pub(super) fn check_format(&self) -> Result<(), Unusable> {
        if self.is_current { Ok(()) } else { Err(Unusable::Format(BEFORE.to_string())) }
    }

    /// Gives every entry to `take`. They count only if this succeeds.
    pub(super) fn read(mut self, mut take: impl FnMut(Entry)) -> Result<(), Unusable> {
        self.check_format()?;
        loop {
            let frame = next(&mut self.input, &mut self.sum, MOST_FRAME)?;
            if frame.is_empty() {
                break;
            }
            let mut rest = &frame[..];
            while !rest.is_empty() {
                let (record, after) = postcard::take_from_bytes::<Record<'_>>(rest)
                    .map_err(|_| Unusable::Damaged("an entry cannot be read"))?;
                rest = after;
                take(record.entry()?);
            }
        }
        match self.input.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Unusable::Damaged("something follows its end")),
        }
    }
}

/// The next frame's content, as it was written.
fn next(input: &mut impl Read, sum: &mut Context, most: u32) -> Result<Vec<u8>, Unusable> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    sum.update(&length);
    let length = u32::from_le_bytes(length);
    if length > most {
        return Err(Unusable::Damaged("a length in it cannot be right"));
    }
    let mut frame = Vec::new();
    // Not allocated beforehand: the length may be damaged.
    input.take(u64::from(length)).read_to_end(&mut frame)?;
    sum.update(&frame);
    let mut expected = [0; SHA256_OUTPUT_LEN];
    input.read_exact(&mut expected)?;
    if sum.clone().finish().as_ref() != expected {
        return Err(Unusable::Damaged("its checksum is wrong"));
    }
    sum.update(&expected);
    Ok(frame)
}

/// An entry as it is written.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Path, document and item of [`Origin::Document`].
    document: Option<(&'a str, u32, u32)>,
    created: Option<i64>,
    public: bool,
    resolution_none: bool,
    allocated: bool,
    ttl: Option<u32>,
    #[serde(borrow)]
    claims: Vec<ClaimRecord<'a>>,
    /// Name, whether it is UDP, and port.
    services: Vec<(&'a str, bool, u16)>,
    /// See [`Unserved::tag`].
    unserved: Vec<(u32, &'a str)>,
    findings: Vec<FindingRecord<'a>>,
}

#[derive(Serialize, Deserialize)]
struct ClaimRecord<'a> {
    #[serde(borrow)]
    host: Cow<'a, str>,
    field: u32,
    /// None where they are those of the claim before.
    addresses: Option<Cow<'a, [IpAddr]>>,
}

#[derive(Serialize, Deserialize)]
struct FindingRecord<'a> {
    code: &'a str,
    object: &'a str,
    field: &'a str,
    value: &'a str,
    why: &'a str,
    remedy: &'a str,
}

fn service(Service { name, protocol, port }: &Service) -> (&str, bool, u16) {
    (name, *protocol == Protocol::Udp, *port)
}

impl<'a> Record<'a> {
    fn of(entry: &'a Entry) -> Record<'a> {
        let EntryId { namespace, name, origin } = &entry.id;
        let document = match origin {
            Origin::Object => None,
            Origin::Document { path, position: (document, item) } => Some((&**path, *document, *item)),
        };
        let mut previous: Option<&Arc<[IpAddr]>> = None;
        let claims = entry.claims.iter().map(|claim| {
            let same = previous.replace(&claim.addresses) == Some(&claim.addresses);
            ClaimRecord {
                host: claim.host.to_string().into(),
                field: claim.field,
                addresses: (!same).then(|| claim.addresses[..].into()),
            }
        });
        let findings = entry.findings.iter().map(|finding| FindingRecord {
            code: finding.code.as_str(),
            object: &finding.object,
            field: &finding.field,
            value: &finding.value,
            why: &finding.why,
            remedy: &finding.remedy,
        });
        Record {
            namespace,
            name,
            document,
            created: entry.created,
            public: entry.public,
            resolution_none: entry.resolution_none,
            allocated: entry.allocated,
            ttl: entry.ttl,
            claims: claims.collect(),
            services: entry.services.iter().map(service).collect(),
            unserved: entry.unserved.iter().map(|unserved| (unserved.tag(), &*unserved.host)).collect(),
            findings: findings.collect(),
        }
    }

    fn entry(self) -> Result<Entry, Unusable> {
        let origin = match self.document {
            None => Origin::Object,
            Some((path, document, item)) => {
                Origin::Document { path: path.into(), position: (document, item) }
            }
        };
        let mut addresses: Arc<[IpAddr]> = Arc::default();
        let mut claims = Vec::with_capacity(self.claims.len());
        for claim in self.claims {
            if let Some(own) = claim.addresses {
                addresses = own.into();
            }
            let (wildcard, name) = match claim.host.strip_prefix("*.") {
                Some(suffix) => (true, suffix),
                None => (false, &*claim.host),
            };
            let name = Name::parse(name).map_err(|_| Unusable::Damaged("a host cannot be read"))?;
            claims.push(Claim {
                host: Host { name, wildcard },
                addresses: addresses.clone(),
                field: claim.field,
            });
        }
        let services = self.services.into_iter().map(|(name, udp, port)| {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            Service::new(name, protocol, port).ok_or(Unusable::Damaged("a port cannot be read"))
        });
        let services = services.collect::<Result<_, _>>()?;
        let findings = self.findings.into_iter().filter_map(|finding| {
            let code = *Code::ALL.iter().find(|code| code.as_str() == finding.code)?;
            let FindingRecord { object, field, value, why, remedy, .. } = finding;
            let (object, field, value) = (object.into(), field.into(), value.into());
            Some(Finding { code, object, field, value, why: why.into(), remedy: remedy.into() })
        });
        Ok(Entry {
            id: EntryId { namespace: self.namespace.into(), name: self.name.into(), origin },
            created: self.created,
            public: self.public,
            resolution_none: self.resolution_none,
            allocated: self.allocated,
            ttl: self.ttl,
            claims,
            services,
            findings: findings.collect(),
            unserved: self.unserved.into_iter().map(|(tag, host)| Unserved::new(tag, host)).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
