//! How many octets the calls may hold (G2).
//!
//! What a call has sent before it is complete is held by us and not by HTTP/2's windows, and so is a reply that the
//! client does not take. Both are counted as long as they are held: first against a little that each connection has for
//! itself, so that no client can take it from another, and then against what all connections share.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;

/// Octets that all connections share.
pub(super) const SHARED: usize = 32 << 20;
/// Octets that a connection has for itself.
pub(super) const OWN: usize = 16 << 10;
/// What a call counts as that waits for its message: about what its task and its stream take.
pub(super) const CALL: usize = 2 << 10;

const USED_UP: Refusal =
    Refusal { status: 8, message: "too much is on its way at the moment; send this again later" };

/// What the calls of one connection may hold.
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
    pub(super) fn take(&self, octets: usize, held: &mut Held) -> Result<(), Refusal> {
        let octets = u32::try_from(octets).map_err(|_| USED_UP)?;
        let of = |budget: &Arc<Semaphore>| budget.clone().try_acquire_many_owned(octets);
        let permit = of(&self.own).or_else(|_| of(&self.shared)).map_err(|_| USED_UP)?;
        held.0.push(permit);
        Ok(())
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
