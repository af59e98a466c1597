//! The text of an edit.
//!
//! # Layout
//!
//! A new block goes to the end, where it moves no line of others. If the text does not end its last line, a newline
//! goes before the block and none after it; otherwise one goes after it and none before. So a block that ends the
//! text without a newline says that the newline before it is ours, and removing it restores the text it was added to.

use super::edit::Step;
use super::lexer::Span;
use super::wanted::Block;

/// A new text that has not been checked.
pub(super) struct Draft {
    pub(super) text: String,
    pub(super) steps: Vec<Step>,
    /// Where our block is, if it was written.
    pub(super) block: Option<Span>,
    /// Which block of ours was left as it is.
    pub(super) kept: Option<usize>,
}

/// `mine` are the blocks of ours in order, with their lines; all but `kept` are replaced or removed.
pub(super) fn draft(
    text: &str,
    mine: &[(Span, usize)],
    wanted: Option<&Block>,
    kept: Option<usize>,
) -> Draft {
    let newline = newline_of(text);
    let mut draft = Draft { text: text.to_owned(), steps: Vec::new(), block: None, kept };
    // From the end, so that a block finds the text after it as it will be.
    for (nth, &(span, line)) in mine.iter().enumerate().rev() {
        if kept == Some(nth) {
            continue;
        }
        let (span, whole) = widen(&draft.text, span);
        match wanted.filter(|_| kept.is_none() && nth == 0) {
            Some(block) => {
                let block = if whole { block.to_string() } else { block.bare() };
                draft.put(span, &block, newline);
                draft.steps.push(Step::Replaced(line));
            }
            None => {
                let span = if whole { with_newline(&draft.text, span) } else { span };
                draft.text.replace_range(span.start..span.end, "");
                draft.steps.push(Step::Removed(line));
            }
        }
    }
    draft.steps.reverse();
    if let Some(block) = wanted.filter(|_| mine.is_empty()) {
        let ended = text.is_empty() || text.ends_with('\n');
        // The newline goes where the block does not.
        let at = if ended { text.len() } else { text.len() + newline.len() };
        draft.text.push_str(newline);
        draft.put(Span { start: at, end: at }, &block.to_string(), newline);
        draft.steps.push(Step::Added(1 + draft.text[..at].matches('\n').count()));
    }
    draft
}

impl Draft {
    /// Puts a block in the place of a span, without its last newline.
    fn put(&mut self, span: Span, block: &str, newline: &str) {
        let block = block.trim_end().replace('\n', newline);
        self.text.replace_range(span.start..span.end, &block);
        self.block = Some(Span { start: span.start, end: span.start + block.len() });
    }
}

/// What most lines of a text end in.
fn newline_of(text: &str) -> &'static str {
    let both = text.matches("\r\n").count();
    if both > text.matches('\n').count() - both { "\r\n" } else { "\n" }
}

/// The span with the blanks around it, and whether it then is whole lines.
fn widen(text: &str, span: Span) -> (Span, bool) {
    let blank = [' ', '\t'];
    let before = text[..span.start].trim_end_matches(blank);
    let begins = before.is_empty() || before.ends_with('\n') || before == "\u{feff}";
    let after = text[span.end..].trim_start_matches(blank);
    let ends = after.is_empty() || after.starts_with('\n') || after.starts_with("\r\n");
    let whole = Span { start: before.len(), end: text.len() - after.len() };
    if begins && ends { (whole, true) } else { (span, false) }
}

/// Whole lines with the newline that was added with them.
fn with_newline(text: &str, Span { start, end }: Span) -> Span {
    let (before, inside, after) = (&text[..start], &text[start..end], &text[end..]);
    if !after.is_empty() {
        return Span { start, end: end + if after.starts_with('\r') { 2 } else { 1 } };
    }
    let first = inside.split('\n').next().unwrap_or_default();
    let newline = if first.ends_with('\r') { "\r\n" } else { "\n" };
    Span { start: before.strip_suffix(newline).unwrap_or(before).len(), end }
}
