//! Sockets: bound once, with errors that say what to do (L1, D14, D16).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// A port that cannot be listened on (exit code 2).
#[derive(Debug, thiserror::Error)]
#[error("{flag}: cannot listen on {address} ({protocol}): {error}; {remedy}")]
pub struct ListenError {
    flag: &'static str,
    address: SocketAddr,
    protocol: &'static str,
    error: io::Error,
    remedy: String,
}

/// What is listened for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    flag: &'static str,
    /// An address that needs no rights and is seldom taken.
    example: &'static str,
}

impl Purpose {
    /// DNS over UDP and TCP.
    const DNS: Purpose = Purpose { flag: "--listen", example: "127.0.0.1:5353" };
    /// DNS over gRPC.
    pub const GRPC: Purpose = Purpose { flag: "--grpc-listen", example: "127.0.0.1:8053" };
    /// DNS over TLS.
    pub const TLS: Purpose = Purpose { flag: "--tls-listen", example: "127.0.0.1:8853" };
    /// DNS over HTTPS.
    pub const HTTPS: Purpose = Purpose { flag: "--https-listen", example: "127.0.0.1:8443" };
    /// DNS over QUIC.
    const QUIC: Purpose = Purpose { flag: "--quic-listen", example: "127.0.0.1:8853" };
    /// The admin listener.
    pub const ADMIN: Purpose = Purpose { flag: "--admin-listen", example: "127.0.0.1:9153" };
}

/// The sockets of one DNS listen address.
pub struct Listener {
    /// Datagrams, which the kernel spreads over the sockets by client. A wildcard address asks for each one's arrival
    /// address.
    pub udp: Vec<UdpSocket>,
    /// Streams, on the same port.
    pub tcp: TcpListener,
}

/// Octets of datagrams that may wait for a worker, per socket: bursts of some thousand queries. The kernel gives
/// what it allows (net.core.rmem_max) and takes memory only for what waits.
pub(super) const RECEIVE_BUFFER: usize = 4 << 20;
/// Tries to find one port for both protocols when asked for port 0.
const PORT_ZERO_TRIES: usize = 16;

/// Binds `workers` sockets for UDP and one for TCP on one address (D14). `fallback`: the address is a default, so
/// `[::]` becomes `0.0.0.0` where the kernel has no IPv6.
pub fn dns(address: SocketAddr, fallback: bool, workers: usize) -> Result<Listener, ListenError> {
    let mut tries = if address.port() == 0 { PORT_ZERO_TRIES } else { 1 };
    loop {
        tries -= 1;
        let (first, bound) = with_fallback(address, fallback, "UDP", Purpose::DNS, bind_udp)?;
        let udp = join(first, bound, workers).map_err(|error| explain(bound, "UDP", Purpose::DNS, error))?;
        match bind_tcp(bound) {
            Ok(tcp) => return Ok(Listener { udp, tcp }),
            // Another program has the TCP side of the port the kernel chose for UDP.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(explain(bound, "TCP", Purpose::DNS, error)),
        }
    }
}

/// Binds a socket for DNS over QUIC, which is not shared.
pub fn quic(address: SocketAddr, fallback: bool) -> Result<UdpSocket, ListenError> {
    with_fallback(address, fallback, "UDP", Purpose::QUIC, |address| {
        let (socket, bound) = bind_udp(address)?;
        socket.set_nonblocking(true)?;
        Ok((socket, bound))
    })
    .map(|(socket, _)| socket)
}

/// Binds a TCP listener for what is not DNS over TCP.
pub fn tcp(address: SocketAddr, fallback: bool, purpose: Purpose) -> Result<TcpListener, ListenError> {
    with_fallback(address, fallback, "TCP", purpose, |address| {
        let listener = bind_tcp(address)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    })
    .map(|(listener, _)| listener)
}

fn with_fallback<T>(
    address: SocketAddr,
    fallback: bool,
    protocol: &'static str,
    purpose: Purpose,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, ListenError> {
    match bind(address) {
        Err(error) if fallback && no_ipv6(&error) && address.is_ipv6() && address.ip().is_unspecified() => {
            let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            bind(v4).map_err(|error| explain(v4, protocol, purpose, error))
        }
        bound => bound.map_err(|error| explain(address, protocol, purpose, error)),
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    use nix::errno::Errno;
    [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// The first socket of an address, bound without SO_REUSEPORT: that fails beside any other program's, and beside a
/// second instance of this one (L1).
fn bind_udp(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = udp_socket(address)?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    let bound = socket.local_addr()?;
    Ok((socket, bound))
}

/// All sockets of an address, given the first. A socket may be opened for others after it was bound; they then
/// find it, and the kernel makes one group of them.
fn join(first: UdpSocket, bound: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = vec![first];
    if workers > 1 {
        SockRef::from(&sockets[0]).set_reuse_port(true)?;
    }
    for _ in 1..workers {
        let socket = udp_socket(bound)?;
        socket.set_reuse_port(true)?;
        socket.bind(&bound.into())?;
        sockets.push(socket.into());
    }
    Ok(sockets)
}

/// A socket that waits: its worker has nothing else to do.
fn udp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    // D16: the reply leaves from the address the query arrived at; a wildcard socket has to ask for it.
    if address.ip().is_unspecified() {
        let fd = socket.as_fd();
        if address.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
        }
    }
    Ok(socket)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // Connections of an earlier run in TIME_WAIT must not keep the port; on Linux a second listener still
    // fails.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(TcpListener::from(socket))
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // Dual-stack whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

fn explain(address: SocketAddr, protocol: &'static str, purpose: Purpose, error: io::Error) -> ListenError {
    let Purpose { flag, example } = purpose;
    let port = address.port();
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse if port == 53 => {
            format!(
                "another program has the port (often systemd-resolved, dnsmasq or a second instance); stop it, \
                 or choose an address with {flag} {example}"
            )
        }
        io::ErrorKind::AddrInUse => {
            format!("another program has port {port}; stop it, or choose another with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "ports below 1024 need root or the capability NET_BIND_SERVICE; grant it, or choose a higher one \
                 with {flag} {example}"
            )
        }
        io::ErrorKind::AddrNotAvailable => "no interface has this address; name one that exists".to_owned(),
        _ => format!("choose another address with {flag}"),
    };
    ListenError { flag, address, protocol, error, remedy }
}
