use std::convert::Infallible;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::limits::MOST_REPLY;
use crate::source::cluster::bounded::Bounded;

/// An API server with these nodes, one ServiceCIDR, and pages of more than so many nodes that are too large.
fn server(nodes: Vec<Value>, most: usize) -> Client {
    failing_server(nodes, most, None)
}

/// The same, with a status for whoever asks for ServiceCIDRs.
fn failing_server(nodes: Vec<Value>, most: usize, failure: Option<u16>) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let query: Vec<(String, String)> =
            form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        let number = |name: &str| {
            query
                .iter()
                .find(|(of, _)| of == name)
                .map(|(_, value)| value.parse::<usize>().expect("a number"))
        };
        let (from, limit) = (number("continue").unwrap_or(0), number("limit").expect("pages"));
        let asks_for_cidrs = request.uri().path().ends_with("/servicecidrs");
        let body = if let Some(code) = failure.filter(|_| asks_for_cidrs) {
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "x", "code": code})
        } else if asks_for_cidrs {
            json!({"metadata": {}, "items": [{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}}]})
        } else {
            let items: Vec<_> = nodes.iter().skip(from).take(limit).cloned().collect();
            let next = (from + limit < nodes.len()).then(|| (from + limit).to_string());
            let filling = if items.len() > most { MOST_REPLY } else { 0 };
            json!({"metadata": {"continue": next, "selfLink": "x".repeat(filling)}, "items": items})
        };
        let status = failure.filter(|_| asks_for_cidrs).unwrap_or(200);
        let response = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
        let response = response.expect("a response");
        async move { Ok::<_, Infallible>(response) }
    });
    Client::new(Bounded(service), "default")
}

fn node(number: usize, joined: Timestamp, range: Option<&str>) -> Value {
    json!({"metadata": {"name": format!("n{number}"), "creationTimestamp": joined.to_string()},
           "spec": {"podCIDR": range}})
}

fn before(seconds: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_secs(seconds)
}

/// [S7] [T4]
#[tokio::test]
async fn a_page_that_is_too_large_is_asked_for_in_smaller_ones() {
    let nodes = (0..130).map(|n| node(n, before(9999), Some(&format!("10.{n}.0.0/24")))).collect();
    let told = told(&server(nodes, 30)).await;
    assert!(told.pods && told.is_complete(), "{told:?}");
    assert_eq!(told.ranges.len(), 130 + 1);
}

/// [T4]
#[tokio::test]
async fn a_node_that_has_just_joined_has_no_range_yet() {
    let with = || node(0, before(9999), Some("10.0.0.0/24"));
    for (nodes, pods) in [
        (vec![with(), node(1, before(0), None)], true),
        (vec![with(), node(1, before(9999), None)], false),
        (vec![node(1, before(0), None)], false),
        (vec![], false),
    ] {
        assert_eq!(told(&server(nodes.clone(), 30)).await.pods, pods, "{nodes:?}");
    }
}

/// [T4] Services stand in for ServiceCIDRs where there are none, and not where these cannot be had for a moment.
#[tokio::test]
async fn a_passing_failure_is_no_want_of_service_cidrs() {
    for (code, passes) in [(404, false), (403, false), (500, true), (429, true)] {
        let told = told(&failing_server(vec![], 30, Some(code))).await;
        assert_eq!(told.passing().is_some(), passes, "{code}: {told:?}");
    }
}
