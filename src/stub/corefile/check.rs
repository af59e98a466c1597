//! Texts of any kind through the lexer and the editor (T3, T4): refused, or edited so that it is done once, undone whole,
//! and nothing of others touched.

use super::*;
use crate::stub::{Ours, Stub};
use crate::testing::Octets;
use crate::wire::name::Name;

/// What Corefiles are made of, good and bad; most of them in the middle of something.
const PIECES: [&str; 64] = [
    "{",
    "}",
    " {\n",
    "\n}\n",
    "\n",
    " ",
    "\t",
    "\r\n",
    "\r",
    "#",
    "\"",
    "\\\"",
    "\\",
    ",",
    "(",
    ")",
    ".:53 {\n",
    "global:53 ",
    "cluster2:53",
    "global",
    "old",
    "corp {\n",
    "a,\nb:53 {\n",
    "eu.global:53",
    "tls://z.corp",
    "dns://global",
    "10.0.0.0/16",
    "global:5353",
    "GLOBAL.",
    ":53",
    "\u{feff}",
    "\u{2003}",
    "errors\n",
    "cache 30\n",
    "loop\n",
    "reload\n",
    "whoami#here",
    "log . \"{remote}\"\n",
    "health {\n lameduck 5s\n }\n",
    "forward . 10.96.0.53",
    "forward . 10.96.0.9",
    "forward . /etc/resolv.conf {\n max_concurrent 1000\n }\n",
    "bind 10.0.0.1\n",
    "import s\n",
    "import custom/*.override\n",
    "import x\n",
    "(s) {\n",
    "s",
    "import",
    "{$ZONE}",
    "{$A}:53",
    "{%A%}",
    "{$",
    "kubernetes cluster.local {\n pods insecure\n }\n",
    "# BEGIN globaldns\n",
    "# END globaldns\n",
    "#BEGIN globaldns managed stub zones (do not edit)\n",
    "# END globaldns managed stub zones",
    "proxy . 10.96.0.53\n",
    "forward . 10.0.0.1\n",
    "max_concurrent 1000",
    "hosts {\n 10.0.0.1 a # { no\n }\n",
    "template IN A corp {\n answer \"{{ .Name }} 60\"\n }\n",
    "global:53 {",
];

fn stub(zones: &[&str], server: &str) -> Stub {
    let zones = zones.iter().map(|zone| Name::parse(zone).expect("a name"));
    Stub::new(zones, [server.parse().expect("an address")]).expect("a stub")
}

/// Makes a text of octets, and panics where what becomes of it breaks a rule.
pub(crate) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    let mut block = Block::new(stub(&["global", "cluster2"], "10.96.0.53:53"), 53);
    let choices = octets.octet();
    if choices & 2 != 0 {
        block.bind = Bind::new(["10.0.0.1"]).expect("plain words");
    }
    if choices & 4 != 0 {
        block.plugin = Plugin::Proxy;
    }
    let ours = Ours::default().with(&stub(&["cluster2", "old"], "10.96.0.9:53"));
    let known = |name: &str| (name == "A").then(|| "global".to_owned());
    let process = match choices & 8 {
        0 => Process::default(),
        _ => Process { port: 53, env: &known },
    };
    let text = match choices & 1 {
        0 => String::from_utf8_lossy(octets.rest()).into_owned(),
        _ => {
            let mut text = String::new();
            while !octets.is_empty() {
                match octets.octet() {
                    n @ 0..64 => text.push_str(PIECES[usize::from(n)]),
                    64..72 => text.push_str(&block.to_string()),
                    72..76 => text.push_str(&block.bare()),
                    n => text.push(char::from(n & 0x7f)),
                }
            }
            text
        }
    };
    lexed(&text);
    edited(&text, &block, &ours, &process);
}

/// Tokens and comments are in the text, in order, each in its line, with nothing between them that is neither white
/// space nor a comment inside a word.
fn lexed(text: &str) {
    let Lexed { tokens, comments, open_quote } = lex(text);
    let tokens = tokens.iter().map(|token| (token.span, token.line, token.quoted));
    let mut all: Vec<_> = tokens.chain(comments.iter().map(|c| (c.span, c.line, true))).collect();
    all.sort_by_key(|(span, ..)| span.start);
    let mut before = text.len() - text.strip_prefix('\u{feff}').unwrap_or(text).len();
    let mut whole = true;
    for (span, line, closed) in
        all.into_iter().chain([(Span { start: text.len(), end: text.len() }, 0, true)])
    {
        let mut between = text.get(before..span.start).expect("spans do not overlap");
        // Where a quote is opened at the end there is no token after it.
        if open_quote.is_some() && line == 0 {
            between = between.strip_suffix('\\').unwrap_or(between);
            between = between.strip_suffix('"').unwrap_or(between);
        }
        let is_comment = !whole && between.trim_start_matches('\r').starts_with('#');
        assert!(is_comment || between.chars().all(char::is_whitespace), "{between:?} in {text:?}");
        assert!(line == 0 || text[..span.start].matches('\n').count() + 1 == line, "{text:?}");
        assert!(text.is_char_boundary(span.end), "{text:?}");
        (before, whole) = (span.end, closed);
    }
}

/// An edit that is made holds its promises.
pub(super) fn edited(text: &str, block: &Block, ours: &Ours, process: &Process<'_>) {
    let remove = |text: &str| edit(text, None, &ours.clone().with(&block.stub), process);
    let apply = |text: &str| edit(text, Some(block), ours, process);
    if let Ok(removed) = remove(text) {
        assert!(is_part_of(&removed.text, text), "{text:?}\n{:?}", removed.text);
        assert_eq!(removed.changes(), removed.text != text, "{text:?}");
        let again = remove(&removed.text).unwrap_or_else(|refusal| panic!("{:?}\n{refusal}", removed.text));
        assert!(!again.changes(), "{text:?}\n{:?}", removed.text);
    }
    let Ok(edited) = apply(text) else { return };
    let again =
        apply(&edited.text).unwrap_or_else(|refusal| panic!("{text:?}\n{:?}\n{refusal}", edited.text));
    assert!(!again.changes(), "{text:?}\n{:?}", edited.text);
    let file = Corefile::parse(&edited.text, process).expect("readable");
    for zone in block.stub.zones() {
        let serving = file.claims().filter(|claim| claim.serves(zone, block.port)).count();
        assert_eq!(serving, 1, "{zone} in {:?}", edited.text);
    }
    let cleared = remove(&edited.text).unwrap_or_else(|refusal| panic!("{:?}\n{refusal}", edited.text));
    if matches!(edited.steps[..], [Step::Added(_)]) {
        assert!(edited.text.starts_with(text), "{text:?}\n{:?}", edited.text);
        assert_eq!(cleared.text, text);
    }
    assert!(is_part_of(&cleared.text, text), "{text:?}\n{:?}\n{:?}", edited.text, cleared.text);
    assert!(remove(text).is_ok(), "{text:?}");
}

/// Whether a text is another without some of its characters.
fn is_part_of(part: &str, whole: &str) -> bool {
    let mut whole = whole.chars();
    part.chars().all(|c| whole.any(|other| other == c))
}
