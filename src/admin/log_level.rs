//! `/api/v1/log-level`: what is logged, and for a while something else (I10). It is all that can be changed here.
//!
//! Only from this machine, where `kubectl port-forward` comes from as well; and not by a page in somebody's browser: that
//! may send no JSON without being asked for leave first, which nobody gives it, and one that has let its own name point
//! here says that name in `Host`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::telemetry;

/// The path.
pub(super) const PATH: &str = "/api/v1/log-level";
/// Seconds for which a level can be asked for.
const SECONDS: std::ops::RangeInclusive<u64> = 1..=86_400;
/// Seconds of who does not say.
const USUAL_SECONDS: u64 = 600;
/// Octets of a request.
const MOST_BODY: usize = 4096;

/// Who has opened a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The level that is asked for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    level: String,
    seconds: Option<u64>,
}

/// Needs [`Peer`] as an extension.
pub(super) fn router() -> Router {
    Router::new().route(PATH, get(show).put(set)).layer(DefaultBodyLimit::max(MOST_BODY))
}

async fn show() -> Response {
    json_of(&telemetry::level())
}

async fn set(Extension(Peer(peer)): Extension<Peer>, headers: HeaderMap, body: Bytes) -> Response {
    let wanted = match admit(peer.ip(), &headers).and_then(|()| read(&body)) {
        Ok(wanted) => wanted,
        Err(refused) => return refused.into_response(),
    };
    let lasting = Duration::from_secs(wanted.seconds.unwrap_or(USUAL_SECONDS));
    match telemetry::set_level(&wanted.level, lasting) {
        Ok(turn) => {
            tracing::warn!(%peer, level = wanted.level, seconds = lasting.as_secs(), "the log level is another for a while");
            tokio::spawn(async move {
                tokio::time::sleep(lasting).await;
                if telemetry::restore_level(turn) {
                    tracing::warn!("the log level is what it was at the start");
                }
            });
            json_of(&telemetry::level())
        }
        Err(error) => {
            let (reason, remedy) =
                (format!("{error:#}"), "send error, warn, info, debug, trace, or a filter");
            Refused::new(StatusCode::BAD_REQUEST, "level", &wanted.level, &reason, remedy).into_response()
        }
    }
}

/// What is not done, and why.
#[derive(Debug, Serialize)]
struct Refused {
    #[serde(skip)]
    status: StatusCode,
    field: &'static str,
    value: String,
    reason: String,
    remedy: String,
}

impl Refused {
    fn new(status: StatusCode, field: &'static str, value: &str, reason: &str, remedy: &str) -> Refused {
        Refused { status, field, value: value.into(), reason: reason.into(), remedy: remedy.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({"error": self}).to_string() + "\n";
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

fn json_of(value: &impl Serialize) -> Response {
    // Texts and times become JSON whatever they hold.
    let body = serde_json::to_string(value).unwrap_or_default() + "\n";
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// Whether whoever asks may.
fn admit(peer: IpAddr, headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !peer.to_canonical().is_loopback() {
        let (reason, remedy) =
            ("the log level is set from a loopback address alone", "use kubectl port-forward");
        return Err(Refused::new(StatusCode::FORBIDDEN, "client", &peer.to_string(), reason, remedy));
    }
    let host = text(header::HOST);
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if name != "localhost" && bare.parse::<IpAddr>().is_err() {
        let reason = "a page in a browser may have made its own name lead here";
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "Host",
            host,
            reason,
            "ask for localhost or an address",
        ));
    }
    let content = text(header::CONTENT_TYPE);
    if !content.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let (status, reason) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "a page in a browser could send it");
        return Err(Refused::new(status, "Content-Type", content, reason, "send application/json"));
    }
    Ok(())
}

fn read(body: &[u8]) -> Result<Wanted, Refused> {
    let bad = |field, value: &str, reason: &str, remedy: &str| {
        Refused::new(StatusCode::BAD_REQUEST, field, value, reason, remedy)
    };
    let wanted: Wanted = serde_json::from_slice(body).map_err(|error| {
        bad("body", "", &error.to_string(), "send a map such as {\"level\": \"debug\", \"seconds\": 600}")
    })?;
    match wanted.seconds {
        Some(seconds) if !SECONDS.contains(&seconds) => {
            let remedy = format!("send {} to {}", SECONDS.start(), SECONDS.end());
            Err(bad("seconds", &seconds.to_string(), "a level lasts for a while", &remedy))
        }
        _ => Ok(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &'static str, content: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::CONTENT_TYPE, content)] {
            headers.insert(name, value.parse().expect("a value"));
        }
        headers
    }

    /// [I10]
    #[test]
    fn nobody_from_elsewhere_and_no_page_sets_the_level() {
        const JSON: &str = "application/json";
        let cases = [
            ("127.0.0.1", "localhost:9153", JSON, None),
            ("::1", "[::1]:9153", "Application/JSON; charset=utf-8", None),
            ("::ffff:127.0.0.1", "127.0.0.1", JSON, None),
            ("10.0.0.7", "localhost:9153", JSON, Some(StatusCode::FORBIDDEN)),
            ("2001:db8::1", "localhost", JSON, Some(StatusCode::FORBIDDEN)),
            ("127.0.0.1", "evil.example:9153", JSON, Some(StatusCode::FORBIDDEN)),
            ("127.0.0.1", "", JSON, Some(StatusCode::FORBIDDEN)),
            ("127.0.0.1", "localhost", "text/plain", Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
            ("127.0.0.1", "localhost", "", Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
        ];
        for (peer, host, content, refused) in cases {
            let admitted = admit(peer.parse().expect(peer), &headers(host, content));
            assert_eq!(admitted.err().map(|refused| refused.status), refused, "{peer} {host} {content}");
        }
    }

    /// [I10]
    #[test]
    fn a_request_that_cannot_be_meant_says_what_to_send() {
        assert!(read(br#"{"level": "debug", "seconds": 86400}"#).is_ok());
        assert!(read(br#"{"level": "debug"}"#).is_ok());
        for bad in [
            &b""[..],
            b"debug",
            b"[]",
            br#"{"seconds": 5}"#,
            br#"{"level": "debug", "seconds": 0}"#,
            br#"{"level": "debug", "seconds": 86401}"#,
            br#"{"level": "debug", "minutes": 5}"#,
            br#"{"level": 5}"#,
        ] {
            let refused = read(bad).err().expect("refused");
            assert!(
                refused.status == StatusCode::BAD_REQUEST && refused.remedy.starts_with("send "),
                "{refused:?}"
            );
        }
    }
}
