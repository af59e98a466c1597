//! Which octets belong to which datagram: the part of the UDP loop that is neither system call nor DNS.
//!
//! Safe code that needs no other module, so that `tests/sanitize/run` can put it under Miri and its tests can let a
//! send fail in every way.

use std::io;

/// The most datagrams of one system call. On a saturated core a query cost 2.9 µs of processor time with 8, 2.65 with
/// 16, 2.5 with 32 and 2.45 with 64.
pub(super) const SLOTS: usize = 64;
/// Room for a reply: the 1232 octets of D13, in whole cache lines.
pub(super) const REPLY: usize = 1280;
/// Room for a message: what a datagram can hold at most, so none is cut short and an oversized one is still
/// parsed to its end (D11). Pages that no message reaches are never backed by memory.
pub(super) const MESSAGE: usize = 65_536;
/// From one slot to the next: an odd number of cache lines, lest all slots compete for the same sets of the cache.
const STRIDE: usize = MESSAGE + CACHE_LINE;
const CACHE_LINE: usize = 64;
const _: () = assert!(STRIDE.is_multiple_of(CACHE_LINE) && (STRIDE / CACHE_LINE) % 2 == 1);

/// How often sending one batch may be tried again after a passing failure.
const RETRIES: usize = 8;

/// The octets of all slots.
pub(super) struct Buffers {
    messages: Box<[u8]>,
    replies: Box<[u8]>,
}

/// The messages, while replies to them are written.
pub(super) struct Messages<'b>(&'b [u8]);

impl<'b> Messages<'b> {
    /// A slot's message.
    pub(super) fn get(&self, slot: usize, length: usize) -> &'b [u8] {
        &self.0[slot * STRIDE..][..length.min(MESSAGE)]
    }
}

impl Buffers {
    pub(super) fn new() -> Buffers {
        Buffers {
            messages: vec![0; SLOTS * STRIDE].into_boxed_slice(),
            replies: vec![0; SLOTS * REPLY].into_boxed_slice(),
        }
    }

    /// Where the message of each slot goes.
    pub(super) fn messages(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.messages.chunks_exact_mut(STRIDE).map(|slot| &mut slot[..MESSAGE])
    }

    /// The messages, and the room for each slot's reply.
    pub(super) fn exchange(&mut self) -> (Messages<'_>, impl Iterator<Item = &mut [u8]>) {
        (Messages(&self.messages), self.replies.chunks_exact_mut(REPLY))
    }

    /// The octets of a reply.
    pub(super) fn reply(&self, reply: Reply) -> &[u8] {
        &self.replies[reply.slot * REPLY..][..REPLY][..reply.length]
    }
}

/// A reply that lies in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) slot: usize,
    pub(super) length: usize,
}

/// The replies of one batch.
pub(super) struct Outbox {
    replies: Vec<Reply>,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox { replies: Vec::with_capacity(SLOTS) }
    }

    pub(super) fn push(&mut self, reply: Reply) {
        self.replies.push(reply);
    }

    pub(super) fn len(&self) -> usize {
        self.replies.len()
    }

    /// Hands the replies to `send` until all are gone, and forgets them. `send` says how many it took from the
    /// front, or why it took none: then that is the fault of the first one, which is dropped and counted, unless
    /// it was a passing one: after a few of those, all the rest is dropped. Returns how many were.
    pub(super) fn deliver(&mut self, mut send: impl FnMut(&[Reply]) -> io::Result<usize>) -> u64 {
        let mut retries = RETRIES;
        let mut dropped = 0;
        let mut rest = &self.replies[..];
        while !rest.is_empty() {
            match send(rest) {
                // It cannot be that none was taken without an error; if it is, it must not be for ever.
                Ok(sent) if sent > 0 => rest = &rest[sent.min(rest.len())..],
                Err(error) if is_passing(&error) && retries > 0 => retries -= 1,
                // There is no room and there will be none soon: clients ask again, and others wait to be heard.
                Err(error) if is_passing(&error) => {
                    dropped += rest.len() as u64;
                    break;
                }
                Ok(_) | Err(_) => {
                    dropped += 1;
                    rest = &rest[1..];
                }
            }
        }
        self.replies.clear();
        dropped
    }
}

/// A signal, or buffers that are full at the moment.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
        || error.raw_os_error() == Some(libc::ENOBUFS)
}

#[cfg(test)]
mod tests {
    use libc::{EAGAIN, EINTR, ENOBUFS, EPERM};

    use super::*;

    /// What `send` is to do at each call, and what it was asked to.
    fn deliver(replies: usize, script: &[Result<usize, i32>]) -> (u64, Vec<Vec<usize>>) {
        let mut outbox = Outbox::new();
        for slot in 0..replies {
            outbox.push(Reply { slot, length: 12 });
        }
        let mut script = script.iter();
        let mut asked = Vec::new();
        let dropped = outbox.deliver(|rest| {
            asked.push(rest.iter().map(|reply| reply.slot).collect());
            script.next().expect("no further call").map_err(io::Error::from_raw_os_error)
        });
        assert!(script.next().is_none(), "a further call");
        assert_eq!(outbox.len(), 0, "the outbox is empty for the next batch");
        (dropped, asked)
    }

    #[test]
    fn every_reply_is_sent_once_however_many_the_kernel_takes_at_a_time() {
        assert_eq!(deliver(0, &[]), (0, vec![]));
        assert_eq!(deliver(3, &[Ok(3)]), (0, vec![vec![0, 1, 2]]));
        assert_eq!(deliver(3, &[Ok(1), Ok(2)]), (0, vec![vec![0, 1, 2], vec![1, 2]]));
    }

    #[test]
    fn an_error_drops_the_one_reply_it_is_about() {
        assert_eq!(deliver(3, &[Err(EPERM), Ok(2)]), (1, vec![vec![0, 1, 2], vec![1, 2]]));
        // The kernel reports an error in the middle as that of the first one of the next call.
        assert_eq!(deliver(3, &[Ok(1), Err(EPERM), Ok(1)]), (1, vec![vec![0, 1, 2], vec![1, 2], vec![2]]));
        assert_eq!(deliver(2, &[Ok(1), Err(EPERM)]), (1, vec![vec![0, 1], vec![1]]));
        assert_eq!(deliver(2, &[Err(EPERM), Err(EPERM)]), (2, vec![vec![0, 1], vec![1]]));
    }

    #[test]
    fn passing_errors_are_tried_again_but_not_for_ever() {
        for errno in [EINTR, EAGAIN, ENOBUFS] {
            assert_eq!(deliver(2, &[Err(errno), Ok(2)]), (0, vec![vec![0, 1], vec![0, 1]]));
            let (dropped, asked) = deliver(2, &[Err(errno); RETRIES + 1]);
            assert_eq!((dropped, asked.last()), (2, Some(&vec![0, 1])));
            let (dropped, _) = deliver(3, &[&[Err(errno); RETRIES][..], &[Ok(1), Err(errno)]].concat());
            assert_eq!(dropped, 2);
        }
    }

    #[test]
    fn a_kernel_that_takes_none_or_too_many_ends_nothing() {
        assert_eq!(deliver(2, &[Ok(0), Ok(1)]), (1, vec![vec![0, 1], vec![1]]));
        assert_eq!(deliver(2, &[Ok(9)]), (0, vec![vec![0, 1]]));
    }

    #[test]
    fn slots_do_not_overlap() {
        let mut buffers = Buffers::new();
        for (slot, message) in buffers.messages().enumerate() {
            assert_eq!(message.len(), MESSAGE);
            // Both ends suffice, and Miri is slow.
            message[..8].fill(slot as u8);
            message[MESSAGE - 8..].fill(slot as u8);
        }
        let (messages, replies) = buffers.exchange();
        for (slot, reply) in replies.enumerate() {
            assert_eq!(reply.len(), REPLY);
            reply.fill(0x80 | slot as u8);
            let message = messages.get(slot, MESSAGE);
            assert_eq!(message[..8], [slot as u8; 8]);
            assert_eq!(message[MESSAGE - 8..], [slot as u8; 8]);
            assert_eq!(messages.get(slot, 5).len(), 5);
        }
        for slot in 0..SLOTS {
            let reply = Reply { slot, length: REPLY };
            assert!(buffers.reply(reply).iter().all(|octet| *octet == 0x80 | slot as u8));
        }
    }
}
