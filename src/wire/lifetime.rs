//! How long a reply may be kept.

use super::query::Cursor;

/// The lowest TTL of the records of answer and authority, in seconds; 0 if there is none, as in a reply to an error. A
/// negative answer's SOA has the TTL of RFC 2308 section 5 (D4).
pub fn of(reply: &[u8]) -> u32 {
    ttls(reply).unwrap_or_default()
}

fn ttls(reply: &[u8]) -> Option<u32> {
    let mut cursor = Cursor::of_records(reply)?;
    let records = cursor.count(1)? + cursor.count(2)?;
    let mut lowest = None;
    for _ in 0..records {
        let ttl = u32::from_be_bytes(cursor.record()?.ttl);
        lowest = Some(lowest.map_or(ttl, |lowest: u32| lowest.min(ttl)));
    }
    lowest
}
