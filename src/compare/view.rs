//! What of a reply counts in a comparison.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};
use serde::Serialize;

use crate::client;
use crate::wire::Rcode;

/// A reply, or why there is none.
pub type Reply = Result<View, NoReply>;

/// Why there is nothing to compare.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReply {
    /// It did not come.
    #[error(transparent)]
    Silent(#[from] client::Failure),
    /// It came and is no DNS message.
    #[error("a reply that cannot be read: {0}")]
    Broken(String),
}

/// A reply without what may differ between two good servers: the order of records (D2), the question's spelling, the
/// serial (D6), the additional section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct View {
    /// The response code, extended by EDNS.
    pub rcode: u16,
    /// AA.
    pub authoritative: bool,
    /// Of A and AAAA records in the answer.
    pub addresses: BTreeSet<IpAddr>,
    /// All other records of the answer: `TYPE data`.
    pub others: BTreeSet<String>,
    /// The lowest TTL in the answer, seconds.
    pub ttl: Option<u32>,
    /// Of the authority section.
    pub soa: Option<Soa>,
}

/// The SOA of a negative answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Soa {
    /// Its owner, without trailing dot, in lower case.
    pub zone: String,
    /// Seconds.
    pub ttl: u32,
    /// Its names and timers, without the serial and MINIMUM, which is its TTL once more (D4).
    pub data: String,
}

impl View {
    /// Reads a reply.
    pub fn read(octets: &[u8]) -> Reply {
        let message = Message::from_vec(octets).map_err(|error| NoReply::Broken(error.to_string()))?;
        let mut view = View {
            rcode: message.metadata.response_code.into(),
            authoritative: message.metadata.authoritative,
            ttl: message.answers.iter().map(|record| record.ttl).min(),
            soa: message.authorities.iter().find_map(Soa::read),
            ..View::default()
        };
        for record in &message.answers {
            match &record.data {
                RData::A(address) => _ = view.addresses.insert(IpAddr::V4(address.0)),
                RData::AAAA(address) => _ = view.addresses.insert(IpAddr::V6(address.0)),
                RData::SOA(_) => view.others.extend(Soa::read(record).map(|soa| format!("SOA {}", soa.data))),
                data => _ = view.others.insert(format!("{} {data}", record.record_type())),
            }
        }
        Ok(view)
    }

    /// Nothing in the answer section.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.others.is_empty()
    }

    /// NOERROR and nothing in it.
    pub fn is_nodata(&self) -> bool {
        self.is(Rcode::NoError) && self.is_empty()
    }

    /// Whether it has this code.
    pub fn is(&self, rcode: Rcode) -> bool {
        self.rcode == rcode as u16
    }

    /// The code's mnemonic.
    pub fn status(&self) -> String {
        match Rcode::ALL.into_iter().find(|rcode| self.is(*rcode)) {
            Some(rcode) => rcode.mnemonic().to_owned(),
            None => format!("RCODE{}", self.rcode),
        }
    }
}

impl Soa {
    fn read(record: &Record) -> Option<Soa> {
        let RData::SOA(soa) = &record.data else { return None };
        let name = |name: &hickory_proto::rr::Name| name.to_ascii().to_ascii_lowercase();
        Some(Soa {
            zone: name(&record.name).trim_end_matches('.').to_owned(),
            ttl: record.ttl,
            data: format!(
                "{} {} {} {} {}",
                name(&soa.mname),
                name(&soa.rname),
                soa.refresh,
                soa.retry,
                soa.expire
            ),
        })
    }
}

impl fmt::Display for View {
    /// `NOERROR aa 240.0.0.2 (TTL 30)`, `NXDOMAIN aa, SOA of global (TTL 5)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.status())?;
        if self.authoritative {
            f.write_str(" aa")?;
        }
        let addresses = self.addresses.iter().map(ToString::to_string);
        // Escaped: a TXT record of anybody's cannot steer the terminal.
        let others = self.others.iter().map(|record| record.escape_debug().to_string());
        let records: Vec<String> = addresses.chain(others).collect();
        if !records.is_empty() {
            write!(f, " {}", records.join(", "))?;
        } else if self.is_nodata() {
            f.write_str(" without data")?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, " (TTL {ttl})")?;
        }
        match &self.soa {
            Some(soa) => write!(f, ", SOA of {} (TTL {})", soa.zone.escape_debug(), soa.ttl),
            None if records.is_empty() && (self.is_nodata() || self.is(Rcode::NxDomain)) => {
                f.write_str(", no SOA")
            }
            None => Ok(()),
        }
    }
}

/// As text.
pub fn shown(reply: &Reply) -> String {
    match reply {
        Ok(view) => view.to_string(),
        Err(why) => format!("no reply: {why}"),
    }
}
