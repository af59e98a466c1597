//! The part of DNS this server speaks as bytes: plain, synchronous, allocation-free code.
//!
//! [`name`] holds lower-case names in wire form, [`query`] turns an untrusted message into a
//! [`query::Query`] or the exact refusal it deserves (contract D1, D11), [`reply`] writes a reply
//! into a buffer and decides truncation (D12, D13). [`probe`] is what proves that a query reached us (D18). [`padding`]
//! and [`lifetime`] are what encrypted transports make of a finished reply (E3, E6).
//! Policy (which answer) lives in `serve::responder`.

pub mod lifetime;
pub mod name;
pub mod padding;
pub mod probe;
pub mod query;
pub mod reply;

/// Record and query types we give a meaning to; every other number is answered by D3/D4.
pub mod rtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Authoritative name server.
    pub const NS: u16 = 2;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// A host's name, of an address (D22).
    pub const PTR: u16 = 12;
    /// Text; a probe has it (D18), and where it is switched on a host (D24).
    pub const TXT: u16 = 16;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// Where a service is, RFC 2782 (D23).
    pub const SRV: u16 = 33;
    /// EDNS(0) pseudo record, RFC 6891.
    pub const OPT: u16 = 41;
    /// Delegation signer; asked of the parent, RFC 4035 section 3.1.4.1.
    pub const DS: u16 = 43;
    /// Incremental zone transfer.
    pub const IXFR: u16 = 251;
    /// Full zone transfer.
    pub const AXFR: u16 = 252;
    /// Obsolete mailbox query.
    pub const MAILB: u16 = 253;
    /// Obsolete mail agent query.
    pub const MAILA: u16 = 254;
    /// Any type, RFC 8482.
    pub const ANY: u16 = 255;
}

/// Class IN; every other class is refused (D10).
pub const CLASS_IN: u16 = 1;

/// Response codes this server sends, RFC 6895 section 2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Rcode {
    /// The answer, or NODATA.
    NoError = 0,
    /// The message breaks the format (D11).
    FormErr = 1,
    /// We do not know yet (D9).
    ServFail = 2,
    /// The name does not exist (D4).
    NxDomain = 3,
    /// An operation we do not implement (D10).
    NotImp = 4,
    /// Not ours to answer (D8, D10).
    Refused = 5,
    /// EDNS version above 0 (D12).
    BadVers = 16,
    /// Ask again with this server cookie (D19, D20), RFC 7873 section 8.
    BadCookie = 23,
}

impl Rcode {
    /// Every code, in the order of [`Rcode::position`].
    pub const ALL: [Rcode; 8] = [
        Rcode::NoError,
        Rcode::FormErr,
        Rcode::ServFail,
        Rcode::NxDomain,
        Rcode::NotImp,
        Rcode::Refused,
        Rcode::BadVers,
        Rcode::BadCookie,
    ];

    /// The mnemonic of the IANA registry.
    pub fn mnemonic(self) -> &'static str {
        match self {
            Rcode::NoError => "NOERROR",
            Rcode::FormErr => "FORMERR",
            Rcode::ServFail => "SERVFAIL",
            Rcode::NxDomain => "NXDOMAIN",
            Rcode::NotImp => "NOTIMP",
            Rcode::Refused => "REFUSED",
            Rcode::BadVers => "BADVERS",
            Rcode::BadCookie => "BADCOOKIE",
        }
    }

    /// A dense index for counters, `0..8`.
    pub fn position(self) -> usize {
        match self {
            Rcode::BadVers => 6,
            Rcode::BadCookie => 7,
            other => other as usize,
        }
    }
}

/// Extended DNS error info codes this server sends, RFC 8914 section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ExtendedError {
    /// 14: the source has not delivered a complete list yet (D9).
    NotReady = 14,
    /// 18: refused by policy (zone transfers, D10; clients, D21).
    Prohibited = 18,
    /// 20: no zone of ours covers the name (D8).
    NotAuthoritative = 20,
}

/// Transport limits a reply's size, and labels a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams: 512 octets without EDNS, at most 1232 with it (D13).
    Udp,
    /// Streams: whole replies.
    Tcp,
    /// One message a call, from CoreDNS (G1): whole replies.
    Grpc,
    /// Streams over TLS (E2): whole replies.
    Tls,
    /// One message a request (E3): whole replies.
    Https,
    /// One message a stream (E4): whole replies.
    Quic,
}

impl Transport {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Grpc => "gRPC",
            Transport::Tls => "TLS",
            Transport::Https => "HTTPS",
            Transport::Quic => "QUIC",
        }
    }

    /// Whether nobody on the way can read what is asked.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Https | Transport::Quic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_registry_names_and_a_place_each() {
        let names: Vec<_> = Rcode::ALL.iter().map(|r| (r.mnemonic(), *r as u16, r.position())).collect();
        let expected = [
            ("NOERROR", 0, 0),
            ("FORMERR", 1, 1),
            ("SERVFAIL", 2, 2),
            ("NXDOMAIN", 3, 3),
            ("NOTIMP", 4, 4),
            ("REFUSED", 5, 5),
            ("BADVERS", 16, 6),
            ("BADCOOKIE", 23, 7),
        ];
        assert_eq!(names, expected);
    }
}
