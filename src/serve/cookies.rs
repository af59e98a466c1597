//! DNS cookies (D19): a client that sends one back has shown that it gets what is sent to its address.
//!
//! A server cookie is that of RFC 9018 section 4: version 1, three zeros, the second it was made in, and a SipHash-2-4
//! of these, the client's cookie and its address under a secret. Nothing is kept of any client, and every server with
//! the same secret takes the cookies of every other, BIND's, Knot's and NSD's among them (`tests/cookies/run`).
//!
//! # Why they are off by default
//!
//! They are in NSD, too, and inside a cluster they are of no use: CoreDNS has no cookies of its own. Tried with `forward`
//! and `cache`, CoreDNS 1.6.2 hands our server cookie on to the client when it asks us, and from its cache gives the
//! client's own back; 1.12.1 always does the latter. Neither does harm: BIND 9.18 that forwards to either goes on asking
//! over UDP, with cookies on and off.

mod file;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use siphasher::sip::SipHasher24;

use crate::lifecycle::random;
use crate::metrics::CookieKind;
use crate::wire::reply::COOKIE;

pub use file::{Follower, SecretsError};

/// Octets of a client cookie, RFC 7873 section 4.
const CLIENT: usize = 8;
/// The fewest octets of both, RFC 7873 section 4.
const SHORTEST_WITH_SERVER: usize = CLIENT + 8;
/// The most octets of both, RFC 7873 section 4.
const LONGEST: usize = CLIENT + 32;
/// Octets of a cookie that its hash is over: the client's cookie, version, reserved and time.
const HASHED: usize = CLIENT + 1 + 3 + 4;
const _: () = assert!(COOKIE == HASHED + 8);
/// Octets of a secret, RFC 9018 section 4.4.
pub const SECRET: usize = 16;
/// The version of the server cookies, RFC 9018 section 4.1.
const VERSION: u8 = 1;
/// Seconds for which a cookie is good, RFC 9018 section 4.3.
const GOOD_FOR: i64 = 3600;
/// Seconds by which the clock it was made by may be ahead of ours, RFC 9018 section 4.3.
const AHEAD: i64 = 300;
/// Seconds after which the client gets a new one, RFC 9018 section 4.3.
const RENEWED_AFTER: i64 = 1800;

/// What server cookies are made with: the first secret makes them, and all of them are tried on those that come.
#[derive(Clone)]
pub struct Secrets(Vec<SipHasher24>);

impl Secrets {
    /// At least one secret.
    pub fn new(first: [u8; SECRET], others: &[[u8; SECRET]]) -> Secrets {
        Secrets(std::iter::once(&first).chain(others).map(SipHasher24::new_with_key).collect())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// A secret nobody knows, for as long as the process lives.
    pub fn random() -> Secrets {
        Secrets::new(random(), &[])
    }
}

/// A secret shows in no message.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// What a COOKIE option is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What was found.
    pub kind: CookieKind,
    /// What the reply carries; `None` if the option was malformed.
    pub reply: Option<[u8; COOKIE]>,
}

/// Makes cookies and checks them. Shared by all threads that answer.
pub struct Cookies(ArcSwap<Secrets>);

impl Cookies {
    /// With these secrets.
    pub fn new(secrets: Secrets) -> Cookies {
        Cookies(ArcSwap::from_pointee(secrets))
    }

    /// From now on with these.
    pub fn replace(&self, secrets: Secrets) {
        self.0.store(Arc::new(secrets));
    }

    /// Judges the data of a COOKIE option that came from `client` in the second `now`.
    pub fn judge(&self, option: &[u8], client: IpAddr, now: u32) -> Judged {
        let Some((client_cookie, server_cookie)) = split(option) else {
            return Judged { kind: CookieKind::Malformed, reply: None };
        };
        let secrets = self.0.load();
        let make = |secret: &SipHasher24| {
            let mut hashed = [0; HASHED];
            hashed[..CLIENT].copy_from_slice(client_cookie);
            hashed[CLIENT] = VERSION;
            hashed[CLIENT + 4..].copy_from_slice(&now.to_be_bytes());
            let mut cookie = [0; COOKIE];
            cookie[..HASHED].copy_from_slice(&hashed);
            cookie[HASHED..].copy_from_slice(&hash(secret, &hashed, client));
            cookie
        };
        let kind = match server_cookie {
            [] => CookieKind::Client,
            _ => match verify(&secrets, option, client, now) {
                Some(Good { renew: false }) => {
                    let reply = option.first_chunk().copied();
                    return Judged { kind: CookieKind::Valid, reply };
                }
                Some(Good { renew: true }) => CookieKind::Valid,
                None => CookieKind::Invalid,
            },
        };
        Judged { kind, reply: secrets.0.first().map(make) }
    }
}

/// Whether an option's data can be no cookie (RFC 7873 section 5.2.2).
pub fn is_malformed(option: &[u8]) -> bool {
    split(option).is_none()
}

/// The client's cookie and the server's, which may be missing.
fn split(option: &[u8]) -> Option<(&[u8; CLIENT], &[u8])> {
    let legal = matches!(option.len(), CLIENT | SHORTEST_WITH_SERVER..=LONGEST);
    option.split_first_chunk().filter(|_| legal)
}

/// A cookie of ours.
struct Good {
    /// It is to be replaced: by age, or because a newer secret makes them.
    renew: bool,
}

/// RFC 9018 section 4.3.
fn verify(secrets: &Secrets, option: &[u8], client: IpAddr, now: u32) -> Option<Good> {
    let cookie: &[u8; COOKIE] = option.try_into().ok()?;
    let (hashed, sent) = cookie.split_first_chunk::<HASHED>()?;
    let [version, _, _, _, made @ ..] = hashed.last_chunk::<8>()?;
    if *version != VERSION {
        return None;
    }
    // RFC 1982 arithmetic: the seconds wrap in 2106.
    let age = i64::from(now.wrapping_sub(u32::from_be_bytes(*made)).cast_signed());
    if !(-AHEAD..=GOOD_FOR).contains(&age) {
        return None;
    }
    // The time this takes tells nothing that helps to guess: the hash is over what the guesser chose, and compared as
    // a whole.
    let sent = u64::from_le_bytes(sent.try_into().ok()?);
    let made_by =
        secrets.0.iter().position(|secret| u64::from_le_bytes(hash(secret, hashed, client)) == sent)?;
    Some(Good { renew: made_by > 0 || age > RENEWED_AFTER })
}

/// RFC 9018 section 4.4.
fn hash(secret: &SipHasher24, cookie: &[u8; HASHED], client: IpAddr) -> [u8; 8] {
    let mut input = [0; HASHED + 16];
    input[..HASHED].copy_from_slice(cookie);
    let length = match client {
        IpAddr::V4(address) => {
            input[HASHED..HASHED + 4].copy_from_slice(&address.octets());
            HASHED + 4
        }
        IpAddr::V6(address) => {
            input[HASHED..].copy_from_slice(&address.octets());
            HASHED + 16
        }
    };
    secret.hash(&input[..length]).to_le_bytes()
}

#[cfg(test)]
mod tests;
