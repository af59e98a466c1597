//! Readiness and shutdown: guards that drop instead of flags that are forgotten. And the time of day, and chance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

/// Unix seconds.
pub fn unix_now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

/// Octets that nobody can guess, from the kernel. The crate `rand` looks for `/dev/urandom` where a static binary has no
/// `getrandom` to look up, and the image has no such file.
pub fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    let filled = SystemRandom::new().fill(&mut octets);
    assert!(filled.is_ok(), "the kernel has no random numbers");
    octets
}

/// From 0 to 1.
pub fn chance() -> f64 {
    f64::from(u32::from_ne_bytes(random())) / f64::from(u32::MAX)
}

/// What has to happen before the program is ready (L1), and whether it is leaving (L5).
#[derive(Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Name of what is awaited, with how many guards wait for it.
    awaited: BTreeMap<String, usize>,
    draining: bool,
}

/// Dropping it says that one thing is ready.
pub struct Awaited {
    readiness: Readiness,
    what: String,
}

impl Readiness {
    /// One more thing to wait for.
    pub fn await_for(&self, what: impl Into<String>) -> Awaited {
        let what = what.into();
        *self.lock().awaited.entry(what.clone()).or_default() += 1;
        Awaited { readiness: self.clone(), what }
    }

    /// True when nothing is awaited and no shutdown has begun.
    pub fn is_ready(&self) -> bool {
        let state = self.lock();
        !state.draining && state.awaited.is_empty()
    }

    /// Why the program is not ready, one reason per item.
    pub fn reasons(&self) -> Vec<String> {
        let state = self.lock();
        let draining = state.draining.then(|| "shutting down".to_owned());
        draining.into_iter().chain(state.awaited.keys().map(|what| format!("waiting for {what}"))).collect()
    }

    /// From now on not ready, for good.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// It will never be ready: the program must not become ready because something gave up.
    pub fn give_up(self) {
        // Dropping it takes away what it had, not this.
        *self.readiness.lock().awaited.entry(self.what.clone()).or_default() += 1;
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut state = self.readiness.lock();
        if let Some(count) = state.awaited.get_mut(&self.what) {
            *count -= 1;
            if *count == 0 {
                state.awaited.remove(&self.what);
            }
        }
        let left: Vec<_> = state.awaited.keys().cloned().collect();
        drop(state);
        if left.is_empty() {
            tracing::info!(done = %self.what, "ready");
        } else {
            tracing::debug!(done = %self.what, awaited = left.join(", "), "not ready yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [L1] [L5]
    #[test]
    fn ready_when_the_last_guard_drops_and_never_again_after_a_drain() {
        let readiness = Readiness::default();
        let files = readiness.await_for("files");
        let udp = [readiness.await_for("dns sockets"), readiness.await_for("dns sockets")];
        assert_eq!(readiness.reasons(), ["waiting for dns sockets", "waiting for files"]);
        drop(files);
        let [one, two] = udp;
        drop(one);
        assert!(!readiness.is_ready());
        drop(two);
        assert!(readiness.is_ready());
        readiness.drain();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.reasons(), ["shutting down"]);
    }

    /// [L1]
    #[test]
    fn never_ready_when_something_gave_up() {
        let readiness = Readiness::default();
        readiness.await_for("files").give_up();
        assert_eq!(readiness.reasons(), ["waiting for files"]);
    }
}
