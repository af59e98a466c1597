//! What names have beside addresses: PTR (D22), SRV (D23) and TXT (D24). All of it is opt-in, and looked for only where
//! there is no other answer.

use super::Responder;
use crate::wire::query::{HEADER, Query};
use crate::wire::reply::{Reply, Section};
use crate::wire::{name, rtype};
use crate::zone::answer::AnswersRef;
use crate::zone::extra::{PRIORITY, Protocol, WEIGHT};
use crate::zone::{self, Found, Pointed, Reader, Zone};

use super::Content;

/// TTL of a diagnosis, seconds: it is of the moment.
pub(in crate::serve) const DIAGNOSIS_TTL: u32 = 0;
/// The most octets of a character-string, RFC 1035 section 3.3.
const MAX_STRING: usize = 255;
/// The most octets of RDATA that is written here: a diagnosis of long names.
#[cfg(any(test, feature = "testing"))]
pub(in crate::serve) const MAX_RDATA: usize = (zone::extra::MOST_NAMED + 5) * (1 + MAX_STRING);

/// What an answer holds that is no address.
#[derive(Clone, Copy, Debug)]
pub enum Further<'t> {
    /// The PTR records of an address.
    Pointers(std::net::IpAddr),
    /// The SRV records of a host, whose name begins at this offset in the query's.
    Services(AnswersRef<'t>, usize, Protocol),
    /// Where a host's answers come from; the offset of the suffix of the wildcard, if one answers.
    Diagnosis(AnswersRef<'t>, Option<usize>),
}

impl Responder {
    /// What is said in the place of a negative answer.
    #[cold]
    pub(super) fn further<'t>(
        &'t self,
        qtype: u16,
        reader: &'t Reader<'_>,
        (zone, name, apex_at): (&Zone, &[u8], usize),
        found: Found<'t>,
        negative: Content<'t>,
    ) -> Content<'t> {
        if let (rtype::TXT, Found::Host(answers)) = (qtype, found)
            && answers.extra().is_some_and(|extra| extra.entries().1 > 0)
        {
            let wildcard = reader.answering_wildcard(zone, name, apex_at);
            return Content::Further(Further::Diagnosis(answers, wildcard));
        }
        match reader.further(zone, name, apex_at) {
            None => negative,
            Some(zone::Further::Pointers(address)) if matches!(qtype, rtype::PTR | rtype::ANY) => {
                Content::Further(Further::Pointers(address))
            }
            Some(zone::Further::Services(answers, host_at, protocol))
                if matches!(qtype, rtype::SRV | rtype::ANY) =>
            {
                Content::Further(Further::Services(answers, host_at, protocol))
            }
            Some(_) => Content::NoData,
        }
    }

    /// The PTR records of an address, unless the last of them has gone since they were found.
    pub fn pointed(&self, address: std::net::IpAddr) -> Option<Pointed> {
        Some(self.table.pointed(address)).filter(|pointed| !pointed.hosts.is_empty())
    }

    /// The character-strings of a diagnosis.
    pub fn diagnosis(
        &self,
        query: &Query<'_>,
        zone: &Zone,
        answers: AnswersRef<'_>,
        wildcard: Option<usize>,
    ) -> Vec<Vec<u8>> {
        let mut strings = Vec::new();
        if let Some(extra) = answers.extra() {
            let (named, count) = extra.entries();
            strings.extend(named.iter().map(|entry| format!("entry={entry}").into_bytes()));
            if count as usize > named.len() {
                strings.push(format!("entries={count}").into_bytes());
            }
        }
        if let Some(at) = wildcard {
            let lower = query.question[at..query.name().len()].to_ascii_lowercase();
            let labels: Vec<_> = name::labels(&lower[..lower.len() - 1]).collect();
            strings.push([b"wildcard=*.", &labels.join(&b'.')[..]].concat());
        }
        strings.push(format!("serial={}", zone.serial()).into_bytes());
        strings.push(format!("ttl={}", answers.ttl()).into_bytes());
        if !self.settings.nsid.is_empty() {
            strings.push([b"instance=", &self.settings.nsid[..]].concat());
        }
        strings.iter_mut().for_each(|string| string.truncate(MAX_STRING));
        strings
    }

    /// The ports of the services that a query names, in order.
    pub fn ports<'q>(
        answers: AnswersRef<'q>,
        query: &'q Query<'_>,
        protocol: Protocol,
    ) -> impl Iterator<Item = u16> + 'q {
        // The first label without its underscore; names of services are in lower case.
        let name = &query.question[2..1 + usize::from(query.question[0])];
        let services = answers.extra().into_iter().flat_map(move |extra| extra.of(name, protocol));
        services.map(|service| service.port)
    }

    #[cold]
    pub(super) fn write_further(
        &self,
        reply: &mut Reply<'_>,
        query: &Query<'_>,
        (zone, apex_at): (&Zone, usize),
        further: Further<'_>,
    ) {
        match further {
            Further::Pointers(address) => match self.pointed(address) {
                Some(Pointed { hosts, ttl }) => {
                    for host in hosts {
                        if !reply.answer(rtype::PTR, ttl, host.wire()) {
                            break;
                        }
                    }
                }
                None => self.soa(reply, Section::Authority, zone, apex_at),
            },
            Further::Services(answers, host_at, protocol) => {
                let target = query.question[host_at..query.name().len()].to_ascii_lowercase();
                for port in Responder::ports(answers, query, protocol) {
                    let numbers = [PRIORITY, WEIGHT, port].map(u16::to_be_bytes);
                    if !reply.answer(rtype::SRV, answers.ttl(), &[numbers.as_flattened(), &target].concat()) {
                        return;
                    }
                }
                // The host is the tail of the question, as a zone's apex is.
                let owner = (0xc000 | (HEADER + host_at) as u16).to_be_bytes();
                let ttl = answers.ttl();
                let more = Section::Additional;
                let _ = answers.v4().iter().all(|a| reply.record(more, owner, rtype::A, ttl, *a))
                    && answers.v6().iter().all(|a| reply.record(more, owner, rtype::AAAA, ttl, *a));
            }
            Further::Diagnosis(answers, wildcard) => {
                let strings = self.diagnosis(query, zone, answers, wildcard);
                let rdata: Vec<u8> =
                    strings.iter().flat_map(|string| [&[string.len() as u8], &string[..]].concat()).collect();
                reply.answer(rtype::TXT, DIAGNOSIS_TTL, &rdata);
            }
        }
    }
}
