//! What one ServiceEntry contributes: hosts, their addresses, its rank, and findings (chapters A, H, S5).
//!
//! Entries are read from untyped JSON, whether they came from a file or from the API server: every
//! field may be missing, have another type or hold a value we have never heard of, and only that field
//! is lost (S5). The rules that need other entries (who owns a host, the default address) are the
//! index's.

mod fields;
pub mod object;
pub mod provenance;
mod read;

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;

use crate::finding::{Code, Finding};
use crate::zone::extra::Service;
use crate::zone::{Host, Zones};

/// Default and range of a TTL in seconds (D2).
pub const TTL_RANGE: std::ops::RangeInclusive<u32> = 1..=3600;
/// The annotation that sets one entry's TTL (D2).
pub const TTL_ANNOTATION: &str = "globaldns.io/ttl";
/// The settings that decide what an entry contributes.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `--apex-wildcards` (H5).
    pub apex_wildcards: bool,
    /// `--skip-resolution-none` (A5).
    pub skip_resolution_none: bool,
    /// `--public-only` (O5).
    pub public_only: bool,
    /// `--srv` (D23).
    pub services: bool,
}

/// Where an entry came from: its identity, and the last part of its rank (O1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// An object of the API server; namespace and name are the entry's.
    Object,
    /// A document of a file; several may hold the same namespace and name.
    Document {
        /// The file as it was named or found.
        path: Arc<str>,
        /// Position in the file: document (from 1) and item in a `kind: List` (from 1; 0 outside one).
        position: (u32, u32),
    },
}

/// Identity of an entry inside its source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// `metadata.namespace`, or `default`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// Where it came from.
    pub origin: Origin,
}

impl Entry {
    /// An entry that has made us panic (L9): nothing of it counts, and a finding says so.
    pub fn unread(id: EntryId) -> Entry {
        let finding = Finding::new(
            Code::EntryUnread,
            id.to_string(),
            "",
            "",
            "reading it makes this version of globaldns panic, so none of its hosts is served",
            "report it, with the entry and the log line; until it is mended, write the entry in another way",
        );
        Entry {
            id,
            created: None,
            public: true,
            resolution_none: false,
            allocated: false,
            ttl: None,
            claims: Vec::new(),
            services: Vec::new(),
            findings: vec![finding],
            unserved: Vec::new(),
        }
    }
}

impl EntryId {
    /// The identity of an object as JSON.
    pub fn of(object: &Value, origin: Origin) -> EntryId {
        let metadata = object.get("metadata");
        let text = |key: &str| metadata.and_then(|metadata| metadata.get(key)).and_then(Value::as_str);
        EntryId {
            namespace: text("namespace").filter(|n| !n.is_empty()).unwrap_or("default").into(),
            name: text("name").unwrap_or_default().into(),
            origin,
        }
    }
}

/// RFC 1123 label, as Kubernetes requires of namespaces.
pub fn is_namespace(text: &str) -> bool {
    text.len() <= 63 && is_label(text)
}

/// Labels with dots in between, as Kubernetes requires of an object's name.
fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

impl fmt::Display for EntryId {
    /// The object as F1 names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Object => write!(f, "{}/{}", self.namespace, self.name),
            Origin::Document { path, position: (document, 0) } => write!(f, "{path}:{document}"),
            Origin::Document { path, position: (document, item) } => {
                write!(f, "{path}:{document}[{item}]")
            }
        }
    }
}

/// One host an entry claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The host, in one of our zones.
    pub host: Host,
    /// A1 or A2 addresses, de-duplicated, in listed order; may be empty.
    pub addresses: Arc<[IpAddr]>,
    /// Position in `spec.hosts`, for findings.
    pub field: u32,
}

/// What one ServiceEntry contributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who it is.
    pub id: EntryId,
    /// `metadata.creationTimestamp`, Unix seconds.
    pub created: Option<i64>,
    /// Exported to `*`, or without `exportTo` (O1).
    pub public: bool,
    /// `resolution: NONE`, the default of the API (A2, A3).
    pub resolution_none: bool,
    /// Its addresses are those of `status.addresses` (A2).
    pub allocated: bool,
    /// TTL annotation, seconds.
    pub ttl: Option<u32>,
    /// Its hosts in our zones.
    pub claims: Vec<Claim>,
    /// Its named ports (D23); empty unless they are asked for.
    pub services: Vec<Service>,
    /// What is wrong with it, but for hosts outside every zone.
    pub findings: Vec<Finding>,
    /// Hosts that are read and not served.
    pub unserved: Vec<Unserved>,
}

/// A host that an entry names and that is not served: outside every zone (H2), or a setting or `exportTo` leaves out the
/// whole entry (O5, A5). In a large mesh most hosts are outside, so they become findings only when asked for; the others are
/// kept so that somebody who asks for one can be told. What is wrong with a single host is a finding of its entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// Position in `spec.hosts`.
    pub field: u32,
    /// Why not: one of [`Unserved::REASONS`].
    pub reason: Code,
    /// As it is written; in lower case where its entry is left out.
    pub host: Box<str>,
}

impl Unserved {
    /// Every reason. Their order is in saved state (L6).
    pub const REASONS: [Code; 4] =
        [Code::HostOutsideZones, Code::ExportHidden, Code::ExportNotPublic, Code::ResolutionNoneSkipped];
    /// Bits of a position; a reason is above them. The most common one is 0, so it takes no room.
    const FIELD_BITS: u32 = 28;

    /// Position and reason as one number.
    pub fn tag(&self) -> u32 {
        let reason = Self::REASONS.iter().position(|reason| *reason == self.reason).unwrap_or(0);
        self.field | (reason as u32) << Self::FIELD_BITS
    }

    /// The reverse; a reason nobody knows is the first.
    pub fn new(tag: u32, host: &str) -> Unserved {
        let reason = Self::REASONS.get((tag >> Self::FIELD_BITS) as usize).copied();
        Unserved {
            field: tag & ((1 << Self::FIELD_BITS) - 1),
            reason: reason.unwrap_or(Code::HostOutsideZones),
            host: host.into(),
        }
    }
}

/// An address, as a network of one, or a CIDR.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).ok()
}

/// H2, for the host at `position` of `spec.hosts`.
pub fn outside_finding(zones: &Zones, id: &EntryId, position: u32, host: &str) -> Finding {
    if let Some((zone, meant)) = zones.near(host, &id.namespace) {
        return Finding::new(
            Code::HostNearZone,
            id.to_string(),
            format!("spec.hosts[{position}]"),
            host,
            format!(
                "no zone of this server covers the host, so it is not answered here; the zone {} is near it",
                zone.apex()
            ),
            format!("write {meant} if that is meant"),
        );
    }
    Finding::new(
        Code::HostOutsideZones,
        id.to_string(),
        format!("spec.hosts[{position}]"),
        host,
        "no zone of this server covers the host, so it is not answered here",
        "nothing, if another server answers it; else add its suffix with --zone",
    )
}

/// Where an entry stands among those that claim a host, best first (O1): older first, ties by namespace, name and
/// origin; entries without a timestamp count as newest, ordered by path and position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank<'e> {
    /// `metadata.creationTimestamp`, Unix seconds.
    pub created: Option<i64>,
    /// `metadata.namespace`.
    pub namespace: &'e str,
    /// `metadata.name`.
    pub name: &'e str,
    /// Path and position of [`Origin::Document`].
    pub document: Option<(&'e str, (u32, u32))>,
}

impl Ord for Rank<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_name = || (self.namespace, self.name).cmp(&(other.namespace, other.name));
        let by_document = || self.document.cmp(&other.document);
        match (self.created, other.created) {
            (Some(a), Some(b)) => a.cmp(&b).then_with(by_name).then_with(by_document),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => by_document().then_with(by_name),
        }
    }
}

impl PartialOrd for Rank<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests;
