//! A TCP relay in front of the API server that can be broken in the ways networks break.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::control_plane::free_port;

/// Relays its port to another port of loopback.
pub(crate) struct Gate {
    port: u16,
    door: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    closed: AtomicBool,
    /// Set once: nobody opens it again.
    gone: AtomicBool,
    connections: Mutex<Vec<Connection>>,
}

struct Connection {
    ends: [TcpStream; 2],
    /// While set, what arrives is thrown away and nobody is told.
    deaf: Arc<AtomicBool>,
}

impl Gate {
    /// An open gate to `target`.
    pub(crate) fn to(target: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("bind the gate");
        Self::on(listener, target)
    }

    /// An open gate from `listener`, which may be in another network, to `target`.
    pub(crate) fn on(listener: TcpListener, target: u16) -> Self {
        let port = listener.local_addr().expect("a bound socket").port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let door = listener.try_clone().expect("clone a socket");
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.gone.load(Ordering::SeqCst) {
                    break;
                }
                // A closed gate refuses by closing what it accepts.
                let Ok(client) = client else { continue };
                if accepting.closed.load(Ordering::SeqCst) {
                    continue;
                }
                if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) {
                    accepting.relay(client, server);
                }
            }
        });
        Self { port, door, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Breaks every connection and lets no new one through.
    pub(crate) fn close(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        for connection in self.shared.connections().drain(..) {
            connection.cut();
        }
    }

    /// Lets new connections through again.
    pub(crate) fn open(&self) {
        self.shared.closed.store(false, Ordering::SeqCst);
    }

    /// Lets the present connections live on without delivering anything, as a dead peer
    /// behind a stateful firewall does. New connections work.
    pub(crate) fn deafen(&self) {
        for connection in self.shared.connections().iter() {
            connection.deaf.store(true, Ordering::SeqCst);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::SeqCst);
        self.close();
        // Wakes the thread that accepts: its socket would keep a pod's network alive.
        let _ = socket2::SockRef::from(&self.door).shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn relay(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("set TCP_NODELAY");
            // A deaf connection must not outlive the test by a blocked read.
            stream.set_read_timeout(Some(Duration::from_secs(300))).expect("set a read timeout");
        }
        let copy = |stream: &TcpStream| stream.try_clone().expect("clone a socket");
        let deaf = Arc::new(AtomicBool::new(false));
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (from, to, deaf) = (copy(from), copy(to), Arc::clone(&deaf));
            std::thread::spawn(move || pump(from, to, &deaf));
        }
        let connection = Connection { ends: [client, server], deaf };
        let mut connections = self.connections();
        // Closed in the meantime: `close` has not seen this one.
        if self.closed.load(Ordering::SeqCst) {
            connection.cut();
        } else {
            connections.push(connection);
        }
    }
}

impl Connection {
    fn cut(&self) {
        for end in &self.ends {
            // Fails only if the peer was faster.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, deaf: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !deaf.load(Ordering::SeqCst) && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    if !deaf.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
