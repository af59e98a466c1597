//! The least a UDP responder can do: what the kernel allows, for comparison.
//!
//! It receives 64 messages, makes each a reply in its place, and sends 64. There is no table: whatever is asked
//! is answered with one fixed A record.

use std::net::{SocketAddr, UdpSocket};

use anyhow::Result;
use clap::Parser;
use globaldns_bench::batch::{Batch, Wait};

/// The least a UDP responder can do.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Ask for each datagram's arrival address and reply from there, as a wildcard address needs it.
    #[arg(long)]
    pktinfo: bool,
}

const HEADER: usize = 12;
/// Name (a pointer to the question's), type A, class IN, TTL 30, length 4, address.
const ANSWER: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 240, 0, 0, 1];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let socket = UdpSocket::bind(arguments.listen)?;
    if arguments.pktinfo && arguments.listen.is_ipv4() {
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4PacketInfo, &true)?;
    } else if arguments.pktinfo {
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    let mut batch = Batch::replying(1232);
    loop {
        batch.receive(&socket, Wait::First)?;
        batch.rewrite(reply);
        batch.send_all(&socket);
    }
}

fn reply(message: &mut [u8], length: usize) -> usize {
    // QR and AA; no other counts than one question and one answer.
    message[2] |= 0x84;
    message[4..HEADER].copy_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0]);
    let mut end = HEADER;
    while end < length && message[end] != 0 {
        end += 1 + usize::from(message[end]);
    }
    end += 1 + 4;
    match message.get_mut(end..end + ANSWER.len()) {
        Some(room) if end <= length => {
            room.copy_from_slice(&ANSWER);
            end + ANSWER.len()
        }
        _ => length,
    }
}
