//! Typed reads from an untyped object: a missing field is nothing, a field of another type is a
//! finding and nothing more (S5).

use serde_json::Value;

use crate::finding::{Code, Finding};

/// One object and the findings made while reading it.
pub(super) struct Fields<'o> {
    object: &'o Value,
    name: String,
    findings: Vec<Finding>,
}

impl<'o> Fields<'o> {
    pub(super) fn new(object: &'o Value, name: String) -> Self {
        Fields { object, name, findings: Vec::new() }
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    pub(super) fn report(
        &mut self,
        code: Code,
        field: impl Into<String>,
        value: &str,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding::new(code, self.name.clone(), field, value, why, remedy));
    }

    /// Reports a field that is there but is no map; what is below it counts as missing.
    pub(super) fn require_map(&mut self, path: &str) {
        if let Some(value) = self.get(path).filter(|value| !value.is_object()) {
            self.wrong_type(path, value, "a map");
        }
    }

    /// A string field by its dotted path.
    pub(super) fn string(&mut self, path: &str) -> Option<&'o str> {
        let value = self.get(path)?;
        self.as_string(path, value)
    }

    /// The strings of a list, with their positions; items of another type are findings.
    pub(super) fn strings(&mut self, path: &str) -> Vec<(usize, &'o str)> {
        let items = self.list(path);
        items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| Some((i, self.as_string(&format!("{path}[{i}]"), item)?)))
            .collect()
    }

    /// True if a list is absent, null or holds nothing; something of another type is not empty.
    pub(super) fn list_is_empty(&self, path: &str) -> bool {
        self.get(path).is_none_or(|value| value.as_array().is_some_and(Vec::is_empty))
    }

    /// One string of a map such as labels or annotations.
    pub(super) fn map_entry(&mut self, path: &str, key: &str) -> Option<&'o str> {
        let map = self.get(path)?;
        let Some(map) = map.as_object() else {
            self.wrong_type(path, map, "a map of strings");
            return None;
        };
        let value = map.get(key)?;
        self.as_string(&format!("{path}[{key}]"), value)
    }

    /// `status.addresses[]`: position, value and host.
    pub(super) fn status_addresses(&mut self) -> Vec<(usize, &'o str, &'o str)> {
        let items = self.list("status.addresses");
        let mut read = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let path = format!("status.addresses[{i}]");
            let Some(map) = item.as_object() else {
                self.wrong_type(&path, item, "a map with value and host");
                continue;
            };
            let mut field = |key: &str| {
                let value = map.get(key).filter(|v| !v.is_null())?;
                self.as_string(&format!("{path}.{key}"), value)
            };
            if let (Some(value), Some(host)) = (field("value"), field("host")) {
                read.push((i, value, host));
            }
        }
        read
    }

    fn list(&mut self, path: &str) -> &'o [Value] {
        match self.get(path) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong_type(path, other, "a list");
                &[]
            }
        }
    }

    fn get(&self, path: &str) -> Option<&'o Value> {
        path.split('.').try_fold(self.object, |value, key| value.get(key)).filter(|v| !v.is_null())
    }

    fn as_string(&mut self, path: &str, value: &'o Value) -> Option<&'o str> {
        let text = value.as_str();
        if text.is_none() {
            self.wrong_type(path, value, "a string");
        }
        text
    }

    fn wrong_type(&mut self, path: &str, value: &Value, wanted: &str) {
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
