use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Mutex;

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::finding::{Code, Finding};

/// What was written, by path.
type Written = Arc<Mutex<BTreeMap<String, Value>>>;

/// An API server that takes everything, and in which every entry exists.
fn api(written: Written) -> Client {
    let reply = move |request: Request<Body>| {
        let written = written.clone();
        async move {
            let (head, body) = request.into_parts();
            let (path, entry) = (head.uri.path().to_owned(), head.uri.path().contains("/serviceentries/"));
            let body = body.collect_bytes().await.expect("a body");
            let (code, object) = match head.method {
                Method::GET if entry => (200, json!({"metadata": {"uid": path}})),
                Method::GET => (
                    404,
                    json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
                                            "message": "not found", "metadata": {}}),
                ),
                _ => {
                    let object: Value = serde_json::from_slice(&body).expect("JSON");
                    let name = object["metadata"]["name"].as_str().expect("a name");
                    written.lock().expect("unharmed").insert(format!("{path}/{name}"), object.clone());
                    (201, object)
                }
            };
            let response = Response::builder().status(code).body(Body::from(object.to_string().into_bytes()));
            Ok::<_, Infallible>(response.expect("a response"))
        }
    };
    Client::new(tower::service_fn(reply), "default")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// [L9] [F4]
#[tokio::test]
async fn a_finding_that_makes_us_panic_costs_no_other_one_its_event() {
    let (written, desk, stop) = (Written::default(), Arc::<Desk>::default(), CancellationToken::new());
    let service = ServiceName::usual();
    let options = Options { service, identity: "me".to_owned(), lease: Duration::from_secs(15) };
    let tally = Tally::default();
    let teller = Teller::new(api(written.clone()), options, desk.clone(), tally.clone());
    let panics = panics::count(Place::Events);
    let running = tokio::spawn(teller.run(stop.clone()));
    until("the Lease", || desk.wants_search()).await;
    let mut round = desk.begin().expect("it leads");
    // Errors come first.
    round.see(&Finding::new(Code::HostInvalid, "ns/panic-event", "", "", "why", "remedy"));
    round.see(&Finding::new(Code::HostNoAddress, "ns/good", "", "", "why", "remedy"));
    desk.finish(round, true);
    let events = || -> Vec<String> {
        let written = written.lock().expect("unharmed");
        written
            .values()
            .filter_map(|object| object["regarding"]["name"].as_str().map(str::to_owned))
            .collect()
    };
    until("an Event", || tally.of(Outcome::Written) == 1).await;
    assert_eq!(events(), ["good"]);
    assert_eq!(panics::count(Place::Events), panics + 1);
    stop.cancel();
    running.await.expect("it ends");
    // What was told is there for the next one.
    let record = "/api/v1/namespaces/istio-system/configmaps/globaldns-events";
    assert!(written.lock().expect("unharmed")[record]["binaryData"]["told"].is_string());
}
