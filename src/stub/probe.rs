//! Whether queries for a zone reach us: probes (D18) asked through cluster DNS.
//!
//! A setting that was written is no proof: cluster DNS reads it late, or finds it wrong and says so nowhere. The
//! answer to a probe is one, because nobody else can give it and its nonce has never been in a cache.
//!
//! [`survey`] asks, [`verdict()`] judges. Ask only servers that are known to be cluster DNS, never whatever a resolv.conf
//! names: any other would learn the names of zones, and a public one may know `global` as a top-level domain.

mod verdict;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::time::Instant;

use crate::client::{self, Exchange, Manner, rcode};
use crate::lifecycle::random;
use crate::wire::name::{MAX_WIRE, Name};
use crate::wire::probe::{PREFIX, Proof};
use crate::wire::{Rcode, Transport, rtype};
pub use verdict::{Doubt, Verdict, verdict};

/// The most probes of a [`survey`] that wait for a reply at a time.
pub const IN_FLIGHT: usize = 32;
/// Characters of a nonce, of 5 bits each: more than anyone can guess or meet again.
const NONCE: usize = 26;
/// Where a nonce's characters come from: no letter has another case to be changed to on the way.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It reached one of our replicas.
    Proved {
        /// Which replica, and its serial of the zone.
        proof: Proof,
        /// From the first query to the proof.
        elapsed: Duration,
    },
    /// It did not.
    Failed(Failure),
}

/// Why a probe proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There was no reply.
    #[error(transparent)]
    Silent(#[from] client::Failure),
    /// The name does not exist there.
    #[error("NXDOMAIN: it does not forward the zone")]
    NxDomain,
    /// It tried to find out and could not.
    #[error("SERVFAIL: it does not get an answer where it forwards the zone to")]
    ServFail,
    /// Policy, an overload, or a server without the zone behind it.
    #[error("REFUSED: it, or where it forwards the zone to, does not answer for the zone")]
    Refused,
    /// Another error, by its number.
    #[error("an error reply with code {0}")]
    Rcode(u8),
    /// NOERROR without our proof.
    #[error("an answer that is not ours: someone else serves the zone")]
    WrongAnswer,
}

/// One probe of a survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who was asked.
    pub server: SocketAddr,
    /// For which zone.
    pub zone: Name,
    /// What came of it.
    pub outcome: Outcome,
}

impl Asked {
    /// Nobody answered at all.
    pub fn is_silent(&self) -> bool {
        matches!(self.failure(), Some(Failure::Silent(_)))
    }

    /// Why it proves nothing; `None` if it does prove the path.
    pub fn failure(&self) -> Option<Failure> {
        match self.outcome {
            Outcome::Proved { .. } => None,
            Outcome::Failed(failure) => Some(failure),
        }
    }
}

/// Asks every server for a proof of every zone, [`IN_FLIGHT`] at a time; server by server, in the order given.
/// `timeout` is each probe's own.
pub async fn survey(servers: &[SocketAddr], zones: &[Name], timeout: Duration) -> Vec<Asked> {
    let pairs = servers.iter().flat_map(|server| zones.iter().map(move |zone| (*server, zone.clone())));
    let asks = pairs.map(|(server, zone)| async move {
        let outcome = ask(server, &zone, timeout).await;
        Asked { server, zone, outcome }
    });
    // Collected, or the compiler cannot tell that the whole is Send.
    let asks: Vec<_> = asks.collect();
    futures::stream::iter(asks).buffered(IN_FLIGHT).collect().await
}

/// Which servers answer anything at all. They are asked for `version.bind` of class CH, which no resolver sends on: a
/// probe would leave the cluster while the zone is not forwarded yet.
pub async fn present(servers: &[SocketAddr], timeout: Duration) -> BTreeSet<SocketAddr> {
    let asks: Vec<_> = servers
        .iter()
        .copied()
        .map(|server| async move {
            let version = Name::parse("version.bind").ok()?;
            let exchange =
                Exchange::of_class(server, version.wire(), rtype::TXT, DNSClass::CH.into()).ok()?;
            let reply = tokio::time::timeout(timeout, exchange.run(manner(timeout))).await;
            matches!(reply, Ok(Ok(_))).then_some(server)
        })
        .collect();
    let answers: Vec<_> = futures::stream::iter(asks).buffered(IN_FLIGHT).collect().await;
    answers.into_iter().flatten().collect()
}

/// Asks one server for a proof of one zone, with a nonce of its own. Asks a second time after half of `timeout`, and
/// over TCP if the reply is truncated.
pub async fn ask(server: SocketAddr, zone: &Name, timeout: Duration) -> Outcome {
    Probe::new(zone).ask(server, timeout).await
}

/// A name to ask for, once.
#[derive(Debug)]
pub struct Probe {
    zone: Name,
    nonce: String,
}

impl Probe {
    /// A probe of a zone with a random nonce, as long as the zone leaves room for.
    pub fn new(zone: &Name) -> Probe {
        let room = MAX_WIRE.saturating_sub(zone.wire().len() + 1 + PREFIX.len());
        let nonce = random::<NONCE>();
        let nonce = nonce.iter().take(room.max(1)).map(|r| char::from(ALPHABET[usize::from(*r) % 32]));
        Probe { zone: zone.clone(), nonce: nonce.collect() }
    }

    /// `_probe-<nonce>.<zone>`.
    pub fn name(&self) -> Name {
        self.zone.prepend(&format!("{PREFIX}{}", self.nonce))
    }

    /// See [`ask`]. Takes the probe, so that no nonce is asked twice.
    pub async fn ask(self, server: SocketAddr, timeout: Duration) -> Outcome {
        let begun = Instant::now();
        let exchanged = async {
            let name = self.name();
            let exchange = Exchange::new(server, name.wire(), rtype::TXT)?;
            judge(&exchange.run(manner(timeout)).await?, name.wire())
        };
        match tokio::time::timeout(timeout, exchanged).await {
            Ok(Ok(proof)) => Outcome::Proved { proof, elapsed: begun.elapsed() },
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(_) => Outcome::Failed(client::Failure::NoReply.into()),
        }
    }
}

/// Twice within the time.
fn manner(timeout: Duration) -> Manner {
    Manner { transport: Transport::Udp, patience: timeout / 2, tries: 2 }
}

fn judge(reply: &[u8], name: &[u8]) -> Result<Proof, Failure> {
    const NOERROR: u8 = Rcode::NoError as u8;
    const SERVFAIL: u8 = Rcode::ServFail as u8;
    const NXDOMAIN: u8 = Rcode::NxDomain as u8;
    const REFUSED: u8 = Rcode::Refused as u8;
    match rcode(reply) {
        NOERROR => proof(reply, name).ok_or(Failure::WrongAnswer),
        SERVFAIL => Err(Failure::ServFail),
        NXDOMAIN => Err(Failure::NxDomain),
        REFUSED => Err(Failure::Refused),
        other => Err(Failure::Rcode(other)),
    }
}

fn proof(reply: &[u8], name: &[u8]) -> Option<Proof> {
    let message = Message::from_vec(reply).ok()?;
    let name = HickoryName::read(&mut BinDecoder::new(name)).ok()?;
    message.answers.iter().filter(|record| record.name == name).find_map(|record| match &record.data {
        RData::TXT(text) => Proof::read(text.txt_data.iter().map(|string| &**string)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
