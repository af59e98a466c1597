use serde_json::json;

use super::*;
use crate::check::Range;
use crate::source::ranges::{Told, Unlisted};
use crate::stub::fixture::{K3S, KUBEADM, nothing_recorded, object, stub, stub_to};

fn plan_of(survey: &Survey, wanted: Option<&Stub>) -> Planned {
    plan(survey, layers(survey).remove(0), wanted, &nothing_recorded(), false)
}

fn change_of(survey: &Survey, wanted: Option<&Stub>) -> Change {
    match plan_of(survey, wanted).outcome {
        Outcome::Change(change) => change,
        other => panic!("{other:?}"),
    }
}

fn refusal_of(survey: &Survey) -> Refusal {
    match plan_of(survey, Some(&stub())).outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// [T3]
#[test]
fn a_corefile_gets_our_block_once_and_loses_it_again() {
    let change = change_of(&Survey::coredns(KUBEADM), Some(&stub()));
    let after = change.after.clone().expect("a text");
    assert!(after.starts_with(KUBEADM));
    assert!(
        after.contains("global:53 cluster2:53 {\n    errors\n    cache 30\n    forward . 10.96.0.53\n}\n")
    );
    let done = Survey::coredns(&after);
    assert_eq!(plan_of(&done, Some(&stub())).outcome, Outcome::InPlace);
    let ours = nothing_recorded().with(&stub());
    let removed = plan(&done, layers(&done).remove(0), None, &ours, false);
    assert_eq!(removed.outcome, Outcome::Change(change.undone()));
    assert!(change.diff("x").contains("+global:53 cluster2:53 {"));
}

/// [T3] [T5]
#[test]
fn a_key_of_our_own_holds_the_bare_block_and_goes_as_a_whole() {
    let survey = Survey::coredns(K3S).mounting("/etc/coredns/custom", "coredns-custom");
    let change = change_of(&survey, Some(&stub()));
    assert_eq!(change.before, None);
    let text = "global:53 cluster2:53 {\n    errors\n    cache 30\n    forward . 10.96.0.53\n}\n";
    assert_eq!(change.after.as_deref(), Some(text));
    let done = survey.having("kube-system", "coredns-custom", json!({"globaldns.server": text}));
    assert_eq!(plan_of(&done, Some(&stub())).outcome, Outcome::InPlace);
    let ours = nothing_recorded().with(&stub());
    let moved = plan(&done, layers(&done).remove(0), Some(&stub_to(&["10.96.0.99:53"])), &ours, false);
    let after = text.replace("10.96.0.53", "10.96.0.99");
    assert_eq!(moved.outcome, Outcome::Change(Change { after: Some(after), ..change.undone() }));
    let removed = plan(&done, layers(&done).remove(0), None, &ours, false);
    assert_eq!(removed.outcome, Outcome::Change(change.undone()));
}

/// [T4] The same zone in any file of the process keeps it from starting.
#[test]
fn a_zone_served_in_another_file_of_the_process_is_a_conflict() {
    let custom = |key: &str, text: &str| {
        Survey::coredns(K3S).mounting("/etc/coredns/custom", "coredns-custom").having(
            "kube-system",
            "coredns-custom",
            json!({key: text}),
        )
    };
    let foreign = "corp:53 {\n    forward . 10.0.0.1\n}\nGLOBAL.:53 {\n    forward . 10.0.0.1\n}\n";
    let refusal = refusal_of(&custom("corp.server", foreign));
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    assert_eq!(refusal.place, "ConfigMap kube-system/coredns-custom key corp.server line 4");
    // A key that nothing imports, and another port, are no conflict.
    for (key, text) in [("corp.txt", foreign.to_owned()), ("corp.server", foreign.replace(":53", ":54"))] {
        assert!(matches!(plan_of(&custom(key, &text), Some(&stub())).outcome, Outcome::Change(_)), "{key}");
    }
    // A broken neighbour would take ours down with it.
    assert_ne!(refusal_of(&custom("corp.server", "corp:53 {\n")).kind, RefusalKind::Conflict);
}

/// [T4]
#[test]
fn a_foreign_block_in_the_corefile_itself_is_a_conflict_with_its_line() {
    let refusal =
        refusal_of(&Survey::coredns(&format!("global:53 {{\n    forward . 10.9.9.9\n}}\n{KUBEADM}")));
    assert_eq!((refusal.kind, &*refusal.place), (RefusalKind::Conflict, "line 1"));
}

/// [T3] Where a better place has come up, the block stays where it is: twice is once too often.
#[test]
fn a_block_of_ours_in_the_main_corefile_stays_there() {
    let block = "global:53 cluster2:53 {\n    errors\n    cache 30\n    forward . 10.96.0.53\n}\n";
    let survey = Survey::coredns(&format!("{K3S}{block}")).mounting("/etc/coredns/custom", "coredns-custom");
    let ours = nothing_recorded().with(&stub());
    let planned = plan(&survey, layers(&survey).remove(0), Some(&stub()), &ours, false);
    assert_eq!(planned.layer.place.name(), "ConfigMap kube-system/coredns Corefile");
    assert_eq!(planned.outcome, Outcome::InPlace);
}

/// [T3] [T4]
#[test]
fn of_two_blocks_of_ours_in_one_process_the_one_in_our_own_key_goes() {
    let block = "global:53 cluster2:53 {\n    errors\n    cache 30\n    forward . 10.96.0.53\n}\n";
    let survey = Survey::coredns(&format!("{K3S}{block}"))
        .mounting("/etc/coredns/custom", "coredns-custom")
        .having("kube-system", "coredns-custom", json!({"globaldns.server": block}));
    let ours = nothing_recorded().with(&stub());
    let planned = plan(&survey, layers(&survey).remove(0), Some(&stub()), &ours, false);
    assert!(matches!(planned.outcome, Outcome::Refused(Refusal { kind: RefusalKind::Conflict, .. })));
    let without = plan(&survey, planned.layer, None, &ours, false);
    assert_eq!(without.layer.place.name(), "ConfigMap kube-system/coredns-custom globaldns.server");
    assert_eq!(without.outcome, Outcome::Change(Change { before: Some(block.to_owned()), after: None }));
}

/// [T4]
#[test]
fn who_writes_the_place_is_asked_of_the_place_that_was_settled_on() {
    let block = "global:53 cluster2:53 {\n    errors\n    cache 30\n    forward . 10.96.0.53\n}\n";
    let survey = Survey::coredns(&format!("{K3S}{block}"))
        .mounting("/etc/coredns/custom", "coredns-custom")
        .marking("coredns", json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}));
    let ours = nothing_recorded().with(&stub());
    let moved = stub_to(&["10.96.0.99:53"]);
    let planned = plan(&survey, layers(&survey).remove(0), Some(&moved), &ours, false);
    assert_eq!(planned.layer.place.name(), "ConfigMap kube-system/coredns Corefile");
    assert!(matches!(planned.outcome, Outcome::Emit(_)), "{:?}", planned.outcome);
}

/// [T11] submariner-operator PR#4144: without the user's file, which it imports by name, CoreDNS would not start.
#[test]
fn a_users_file_that_was_empty_is_empty_again_and_does_not_go() {
    let main = format!("import user/Corefile\n{KUBEADM}");
    let with = |text: &str| {
        Survey::coredns(&main).mounting("/etc/coredns/user", "coredns-user").having(
            "kube-system",
            "coredns-user",
            json!({"Corefile": text}),
        )
    };
    let change = change_of(&with(""), Some(&stub()));
    let done = with(change.after.as_deref().expect("a text"));
    let ours = nothing_recorded().with(&stub());
    let removed = plan(&done, layers(&done).remove(0), None, &ours, false);
    assert_eq!(removed.layer.place.name(), "ConfigMap kube-system/coredns-user Corefile");
    assert_eq!(removed.outcome, Outcome::Change(change.undone()));
    assert_eq!(change.before.as_deref(), Some(""));
}

/// [T4]
#[test]
fn what_others_manage_is_only_printed_unless_told_otherwise() {
    let survey = Survey::coredns(KUBEADM)
        .marking("coredns", json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}));
    assert!(
        matches!(plan_of(&survey, Some(&stub())).outcome, Outcome::Emit(text) if text.contains("10.96.0.53"))
    );
    let planned = plan(&survey, layers(&survey).remove(0), Some(&stub()), &nothing_recorded(), true);
    assert!(matches!(planned.outcome, Outcome::Change(_)));
    // Once its owner has put it there, it is as good as ours.
    let text = change_of(&Survey::coredns(KUBEADM), Some(&stub())).after.expect("a text");
    let done = Survey::coredns(&text)
        .marking("coredns", json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}));
    assert_eq!(plan_of(&done, Some(&stub())).outcome, Outcome::InPlace);
}

/// [T1] [T4]
#[test]
fn what_is_printed_for_its_owner_is_for_the_port_that_is_listened_on() {
    let helm = json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}});
    // Once the text says so, and once only the command line.
    let says = KUBEADM.replace(".:53", ".:1053");
    let flag = KUBEADM.replace(".:53", ".");
    for (corefile, arguments) in [(&says, None), (&flag, Some("-dns.port=1053"))] {
        let mut survey = Survey::coredns(corefile).marking("coredns", helm.clone());
        let container = &mut survey.pod.as_mut().expect("a pod").containers[0];
        container.args.get_or_insert_default().extend(arguments.map(str::to_owned));
        let mut layer = layers(&survey).remove(0);
        for flavour in [layer.flavour, emit::Flavour::Aks] {
            layer.flavour = flavour;
            let planned = plan(&survey, layer.clone(), Some(&stub()), &nothing_recorded(), false);
            let Outcome::Emit(text) = planned.outcome else { panic!("{:?}", planned.outcome) };
            // A chart's values have the port in a line of its own.
            let ours = text.split_once("global").expect("our zones").1;
            assert!(ours.contains("1053"), "{flavour:?}: {text}");
            assert!(!text.contains("global:53"), "{flavour:?}: {text}");
        }
    }
}

/// [T11]
#[test]
fn a_text_that_nothing_of_ours_can_be_in_does_not_hinder_a_removal() {
    let ours = nothing_recorded().with(&stub());
    for (text, expected) in [(".:53 {\n", true), (".:53 {\n    forward . 10.96.0.53\n", false)] {
        let mut survey = Survey::coredns(KUBEADM);
        let layer = layers(&survey).remove(0);
        survey = survey.having("kube-system", "coredns", json!({"Corefile": text}));
        let planned = plan(&survey, layer, None, &ours, false);
        assert_eq!(planned.outcome == Outcome::InPlace, expected, "{text}: {:?}", planned.outcome);
    }
}

/// [T4]
#[test]
fn nothing_is_forwarded_to_cluster_dns_itself() {
    let mut survey = Survey::coredns(KUBEADM).node_local("node-local-dns", "Corefile", KUBEADM, &[]);
    let spec = survey.service.as_mut().and_then(|service| service.spec.as_mut()).expect("a spec");
    spec.ip_families = Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
    for server in [
        "127.0.0.1:53",
        "127.0.0.53:5353",
        "[::1]:53",
        "[::ffff:127.0.0.1]:53",
        "169.254.20.10:53",
        "169.254.1.1:53",
        "[fe80::1]:53",
        "10.96.0.10:53",
        "10.96.0.10:5353",
        "10.244.0.3:53",
    ] {
        for layer in layers(&survey) {
            let wanted = stub_to(&["10.96.0.53:53", server]);
            let planned = plan(&survey, layer, Some(&wanted), &nothing_recorded(), true);
            let Outcome::Refused(refusal) = planned.outcome else {
                panic!("{server}: {:?}", planned.outcome)
            };
            assert_eq!((refusal.kind, &*refusal.place), (RefusalKind::Invalid, ""), "{server}");
            assert!(refusal.why.starts_with(server), "{server}: {refusal}");
        }
    }
    // A node's address may be cluster DNS's on one port and ours on another.
    let wanted = stub_to(&["10.244.0.3:5353"]);
    assert!(matches!(plan_of(&survey, Some(&wanted)).outcome, Outcome::Change(_)));
}

/// [T4]
#[test]
fn an_immutable_config_map_is_refused() {
    let mut survey = Survey::coredns(KUBEADM);
    for map in survey.config_maps.values_mut().flatten() {
        map.immutable = Some(true);
    }
    assert_eq!(refusal_of(&survey).place, "immutable");
}

/// [T3] Only the families that cluster DNS has: an address it cannot reach costs a timeout on every other miss.
#[test]
fn servers_of_other_families_are_left_out() {
    let both = stub_to(&["10.96.0.53:53", "[fd00::35]:53"]);
    let text = change_of(&Survey::coredns(KUBEADM), Some(&both)).after.expect("a text");
    assert!(text.contains("forward . 10.96.0.53\n"), "{text}");
    let mut survey = Survey::coredns(KUBEADM);
    let spec = survey.service.as_mut().and_then(|service| service.spec.as_mut()).expect("a spec");
    spec.ip_families = Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
    let text = change_of(&survey, Some(&both)).after.expect("a text");
    assert!(text.contains("forward . 10.96.0.53 fd00::35\n"), "{text}");
    let six = stub_to(&["[fd00::35]:53"]);
    let outcome = plan_of(&Survey::coredns(KUBEADM), Some(&six)).outcome;
    assert!(matches!(outcome, Outcome::Refused(refusal) if refusal.remedy.contains("ipFamilies")));
}

/// [T3] banzaicloud/istio-operator#391, istio/istio.io#4715: a tag may say anything, so `proxy` has to be in use there.
#[test]
fn only_a_coredns_before_1_1_that_uses_proxy_gets_proxy() {
    let proxying = KUBEADM.replace("forward . /etc", "proxy . /etc");
    let both = format!("{proxying}corp:53 {{\n    forward . 10.0.0.1\n}}\n");
    for (image, corefile, directive) in [
        ("coredns/coredns:1.0.6", &*proxying, "proxy . 10.96.0.53"),
        ("coredns/coredns:1.0.6", KUBEADM, "forward . 10.96.0.53"),
        ("coredns/coredns:1.0.6", &*both, "forward . 10.96.0.53"),
        ("coredns/coredns:1.1.3", &*proxying, "forward . 10.96.0.53"),
        ("coredns/coredns:1.6.5", KUBEADM, "forward . 10.96.0.53"),
        ("coredns@sha256:abcd", &*proxying, "forward . 10.96.0.53"),
    ] {
        let mut survey = Survey::coredns(corefile);
        survey.pod.as_mut().expect("a pod").containers[0].image = Some(image.to_owned());
        let text = change_of(&survey, Some(&stub())).after.expect("a text");
        assert!(text.contains(directive), "{image}: {text}");
    }
}

/// [T12] coredns/coredns#2633
#[test]
fn before_1_6_1_an_imported_key_needs_a_restart_and_the_plan_says_so() {
    for (image, says) in [("coredns/coredns:1.6.0", true), ("coredns/coredns:1.6.1", false)] {
        let mut survey = Survey::coredns(K3S).mounting("/etc/coredns/custom", "coredns-custom");
        survey.pod.as_mut().expect("a pod").containers[0].image = Some(image.to_owned());
        let notes = plan_of(&survey, Some(&stub())).notes;
        assert_eq!(notes.iter().any(|note| note.contains("restart its pods")), says, "{image}: {notes:?}");
    }
}

/// [T4] kubernetes/dns: the same zone in NodeLocal's own Corefile and in stubDomains crashes it on every node.
#[test]
fn a_zone_in_node_locals_corefile_is_a_conflict_for_stub_domains() {
    let corefile = "global:53 {\n    forward . 10.0.0.1\n}\n.:53 {\n    forward . 10.0.0.2\n}\n";
    let survey = Survey::coredns(KUBEADM).node_local("node-local-dns", "Corefile", corefile, &["kube-dns"]);
    let layer = layers(&survey).remove(1);
    let planned = plan(&survey, layer, Some(&stub()), &nothing_recorded(), false);
    assert!(matches!(planned.outcome, Outcome::Refused(Refusal { kind: RefusalKind::Conflict, .. })));
}

/// [T5]
#[test]
fn stub_domains_and_resources_are_planned_as_texts_of_one_field() {
    let survey = Survey::coredns(KUBEADM).node_local("n", "Corefile", KUBEADM, &["kube-dns"]);
    let planned = plan(&survey, layers(&survey).remove(1), Some(&stub()), &nothing_recorded(), false);
    let Outcome::Change(change) = planned.outcome else { panic!("{:?}", planned.outcome) };
    assert_eq!(change.before, None);
    assert_eq!(
        change.after.as_deref().map(str::trim),
        Some(r#"{"cluster2":["10.96.0.53"],"global":["10.96.0.53"]}"#)
    );
    let survey = Survey {
        openshift: Some(object(json!({"apiVersion": "operator.openshift.io/v1", "kind": "DNS",
            "metadata": {"name": "default"}, "spec": {}}))),
        ..Survey::coredns(KUBEADM)
    };
    let change = change_of(&survey, Some(&stub()));
    let servers: Value = serde_json::from_str(&change.after.expect("a text")).expect("JSON");
    assert_eq!(servers[0]["zones"], json!(["global", "cluster2"]));
}

/// [T4] [D22]
#[test]
fn a_reverse_zone_never_takes_the_names_of_pods_and_services() {
    let zone = |text: &str| crate::wire::name::Name::parse(text).expect(text);
    let wanted = |reverse: &str| {
        let server = "10.96.0.53:53".parse().expect("an address");
        Stub::new([zone("global"), zone(reverse)], [server]).expect("a stub")
    };
    let survey = Survey::coredns(KUBEADM);
    let change = change_of(&survey, Some(&wanted("240.in-addr.arpa")));
    let after = change.after.expect("a text");
    assert!(after.contains("global:53 240.in-addr.arpa:53 {\n"), "{after}");
    let done = Survey::coredns(&after);
    assert_eq!(plan_of(&done, Some(&wanted("240.in-addr.arpa"))).outcome, Outcome::InPlace);
    let mut on_node = Survey::coredns(KUBEADM);
    let range = |net: &str, holder| Range { net: net.parse().expect(net), holder };
    let ranges = vec![
        range("10.244.3.0/24", Holder::Pods),
        range("fd00:1::/64", Holder::Pods),
        range("10.97.0.0/16", Holder::Services),
        range("172.18.0.5/32", Holder::Nodes),
    ];
    on_node.told = Some(Told { ranges, pods: true, ..Told::default() });
    for (survey, reverse, what) in [
        (&survey, "10.in-addr.arpa", "10.96.0."),
        (&survey, "96.10.in-addr.arpa", "10.96.0."),
        (&survey, "53.0.96.10.in-addr.arpa", "10.96.0.53 in it, the address globaldns is asked at"),
        (&survey, "244.10.in-addr.arpa", "10.244.0.2 in it, an address of cluster DNS"),
        (&on_node, "7.3.244.10.in-addr.arpa", "10.244.3.0/24 in it, a range of pods"),
        (&on_node, "0.0.d.f.ip6.arpa", "fd00:1::/64 in it, a range of pods"),
        (&on_node, "9.97.10.in-addr.arpa", "10.97.0.0/16 in it, a range of Services"),
        (&on_node, "18.172.in-addr.arpa", "172.18.0.5 in it, the address of a node"),
    ] {
        match plan_of(survey, Some(&wanted(reverse))).outcome {
            Outcome::Refused(refusal) => {
                assert!(refusal.to_string().contains(&format!("{reverse} has ")), "{refusal}");
                assert!(refusal.why.contains(what), "{refusal}");
            }
            other => panic!("{reverse}: {other:?}"),
        }
    }
    let beside = plan_of(&on_node, Some(&wanted("243.10.in-addr.arpa")));
    assert!(matches!(beside.outcome, Outcome::Change(_)), "{beside:?}");
    // What is not known is not taken for free; a zone that is no reverse one is not held up by it.
    let why = || Some(Unlisted { why: "403".to_owned(), lasts: true });
    for (told, reverse, what) in [
        (None, "240.in-addr.arpa", Some("the cluster was not asked")),
        (
            Some(Told { no_nodes: why(), ..Told::default() }),
            "240.in-addr.arpa",
            Some("nodes cannot be listed (403)"),
        ),
        (
            Some(Told { no_services: why().zip(why()), pods: true, ..Told::default() }),
            "240.in-addr.arpa",
            Some("neither ServiceCIDRs (403) nor Services (403) can be listed"),
        ),
        (Some(Told::default()), "243.10.in-addr.arpa", Some("not every node has a spec.podCIDR")),
        (Some(Told::default()), "240.240.in-addr.arpa", None),
        (Some(Told::default()), "0.0.0.0.2.0.0.0.1.0.0.2.ip6.arpa", None),
    ] {
        let survey = Survey { told, ..Survey::coredns(KUBEADM) };
        match (plan_of(&survey, Some(&wanted(reverse))).outcome, what) {
            (Outcome::Change(_), None) => {}
            (Outcome::Refused(refusal), Some(what)) => assert!(refusal.why.contains(what), "{refusal}"),
            other => panic!("{reverse}: {other:?}"),
        }
        assert!(matches!(plan_of(&survey, Some(&stub())).outcome, Outcome::Change(_)));
    }
}
