//! A call's octets in pieces of any size (G1, G2): they are put together as they were sent, never beyond the budget, and
//! the packet in them is read as it was written.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Frame};
use tokio::sync::Semaphore;

use super::*;
use crate::serve::budget::Budget;
use crate::serve::http;
use crate::serve::tcp::check::{message, run};
use crate::testing::Octets;

/// A body that comes in pieces; `None` where it is waited for.
struct Pieces {
    left: VecDeque<Option<Frame<Bytes>>>,
    /// Whether it says so when nothing follows.
    tells_its_end: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.left.pop_front() {
            Some(None) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Some(frame)) => Poll::Ready(Some(Ok(frame))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.tells_its_end && self.left.is_empty()
    }
}

/// Makes a call of octets, and panics where what is read is not what was sent.
pub(crate) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    let (call, message) = call(&mut octets);
    if let Some(message) = &message {
        assert_eq!(packet::read(&call), Ok(&message[..]), "{call:?}");
    } else if let Ok(message) = packet::read(&call) {
        // Whatever was read, it is read again as it was.
        assert_eq!(packet::read(&packet::write(message)), Ok(message), "{call:?}");
    }
    let whole = octets.one_in(4);
    let mut left = VecDeque::new();
    let mut rest = &call[..];
    while !rest.is_empty() {
        let size = if whole { rest.len() } else { 1 + octets.below(256) * octets.pick(&[1, 1, 1, 100]) };
        let (piece, more) = rest.split_at(size.min(rest.len()));
        left.extend((0..octets.below(3)).map(|_| None));
        left.push_back(Some(Frame::data(Bytes::copy_from_slice(piece))));
        rest = more;
    }
    if octets.one_in(4) {
        left.push_back(Some(Frame::trailers(HeaderMap::new())));
    }
    let pieces = Pieces { left, tells_its_end: octets.one_in(2) };
    let room = octets.pick(&[0, 1 << 10, 64 << 10, budget::SHARED]);
    let shared = Arc::new(Semaphore::new(room));
    let budget = Budget::new(shared.clone());
    match run(http::read(pieces, MAX_BODY, &budget)) {
        Ok(octets) => assert_eq!(octets, call),
        Err(Unread::TooLong) => assert!(call.len() > MAX_BODY),
        Err(unread) => {
            // Twice what there is of it, and what the call itself counts as.
            let needed = budget::CALL + 2 * call.len().next_power_of_two().max(budget::PIECE);
            assert!(
                unread == Unread::UsedUp && needed > budget::OWN.max(room),
                "{unread:?} of {}",
                call.len()
            );
        }
    }
    assert_eq!(shared.available_permits(), room, "the budget was not given back");
    let mut all = Held::default();
    assert!(budget.take(budget::OWN, &mut all).is_ok(), "the connection's own was not given back");
}

/// A call, and its message if it is one for certain.
fn call(octets: &mut Octets<'_>) -> (Vec<u8>, Option<Vec<u8>>) {
    if octets.one_in(4) {
        return (octets.rest().to_vec(), None);
    }
    let (mut packet, mut last) = (Vec::new(), Vec::new());
    for _ in 0..1 + octets.below(3) {
        match octets.below(8) {
            0 => {
                varint(&mut packet, (2 + u64::from(octets.octet())) << 3);
                let number = u64::from(octets.u16()) << octets.below(48);
                varint(&mut packet, number);
            }
            1 => {
                varint(&mut packet, (2 + u64::from(octets.octet())) << 3 | 5);
                packet.extend(octets.many(4));
            }
            2 => {
                varint(&mut packet, (2 + u64::from(octets.octet())) << 3 | 1);
                packet.extend(octets.many(8));
            }
            3 => {
                let length = octets.below(40);
                varint(&mut packet, (2 + u64::from(octets.octet())) << 3 | 2);
                varint(&mut packet, length as u64);
                packet.extend(octets.many(length));
            }
            n => {
                last = message(octets);
                if n == 4 {
                    last.resize(usize::from(octets.u16()), 7);
                }
                varint(&mut packet, 1 << 3 | 2);
                varint(&mut packet, last.len() as u64);
                packet.extend(&last);
            }
        }
    }
    let mut call = vec![0];
    call.extend((packet.len() as u32).to_be_bytes());
    call.extend(packet);
    (call, Some(last))
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
