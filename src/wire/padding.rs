//! The EDNS option Padding (RFC 7830), which hides behind a length what was asked (E6).
//!
//! A finished reply is padded, whoever wrote it: its OPT is its last record and only grows.

use super::query::{Cursor, HEADER};
use super::rtype;

/// The option, RFC 7830 section 3.
pub const PADDING: u16 = 12;
/// The option edns-tcp-keepalive, RFC 7828 section 3.1.
pub const KEEPALIVE: u16 = 11;
/// Replies are padded to a multiple of so many octets, RFC 8467 section 4.1.
const BLOCK: usize = 468;
/// Octets of an option before its data.
const OPTION_HEAD: usize = 4;
/// Octets of the length of an OPT's RDATA, which stands before it.
const LENGTH: usize = 2;

/// Whether a query has an option in its OPT.
pub fn has_option(message: &[u8], wanted: u16) -> bool {
    let Some((mut options, _)) = options(message) else { return false };
    while let Some((head, rest)) = options.split_first_chunk::<OPTION_HEAD>() {
        let [c, o, l, n] = *head;
        if u16::from_be_bytes([c, o]) == wanted {
            return true;
        }
        options = rest.get(usize::from(u16::from_be_bytes([l, n]))..).unwrap_or_default();
    }
    false
}

/// The RDATA of the OPT, and whether that is the last record. In a query there may be others behind it, such as TSIG
/// (RFC 8945 section 5.1).
fn options(message: &[u8]) -> Option<(&[u8], bool)> {
    let mut cursor = Cursor::of_records(message)?;
    for _ in 0..cursor.count(1)? + cursor.count(2)? {
        cursor.record()?;
    }
    let mut found = None;
    for left in (0..cursor.count(3)?).rev() {
        let record = cursor.record()?;
        if record.rtype == rtype::OPT {
            found = Some((record.rdata, left == 0));
        }
    }
    found
}

/// Pads the reply of `length` octets in `out` and returns its new length; without an OPT as its last record, or without
/// room, it stays what it is.
pub fn pad(out: &mut [u8], length: usize) -> usize {
    let Some((options, true)) = options(&out[..length]).map(|(rdata, last)| (rdata.len(), last)) else {
        return length;
    };
    let padded = (length + OPTION_HEAD).next_multiple_of(BLOCK).min(out.len());
    let Some(zeros) = padded.checked_sub(length + OPTION_HEAD) else { return length };
    let Ok(options_now) = u16::try_from(options + OPTION_HEAD + zeros) else { return length };
    let at = length - options - LENGTH;
    out[at..at + LENGTH].copy_from_slice(&options_now.to_be_bytes());
    let ([c, o], [l, n]) = (PADDING.to_be_bytes(), (zeros as u16).to_be_bytes());
    out[length..length + OPTION_HEAD].copy_from_slice(&[c, o, l, n]);
    out[length + OPTION_HEAD..padded].fill(0);
    padded
}

const _: () = assert!(HEADER < BLOCK);
