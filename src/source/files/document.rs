//! One document of a file, with the items of a list kept as text.
//!
//! A list may hold all entries of a mesh. As a tree each takes kilobytes, so items are brought back to JSON text as
//! they are read, and made into a tree again one by one: whether a document is a list shows only at its end (`kind`
//! comes after `items` in what kubectl prints).

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// See the module.
#[derive(Default)]
pub(super) struct Document {
    object: Value,
    items: Vec<Box<str>>,
}

impl Document {
    /// Shows every object: the items of a list with their number from 1, or the document itself as 0.
    pub(super) fn for_each_object(self, mut show: impl FnMut(&Value, u32)) {
        // `ServiceEntryList` is what an old `kubectl get -o yaml` prints.
        match self.object.get("kind").and_then(Value::as_str) {
            Some("List" | "ServiceEntryList") => {
                for (item, number) in self.items.iter().zip(1..) {
                    // It is our own text.
                    show(&serde_json::from_str(item).unwrap_or_default(), number);
                }
            }
            _ => show(&self.object, 0),
        }
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut object = Map::new();
        let mut items = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                items = map.next_value::<Document>()?.items;
            } else {
                object.insert(key, map.next_value()?);
            }
        }
        Ok(Document { object: object.into(), items })
    }

    /// The value of `items`; as a document of its own, nothing.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Document, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Value>()? {
            items.push(serde_json::to_string(&item).map_err(A::Error::custom)?.into_boxed_str());
        }
        Ok(Document { object: Value::Null, items })
    }

    // What is no map is no manifest.

    fn visit_bool<E>(self, _: bool) -> Result<Document, E> {
        Ok(Document::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Document, E> {
        Ok(Document::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Document, E> {
        Ok(Document::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Document, E> {
        Ok(Document::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Document, E> {
        Ok(Document::default())
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::default())
    }
}
