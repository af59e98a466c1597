//! What is asked of clients before they are answered: access (D21), limits (D20), cookies (D19).

use std::sync::Arc;

use super::{Arrival, Outcome, Responder, opt_len};
use crate::metrics::{CookieKind, Counters, Limited};
use crate::serve::access::Access;
use crate::serve::cookies::{self, Cookies, Judged};
use crate::serve::limiter::{Limiter, Verdict};
use crate::wire::query::{Edns, Head, Query, Refusal, Unanswerable};
use crate::wire::reply::{self, Reply};
use crate::wire::{ExtendedError, Rcode};

/// What is asked of clients before they are answered. Nothing, by default.
#[derive(Default)]
pub struct Guard {
    /// `--cookies` (D19).
    pub cookies: Option<Arc<Cookies>>,
    /// `--rate-limit` (D20).
    pub limiter: Option<Limiter>,
    /// `--allow` and `--deny` (D21).
    pub access: Option<Access>,
}

impl Responder {
    /// What becomes of a message over UDP whose sender is over the limit (D20); `None` if it is not.
    pub(super) fn limit(
        &self,
        limiter: &Limiter,
        query: &Result<Query<'_>, Unanswerable<'_>>,
        arrival: Arrival,
        counters: &Counters,
        out: &mut [u8],
    ) -> Option<Outcome> {
        let edns = match query {
            Ok(query) => query.edns,
            Err(Unanswerable::Refuse(refusal)) => refusal.edns,
            Err(_) => return None,
        };
        // Who sends a good cookie is where it says it is.
        if self.judge(edns, arrival).is_some_and(|cookie| cookie.kind == CookieKind::Valid) {
            return None;
        }
        match limiter.take(arrival.peer.ip(), arrival.at) {
            Verdict::Pass => None,
            Verdict::Slip => Some(self.slip(query, arrival, counters, out)),
            Verdict::Drop => {
                counters.limited(Limited::Dropped);
                Some(Outcome::Silence)
            }
        }
    }

    /// The short reply: nothing that makes it longer than the query, but for a server cookie.
    fn slip(
        &self,
        query: &Result<Query<'_>, Unanswerable<'_>>,
        arrival: Arrival,
        counters: &Counters,
        out: &mut [u8],
    ) -> Outcome {
        let query = match query {
            Ok(query) => query,
            Err(Unanswerable::Refuse(refusal)) => {
                counters.limited(Limited::Error);
                let refusal = Refusal { edns: without_nsid(refusal.edns), ..*refusal };
                return self.refuse(&refusal, arrival, counters, out);
            }
            Err(_) => return Outcome::Silence,
        };
        let cookie = self.cookie(query.edns, arrival, counters);
        let opt = self.opt(without_nsid(query.edns), cookie, None);
        let mut reply =
            Reply::new(out, query.question, reply::limit(arrival.transport, query.edns), opt_len(opt));
        let rcode = if cookie.is_some() {
            counters.limited(Limited::BadCookie);
            Rcode::BadCookie
        } else {
            counters.limited(Limited::Truncated);
            reply.truncate();
            Rcode::NoError
        };
        counters.reply(arrival.counted(None, query.qtype), rcode, reply.is_truncated());
        Outcome::Reply(reply.finish(query.head, rcode, false, opt))
    }

    /// Whether the message has a cookie of an impossible length, and we look at cookies (D19).
    #[inline]
    pub(super) fn is_malformed(&self, edns: Edns<'_>) -> bool {
        self.guard.cookies.is_some() && edns.cookie.is_some_and(cookies::is_malformed)
    }

    /// What a message deserves that has no question, and a cookie (RFC 7873 section 5.4).
    #[cold]
    pub(super) fn asked_for_a_cookie<'m>(&self, head: Head, edns: Edns<'m>) -> Unanswerable<'m> {
        let (rcode, edns) = match self.guard.cookies {
            None => (Rcode::FormErr, None),
            Some(_) if self.is_malformed(edns) => (Rcode::FormErr, Some(edns)),
            Some(_) if edns.version > 0 => (Rcode::BadVers, Some(edns)),
            Some(_) => (Rcode::NoError, Some(edns)),
        };
        Unanswerable::Refuse(Refusal { head, rcode, question: &[], edns })
    }

    /// Whether the client may ask (D21).
    pub(super) fn admits(&self, arrival: Arrival) -> bool {
        self.guard.access.as_ref().is_none_or(|access| access.allows(arrival.peer.ip()))
    }

    /// What the client's cookie is worth (D19), if it sent one and we look at them.
    fn judge(&self, edns: Option<Edns<'_>>, arrival: Arrival) -> Option<Judged> {
        let (cookies, option) = (self.guard.cookies.as_ref()?, edns?.cookie?);
        Some(cookies.judge(option, arrival.peer.ip(), arrival.at))
    }

    /// The same, counted: once for each reply.
    pub(in crate::serve) fn cookie(
        &self,
        edns: Option<Edns<'_>>,
        arrival: Arrival,
        counters: &Counters,
    ) -> Option<Judged> {
        self.judge(edns, arrival).inspect(|cookie| counters.cookie(cookie.kind))
    }

    /// What the reply says to a message that is no query: the code, and an extended error.
    pub(in crate::serve) fn reply_to_refused(
        &self,
        refusal: &Refusal<'_>,
        cookie: Option<Judged>,
        arrival: Arrival,
        counters: &Counters,
    ) -> (Rcode, Option<ExtendedError>) {
        match (refusal.rcode, cookie) {
            // RFC 7873 section 5.4: no question, and a cookie asked for or shown.
            (Rcode::NoError, _) if !self.admits(arrival) => {
                counters.denied(arrival.transport);
                (Rcode::Refused, Some(ExtendedError::Prohibited))
            }
            (Rcode::NoError, Some(Judged { kind: CookieKind::Invalid, .. })) => (Rcode::BadCookie, None),
            (rcode, _) => (rcode, None),
        }
    }
}

fn without_nsid(edns: Option<Edns<'_>>) -> Option<Edns<'_>> {
    edns.map(|edns| Edns { nsid: false, ..edns })
}
