//! A connection's octets in pieces of any size (D14): every complete message gets the reply it gets alone, in order, and
//! whatever is half-sent or follows takes none of them away.

use std::net::IpAddr;
use std::sync::OnceLock;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::TcpCounters;
use crate::serve::fixture::{Fixture, query, settings, table};
use crate::testing::Octets;

/// An answerer over a host with one address and one whose reply is longer than most pipes.
pub(in crate::serve) fn answerer() -> Arc<Answerer> {
    static ANSWERER: OnceLock<Arc<Answerer>> = OnceLock::new();
    let new = || {
        let big = (0..300u16).map(|i| IpAddr::from([240, 1, (i >> 8) as u8, i as u8])).collect();
        let hosts = [("a.global", vec![IpAddr::from([240, 0, 0, 1])]), ("big.global", big)];
        let Fixture { responder, counters, .. } = Fixture::new(table(&["global"], &hosts), settings(), &[]);
        Answerer::new(responder, counters)
    };
    ANSWERER.get_or_init(new).clone()
}

/// Queries that are answered, most of them.
pub(in crate::serve) fn message(octets: &mut Octets<'_>) -> Vec<u8> {
    static QUERIES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let new = || {
        let texts = ["a.global A +tcp", "big.global A +tcp", "b.global A +tcp +do", "x.com A +tcp +nsid"];
        texts.iter().map(|text| query(text).0).collect()
    };
    let queries = QUERIES.get_or_init(new);
    match octets.below(8) {
        n @ 0..5 => queries[n % queries.len()].clone(),
        5 => Vec::new(),
        6 => {
            let length = octets.below(64);
            octets.many(length)
        }
        _ => {
            let mut message = queries[octets.below(queries.len())].clone();
            let at = octets.below(message.len());
            message[at] = octets.octet();
            message
        }
    }
}

/// Runs a future to its end; the clock goes on, though nothing here waits for it.
pub(in crate::serve) fn run<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Makes a conversation of octets, and panics where a reply is missing, another, or out of turn.
pub(crate) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    let answerer = answerer();
    let connections = Connections::new(1, Arc::new(TcpCounters::default()), CancellationToken::new());
    let server = Server::new(answerer.clone(), connections.clone(), Duration::from_secs(60));
    let arrival = Fixture::arrival(Transport::Tcp);
    let room = 1 + usize::from(octets.u16()) % 5000;
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..octets.below(8) {
        let message = message(&mut octets);
        sent.extend((message.len() as u16).to_be_bytes());
        sent.extend(&message);
        if let Some(reply) = answerer.answer(&message, arrival) {
            expected.extend((reply.len() as u16).to_be_bytes());
            expected.extend(reply);
        }
    }
    // One that never becomes complete.
    if octets.one_in(2) {
        let length = octets.below(200);
        let begun = octets.below(length + 1).min(length.saturating_sub(1));
        sent.extend((length as u16 + 256).to_be_bytes());
        sent.extend(octets.many(begun));
        sent.truncate(sent.len() - octets.below(2).min(1 + begun));
    }
    let (ours, theirs) = tokio::io::duplex(room);
    let seat = connections.seat(IpAddr::from([192, 0, 2, 1])).expect("a seat");
    let (mut reading, mut writing) = tokio::io::split(theirs);
    let write = async {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((1 + octets.below(256)).min(rest.len()));
            // The other end may have hung up on what is no message.
            if writing.write_all(piece).await.is_err() {
                break;
            }
            if octets.one_in(2) {
                tokio::task::yield_now().await;
            }
            rest = more;
        }
        let _ = writing.shutdown().await;
    };
    let mut got = Vec::new();
    let read = reading.read_to_end(&mut got);
    let (.., read) = run(async { tokio::join!(server.converse(ours, arrival, &seat), write, read) });
    assert!(read.is_ok());
    assert_eq!(got, expected, "to {sent:?} through {room} octets");
}
