//! Objects and events that are not what they should be.

use serde_json::{Value, json};

use super::observer::{Observer, reply};
use super::{CHANGES, RELISTS, STEADY, change, serve, wait_for_changes};
use crate::api_server::{ApiServer, Fault, Reply};
use crate::cluster::{metric, spawn, spec, wait_metric};
use crate::support::wait_until;

/// [O2] [S6] Events of what is not there, twice, and in the wrong order, cost nothing but themselves.
#[test]
fn events_that_cannot_be_cost_nothing() {
    let (api, program) = serve(ApiServer::start(&["v1"]));
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    let object = |name: &str, version: &str, address: &str| {
        json!({"metadata": {"namespace": "ns", "name": name, "resourceVersion": version, "uid": name},
               "spec": spec(&format!("{name}.global"), address)})
    };
    api.send_event("DELETED", object("never-there", "1000", "240.0.7.1"));
    api.send_event("MODIFIED", object("from-nowhere", "1001", "240.0.7.2"));
    for address in ["240.0.7.3", "240.0.7.4"] {
        api.send_event("ADDED", object("twice", "1002", address));
    }
    // The API server's log is in order, so the last word counts, whatever its number.
    api.send_event("MODIFIED", object("twice", "7", "240.0.7.5"));
    api.send_event("DELETED", object("never-there", "1", "240.0.7.1"));
    for (question, answer) in [
        ("twice.global", "NOERROR 240.0.7.5"),
        ("from-nowhere.global", "NOERROR 240.0.7.2"),
        ("never-there.global", "NXDOMAIN"),
    ] {
        wait_until(question, || (reply(program.dns(), question) == answer).then_some(()));
    }
    change(&api);
    wait_for_changes(&program);
    observer.wait_for_a_round();
    observer.finish();
}

/// [O2] [S5] Objects twice in a list, items that are no objects, and fields of a list that are null.
#[test]
fn a_list_with_odd_items_is_taken_for_what_it_says() {
    let list = r#"{"kind": "ServiceEntryList", "apiVersion": "networking.istio.io/v1",
        "metadata": {"resourceVersion": "90", "continue": null},
        "items": [
            {"metadata": {"namespace": "ns", "name": "keeps"}, "spec": {"hosts": ["keeps.global"], "addresses": ["240.0.0.1"]}},
            null, 5, "text", [], {}, {"metadata": null}, {"metadata": 7, "spec": []},
            {"metadata": {"namespace": "ns", "name": "twice"}, "spec": {"hosts": ["twice.global"], "addresses": ["240.0.7.1"]}},
            {"metadata": {"namespace": "ns", "name": "twice"}, "spec": {"hosts": ["twice.global"], "addresses": ["240.0.7.2"]}}
        ]}"#;
    let api = ApiServer::start(&["v1"]);
    api.set_fault(Fault::Replies { discovery: Reply::Right, list: Reply::Text(list), watch: Reply::Right });
    let mut program = spawn(&api, &[]);
    program.ready();
    assert_eq!(reply(program.dns(), "keeps.global"), "NOERROR 240.0.0.1");
    assert_eq!(reply(program.dns(), "twice.global"), "NOERROR 240.0.7.2");
    let none = r#"{"kind": "ServiceEntryList", "metadata": {"resourceVersion": "91"}, "items": null}"#;
    api.set_fault(Fault::Replies {
        discovery: Reply::Right,
        list: Reply::Text(none),
        watch: Reply::Status(410),
    });
    wait_until("an empty list", || (reply(program.dns(), "keeps.global") == "NXDOMAIN").then_some(()));
}

/// [S5] [S6] Every field of a ServiceEntry with every wrong type, in a list and as events, and what JSON can say but no
/// program can hold: the field costs itself, and nobody else anything.
#[test]
fn an_object_that_cannot_be_read_costs_no_other() {
    let wrong = [json!(null), json!(7), json!("text"), json!(["x", 1]), json!({"k": "v"}), json!(true)];
    let whole = json!({
        "metadata": {"labels": {"a": "b"}, "annotations": {"globaldns.io/ttl": "5"}, "generation": 3,
                     "creationTimestamp": "2024-01-01T00:00:00Z", "uid": "u", "managedFields": [], "finalizers": []},
        "spec": {"hosts": ["odd.global"], "addresses": ["240.0.8.1"], "resolution": "DNS", "exportTo": ["*"],
                 "location": "MESH_EXTERNAL", "endpoints": [{"address": "1.2.3.4"}], "ports": [{"number": 80}],
                 "subjectAltNames": ["x"], "workloadSelector": {"labels": {"a": "b"}}},
        "status": {"addresses": [{"host": "odd.global", "value": "240.0.8.2"}], "conditions": []},
    });
    let odd: Vec<Value> = pointers(&whole)
        .iter()
        .flat_map(|pointer| wrong.iter().map(move |value| (pointer, value)))
        .map(|(pointer, value)| {
            let mut object = whole.clone();
            *object.pointer_mut(pointer).expect("its own pointer") = value.clone();
            object
        })
        .collect();
    assert!(odd.len() > 100, "{}", odd.len());
    let api = ApiServer::start(&["v1"]);
    let half = odd.len() / 2;
    for (i, object) in odd[..half].iter().enumerate() {
        api.apply_object(&format!("odd/o{i}"), object.clone());
    }
    let (api, program) = serve(api);
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    for (i, object) in odd.iter().enumerate() {
        api.apply_object(&format!("odd/o{i}"), object.clone());
    }
    // Too deep, too large, and half of a pair of surrogates; as text, because no JSON value of ours holds them.
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for (name, bad) in [("deep", deep.as_str()), ("large", "1e999"), ("half", r#""\ud800""#)] {
        let mark = json!({"unreadable": name});
        api.apply_text(
            &format!("odd/{name}"),
            json!({"spec": {"hosts": [format!("{name}.global"), mark], "addresses": ["240.0.8.9"]}, "status": mark}),
            &mark.to_string(),
            bad,
        );
        let question = format!("{name}.global");
        wait_until(&question, || (reply(program.dns(), &question) == "NOERROR 240.0.8.9").then_some(()));
    }
    // The same in a list.
    let mut second = spawn(&api, &[]);
    second.ready();
    for (question, answer) in STEADY.into_iter().chain([("deep.global", "NOERROR 240.0.8.9")]) {
        assert_eq!(reply(second.dns(), question), answer);
    }
    assert_eq!(metric(&program, RELISTS), Some(1.0), "{}", program.stderr());
    change(&api);
    wait_for_changes(&program);
    // Deletions are carried out, also of what could not be read.
    for i in 0..odd.len() {
        api.delete(&format!("odd/o{i}"));
    }
    for name in ["deep", "large", "half"] {
        api.delete(&format!("odd/{name}"));
    }
    wait_metric(&program, "globaldns_source_entries{source=\"kubernetes\"}", |n| n == 6.0);
    program.findings(&[]);
    observer.wait_for_a_round();
    observer.finish();
}

/// The pointers of all fields and items below the first level.
fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, child)| (key.replace('/', "~1"), child)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, child)| (i.to_string(), child)).collect(),
        _ => Vec::new(),
    };
    let below = |(key, child): (String, &Value)| {
        let deeper = pointers(child).into_iter().map(|rest| format!("/{key}{rest}")).collect::<Vec<_>>();
        [vec![format!("/{key}")], deeper].concat()
    };
    let all: Vec<String> = children.into_iter().flat_map(below).collect();
    // The metadata as a whole has the name that the server goes by.
    all.into_iter().filter(|pointer| pointer != "/metadata").collect()
}
