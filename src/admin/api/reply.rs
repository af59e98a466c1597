//! Replies of the JSON API: documents with a tag, and errors that name field, value, reason and remedy.

use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::limits;

/// Characters of somebody's value that an error repeats.
const LONGEST_VALUE: usize = 200;

/// Why there is no document.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    #[serde(skip)]
    pub(super) status: StatusCode,
    /// The parameter, header or part of the request.
    pub(super) field: &'static str,
    /// What it was.
    pub(super) value: String,
    /// Why that cannot be answered.
    pub(super) reason: String,
    /// What can be.
    pub(super) remedy: String,
}

#[derive(Serialize)]
struct ErrorDocument {
    error: Refused,
}

impl Refused {
    pub(super) fn new(
        status: StatusCode,
        field: &'static str,
        value: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Refused {
        let value = limits::shorten(value, LONGEST_VALUE);
        Refused { status, field, value, reason: reason.into(), remedy: remedy.into() }
    }

    /// A parameter that cannot be meant.
    pub(super) fn parameter(
        field: &'static str,
        value: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Refused {
        Refused::new(StatusCode::BAD_REQUEST, field, value, reason, remedy)
    }

    /// A fault of ours.
    pub(super) fn panicked(path: &str) -> Refused {
        let reason = "answering this made globaldns panic, which is a fault of globaldns";
        let remedy = "report it with the log line that names the place";
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "path", path, reason, remedy)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorDocument { error: self })).into_response()
    }
}

/// What a document was made from: it is the same as long as this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag(pub(super) String);

impl Tag {
    /// Whether whoever asks has it already (RFC 9110 section 13.1.2).
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        let listed =
            headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
        let mut tags = listed.flat_map(|value| value.split(','));
        tags.any(|tag| tag.trim().trim_start_matches("W/").trim_matches('"') == self.0)
    }

    fn header(&self) -> (HeaderName, HeaderValue) {
        // Digits and dashes.
        let value = HeaderValue::from_str(&format!("\"{}\"", self.0));
        (header::ETAG, value.unwrap_or_else(|_| HeaderValue::from_static("\"\"")))
    }

    /// Nothing but that it is the same.
    pub(super) fn not_modified(&self) -> Response {
        (StatusCode::NOT_MODIFIED, [self.header()]).into_response()
    }

    /// A document with its tag.
    pub(super) fn on(&self, document: Document) -> Response {
        ([self.header()], document).into_response()
    }
}

/// A document as it is sent: one that may be long is written where it is made, and not where queries are answered.
#[derive(Debug)]
pub(super) struct Document(Bytes);

impl Document {
    pub(super) fn of(value: &impl Serialize) -> Document {
        // Texts, numbers and times become JSON whatever they hold.
        Document(serde_json::to_vec(value).unwrap_or_default().into())
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}
