//! What a Corefile consists of.

use super::Import;
use super::key::Claim;
use super::lexer::{Lexed, Span, Token};

/// What a text says, as far as it can be told without other files.
#[derive(Debug, Default)]
pub(super) struct Parts<'t> {
    pub(super) lexed: Lexed<'t>,
    pub(super) servers: Vec<Server<'t>>,
    pub(super) imports: Vec<Import>,
    pub(super) snippets: Vec<Snippet<'t>>,
}

/// A server block.
#[derive(Debug)]
pub(super) struct Server<'t> {
    pub(super) claims: Vec<Claim>,
    pub(super) directives: Vec<Directive<'t>>,
    /// From the first key to the closing brace.
    pub(super) span: Span,
    pub(super) line: usize,
    /// Whether some of it comes from a snippet.
    pub(super) copied: bool,
    /// Whether a file is imported in it.
    pub(super) opaque: bool,
}

/// A line of a server block, with the block that may follow it.
#[derive(Debug)]
pub(super) struct Directive<'t> {
    pub(super) tokens: Vec<Token<'t>>,
}

/// A snippet.
#[derive(Debug)]
pub(super) struct Snippet<'t> {
    pub(super) name: String,
    pub(super) tokens: Vec<Token<'t>>,
}

impl Server<'_> {
    pub(super) fn has(&self, directive: &str) -> bool {
        self.directives.iter().any(|d| d.name() == directive)
    }
}

impl<'t> Directive<'t> {
    pub(super) fn name(&self) -> &str {
        self.tokens.first().map_or("", |token| &token.text)
    }

    /// What follows the name in its line.
    pub(super) fn arguments(&self) -> &[Token<'t>] {
        let end = self.tokens.iter().position(|token| token.text == "{").unwrap_or(self.tokens.len());
        self.tokens.get(1..end).unwrap_or_default()
    }

    /// The lines between its braces.
    pub(super) fn options(&self) -> Vec<Vec<&str>> {
        let mut lines: Vec<Vec<&str>> = Vec::new();
        let mut last_line = 0;
        for token in self.tokens.iter().skip_while(|token| token.text != "{").skip(1) {
            if token.text == "}" {
                continue;
            }
            match lines.last_mut() {
                Some(words) if token.line <= last_line => words.push(&token.text),
                _ => lines.push(vec![&token.text]),
            }
            last_line = token.last_line();
        }
        lines
    }
}
