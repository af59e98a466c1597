//! What ServiceEntries in the cluster mean for answers.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, with_shared};
use crate::credentials::User;
use crate::dns::{Answer, Resolver};
use crate::program::Program;
use crate::wait::{DEADLINE, wait_until};

/// A `spec` as users write it.
pub(crate) fn spec(host: &str, addresses: &[&str]) -> Value {
    json!({
        "hosts": [host],
        "addresses": addresses,
        "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "endpoints": [{ "address": "192.0.2.1" }],
    })
}

/// Waits until everything the API server sent before this call has been taken in: an entry
/// made now is answered, and a watch delivers in order.
pub(crate) fn wait_for_marker(plane: &ControlPlane, resolver: &mut Resolver, marker: &str) {
    let host = format!("{marker}.marker.global");
    plane.cluster.create("markers", marker, spec(&host, &["240.9.9.9"]));
    resolver.wait_for(&host, &Answer::of(&["240.9.9.9"]));
}

/// [S1] [D2] [D4] [L1]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn creating_changing_and_deleting_an_entry_is_followed() {
    with_shared(|plane| {
        let host = "echo.default.global";
        let before = plane.requests(User::Globaldns, "list");
        plane.cluster.create("default", "before", spec("before.global", &["240.1.0.1"]));
        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        resolver.assert("before.global", &Answer::of(&["240.1.0.1"]));
        resolver.assert(host, &Answer::nxdomain());
        wait_until("the audit log shows the list", DEADLINE, || {
            plane.requests(User::Globaldns, "list") > before
        });
        let lists = plane.requests(User::Globaldns, "list");

        plane.cluster.create("default", "echo", spec(host, &["127.255.0.1"]));
        resolver.wait_for(host, &Answer::of(&["127.255.0.1"]));

        let patch = json!({ "spec": { "addresses": ["127.255.0.2", "127.255.0.3/32"] } });
        plane.cluster.patch("default", "echo", &patch);
        resolver.wait_for(host, &Answer::of(&["127.255.0.2", "127.255.0.3"]));

        let patch = json!({ "spec": { "hosts": ["moved.default.global"] } });
        plane.cluster.patch("default", "echo", &patch);
        let moved = Answer::of(&["127.255.0.2", "127.255.0.3"]);
        resolver.wait_for("moved.default.global", &moved);
        resolver.wait_for(host, &Answer::nxdomain());

        plane.cluster.delete("default", "echo");
        resolver.wait_for("moved.default.global", &Answer::nxdomain());
        resolver.assert("before.global", &Answer::of(&["240.1.0.1"]));
        let now = plane.requests(User::Globaldns, "list");
        assert_eq!(now, lists, "followed by events, not by listing again");
    });
}

/// [S5]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn a_malformed_entry_loses_only_its_bad_parts_and_stops_no_other() {
    with_shared(|plane| {
        // One set is there before the program lists, the other arrives at its watch.
        let malformed = |when: &str| {
            let host = |name: &str| format!("{name}.{when}.global");
            let good = |name: &str| spec(&host(name), &["240.2.0.1"]);
            let with = |name: &str, field: &str, value: Value| {
                let mut spec = good(name);
                spec[field] = value;
                (format!("{name}-{when}"), spec)
            };
            vec![
                with("hosts-is-a-string", "hosts", host("string").into()),
                with("addresses-is-an-object", "addresses", json!({ "a": "b" })),
                with("one-bad-address", "addresses", json!(["240.2.0.1", "240.2.0.256", "240.2.0.2"])),
                with("address-is-a-number", "addresses", json!(["240.2.0.1", 7])),
                with("resolution-is-a-number", "resolution", json!(42)),
                with("resolution-is-unknown", "resolution", json!("SIDEWAYS")),
                with("ports-is-a-string", "ports", json!("http")),
                with("unknown-field", "colour", json!({ "deep": ["green"] })),
                with("no-spec-to-speak-of", "hosts", Value::Null),
                with("one-bad-host", "hosts", json!(["bad host.global", host("one-bad-host"), 7])),
                (format!("spec-is-a-string-{when}"), json!("nothing")),
                (format!("good-{when}"), good("good")),
            ]
        };
        let expect = |resolver: &mut Resolver, when: &str| {
            let one = Answer::of(&["240.2.0.1"]);
            let two = Answer::of(&["240.2.0.1", "240.2.0.2"]);
            for (name, answer) in [
                ("good", &one),
                ("one-bad-address", &two),
                ("address-is-a-number", &one),
                ("one-bad-host", &one),
                ("ports-is-a-string", &one),
                ("resolution-is-a-number", &one),
                ("resolution-is-unknown", &one),
                ("unknown-field", &one),
                ("string", &Answer::nxdomain()),
                ("hosts-is-a-string", &Answer::nxdomain()),
                ("addresses-is-an-object", &Answer::nxdomain()),
            ] {
                resolver.assert(&format!("{name}.{when}.global"), answer);
            }
        };

        for (name, spec) in malformed("listed") {
            plane.cluster.create("malformed", &name, spec);
        }
        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        expect(&mut resolver, "listed");

        for (name, spec) in malformed("watched") {
            plane.cluster.create("malformed", &name, spec);
        }
        wait_for_marker(plane, &mut resolver, "malformed");
        expect(&mut resolver, "watched");
        expect(&mut resolver, "listed");
    });
}

/// [S6]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn after_a_bad_update_the_valid_parts_count_and_a_delete_is_honoured() {
    with_shared(|plane| {
        let (part, lost) = ("part.bad-update.global", "lost.bad-update.global");
        for (name, host) in [("part", part), ("lost", lost)] {
            plane.cluster.create("bad-update", name, spec(host, &["240.3.0.1"]));
        }
        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        resolver.assert(part, &Answer::of(&["240.3.0.1"]));
        resolver.assert(lost, &Answer::of(&["240.3.0.1"]));

        let patch = json!({ "spec": { "addresses": ["240.3.0.2", "nonsense"] } });
        plane.cluster.patch("bad-update", "part", &patch);
        resolver.wait_for(part, &Answer::of(&["240.3.0.2"]));

        let patch = json!({ "spec": { "hosts": { "not": "a list" } } });
        plane.cluster.patch("bad-update", "lost", &patch);
        resolver.wait_for(lost, &Answer::nxdomain());

        let patch = json!({ "spec": { "endpoints": "nonsense", "hosts": [part, 7] } });
        plane.cluster.patch("bad-update", "part", &patch);
        wait_for_marker(plane, &mut resolver, "bad-update");
        resolver.assert(part, &Answer::of(&["240.3.0.2"]));

        plane.cluster.delete("bad-update", "part");
        plane.cluster.delete("bad-update", "lost");
        resolver.wait_for(part, &Answer::nxdomain());
    });
}

/// [O1] [O2]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn of_two_namespaces_the_older_entry_wins_and_the_other_takes_over() {
    with_shared(|plane| {
        // Named against the order of age, so that no tie-break gives the same result.
        let host = "contested.global";
        let older = Answer::of(&["240.4.0.1"]);
        let newer = Answer::of(&["240.4.0.2"]);
        plane.cluster.create("z-older", "z", spec(host, &["240.4.0.1"]));
        let second = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("after 1970").as_secs()
        };
        let created = second();
        // Creation timestamps have a resolution of one second.
        wait_until("the clock shows the next second", DEADLINE, || second() > created);

        let watching = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = watching.resolver();
        resolver.assert(host, &older);
        plane.cluster.create("a-newer", "a", spec(host, &["240.4.0.2"]));
        wait_for_marker(plane, &mut resolver, "contested");
        resolver.assert(host, &older);

        let listing = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        listing.resolver().assert(host, &older);

        plane.cluster.delete("z-older", "z");
        resolver.wait_for(host, &newer);
        listing.resolver().wait_for(host, &newer);
    });
}

/// [A7]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn an_address_less_twin_never_hides_the_addressed_host() {
    with_shared(|plane| {
        let host = "httpbin.bar.global";
        let answer = Answer::of(&["240.0.0.2"]);
        let twin = || {
            let mut twin = spec(host, &[]);
            twin["exportTo"] = json!(["."]);
            twin
        };
        // As EMCO leaves them: the twin is older, and its namespace sorts first.
        plane.cluster.create("a-twin", "httpbin", twin());
        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        resolver.assert(host, &Answer::nxdomain());

        plane.cluster.create("bar", "httpbin", spec(host, &["240.0.0.2"]));
        resolver.wait_for(host, &answer);

        plane.cluster.create("bar", "another-twin", twin());
        wait_for_marker(plane, &mut resolver, "twin");
        resolver.assert(host, &answer);

        plane.cluster.delete("a-twin", "httpbin");
        plane.cluster.delete("bar", "another-twin");
        wait_for_marker(plane, &mut resolver, "no-twin");
        resolver.assert(host, &answer);
    });
}

/// [A2]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn allocated_addresses_are_answered_where_istiod_would_use_them() {
    with_shared(|plane| {
        let create = |name: &str, change: &dyn Fn(&mut Value)| {
            let host = format!("{name}.allocated.global");
            let mut spec = spec(&host, &[]);
            spec["resolution"] = "DNS".into();
            let mut entry = json!({
                "metadata": { "namespace": "allocated", "name": name },
                "spec": spec,
            });
            change(&mut entry);
            plane.cluster.create_entry(entry);
        };
        let allocate = |name: &str| {
            let host = format!("{name}.ALLOCATED.global");
            let addresses = json!([
                { "value": "240.240.0.9", "host": "another.allocated.global" },
                { "value": "240.240.0.1", "host": host },
            ]);
            plane.cluster.patch_status("allocated", name, &addresses);
        };
        create("plain", &|_| ());
        create("explicit", &|entry| {
            entry["spec"]["addresses"] = json!(["240.5.0.1"]);
        });
        create("none", &|entry| entry["spec"]["resolution"] = "NONE".into());
        create("disabled", &|entry| {
            let label = json!({ "networking.istio.io/enable-autoallocate-ip": "False" });
            entry["metadata"]["labels"] = label;
        });
        allocate("none");

        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        resolver.assert("plain.allocated.global", &Answer::nxdomain());
        for name in ["explicit", "disabled", "plain"] {
            allocate(name);
        }
        resolver.wait_for("plain.allocated.global", &Answer::of(&["240.240.0.1"]));
        resolver.assert("explicit.allocated.global", &Answer::of(&["240.5.0.1"]));
        resolver.assert("none.allocated.global", &Answer::nxdomain());
        resolver.assert("disabled.allocated.global", &Answer::nxdomain());
        resolver.assert("another.allocated.global", &Answer::nxdomain());

        // Back to none: what istiod took away is not answered.
        plane.cluster.patch_status("allocated", "plain", &json!([]));
        resolver.wait_for("plain.allocated.global", &Answer::nxdomain());
    });
}
