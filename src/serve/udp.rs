//! DNS over UDP: one loop per listen address.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::hickory::Handler;
use super::responder::{Arrival, Outcome, Responder};
use crate::metrics::Counters;
use crate::wire::Transport;
use crate::wire::reply::UDP_PAYLOAD;

/// A datagram holds at most this much.
const MAX_DATAGRAM: usize = 65_535;

/// Serves one socket until the task is dropped.
pub async fn serve(socket: UdpSocket, responder: Arc<Responder>, handler: Handler, counters: Arc<Counters>) {
    let mut message = vec![0; MAX_DATAGRAM];
    let mut reply = vec![0; usize::from(UDP_PAYLOAD)];
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo, nix::libc::in_pktinfo);
    let bound = socket.local_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |a| a.ip());
    loop {
        let received =
            socket.async_io(Interest::READABLE, || receive(&socket, &mut message, &mut control)).await;
        let begun = Instant::now();
        let datagram = match received {
            Ok(datagram) => datagram,
            Err(error) => {
                // On Linux an unconnected socket reports nothing of single clients; give way and go on.
                tracing::debug!(%error, "receiving a datagram failed");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let local = datagram.local.map_or(bound, |local| local.address);
        let arrival = Arrival::new(Transport::Udp, datagram.peer, local);
        let message = &message[..datagram.length];
        let outcome = match responder.respond(message, arrival, &counters, &mut reply) {
            Outcome::Declined => handler.respond(message, arrival, &mut reply),
            outcome => outcome,
        };
        let Outcome::Reply(length) = outcome else { continue };
        let sent = socket.async_io(Interest::WRITABLE, || send(&socket, &reply[..length], &datagram)).await;
        if let Err(error) = sent {
            // The peer is gone, a firewall said no: one client's matter.
            tracing::debug!(%error, peer = %datagram.peer, "sending a reply failed");
        }
        counters.duration(Transport::Udp, begun.elapsed());
    }
}

struct Datagram {
    length: usize,
    peer: SocketAddr,
    local: Option<Local>,
}

/// Where a datagram arrived, to answer from there (D16).
#[derive(Clone, Copy)]
struct Local {
    address: IpAddr,
    interface: u32,
}

fn receive(socket: &UdpSocket, message: &mut [u8], control: &mut [u8]) -> io::Result<Datagram> {
    let mut slices = [IoSliceMut::new(message)];
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(control), MsgFlags::MSG_DONTWAIT)?;
    let peer = received.address.as_ref().and_then(socket_address);
    let local = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Local {
            address: Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into(),
            interface: info.ipi_ifindex as u32,
        }),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Local {
            address: Ipv6Addr::from(info.ipi6_addr.s6_addr).into(),
            interface: info.ipi6_ifindex,
        }),
        _ => None,
    });
    match peer {
        Some(peer) => Ok(Datagram { length: received.bytes, peer, local }),
        None => Err(io::Error::other("a datagram without an IP source address")),
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}

fn send(socket: &UdpSocket, reply: &[u8], query: &Datagram) -> io::Result<usize> {
    let peer = SockaddrStorage::from(query.peer);
    let slices = [IoSlice::new(reply)];
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg(socket.as_raw_fd(), &slices, control, MsgFlags::MSG_DONTWAIT, Some(&peer))
            .map_err(io::Error::from)
    };
    match query.local {
        None => send(&[]),
        Some(Local { address: IpAddr::V4(address), .. }) => {
            let source = nix::libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: nix::libc::in_addr { s_addr: u32::from(address).to_be() },
                ipi_addr: nix::libc::in_addr { s_addr: 0 },
            };
            send(&[ControlMessage::Ipv4PacketInfo(&source)])
        }
        Some(Local { address: IpAddr::V6(address), interface }) => {
            // Only a link-local address needs its interface; elsewhere routing decides.
            let interface = if address.is_unicast_link_local() { interface } else { 0 };
            let source = nix::libc::in6_pktinfo {
                ipi6_addr: nix::libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex: interface,
            };
            send(&[ControlMessage::Ipv6PacketInfo(&source)])
        }
    }
}
