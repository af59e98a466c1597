//! `/api/v1/log-level`: what is logged, and for a while something else (I10). It is all that can be changed here.
//!
//! Only from this machine, where `kubectl port-forward` comes from as well; and not by a page in somebody's browser: that
//! may send no JSON without being asked for leave first, which nobody gives it, and one that has let its own name point
//! here says that name in `Host`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;

use super::parameters::Parameters;
use super::reply::Refused;
use crate::admin::host;
use crate::telemetry::{self, Level};

/// Seconds for which a level can be asked for.
const SECONDS: std::ops::RangeInclusive<u64> = 1..=86_400;
/// Seconds of who does not say.
const USUAL_SECONDS: u64 = 600;
/// Octets of a request.
const MOST_BODY: usize = 4096;

/// Who has opened a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::admin) struct Peer(pub(in crate::admin) SocketAddr);

/// The level that is asked for.
#[derive(Debug)]
struct Wanted {
    level: String,
    seconds: Option<u64>,
}

/// Needs [`Peer`] as an extension.
pub(super) fn methods<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    get(show).put(set).fallback(method).layer(DefaultBodyLimit::max(MOST_BODY))
}

async fn method(method: axum::http::Method) -> Response {
    super::refuse_method(&method, "GET, HEAD, PUT")
}

async fn show(uri: Uri) -> Result<Json<Level>, Refused> {
    Parameters::of(&uri)?.done(&[])?;
    Ok(Json(telemetry::level()))
}

async fn set(
    Extension(Peer(peer)): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Level>, Refused> {
    Parameters::of(&uri)?.done(&[])?;
    admit(peer.ip(), &uri, &headers)?;
    let body = body.map_err(|error| {
        let remedy = format!("send at most {MOST_BODY} octets");
        Refused::new(error.status(), "body", "", error.body_text(), remedy)
    })?;
    let wanted = read(&body)?;
    let lasting = Duration::from_secs(wanted.seconds.unwrap_or(USUAL_SECONDS));
    let turn = telemetry::set_level(&wanted.level, lasting, peer).map_err(|error| {
        let remedy = "send error, warn, info, debug, trace, or a filter";
        Refused::parameter("level", &wanted.level, format!("{error:#}"), remedy)
    })?;
    tokio::spawn(async move {
        tokio::time::sleep(lasting).await;
        telemetry::restore_level(turn);
    });
    Ok(Json(telemetry::level()))
}

/// Whether whoever asks may.
fn admit(peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    if !peer.to_canonical().is_loopback() {
        let (reason, remedy) =
            ("the log level is set from a loopback address alone", "use kubectl port-forward");
        return Err(Refused::new(StatusCode::FORBIDDEN, "client", &peer.to_string(), reason, remedy));
    }
    // --admin-host may list any name, and this is more than reading.
    let host = host::of(uri, headers).unwrap_or_default();
    if !host::is_local(host) {
        let reason = "a page in a browser may have made its own name lead here";
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "Host",
            host,
            reason,
            "ask for localhost or an address",
        ));
    }
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let (status, reason) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, "a page in a browser could send it");
        return Err(Refused::new(status, "Content-Type", content, reason, "send application/json"));
    }
    Ok(())
}

/// The same as it is sent, with whatever in its fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    level: Option<Value>,
    seconds: Option<Value>,
}

fn read(body: &[u8]) -> Result<Wanted, Refused> {
    const MAP: &str = "send a map such as {\"level\": \"debug\", \"seconds\": 600}";
    let refuse = |why: String| Refused::parameter("body", &String::from_utf8_lossy(body), why, MAP);
    // A list would do for the fields of a struct.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(refuse("it is no map".to_owned()));
    }
    let sent: Sent = serde_json::from_slice(body).map_err(|error| refuse(error.to_string()))?;
    let level = match sent.level {
        Some(Value::String(level)) => level,
        Some(other) => return Err(Refused::parameter("level", &other.to_string(), "it is no string", MAP)),
        None => return Err(Refused::parameter("level", "", "it is missing", MAP)),
    };
    let seconds = match sent.seconds {
        None => None,
        Some(seconds) => {
            Some(seconds.as_u64().filter(|seconds| SECONDS.contains(seconds)).ok_or_else(|| {
                let remedy = format!("send a number from {} to {}", SECONDS.start(), SECONDS.end());
                Refused::parameter(
                    "seconds",
                    &seconds.to_string(),
                    "a level lasts for so many seconds",
                    remedy,
                )
            })?)
        }
    };
    Ok(Wanted { level, seconds })
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
            ("127.0.0.1", "[::1]", JSON, None),
            ("127.0.0.1", "LOCALHOST:9153", JSON, None),
            ("127.0.0.1", "localhost.:9153", JSON, None),
            ("127.0.0.1", "[::1].evil.example", JSON, Some(StatusCode::FORBIDDEN)),
            ("127.0.0.1", "a.localhost", JSON, Some(StatusCode::FORBIDDEN)),
            ("::ffff:127.0.0.1", "127.0.0.1", JSON, None),
            ("10.0.0.7", "localhost:9153", JSON, Some(StatusCode::FORBIDDEN)),
            ("2001:db8::1", "localhost", JSON, Some(StatusCode::FORBIDDEN)),
            ("127.0.0.1", "evil.example:9153", JSON, Some(StatusCode::FORBIDDEN)),
            ("127.0.0.1", "", JSON, Some(StatusCode::FORBIDDEN)),
            ("127.0.0.1", "localhost", "text/plain", Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
            ("127.0.0.1", "localhost", "", Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
        ];
        for (peer, host, content, refused) in cases {
            let admitted = admit(peer.parse().expect(peer), &Uri::from_static("/"), &headers(host, content));
            assert_eq!(admitted.err().map(|refused| refused.status), refused, "{peer} {host} {content}");
        }
    }

    /// [I10]
    #[test]
    fn a_request_that_cannot_be_meant_says_what_to_send() {
        assert!(read(br#"{"level": "debug", "seconds": 86400}"#).is_ok());
        assert!(read(br#"{"level": "debug"}"#).is_ok());
        assert_eq!(read(br#"{"level": "debug", "seconds": null}"#).expect("the usual time").seconds, None);
        for (bad, field, value) in [
            ("", "body", ""),
            ("debug", "body", "debug"),
            ("[]", "body", "[]"),
            (r#"["debug", 60]"#, "body", r#"["debug", 60]"#),
            (r#"{"seconds": 5}"#, "level", ""),
            (r#"{"level": "debug", "seconds": 0}"#, "seconds", "0"),
            (r#"{"level": "debug", "seconds": 86401}"#, "seconds", "86401"),
            (r#"{"level": "debug", "seconds": "5"}"#, "seconds", "\"5\""),
            (r#"{"level": "debug", "minutes": 5}"#, "body", r#"{"level": "debug", "minutes": 5}"#),
            (r#"{"level": "debug", "level": "off"}"#, "body", r#"{"level": "debug", "level": "off"}"#),
            (r#"{"level": 5}"#, "level", "5"),
        ] {
            let refused = read(bad.as_bytes()).expect_err("refused");
            assert!(
                refused.status == StatusCode::BAD_REQUEST && refused.remedy.starts_with("send "),
                "{refused:?}"
            );
            assert_eq!((refused.field, refused.value.as_str()), (field, value));
            assert!(!refused.reason.contains("struct"), "{refused:?}");
        }
    }
}
