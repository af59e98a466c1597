//! The server blocks, snippets and imports of a Corefile.
//!
//! This follows `caddyfile/parse.go` of github.com/coredns/caddy v1.1.4 token for token, snippets being put where
//! they are imported, so that what is a key, a directive or a brace here is one for CoreDNS. It refuses what CoreDNS
//! refuses, and what text after it would change the meaning of. What a file's import brings is not seen.

use super::key::{Claim, Zone, expand, expands_lines};
use super::lexer::{Span, Token, lex};
use super::parts::{Directive, Parts, Server, Snippet};
use super::{Import, ImportKind, Place, Process};
use crate::stub::{Refusal, RefusalKind};

/// Imported snippets may double with every level; these many imports or tokens are no configuration.
const MAX_EXPANSIONS: usize = 1000;
const MAX_TOKENS: usize = 200_000;

/// Reads a text.
pub(super) fn parse<'t>(text: &'t str, process: &Process<'_>) -> Result<Parts<'t>, Refusal> {
    let lexed = lex(text);
    if let Some(line) = lexed.open_quote {
        return Err(broken(line, "a quote is opened and never closed"));
    }
    if let Some(brace) = lexed.tokens.iter().find(|token| token.quoted && is_brace(token)) {
        return Err(unsure(
            brace.line,
            "there is a brace in quotes, which CoreDNS takes for a brace",
            "remove it or write it another way",
        ));
    }
    if let Some(token) = lexed.tokens.iter().find(|token| expands_lines(&token.text)) {
        let why = "there is a variable with a name of several lines";
        return Err(unsure(token.line, why, "write it another way"));
    }
    if let Some(token) = lexed.tokens.iter().find(|token| text[token.span.start..].starts_with('\u{feff}')) {
        // CoreDNS skips it at the beginning of a text, and so would one who takes away what is before it.
        let why = "a word begins with a byte order mark (U+FEFF)";
        return Err(unsure(token.line, why, "remove the mark"));
    }
    let mut parser = Parser {
        process,
        tokens: lexed.tokens.clone(),
        read: 0,
        expansions: 0,
        place: Place::Top,
        opaque: false,
        parts: Parts::default(),
    };
    while parser.next() {
        parser.part()?;
    }
    Ok(Parts { lexed, ..parser.parts })
}

struct Key<'t> {
    token: Token<'t>,
    /// Where it begins, or the empty words before it, which mean nothing and are nothing on their own.
    begin: usize,
    /// As it is written, without the comma after it.
    raw: String,
    /// With the values of its variables, where they are known.
    value: Option<String>,
}

fn is_brace(token: &Token<'_>) -> bool {
    token.text == "{" || token.text == "}"
}

/// `tokens[read - 1]` is the current one. It may be past the end, after an import that brought nothing.
struct Parser<'t, 'p> {
    process: &'p Process<'p>,
    tokens: Vec<Token<'t>>,
    read: usize,
    expansions: usize,
    place: Place,
    /// Whether a file has been imported in the current block.
    opaque: bool,
    parts: Parts<'t>,
}

impl<'t> Parser<'t, '_> {
    fn next(&mut self) -> bool {
        let more = self.read < self.tokens.len();
        self.read += usize::from(more);
        more
    }

    fn current(&self) -> Option<&Token<'t>> {
        self.tokens.get(self.read.checked_sub(1)?)
    }

    fn is(&self, text: &str) -> bool {
        self.current().is_some_and(|token| token.text == text)
    }

    fn line(&self) -> usize {
        self.current().or(self.tokens.last()).map_or(1, |token| token.line)
    }

    fn begins_line(&self) -> bool {
        let Some(now) = self.current() else { return false };
        let before = self.read.checked_sub(2).and_then(|at| self.tokens.get(at));
        before.is_none_or(|before| before.last_line() < now.line)
    }

    /// The next token of the same line.
    fn next_in_line(&mut self) -> bool {
        let Some(last_line) = self.current().map(Token::last_line) else { return false };
        let more = self.tokens.get(self.read).is_some_and(|token| token.line == last_line);
        self.read += usize::from(more);
        more
    }

    /// A server block, a snippet, or nothing but imports.
    fn part(&mut self) -> Result<(), Refusal> {
        self.place = Place::Top;
        let (keys, ended) = self.keys()?;
        self.opaque = false;
        let Some((first, begin)) = keys.first().map(|key| (key.token.clone(), key.begin)) else {
            if ended {
                return Ok(());
            }
            let why = "a block has no key of its own";
            return Err(unsure(self.line(), why, "write its zones in front of the brace"));
        };
        if ended || !self.is("{") {
            return Err(unsure(
                first.line,
                "this server has no braces, and would take what is added for its own",
                "put its directives in braces",
            ));
        }
        if let [key] = &keys[..]
            && let Some(name) = key.value.as_ref().unwrap_or(&key.raw).strip_prefix('(')
            && let Some(name) = name.strip_suffix(')')
        {
            return self.snippet(first.line, name.to_owned());
        }
        let mut copied = keys.iter().any(|key| key.token.copied);
        let claims: Vec<_> = keys
            .into_iter()
            .map(|key| Claim::read(key.raw, key.token.line, key.value.as_deref(), self.process.port))
            .collect();
        let root = claims.iter().any(|claim| claim.zone == Zone::Root);
        self.place = if root { Place::Root } else { Place::Server };
        let directives = self.directives(first.line)?;
        let close = self.current().cloned().unwrap_or_else(|| first.clone());
        copied |= directives.iter().flat_map(|directive| &directive.tokens).any(|token| token.copied);
        self.parts.servers.push(Server {
            claims,
            directives,
            span: Span { start: begin, end: close.span.end },
            line: first.line,
            copied: copied || close.copied,
            opaque: self.opaque,
        });
        Ok(())
    }

    /// The keys with their tokens, and whether the text ended with them.
    fn keys(&mut self) -> Result<(Vec<Key<'t>>, bool), Refusal> {
        let mut keys = Vec::new();
        let mut expects_another = false;
        let mut begin = None;
        loop {
            let token = self.current().cloned();
            let text = token.as_ref().map_or("", |token| &token.text);
            let known = expand(text, self.process);
            let value = known.as_deref().unwrap_or(text);
            if value == "import" && self.begins_line() {
                let among_keys = !keys.is_empty();
                begin = None;
                if self.import()? == ImportKind::Snippet || !among_keys {
                    continue;
                }
                return Err(unsure(
                    self.line(),
                    "a file is imported among the keys of a server",
                    "write the keys themselves",
                ));
            }
            if value == "{" {
                if expects_another {
                    return Err(broken(self.line(), "a brace follows a comma"));
                }
                return Ok((keys, false));
            }
            if value == "}" {
                return Err(broken(self.line(), "a brace is closed that was not opened"));
            }
            if let Some(empty) = token.as_ref().filter(|token| value.is_empty() && !token.copied) {
                begin.get_or_insert(empty.span.start);
            }
            if let Some(token) = token.as_ref().filter(|_| !value.is_empty()) {
                expects_another = value.ends_with(',');
                let bare = |text: &str| text.strip_suffix(',').unwrap_or(text).to_owned();
                let value = known.as_deref().map(bare);
                let begin = begin.take().unwrap_or(token.span.start);
                keys.push(Key { token: token.clone(), begin, raw: bare(text), value });
            }
            if !self.next() {
                if expects_another {
                    return Err(broken(self.line(), "another key is expected after the comma"));
                }
                return Ok((keys, true));
            }
            if !expects_another && self.begins_line() {
                return Ok((keys, false));
            }
        }
    }

    fn snippet(&mut self, line: usize, name: String) -> Result<(), Refusal> {
        if self.parts.snippets.iter().any(|snippet| snippet.name == name) {
            return Err(broken(line, &format!("the snippet {name:?} is defined a second time")));
        }
        let from = self.read;
        let mut depth = 1;
        while depth > 0 {
            if !self.next() {
                return Err(broken(line, "the brace of this snippet is not closed"));
            }
            depth += usize::from(self.is("{"));
            depth -= usize::from(self.is("}"));
        }
        let mut tokens = self.tokens[from..self.read - 1].to_vec();
        for (at, token) in tokens.iter().enumerate() {
            let begins_line = at == 0 || tokens[at - 1].line != token.line;
            let what = tokens.get(at + 1).filter(|_| token.text == "import" && begins_line);
            if what.is_some_and(|what| expand(&what.text, self.process).is_some_and(|what| what == name)) {
                return Err(broken(token.line, "a snippet imports itself"));
            }
        }
        tokens.iter_mut().for_each(|token| token.copied = true);
        self.parts.snippets.push(Snippet { name, tokens });
        Ok(())
    }

    /// From the opening brace to the closing one.
    fn directives(&mut self, line: usize) -> Result<Vec<Directive<'t>>, Refusal> {
        let mut directives = Vec::new();
        while self.next() {
            if self.is("}") {
                return Ok(directives);
            }
            if self.is("import") {
                self.import()?;
                self.read -= 1;
            } else {
                directives.push(self.directive()?);
            }
        }
        Err(broken(line, "the brace of this server is not closed"))
    }

    fn directive(&mut self) -> Result<Directive<'t>, Refusal> {
        let line = self.line();
        if self.is("{") {
            return Err(broken(line, "a brace stands where a directive is expected"));
        }
        let mut tokens: Vec<_> = self.current().cloned().into_iter().collect();
        let mut depth = 0;
        while self.next() {
            if self.is("{") {
                depth += 1;
            } else if depth == 0 && self.begins_line() {
                self.read -= 1;
                break;
            } else if self.is("}") {
                if depth == 0 {
                    return Err(broken(self.line(), "a brace is closed in the line of a directive"));
                }
                depth -= 1;
            } else if self.is("import") && self.begins_line() {
                self.import()?;
                self.read -= 1;
                continue;
            }
            tokens.extend(self.current().cloned());
        }
        if depth > 0 {
            return Err(broken(line, "the brace of this directive is not closed"));
        }
        Ok(Directive { tokens })
    }

    /// Puts what is imported in the place of the import; its first token, or what follows, is then the current one.
    fn import(&mut self) -> Result<ImportKind, Refusal> {
        let line = self.line();
        let at = self.read - 1;
        if !self.next_in_line() {
            return Err(broken(line, "an import has no argument"));
        }
        let raw = self.current().map(|token| token.text.clone()).unwrap_or_default();
        let argument = expand(&raw, self.process).unwrap_or(raw.clone());
        if argument.is_empty() {
            return Err(broken(line, "an import has an empty argument"));
        }
        if self.next_in_line() {
            return Err(broken(line, "an import has more than one argument"));
        }
        let snippet = self.parts.snippets.iter().find(|snippet| snippet.name == argument);
        let kind = match snippet {
            Some(_) => ImportKind::Snippet,
            None if argument.contains(['*', '?', '[', ']']) => ImportKind::Glob,
            None => ImportKind::File,
        };
        let many = |c: char| argument.matches(c).count() > 1;
        if kind == ImportKind::Glob && (many('*') || many('?')) {
            return Err(broken(line, "an import has more than one wildcard"));
        }
        if kind != ImportKind::Snippet && argument.contains(['[', '\\']) {
            let why = "an import has [ or \\ in its pattern, and few such patterns are taken by CoreDNS";
            return Err(unsure(line, why, "write the path without"));
        }
        let tokens = snippet.map(|snippet| snippet.tokens.clone()).unwrap_or_default();
        self.expansions += 1;
        if self.expansions > MAX_EXPANSIONS || self.tokens.len() + tokens.len() > MAX_TOKENS {
            return Err(unsure(line, "snippets import snippets too often", "write out what they hold"));
        }
        let import = Import { argument: argument.into_owned(), line, place: self.place, kind };
        self.parts.imports.push(import);
        self.opaque |= kind != ImportKind::Snippet;
        self.tokens.splice(at..at + 2, tokens);
        self.read = at + 1;
        Ok(kind)
    }
}

fn broken(line: usize, why: &str) -> Refusal {
    Refusal::new(
        RefusalKind::Invalid,
        format!("line {line}"),
        why,
        "correct the Corefile: CoreDNS does not start with it as it is",
    )
}

fn unsure(line: usize, why: &str, remedy: &str) -> Refusal {
    Refusal::new(RefusalKind::Unsure, format!("line {line}"), why, remedy)
}

#[cfg(test)]
mod tests;
