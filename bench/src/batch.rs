//! Many datagrams with one system call: `recvmmsg` and `sendmmsg`.
//!
//! The only file of this package with unsafe code. Each of its calls into the kernel gets pointers into
//! buffers that the [`Batch`] owns and that are borrowed for as long as the call lasts; none is kept.
#![allow(unsafe_code)]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::{mem, ptr};

/// The most datagrams of one call: more save nothing measurable.
pub const BATCH: usize = 64;

/// Room for one IP_PKTINFO or IPV6_PKTINFO message, aligned as the kernel wants it.
type Control = [u64; 8];

/// Whether to wait for a datagram when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until there is one; further ones only if they are there already. For a blocking socket.
    First,
    /// Not at all.
    Never,
}

/// Up to [`BATCH`] datagrams, received or to be sent.
pub struct Batch {
    size: usize,
    octets: Vec<u8>,
    lengths: Vec<usize>,
    /// Where each came from, and at which address it arrived; empty for connected sockets.
    senders: Vec<Sender>,
    slices: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// For each header of [`Batch::send`], how many datagrams it stands for, and the length of each.
    runs: Vec<usize>,
    segments: Vec<Control>,
}

#[derive(Clone, Copy)]
struct Sender {
    /// Large enough for both families.
    address: libc::sockaddr_in6,
    address_length: libc::socklen_t,
    control: Control,
    control_length: usize,
}

impl Batch {
    /// For connected sockets, with datagrams of at most `size` octets; longer ones are cut when received.
    pub fn connected(size: usize) -> Batch {
        Batch::new(size, 0)
    }

    /// Remembers senders, and the arrival address if the socket tells it, so that [`Batch::send`] replies.
    pub fn replying(size: usize) -> Batch {
        Batch::new(size, BATCH)
    }

    fn new(size: usize, senders: usize) -> Batch {
        // SAFETY: these are C structures of numbers and pointers, for which all zeros is a value.
        let (sender, slice, header) = unsafe { (mem::zeroed::<Sender>(), mem::zeroed(), mem::zeroed()) };
        Batch {
            size,
            octets: vec![0; size * BATCH],
            lengths: Vec::with_capacity(BATCH),
            senders: vec![sender; senders],
            slices: vec![slice; BATCH],
            headers: vec![header; BATCH],
            runs: Vec::with_capacity(BATCH),
            segments: vec![[0; 8]; BATCH],
        }
    }

    /// The datagrams received, or waiting to be sent.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// One of them.
    pub fn get(&self, position: usize) -> &[u8] {
        let start = position * self.size;
        &self.octets[start..start + self.lengths[position]]
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.lengths.clear();
    }

    /// Adds one to be sent, written by `write`, which returns its length. There must be fewer than [`BATCH`].
    pub fn push(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let start = self.lengths.len() * self.size;
        let length = write(&mut self.octets[start..start + self.size]);
        self.lengths.push(length.min(self.size));
    }

    /// Rewrites each one in its place: `rewrite` gets the room and the length, and returns the new length.
    pub fn rewrite(&mut self, mut rewrite: impl FnMut(&mut [u8], usize) -> usize) {
        for (room, length) in self.octets.chunks_exact_mut(self.size).zip(&mut self.lengths) {
            *length = rewrite(room, *length).min(room.len());
        }
    }

    /// Receives as many as there are, replacing those it held.
    pub fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        self.lengths.clear();
        for sender in &mut self.senders {
            sender.address_length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            sender.control_length = size_of::<Control>();
        }
        let size = self.size;
        let headers = self.point(|_| size, BATCH);
        let flags = match wait {
            Wait::First => libc::MSG_WAITFORONE,
            Wait::Never => libc::MSG_DONTWAIT,
        };
        // SAFETY: `point` has just set each header to buffers of `self`, which nothing else touches during
        // the call, with their true lengths; the count is the number of headers.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                flags,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (position, header) in self.headers[..received].iter().enumerate() {
            self.lengths.push(header.msg_len as usize);
            if let Some(sender) = self.senders.get_mut(position) {
                sender.address_length = header.msg_hdr.msg_namelen;
                sender.control_length = header.msg_hdr.msg_controllen;
            }
        }
        Ok(received)
    }

    /// Sends them from the first on through a connected socket, and says how many the kernel took.
    ///
    /// Neighbours of one length go through the kernel as one datagram that it cuts at the end (UDP_SEGMENT, Linux
    /// 4.18). That halves what sending takes, so that the server and not the generator is what a closed loop waits for.
    pub fn send(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let lengths = mem::take(&mut self.lengths);
        self.runs.clear();
        self.point(|position| lengths[position], lengths.len());
        let mut first = 0;
        for (run, control) in lengths.chunk_by(|a, b| a == b && *a > 0).zip(&mut self.segments) {
            let header = &mut self.headers[self.runs.len()].msg_hdr;
            header.msg_iov = &mut self.slices[first];
            header.msg_iovlen = run.len() as _;
            let segment = segment_control(run[0] as u16);
            *control = segment.0;
            (header.msg_control, header.msg_controllen) =
                if run.len() > 1 { (control.as_mut_ptr().cast(), segment.1) } else { (ptr::null_mut(), 0) };
            first += run.len();
            self.runs.push(run.len());
        }
        self.lengths = lengths;
        // SAFETY: as in `receive`; the kernel only reads. Each header has as many slices as its run is long, and
        // runs do not overlap.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), self.runs.len() as libc::c_uint, 0)
        };
        let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        Ok(self.runs[..sent].iter().sum())
    }

    /// Sends all of them; one that cannot be sent is passed over.
    pub fn send_all(&mut self, socket: &UdpSocket) {
        let mut sent = 0;
        while sent < self.len() {
            sent += self.send_from(socket, sent).unwrap_or(1);
        }
    }

    fn send_from(&mut self, socket: &UdpSocket, first: usize) -> io::Result<usize> {
        let count = self.lengths.len();
        let lengths = mem::take(&mut self.lengths);
        let headers = &mut self.point(|position| lengths[position], count)[first..];
        // SAFETY: as in `receive`; the kernel only reads.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as libc::c_uint, 0)
        };
        self.lengths = lengths;
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// Points the first `count` headers at the buffers.
    fn point(&mut self, length: impl Fn(usize) -> usize, count: usize) -> &mut [libc::mmsghdr] {
        let rooms = self.octets.chunks_exact_mut(self.size);
        let parts = rooms.zip(&mut self.slices).zip(&mut self.headers).take(count).enumerate();
        for (position, ((room, slice), header)) in parts {
            *slice = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: length(position) };
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            if let Some(sender) = self.senders.get_mut(position) {
                header.msg_hdr.msg_name = ptr::from_mut(&mut sender.address).cast();
                header.msg_hdr.msg_namelen = sender.address_length;
                header.msg_hdr.msg_control = sender.control.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = sender.control_length;
            } else {
                header.msg_hdr.msg_control = ptr::null_mut();
                header.msg_hdr.msg_controllen = 0;
            }
        }
        &mut self.headers[..count]
    }
}

/// A control message that says how long the datagrams of a run are, and its length.
fn segment_control(length: u16) -> (Control, usize) {
    // `cmsghdr`: length, level, type; then the data, aligned to a word.
    const HEADER: usize = size_of::<libc::cmsghdr>();
    const LENGTH: usize = HEADER + size_of::<u16>();
    const _: () = assert!(HEADER == 16 && mem::offset_of!(libc::cmsghdr, cmsg_level) == 8);
    let mut control = [0; 8];
    control[0] = LENGTH as u64;
    let (level, kind) = (libc::SOL_UDP.to_ne_bytes(), libc::UDP_SEGMENT.to_ne_bytes());
    let mut word = [0; 8];
    word[..4].copy_from_slice(&level);
    word[4..].copy_from_slice(&kind);
    control[1] = u64::from_ne_bytes(word);
    let mut word = [0; 8];
    word[..2].copy_from_slice(&length.to_ne_bytes());
    control[2] = u64::from_ne_bytes(word);
    (control, 3 * size_of::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_arrives_whole_and_is_answered_to_its_sender() -> io::Result<()> {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.connect(server.local_addr()?)?;
        let (mut out, mut at, mut back) = (Batch::connected(16), Batch::replying(16), Batch::connected(16));
        for text in [b"one".as_slice(), b"three", b""] {
            out.push(|room| {
                room[..text.len()].copy_from_slice(text);
                text.len()
            });
        }
        assert_eq!(out.send(&client)?, 3);
        assert_eq!(at.receive(&server, Wait::First)?, 3);
        at.rewrite(|room, length| {
            room[length] = b'!';
            length + 1
        });
        at.send_all(&server);
        assert_eq!(back.receive(&client, Wait::First)?, 3);
        assert_eq!([back.get(0), back.get(1), back.get(2)], [b"one!".as_slice(), b"three!", b"!"]);
        Ok(())
    }

    #[test]
    fn neighbours_of_one_length_arrive_as_datagrams_of_their_own() -> io::Result<()> {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.connect(server.local_addr()?)?;
        let (mut out, mut at) = (Batch::connected(16), Batch::connected(16));
        let texts = [&b"aaaa"[..], b"bbbb", b"cccc", b"dd", b"", b"", b"ee", b"ff", b"g"];
        for text in texts {
            out.push(|room| {
                room[..text.len()].copy_from_slice(text);
                text.len()
            });
        }
        let sent = out.send(&client)?;
        let mut arrived = Vec::new();
        while arrived.len() < texts.len() {
            at.receive(&server, Wait::First)?;
            arrived.extend((0..at.len()).map(|i| at.get(i).to_vec()));
        }
        assert_eq!((sent, arrived), (texts.len(), texts.map(<[u8]>::to_vec).to_vec()));
        Ok(())
    }

    #[test]
    fn nobody_waits_unless_asked_to() -> io::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let nothing = Batch::connected(16).receive(&socket, Wait::Never);
        assert_eq!(nothing.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        Ok(())
    }
}
