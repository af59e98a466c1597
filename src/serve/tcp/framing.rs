//! Two octets of length before each message (RFC 1035 section 4.2.2), and how much of one is held (D14).

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::serve::budget::{Budget, Held, UsedUp};

/// Messages and replies up to this many octets are part of what every connection may have; larger ones count. A query has
/// seldom more than a hundred.
pub(super) const SMALL: usize = 4 << 10;
/// Octets of a buffer that a quiet connection keeps.
pub(super) const BUFFER: usize = 4 << 10;
/// Octets of the length.
pub(super) const LENGTH: usize = 2;

/// Reads and writes the messages of one connection.
pub(super) struct Framing {
    budget: Arc<Budget>,
    /// What a large message counts that has not come completely.
    held: Option<Held>,
}

/// One message, which counts until it is dropped if it is large.
pub(super) struct Message {
    octets: BytesMut,
    _held: Option<Held>,
}

impl Framing {
    pub(super) fn new(budget: Arc<Budget>) -> Framing {
        Framing { budget, held: None }
    }
}

impl Message {
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

impl Decoder for Framing {
    type Item = Message;
    type Error = io::Error;

    fn decode(&mut self, octets: &mut BytesMut) -> io::Result<Option<Message>> {
        let Some(length) = octets.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if octets.len() < LENGTH + length {
            if length > SMALL && self.held.is_none() {
                let mut held = Held::default();
                self.budget.take(length, &mut held)?;
                self.held = Some(held);
            }
            octets.reserve(LENGTH + length - octets.len());
            return Ok(None);
        }
        octets.advance(LENGTH);
        let message = octets.split_to(length);
        if length > SMALL {
            // The room of a large message goes with it: what comes next would be read into it again.
            *octets = small(octets);
        }
        Ok(Some(Message { octets: message, _held: self.held.take() }))
    }
}

impl Encoder<Bytes> for Framing {
    type Error = io::Error;

    fn encode(&mut self, reply: Bytes, octets: &mut BytesMut) -> io::Result<()> {
        octets.reserve(LENGTH + reply.len());
        // The largest reply is TCP_LIMIT.
        octets.put_u16(reply.len() as u16);
        octets.extend_from_slice(&reply);
        Ok(())
    }
}

impl From<UsedUp> for io::Error {
    fn from(UsedUp: UsedUp) -> io::Error {
        io::Error::new(io::ErrorKind::OutOfMemory, "too much is on its way over all connections")
    }
}

/// A buffer as a quiet connection keeps it, with these octets.
pub(super) fn small(octets: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(BUFFER.max(octets.len()));
    buffer.extend_from_slice(octets);
    buffer
}
