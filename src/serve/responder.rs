//! One message in, one reply out: the one place where policy is decided (chapter D).
//!
//! [`Responder::decide`] turns a query into a [`Decision`] that names what the reply holds; [`Responder::respond`]
//! writes it as octets. The general path ([`super::hickory`]) takes the same decision and lets hickory
//! write it, so the two cannot differ in meaning; `serve::parity` holds them to it. What is asked of clients first is in
//! `guard`.

mod further;
mod guard;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::cookies::Judged;
use crate::insight::tap::{Came, Taps};
use crate::metrics::{Counted, Counters};
use crate::wire::name::MAX_WIRE;
use crate::wire::probe;
use crate::wire::query::{self, Edns, Query, Refusal, Unanswerable};
use crate::wire::reply::{self, OptReply, QUESTION_POINTER, Reply, Section};
use crate::wire::{CLASS_IN, ExtendedError, Rcode, Transport, rtype};
use crate::zone::answer::{AnswersRef, Family};
use crate::zone::{Found, HOSTMASTER_LABEL, NS_LABELS, Reader, SOA_TIMERS, Sighting, Table, Zone};

/// Octets of a compression pointer, RFC 1035 section 4.1.4.
const POINTER: usize = QUESTION_POINTER.len();
/// Octets of the two names of an SOA, each ending in a pointer to the apex.
const SOA_NAMES: usize = NS_LABELS.len() + POINTER + HOSTMASTER_LABEL.len() + POINTER;
/// Octets of an SOA's RDATA: the names and five numbers, RFC 1035 section 3.3.13.
const SOA_RDATA: usize = SOA_NAMES + 5 * 4;

pub(super) use further::DIAGNOSIS_TTL;
pub use further::Further;
#[cfg(any(test, feature = "testing"))]
pub(super) use further::MAX_RDATA;
pub use guard::Guard;

/// The settings of chapter D.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--ttl`, seconds, of NS and name server addresses.
    pub ttl: u32,
    /// `--negative-ttl`, seconds: SOA TTL and MINIMUM (D4).
    pub negative_ttl: u32,
    /// False with `--no-rotate`.
    pub rotate: bool,
    /// The name server identifier; empty sends none.
    pub nsid: Vec<u8>,
}

/// How a message reached us.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// UDP, or which kind of connection.
    pub transport: Transport,
    /// Who asks.
    pub peer: SocketAddr,
    /// The address it was sent to: what the name server's address is if none is configured (D5).
    pub local: IpAddr,
    /// The Unix second it came in.
    pub at: u32,
}

impl Arrival {
    /// An arrival, with IPv4 addresses in IPv6 form unwrapped.
    pub fn new(transport: Transport, peer: SocketAddr, local: IpAddr, at: u32) -> Arrival {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Arrival { transport, peer, local: local.to_canonical(), at }
    }

    /// The same for those who look at queries; when the message was read.
    pub fn came(&self, read: Instant) -> Came {
        Came { transport: self.transport, peer: self.peer, at: self.at, read }
    }

    fn counted<'z>(&self, zone: Option<&'z Zone>, qtype: u16) -> Counted<'z> {
        Counted { transport: self.transport, family: Family::of(self.peer.ip()), zone, qtype }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No reply at all (D11).
    Silence,
    /// The reply's length in octets.
    Reply(usize),
    /// Left to the general path; nothing was counted.
    Declined,
}

/// What a reply says.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'t> {
    /// An error: no records, not authoritative.
    Refuse {
        /// The code.
        rcode: Rcode,
        /// Said to clients with EDNS.
        error: Option<ExtendedError>,
        /// The covering zone, if that far was read.
        zone: Option<&'t Zone>,
    },
    /// REFUSED, as the client may not ask (D21).
    Deny,
    /// An authoritative answer.
    Answer {
        /// The zone that answers.
        zone: &'t Zone,
        /// Offset of its apex in the query name.
        apex_at: usize,
        /// What the answer holds.
        content: Content<'t>,
    },
}

/// What an authoritative answer holds.
#[derive(Clone, Copy, Debug)]
pub enum Content<'t> {
    /// The addresses of a host.
    Host(Family, AnswersRef<'t>),
    /// The addresses of `ns.dns.<zone>`.
    NameServer(Family),
    /// The apex's SOA.
    Soa,
    /// The apex's NS, with glue.
    Ns,
    /// The proof that the query reached us.
    Proof,
    /// What is no address (D22 to D24).
    Further(Further<'t>),
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist.
    NxDomain,
}

impl Content<'_> {
    /// The code it is sent with.
    pub fn rcode(&self) -> Rcode {
        if matches!(self, Content::NxDomain) { Rcode::NxDomain } else { Rcode::NoError }
    }

    /// Whether the authority section holds the SOA (D3, D4, D17).
    pub fn is_negative(&self) -> bool {
        matches!(self, Content::NoData | Content::NxDomain)
    }
}

/// A message on its way to a reply ([`Responder::begin`]).
pub struct Begun<'m> {
    query: Result<Query<'m>, Unanswerable<'m>>,
    /// In lower case, of a query that is answered here.
    name: &'m [u8],
    course: Option<Course<'m>>,
    sighting: Option<Sighting<'m>>,
}

/// How to answer a query.
#[derive(Clone, Copy)]
enum Course<'t> {
    Decided(Decision<'t>),
    LookUp { zone: &'t Zone, apex_at: usize },
}

impl<'m> Begun<'m> {
    /// The second step of an answer: fetches what the table knows of the name.
    pub fn sight(&mut self, reader: &'m Reader<'_>) {
        #[cfg(test)]
        crate::panics::trip("sight", self.name);
        if let Some(Course::LookUp { zone, apex_at }) = self.course {
            self.sighting = Some(reader.sight(zone, self.name, apex_at));
        }
    }
}

/// Answers messages from the name table.
pub struct Responder {
    table: Arc<Table>,
    settings: Settings,
    guard: Guard,
    advertised: ArcSwap<Vec<IpAddr>>,
    taps: Taps,
}

impl Responder {
    /// A responder; `advertised` are the configured name server addresses, if any.
    pub fn new(table: Arc<Table>, settings: Settings, advertised: Vec<IpAddr>) -> Responder {
        let guard = Guard::default();
        let advertised = ArcSwap::from_pointee(advertised);
        Responder { table, settings, guard, advertised, taps: Taps::default() }
    }

    /// The same, while others look at what is asked (chapter I).
    pub fn watched(self, taps: Taps) -> Responder {
        Responder { taps, ..self }
    }

    /// For whoever answers with it on a thread of his own.
    pub fn taps(&self) -> &Taps {
        &self.taps
    }

    /// The same, asking this of clients.
    pub fn guarded(self, guard: Guard) -> Responder {
        Responder { guard, ..self }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What it asks of clients.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// A responder that says the same to anybody, and the addresses of a host in their listed order: for whoever explains.
    pub fn for_everybody(&self) -> Responder {
        let settings = Settings { rotate: false, ..self.settings.clone() };
        Responder::new(self.table.clone(), settings, self.advertised.load().to_vec())
    }

    /// The table it answers from.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Replaces the name server addresses (D5); a change moves every zone's serial to `now` (D6).
    pub fn advertise(&self, addresses: Vec<IpAddr>, now: u32) {
        let before = self.advertised.swap(Arc::new(addresses));
        if *before != **self.advertised.load() {
            self.table.touch_serials(now);
        }
    }

    /// Answers one message into `out`, which must hold the largest reply of the transport.
    pub fn respond(&self, message: &[u8], arrival: Arrival, counters: &Counters, out: &mut [u8]) -> Outcome {
        let reader = self.table.read();
        let mut room = [0; MAX_WIRE];
        let mut begun = self.begin(message, arrival, &mut room);
        begun.sight(&reader);
        self.finish(begun, &reader, arrival, counters, out)
    }

    /// The first step of an answer: reads the message. `room` is for its name in lower case.
    ///
    /// The steps are apart for those who have many messages: each step for all of them before the next is faster than
    /// one message after the other, because the second step mostly waits for memory.
    pub fn begin<'m>(
        &'m self,
        message: &'m [u8],
        arrival: Arrival,
        room: &'m mut [u8; MAX_WIRE],
    ) -> Begun<'m> {
        #[cfg(test)]
        crate::panics::trip("begin", message);
        let query = self.understand(message, arrival);
        let mut begun = Begun { query, name: &[], course: None, sighting: None };
        if let Ok(query) = &begun.query
            && query.plain
        {
            begun.name = query.lower_name(room);
            begun.course = Some(self.place(query, begun.name, arrival));
        }
        begun
    }

    /// The last step: writes the reply into `out`.
    pub fn finish(
        &self,
        begun: Begun<'_>,
        reader: &Reader<'_>,
        arrival: Arrival,
        counters: &Counters,
        out: &mut [u8],
    ) -> Outcome {
        #[cfg(test)]
        crate::panics::trip("finish", begun.name);
        if let Some(limiter) = &self.guard.limiter
            && arrival.transport == Transport::Udp
            && let Some(outcome) = self.limit(limiter, &begun.query, arrival, counters, out)
        {
            return outcome;
        }
        match (begun.query, begun.course) {
            (Ok(query), Some(course)) => {
                let decision = self.conclude(&query, course, begun.sighting, begun.name, arrival, reader);
                self.write(&query, decision, arrival, counters, out)
            }
            (Ok(_), None) => Outcome::Declined,
            (Err(Unanswerable::Refuse(refusal)), _) => self.refuse(&refusal, arrival, counters, out),
            // What asks for a cookie alone was made a refusal.
            (Err(Unanswerable::Silence | Unanswerable::Cookie(..)), _) => {
                counters.silence(arrival.transport);
                Outcome::Silence
            }
        }
    }

    /// A message as a query, or what it deserves instead. Source port 0 can never be answered (D11).
    pub fn understand<'m>(&self, message: &'m [u8], arrival: Arrival) -> Result<Query<'m>, Unanswerable<'m>> {
        if arrival.peer.port() == 0 {
            return Err(Unanswerable::Silence);
        }
        match query::parse(message) {
            Err(Unanswerable::Cookie(head, edns)) => Err(self.asked_for_a_cookie(head, edns)),
            Ok(Query { head, question, edns: Some(edns), .. }) if self.is_malformed(edns) => {
                let edns = Some(edns);
                Err(Unanswerable::Refuse(Refusal { head, rcode: Rcode::FormErr, question, edns }))
            }
            query => query,
        }
    }

    /// Writes the reply to a message that is no query.
    pub fn refuse(
        &self,
        refusal: &Refusal<'_>,
        arrival: Arrival,
        counters: &Counters,
        out: &mut [u8],
    ) -> Outcome {
        let cookie = self.cookie(refusal.edns, arrival, counters);
        let (rcode, error) = self.reply_to_refused(refusal, cookie, arrival, counters);
        let opt = self.opt(refusal.edns, cookie, error);
        let limit = reply::limit(arrival.transport, refusal.edns);
        let reply = Reply::new(out, refusal.question, limit, opt_len(opt));
        counters.reply(arrival.counted(None, 0), rcode, false);
        Outcome::Reply(reply.finish(refusal.head, rcode, false, opt))
    }

    /// Answers a message that makes us panic, with SERVFAIL and nothing else (L9); it is read no further than it
    /// takes.
    pub fn fail(&self, message: &[u8], arrival: Arrival, counters: &Counters, out: &mut [u8]) -> Outcome {
        match reply::failure(message, out) {
            Some(length) if arrival.peer.port() != 0 => {
                counters.reply(arrival.counted(None, 0), Rcode::ServFail, false);
                Outcome::Reply(length)
            }
            _ => {
                counters.silence(arrival.transport);
                Outcome::Silence
            }
        }
    }

    /// What the reply to a query says.
    pub fn decide<'t>(&'t self, query: &Query<'_>, arrival: Arrival, reader: &'t Reader<'_>) -> Decision<'t> {
        let mut room = [0; MAX_WIRE];
        let name = query.lower_name(&mut room);
        let course = self.place(query, name, arrival);
        self.conclude(query, course, None, name, arrival, reader)
    }

    /// Where to look for the answer, or what the reply says without looking. The order is D1's: version, client,
    /// class, type, zone.
    fn place(&self, query: &Query<'_>, name: &[u8], arrival: Arrival) -> Course<'_> {
        let refuse = |rcode, error, zone| Course::Decided(Decision::Refuse { rcode, error, zone });
        if query.edns.is_some_and(|edns| edns.version > 0) {
            return refuse(Rcode::BadVers, None, None);
        }
        if !self.admits(arrival) {
            return Course::Decided(Decision::Deny);
        }
        if query.qclass != CLASS_IN {
            return refuse(Rcode::Refused, Some(ExtendedError::Prohibited), None);
        }
        match query.qtype {
            rtype::OPT => return refuse(Rcode::FormErr, None, None),
            rtype::MAILA | rtype::MAILB => return refuse(Rcode::NotImp, None, None),
            rtype::AXFR | rtype::IXFR => {
                return refuse(Rcode::Refused, Some(ExtendedError::Prohibited), None);
            }
            _ => {}
        }
        let Some((zone, apex_at)) = self.table.zones().covering(name) else {
            return refuse(Rcode::Refused, Some(ExtendedError::NotAuthoritative), None);
        };
        if !self.table.is_complete() {
            return refuse(Rcode::ServFail, Some(ExtendedError::NotReady), Some(zone));
        }
        // RFC 4035 section 3.1.4.1: DS belongs to the parent's side of a zone cut (Z3).
        if query.qtype == rtype::DS
            && apex_at == 0
            && let Some(parent) = self.table.zones().parent(zone)
        {
            let apex_at = name.len() - parent.apex().wire().len();
            return Course::Decided(Decision::Answer { zone: parent, apex_at, content: Content::NoData });
        }
        Course::LookUp { zone, apex_at }
    }

    /// Looks, unless that was done before, and decides.
    fn conclude<'t>(
        &'t self,
        query: &Query<'_>,
        course: Course<'t>,
        sighting: Option<Sighting<'t>>,
        name: &[u8],
        arrival: Arrival,
        reader: &'t Reader<'_>,
    ) -> Decision<'t> {
        let (zone, apex_at) = match course {
            Course::Decided(decision) => return decision,
            Course::LookUp { zone, apex_at } => (zone, apex_at),
        };
        let mut sighting = sighting.unwrap_or_else(|| reader.sight(zone, name, apex_at));
        loop {
            let found = reader.judge(sighting, zone, name, apex_at);
            let content = self.content(query.qtype, arrival, &name[..apex_at], found);
            if !content.is_negative() || !self.table.has_further() {
                return Decision::Answer { zone, apex_at, content };
            }
            let content = self.further(query.qtype, reader, (zone, name, apex_at), found, content);
            // The host that a name's services are of may have come after the one was looked for, and the wildcard that
            // answered it gone before the other was (L3).
            if !content.is_negative() || reader.is_of_now(sighting) {
                return Decision::Answer { zone, apex_at, content };
            }
            sighting = reader.sight(zone, name, apex_at);
        }
    }

    fn content<'t>(&self, qtype: u16, arrival: Arrival, relative: &[u8], found: Found<'t>) -> Content<'t> {
        let apex = relative.is_empty();
        let addresses = |family: Family| match found {
            Found::Host(answers) if answers.has(family) => Some(Content::Host(family, answers)),
            Found::Empty if relative == NS_LABELS => {
                self.name_server(family, arrival).next().map(|_| Content::NameServer(family))
            }
            _ => None,
        };
        let answer = match qtype {
            rtype::A => addresses(Family::V4),
            rtype::AAAA => addresses(Family::V6),
            rtype::SOA if apex => Some(Content::Soa),
            rtype::NS if apex => Some(Content::Ns),
            rtype::TXT if matches!(found, Found::Probe) => Some(Content::Proof),
            // RFC 8482 section 4.1: one RRset of those that exist (D7).
            rtype::ANY => addresses(Family::V4).or_else(|| addresses(Family::V6)).or(if apex {
                Some(Content::Soa)
            } else {
                None
            }),
            _ => None,
        };
        match (answer, found) {
            (Some(content), _) => content,
            (None, Found::Missing) => Content::NxDomain,
            (None, _) => Content::NoData,
        }
    }

    /// The name server's addresses of one family (D5).
    pub fn name_server(&self, family: Family, arrival: Arrival) -> impl Iterator<Item = IpAddr> {
        let advertised = self.advertised.load_full();
        let arrived = (advertised.is_empty() && !arrival.local.is_unspecified()).then_some(arrival.local);
        let count = advertised.len();
        (0..count).map(move |i| advertised[i]).chain(arrived).filter(move |a| Family::of(*a) == family)
    }

    /// Answers a query that [`Responder::respond`] declines: the octet writer can, and the general path is held to it.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn answer_declined(
        &self,
        query: &Query<'_>,
        arrival: Arrival,
        counters: &Counters,
        out: &mut [u8],
    ) -> Outcome {
        self.write(query, self.decide(query, arrival, &self.table.read()), arrival, counters, out)
    }

    fn write(
        &self,
        query: &Query<'_>,
        decision: Decision<'_>,
        arrival: Arrival,
        counters: &Counters,
        out: &mut [u8],
    ) -> Outcome {
        let limit = reply::limit(arrival.transport, query.edns);
        let (rcode, error, zone) = match decision {
            Decision::Refuse { rcode, error, zone } => (rcode, error, zone),
            Decision::Deny => {
                counters.denied(arrival.transport);
                (Rcode::Refused, Some(ExtendedError::Prohibited), None)
            }
            Decision::Answer { zone, content, .. } => (content.rcode(), None, Some(zone)),
        };
        let opt = self.opt(query.edns, self.cookie(query.edns, arrival, counters), error);
        let mut reply = Reply::new(out, query.question, limit, opt_len(opt));
        let mut authoritative = false;
        if let Decision::Answer { zone, apex_at, content } = decision {
            authoritative = true;
            match content {
                Content::Further(further) => self.write_further(&mut reply, query, (zone, apex_at), further),
                _ => self.write_content(&mut reply, zone, apex_at, content, arrival, counters),
            }
        }
        counters.reply(arrival.counted(zone, query.qtype), rcode, reply.is_truncated());
        Outcome::Reply(reply.finish(query.head, rcode, authoritative, opt))
    }

    fn write_content(
        &self,
        reply: &mut Reply<'_>,
        zone: &Zone,
        apex_at: usize,
        content: Content<'_>,
        arrival: Arrival,
        counters: &Counters,
    ) {
        match content {
            Content::Host(family, answers) => {
                let first = |n| if self.settings.rotate && n > 1 { counters.turn(n) } else { 0 };
                let (rtype, ttl) = (family.rtype(), answers.ttl());
                match family {
                    Family::V4 => reply.rrset(rtype, ttl, answers.v4(), first(answers.v4().len())),
                    Family::V6 => reply.rrset(rtype, ttl, answers.v6(), first(answers.v6().len())),
                }
            }
            Content::NameServer(family) => {
                for address in self.name_server(family, arrival) {
                    if !self.address(reply, Section::Answer, QUESTION_POINTER, address) {
                        reply.truncate();
                    }
                }
            }
            Content::Soa => self.soa(reply, Section::Answer, zone, apex_at),
            Content::Ns => {
                let mut name_server = [0; NS_LABELS.len() + POINTER];
                name_server[..NS_LABELS.len()].copy_from_slice(&NS_LABELS);
                name_server[NS_LABELS.len()..].copy_from_slice(&QUESTION_POINTER);
                reply.record(Section::Answer, QUESTION_POINTER, rtype::NS, self.settings.ttl, name_server);
                for family in [Family::V4, Family::V6] {
                    for address in self.name_server(family, arrival) {
                        // Glue that does not fit is left out without TC: the question is answered.
                        self.address(reply, Section::Additional, name_server, address);
                    }
                }
            }
            Content::Proof => {
                let mut room = [0; probe::MAX_RDATA];
                reply.answer(rtype::TXT, probe::TTL, self.proof(zone, &mut room));
            }
            Content::NoData | Content::NxDomain => self.soa(reply, Section::Authority, zone, apex_at),
            // See `write`.
            Content::Further(_) => {}
        }
    }

    fn address<const O: usize>(
        &self,
        reply: &mut Reply<'_>,
        section: Section,
        owner: [u8; O],
        address: IpAddr,
    ) -> bool {
        let ttl = self.settings.ttl;
        match address {
            IpAddr::V4(a) => reply.record(section, owner, rtype::A, ttl, a.octets()),
            IpAddr::V6(a) => reply.record(section, owner, rtype::AAAA, ttl, a.octets()),
        }
    }

    /// D5. The zone's name is the tail of the question, so it is a pointer everywhere.
    fn soa(&self, reply: &mut Reply<'_>, section: Section, zone: &Zone, apex_at: usize) {
        // The question begins 12 octets into the message and a name has 255: the pointer's 14 bits hold it.
        let apex = (0xc000 | (query::HEADER + apex_at) as u16).to_be_bytes();
        let [refresh, retry, expire] = SOA_TIMERS;
        let numbers = [zone.serial(), refresh, retry, expire, self.settings.negative_ttl];
        let mut rdata = [0; SOA_RDATA];
        let (names, octets) = rdata.split_at_mut(SOA_NAMES);
        let (mname, rname) = names.split_at_mut(NS_LABELS.len() + POINTER);
        for (name, labels) in [(mname, &NS_LABELS[..]), (rname, &HOSTMASTER_LABEL)] {
            name[..labels.len()].copy_from_slice(labels);
            name[labels.len()..].copy_from_slice(&apex);
        }
        for (octets, number) in octets.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *octets = number.to_be_bytes();
        }
        if !reply.record(section, apex, rtype::SOA, self.settings.negative_ttl, rdata) {
            reply.truncate();
        }
    }

    /// The RDATA of the answer to a probe (D18).
    pub fn proof<'r>(&self, zone: &Zone, room: &'r mut [u8; probe::MAX_RDATA]) -> &'r [u8] {
        probe::rdata(&self.settings.nsid, zone.serial(), room)
    }

    /// The OPT of a reply, exactly when the query has one (D12).
    pub fn opt<'o>(
        &'o self,
        edns: Option<Edns<'o>>,
        cookie: Option<Judged>,
        error: Option<ExtendedError>,
    ) -> Option<OptReply<'o>> {
        let cookie = cookie.and_then(|cookie| cookie.reply);
        edns.map(|query| OptReply { query, nsid: &self.settings.nsid, cookie, error })
    }
}

fn opt_len(opt: Option<OptReply<'_>>) -> usize {
    opt.map_or(0, |opt| opt.wire_len())
}

#[cfg(test)]
mod tests;
