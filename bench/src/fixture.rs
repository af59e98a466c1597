//! globaldns in this process: the one file of the benchmarks that knows its interface.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use globaldns::entry::{Entry, Origin, Rules};
use globaldns::index::{Index, Packed, Partition, Policy};
use globaldns::metrics::Counters;
use globaldns::serve::hickory::Handler;
use globaldns::serve::responder::{Arrival, Outcome, Responder, Settings};
use globaldns::serve::{listen, udp};
use globaldns::wire::Transport;
use globaldns::wire::name::Name;
use globaldns::zone::{Table, Zones};

use crate::names;
use crate::question::{self, Style};

/// Octets of the largest reply over UDP.
pub const REPLY: usize = 1232;
const NEGATIVE_TTL: u32 = 5;
const TTL: u32 = 30;

/// Everything a query passes through, without sockets.
pub struct Fixture {
    /// Where changes go in.
    pub index: Index,
    responder: Arc<Responder>,
    counters: Arc<Counters>,
    arrival: Arrival,
    workers: Mutex<udp::Workers>,
}

/// A ServiceEntry as the index takes it.
pub type ReadEntry = Entry;

impl Fixture {
    /// A server of the zone `global`, complete and without a host.
    pub fn empty() -> Fixture {
        let name = |text: &str| Name::parse(text).expect("a name");
        let zones = Zones::new(vec![name(names::ZONE)], name("cluster.local"), 0).expect("a zone");
        let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: TTL };
        let index = Index::new(policy, Arc::new(Table::new(zones)), || 1);
        index.table().set_complete();
        let settings =
            Settings { ttl: TTL, negative_ttl: NEGATIVE_TTL, rotate: true, nsid: b"bench".to_vec() };
        let responder = Arc::new(Responder::new(index.table().clone(), settings, Vec::new()));
        let peer = SocketAddr::from(([192, 0, 2, 1], 4000));
        let arrival = Arrival::new(Transport::Udp, peer, IpAddr::from([192, 0, 2, 53]), 1_700_000_000);
        let counters = Arc::new(Counters::alone(1));
        Fixture { index, responder, counters, arrival, workers: Mutex::default() }
    }

    /// The same with the first `hosts` of [`names`].
    pub fn with_hosts(hosts: u32) -> Fixture {
        let fixture = Fixture::empty();
        fixture.reset(fixture.entries(hosts));
        fixture
    }

    /// The ServiceEntries of the first `hosts`, as a source collects them.
    pub fn entries(&self, hosts: u32) -> Vec<Packed> {
        (0..hosts).map(|number| self.pack(self.entry(number, names::address(number)))).collect()
    }

    /// One entry of a list.
    pub fn pack(&self, entry: ReadEntry) -> Packed {
        self.index.pack(Partition(0), entry)
    }

    /// A host's ServiceEntry with an address of choice.
    pub fn entry(&self, number: u32, address: Ipv4Addr) -> ReadEntry {
        self.read(&names::service_entry(number, address))
    }

    /// A ServiceEntry from its JSON.
    pub fn read(&self, object: &serde_json::Value) -> ReadEntry {
        Entry::read(object, Origin::Object, self.index.table().zones(), &Rules::default())
    }

    /// One event of a watch.
    pub fn apply(&self, entry: ReadEntry) {
        self.index.apply(Partition(0), entry);
    }

    /// A complete list.
    pub fn reset(&self, entries: Vec<Packed>) {
        self.index.reset(Partition(0), entries);
    }

    /// Answers a message as a worker does; what was written of `out`, nothing for silence.
    pub fn respond<'o>(&self, message: &[u8], out: &'o mut [u8]) -> &'o [u8] {
        match self.responder.respond(message, self.arrival, &self.counters, out) {
            Outcome::Reply(length) => &out[..length],
            Outcome::Silence | Outcome::Declined => &[],
        }
    }

    /// hickory-server's handler for the same names.
    pub fn handler(&self) -> Handler {
        Handler::new(self.responder.clone(), self.counters.clone())
    }

    /// Binds, and answers with one worker until this is dropped. The worker runs on the cores of the caller.
    /// Returns the address.
    pub fn serve_udp(&self, address: SocketAddr) -> Result<SocketAddr> {
        let socket = listen::dns(address, false, 1)?.udp.pop().context("no socket")?;
        let bound = socket.local_addr()?;
        let counters = Arc::new(Counters::alone(1));
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.start(socket, self.responder.clone(), counters)?;
        Ok(bound)
    }
}

/// Reads a query without answering it.
pub fn parse(message: &[u8]) {
    black_box(globaldns::wire::query::parse(black_box(message)).is_ok());
}

/// A query as stub resolvers send it, with EDNS.
pub fn query(name: &str, qtype: u16) -> Vec<u8> {
    let style = Style { edns: Some(1232), dnssec_ok: false };
    question::message(name, qtype, style).expect("a name")
}
