use serde_json::json;

use super::*;
use crate::stub::fixture::{K3S, KUBEADM, object};

/// NodeLocal's Corefile as the upstream manifest has it, filled in.
const NODE_LOCAL: &str = "\
cluster.local:53 {
    errors
    cache
    reload
    loop
    bind 169.254.20.10 10.96.0.10
    forward . __PILLAR__CLUSTER__DNS__ {
        force_tcp
    }
    prometheus :9253
}
.:53 {
    errors
    cache 30
    reload
    loop
    bind 169.254.20.10 10.96.0.10
    forward . __PILLAR__UPSTREAM__SERVERS__
    prometheus :9253
}
";

fn only(survey: &Survey) -> Layer {
    let mut found = layers(survey);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// [T2]
#[test]
fn a_plain_coredns_has_its_place_in_the_corefile_its_pods_mount() {
    let layer = only(&Survey::coredns(KUBEADM));
    assert_eq!(layer.place.name(), "ConfigMap kube-system/coredns Corefile");
    assert!(matches!(&layer.place, Place::Corefile { port: 53, .. }));
    assert_eq!(layer.version, Some(Version(1, 12, 1)));
    assert_eq!(layer.flavour, Flavour::Coredns);
    let endpoints: Vec<_> = layer.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["10.244.0.2:53", "10.244.0.3:53", "10.96.0.10:53"]);
    assert_eq!(layer.families, [Family::V4]);
}

/// [T2] RKE2 and others name it differently: submariner-operator#3005, lighthouse#1602, cilium#40631.
#[test]
fn the_name_of_the_config_map_comes_from_the_volume() {
    let mut survey = Survey::coredns(KUBEADM).having("kube-system", "base", json!({"main.conf": KUBEADM}));
    survey.pod = Some(object(json!({
        "containers": [{
            "name": "dns", "image": "registry.example:5000/mirror/coredns@sha256:0123",
            "args": ["-conf=/srv/dns/Corefile", "-dns.port=1053"],
            "volumeMounts": [{"name": "v", "mountPath": "/srv/dns"}, {"name": "other", "mountPath": "/srv"}],
        }],
        "volumes": [
            {"name": "other", "emptyDir": {}},
            {"name": "v", "projected": {"sources": [{"configMap": {"name": "base",
                "items": [{"key": "main.conf", "path": "Corefile"}]}}]}},
        ],
    })));
    let layer = only(&survey);
    assert_eq!(layer.place.name(), "ConfigMap kube-system/base main.conf");
    assert_eq!(layer.version, None);
}

/// [T2] k3s, AKS and their family: k3s-io/k3s#462, Azure/AKS#811, submariner-operator#1046.
#[test]
fn an_imported_key_of_our_own_comes_before_the_corefile() {
    let survey = Survey::coredns(K3S).mounting("/etc/coredns/custom", "coredns-custom");
    let layer = only(&survey);
    assert_eq!(layer.place.name(), "ConfigMap kube-system/coredns-custom globaldns.server");
    let Place::DataKey { beside, .. } = &layer.place else { panic!("{:?}", layer.place) };
    assert_eq!(beside.len(), 1, "the main Corefile");
    assert!(layer.managed_by.is_empty());
}

/// [T2] Relative imports count from the Corefile; OKS imports `*.include` first.
#[test]
fn imports_are_resolved_from_the_corefile_and_give_the_suffix_of_our_key() {
    for (import, key) in [
        ("import custom/*.server", "globaldns.server"),
        ("import ./custom/*.server", "globaldns.server"),
        ("import custom/*.include\nimport custom/*.server", "globaldns.include"),
    ] {
        let text = format!("{KUBEADM}{import}\n");
        let survey = Survey::coredns(&text).mounting("/etc/coredns/custom", "coredns-custom");
        let expected = format!("ConfigMap kube-system/coredns-custom {key}");
        assert_eq!(only(&survey).place.name(), expected, "{import}");
    }
}

/// [T2] A ConfigMap that is called coredns-custom but that nothing imports does nothing: coredns/coredns#3412.
#[test]
fn without_the_import_a_config_map_of_that_name_is_no_place() {
    let survey = Survey::coredns(KUBEADM).mounting("/etc/coredns/custom", "coredns-custom");
    assert_eq!(only(&survey).place.name(), "ConfigMap kube-system/coredns Corefile");
    // Nor does the import help where nothing is mounted.
    let survey = Survey::coredns(&format!("{KUBEADM}import custom/*.server\n"));
    assert_eq!(only(&survey).place.name(), "ConfigMap kube-system/coredns Corefile");
}

/// [T2] gardener#6852: the port is that of the root block.
#[test]
fn the_port_is_that_of_the_root_block() {
    let text = K3S.replace(".:53", ".:8053");
    let survey = Survey::coredns(&text).mounting("/etc/coredns/custom", "coredns-custom");
    let layer = only(&survey);
    assert!(matches!(layer.place, Place::DataKey { port: 8053, .. }), "{:?}", layer.place);
}

/// [T2] submariner-operator PR#4144: Yandex imports one file of the user's.
#[test]
fn an_imported_corefile_of_the_users_is_the_place() {
    let text = format!("import /etc/coredns-user/Corefile\n{KUBEADM}");
    let survey = Survey::coredns(&text).mounting("/etc/coredns-user", "coredns-user").having(
        "kube-system",
        "coredns-user",
        json!({"Corefile": "corp:53 {\n    forward . 10.0.0.1\n}\n"}),
    );
    let layer = only(&survey);
    assert_eq!(layer.place.name(), "ConfigMap kube-system/coredns-user Corefile");
}

/// [T2]
#[test]
fn kube_dns_is_told_by_stub_domains() {
    let mut survey = Survey::coredns(KUBEADM);
    survey.pod = Some(object(json!({"containers": [
        {"name": "kubedns", "image": "registry.k8s.io/dns/k8s-dns-kube-dns:1.26.4",
            "args": ["--config-dir=/kube-dns-config"],
            "volumeMounts": [{"name": "c", "mountPath": "/kube-dns-config"}]},
        {"name": "dnsmasq", "image": "registry.k8s.io/dns/k8s-dns-dnsmasq-nanny:1.26.4"},
    ], "volumes": [{"name": "c", "configMap": {"name": "kube-dns", "optional": true}}]})));
    let layer = only(&survey);
    assert_eq!(layer.place.name(), "ConfigMap kube-system/kube-dns stubDomains");
    assert!(matches!(layer.place, Place::StubDomains { node_local: false, .. }));
    // NodeLocal in front reads the same key: one place, proved at both.
    let both = layers(&survey.node_local("node-local-dns", "Corefile", NODE_LOCAL, &["kube-dns"]));
    assert_eq!(both.len(), 1);
    assert!(both[0].endpoints.contains(&"169.254.20.10:53".parse().expect("an address")));
    let Place::StubDomains { node_local: true, beside, .. } = &both[0].place else { panic!("{both:?}") };
    assert_eq!(beside.len(), 1, "NodeLocal's Corefile");
}

/// [T2] NodeLocal goes past CoreDNS: kubernetes/dns#592, submariner#1549.
#[test]
fn node_local_is_a_second_layer() {
    let survey = Survey::coredns(KUBEADM).node_local("node-local-dns", "Corefile", NODE_LOCAL, &["kube-dns"]);
    let found = layers(&survey);
    let names: Vec<_> = found.iter().map(|layer| layer.place.name()).collect();
    assert_eq!(
        names,
        ["ConfigMap kube-system/coredns Corefile", "ConfigMap kube-system/kube-dns stubDomains"]
    );
    let endpoints: Vec<_> = found[1].endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["169.254.20.10:53", "10.96.0.10:53"]);
    let endpoints: Vec<_> = found[0].endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["10.244.0.2:53", "10.244.0.3:53"], "NodeLocal answers at the Service address");
}

/// [T2]
#[test]
fn node_local_without_kube_dns_has_its_place_in_its_own_corefile() {
    let corefile = NODE_LOCAL.replace("169.254.20.10 10.96.0.10", "169.254.25.10");
    let survey = Survey::coredns(KUBEADM).node_local("nodelocaldns", "Corefile", &corefile, &[]);
    let layer = layers(&survey).pop().expect("a layer");
    let Place::Corefile { bind, port: 53, .. } = &layer.place else { panic!("{:?}", layer.place) };
    assert_eq!(bind.words(), ["169.254.25.10"]);
    assert!(layer.managed_by[0].contains("kubespray"), "{:?}", layer.managed_by);
}

/// [T2]
#[test]
fn platforms_with_a_resource_of_their_own_come_first() {
    let resource = |kind: &str| {
        Some(object(json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "default"}, "spec": {}})))
    };
    let survey = Survey { openshift: resource("DNS"), ..Survey::coredns(KUBEADM) };
    assert_eq!(only(&survey).place, Place::OpenShift);
    let survey = Survey { custom_dns: resource("CustomDNSConfig"), ..Survey::coredns(KUBEADM) };
    assert_eq!(only(&survey).place, Place::CustomDns);
}

/// [T4] GKE's Cloud DNS, EKS Auto Mode: hashicorp/consul#17977.
#[test]
fn where_no_pods_answer_there_is_no_place() {
    let survey = Survey { nameservers: vec!["169.254.169.254".parse().expect("one")], ..Survey::default() };
    assert_eq!((only(&survey).place, only(&survey).flavour), (Place::Nowhere, Flavour::GkeCloudDns));
    let node = object(json!({"metadata": {"labels": {"eks.amazonaws.com/compute-type": "auto"}}}));
    let survey = Survey { node: Some(node), ..Survey::default() };
    assert_eq!((only(&survey).place, only(&survey).flavour), (Place::Nowhere, Flavour::EksAuto));
}

/// [T4] Who reverts: AKS#811, istio#13781, kops#7762, argo-cd#6521, k3s#2214, submariner-operator#3005.
#[test]
fn the_marks_of_other_writers_are_found() {
    let eks = json!({"managedFields": [{"manager": "eks", "operation": "Apply", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:Corefile": {}}}}]});
    let cases = [
        (
            json!({"labels": {"addonmanager.kubernetes.io/mode": "Reconcile"}}),
            "the addon manager",
            Flavour::Coredns,
        ),
        (json!({"labels": {"addon.kops.k8s.io/name": "coredns.addons.k8s.io"}}), "kops", Flavour::Kops),
        (json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}), "Helm", Flavour::HelmCoredns),
        (json!({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}), "Argo CD", Flavour::Coredns),
        (json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}), "Flux", Flavour::Coredns),
        (
            json!({"annotations": {"objectset.rio.cattle.io/owner-gvk": "k3s.cattle.io/v1, Kind=Addon"}}),
            "k3s",
            Flavour::K3s,
        ),
        (eks, "the EKS add-on", Flavour::EksAddon),
        (
            json!({"labels": {"dns.operator.openshift.io/owning-dns": "default"}}),
            "OpenShift's DNS operator",
            Flavour::Coredns,
        ),
        (
            json!({"ownerReferences": [{"apiVersion": "example/v1", "kind": "Dns", "name": "main", "uid": "1",
                "controller": true}]}),
            "Dns main",
            Flavour::Coredns,
        ),
    ];
    for (metadata, who, flavour) in cases {
        let layer = only(&Survey::coredns(KUBEADM).marking("coredns", metadata.clone()));
        assert!(layer.managed_by.iter().any(|by| by.starts_with(who)), "{metadata}: {:?}", layer.managed_by);
        assert_eq!(layer.flavour, flavour, "{metadata}");
    }
    // EnsureExists only creates what is missing.
    let ensured = json!({"labels": {"addonmanager.kubernetes.io/mode": "EnsureExists"}});
    assert!(only(&Survey::coredns(KUBEADM).marking("coredns", ensured)).managed_by.is_empty());
}

/// [T4]
#[test]
fn what_runs_neither_coredns_nor_kube_dns_is_unclear() {
    let mut survey = Survey::coredns(KUBEADM);
    survey.pod = Some(object(json!({"containers": [{"name": "x", "image": "example/other:1"}]})));
    assert!(matches!(only(&survey).place, Place::Unclear(_)));
    // A Corefile from anywhere but a ConfigMap is none we can edit.
    let mut survey = Survey::coredns(KUBEADM);
    survey.pod = Some(object(json!({"containers": [
        {"name": "coredns", "image": "coredns/coredns:1.11.3", "args": ["-conf", "/etc/coredns/Corefile"]}]})));
    assert!(matches!(only(&survey).place, Place::Unclear(_)));
}

#[test]
fn versions_are_read_from_tags_of_every_form() {
    let cases = [
        ("registry.k8s.io/coredns/coredns:v1.12.1", Some(Version(1, 12, 1))),
        (
            "602401143452.dkr.ecr.eu-west-1.amazonaws.com/eks/coredns:v1.11.4-eksbuild.2",
            Some(Version(1, 11, 4)),
        ),
        ("localhost:5000/coredns:1.9", Some(Version(1, 9, 0))),
        ("localhost:5000/coredns", None),
        ("coredns/coredns:1.6.5@sha256:abcd", Some(Version(1, 6, 5))),
        ("coredns@sha256:abcd", None),
        ("rancher/mirrored-coredns-coredns:latest", None),
    ];
    for (image, version) in cases {
        assert_eq!(Version::of_image(image), version, "{image}");
    }
}

/// [T4] Only a ConfigMap that is needed has to be readable.
#[test]
fn a_config_map_we_may_not_read_leaves_the_place_unclear_only_where_it_is_needed() {
    let unread = |survey: &Survey, name: &str| {
        let found = layers(survey);
        let Place::Unclear(refusal) = &found.last().expect("a layer").place else {
            panic!("{name}: {:?}", found)
        };
        assert_eq!(refusal.kind, RefusalKind::Unsure);
        assert_eq!(refusal.why, format!("ConfigMap kube-system/{name} cannot be read"));
        assert!(refusal.remedy.starts_with("grant get, list, watch, update and patch"), "{}", refusal.remedy);
    };
    unread(&Survey::coredns(KUBEADM).forbidding("coredns"), "coredns");
    let custom = Survey::coredns(K3S).mounting("/etc/coredns/custom", "coredns-custom");
    unread(&custom.forbidding("coredns-custom"), "coredns-custom");
    let local = Survey::coredns(KUBEADM).node_local("nodelocaldns", "Corefile", NODE_LOCAL, &["kube-dns"]);
    unread(&local.clone().forbidding("kube-dns"), "kube-dns");
    unread(&local.forbidding("nodelocaldns"), "nodelocaldns");
    // Nothing imports this one.
    let beside = Survey::coredns(KUBEADM).mounting("/etc/coredns/custom", "other").forbidding("other");
    assert_eq!(only(&beside).place.name(), "ConfigMap kube-system/coredns Corefile");
}

/// [T12]
#[test]
fn two_layers_without_a_place_have_two_names() {
    let survey = Survey { service: None, ..Survey::coredns(KUBEADM) };
    let survey = survey.node_local("nodelocaldns", "Corefile", NODE_LOCAL, &[]).forbidding("nodelocaldns");
    let names: Vec<_> = layers(&survey).iter().map(Layer::name).collect();
    assert_eq!(names, ["nothing (cluster-dns)", "nothing (node-local)"]);
    let layer = only(&Survey::coredns(KUBEADM));
    assert_eq!(layer.name(), layer.place.name());
}

/// [T2]
#[test]
fn without_a_root_block_the_port_is_that_of_the_process() {
    let mut survey = Survey::coredns("corp {\n    forward . 10.0.0.1\n}\n");
    let container = &mut survey.pod.as_mut().expect("a pod").containers[0];
    container.args.get_or_insert_default().extend(["-dns.port".to_owned(), "1053".to_owned()]);
    let layer = only(&survey);
    assert!(matches!(layer.place, Place::Corefile { port: 1053, .. }), "{:?}", layer.place);
}

/// The keys that the place's own process reads beside it.
fn beside(layer: &Layer) -> Vec<String> {
    let (Place::DataKey { beside, .. } | Place::Corefile { beside, .. } | Place::StubDomains { beside, .. }) =
        &layer.place
    else {
        panic!("{:?}", layer.place)
    };
    beside.iter().map(|other| format!("{}/{}", other.config_map.1, other.key)).collect()
}

/// [T4]
#[test]
fn whatever_an_import_matches_is_beside_the_place() {
    let corp = "corp {\n    forward . 10.0.0.1\n}\n";
    let with = |import: &str| {
        Survey::coredns(&format!("{KUBEADM}import /etc/coredns/custom/{import}\n"))
            .mounting("/etc/coredns/custom", "coredns-custom")
            .having("kube-system", "coredns-custom", json!({"zone-a.conf": corp, "b.server": corp}))
    };
    let cases: [(&str, &[&str]); 7] = [
        ("*", &["coredns-custom/b.server", "coredns-custom/zone-a.conf"]),
        ("zone-*", &["coredns-custom/zone-a.conf"]),
        ("zone-*.conf", &["coredns-custom/zone-a.conf"]),
        ("*conf", &["coredns-custom/zone-a.conf"]),
        ("b.server", &["coredns-custom/b.server"]),
        ("zone-a.c*.conf", &[]),
        ("*.server", &["coredns/Corefile", "coredns-custom/b.server"]),
    ];
    for (import, expected) in cases {
        assert_eq!(beside(&only(&with(import))), expected, "{import}");
    }
    // CoreDNS does not mind in which field a key is.
    let mut survey = with("*.server");
    let map = survey
        .config_maps
        .values_mut()
        .flatten()
        .find(|map| map.metadata.name.as_deref() == Some("coredns-custom"));
    let octets = k8s_openapi::ByteString(b"x.org {\n}\n".to_vec());
    map.expect("one").binary_data = Some(BTreeMap::from([("c.server".to_owned(), octets)]));
    assert_eq!(
        beside(&only(&survey)),
        ["coredns/Corefile", "coredns-custom/b.server", "coredns-custom/c.server"]
    );
}

/// [T4]
#[test]
fn other_keys_of_the_corefiles_own_config_map_are_beside_it() {
    let text = format!("{KUBEADM}import extra.conf\nimport more-*\n");
    let mut survey = Survey::coredns(KUBEADM).having(
        "kube-system",
        "coredns",
        json!({"Corefile": text, "extra.conf": "a.org {\n}\n", "more-1": "b.org {\n}\n"}),
    );
    let volumes = survey.pod.as_mut().expect("a pod").volumes.as_mut().expect("volumes");
    volumes[0].config_map.as_mut().expect("one").items = None;
    assert_eq!(beside(&only(&survey)), ["coredns/extra.conf", "coredns/more-1"]);
}

/// [T4] What cannot be read could serve one of our zones.
#[test]
fn an_import_of_what_we_cannot_read_leaves_the_place_unclear() {
    let with = |import: &str, volume: serde_json::Value| {
        let mut survey = Survey::coredns(&format!("{KUBEADM}import {import}\n"))
            .mounting("/etc/coredns/custom", "coredns-custom");
        let mut changed = volume;
        changed["name"] = "coredns-custom".into();
        survey.pod.as_mut().expect("a pod").volumes.as_mut().expect("volumes")[1] = object(changed);
        only(&survey).place
    };
    let line = format!("line {}", KUBEADM.lines().count() + 1);
    let absent = json!({"configMap": {"name": "coredns-custom", "optional": true}});
    let two =
        json!({"projected": {"sources": [{"configMap": {"name": "one"}}, {"configMap": {"name": "two"}}]}});
    let named = json!({"projected": {"sources": [{"configMap": {"name": "one"}},
        {"configMap": {"name": "two", "items": [{"key": "k", "path": "x.server"}]}}]}});
    for (import, volume) in [
        ("custom/*.server", json!({"hostPath": {"path": "/srv"}})),
        ("custom/*.server", json!({"secret": {"secretName": "s"}})),
        ("custom/x.server", json!({"emptyDir": {}})),
        ("custom/*.server", two.clone()),
        ("custom/x.server", two),
        ("custom/*.server", named.clone()),
        ("custom/?.server", absent.clone()),
        ("cust*/x.server", absent.clone()),
        ("custom/../*.server", absent.clone()),
        ("/srv/x.server", absent.clone()),
    ] {
        let place = with(import, volume.clone());
        let Place::Unclear(refusal) = &place else { panic!("{import} {volume}: {place:?}") };
        assert_eq!(refusal.kind, RefusalKind::Unsure);
        assert!(refusal.place.ends_with(&line) && refusal.why.contains(import), "{refusal}");
    }
    for (import, volume) in
        [("custom/*.server", absent.clone()), ("custom/x.server", named), ("/srv/*.server", absent)]
    {
        let place = with(import, volume);
        assert!(place.config_map().is_some(), "{import}: {place:?}");
    }
}

/// [T4]
#[test]
fn what_node_locals_corefile_imports_is_beside_its_place() {
    let text = format!("{NODE_LOCAL}import /etc/coredns/extra/*.server\n");
    let with = |name: &str, mounts: &[&str]| {
        let mut survey = Survey::coredns(KUBEADM).node_local(name, "Corefile", &text, mounts);
        let set = survey.node_local.as_mut().and_then(|set| set.spec.as_mut()).expect("a spec");
        let pod = set.template.spec.as_mut().expect("a pod");
        pod.containers[0].volume_mounts =
            Some(vec![object(json!({"name": "extra", "mountPath": "/etc/coredns/extra"}))]);
        pod.volumes
            .as_mut()
            .expect("volumes")
            .push(object(json!({"name": "extra", "configMap": {"name": "extra"}})));
        survey.having("kube-system", "extra", json!({"a.server": "a.org {\n}\n"}))
    };
    let layer = layers(&with("nodelocaldns", &[])).pop().expect("a layer");
    assert_eq!(beside(&layer), ["extra/a.server"]);
    let layer = layers(&with("node-local-dns", &["kube-dns"])).pop().expect("a layer");
    assert_eq!(beside(&layer), ["node-local-dns/Corefile", "extra/a.server"]);
}

/// [T4] kubernetes/dns#539: NodeLocal ignores a ConfigMap that names a server by its host name.
#[test]
fn what_kube_dns_shares_with_node_local_has_to_suit_both() {
    use crate::stub::fixture::{nothing_recorded, stub};
    use crate::stub::plan::{Outcome, plan};
    let mut kube_dns = Survey::coredns(KUBEADM).having(
        "kube-system",
        "kube-dns",
        json!({STUB_DOMAINS: r#"{"corp": ["dns.corp.example"]}"#}),
    );
    kube_dns.pod =
        Some(object(json!({"containers": [{"name": "kubedns", "image": "x/k8s-dns-kube-dns:1"}]})));
    let outcome =
        |survey: &Survey| plan(survey, only(survey), Some(&stub()), &nothing_recorded(), false).outcome;
    assert!(matches!(outcome(&kube_dns), Outcome::Change(_)));
    let mut both = kube_dns.clone().node_local("node-local-dns", "Corefile", NODE_LOCAL, &["kube-dns"]);
    both.config_maps.extend(kube_dns.config_maps);
    let Outcome::Refused(refusal) = outcome(&both) else { panic!("{:?}", outcome(&both)) };
    assert!(refusal.why.contains("NodeLocal DNSCache ignores"), "{refusal}");
}
