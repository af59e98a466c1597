use super::*;

fn parts(text: &str) -> Parts<'_> {
    parse(text, &Process::default()).unwrap_or_else(|refusal| panic!("{text:?}: {refusal}"))
}

/// Keys and directives of every server, as words.
fn servers(text: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let directive = |d: &Directive<'_>| d.tokens.iter().map(|t| &*t.text).collect::<Vec<_>>().join(" ");
    parts(text)
        .servers
        .iter()
        .map(|s| {
            (s.claims.iter().map(|c| c.key.clone()).collect(), s.directives.iter().map(directive).collect())
        })
        .collect()
}

fn server(keys: &[&str], directives: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    (owned(keys), owned(directives))
}

#[test]
fn servers_are_found_by_their_tokens() {
    let cases = [
        (".:53 {\n    errors\n}\n", vec![server(&[".:53"], &["errors"])]),
        (".:53\n{\nerrors\n}", vec![server(&[".:53"], &["errors"])]),
        ("a, b,\nc d {\n}", vec![server(&["a", "b", "c", "d"], &[])]),
        ("a { errors\n} b {\n}", vec![server(&["a"], &["errors"]), server(&["b"], &[])]),
        (
            "a {\n hosts {\n 10.0.0.1 x\n fallthrough\n }\n log\n}",
            vec![server(&["a"], &["hosts { 10.0.0.1 x fallthrough }", "log"])],
        ),
        // A brace on the next line belongs to the directive before it.
        ("a {\n cache\n {\n }\n log\n}", vec![server(&["a"], &["cache { }", "log"])]),
        (
            "a {\n template IN A {\n match ^x[0-9]{2,3}$\n answer \"{{ .Name }} { }\n }\"\n }\n}",
            vec![server(&["a"], &["template IN A { match ^x[0-9]{2,3}$ answer {{ .Name }} { }\n } }"])],
        ),
        ("(s) {\n errors\n log\n}\na {\n import s\n}", vec![server(&["a"], &["errors", "log"])]),
        ("(s) {\n a {\n log\n }\n}\nimport s\n", vec![server(&["a"], &["log"])]),
        ("import custom/*.server\na {\n import x.override\n log\n}", vec![server(&["a"], &["log"])]),
        ("# nothing\n", vec![]),
    ];
    for (text, expected) in cases {
        assert_eq!(servers(text), expected, "{text:?}");
    }
}

#[test]
fn what_cannot_be_added_to_is_refused_with_its_line() {
    use RefusalKind::{Invalid, Unsure};
    let cases = [
        ("a {\n log \"{\"\n}", Unsure, 2),
        ("a {\n log \"}\"\n}", Unsure, 2),
        ("a {\n log \"{$A\n}\" b\n}", Unsure, 2),
        (".:53\nerrors\n", Unsure, 1),
        ("a {\n}\nb\n", Unsure, 3),
        ("a\nb {\n}", Unsure, 1),
        // Not at the beginning, where it is skipped.
        ("\u{feff}a {\n}\n\u{feff}b {\n}\n", Unsure, 3),
        // These braces are a word.
        ("a {}\n", Unsure, 1),
        ("\n{\n}", Unsure, 2),
        ("import x\n{\n}", Unsure, 2),
        ("a,\nimport x\n{\n}", Unsure, 3),
        ("a {\n errors\n", Invalid, 1),
        // CoreDNS takes the inner brace for the outer one, and would take a block after it for a directive.
        ("a {\n hosts {\n }\n", Invalid, 1),
        ("a {\n hosts {\n", Invalid, 2),
        ("a {\n}\n}\n", Invalid, 3),
        ("a {\n errors }\n", Invalid, 2),
        ("a {\n {\n }\n}", Invalid, 2),
        ("a, {\n}", Invalid, 1),
        ("a,", Invalid, 1),
        ("(s) {\n}\n(s) {\n}", Invalid, 3),
        ("(s) {\n", Invalid, 1),
        ("(s) {\n log\n import s\n}", Invalid, 3),
        ("import", Invalid, 1),
        ("a {\n import\n}", Invalid, 2),
        ("a {\n import x y\n}", Invalid, 2),
        ("a {\n import \"\"\n}", Invalid, 2),
        ("import a/*/*.server", Invalid, 1),
        ("import [a].server", Unsure, 1),
        ("import a\\", Unsure, 1),
        ("a {\n log \"x\n}\n", Invalid, 2),
        ("a {\n} # \"\n\"", Invalid, 3),
    ];
    for (text, kind, line) in cases {
        let refusal = parse(text, &Process::default()).expect_err(text);
        assert_eq!(
            (refusal.kind, refusal.place),
            (kind, format!("line {line}")),
            "{text:?}: {}",
            refusal.why
        );
    }
}

#[test]
fn snippets_that_grow_without_end_are_refused() {
    let mut text = "(s0) {\n log\n log\n}\n".to_owned();
    for n in 1..40 {
        text += &format!("(s{n}) {{\n import s{0}\n import s{0}\n}}\n", n - 1);
    }
    text += "a {\n import s39\n}\n";
    let refusal = parse(&text, &Process::default()).expect_err("too many");
    assert_eq!(refusal.kind, RefusalKind::Unsure);
}

#[test]
fn variables_in_keys_are_looked_up() {
    let env = |name: &str| match name {
        "ZONES" => Some("global:53,".to_owned()),
        "NONE" => Some(String::new()),
        _ => None,
    };
    let process = Process { port: 53, env: &env };
    let parts = parse("{$ZONES}\n{$NONE} {$OTHER} {\n}\n", &process).expect("parts");
    let claims: Vec<_> = parts.servers[0].claims.iter().map(|c| (c.key.as_str(), &c.zone)).collect();
    let global = Zone::Name(crate::wire::name::Name::parse("global").expect("a name"));
    assert_eq!(claims, [("{$ZONES}", &global), ("{$OTHER}", &Zone::Unknown)]);
}

#[test]
fn a_directive_knows_its_arguments_and_options() {
    let text = "a {\n forward . 1.1.1.1 \"2.2.2.2\" {\n  max_concurrent 1000\n  policy random\n }\n log\n}";
    let parts = parts(text);
    let [forward, log] = &parts.servers[0].directives[..] else { panic!("{parts:?}") };
    let arguments: Vec<_> = forward.arguments().iter().map(|token| &*token.text).collect();
    assert_eq!(arguments, [".", "1.1.1.1", "2.2.2.2"]);
    assert_eq!(forward.options(), [["max_concurrent", "1000"], ["policy", "random"]]);
    assert_eq!((log.name(), log.arguments().len(), log.options().len()), ("log", 0, 0));
}
