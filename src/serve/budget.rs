//! How many octets the connections may hold of messages that are not complete and of replies that are not taken (D14,
//! G2).
//!
//! What is sent to us before it is complete is held by us and not by a window of the transport, and so is a reply that the
//! client does not take. Both are counted as long as they are held: first against a little that each connection has for
//! itself, so that no client can take it from another, and then against what all connections share.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire::reply::TCP_LIMIT;

/// Octets that all connections share.
pub(super) const SHARED: usize = 32 << 20;
/// Octets that a connection has for itself.
pub(super) const OWN: usize = 16 << 10;
/// What a call counts as that waits for its message: about what its task and its stream take.
pub(super) const CALL: usize = 2 << 10;
/// What is first held of a message that comes in pieces; most messages are smaller.
pub(super) const PIECE: usize = 512;

/// Pieces of one message that may come before or after their turn, as somebody remembers each gap. The largest message has
/// about 60 packets.
const OUT_OF_TURN: usize = 128;

/// There is no room for more at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UsedUp;

/// What one connection may hold.
pub(super) struct Budget {
    own: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// Octets that count until this is dropped.
#[derive(Default)]
pub(super) struct Held(Vec<OwnedSemaphorePermit>);

impl Budget {
    /// The budget of a new connection.
    pub(super) fn new(shared: Arc<Semaphore>) -> Arc<Budget> {
        Arc::new(Budget { own: Arc::new(Semaphore::new(OWN)), shared })
    }

    /// Counts so many octets more.
    pub(super) fn take(&self, octets: usize, held: &mut Held) -> Result<(), UsedUp> {
        let octets = u32::try_from(octets).map_err(|_| UsedUp)?;
        let of = |budget: &Arc<Semaphore>| budget.clone().try_acquire_many_owned(octets);
        let permit = of(&self.own).or_else(|_| of(&self.shared)).map_err(|_| UsedUp)?;
        held.0.push(permit);
        Ok(())
    }
}

/// A message that comes in pieces.
#[derive(Default)]
pub(super) struct Gathering {
    octets: Vec<u8>,
    /// How many octets have come, in whatever order.
    came: usize,
    out_of_turn: usize,
    held: Held,
}

impl Gathering {
    /// Octets so far, those of gaps among them.
    pub(super) fn len(&self) -> usize {
        self.octets.len()
    }

    /// The next piece has to be waited for.
    pub(super) fn wait(&mut self, budget: &Budget) -> Result<(), UsedUp> {
        budget.take(CALL, &mut self.held)
    }

    /// Adds a copy, as a piece of one octet may hold a whole buffer of the connection's.
    pub(super) fn add(&mut self, data: &[u8], budget: &Budget) -> Result<(), UsedUp> {
        self.put(self.octets.len(), data, budget)
    }

    /// The same where pieces come in any order, each octet once.
    pub(super) fn put(&mut self, at: usize, data: &[u8], budget: &Budget) -> Result<(), UsedUp> {
        self.out_of_turn += usize::from(at != self.came);
        if self.out_of_turn > OUT_OF_TURN {
            return Err(UsedUp);
        }
        self.came += data.len();
        let end = at + data.len();
        let length = self.octets.len().max(end);
        if length > self.octets.capacity() {
            let room = length.next_power_of_two().max(PIECE);
            budget.take(room - self.octets.capacity(), &mut self.held)?;
            self.octets.reserve_exact(room - self.octets.len());
        }
        self.octets.resize(length, 0);
        self.octets[at..end].copy_from_slice(data);
        Ok(())
    }

    /// All of it, which counts until it is dropped.
    pub(super) fn whole(self) -> Bytes {
        with(self.octets, self.held)
    }
}

/// Octets with what is to be dropped when nobody has them any more.
struct With<T, D> {
    octets: T,
    _dropped: D,
}

impl<T: AsRef<[u8]>, D> AsRef<[u8]> for With<T, D> {
    fn as_ref(&self) -> &[u8] {
        self.octets.as_ref()
    }
}

/// `octets`, and `dropped` is dropped with their last copy.
pub(super) fn with<T, D>(octets: T, dropped: D) -> Bytes
where
    T: AsRef<[u8]> + Send + 'static,
    D: Send + 'static,
{
    Bytes::from_owner(With { octets, _dropped: dropped })
}

/// A message of the largest size fits in what is left beside a connection's own.
const _: () = assert!(SHARED > 2 * TCP_LIMIT as usize);

#[cfg(test)]
mod tests;
