//! Typed reads from an untyped object: a missing field is nothing, a field of another type is a
//! finding and nothing more (S5).

use std::fmt;

use serde_json::Value;

use super::EntryId;
use crate::finding::{Code, Finding};

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

/// One object and the findings made while reading it.
pub(super) struct Fields<'o> {
    object: &'o Value,
    id: &'o EntryId,
    findings: Vec<Finding>,
}

impl<'o> Fields<'o> {
    pub(super) fn new(object: &'o Value, id: &'o EntryId) -> Self {
        Fields { object, id, findings: Vec::new() }
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
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
        items
            .iter()
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
        let mut read = Vec::new();
        for (i, item) in items.iter().enumerate() {
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
