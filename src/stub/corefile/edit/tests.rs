use std::net::SocketAddr;

use super::*;
use crate::stub::Stub;
use crate::stub::corefile::{Bind, Plugin};
use crate::stub::fixture::KUBEADM;

const OURS: &str = "\
# BEGIN globaldns managed stub zones (do not edit)
global:53 cluster2:53 {
    errors
    cache 30
    forward . 10.96.0.53
}
# END globaldns managed stub zones
";

/// What kubeadm's upgrade makes of it.
const MIGRATED: &str = "\
global:53 cluster2:53 {
    errors
    cache 30
    forward . 10.96.0.53 {
        max_concurrent 1000
    }
    loop
}
";

pub(in crate::stub::corefile) fn stub(zones: &[&str], servers: &[&str]) -> Stub {
    let servers = servers.iter().map(|text| server(text));
    Stub::new(zones.iter().map(|text| zone(text)), servers).expect("a stub")
}

pub(super) fn zone(text: &str) -> Name {
    Name::parse(text).expect(text)
}

fn server(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

/// What most tests want.
pub(in crate::stub::corefile) fn block() -> Block {
    Block::new(stub(&["global", "cluster2"], &["10.96.0.53:53"]), 53)
}

fn apply_as(text: &str, wanted: &Block, ours: &Ours) -> Result<Edit, Refusal> {
    let edited = edit(text, Some(wanted), ours, &Process::default())?;
    let again = edit(&edited.text, Some(wanted), ours, &Process::default()).expect("edited again");
    assert_eq!((again.text.as_str(), again.steps.as_slice()), (edited.text.as_str(), &[][..]), "not settled");
    assert_eq!(edited.changes(), edited.text != text);
    Ok(edited)
}

fn apply(text: &str) -> Edit {
    apply_as(text, &block(), &Ours::default()).unwrap_or_else(|refusal| panic!("{text}: {refusal}"))
}

fn refused(text: &str) -> Refusal {
    apply_as(text, &block(), &Ours::default()).expect_err(text)
}

fn remove(text: &str) -> Edit {
    edit(text, None, &Ours::default().with(&block().stub), &Process::default())
        .unwrap_or_else(|refusal| panic!("{text}: {refusal}"))
}

#[test]
fn the_texts_are_exact() {
    assert_eq!(block().to_string(), OURS);
    let bare = OURS.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n"));
    assert_eq!(block().bare(), bare.collect::<String>());
    let nodelocal = Block {
        port: 5353,
        bind: Bind::new(["169.254.25.10"]).expect("an address"),
        plugin: Plugin::Proxy,
        stub: stub(&["global"], &["10.96.0.53:53", "[fd00::35]:1053"]),
    };
    assert_eq!(
        nodelocal.bare(),
        "global:5353 {\n    errors\n    cache 30\n    bind 169.254.25.10\n    proxy . 10.96.0.53 [fd00::35]:1053\n}\n"
    );
    assert_eq!(Bind::new(["a b"]), None);
    assert_eq!(Bind::new(["{"]), None);
    assert_eq!(Bind::new([""]), None);
}

/// kubernetes/kubernetes#82889, kubernetes/kubeadm#2830: the upgrade stops at plugins it does not know.
#[test]
fn our_block_has_no_plugin_that_stops_an_upgrade() {
    let text = block().bare();
    let file = Corefile::parse(&text, &Process::default()).expect("a file");
    let names: Vec<_> = file.parts.servers[0].directives.iter().map(|d| d.name().to_owned()).collect();
    assert_eq!(names, ["errors", "cache", "forward"]);
    assert!(file.parts.servers[0].directives.iter().all(|d| d.options().is_empty()));
}

#[test]
fn a_new_block_goes_to_the_end() {
    let edited = apply(KUBEADM);
    assert_eq!(edited.text, format!("{KUBEADM}{OURS}"));
    assert_eq!(edited.steps, [Step::Added(21)]);
    assert_eq!(edited.warnings, [""; 0]);
    let removed = remove(&edited.text);
    assert_eq!((removed.text.as_str(), removed.steps.as_slice()), (KUBEADM, &[Step::Removed(21)][..]));
    assert!(!remove(KUBEADM).changes());
}

#[test]
fn removing_restores_every_ending() {
    let bodies = [
        "",
        "\n",
        "\u{feff}",
        "# a",
        "# a\n",
        "a {\n}",
        "a {\n}\n",
        "a {\n}\n\n\n",
        "a {\n}\n  ",
        "a {\n}\r",
    ];
    for body in bodies.map(str::to_owned).into_iter().chain(bodies.map(|body| body.replace('\n', "\r\n"))) {
        let edited = apply(&body);
        assert!(edited.text.starts_with(&body), "{body:?}: {:?}", edited.text);
        assert_eq!(edited.text.ends_with('\n'), body.is_empty() || body.ends_with('\n'), "{body:?}");
        let crlf = body.contains("\r\n");
        assert_eq!(
            edited.text.matches("\r\n").count() == edited.text.matches('\n').count(),
            crlf,
            "{body:?}"
        );
        assert_eq!(remove(&edited.text).text, body, "{body:?}");
    }
}

/// What others add below our block stays when it goes.
#[test]
fn removing_leaves_what_was_added_after_us() {
    for body in ["a {\n}", "a {\n}\n"] {
        let applied = apply(body).text;
        let newline = if applied.ends_with('\n') { "" } else { "\n" };
        let grown = format!("{applied}{newline}b {{\n}}\n");
        assert_eq!(remove(&grown).text, "a {\n}\nb {\n}\n");
    }
}

/// kubernetes/kubernetes#88811: kubeadm's upgrade writes the tokens anew, without comments.
#[test]
fn a_block_written_anew_by_others_is_still_ours() {
    let reordered = "cluster2:53 global:53 {\n\tforward . dns://10.96.0.53:53\n\tcache\n\terrors\n\tlog\n}\n";
    let upper = "GLOBAL.:53,\nCluster2 {\n forward . 10.96.0.53\n}\n";
    let each = "global:53 {\n forward . 10.96.0.53\n}\ncluster2:53 {\n errors\n forward . 10.96.0.53\n}\n";
    for text in [MIGRATED, reordered, upper, each, OURS] {
        let text = format!("{text}{KUBEADM}");
        assert_eq!(apply(&text).steps, [], "{text}");
        assert_eq!(remove(&text).text, KUBEADM, "{text}");
    }
}

/// banzaicloud/istio-operator looked for its block from the second one on.
#[test]
fn a_block_that_says_something_else_is_replaced_where_it_is() {
    let old = Ours::default().with(&stub(&["global", "old"], &["10.96.0.99:53"]));
    let unmarked = "global:53 old:53 {\n    errors\n    cache 30\n    forward . 10.96.0.99\n}\n";
    let marked = format!(
        "{BEGIN}\n{unmarked}{END}\n",
        BEGIN = OURS.lines().next().expect("a line"),
        END = OURS.lines().last().expect("a line")
    );
    let other_port = OURS.replace(":53", ":5353");
    let old_proxy = OURS.replace("forward", "proxy");
    let bound = OURS.replace("    cache", "    bind lo\n    cache");
    let twice = OURS.replace("    cache 30\n", "    cache 30\n    cache 30\n");
    let no_server = OURS.replace("    forward . 10.96.0.53\n", "");
    let excepted = OURS.replace("10.96.0.53\n", "10.96.0.53 {\n except x.global\n }\n");
    for text in [unmarked, &marked, &other_port, &old_proxy, &bound, &twice, &no_server, &excepted] {
        for (before, after) in [("", KUBEADM), (KUBEADM, ""), (KUBEADM, "corp:53 {\n whoami\n}\n")] {
            let whole = format!("{before}{text}{after}");
            let edited =
                apply_as(&whole, &block(), &old).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
            assert_eq!(edited.text, format!("{before}{OURS}{after}"));
            assert_eq!(edited.steps, [Step::Replaced(1 + before.lines().count())]);
        }
    }
}

/// submariner-io/submariner-operator#620: a reinstalled server has another address, and no record of the old one.
#[test]
fn a_marked_block_is_ours_whatever_it_asks() {
    for old in ["10.96.0.99", "/etc/resolv.conf"] {
        let stale = OURS.replace("10.96.0.53", old);
        assert_eq!(apply(&format!("{stale}{KUBEADM}")).text, format!("{OURS}{KUBEADM}"));
        assert_eq!(remove(&format!("{KUBEADM}{stale}")).text, KUBEADM);
    }
    assert_eq!(refused(&MIGRATED.replace("10.96.0.53", "10.96.0.99")).kind, RefusalKind::Conflict);
}

#[test]
fn of_several_copies_one_is_left() {
    let stale = MIGRATED.replace(" cluster2:53", "");
    let cases = [
        (format!("{OURS}{KUBEADM}{MIGRATED}"), format!("{OURS}{KUBEADM}"), vec![Step::Removed(28)]),
        (format!("{stale}{KUBEADM}{OURS}"), format!("{KUBEADM}{OURS}"), vec![Step::Removed(1)]),
        (
            format!("{stale}{KUBEADM}{stale}"),
            format!("{OURS}{KUBEADM}"),
            vec![Step::Replaced(1), Step::Removed(29)],
        ),
    ];
    for (text, expected, steps) in cases {
        let edited = apply(&text);
        assert_eq!((edited.text, edited.steps), (expected, steps), "{text}");
    }
    let ended = format!("{KUBEADM}{OURS}{OURS}");
    assert_eq!(remove(&ended).text, KUBEADM);
    assert_eq!(remove(ended.trim_end()).text, KUBEADM.trim_end());
}

#[test]
fn a_foreign_block_with_our_zone_is_a_conflict() {
    let cases = [
        ("GLOBAL.:53 {\n    forward . 10.0.0.1\n}\n", 1, "it asks 10.0.0.1"),
        ("\nglobal {\n    whoami\n}\n", 2, "it has whoami"),
        ("dns://global:53 {\n    errors\n}\n", 1, "it asks no server"),
        ("corp:53,\nglobal:53 {\n    forward . 10.96.0.53\n}\n", 2, "it serves corp:53 too"),
        ("global:53 {\n    import mesh.inc\n}\n", 1, "it imports a file"),
        ("global:53 {\n    forward . 10.96.0.53 10.0.0.1\n}\n", 1, "it asks 10.0.0.1"),
        ("global:53 {\n    forward . /etc/resolv.conf\n}\n", 1, "it asks /etc/resolv.conf"),
        ("global:53 {\n    forward .\n}\n", 1, "it asks no server"),
        (
            "global:53 {\n forward . tls://10.96.0.53 {\n tls_servername x\n }\n}\n",
            1,
            "its forward has the option tls_servername",
        ),
        (
            "(x) {\n forward . 10.96.0.53\n}\nglobal:53 {\n import x\n}\n",
            4,
            "some of it comes from a snippet",
        ),
        ("(x) {\n global {\n forward . 10.96.0.53\n }\n}\nimport x\n", 2, "some of it comes from a snippet"),
    ];
    for (text, line, why) in cases {
        for text in [format!("{text}{KUBEADM}"), format!("{text}{OURS}")] {
            let refusal = refused(&text);
            assert_eq!(refusal.kind, RefusalKind::Conflict, "{text}");
            assert_eq!(refusal.place, format!("line {line}"), "{text}");
            let expected = format!("global is served on port 53 by a block that is not ours: {why}");
            assert_eq!(refusal.why, expected, "{text}");
        }
        let removed = remove(&format!("{text}{OURS}"));
        assert_eq!((removed.text.as_str(), removed.warnings.len()), (text, 1), "{:?}", removed.warnings);
    }
}

/// Our comments are a hint: what somebody else has put between them stays his.
#[test]
fn what_others_put_between_our_comments_is_theirs() {
    let (begin, end) = (OURS.lines().next().expect("a line"), OURS.lines().last().expect("a line"));
    let foreign = format!("{begin}\ncorp:53 {{\n    forward . 10.0.0.1\n}}\n{end}\n");
    assert_eq!(apply(&foreign).text, format!("{foreign}{OURS}"));
    assert_eq!(remove(&format!("{foreign}{OURS}")).text, foreign);
    for (from, to) in [("cluster2:53", "cluster2:53 corp:53"), ("    errors\n", "    rewrite name a b\n")] {
        let merged = OURS.replace(from, to);
        assert_eq!(refused(&merged).kind, RefusalKind::Conflict);
        let removed = remove(&merged);
        assert_eq!((removed.text.as_str(), removed.warnings.len()), (merged.as_str(), 1));
    }
    // A second block between the comments, or one comment only: zones and servers decide.
    let shared = OURS.replace(end, &format!("corp:53 {{\n}}\n{end}"));
    assert_eq!(apply(&shared).steps, []);
    assert_eq!(remove(&shared).text, format!("corp:53 {{\n}}\n{end}\n"));
    let half = OURS.replace(&format!("{end}\n"), "");
    assert_eq!(apply(&half).steps, []);
    assert_eq!(remove(&format!("{half}{KUBEADM}")).text, KUBEADM);
    assert_eq!(refused(&half.replace("10.96.0.53", "10.0.0.1")).kind, RefusalKind::Conflict);
}

/// [T3] What is taken out is gone at once: nothing is left for a second removal.
#[test]
fn comments_around_our_comments_go_with_them() {
    let others = "corp {\n    whoami\n}\n";
    for inner in [OURS.to_owned(), format!("{OURS}{}", OURS.replace("10.96", "10.97"))] {
        let text = format!(
            "{others}# BEGIN globaldns\n# BEGIN globaldns\n{inner}# END globaldns\n# END globaldns\n{others}"
        );
        let ours = Ours::default().with(&stub(&["global", "cluster2"], &["10.96.0.53:53", "10.97.0.53:53"]));
        let removed = edit(&text, None, &ours, &Process::default()).expect("no refusal");
        assert_eq!(removed.text, format!("{others}{others}"));
    }
}

#[test]
fn comments_around_nothing_are_used_again() {
    let (begin, end) = (OURS.lines().next().expect("a line"), OURS.lines().last().expect("a line"));
    let stale = format!("{begin}\n# global:53 {{\n{end}\n");
    let edited = apply(&format!("{stale}{KUBEADM}"));
    assert_eq!((edited.text, edited.steps), (format!("{OURS}{KUBEADM}"), vec![Step::Replaced(1)]));
    assert_eq!(remove(&format!("{KUBEADM}{stale}")).text, KUBEADM);
    assert_eq!(apply(&format!("{stale}{MIGRATED}")).steps, []);
}

/// AMD Primus-SaFE#713: a tool that wrote a block anew lost what others had in theirs.
#[test]
fn a_block_that_shares_its_lines_is_edited_between_them() {
    let text = "a {\n} global:53 {\n forward . 10.96.0.53\n} b {\n}\n";
    let edited = apply(text);
    assert_eq!(edited.text, format!("a {{\n}} {} b {{\n}}\n", block().bare().trim_end()));
    assert_eq!(remove(&edited.text).text, "a {\n}  b {\n}\n");
    let note = "global:53 {\n forward . 10.96.0.53\n} # by hand\n";
    assert_eq!(apply(note).text, format!("{} # by hand\n", block().bare().trim_end()));
    assert_eq!(remove(note).text, " # by hand\n");
}

#[test]
fn what_shadows_our_zones_is_warned_of() {
    let cases = [
        ("global:5353 {\n whoami\n}\n", Some("line 1: global:5353 is served here as well")),
        ("tls://global {\n whoami\n}\n", Some("line 1: tls://global is served here as well")),
        ("eu.global:53 {\n whoami\n}\n", Some("line 1: eu.global:53 does not come to us")),
        ("eu.global:5353 {\n whoami\n}\n", None),
        ("{$MESH}:53 {\n whoami\n}\n", Some("line 1: {$MESH}:53 may be a zone of ours")),
        ("{$MESH}.corp:53 {\n whoami\n}\n", None),
        ("corp {\n}\n", None),
    ];
    for (text, expected) in cases {
        let edited = apply(text);
        assert_eq!(edited.text, format!("{text}{OURS}"));
        let warnings: Vec<_> =
            edited.warnings.iter().filter(|w| expected.is_some_and(|e| w.starts_with(e))).collect();
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{text}: {:?}", edited.warnings);
        assert!(expected.is_some() || edited.warnings.is_empty(), "{text}: {:?}", edited.warnings);
    }
}

#[test]
fn a_variable_that_is_known_is_a_zone_like_any_other() {
    let text = "{$MESH}:53 {\n whoami\n}\n";
    for (value, conflict) in [("global", true), ("corp", false), ("", false)] {
        let env = |name: &str| (name == "MESH").then(|| value.to_owned());
        let process = Process { env: &env, ..Process::default() };
        let edited = edit(text, Some(&block()), &Ours::default(), &process);
        match edited {
            Err(refusal) if conflict => assert_eq!(refusal.kind, RefusalKind::Conflict),
            // Without a value the key is `:53`, which is no zone.
            Err(refusal) => assert_eq!((refusal.kind, value), (RefusalKind::Invalid, "")),
            Ok(edited) => assert_eq!((conflict, edited.warnings.len()), (false, 0), "{value}"),
        }
    }
}

/// AMD Primus-SaFE#713
#[test]
fn what_is_broken_is_not_edited() {
    let cases = [
        (".:53 {\n    errors\n", RefusalKind::Invalid),
        (".:53 {\n    errors\n}\n}\n", RefusalKind::Invalid),
        ("corp: {\n}\n", RefusalKind::Invalid),
        ("corp {\n}\ncorp:53 {\n}\n", RefusalKind::Invalid),
        ("corp {\n bind lo\n}\ncorp:53 {\n}\n", RefusalKind::Invalid),
        ("corp {\n view a {\n }\n bind lo\n}\ncorp:53 {\n bind lo lo\n}\n", RefusalKind::Invalid),
        (".:53\nerrors\n", RefusalKind::Unsure),
        (".:53 {\n    log \"{\"\n}\n", RefusalKind::Unsure),
    ];
    for (text, kind) in cases {
        let refusal = refused(text);
        assert_eq!(refusal.kind, kind, "{text}: {refusal}");
        assert!(refusal.place.starts_with("line ") && !refusal.remedy.is_empty(), "{refusal}");
    }
    for text in [
        "corp {\n bind lo\n}\ncorp:53 {\n bind 10.0.0.1\n}\n",
        "corp {\n view a {\n }\n}\ncorp:53 {\n}\n",
        "corp {\n}\ncorp:53 {\n view a {\n }\n}\n",
        "corp {\n}\ncorp:54 {\n}\ntls://corp:53 {\n}\n",
        "corp {\n import custom/*.override\n}\ncorp:53 {\n}\n",
    ] {
        assert_eq!(apply(text).text, format!("{text}{OURS}"));
    }
}

/// Removing needs less than writing: a zone served twice is no reason to stay.
#[test]
fn our_block_can_be_removed_from_what_we_would_not_write_to() {
    for text in ["corp {\n}\ncorp:53 {\n}\n", "corp: {\n}\n", "global {\n whoami\n}\n"] {
        assert_eq!(remove(&format!("{text}{OURS}")).text, text);
        assert_eq!(remove(&format!("{OURS}{text}")).text, text);
    }
}

#[test]
fn a_bound_block_is_known_by_its_bind() {
    let bound = Block { bind: Bind::new(["169.254.25.10"]).expect("an address"), ..block() };
    let text = ".:53 {\n    bind 169.254.25.10\n}\n";
    let edited = apply_as(text, &bound, &Ours::default()).expect("an edit");
    assert_eq!(edited.text, format!("{text}{bound}"));
    let migrated = format!("{text}{}", bound.bare().replace("169.254.25.10", "169.254.20.10"));
    assert_eq!(apply_as(&migrated, &bound, &Ours::default()).expect("an edit").steps, [Step::Replaced(4)]);
    assert_eq!(remove(&migrated).text, text);
    let refusal = refused(&migrated);
    assert!(refusal.why.ends_with("not ours: it has bind"), "{refusal}");
}

#[test]
fn every_kind_of_foreign_text_stays_as_it_is() {
    let texts = [
        "\u{feff}.:53 {\r\n    errors\r\n}\r\n",
        ".:53\n{\n    errors\n}\n",
        "corp:53,\neu:53 {\n    whoami\n}\n",
        "(logged) {\n    log\n}\n.:53 {\n    import logged\n}\nimport custom/*.server",
        ".:53 {\n    template IN A corp {\n        match \"^(?P<a>x{2,3})[.]\"\n        answer \"{{ .Name }} 60 IN A {{ .Group.a }}\"\n        fallthrough\n    }\n}\n",
        ".:53 {\n    hosts {\n        10.0.0.1 a\n    }\n    rewrite name \"a {\n }\" b\n}\n# the end",
        ".:53 {\n    errors#now log\n}#end",
        "",
        "# only a comment",
    ];
    for text in texts {
        let edited = apply(text);
        assert!(edited.text.starts_with(text), "{text}");
        assert_eq!(remove(&edited.text).text, text);
    }
}

/// kumahq/kuma#872: what was written for zones and servers that are no longer wanted goes, too.
#[test]
fn blocks_of_before_are_removed() {
    let before = Ours::default().with(&stub(&["mesh"], &["10.96.0.7:53"]));
    let stale = "mesh:53 {\n    errors\n    forward . 10.96.0.7\n}\n";
    let text = format!("{KUBEADM}{stale}");
    assert_eq!(edit(&text, None, &before, &Process::default()).expect("an edit").text, KUBEADM);
    let edited = apply_as(&text, &block(), &before).expect("an edit");
    assert_eq!(edited.text, format!("{KUBEADM}{OURS}"));
    assert_eq!(apply(&text).text, format!("{text}{OURS}"), "without a record it is somebody else's");
}

#[test]
fn steps_read_well() {
    let steps = [Step::Added(3), Step::Replaced(1), Step::Removed(9)].map(|step| step.to_string());
    assert_eq!(steps, ["block added in line 3", "block of line 1 replaced", "block of line 9 removed"]);
}
