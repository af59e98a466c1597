//! How a reply goes wrong on its way.

use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};

use super::requests::status;
use super::{Fault, Shared};

pub(super) const NOT_FOUND: &str = "the server could not find the requested resource";

/// How a request is replied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// As it should be.
    Right,
    /// With this HTTP status; 429 says when to come again.
    Status(u16),
    /// With 200 and this text, and the end.
    Text(&'static str),
    /// With a redirect to the same place.
    Redirect,
    /// Not at all, until the fault changes.
    Silence,
    /// As it should be, an octet at a time.
    Slow,
    /// With half of what it should be, and then the connection ends. Of a watch: with half of each event.
    Cut,
    /// With half of what it should be, as if it were whole. Of a watch: each event is nonsense, and the next one follows.
    Mangled,
}

/// Replies with what `right` makes, or with 404 if that is nothing, in the way of the fault.
pub(super) async fn send(
    shared: &Shared,
    uri: &Uri,
    how: impl Fn(Fault) -> Reply,
    right: impl FnOnce(&Shared) -> Option<String>,
) -> Response {
    shared.wait_while(|world| how(world.fault) == Reply::Silence).await;
    let how = how(shared.lock().fault);
    if let Some(response) = instead(how, uri) {
        return response;
    }
    let Some(text) = right(shared) else { return status(404, NOT_FOUND) };
    let half = text[..text.len() / 2].to_owned();
    match how {
        Reply::Slow => body(octets(text)),
        Reply::Cut => body(cut(half)),
        Reply::Mangled => body(stream::iter([Ok(half)])),
        _ => body(stream::iter([Ok(text)])),
    }
}

/// What is said whatever the right reply would be.
pub(super) fn instead(how: Reply, uri: &Uri) -> Option<Response> {
    match how {
        Reply::Status(code) => Some(status(code, "scripted failure")),
        Reply::Text(text) => Some(([(header::CONTENT_TYPE, "text/html")], text).into_response()),
        Reply::Redirect => {
            let location = [(header::LOCATION, uri.to_string())];
            Some((StatusCode::TEMPORARY_REDIRECT, location).into_response())
        }
        _ => None,
    }
}

/// The lines of a watch.
pub(super) fn stream(how: Reply, lines: impl Stream<Item = String> + Send + 'static) -> Response {
    match how {
        Reply::Slow => body(lines.flat_map(octets)),
        Reply::Cut => body(lines.flat_map(|line| {
            let half = line[..line.len() / 2].to_owned();
            cut(half).boxed()
        })),
        Reply::Mangled => {
            body(lines.map(|_| Ok("{\"type\": \"MODIFIED\", \"object\": nonsense}\n".to_owned())))
        }
        _ => body(lines.map(Ok)),
    }
}

type Part = std::io::Result<String>;

fn body(parts: impl Stream<Item = Part> + Send + 'static) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(parts)).into_response()
}

/// Each octet on its own; a part that is not taken apart by a pause would be sent as one.
fn octets(text: String) -> impl Stream<Item = Part> + Send {
    let octets: Vec<char> = text.chars().collect();
    stream::iter(octets).then(|octet| async move {
        tokio::time::sleep(Duration::from_micros(200)).await;
        Ok(octet.to_string())
    })
}

/// Ends the connection without the end of the reply, once what there is of it is on its way.
fn cut(half: String) -> impl Stream<Item = Part> + Send {
    let broken = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(std::io::Error::other("scripted"))
    };
    stream::iter([Ok(half)]).chain(stream::once(broken))
}
