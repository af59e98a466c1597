//! Where in a file a field is: line and column, for editors and code review.
//!
//! The reader of entries keeps no positions, since a server never needs them. So a file with findings is read a second
//! time, as YAML, of which JSON is a part; only the places that are asked for are kept.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// Line and column, from 1.
pub type Position = (u64, u64);

/// Paths that are looked for: of a document, an item of its list, and a field of that.
#[derive(Debug, Default)]
pub struct Places {
    found: HashMap<String, Option<Position>>,
}

/// How a field of an object is asked for; `position` is that of [`crate::entry::Origin::Document`].
fn path(position: (u32, u32), field: &str) -> String {
    match position {
        (document, 0) => format!("{document}.{field}"),
        (document, item) => format!("{document}.items[{}].{field}", item - 1),
    }
}

/// A path, and every path it lies in, longest first.
fn and_above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path.trim_end_matches('.')), |path| {
        // A key in brackets may have dots of its own.
        let at = if path.ends_with(']') { path.rfind('[') } else { path.rfind('.') };
        at.map(|at| &path[..at])
    })
}

impl Places {
    /// Looks for a field later.
    pub fn want(&mut self, position: (u32, u32), field: &str) {
        for path in and_above(&path(position, field)) {
            self.found.entry(path.to_owned()).or_insert(None);
        }
    }

    /// Where the field is, else what it would be in.
    pub fn get(&self, position: (u32, u32), field: &str) -> Option<Position> {
        and_above(&path(position, field)).find_map(|path| *self.found.get(path)?)
    }

    /// Looks through a file for everything that is wanted. What follows a fault is not found.
    pub fn look(&mut self, text: &str) {
        let mut walk = Walk { places: self, path: String::new(), open: Vec::new(), document: 0 };
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { return };
            walk.see(&event, &span);
        }
    }
}

/// Inside a file.
struct Walk<'p> {
    places: &'p mut Places,
    /// Of the node that comes next or is open.
    path: String,
    /// What is open, outermost first.
    open: Vec<Open>,
    document: u32,
}

/// A collection that is open.
struct Open {
    /// Length of its path.
    length: usize,
    inside: Inside,
}

enum Inside {
    /// The next item has this number.
    List(usize),
    /// A key comes next.
    Key,
    /// The value of a key comes next.
    Value,
}

impl Walk<'_> {
    fn see(&mut self, event: &Event<'_>, span: &Span) {
        match event {
            Event::DocumentStart(..) => {
                self.open.clear();
                self.path.clear();
            }
            // The reader of entries counts no document that is empty, or null.
            Event::Scalar(text, style, _, tag) if self.open.is_empty() => {
                let is_null = ["", "~"].contains(&&**text) || text.eq_ignore_ascii_case("null");
                if !(*style == ScalarStyle::Plain && tag.is_none() && is_null) {
                    self.scalar(text, span);
                }
            }
            Event::Scalar(text, ..) => self.scalar(text, span),
            Event::Alias(_) => {
                self.begin(span);
                self.end();
            }
            Event::SequenceStart(..) => self.collection(Inside::List(0), span),
            Event::MappingStart(..) => self.collection(Inside::Key, span),
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                self.end();
            }
            _ => {}
        }
    }

    fn scalar(&mut self, text: &str, span: &Span) {
        if let Some(Open { length, inside: inside @ Inside::Key }) = self.open.last_mut() {
            *inside = Inside::Value;
            let in_brackets =
                self.path.ends_with(".metadata.annotations") || self.path.ends_with(".metadata.labels");
            self.path.truncate(*length);
            self.path.push_str(&if in_brackets { format!("[{text}]") } else { format!(".{text}") });
            // The key is where people look for the field.
            self.note(span);
            return;
        }
        self.begin(span);
        self.end();
    }

    fn collection(&mut self, inside: Inside, span: &Span) {
        self.begin(span);
        self.open.push(Open { length: self.path.len(), inside });
    }

    /// A node begins.
    fn begin(&mut self, span: &Span) {
        match self.open.last() {
            None => {
                self.document += 1;
                self.path = self.document.to_string();
                self.note(span);
            }
            Some(Open { length, inside: Inside::List(at) }) => {
                let item = format!("[{at}]");
                self.path.truncate(*length);
                self.path.push_str(&item);
                self.note(span);
            }
            // Its path is there already, by the key. A key that is no text has none that anybody asks for.
            Some(_) => {}
        }
    }

    /// A node has ended.
    fn end(&mut self) {
        if let Some(Open { length, inside }) = self.open.last_mut() {
            self.path.truncate(*length);
            *inside = match inside {
                Inside::List(at) => Inside::List(*at + 1),
                Inside::Key => Inside::Value,
                Inside::Value => Inside::Key,
            };
        }
    }

    fn note(&mut self, span: &Span) {
        if let Some(found) = self.places.found.get_mut(&self.path) {
            let (line, column) = (span.start.line() as u64, span.start.col() as u64 + 1);
            found.get_or_insert((line, column));
        }
    }
}

#[cfg(test)]
mod tests;
