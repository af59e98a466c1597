//! The system calls of the UDP loop, and the one file with `unsafe`.
//!
//! The kernel is given pointers to arrays that live here, and to [`Buffers`]. All of them are made for one call from
//! borrows that outlast it (exclusive ones for what the kernel writes), and none is used after it: there is nothing
//! to keep in step. Filling them in is some ten stores per datagram beside a system call.
//!
//! What the kernel writes are plain octets and integers, for which every bit pattern is a value, and they are read
//! in safe code.

#![allow(unsafe_code)]

use std::io;
use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr, sockaddr_in, sockaddr_in6, socklen_t};

use super::batch::{Buffers, Reply, SLOTS};

/// A datagram in its slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    /// Octets of its message.
    pub(super) length: usize,
    /// Who sent it.
    pub(super) peer: SocketAddr,
    /// Where it arrived, if the socket asks for that ([`Calls::new`]).
    pub(super) local: Option<IpAddr>,
}

/// A `sockaddr_in` or `sockaddr_in6`, as octets.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Peer([u8; size_of::<sockaddr_in6>()]);

/// Room for one control message: an `in_pktinfo` or `in6_pktinfo`, as octets.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control {
    header: cmsghdr,
    info: [u8; size_of::<in6_pktinfo>()],
}

// Octets are taken from these places.
const _: () = {
    assert!(offset_of!(sockaddr_in, sin_port) == 2 && offset_of!(sockaddr_in, sin_addr) == 4);
    assert!(offset_of!(sockaddr_in6, sin6_port) == 2 && offset_of!(sockaddr_in6, sin6_addr) == 8);
    assert!(offset_of!(sockaddr_in6, sin6_flowinfo) == 4 && offset_of!(sockaddr_in6, sin6_scope_id) == 24);
    assert!(offset_of!(in_pktinfo, ipi_ifindex) == 0 && offset_of!(in_pktinfo, ipi_spec_dst) == 4);
    assert!(offset_of!(in6_pktinfo, ipi6_addr) == 0 && offset_of!(in6_pktinfo, ipi6_ifindex) == 16);
    assert!(size_of::<in_pktinfo>() <= size_of::<in6_pktinfo>());
    // SAFETY: CMSG_LEN only computes.
    let data = unsafe { libc::CMSG_LEN(0) };
    assert!(offset_of!(Control, info) == data as usize);
};

/// The arguments of `recvmmsg` and `sendmmsg` for one socket, allocated once.
pub(super) struct Calls {
    peers: Box<[Peer; SLOTS]>,
    controls: Box<[Control; SLOTS]>,
    received: Headers,
    sent: Headers,
    control_room: usize,
}

/// One array of message headers, with the one buffer that each has.
struct Headers {
    headers: Box<[mmsghdr; SLOTS]>,
    buffers: Box<[iovec; SLOTS]>,
}

impl Headers {
    fn new() -> Headers {
        // SAFETY: an mmsghdr is integers and raw pointers, for which zero is a value. (It has private padding in
        // some C libraries, so it cannot be written out.)
        let header: mmsghdr = unsafe { std::mem::zeroed() };
        let buffer = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Headers { headers: Box::new([header; SLOTS]), buffers: Box::new([buffer; SLOTS]) }
    }
}

/// Fails where the kernel, or a filter before it, does not know the two system calls.
pub(super) fn probe(socket: &UdpSocket) -> io::Result<()> {
    // SAFETY: arrays of length 0 are not looked at.
    result(unsafe { libc::recvmmsg(socket.as_raw_fd(), ptr::null_mut(), 0, 0, ptr::null_mut()) })?;
    // SAFETY: as before.
    result(unsafe { libc::sendmmsg(socket.as_raw_fd(), ptr::null_mut(), 0, 0) })?;
    Ok(())
}

impl Calls {
    /// `ask_local`: the socket has the option IP_PKTINFO or IPV6_RECVPKTINFO.
    pub(super) fn new(ask_local: bool) -> Calls {
        // SAFETY: a Control is integers, for which zero is a value. (cmsghdr has private padding as well.)
        let control: Control = unsafe { std::mem::zeroed() };
        Calls {
            peers: Box::new([Peer([0; _]); SLOTS]),
            controls: Box::new([control; SLOTS]),
            received: Headers::new(),
            sent: Headers::new(),
            control_room: if ask_local { size_of::<Control>() } else { 0 },
        }
    }

    /// Waits for a datagram and takes up to [`SLOTS`] of those that are there. Returns their number.
    pub(super) fn receive(&mut self, socket: &UdpSocket, buffers: &mut Buffers) -> io::Result<usize> {
        let Headers { headers, buffers: vectors } = &mut self.received;
        let places = self.peers.iter_mut().zip(self.controls.iter_mut()).zip(buffers.messages());
        for ((header, vector), ((peer, control), message)) in
            headers.iter_mut().zip(vectors.iter_mut()).zip(places)
        {
            *vector = iovec { iov_base: message.as_mut_ptr().cast(), iov_len: message.len() };
            let header = &mut header.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = ptr::from_mut(peer).cast();
            header.msg_control = ptr::from_mut(control).cast();
            // The kernel has shortened these two to what it wrote last time.
            header.msg_namelen = size_of::<Peer>() as socklen_t;
            header.msg_controllen = self.control_room as _;
        }
        // SAFETY: `headers` is an array of SLOTS headers. The pointers in each were made above from exclusive borrows
        // of memory that outlives the call, with the lengths that belong to them, and no two overlap: the
        // iterators yield disjoint elements. Nothing else touches that memory before the call is over. There is no
        // time-out to point to.
        let count = result(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                SLOTS as _,
                libc::MSG_WAITFORONE as _,
                ptr::null_mut(),
            )
        })?;
        Ok(count.min(SLOTS))
    }

    /// What was received into a slot. `None` is the end: a socket that was shut down has no sender to name.
    pub(super) fn datagram(&mut self, slot: usize) -> Option<Datagram> {
        let header = &self.received.headers[slot];
        let octets = &self.peers[slot].0;
        let port = u16::from_be_bytes(array(octets, 2));
        let peer = match header.msg_hdr.msg_namelen as usize {
            0 => return None,
            length if length <= size_of::<sockaddr_in>() => {
                SocketAddr::new(Ipv4Addr::from(array(octets, 4)).into(), port)
            }
            _ => {
                let flow = u32::from_be_bytes(array(octets, 4));
                let scope = u32::from_ne_bytes(array(octets, 24));
                SocketAddrV6::new(Ipv6Addr::from(array(octets, 8)), port, flow, scope).into()
            }
        };
        Some(Datagram { length: header.msg_len as usize, peer, local: self.local(slot) })
    }

    /// Where a datagram arrived (D16). The control message that says so is the one that makes a reply leave from
    /// there; only the interface must not stay in it: routing decides, except for link-local addresses.
    fn local(&mut self, slot: usize) -> Option<IpAddr> {
        let header = &mut self.received.headers[slot].msg_hdr;
        if header.msg_controllen == 0 {
            return None;
        }
        let Control { header: kind, info } = &mut self.controls[slot];
        match (kind.cmsg_level, kind.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                info[..4].fill(0);
                Some(Ipv4Addr::from(array(info, 4)).into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address = Ipv6Addr::from(array(info, 0));
                if !address.is_unicast_link_local() {
                    info[16..].fill(0);
                }
                Some(address.into())
            }
            _ => {
                // Nothing we asked for, so nothing to send back.
                header.msg_controllen = 0;
                None
            }
        }
    }

    /// Sends replies to where the datagrams in their slots came from. Returns how many of them, from the front,
    /// the kernel took.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        buffers: &Buffers,
        replies: &[Reply],
    ) -> io::Result<usize> {
        let Headers { headers, buffers: vectors } = &mut self.sent;
        let mut count = 0;
        for ((header, vector), reply) in headers.iter_mut().zip(vectors.iter_mut()).zip(replies) {
            let octets = buffers.reply(*reply);
            let query = &self.received.headers[reply.slot].msg_hdr;
            *vector = iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
            let header = &mut header.msg_hdr;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_name = ptr::from_ref(&self.peers[reply.slot]).cast_mut().cast();
            header.msg_namelen = query.msg_namelen.min(size_of::<Peer>() as socklen_t);
            header.msg_control = ptr::from_ref(&self.controls[reply.slot]).cast_mut().cast();
            header.msg_controllen = query.msg_controllen;
            count += 1;
        }
        // SAFETY: the first `count` headers were filled in above with pointers to memory that is borrowed until the
        // call is over. The kernel only reads what they point to, and writes nothing but `msg_len` in `headers`,
        // which is borrowed exclusively. No length is more than its pointer has room for: that of the octets is a
        // slice's, that of the peer is bounded above, and that of the control message was handed to the kernel as
        // at most that room and has only been lowered since.
        result(unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) })
    }
}

/// `N` octets from a place on.
fn array<const N: usize>(octets: &[u8], from: usize) -> [u8; N] {
    std::array::from_fn(|i| octets[from + i])
}

fn result(returned: libc::c_int) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}
