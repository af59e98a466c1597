use super::*;
use crate::stub::fixture::KUBEADM;
use crate::wire::name::Name;

fn corefile(text: &str) -> Corefile<'_> {
    Corefile::parse(text, &Process::default()).unwrap_or_else(|refusal| panic!("{text:?}: {refusal}"))
}

#[test]
fn the_default_of_kubeadm_serves_the_root_and_reloads() {
    let file = corefile(KUBEADM);
    let claims: Vec<_> = file.claims().map(|claim| (&claim.zone, claim.port, claim.line)).collect();
    assert_eq!(claims, [(&Zone::Root, Some(53), 1)]);
    assert_eq!(file.root_port(), Some(53));
    assert_eq!(file.root_bind(), Ok(Bind::default()));
    assert!(file.reloads());
    assert_eq!(file.imports(), []);
}

/// submariner-io/submariner-operator#1503
#[test]
fn the_port_is_that_of_the_root_server() {
    let cases = [
        ("corp:53 {\n}\n.:5353 {\n}\nhostname.bind:5353 {\n}\n", Some(5353)),
        (".:8053 {\n}\n", Some(8053)),
        (". {\n}\n", Some(53)),
        ("tls://.:853 {\n}\n.:1053 {\n}\n", Some(1053)),
        ("corp .:54 {\n}\n", Some(54)),
        (".:53 {\n}\n.:54 {\n}\n", Some(53)),
        ("corp:53 {\n}\n", None),
    ];
    for (text, port) in cases {
        assert_eq!(corefile(text).root_port(), port, "{text}");
    }
    let process = Process { port: 1053, ..Process::default() };
    assert_eq!(Corefile::parse(". {\n}", &process).expect("a file").root_port(), Some(1053));
}

#[test]
fn the_bind_of_the_root_server_can_be_copied() {
    let bind = |text: &str| corefile(text).root_bind().map(|bind| bind.words().to_vec());
    let node_local =
        "cluster.local:53 {\n bind 1.1.1.1\n}\n.:53 {\n bind 169.254.20.10 fd00::10\n bind lo\n}\n";
    let words = ["169.254.20.10", "fd00::10", "lo"].map(str::to_owned).to_vec();
    assert_eq!(bind(node_local), Ok(words));
    assert_eq!(bind(".:53 {\n bind {$NODE_IP}\n}\n"), Ok(vec!["{$NODE_IP}".to_owned()]));
    assert_eq!(bind("(b) {\n bind lo\n}\n. {\n import b\n}\n"), Ok(vec!["lo".to_owned()]));
    let refusal = bind("\n.:53 {\n bind eth0 {\n except 10.0.0.1\n }\n}\n").expect_err("except");
    assert_eq!((refusal.kind, refusal.place.as_str()), (RefusalKind::Unsure, "line 2"));
    assert!(bind(".:53 {\n bind \"a b\"\n}\n").is_err());
}

#[test]
fn imports_say_where_they_are_and_what_they_bring() {
    let text = "\
(common) {
    import /etc/errors
    errors
}
import custom/*.server
.:53 {
    import common
    import custom/*.override
    hosts {
        import hosts.inc
    }
}
corp:53 {
    import {$FILE}
}
import /etc/coredns-user/Corefile
";
    let file = corefile(text);
    let imports: Vec<_> =
        file.imports().iter().map(|i| (i.argument.as_str(), i.line, i.place, i.kind)).collect();
    assert_eq!(
        imports,
        [
            ("custom/*.server", 5, Place::Top, ImportKind::Glob),
            ("common", 7, Place::Root, ImportKind::Snippet),
            ("/etc/errors", 2, Place::Root, ImportKind::File),
            ("custom/*.override", 8, Place::Root, ImportKind::Glob),
            ("hosts.inc", 10, Place::Root, ImportKind::File),
            ("{$FILE}", 14, Place::Server, ImportKind::File),
            ("/etc/coredns-user/Corefile", 16, Place::Top, ImportKind::File),
        ]
    );
    assert!(!file.reloads());
}

#[test]
fn claims_are_told_apart_by_zone_port_and_transport() {
    let text =
        "Global:53 tls://corp {\n}\n(s) {\n eu.global {\n }\n}\nimport s\n{$X}:53 {\n}\n10.0.0.0/8 {\n}\n";
    let file = corefile(text);
    let claims: Vec<_> = file.claims().map(|c| (c.key.as_str(), c.port, c.transport, c.line)).collect();
    assert_eq!(
        claims,
        [
            ("Global:53", Some(53), "dns", 1),
            ("tls://corp", Some(853), "tls", 1),
            ("eu.global", Some(53), "dns", 4),
            ("{$X}:53", Some(53), "dns", 8),
            ("10.0.0.0/8", Some(53), "dns", 10),
        ]
    );
    let global = Name::parse("global").expect("a name");
    assert_eq!(file.claims().filter(|claim| claim.serves(&global, 53)).count(), 1);
    assert_eq!(file.claims().filter(|claim| claim.serves(&global, 5353)).count(), 0);
    assert_eq!(file.claims().filter(|claim| claim.could_serve(&global, 53)).count(), 1);
}
