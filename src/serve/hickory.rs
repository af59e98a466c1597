//! The general path: hickory parses, our [`Responder`] decides, hickory writes.
//!
//! It answers what the responder's octet writer leaves aside (records beyond a lone OPT) and is a
//! [`RequestHandler`], so hickory-server's own listeners can use it as well. A message hickory cannot decode is
//! broken content in the sense of D11.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{
    Edns as HickoryEdns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode,
};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name as HickoryName, RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncoder};
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder, Queries};

use super::responder::{Arrival, Content, DIAGNOSIS_TTL, Decision, Further, Outcome, Responder};
use crate::lifecycle::unix_now;
use crate::metrics::{Counted, Counters};
use crate::wire::probe;
use crate::wire::query::{Edns, Query, Refusal, Unanswerable};
use crate::wire::reply::{self, UDP_PAYLOAD};
use crate::wire::{ExtendedError, Rcode, Transport};
use crate::zone::answer::Family;
use crate::zone::extra::{PRIORITY, WEIGHT};
use crate::zone::{SOA_TIMERS, Zone};

/// Answers hickory's requests. Who counts replies (D20) does so before this.
#[derive(Clone)]
pub struct Handler {
    responder: Arc<Responder>,
    counters: Arc<Counters>,
}

/// The records of one reply, by section.
#[derive(Default)]
struct Records {
    answers: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
}

/// A reply that hickory is to write.
struct Prepared {
    metadata: Metadata,
    /// The question to echo, if it is another than the request's: none (D11).
    queries: Option<Queries>,
    opt: Option<HickoryEdns>,
    records: Records,
    /// How many of the records it has room for.
    most: usize,
}

impl Prepared {
    fn message<'a>(
        &'a self,
        request: &'a Request,
    ) -> MessageResponse<
        'a,
        'a,
        std::slice::Iter<'a, Record>,
        std::slice::Iter<'a, Record>,
        std::array::IntoIter<&'a Record, 0>,
        std::slice::Iter<'a, Record>,
    > {
        let mut most = self.most;
        let mut first = |records: &'a [Record]| {
            let taken = most.min(records.len());
            most -= taken;
            &records[..taken]
        };
        let queries = self.queries.as_ref().unwrap_or(&request.queries);
        MessageResponseBuilder::new(queries, self.opt.as_ref()).build(
            self.metadata,
            first(&self.records.answers),
            first(&self.records.authority),
            [],
            first(&self.records.additional),
        )
    }

    /// Takes as many whole records as fit: TC if answers or the SOA do not (D13), glue goes without (D17).
    ///
    /// hickory must not be left to cut: it ends in half a record, or without OPT. Nor is its limit of use, since it
    /// wants room for a name before it makes a pointer of it. What it writes is longer than what the responder
    /// does: it copies the question without remembering its name, so the first owner is spelled out, and those
    /// after some hundred others are, too. So near the limit this path sends fewer records.
    fn fit(&mut self, request: &Request, limit: u16) {
        let Records { answers, authority, additional } = &self.records;
        let needed = answers.len() + authority.len();
        let all = needed + additional.len();
        let mut fits = |most| {
            self.most = most;
            let mut octets = Vec::new();
            let written = self.message(request).destructive_emit(&mut BinEncoder::new(&mut octets));
            written.is_ok_and(|info| !info.truncation) && octets.len() <= usize::from(limit)
        };
        if fits(all) {
            return;
        }
        let (mut most, mut too_many) = (0, all);
        while most + 1 < too_many {
            let middle = most.midpoint(too_many);
            if fits(middle) { most = middle } else { too_many = middle }
        }
        self.most = most;
        self.metadata.truncation = most < needed;
    }
}

impl Handler {
    /// A handler that counts into `counters`.
    pub fn new(responder: Arc<Responder>, counters: Arc<Counters>) -> Handler {
        Handler { responder, counters }
    }

    /// Answers one message that a listener of ours received and the responder declined.
    pub fn respond(&self, message: &[u8], arrival: Arrival, out: &mut [u8]) -> Outcome {
        #[cfg(test)]
        crate::panics::trip("general", message);
        let protocol = match arrival.transport {
            Transport::Udp => Protocol::Udp,
            _ => Protocol::Tcp,
        };
        let Ok(request) = Request::from_bytes(message.to_vec(), arrival.peer, protocol) else {
            return self.broken(message, arrival, out);
        };
        let Some(prepared) = self.prepare(&request, arrival) else {
            return Outcome::Silence;
        };
        let mut octets = Vec::with_capacity(usize::from(UDP_PAYLOAD));
        match prepared.message(&request).destructive_emit(&mut BinEncoder::new(&mut octets)) {
            Ok(_) => {
                out[..octets.len()].copy_from_slice(&octets);
                Outcome::Reply(octets.len())
            }
            Err(error) => {
                tracing::error!(%error, "a reply could not be encoded");
                self.broken(message, arrival, out)
            }
        }
    }

    fn broken(&self, message: &[u8], arrival: Arrival, out: &mut [u8]) -> Outcome {
        match self.responder.understand(message, arrival) {
            Ok(Query { head, question, edns, .. }) => {
                let refusal = Refusal { head, rcode: Rcode::FormErr, question, edns };
                self.responder.refuse(&refusal, arrival, &self.counters, out)
            }
            Err(Unanswerable::Refuse(refusal)) => {
                self.responder.refuse(&refusal, arrival, &self.counters, out)
            }
            Err(Unanswerable::Silence | Unanswerable::Cookie(..)) => {
                self.counters.silence(arrival.transport);
                Outcome::Silence
            }
        }
    }

    /// Decides and counts; `None` for silence.
    fn prepare(&self, request: &Request, arrival: Arrival) -> Option<Prepared> {
        let mut queries = None;
        let understood = self.responder.understand(request.as_slice(), arrival);
        let cookie = |edns| self.responder.cookie(edns, arrival, &self.counters);
        let (edns, cookie, rcode, error, zone, qtype, records) = match understood {
            Err(Unanswerable::Silence | Unanswerable::Cookie(..)) => {
                self.counters.silence(arrival.transport);
                return None;
            }
            Err(Unanswerable::Refuse(refusal)) => {
                if refusal.question.is_empty() {
                    queries = Some(Queries::read(&mut BinDecoder::new(&[]), 0).ok()?);
                }
                let cookie = cookie(refusal.edns);
                let (rcode, error) =
                    self.responder.reply_to_refused(&refusal, cookie, arrival, &self.counters);
                (refusal.edns, cookie, rcode, error, None, 0, None)
            }
            Ok(query) => {
                let (edns, cookie) = (query.edns, cookie(query.edns));
                let reader = self.responder.table().read();
                match self.responder.decide(&query, arrival, &reader) {
                    Decision::Refuse { rcode, error, zone } => {
                        (edns, cookie, rcode, error, zone.map(Zone::index), query.qtype, None)
                    }
                    Decision::Deny => {
                        self.counters.denied(arrival.transport);
                        let error = Some(ExtendedError::Prohibited);
                        (edns, cookie, Rcode::Refused, error, None, query.qtype, None)
                    }
                    Decision::Answer { zone, apex_at, content } => {
                        // A name our parser accepted is one for hickory, too.
                        let records = self.records(&query, zone, apex_at, content, arrival)?;
                        let zone = Some(zone.index());
                        (edns, cookie, content.rcode(), None, zone, query.qtype, Some(records))
                    }
                }
            }
        };
        let authoritative = records.is_some();
        let records = records.unwrap_or_default();
        let opt = self.responder.opt(edns, cookie, error).map(|opt| {
            let mut out = HickoryEdns::new();
            out.set_max_payload(UDP_PAYLOAD).set_version(0).set_dnssec_ok(opt.query.dnssec_ok);
            if let Some(nsid) = opt.nsid() {
                out.options_mut().insert(EdnsOption::Unknown(Edns::NSID, nsid.to_vec()));
            }
            if let Some(cookie) = opt.cookie {
                out.options_mut().insert(EdnsOption::Unknown(Edns::COOKIE, cookie.to_vec()));
            }
            if let Some(error) = error {
                let code = (error as u16).to_be_bytes().to_vec();
                out.options_mut().insert(EdnsOption::Unknown(Edns::EXTENDED_ERROR, code));
            }
            out
        });
        let mut metadata =
            Metadata::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        metadata.authoritative = authoritative;
        metadata.recursion_desired = request.metadata.recursion_desired;
        metadata.response_code = ResponseCode::from((rcode as u16 >> 4) as u8, (rcode as u16 & 0x0f) as u8);
        let mut prepared = Prepared { metadata, queries, opt, records, most: 0 };
        prepared.fit(request, reply::limit(arrival.transport, edns));
        let zone = zone.and_then(|index| self.responder.table().zones().iter().nth(index));
        let family = Family::of(arrival.peer.ip());
        let counted = Counted { transport: arrival.transport, family, zone, qtype };
        self.counters.reply(counted, rcode, prepared.metadata.truncation);
        Some(prepared)
    }

    /// The decided records.
    fn records(
        &self,
        query: &Query<'_>,
        zone: &Zone,
        apex_at: usize,
        content: Content<'_>,
        arrival: Arrival,
    ) -> Option<Records> {
        let settings = self.responder.settings();
        let owner = hickory_name(query.question)?;
        let apex = hickory_name(&query.question[apex_at..])?;
        let ns_name = || apex.prepend_label("dns").and_then(|name| name.prepend_label("ns")).ok();
        let soa = || {
            let [refresh, retry, expire] = SOA_TIMERS.map(|timer| timer as i32);
            let mailbox = apex.prepend_label("hostmaster").ok()?;
            let minimum = settings.negative_ttl;
            let data = SOA::new(ns_name()?, mailbox, zone.serial(), refresh, retry, expire, minimum);
            Some(Record::from_rdata(apex.clone(), settings.negative_ttl, RData::SOA(data)))
        };
        let mut records = Records::default();
        match content {
            Content::Host(family, answers) => {
                let all: Vec<IpAddr> = answers.addresses(family).collect();
                let first = if settings.rotate { self.counters.turn(all.len()) } else { 0 };
                let rotated = all[first..].iter().chain(&all[..first]);
                records.answers.extend(rotated.map(|a| address_record(owner.clone(), answers.ttl(), *a)));
            }
            Content::NameServer(family) => {
                let addresses = self.responder.name_server(family, arrival);
                records.answers.extend(addresses.map(|a| address_record(owner.clone(), settings.ttl, a)));
            }
            Content::Soa => records.answers.push(soa()?),
            Content::Ns => {
                let name_server = ns_name()?;
                records.answers.push(Record::from_rdata(
                    owner,
                    settings.ttl,
                    RData::NS(NS(name_server.clone())),
                ));
                for family in [Family::V4, Family::V6] {
                    let addresses = self.responder.name_server(family, arrival);
                    records
                        .additional
                        .extend(addresses.map(|a| address_record(name_server.clone(), settings.ttl, a)));
                }
            }
            Content::Proof => {
                let mut room = [0; probe::MAX_RDATA];
                let strings = probe::strings(self.responder.proof(zone, &mut room)).collect();
                let data = RData::TXT(TXT::from_bytes(strings));
                records.answers.push(Record::from_rdata(owner, probe::TTL, data));
            }
            Content::Further(Further::Pointers(address)) => match self.responder.pointed(address) {
                Some(pointed) => {
                    for host in &pointed.hosts {
                        let data = RData::PTR(PTR(hickory_name(host.wire())?));
                        records.answers.push(Record::from_rdata(owner.clone(), pointed.ttl, data));
                    }
                }
                None => records.authority.push(soa()?),
            },
            Content::Further(Further::Services(answers, host_at, protocol)) => {
                let host = hickory_name(&query.question[host_at..])?;
                for port in Responder::ports(answers, query, protocol) {
                    let data = RData::SRV(SRV::new(PRIORITY, WEIGHT, port, host.to_lowercase()));
                    records.answers.push(Record::from_rdata(owner.clone(), answers.ttl(), data));
                }
                for family in [Family::V4, Family::V6] {
                    let addresses = answers.addresses(family);
                    records
                        .additional
                        .extend(addresses.map(|a| address_record(host.clone(), answers.ttl(), a)));
                }
            }
            Content::Further(Further::Diagnosis(answers, wildcard)) => {
                let strings = self.responder.diagnosis(query, zone, answers, wildcard);
                let data = RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect()));
                records.answers.push(Record::from_rdata(owner, DIAGNOSIS_TTL, data));
            }
            Content::NoData | Content::NxDomain => records.authority.push(soa()?),
        }
        Some(records)
    }
}

fn hickory_name(question: &[u8]) -> Option<HickoryName> {
    HickoryName::read(&mut BinDecoder::new(question)).ok()
}

fn address_record(owner: HickoryName, ttl: u32, address: IpAddr) -> Record {
    let rdata = match address {
        IpAddr::V4(a) => RData::A(A(a)),
        IpAddr::V6(a) => RData::AAAA(AAAA(a)),
    };
    Record::from_rdata(owner, ttl, rdata)
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    /// For hickory-server's listeners. They do not say which address a request arrived at, so the name
    /// server's address is only given if one is configured.
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let transport = match request.protocol() {
            Protocol::Udp => Transport::Udp,
            _ => Transport::Tcp,
        };
        let arrival = Arrival::new(transport, request.src(), IpAddr::from([0, 0, 0, 0]), unix_now());
        let sent = match self.prepare(request, arrival) {
            Some(prepared) => response.send_response(prepared.message(request)).await,
            None => Err(NetError::from("a message that gets no reply")),
        };
        sent.unwrap_or_else(|error| {
            tracing::debug!(%error, "no reply was sent");
            let mut metadata = Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
            metadata.response_code = ResponseCode::ServFail;
            ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
        })
    }
}

#[cfg(test)]
mod tests;
