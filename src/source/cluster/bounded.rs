//! Replies of the API server, as large as they may be (S7).
//!
//! kube collects a reply before it reads it, and a watch's event up to its end of line, however long they are. So the
//! octets are counted on their way there: of a whole reply, or since the last end of line.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use kube::client::Body;

use crate::limits::MOST_REPLY;

type BoxError = Box<dyn Error + Send + Sync>;

/// More octets than are read.
#[derive(Debug, thiserror::Error)]
#[error("the API server sends {0} of more than {MOST_REPLY} octets, and no more are read")]
pub(in crate::source) struct TooLarge(&'static str);

impl TooLarge {
    /// Whether an error comes from one of these.
    pub(in crate::source) fn is_behind(error: &(dyn Error + 'static)) -> bool {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        error.is::<TooLarge>()
            || inner.is_some_and(|inner| TooLarge::is_behind(inner))
            || error.source().is_some_and(TooLarge::is_behind)
    }
}

/// Bounds what a service replies.
#[derive(Clone)]
pub(in crate::source) struct Bounded<S>(pub(in crate::source) S);

impl<S, B> tower::Service<Request<Body>> for Bounded<S>
where
    S: tower::Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let by_line = is_watch(request.uri());
        let response = self.0.call(request);
        Box::pin(async move {
            let bounded = |body: B| Count { body: Box::pin(body), by_line, octets: 0 }.boxed_unsync();
            Ok(response.await?.map(bounded))
        })
    }
}

/// Whether the reply has a line for each event.
pub(super) fn is_watch(uri: &http::Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
}

struct Count<B> {
    body: Pin<Box<B>>,
    by_line: bool,
    octets: usize,
}

impl<B> Count<B> {
    fn count(&mut self, data: &[u8]) -> Result<(), TooLarge> {
        if !self.by_line {
            self.octets += data.len();
            return if self.octets > MOST_REPLY { Err(TooLarge("a reply")) } else { Ok(()) };
        }
        for line in data.split_inclusive(|octet| *octet == b'\n') {
            self.octets += line.len();
            if self.octets > MOST_REPLY {
                return Err(TooLarge("an event"));
            }
            if line.ends_with(b"\n") {
                self.octets = 0;
            }
        }
        Ok(())
    }
}

impl<B> HttpBody for Count<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(self.body.as_mut().poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(frame) => frame.map_err(Into::into)?,
        };
        if let Some(data) = frame.data_ref() {
            self.count(data)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(by_line: bool, parts: &[&[u8]]) -> Result<(), TooLarge> {
        let mut count = Count { body: Box::pin(()), by_line, octets: 0 };
        parts.iter().try_for_each(|part| count.count(part))
    }

    /// [S7]
    #[test]
    fn a_reply_is_bounded_and_a_watch_is_not_but_each_of_its_events() {
        let most = vec![b'x'; MOST_REPLY];
        let half = &most[..MOST_REPLY / 2];
        assert!(passes(false, &[half, half]).is_ok());
        assert!(passes(false, &[half, half, b"\n"]).is_err());
        assert!(passes(true, &[half, b"x\n", half, half]).is_ok());
        assert!(passes(true, &[half, b"x\ny", half, half]).is_err());
        assert!(passes(true, &[&[half, b"\n"].concat()[..]; 9]).is_ok());
        let error = passes(true, &[half, half, b"x"]).expect_err("too large");
        assert!(TooLarge::is_behind(&std::io::Error::other(error)));
        assert!(!TooLarge::is_behind(&std::io::Error::other("something else")));
    }

    #[test]
    fn watches_are_known_by_their_query() {
        for (uri, watch) in
            [("/a?watch=true", true), ("/a?x=1&watch=true&y", true), ("/a?notwatch=true", false)]
        {
            assert_eq!(is_watch(&uri.parse().expect("a URI")), watch, "{uri}");
        }
    }
}
