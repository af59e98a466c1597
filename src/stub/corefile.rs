//! The Corefile: what the configuration of CoreDNS serves, and our block in it.
//!
//! [`Corefile::parse`] reads a text as CoreDNS does, with the place of everything in it; [`edit()`] writes, renews or
//! removes our server block and leaves every other octet alone.
//!
//! What a Corefile imports from other files is not seen here. CoreDNS refuses a zone that two files of one process
//! serve, so hold the [`Claim`]s of all of them against what is wanted before writing to one.

mod blocks;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod check;
mod draft;
mod edit;
mod key;
mod lexer;
mod overlap;
mod owner;
mod parts;
mod wanted;

pub use edit::{Edit, Step, edit};
pub use key::{Claim, Zone};
pub use lexer::{Comment, Lexed, Span, Token, lex};
pub use wanted::{Bind, Block, Plugin};

use parts::{Parts, Server};

use super::{DNS_PORT, Refusal, RefusalKind};

/// What the CoreDNS process adds to the text of its Corefile.
#[derive(Clone, Copy)]
pub struct Process<'a> {
    /// The port of a key that names none: `-dns.port`.
    pub port: u16,
    /// The value of a variable in its environment, empty where it has none; `None` where that is not known.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

impl Default for Process<'_> {
    /// Port 53, no variable known.
    fn default() -> Self {
        Process { port: DNS_PORT, env: &|_| None }
    }
}

/// A text that CoreDNS could read as a Corefile, and that a server block may be added to.
#[derive(Debug)]
pub struct Corefile<'t> {
    text: &'t str,
    parts: Parts<'t>,
}

/// An `import`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// What is imported: a path, relative to the directory of the Corefile, a pattern, or a snippet's name.
    pub argument: String,
    /// Its line, from 1.
    pub line: usize,
    /// Where it is.
    pub place: Place,
    /// What its argument is.
    pub kind: ImportKind,
}

/// Where an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Outside all server blocks: it brings server blocks and snippets.
    Top,
    /// In a block that serves `.`.
    Root,
    /// In another block.
    Server,
}

/// What an import's argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportKind {
    /// A snippet that the text defines.
    Snippet,
    /// A pattern; that no file matches it is fine.
    Glob,
    /// One file, which must exist.
    File,
}

impl<'t> Corefile<'t> {
    /// Refuses what CoreDNS does not read, and what it would read differently with a block added.
    pub fn parse(text: &'t str, process: &Process<'_>) -> Result<Corefile<'t>, Refusal> {
        Ok(Corefile { text, parts: blocks::parse(text, process)? })
    }

    /// What its server blocks serve, in order, snippets put in their places.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.parts.servers.iter().flat_map(|server| &server.claims)
    }

    /// The imports in effect, in order: those of a snippet where it is imported, with the line in the snippet.
    pub fn imports(&self) -> &[Import] {
        &self.parts.imports
    }

    /// The port that plain DNS for `.` is served on: the first, if there are several.
    pub fn root_port(&self) -> Option<u16> {
        self.root().and_then(|(_, port)| port)
    }

    /// Where that server listens. A `bind` that leaves addresses out cannot be copied.
    pub fn root_bind(&self) -> Result<Bind, Refusal> {
        let Some((root, _)) = self.root() else { return Ok(Bind::default()) };
        let binds = || root.directives.iter().filter(|directive| directive.name() == "bind");
        let words = binds().flat_map(|bind| bind.arguments()).map(|token| token.text.clone());
        Bind::new(words).filter(|_| binds().all(|bind| bind.options().is_empty())).ok_or_else(|| {
            Refusal::new(
                RefusalKind::Unsure,
                format!("line {}", root.line),
                "the addresses this server binds to cannot be copied",
                "name them in a plain bind line",
            )
        })
    }

    fn root(&self) -> Option<(&Server<'t>, Option<u16>)> {
        self.parts.servers.iter().find_map(|server| {
            let mut plain = server.claims.iter().filter(|claim| claim.transport == "dns");
            Some((server, plain.find(|claim| claim.zone == Zone::Root)?.port))
        })
    }

    /// Whether CoreDNS looks for changes by itself: one `reload` serves the whole process.
    pub fn reloads(&self) -> bool {
        self.parts.servers.iter().any(|server| server.has("reload"))
    }
}

#[cfg(test)]
mod caddy;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
