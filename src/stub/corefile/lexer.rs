//! The tokens of a Corefile, exactly as CoreDNS sees them, each with its place in the text.
//!
//! This follows `caddyfile/lexer.go` of github.com/coredns/caddy v1.1.4, oddities included: `tests/coredns/lexer`
//! compares the two. The oddest is that a comment which begins inside a word ends at the next white space already: in
//! `errors#now log` there is a token `log`.

use std::borrow::Cow;

/// Octets of a text, from `start` up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first octet.
    pub start: usize,
    /// The octet after the last one.
    pub end: usize,
}

/// A word of a Corefile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'t> {
    /// What CoreDNS reads: without the quotes, their escapes and stray carriage returns.
    pub text: Cow<'t, str>,
    /// Where it is, quotes included.
    pub span: Span,
    /// The line it begins in, from 1.
    pub line: usize,
    /// Whether it is written in quotes.
    pub quoted: bool,
    /// Whether a snippet's import put it where it is; span and line are those inside the snippet.
    pub copied: bool,
}

impl Token<'_> {
    /// The line it ends in.
    pub fn last_line(&self) -> usize {
        self.line + self.text.matches('\n').count()
    }
}

/// A comment, from its `#` to the end of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Where it is, without the end of the line.
    pub span: Span,
    /// Its line, from 1.
    pub line: usize,
}

/// A text in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lexed<'t> {
    /// All tokens, in order.
    pub tokens: Vec<Token<'t>>,
    /// All comments that do not begin inside a word, in order.
    pub comments: Vec<Comment>,
    /// The line of a quote that is never closed. CoreDNS takes the rest of the text for its token.
    pub open_quote: Option<usize>,
}

enum State {
    Between,
    Comment,
    Word,
    /// A comment that began inside a word.
    WordComment,
    Quoted {
        escaped: bool,
    },
}

/// The tokens of a text.
pub fn lex(text: &str) -> Lexed<'_> {
    let mut lexed = Lexed::default();
    let mut state = State::Between;
    let mut line = 1;
    // Where the current token or comment begins, and where the current word ends.
    let mut begin = (0, 1);
    let mut word_end = 0;
    let skipped = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    for (at, c) in text[skipped..].char_indices().map(|(at, c)| (at + skipped, c)) {
        let after = at + c.len_utf8();
        match state {
            State::Between if c.is_whitespace() => {}
            State::Between => {
                begin = (at, line);
                word_end = after;
                state = match c {
                    '#' => State::Comment,
                    '"' => State::Quoted { escaped: false },
                    _ => State::Word,
                };
            }
            State::Comment if c == '\n' => {
                lexed.comment(text, begin, at);
                state = State::Between;
            }
            State::Comment => {}
            State::Word | State::WordComment if c == '\r' => {}
            State::Word | State::WordComment if c.is_whitespace() => {
                lexed.word(text, begin, word_end);
                state = State::Between;
            }
            State::Word if c == '#' => state = State::WordComment,
            State::Word => word_end = after,
            State::WordComment => {}
            State::Quoted { escaped: true } => state = State::Quoted { escaped: false },
            State::Quoted { escaped: false } => match c {
                '\\' => state = State::Quoted { escaped: true },
                '"' => {
                    lexed.quoted(text, begin, Span { start: begin.0 + 1, end: at }, after);
                    state = State::Between;
                }
                _ => {}
            },
        }
        line += usize::from(c == '\n');
    }
    match state {
        State::Between => {}
        State::Comment => lexed.comment(text, begin, text.len()),
        State::Word | State::WordComment => lexed.word(text, begin, word_end),
        State::Quoted { escaped } => {
            lexed.open_quote = Some(begin.1);
            let inner = Span { start: begin.0 + 1, end: text.len() - usize::from(escaped) };
            if inner.start < inner.end {
                lexed.quoted(text, begin, inner, text.len());
            }
        }
    }
    lexed
}

impl<'t> Lexed<'t> {
    fn comment(&mut self, text: &str, (start, line): (usize, usize), end: usize) {
        let end = end - usize::from(text[start..end].ends_with('\r'));
        self.comments.push(Comment { span: Span { start, end }, line });
    }

    fn word(&mut self, text: &'t str, (start, line): (usize, usize), end: usize) {
        let raw = &text[start..end];
        let text = if raw.contains('\r') { raw.replace('\r', "").into() } else { raw.into() };
        self.tokens.push(Token { text, span: Span { start, end }, line, quoted: false, copied: false });
    }

    fn quoted(&mut self, text: &'t str, (start, line): (usize, usize), inner: Span, end: usize) {
        let text = unescape(&text[inner.start..inner.end]);
        self.tokens.push(Token { text, span: Span { start, end }, line, quoted: true, copied: false });
    }
}

/// Only a quote is escaped; a backslash before anything else stays, with what follows it.
fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains("\\\"") {
        return raw.into();
    }
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('"') => text.push('"'),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text.into()
}

#[cfg(test)]
mod tests;
