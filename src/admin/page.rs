//! The status page (I4): one document with its style and script in it, and a policy that lets nothing else in.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

macro_rules! style {
    () => {
        include_str!("page/page.css")
    };
}
macro_rules! script {
    () => {
        include_str!("page/page.js")
    };
}

const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    "<meta name=\"color-scheme\" content=\"light dark\">\n<title>globaldns</title>\n<link rel=\"icon\" href=\"data:,\">\n",
    "<style>",
    style!(),
    "</style>\n</head>\n",
    include_str!("page/body.html"),
    "<script>",
    script!(),
    "</script>\n</html>\n"
);

/// What the page may do (CSP level 3): run this script, in this style, and ask us. It never makes HTML of text.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| {
        format!(
            "'sha256-{}'",
            BASE64_STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
        )
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(script!()),
        hash(style!())
    )
});

/// The page.
pub(super) async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    (headers, PAGE).into_response()
}
