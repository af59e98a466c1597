//! Random Corefiles, for the tests.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::edit::tests::{block, stub};
use super::lexer::lex;
use super::wanted::Block;

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
pub(super) fn piece() -> impl Strategy<Value = String> {
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

pub(super) fn named(pieces: &[String]) -> Vec<String> {
    pieces.iter().enumerate().map(|(n, piece)| piece.replace("{n}", &n.to_string())).collect()
}

/// How the lines of a text end, and whether the last one does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    crlf: bool,
    mark: bool,
    ended: bool,
}

pub(super) fn shape() -> impl Strategy<Value = Shape> {
    any::<(bool, bool, bool)>().prop_map(|(crlf, mark, ended)| Shape { crlf, mark, ended })
}

pub(super) fn shaped(text: &str, shape: Shape) -> String {
    let text = if shape.ended { text } else { text.strip_suffix('\n').unwrap_or(text) };
    let text = if shape.crlf { text.replace('\n', "\r\n") } else { text.to_owned() };
    if shape.mark { format!("\u{feff}{text}") } else { text }
}

/// A block of ours as it may be found: as we write it, or as others leave it, old or of now.
pub(super) fn ours() -> impl Strategy<Value = String> {
    let blocks = vec![
        block(),
        Block::new(stub(&["global"], &["10.96.0.53:53"]), 53),
        Block::new(stub(&["cluster2", "old"], &["10.96.0.9:53"]), 5353),
    ];
    (select(blocks), 0..3).prop_map(|(block, form)| match form {
        0 => block.to_string(),
        1 => block.bare(),
        _ => migrated(&block.bare()),
    })
}

/// A Corefile after some mishaps.
pub(super) fn mangled() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop_oneof![3 => piece(), 1 => ours()], 0..5);
    let changes = prop::collection::vec((any::<Index>(), 0..6usize, mishap()), 0..6);
    (pieces, shape(), changes).prop_map(|(pieces, shape, changes)| {
        let mut text: Vec<char> = shaped(&named(&pieces).concat(), shape).chars().collect();
        for (at, length, with) in changes {
            let at = at.index(text.len() + 1);
            let end = text.len().min(at + length);
            text.splice(at..end, with.chars());
        }
        text.into_iter().collect()
    })
}

fn mishap() -> impl Strategy<Value = &'static str> {
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

/// Words that mean something, in any order.
pub(super) fn soup() -> impl Strategy<Value = String> {
    let words = select(vec![
        "{",
        "}",
        "{",
        "}",
        "\n",
        "\n",
        "\n",
        " ",
        " ",
        ",",
        "#",
        "\"",
        "\r\n",
        "\\\"",
        "a",
        "b,",
        "import",
        "import s",
        "(s)",
        "s",
        "global:53",
        "forward . 10.96.0.53",
        "{$A}",
        "{%A%}",
        "{$",
        "# BEGIN globaldns\n",
        "\t",
        "errors\n",
        "# END globaldns\n",
        "{\n",
        "\n}\n",
        "(s) {\n",
        "import x*\n",
        "\"a\nb\"",
        "\u{2003}",
        "\u{feff}",
        ".:53 {\n",
    ]);
    prop::collection::vec(words, 0..30).prop_map(|words| {
        // Most words apart, some together.
        words
            .iter()
            .enumerate()
            .map(|(n, word)| format!("{word}{}", if n % 5 == 4 { "" } else { " " }))
            .collect()
    })
}

/// What kubeadm's upgrade makes of a text: github.com/coredns/corefile-migration reads the words of lines, two levels
/// deep, writes them anew, and adds what the next version of CoreDNS wants.
pub(super) fn migrated(text: &str) -> String {
    type Options = Vec<String>;
    let mut servers: Vec<(String, Vec<(String, Options)>)> = Vec::new();
    let mut depth = 0;
    let lexed = lex(text);
    let mut tokens = lexed.tokens.iter().peekable();
    let word = |text: &str| match text.split_whitespace().count() {
        0 | 1 => text.to_owned(),
        _ => format!("\"{}\"", text.replace('"', "\\\"")),
    };
    while let Some(token) = tokens.next() {
        if let Some(step) = ["}", "", "{"].iter().position(|brace| !brace.is_empty() && token.text == *brace)
        {
            depth += step as i32 - 1;
            continue;
        }
        let mut line = vec![token.text.to_string()];
        while let Some(next) = tokens.next_if(|next| next.line == token.last_line() && next.text != "{") {
            line.push(word(&next.text));
        }
        let line = line.join(" ");
        match (depth, servers.last_mut()) {
            (0, _) => servers.push((line, Vec::new())),
            (1, Some((_, plugins))) => plugins.push((line, Vec::new())),
            (2, Some((_, plugins))) => {
                plugins.iter_mut().last().into_iter().for_each(|(_, o)| o.push(line.clone()))
            }
            _ => {}
        }
    }
    let mut written = Vec::new();
    for (keys, mut plugins) in servers {
        for (_, options) in plugins.iter_mut().filter(|(plugin, _)| plugin.starts_with("forward")) {
            options.retain(|option| !option.starts_with("max_concurrent"));
            options.push("max_concurrent 1000".to_owned());
        }
        if plugins.iter().any(|(plugin, _)| plugin.starts_with("forward")) {
            plugins.push(("loop".to_owned(), Vec::new()));
        }
        let plugin = |(plugin, options): &(String, Options)| match &options[..] {
            [] => format!("    {plugin}\n"),
            options => format!("    {plugin} {{\n        {}\n    }}\n", options.join("\n        ")),
        };
        let body: String = plugins.iter().map(plugin).collect();
        written.push(if body.is_empty() { keys } else { format!("{keys} {{\n{body}}}\n") });
    }
    written.join("\n")
}
