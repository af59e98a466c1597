//! The server block that we write.

use std::fmt;

use crate::stub::{Stub, server_text};

/// The comment before our block. People read it; programs drop it, so that it is only a hint that a block is ours.
pub(super) const BEGIN: &str = "# BEGIN globaldns managed stub zones (do not edit)";
/// The comment after it.
pub(super) const END: &str = "# END globaldns managed stub zones";

/// The server block that sends the look-ups in our zones to our servers.
///
/// It is the smallest one that does: every further plugin or option is unknown to some version of CoreDNS, or to the
/// programs that upgrade clusters (kubernetes/kubernetes#82889).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The zones and servers.
    pub stub: Stub,
    /// The port of every zone: that of the `.` block beside it.
    pub port: u16,
    /// Where the server listens: what the `.` block beside it says.
    pub bind: Bind,
    /// The plugin that asks the servers.
    pub plugin: Plugin,
}

/// The plugin that asks other servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plugin {
    /// `forward`, which CoreDNS has since version 1.1.
    #[default]
    Forward,
    /// `proxy`, which older ones have, and which CoreDNS 1.5 does not start with.
    Proxy,
}

impl Plugin {
    /// The directive.
    pub fn name(self) -> &'static str {
        match self {
            Plugin::Forward => "forward",
            Plugin::Proxy => "proxy",
        }
    }
}

/// The addresses or interfaces of a `bind` line; none for no line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind(Vec<String>);

impl Bind {
    /// `None` if a word would have to be written in quotes.
    pub fn new(words: impl IntoIterator<Item = impl Into<String>>) -> Option<Bind> {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        let bad = |c: char| c.is_whitespace() || c == '"' || c == '#';
        let plain = |word: &String| !word.is_empty() && word != "{" && word != "}" && !word.contains(bad);
        words.iter().all(plain).then_some(Bind(words))
    }

    /// The addresses or interfaces.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl Block {
    /// A block for any CoreDNS since 1.1 that listens everywhere.
    pub fn new(stub: Stub, port: u16) -> Block {
        Block { stub, port, bind: Bind::default(), plugin: Plugin::default() }
    }

    /// The block without the comments around it: a file of its own, as ConfigMaps named `coredns-custom` hold them.
    pub fn bare(&self) -> String {
        let keys: Vec<_> = self.stub.zones().iter().map(|zone| format!("{zone}:{}", self.port)).collect();
        let servers: Vec<_> = self.stub.servers().iter().map(server_text).collect();
        let bind = match self.bind.words() {
            [] => String::new(),
            words => format!("    bind {}\n", words.join(" ")),
        };
        format!(
            "{} {{\n    errors\n    cache 30\n{bind}    {} . {}\n}}\n",
            keys.join(" "),
            self.plugin.name(),
            servers.join(" ")
        )
    }
}

impl fmt::Display for Block {
    /// With the comments around it, every line ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEGIN}\n{}{END}\n", self.bare())
    }
}
