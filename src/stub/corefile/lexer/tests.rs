use super::*;

/// The tokens as CoreDNS has them: text and line.
fn tokens(text: &str) -> Vec<(String, usize)> {
    lex(text).tokens.into_iter().map(|token| (token.text.into_owned(), token.line)).collect()
}

#[test]
fn tokens_are_those_of_coredns() {
    let cases: &[(&str, &[(&str, usize)])] = &[
        ("", &[]),
        (" \t\r\n \u{a0}\u{2003}\u{85}\u{3000}", &[]),
        (".:53 {\n    errors\n}\n", &[(".:53", 1), ("{", 1), ("errors", 2), ("}", 3)]),
        (".:53 {\r\n\terrors\r\n}\r\n", &[(".:53", 1), ("{", 1), ("errors", 2), ("}", 3)]),
        // A carriage return is no white space: it is left out, even inside a word.
        ("a\rb c", &[("ab", 1), ("c", 1)]),
        ("a\u{2003}b\u{85}c", &[("a", 1), ("b", 1), ("c", 1)]),
        // A byte order mark is skipped at the beginning, and a letter elsewhere.
        ("\u{feff}.:53", &[(".:53", 1)]),
        ("\u{feff}\u{feff}.:53", &[("\u{feff}.:53", 1)]),
        ("a \u{feff}", &[("a", 1), ("\u{feff}", 1)]),
        ("# all of it\nerrors", &[("errors", 2)]),
        ("errors # the rest of it\nlog", &[("errors", 1), ("log", 2)]),
        // A comment inside a word ends where the word does.
        ("global:53#x", &[("global:53", 1)]),
        ("errors#now log\ncache", &[("errors", 1), ("log", 1), ("cache", 2)]),
        ("errors#now # log\ncache", &[("errors", 1), ("cache", 2)]),
        ("errors#\"a b\" c", &[("errors", 1), ("b\"", 1), ("c", 1)]),
        ("global:53{", &[("global:53{", 1)]),
        ("{{ .Name }} {2,3}", &[("{{", 1), (".Name", 1), ("}}", 1), ("{2,3}", 1)]),
        (r#"a "b c" d"#, &[("a", 1), ("b c", 1), ("d", 1)]),
        (r#"a "" b"#, &[("a", 1), ("", 1), ("b", 1)]),
        (r#"a"b c" "#, &[("a\"b", 1), ("c\"", 1)]),
        // What follows a closing quote is a token of its own.
        (r#""a"b"c""#, &[("a", 1), ("b\"c\"", 1)]),
        ("\"a\nb # {\n\" c\nd", &[("a\nb # {\n", 1), ("c", 3), ("d", 4)]),
        ("\"a\r\nb\"", &[("a\r\nb", 1)]),
        (r#""a \"b\" \\ \n" c"#, &[(r#"a "b" \\ \n"#, 1), ("c", 1)]),
        ("\"a\\\nb\" c", &[("a\\\nb", 1), ("c", 2)]),
        // A quote that is not closed takes all that follows, but nothing is no token.
        ("a \"b c\nd", &[("a", 1), ("b c\nd", 1)]),
        ("a \"", &[("a", 1)]),
        ("a \"b\\", &[("a", 1), ("b", 1)]),
        ("a \"\\", &[("a", 1)]),
    ];
    for (text, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(text, line)| ((*text).to_owned(), *line)).collect();
        assert_eq!(tokens(text), expected, "{text:?}");
    }
}

#[test]
fn a_token_knows_where_it_is() {
    let text = "\u{feff}a\rb \"c \\\" d\"e # f\r\ng#h i";
    let lexed = lex(text);
    let raw: Vec<_> = lexed.tokens.iter().map(|token| &text[token.span.start..token.span.end]).collect();
    assert_eq!(raw, ["a\rb", "\"c \\\" d\"", "e", "g", "i"]);
    let quoted: Vec<_> = lexed.tokens.iter().map(|token| token.quoted).collect();
    assert_eq!(quoted, [false, true, false, false, false]);
    let comments: Vec<_> = lexed.comments.iter().map(|c| &text[c.span.start..c.span.end]).collect();
    assert_eq!(comments, ["# f"]);
    assert_eq!(lexed.open_quote, None);
}

#[test]
fn a_quote_that_is_not_closed_is_known() {
    for text in ["a\n\"", "a\n\"b", "a\n\"b\\", "a\n\"b\nc\\\""] {
        assert_eq!(lex(text).open_quote, Some(2), "{text:?}");
    }
    assert_eq!(lex("a \"b\" # \"").open_quote, None);
}

proptest::proptest! {
    /// Spans are in order, apart, and hold what was read.
    #[test]
    fn spans_hold_the_tokens(text in "[ab\"#\\\\{}\r\n\u{a0}\u{feff}: ]{0,60}") {
        let lexed = lex(&text);
        let mut end = 0;
        for token in &lexed.tokens {
            assert!(end <= token.span.start && token.span.start < token.span.end, "{text:?}: {token:?}");
            let raw = &text[token.span.start..token.span.end];
            assert_eq!(raw.starts_with('"'), token.quoted, "{text:?}: {token:?}");
            let lines = text[..token.span.start].matches('\n').count();
            assert_eq!(token.line, 1 + lines, "{text:?}: {token:?}");
            if !raw.contains(['"', '\r', '\\']) {
                assert_eq!(raw, token.text);
            }
            end = token.span.end;
        }
    }
}
