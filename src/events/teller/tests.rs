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

/// What an API server does otherwise.
#[derive(Clone, Copy, Default)]
struct Script {
    /// It refuses what is asked of paths with this, for this reason.
    refuses: Option<(&'static str, &'static str)>,
    /// The Lease is another replica's.
    is_taken: bool,
    /// An entry is shown after so long.
    slowly: Duration,
}

/// An API server that takes everything, and in which every entry exists.
fn api(written: Written, script: Script) -> Client {
    let reply = move |request: Request<Body>| {
        let written = written.clone();
        async move {
            let (head, body) = request.into_parts();
            let (path, entry) = (head.uri.path().to_owned(), head.uri.path().contains("/serviceentries/"));
            let body = body.collect_bytes().await.expect("a body");
            if entry {
                tokio::time::sleep(script.slowly).await;
            }
            let is_lease = path.contains("/leases/");
            let refusal = script.refuses.filter(|(part, _)| path.contains(part));
            let (code, object) = match head.method {
                _ if refusal.is_some() => {
                    let message = refusal.map(|(_, message)| message);
                    (
                        403,
                        json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
                                 "message": message, "metadata": {}}),
                    )
                }
                Method::GET if is_lease && script.is_taken => (
                    200,
                    json!({"metadata": {"resourceVersion": "1"},
                           "spec": {"holderIdentity": "another", "leaseDurationSeconds": 15}}),
                ),
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

const LEASE: Duration = Duration::from_secs(15);

fn options(lease: Duration) -> Options {
    Options { service: ServiceName::usual(), identity: "me".to_owned(), lease }
}

fn teller(written: &Written, script: Script, lease: Duration) -> Teller {
    let desk = Arc::<Desk>::default();
    desk.awaits(None);
    Teller::new(api(written.clone(), script), options(lease), desk, Tally::default())
}

fn wrong(object: &str) -> Told {
    let finding = Finding::new(Code::HostNoAddress, object, "", "", "why", "remedy");
    Told { place: (finding.code.severity(), 1), finding, again: false }
}

/// [F4]
#[tokio::test]
async fn what_is_missing_is_told_as_what_it_is() {
    let quota = "events \"a.1\" is forbidden: exceeded quota: all, requested: count/events.events.k8s.io=1";
    let cases = [
        ("/serviceentries/", "cannot get", Missing::Look, LOOK),
        ("/events", "cannot create", Missing::Write, WRITE),
        ("/events", quota, Missing::Room, "raise its count/events.events.k8s.io"),
    ];
    for (path, message, expected, remedy) in cases {
        let script = Script { refuses: Some((path, message)), ..Script::default() };
        let mut teller = teller(&Written::default(), script, LEASE);
        assert!(teller.leads().await);
        let told = wrong("ns/a");
        teller.tell(&told).await;
        assert_eq!(teller.refusing.get("ns"), Some(&expected), "{path} {message}");
        assert_eq!(teller.tally.of(Outcome::Refused), 1);
        let error = CallError::Stale("it".to_owned());
        let complaint = expected.complaint("ns", &error);
        for part in [remedy, "none is written in the namespace ns: it was"] {
            assert!(complaint.contains(part), "{complaint}");
        }
    }
}

/// [F4]
#[tokio::test]
async fn who_lost_the_lease_while_an_entry_was_looked_at_writes_nothing() {
    let written = Written::default();
    let script = Script { is_taken: true, slowly: Duration::from_millis(40), ..Script::default() };
    let mut teller = teller(&written, script, Duration::from_millis(30));
    // A right from before, which has ended by the time the entry is shown.
    let mut before = self::teller(&Written::default(), Script::default(), Duration::from_millis(30));
    before.lease.hold().await.expect("it is free");
    teller.lease.inherit(&before.lease);
    let attempt = teller.write(&wrong("ns/a"), "ns", "a").await.expect("no error");
    assert!(matches!(attempt, Attempt::NotOurs));
    assert!(written.lock().expect("unharmed").is_empty());
}

/// [F4] Another replica may have read everything.
#[tokio::test]
async fn who_has_not_read_everything_leaves_the_lease_to_others_and_says_so() {
    let written = Written::default();
    let mut teller = teller(&written, Script::default(), Duration::ZERO);
    teller.desk.awaits(Some("the first complete list of kubernetes:shop".to_owned()));
    teller.step().await;
    assert!(written.lock().expect("unharmed").is_empty(), "no Lease");
    assert!(teller.troubles.over("source"), "it was said");
    teller.desk.awaits(None);
    teller.step().await;
    let lease = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/globaldns-events";
    assert!(written.lock().expect("unharmed").contains_key(lease));
}

/// [F4] A DaemonSet may have thousands of replicas.
#[tokio::test]
async fn who_does_not_hold_the_lease_looks_once_in_its_time() {
    let script = Script { is_taken: true, ..Script::default() };
    let mut teller = teller(&Written::default(), script, LEASE);
    let begun = Instant::now();
    assert!(teller.step().await >= begun + LEASE);
}

/// [L9] [F4]
#[tokio::test]
async fn a_finding_that_makes_us_panic_costs_no_other_one_its_event() {
    let (written, desk, stop) = (Written::default(), Arc::<Desk>::default(), CancellationToken::new());
    let tally = Tally::default();
    let client = api(written.clone(), Script::default());
    let teller = Teller::new(client, options(LEASE), desk.clone(), tally.clone());
    desk.awaits(None);
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
