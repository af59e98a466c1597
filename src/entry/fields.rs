//! Typed reads from an untyped object: a missing field is nothing, a field of another type is a
//! finding and nothing more (S5).

use std::fmt;

use serde_json::Value;

use super::EntryId;
use crate::finding::{Code, Finding};
use crate::limits::{MOST_FINDINGS, MOST_ITEMS};

/// The names of a field and of those it is in, outermost first; empty for the whole object.
pub(super) type Keys = &'static [&'static str];

/// Addresses that istiod has allocated (A2).
pub(super) const STATUS_ADDRESSES: Keys = &["status", "addresses"];

/// Where a value is. Written out only for a finding: most entries have none, and whoever changes an entry waits for it
/// to be read (L7).
#[derive(Clone, Copy)]
pub(super) enum Path {
    Field(Keys),
    /// One of a list.
    Item(Keys, usize),
    /// A field of one of a list.
    ItemField(Keys, usize, &'static str),
    /// One of a map.
    Entry(Keys, &'static str),
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Path::Field(keys) | Path::Item(keys, _) | Path::ItemField(keys, ..) | Path::Entry(keys, _)) =
            self;
        f.write_str(&keys.join("."))?;
        match self {
            Path::Field(_) => Ok(()),
            Path::Item(_, i) => write!(f, "[{i}]"),
            Path::ItemField(_, i, field) => write!(f, "[{i}].{field}"),
            Path::Entry(_, key) => write!(f, "[{key}]"),
        }
    }
}

/// Ports of the entry's hosts (D23).
pub(super) const PORTS: Keys = &["spec", "ports"];

/// One object and the findings made while reading it.
pub(super) struct Fields<'o> {
    object: &'o Value,
    id: &'o EntryId,
    findings: Vec<Finding>,
    /// How many of them are about single items, and how many more of these there were.
    of_items: usize,
    beyond: usize,
}

impl<'o> Fields<'o> {
    pub(super) fn new(object: &'o Value, id: &'o EntryId) -> Self {
        Fields { object, id, findings: Vec::new(), of_items: 0, beyond: 0 }
    }

    /// Who the entry is.
    pub(super) fn id(&self) -> &'o EntryId {
        self.id
    }

    pub(super) fn into_findings(mut self) -> Vec<Finding> {
        if self.beyond > 0 {
            self.report(
                Code::LimitExceeded,
                Path::Field(&[]),
                &format!("{} more", self.beyond),
                format!(
                    "only the first {MOST_FINDINGS} findings about hosts and addresses of an entry are told"
                ),
                "mend those; the others show then",
            );
        }
        self.findings
    }

    pub(super) fn report(
        &mut self,
        code: Code,
        path: Path,
        value: &str,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if matches!(path, Path::Item(..) | Path::ItemField(..)) {
            if self.of_items == MOST_FINDINGS {
                self.beyond += 1;
                return;
            }
            self.of_items += 1;
        }
        self.findings.push(Finding::new(code, self.id.to_string(), path.to_string(), value, why, remedy));
    }

    /// Reports a field that is there but is no map; what is below it counts as missing.
    pub(super) fn require_map(&mut self, keys: Keys) {
        if let Some(value) = self.get(keys).filter(|value| !value.is_object()) {
            self.wrong_type(Path::Field(keys), value, "a map");
        }
    }

    /// A string field.
    pub(super) fn string(&mut self, keys: Keys) -> Option<&'o str> {
        let value = self.get(keys)?;
        self.as_string(Path::Field(keys), value)
    }

    /// The strings of a list, with their positions; items of another type are findings.
    pub(super) fn strings(&mut self, keys: Keys) -> Vec<(usize, &'o str)> {
        let items = self.list(keys);
        if items.len() > MOST_ITEMS {
            self.too_many(keys, format!("more than {MOST_ITEMS} items"), MOST_ITEMS, "items of the list");
        }
        items
            .iter()
            .take(MOST_ITEMS)
            .enumerate()
            .filter_map(|(i, item)| Some((i, self.as_string(Path::Item(keys, i), item)?)))
            .collect()
    }

    /// True if a list is absent, null or holds nothing; something of another type is not empty.
    pub(super) fn list_is_empty(&self, keys: Keys) -> bool {
        self.get(keys).is_none_or(|value| value.as_array().is_some_and(Vec::is_empty))
    }

    /// One string of a map such as labels or annotations.
    pub(super) fn map_entry(&mut self, keys: Keys, key: &'static str) -> Option<&'o str> {
        let map = self.get(keys)?;
        let Some(map) = map.as_object() else {
            self.wrong_type(Path::Field(keys), map, "a map of strings");
            return None;
        };
        let value = map.get(key)?;
        self.as_string(Path::Entry(keys, key), value)
    }

    /// `status.addresses[]`: position, value and host.
    pub(super) fn status_addresses(&mut self) -> Vec<(usize, &'o str, &'o str)> {
        let items = self.list(STATUS_ADDRESSES);
        if items.len() > MOST_ITEMS {
            let value = format!("more than {MOST_ITEMS} items");
            self.too_many(STATUS_ADDRESSES, value, MOST_ITEMS, "items of the list");
        }
        let mut read = Vec::new();
        for (i, item) in items.iter().take(MOST_ITEMS).enumerate() {
            let Some(map) = item.as_object() else {
                self.wrong_type(Path::Item(STATUS_ADDRESSES, i), item, "a map with value and host");
                continue;
            };
            let mut field = |key: &'static str| {
                let value = map.get(key).filter(|v| !v.is_null())?;
                self.as_string(Path::ItemField(STATUS_ADDRESSES, i, key), value)
            };
            if let (Some(value), Some(host)) = (field("value"), field("host")) {
                read.push((i, value, host));
            }
        }
        read
    }

    /// `spec.ports[]`, with their positions.
    pub(super) fn ports(&mut self, most: usize) -> Vec<(usize, &'o serde_json::Map<String, Value>)> {
        let items = self.list(PORTS);
        if items.len() > most {
            self.too_many(PORTS, format!("more than {most} items"), most, "items of the list");
        }
        let mut read = Vec::new();
        for (i, item) in items.iter().take(most).enumerate() {
            match item.as_object() {
                Some(map) => read.push((i, map)),
                None => self.wrong_type(Path::Item(PORTS, i), item, "a map with number, name and protocol"),
            }
        }
        read
    }

    /// S7: only the first `most` are read.
    pub(super) fn too_many(&mut self, keys: Keys, value: String, most: usize, what: &str) {
        self.report(
            Code::LimitExceeded,
            Path::Field(keys),
            &value,
            format!("only the first {most} {what} are read, and the rest is not served"),
            "spread them over several entries with hosts of their own",
        );
    }

    fn list(&mut self, keys: Keys) -> &'o [Value] {
        match self.get(keys) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong_type(Path::Field(keys), other, "a list");
                &[]
            }
        }
    }

    fn get(&self, keys: Keys) -> Option<&'o Value> {
        keys.iter().try_fold(self.object, |value, key| value.get(key)).filter(|v| !v.is_null())
    }

    fn as_string(&mut self, path: Path, value: &'o Value) -> Option<&'o str> {
        let text = value.as_str();
        if text.is_none() {
            self.wrong_type(path, value, "a string");
        }
        text
    }

    fn wrong_type(&mut self, path: Path, value: &Value, wanted: &str) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        };
        self.report(
            Code::FieldType,
            path,
            &value.to_string(),
            format!("it is {kind}, not {wanted}, and is ignored"),
            format!("write {wanted}"),
        );
    }
}
