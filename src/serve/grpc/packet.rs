//! One message of gRPC, and in it `message DnsPacket { bytes msg = 1; }` of CoreDNS's `dns.proto`.

use bytes::{BufMut, Bytes, BytesMut};

use super::Refusal;
use crate::wire::reply::TCP_LIMIT;

/// Octets before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The most octets of the tag and length of `msg`.
const FIELD_HEAD: usize = 4;
/// The most octets of a call: a DNS message of the largest size.
pub(super) const MAX_BODY: usize = PREFIX + FIELD_HEAD + TCP_LIMIT as usize;

/// Number of `msg`.
const MSG: u64 = 1;
/// The wire types of protobuf; the two of groups have not been written since its second version.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

const NOT_ONE_MESSAGE: Refusal = Refusal::invalid("not exactly one message");
const NOT_A_PACKET: Refusal = Refusal::invalid("not a coredns.dns.DnsPacket");
const COMPRESSED: Refusal =
    Refusal::unimplemented("compressed messages are not understood; send it as it is (identity)");

/// The DNS message in what a call has sent.
pub(super) fn read(body: &[u8]) -> Result<&[u8], Refusal> {
    let (prefix, packet) = body.split_first_chunk::<PREFIX>().ok_or(NOT_ONE_MESSAGE)?;
    let [compressed, length @ ..] = *prefix;
    if u32::from_be_bytes(length) as usize != packet.len() || compressed > 1 {
        return Err(NOT_ONE_MESSAGE);
    }
    if compressed == 1 {
        return Err(COMPRESSED);
    }
    message(packet).ok_or(NOT_A_PACKET)
}

/// The field `msg`, the last one if there are several, empty if there is none; fields of later versions are skipped.
fn message(mut packet: &[u8]) -> Option<&[u8]> {
    let mut found = &packet[..0];
    while !packet.is_empty() {
        let tag = varint(&mut packet)?;
        let length = match tag & 7 {
            VARINT => {
                varint(&mut packet)?;
                0
            }
            FIXED_64 => 8,
            FIXED_32 => 4,
            LENGTH => usize::try_from(varint(&mut packet)?).ok()?,
            _ => return None,
        };
        let (value, rest) = packet.split_at_checked(length)?;
        packet = rest;
        match tag >> 3 {
            0 => return None,
            MSG if tag & 7 == LENGTH => found = value,
            _ => {}
        }
    }
    Some(found)
}

/// Seven bits an octet, the lowest first; the highest bit says that there are more.
fn varint(octets: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (octet, rest) = octets.split_first()?;
        *octets = rest;
        value |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// What a call is answered with.
pub(super) fn write(reply: &[u8]) -> Bytes {
    let mut field = BytesMut::with_capacity(PREFIX + FIELD_HEAD + reply.len());
    field.put_bytes(0, PREFIX);
    field.put_u8((MSG << 3 | LENGTH) as u8);
    let mut length = reply.len();
    while length > 0x7f {
        field.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    field.put_u8(length as u8);
    field.put_slice(reply);
    let length = (field.len() - PREFIX) as u32;
    field[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    field.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    /// CoreDNS's message as another library writes and reads it.
    #[derive(Clone, PartialEq, Message)]
    struct DnsPacket {
        #[prost(bytes = "vec", tag = "1")]
        msg: Vec<u8>,
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        [&[0], &(packet.len() as u32).to_be_bytes()[..], packet].concat()
    }

    /// [G1]
    #[test]
    fn what_is_not_one_packet_is_refused() {
        let cases: [(&[u8], Refusal); 13] = [
            (b"", NOT_ONE_MESSAGE),
            (b"\0\0\0\0", NOT_ONE_MESSAGE),
            // Shorter and longer than it says, and two of them.
            (b"\0\0\0\0\x03\x0a\x01", NOT_ONE_MESSAGE),
            (b"\0\0\0\0\x03\x0a\x01aa", NOT_ONE_MESSAGE),
            (b"\0\0\0\0\x03\x0a\x01a\0\0\0\0\x03\x0a\x01a", NOT_ONE_MESSAGE),
            (b"\x02\0\0\0\x03\x0a\x01a", NOT_ONE_MESSAGE),
            (b"\x01\0\0\0\x03\x0a\x01a", COMPRESSED),
            // Its field is longer than the packet; a length, a number and a tag without end; a group; field 0.
            (b"\0\0\0\0\x03\x0a\x02a", NOT_A_PACKET),
            (b"\0\0\0\0\x02\x0a\xff", NOT_A_PACKET),
            (b"\0\0\0\0\x0c\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", NOT_A_PACKET),
            (b"\0\0\0\0\x01\x80", NOT_A_PACKET),
            (b"\0\0\0\0\x02\x0b\x0c", NOT_A_PACKET),
            (b"\0\0\0\0\x02\x00\x01", NOT_A_PACKET),
        ];
        for (body, refusal) in cases {
            assert_eq!(read(body), Err(refusal), "{body:?}");
        }
    }

    /// [G1]
    #[test]
    fn fields_of_later_versions_are_skipped_and_the_last_message_counts() {
        let skipped = b"\x10\x07\x19\0\0\0\0\0\0\0\0\x22\x02ab\x2d\0\0\0\0";
        let packet = [&b"\x0a\x01a"[..], skipped, b"\x0a\x02bc", skipped].concat();
        assert_eq!(read(&framed(&packet)), Ok(&b"bc"[..]));
        assert_eq!(read(&framed(b"")), Ok(&b""[..]));
    }

    proptest! {
        /// [G1]
        #[test]
        fn packets_are_those_of_another_library(msg in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let theirs = framed(&DnsPacket { msg: msg.clone() }.encode_to_vec());
            prop_assert_eq!(read(&theirs), Ok(&msg[..]));
            let ours = write(&msg);
            prop_assert_eq!(DnsPacket::decode(&ours[PREFIX..]).map(|packet| packet.msg), Ok(msg));
            prop_assert_eq!(ours[1..PREFIX].to_vec(), ((ours.len() - PREFIX) as u32).to_be_bytes());
        }

        /// [G1] Whatever comes: what both libraries can read, they read alike.
        #[test]
        fn any_octets_are_read_as_another_library_does(packet in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let (Ok(ours), Ok(theirs)) = (read(&framed(&packet)), DnsPacket::decode(&packet[..])) {
                prop_assert_eq!(ours, theirs.msg);
            }
        }
    }
}
