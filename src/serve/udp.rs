//! DNS over UDP: a thread for every socket, which receives, answers and sends datagrams in batches.
//!
//! A worker waits in `recvmmsg`, answers the datagrams it got, each step for all of them before the next, and sends the
//! replies with one `sendmmsg`. That is all it does: beside these two it makes no system call, takes no lock and
//! allocates nothing (the general path does, which sees next to no query). `tests/alloc.rs` and `tests/syscalls/run`
//! hold it to that, while nothing changes. What is opt-in costs more where it is asked for: a PTR record takes the lock of
//! the rows, which nobody holds for longer than it takes to change one or to go through those of an address, and PTR, SRV
//! and TXT allocate what they write.
//!
//! A change of the table adds this, and only this: what was replaced is freed in batches of as many nodes as there are
//! processors, but at least 32, and by the last thread that might still read one. If that is a worker, it frees them after
//! its replies and before it receives again: some microseconds, in which the allocator may wait for a lock of its own
//! or return pages to the kernel. It never allocates for a change, nor waits for a writer: a look-up in a map that is
//! just growing looks into both halves of it.
//!
//! Whoever wants to know what is asked gets a copy of some messages through a [`Tap`], which takes no lock and allocates
//! nothing, and makes no system call.
//!
//! **A panic** (L9) costs the message it came from: the steps are done for all others as if nothing had been, and that one
//! gets SERVFAIL. A worker that ends although nobody wants it to begins again on its socket.
//!
//! **The end** (L5) needs no timer. A socket that is connected, to itself, takes nothing from others any more: who asks now
//! is refused by the kernel, and need not wait for a time-out. Shut down for reading, it hands out what is queued, then
//! wakes its reader with a datagram from nobody. So every query is answered or refused.

mod batch;
mod sys;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::hickory::Handler;
use super::responder::{Arrival, Begun, Outcome, Responder};
use crate::insight::tap::Tap;
use crate::lifecycle::unix_now;
use crate::metrics::Counters;
use crate::panics::{Place, contain};
use crate::wire::Transport;
use crate::wire::name::MAX_WIRE;
use crate::wire::reply::UDP_PAYLOAD;
use batch::{Buffers, Outbox, Reply, SLOTS};
use sys::Calls;

const _: () = assert!(batch::REPLY >= UDP_PAYLOAD as usize);
/// One bit for each slot.
type Slots = u64;
const _: () = assert!(SLOTS <= Slots::BITS as usize);

/// The longest wait for room in a socket's send buffer, per system call.
const SEND_PATIENCE: Duration = Duration::from_millis(10);
/// A pause after receiving has failed: it should not, and must not become a busy loop.
const RECEIVE_PAUSE: Duration = Duration::from_millis(50);
/// As many datagrams as a receive queue can hold: the kernel doubles the size it is asked for, and charges more
/// than 512 octets for the smallest datagram. So many after the stop, and none that came before it is left.
const MOST_QUEUED: usize = 2 * super::listen::RECEIVE_BUFFER / 512;
/// The longest wait for the workers' end. They need milliseconds.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The threads that answer UDP, until they are stopped or dropped.
pub struct Workers {
    threads: Vec<(Arc<UdpSocket>, JoinHandle<()>)>,
    stopping: Arc<AtomicBool>,
    /// Nothing is ever sent: the last worker to end disconnects it.
    running: Option<mpsc::Sender<Infallible>>,
    ended: mpsc::Receiver<Infallible>,
}

impl Default for Workers {
    fn default() -> Workers {
        let (running, ended) = mpsc::channel();
        Workers { threads: Vec::new(), stopping: Arc::default(), running: Some(running), ended }
    }
}

impl Workers {
    /// Starts a thread that answers on one socket of [`super::listen`]. It must be the only one that counts into
    /// `counters`.
    pub fn start(
        &mut self,
        socket: UdpSocket,
        responder: Arc<Responder>,
        counters: Arc<Counters>,
    ) -> io::Result<()> {
        sys::probe(&socket).map_err(|error| {
            let why =
                "the kernel or a seccomp profile refuses recvmmsg or sendmmsg, which DNS over UDP needs";
            io::Error::new(error.kind(), format!("{why}: {error}; allow both"))
        })?;
        socket.set_write_timeout(Some(SEND_PATIENCE))?;
        let socket = Arc::new(socket);
        let worker = Worker {
            socket: socket.clone(),
            handler: Handler::new(responder.clone(), counters.clone()),
            responder,
            counters,
            stopping: self.stopping.clone(),
        };
        let running = self.running.clone();
        let name = format!("udp-{}", self.threads.len());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            worker.run_until_stopped();
            drop(running);
        })?;
        self.threads.push((socket, thread));
        Ok(())
    }

    /// Answers what is queued and ends (L5). Blocks until that is done; false if a worker does not end.
    pub fn stop(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        self.stopping.store(true, Ordering::Relaxed);
        for (socket, _) in &self.threads {
            let itself = socket.local_addr().map(|address| match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
                IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
                _ => address,
            });
            // Where that fails, all is well but for who asks in the last moment. Linux shuts down all the same, and says
            // ENOTCONN.
            let _ = itself.and_then(|itself: SocketAddr| socket.connect(itself));
            let _ = SockRef::from(&**socket).shutdown(Shutdown::Read);
        }
        // Only the workers' own senders are left.
        self.running = None;
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(STOP_PATIENCE) {
            // A kernel that is none we know did not wake it. The exit of the program ends it, too.
            tracing::warn!("a UDP worker does not end; leaving without it");
            return false;
        }
        for (_, thread) in self.threads.drain(..) {
            // It has contained its panics.
            let _ = thread.join();
        }
        true
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.end();
        }
    }
}

struct Worker {
    socket: Arc<UdpSocket>,
    responder: Arc<Responder>,
    handler: Handler,
    counters: Arc<Counters>,
    stopping: Arc<AtomicBool>,
}

impl Worker {
    fn run_until_stopped(&self) {
        let mut told = false;
        let mut tap = self.responder.taps().tap();
        while contain(Place::Udp, || self.run(tap.as_mut())).is_none()
            || !self.stopping.load(Ordering::Relaxed)
        {
            self.counters.restart();
            if !std::mem::replace(&mut told, true) {
                tracing::error!("a UDP worker has ended; it begins again on its socket");
            }
            std::thread::sleep(RECEIVE_PAUSE);
        }
    }

    fn run(&self, mut tap: Option<&mut Tap>) {
        // A socket that is bound to one address need not ask where datagrams arrive.
        let bound = self.socket.local_addr().map(|address| address.ip());
        let bound = bound.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let mut calls = Calls::new(bound.is_unspecified());
        let mut buffers = Buffers::new();
        let mut outbox = Outbox::new();
        let mut names = vec![[0; MAX_WIRE]; SLOTS];
        let mut lengths = [0; SLOTS];
        let mut left = MOST_QUEUED;
        while left > 0 {
            let stopping = self.stopping.load(Ordering::Relaxed);
            let received = match calls.receive(&self.socket, &mut buffers) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // On Linux an unconnected socket reports nothing of single clients: this is about us.
                    tracing::debug!(%error, "receiving datagrams failed");
                    self.counters.receive_error();
                    if stopping {
                        return;
                    }
                    std::thread::sleep(RECEIVE_PAUSE);
                    continue;
                }
            };
            let (received_at, at) = (Instant::now(), unix_now());
            let mut at_end = false;
            // One pin for all, and none while waiting: it would keep what the table has replaced from being freed.
            let reader = self.responder.table().read();
            let (messages, rooms) = buffers.exchange();
            let mut begun: [Option<(Arrival, Begun<'_>)>; SLOTS] = [const { None }; SLOTS];
            let mut done: Slots = 0;
            // Each step for all messages, and then the next: see Responder::begin.
            let mut panicked =
                each((0..received).zip(&mut begun).zip(&mut names), |((slot, begun), name)| {
                    let Some((arrival, length)) = arrival(&mut calls, slot, bound, at) else {
                        at_end = true;
                        return;
                    };
                    lengths[slot] = length;
                    let message = messages.get(slot, length);
                    *begun = Some((arrival, self.responder.begin(message, arrival, name)));
                });
            panicked |= each(begun.iter_mut().flatten(), |(_, begun)| begun.sight(&reader));
            panicked |=
                each(begun.iter_mut().enumerate().zip(rooms).take(received), |((slot, begun), out)| {
                    let Some((arrival, begun)) = begun.take() else { return };
                    let outcome = match self.responder.finish(begun, &reader, arrival, &self.counters, out) {
                        Outcome::Declined => {
                            self.handler.respond(messages.get(slot, lengths[slot]), arrival, out)
                        }
                        outcome => outcome,
                    };
                    if let Outcome::Reply(length) = outcome {
                        outbox.push(Reply { slot, length });
                    }
                    done |= 1 << slot;
                    if let (Some(tap), Outcome::Reply(length)) = (&mut tap, outcome) {
                        let message = messages.get(slot, lengths[slot]);
                        tap.see(message, &out[..length], arrival.came(received_at));
                    }
                });
            if panicked {
                let (messages, rooms) = buffers.exchange();
                for (slot, out) in (0..received).zip(rooms).filter(|(slot, _)| done & (1 << slot) == 0) {
                    let Some((arrival, length)) = arrival(&mut calls, slot, bound, at) else { continue };
                    let message = messages.get(slot, length);
                    if let Outcome::Reply(length) = self.responder.fail(message, arrival, &self.counters, out)
                    {
                        outbox.push(Reply { slot, length });
                        if let Some(tap) = &mut tap {
                            // It reads the message, too.
                            let came = arrival.came(received_at);
                            contain(Place::Udp, || tap.see(message, &out[..length], came));
                        }
                    }
                }
            }
            let replies = outbox.len();
            // Of what is dropped here, the peer is gone or a firewall said no: one client's matter.
            let dropped = outbox.deliver(|rest| calls.send(&self.socket, &buffers, rest));
            // After the replies, because whoever leaves last frees what writers have replaced meanwhile.
            drop(reader);
            self.counters.send_errors(dropped);
            self.counters.durations(Transport::Udp, replies, received_at.elapsed());
            #[cfg(test)]
            for (slot, length) in lengths.iter().enumerate().take(received) {
                crate::panics::trip("worker", buffers.exchange().0.get(slot, *length));
            }
            if at_end {
                return;
            }
            if stopping {
                left = left.saturating_sub(received);
            }
        }
    }
}

/// How a message arrived that lies in a slot, and its length; `None` at the end.
fn arrival(calls: &mut Calls, slot: usize, bound: IpAddr, at: u32) -> Option<(Arrival, usize)> {
    let datagram = calls.datagram(slot)?;
    let arrival = Arrival::new(Transport::Udp, datagram.peer, datagram.local.unwrap_or(bound), at);
    Some((arrival, datagram.length))
}

/// Takes a step with each item, past those with which it panics. True if there were such.
fn each<T>(mut items: impl Iterator<Item = T>, mut step: impl FnMut(T)) -> bool {
    let mut panicked = false;
    // An item is taken before its step.
    while contain(Place::Udp, || items.by_ref().for_each(&mut step)).is_none() {
        panicked = true;
    }
    panicked
}

#[cfg(test)]
mod tests;
