//! One document of a file, read without ever holding the tree of a whole list.
//!
//! A list may hold all entries of a mesh, and as a tree each takes kilobytes. So the items are handed out one by one as
//! they are read, and of each only what is read of it ([`object`]); whether the document is a list at all shows only at its end (`kind` comes after `items` in what
//! kubectl prints), and then they count or they do not.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::entry::object::{self, FieldSeed, Object};

/// Reads a document, and gives the elements of a list `items` to `item`. Its value is the rest of the document.
pub(super) struct Reading<'f> {
    item: &'f mut dyn FnMut(Value),
    /// Inside `items`.
    inside: bool,
}

impl<'f> Reading<'f> {
    pub(super) fn new(item: &'f mut dyn FnMut(Value)) -> Reading<'f> {
        Reading { item, inside: false }
    }
}

/// Whether the items of a document count. `ServiceEntryList` is what an old `kubectl get -o yaml` prints.
pub(super) fn is_list(document: &Value) -> bool {
    matches!(document.get("kind").and_then(Value::as_str), Some("List" | "ServiceEntryList"))
}

/// A document whose items are kept as text, for a parser that takes no context along.
pub(super) struct Document {
    pub(super) object: Value,
    pub(super) items: Vec<Box<str>>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
        let mut items = Vec::new();
        let object =
            Reading::new(&mut |item| items.push(item.to_string().into())).deserialize(deserializer)?;
        Ok(Document { object, items })
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" && !self.inside {
                map.next_value_seed(Reading { item: &mut *self.item, inside: true })?;
            } else if let Some(shape) = object::field(&key) {
                object.insert(key, map.next_value_seed(FieldSeed(shape))?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(object.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        if self.inside {
            while let Some(Object(item)) = seq.next_element()? {
                (self.item)(item);
            }
        } else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(Value::Null)
    }

    // What is no map is no manifest.

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}
