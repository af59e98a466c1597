use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::tests::{block, stub, zone};
use super::*;
use crate::stub::corefile::lex;

/// Lines of a server block, each whole.
const DIRECTIVES: [&str; 16] = [
    "errors",
    "cache 30",
    "whoami#here",
    "log . \"{remote} - {>id}\"",
    "forward . /etc/resolv.conf {\n        max_concurrent 1000\n    }",
    "forward . 10.96.0.53",
    "hosts {\n        10.0.0.1 a.corp # { not a brace\n        fallthrough\n    }",
    "template IN A corp {\n        match ^x{2,3}[.]$\n        answer \"{{ .Name }} 60 IN A 10.0.0.1\"\n    }",
    "rewrite name \"a {\n } \\\" b\" c",
    "import custom/*.override",
    "kubernetes cluster.local {\n        pods insecure\n    } # end",
    "log \"\"",
    "bind {$NODE_IP}",
    "\"quoted\"word",
    "reload 10s\u{a0}5s",
    "acl\n    {\n        allow net 10.0.0.0/8\n    }",
];

fn directives() -> impl Strategy<Value = String> {
    // Each once: CoreDNS refuses an address that a server binds to twice.
    prop::sample::subsequence(&DIRECTIVES[..], 0..5)
        .prop_shuffle()
        .prop_map(|lines| lines.iter().map(|line| format!("    {line}\n")).collect())
}

/// Some parts of a Corefile that has nothing of ours, each a number of whole lines. `{n}` makes names differ.
fn piece() -> impl Strategy<Value = String> {
    let keys = select(vec![
        "z{n}.corp:53 {\n",
        "Z{n}.Corp {\n",
        "a{n},\nb{n}:53 {\n",
        "a{n}\tb{n} # keys\n{\n",
        "tls://z{n}.corp {\n",
        "eu{n}.global:53 {\n",
        "{$ZONE{n}}:53 {\n",
        "10.{n}.0.0/16 {\n",
        "\"z{n}\" {\n",
    ]);
    let server = (keys, directives()).prop_map(|(keys, lines)| format!("{keys}{lines}}}\n"));
    let snippet =
        directives().prop_map(|lines| format!("(s{{n}}) {{\n{lines}}}\nu{{n}} {{\n import s{{n}}\n}}\n"));
    let other = select(vec![
        "# a comment\n",
        "   #\"comment {\n",
        "\n",
        " \t \n",
        "import custom/*.server\n",
        "global:10{n} {\n    whoami\n}\n",
        "(k{n}) {\n k{n}:53 {\n whoami\n }\n}\nimport k{n}\n",
    ]);
    prop_oneof![4 => server, 1 => snippet, 2 => other.prop_map(str::to_owned)]
}

fn named(pieces: &[String]) -> Vec<String> {
    pieces.iter().enumerate().map(|(n, piece)| piece.replace("{n}", &n.to_string())).collect()
}

/// How the lines of a text end, and whether the last one does.
#[derive(Clone, Copy, Debug)]
struct Shape {
    crlf: bool,
    mark: bool,
    ended: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    any::<(bool, bool, bool)>().prop_map(|(crlf, mark, ended)| Shape { crlf, mark, ended })
}

fn shaped(text: &str, shape: Shape) -> String {
    let text = if shape.ended { text } else { text.strip_suffix('\n').unwrap_or(text) };
    let text = if shape.crlf { text.replace('\n', "\r\n") } else { text.to_owned() };
    if shape.mark { format!("\u{feff}{text}") } else { text }
}

/// A block of ours as it may be found: as we write it, or as others leave it, old or of now.
fn ours() -> impl Strategy<Value = String> {
    let blocks = vec![
        block(),
        Block::new(stub(&["global"], &["10.96.0.53:53"]), 53),
        Block::new(stub(&["cluster2", "old"], &["10.96.0.9:53"]), 5353),
    ];
    (select(blocks), 0..3).prop_map(|(block, form)| match form {
        0 => block.to_string(),
        1 => block.bare(),
        _ => format!("{}\n", migrated(&block.bare()).trim_end()),
    })
}

fn before() -> Ours {
    Ours::default().with(&stub(&["cluster2", "old"], &["10.96.0.9:53"]))
}

fn apply(text: &str) -> Result<Edit, Refusal> {
    edit(text, Some(&block()), &before(), &Process::default())
}

fn remove(text: &str) -> Result<Edit, Refusal> {
    edit(text, None, &before().with(&block().stub), &Process::default())
}

/// What kubeadm's upgrade makes of a text: github.com/coredns/corefile-migration reads the words of lines, two levels
/// deep, writes them anew, and changes what the next version of CoreDNS wants otherwise.
fn migrated(text: &str) -> String {
    let lexed = lex(text);
    let word = |text: &str| {
        if text.split_whitespace().count() > 1 {
            format!("\"{}\"", text.replace('"', "\\\""))
        } else {
            text.to_owned()
        }
    };
    let mut written = String::new();
    let (mut depth, mut open) = (0, 0);
    let mut tokens = lexed.tokens.iter().peekable();
    let close = |written: &mut String, open: &mut i32, to: i32| {
        while *open > to {
            *open -= 1;
            written.push_str(if *open == 1 { "    }\n" } else { "    loop\n}\n\n" });
        }
    };
    while let Some(token) = tokens.next() {
        match &*token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            name => {
                let mut line = vec![word(name)];
                while let Some(next) =
                    tokens.next_if(|next| next.line == token.last_line() && next.text != "{")
                {
                    line.push(word(&next.text));
                }
                close(&mut written, &mut open, depth);
                while open < depth {
                    written.truncate(written.trim_end().len());
                    written.push_str(" {\n");
                    open += 1;
                }
                written.push_str(&format!("{}{}\n", "    ".repeat(depth as usize), line.join(" ")));
                if depth == 1 && name == "forward" {
                    written.push_str("    forward_was_here\n");
                }
            }
        }
    }
    close(&mut written, &mut open, 0);
    // An option for every forward; into the block it has, or one of its own.
    written
        .replace("    forward_was_here {\n", "    forward_was_here\n{\n")
        .replace("\n    forward_was_here\n{\n", " {\n        max_concurrent 1000\n")
        .replace("\n    forward_was_here\n", " {\n        max_concurrent 1000\n    }\n")
}

#[test]
fn the_migration_of_our_block_is_what_kubeadm_makes_of_it() {
    let text = migrated(&format!(".:53 {{\n  hosts {{\n 10.0.0.1 a\n  }}\n}}\n{}", block()));
    let expected = "\
.:53 {
    hosts {
        10.0.0.1 a
    }
    loop
}

global:53 cluster2:53 {
    errors
    cache 30
    forward . 10.96.0.53 {
        max_concurrent 1000
    }
    loop
}

";
    assert_eq!(text, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_new_block_leaves_everything_and_goes_without_a_trace(
        pieces in prop::collection::vec(piece(), 0..6),
        shape in shape(),
    ) {
        let text = shaped(&named(&pieces).concat(), shape);
        let edited = apply(&text).unwrap_or_else(|refusal| panic!("{text}\n{refusal}"));
        prop_assert!(edited.text.starts_with(&text) && edited.text.len() > text.len());
        prop_assert!(matches!(edited.steps[..], [Step::Added(_)]));
        let again = apply(&edited.text).expect("a second edit");
        prop_assert_eq!((again.text.as_str(), again.changes()), (edited.text.as_str(), false));
        let removed = remove(&edited.text).expect("a removal");
        prop_assert_eq!(removed.text, text);
    }

    #[test]
    fn blocks_of_ours_are_found_wherever_they_are(
        pieces in prop::collection::vec(piece(), 0..5),
        found in prop::collection::vec((any::<Index>(), ours()), 1..4),
        shape in shape(),
    ) {
        let pieces = named(&pieces);
        let mut all: Vec<String> = pieces.clone();
        for (at, ours) in &found {
            all.insert(at.index(all.len() + 1), ours.clone());
        }
        let (text, without) = (shaped(&all.concat(), shape), shaped(&pieces.concat(), shape));
        let removed = remove(&text).unwrap_or_else(|refusal| panic!("{text}\n{refusal}"));
        prop_assert_eq!(&removed.text, &without);
        prop_assert_eq!(removed.steps.len(), found.len());
        let edited = apply(&text).unwrap_or_else(|refusal| panic!("{text}\n{refusal}"));
        prop_assert!(!apply(&edited.text).expect("a second edit").changes());
        prop_assert_eq!(remove(&edited.text).expect("a removal").text, without);
    }

    /// kubernetes/kubernetes#88811
    #[test]
    fn what_kubeadm_writes_anew_is_still_ours(
        pieces in prop::collection::vec(piece(), 0..5),
        shape in shape(),
    ) {
        let text = shaped(&named(&pieces).concat(), shape);
        let edited = apply(&text).expect("an edit");
        let migrated = migrated(&edited.text);
        // The migration breaks some texts by itself; ours is not to blame for those.
        if Corefile::parse(&migrated, &Process::default()).is_ok()
            && let Ok(again) = apply(&migrated)
        {
            prop_assert!(!again.changes(), "{}\n{:?}", migrated, again.steps);
        } else {
            prop_assert!(apply(&self::migrated(&text)).is_err(), "{}", migrated);
        }
    }

    /// Whatever a text is: no panic, and an edit that is made holds its promises.
    #[test]
    fn mangled_texts_are_refused_or_edited_well(
        pieces in prop::collection::vec(prop_oneof![3 => piece(), 1 => ours()], 0..5),
        shape in shape(),
        changes in prop::collection::vec((any::<Index>(), 0..6usize, mangling()), 0..6),
    ) {
        let mut text: Vec<char> = shaped(&named(&pieces).concat(), shape).chars().collect();
        for (at, length, with) in changes {
            let at = at.index(text.len() + 1);
            let end = text.len().min(at + length);
            text.splice(at..end, with.chars());
        }
        holds(&text.into_iter().collect::<String>());
    }

    #[test]
    fn arbitrary_texts_are_refused_or_edited_well(text in "[a.:# \"\\\\{}()$,*\r\n\u{feff}]{0,80}", any in any::<String>()) {
        holds(&text);
        holds(&any);
    }
}

fn mangling() -> impl Strategy<Value = &'static str> {
    select(vec![
        "",
        "",
        "{",
        "}",
        " { ",
        " } ",
        "\"",
        "#",
        "\n",
        "\r\n",
        "\r",
        " ",
        ",",
        "import s0\n",
        "\u{feff}",
        "{$",
        "global:53 ",
        "(",
        ")",
        "\n}\n",
        "\n{\n",
        "\\",
        "corp {\n}\n",
    ])
}

fn holds(text: &str) {
    let removed = remove(text);
    let Ok(edited) = apply(text) else { return };
    let again =
        apply(&edited.text).unwrap_or_else(|refusal| panic!("{text:?}\n{:?}\n{refusal}", edited.text));
    assert!(!again.changes(), "{text:?}\n{:?}", edited.text);
    let file = Corefile::parse(&edited.text, &Process::default()).expect("readable");
    for name in ["global", "cluster2"] {
        let serving = file.claims().filter(|claim| claim.serves(&zone(name), 53)).count();
        assert_eq!(serving, 1, "{name} in {:?}", edited.text);
    }
    let cleared = remove(&edited.text).unwrap_or_else(|refusal| panic!("{:?}\n{refusal}", edited.text));
    if matches!(edited.steps[..], [Step::Added(_)]) {
        assert_eq!(cleared.text, text);
    }
    let removed = removed.unwrap_or_else(|refusal| panic!("{text:?}\n{refusal}"));
    assert!(!remove(&removed.text).expect("a second removal").changes(), "{text:?}\n{:?}", removed.text);
}
