//! Our server block in somebody else's Corefile: written, renewed, removed.

use std::collections::BTreeSet;
use std::fmt;

use super::draft::{Draft, draft};
use super::lexer::{Comment, Span};
use super::owner::{Known, is_right, stranger, zones};
use super::parts::{Directive, Server, Snippet};
use super::wanted::Block;
use super::{Claim, Corefile, ImportKind, Place, Process, Zone, overlap};
use crate::stub::{Ours, Refusal, RefusalKind};
use crate::wire::name::Name;

/// What an edit came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The new text: the old one if there is no step.
    pub text: String,
    /// What was done; nothing if the text says what is wanted.
    pub steps: Vec<Step>,
    /// What is no reason to refuse, but may be why a zone does not come to us.
    pub warnings: Vec<String>,
}

/// A change of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Our block is new, in this line of the new text.
    Added(usize),
    /// Our block was in this line of the old text, and said something else.
    Replaced(usize),
    /// A block of ours was in this line of the old text.
    Removed(usize),
}

impl Edit {
    /// Whether there is anything to write.
    pub fn changes(&self) -> bool {
        !self.steps.is_empty()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Added(line) => write!(f, "block added in line {line}"),
            Step::Replaced(line) => write!(f, "block of line {line} replaced"),
            Step::Removed(line) => write!(f, "block of line {line} removed"),
        }
    }
}

/// Makes a text say what is wanted: one block of ours, or none.
///
/// `ours` is what we may have written before; what is wanted counts as ours by itself. A block that means the same
/// as the wanted one is left as it is. Everything outside our blocks stays, octet for octet.
pub fn edit(text: &str, wanted: Option<&Block>, ours: &Ours, process: &Process<'_>) -> Result<Edit, Refusal> {
    let file = Corefile::parse(text, process)?;
    let ours = wanted.iter().fold(ours.clone(), |ours, wanted| ours.with(&wanted.stub));
    let known = Known { ours: &ours, binds: wanted.is_none_or(|wanted| !wanted.bind.words().is_empty()) };
    let (mine, others) = sort(&file, &known);
    let warnings = match wanted {
        Some(wanted) => {
            refuse(&file, &others, wanted)?;
            overlap::check(others.iter().map(|other| other.server))?;
            shadows(&others, wanted)
        }
        None => left(&others, &ours),
    };
    let unchanged = |warnings| Edit { text: text.to_owned(), steps: Vec::new(), warnings };
    if wanted.is_some_and(|wanted| says(&mine, wanted)) {
        return Ok(unchanged(warnings));
    }
    let spans: Vec<_> = mine.iter().map(|mine| (mine.span, mine.line)).collect();
    let right = |wanted| mine.iter().position(|one| says(std::slice::from_ref(one), wanted));
    let draft = draft(text, &spans, wanted, wanted.and_then(right));
    if draft.steps.is_empty() {
        return Ok(unchanged(warnings));
    }
    check(&file, &mine, &draft, wanted, process)?;
    let Draft { mut text, steps, .. } = draft;
    if wanted.is_none() {
        // Comments of ours around what is gone are around nothing now.
        text = edit(&text, None, &ours, process)?.text;
    }
    Ok(Edit { text, steps, warnings })
}

/// A block of ours with our comments around it, or such comments around nothing.
struct Mine<'a> {
    /// From the first comment to the second, or what is there of it all.
    span: Span,
    line: usize,
    server: Option<&'a Server<'a>>,
}

/// A block that is not ours, and why.
struct Other<'a> {
    server: &'a Server<'a>,
    why: String,
}

fn sort<'a>(file: &'a Corefile<'_>, known: &Known<'_>) -> (Vec<Mine<'a>>, Vec<Other<'a>>) {
    let marks = marks(file);
    let (mut mine, mut others) = (Vec::new(), Vec::new());
    for pair in marks.windows(2) {
        if let [begin @ Mark { begins: true, .. }, end @ Mark { begins: false, .. }] = pair
            && begin.after == end.after
        {
            let span = Span { start: begin.span.start, end: end.span.end };
            mine.push(Mine { span, line: begin.line, server: None });
        }
    }
    for server in &file.parts.servers {
        let token_at = |at: usize| file.parts.lexed.tokens.partition_point(|token| token.span.start < at);
        let before = marks.iter().rfind(|mark| mark.after == token_at(server.span.start));
        let after = marks.iter().find(|mark| mark.after == token_at(server.span.end));
        let begin = before.filter(|mark| mark.begins);
        let end = after.filter(|mark| !mark.begins);
        match stranger(server, begin.is_some() && end.is_some(), known) {
            Some(why) => others.push(Other { server, why }),
            None => mine.push(Mine {
                span: Span {
                    start: begin.map_or(server.span.start, |mark| mark.span.start),
                    end: end.map_or(server.span.end, |mark| mark.span.end),
                },
                line: begin.map_or(server.line, |mark| mark.line),
                server: Some(server),
            }),
        }
    }
    mine.sort_by_key(|mine| mine.span.start);
    (mine, others)
}

/// One of our comments.
struct Mark {
    begins: bool,
    span: Span,
    line: usize,
    /// How many tokens are before it.
    after: usize,
}

fn marks(file: &Corefile<'_>) -> Vec<Mark> {
    let mark = |comment: &Comment| {
        let words = file.text[comment.span.start..comment.span.end].trim_start_matches('#').trim_start();
        let begins = words.starts_with("BEGIN globaldns");
        let after = file.parts.lexed.tokens.partition_point(|token| token.span.start < comment.span.start);
        let mark = Mark { begins, span: comment.span, line: comment.line, after };
        (begins || words.starts_with("END globaldns")).then_some(mark)
    };
    file.parts.lexed.comments.iter().filter_map(mark).collect()
}

fn refuse(file: &Corefile<'_>, others: &[Other<'_>], wanted: &Block) -> Result<(), Refusal> {
    for claim in file.claims() {
        if let Zone::Invalid(why) = &claim.zone {
            return Err(Refusal::new(
                RefusalKind::Invalid,
                format!("line {}", claim.line),
                format!("CoreDNS does not take the key {:?}: {why}", claim.key),
                "correct the key",
            ));
        }
    }
    for Other { server, why } in others {
        for claim in &server.claims {
            if let Some(zone) = wanted.stub.zones().iter().find(|zone| claim.serves(zone, wanted.port)) {
                return Err(Refusal::new(
                    RefusalKind::Conflict,
                    format!("line {}", claim.line),
                    format!("{zone} is served on port {} by a block that is not ours: {why}", wanted.port),
                    "take the zone out of that block, or out of ours",
                ));
            }
        }
    }
    Ok(())
}

/// What keeps queries for a wanted zone from us, or may.
fn shadows(others: &[Other<'_>], wanted: &Block) -> Vec<String> {
    let zones = wanted.stub.zones();
    let shadow = |claim: &Claim| {
        let what = match &claim.zone {
            Zone::Name(name) if zones.contains(name) => "is served here as well, by a block that is not ours",
            Zone::Name(name)
                if claim.is_asked_on(wanted.port) && zones.iter().any(|zone| zone.covers(name)) =>
            {
                "does not come to us, though it is below a zone that does"
            }
            Zone::Unknown if zones.iter().any(|zone| claim.could_serve(zone, wanted.port)) => {
                "may be a zone of ours, and CoreDNS does not start with a zone that is served twice"
            }
            _ => return None,
        };
        Some(format!("line {}: {} {what}", claim.line, claim.key))
    };
    others.iter().flat_map(|other| &other.server.claims).filter_map(shadow).collect()
}

/// What is left of our zones when our blocks are removed.
fn left(others: &[Other<'_>], ours: &Ours) -> Vec<String> {
    let ours = |claim: &&Claim| matches!(&claim.zone, Zone::Name(name) if ours.zones.contains(name));
    let left = |Other { server, why }: &Other<'_>| {
        let claim = server.claims.iter().find(ours)?;
        Some(format!("line {}: {} stays, the block is not ours: {why}", claim.line, claim.key))
    };
    others.iter().filter_map(left).collect()
}

/// Whether our blocks together do what is wanted.
fn says(mine: &[Mine<'_>], wanted: &Block) -> bool {
    let mut servers = mine.iter().filter_map(|mine| mine.server).peekable();
    let mut seen = BTreeSet::new();
    servers.peek().is_some()
        && servers.all(|server| is_right(server, wanted) && zones(server).all(|zone| seen.insert(zone)))
        && seen == wanted.stub.zones().iter().collect::<BTreeSet<&Name>>()
}

/// The draft read again: our block is there as wanted, and the rest means what it did.
fn check(
    file: &Corefile<'_>,
    mine: &[Mine<'_>],
    draft: &Draft,
    wanted: Option<&Block>,
    process: &Process<'_>,
) -> Result<(), Refusal> {
    let unsure = |why: String| {
        let remedy = "write the block by hand, and tell the developers of globaldns";
        Refusal::new(
            RefusalKind::Unsure,
            "",
            format!("the edited text would be read another way: {why}"),
            remedy,
        )
    };
    let after = Corefile::parse(&draft.text, process).map_err(|refusal| unsure(refusal.to_string()))?;
    let before = file.parts.servers.iter().filter(|server| {
        let at = mine.iter().position(|mine| mine.server.is_some_and(|mine| std::ptr::eq(mine, *server)));
        at.is_none() || at == draft.kept
    });
    let (written, others): (Vec<_>, Vec<_>) = after.parts.servers.iter().partition(|server| {
        draft.block.is_some_and(|block| block.start <= server.span.start && server.span.end <= block.end)
    });
    if !before.map(meaning).eq(others.into_iter().map(meaning))
        || !imports(file).eq(imports(&after))
        || !snippets(file).eq(snippets(&after))
    {
        return Err(unsure("what is not ours would mean something else".to_owned()));
    }
    if let Some(wanted) = wanted {
        overlap::check(&after.parts.servers).map_err(|refusal| unsure(refusal.to_string()))?;
        let ours = |server: &&Server<'_>| is_right(server, wanted) && zones(server).eq(wanted.stub.zones());
        if draft.kept.is_none() && !(written.len() == 1 && written.iter().all(ours)) {
            return Err(unsure("our block would not be one".to_owned()));
        }
    }
    Ok(())
}

fn meaning<'a>(server: &'a Server<'_>) -> (Vec<&'a str>, Vec<Vec<&'a str>>) {
    let keys = server.claims.iter().map(|claim| claim.key.as_str());
    let words = |directive: &'a Directive<'_>| directive.tokens.iter().map(|token| &*token.text).collect();
    (keys.collect(), server.directives.iter().map(words).collect())
}

fn imports<'a>(file: &'a Corefile<'_>) -> impl Iterator<Item = (&'a str, Place, ImportKind)> {
    file.imports().iter().map(|import| (import.argument.as_str(), import.place, import.kind))
}

fn snippets<'a>(file: &'a Corefile<'_>) -> impl Iterator<Item = (&'a str, Vec<&'a str>)> {
    let words = |snippet: &'a Snippet<'_>| snippet.tokens.iter().map(|token| &*token.text).collect();
    file.parts.snippets.iter().map(move |snippet| (snippet.name.as_str(), words(snippet)))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(super) mod tests;
