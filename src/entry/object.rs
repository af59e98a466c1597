//! An object as far as somebody reads it.
//!
//! What nobody reads takes no room: not the endpoints of an entry, nor a map of a hundred thousand keys where a host
//! belongs. Without this, an object would take up to a hundred times the octets it has on the wire.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::TTL_ANNOTATION;
use super::read::AUTO_ALLOCATE_LABEL;
use crate::limits::MOST_ITEMS;

/// What is kept of a value.
#[derive(Debug)]
pub enum Shape {
    /// One number, text or truth value.
    Leaf,
    /// The fields named here.
    Map(&'static [(&'static str, Shape)]),
    /// The same, and the names of all others, with null for a value: an old server drops an entry for a field it does
    /// not know (K3).
    Named(&'static [(&'static str, Shape)]),
    /// Items, and one more than are read, so that it shows.
    List(&'static Shape),
    /// Of items with a `time`, the one with the latest: a list of one.
    Latest(&'static Shape),
    /// What has another type than it should, as far as there is room: it will be shown.
    Wrong,
}

use Shape::{Latest, Leaf, List, Map as Fields, Named, Wrong};

const TEXTS: Shape = List(&Leaf);

/// A ServiceEntry.
pub const ENTRY: Shape = Fields(&[
    ("apiVersion", Leaf),
    ("kind", Leaf),
    (
        "metadata",
        Fields(&[
            ("name", Leaf),
            ("namespace", Leaf),
            ("creationTimestamp", Leaf),
            ("deletionTimestamp", Leaf),
            ("resourceVersion", Leaf),
            ("managedFields", Latest(&Fields(&[("manager", Leaf), ("time", Leaf)]))),
            ("annotations", Fields(&[(TTL_ANNOTATION, Leaf)])),
            ("labels", Fields(&[(AUTO_ALLOCATE_LABEL, Leaf)])),
        ]),
    ),
    (
        "spec",
        Named(&[
            ("hosts", TEXTS),
            ("addresses", TEXTS),
            ("exportTo", TEXTS),
            ("resolution", Leaf),
            ("ports", List(&Named(&[("name", Leaf), ("number", Leaf), ("protocol", Leaf)]))),
        ]),
    ),
    ("status", Fields(&[("addresses", List(&Fields(&[("value", Leaf), ("host", Leaf)])))])),
]);

/// Fields of [`Shape::Named`] that are kept besides those that are read.
const MOST_NAMED: usize = 64;
/// Values of the wrong type that are kept of an object.
const MOST_WRONG: usize = 1_000;

/// Reads a ServiceEntry, or whatever is in the place of one.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Keep::new(&ENTRY, &mut { MOST_WRONG }).deserialize(deserializer)
}

/// A ServiceEntry in JSON text. A part that no value can hold is a text that says why, so whoever needs that part finds
/// the wrong type there, and nothing else is lost (S5): a value nested deeper than 128, a number above the range of a
/// double, half of a surrogate pair.
pub fn read_text(text: &str) -> Value {
    readable(&ENTRY, text)
}

fn readable(shape: &'static Shape, text: &str) -> Value {
    let why = match read_as(shape, &mut serde_json::Deserializer::from_str(text)) {
        Ok(value) => return value,
        Err(error) => error,
    };
    let part = |shape: &'static Shape, part: &RawValue| readable(shape, part.get());
    match shape {
        Fields(_) | Named(_) => {
            if let Ok(map) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
                let known =
                    map.into_iter().filter_map(|(key, raw)| find(shape, &key).map(|s| (key, part(s, raw))));
                return Value::Object(known.collect());
            }
        }
        List(item) => {
            if let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(text) {
                return list.into_iter().take(MOST_ITEMS + 1).map(|raw| part(item, raw)).collect();
            }
        }
        // Nothing is served from it, so nobody has to be told.
        Latest(_) => return Value::Null,
        Leaf | Wrong => {}
    }
    Value::String(format!("unreadable: {why}"))
}

/// A ServiceEntry, where a parser asks for a type.
pub struct Object(pub Value);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        read(deserializer).map(Object)
    }
}

/// One field of a ServiceEntry's map; `None` for one that nobody reads.
pub fn field(key: &str) -> Option<&'static Shape> {
    find(&ENTRY, key)
}

/// Reads a value of a shape.
pub fn read_as<'de, D: Deserializer<'de>>(shape: &'static Shape, deserializer: D) -> Result<Value, D::Error> {
    Keep::new(shape, &mut { MOST_WRONG }).deserialize(deserializer)
}

/// A field's shape where a parser asks for a seed.
pub struct FieldSeed(pub &'static Shape);

impl<'de> DeserializeSeed<'de> for FieldSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        read_as(self.0, deserializer)
    }
}

fn find(shape: &'static Shape, key: &str) -> Option<&'static Shape> {
    let (Fields(fields) | Named(fields)) = shape else { return None };
    fields.iter().find(|(name, _)| *name == key).map(|(_, shape)| shape)
}

/// Whether its `time` is later, of times as the API server writes them (RFC 3339 in UTC, whole seconds).
fn is_later(item: &Value, other: &Value) -> bool {
    let (time, other) = (item.get("time").and_then(Value::as_str), other.get("time").and_then(Value::as_str));
    time > other
}

struct Keep<'k> {
    shape: &'static Shape,
    /// How many more values of the wrong type are kept.
    wrong: &'k mut usize,
}

impl<'k> Keep<'k> {
    fn new(shape: &'static Shape, wrong: &'k mut usize) -> Keep<'k> {
        Keep { shape, wrong }
    }

    /// The same for a value inside of this one.
    fn inside(&mut self, shape: &'static Shape) -> Keep<'_> {
        Keep { shape, wrong: &mut *self.wrong }
    }

    /// Whether another value of the wrong type is kept.
    fn takes_wrong(&mut self) -> bool {
        let takes = *self.wrong > 0;
        *self.wrong -= usize::from(takes);
        takes
    }
}

impl<'de> DeserializeSeed<'de> for Keep<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let shape = match self.shape {
                Fields(_) | Named(_) => find(self.shape, &key),
                Leaf | List(_) | Latest(_) | Wrong => self.takes_wrong().then_some(&Wrong),
            };
            if let Some(shape) = shape {
                kept.insert(key, map.next_value_seed(self.inside(shape))?);
                continue;
            }
            map.next_value::<IgnoredAny>()?;
            if matches!(self.shape, Named(_)) && kept.len() < MOST_NAMED {
                kept.insert(key, Value::Null);
            }
        }
        Ok(kept.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        if let Latest(item) = self.shape {
            while let Some(item) = seq.next_element_seed(self.inside(item))? {
                if kept.first().is_none_or(|latest| is_later(&item, latest)) {
                    kept = vec![item];
                }
            }
            return Ok(kept.into());
        }
        loop {
            let shape = match self.shape {
                List(item) => (kept.len() <= MOST_ITEMS).then_some(*item),
                Leaf | Fields(_) | Named(_) | Latest(_) | Wrong => self.takes_wrong().then_some(&Wrong),
            };
            let Some(shape) = shape else { break };
            let Some(item) = seq.next_element_seed(self.inside(shape))? else { return Ok(kept.into()) };
            kept.push(item);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(kept.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kept(object: &Value) -> Value {
        read(object).expect("any JSON is read")
    }

    /// [S5] [S7]
    #[test]
    fn what_is_read_is_kept_as_it_is_and_the_rest_is_not() {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "data": {"a": [1, 2]},
            "metadata": {"name": "a", "namespace": "b", "resourceVersion": "7", "uid": "u", "managedFields": [{"manager": "helm", "fieldsV1": {}}],
                         "creationTimestamp": null, "annotations": {"x": "y", TTL_ANNOTATION: "9"},
                         "labels": ["not", "a", {"map": 1}]},
            "spec": {"hosts": ["a.global", 7, ["x"], {"y": {"z": 1.5}}, null, true], "addresses": "240.0.0.1",
                     "resolution": -1, "endpoints": [{"address": "1.1.1.1"}],
                     "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}, 5]},
            "status": {"addresses": [{"value": "240.0.0.1", "host": "a.global", "more": [1]}, "x"], "conditions": []}
        });
        let mut expected = object.clone();
        for (at, key) in [
            ("", "data"),
            ("/metadata", "uid"),
            ("/metadata/managedFields/0", "fieldsV1"),
            ("/metadata/annotations", "x"),
            ("/status", "conditions"),
            ("/status/addresses/0", "more"),
        ] {
            expected.pointer_mut(at).and_then(Value::as_object_mut).expect(at).remove(key);
        }
        expected["spec"]["endpoints"] = Value::Null;
        assert_eq!(kept(&object), expected);
        for other in [json!(null), json!("text"), json!([1, [2]]), json!(3)] {
            assert_eq!(kept(&other), other);
        }
    }

    /// [S7]
    #[test]
    fn lists_are_kept_until_it_shows_that_they_are_too_long() {
        let many: Vec<_> = (0..3 * MOST_ITEMS).map(|i| json!(i.to_string())).collect();
        let kept = kept(&json!({"spec": {"hosts": many}}));
        assert_eq!(kept["spec"]["hosts"].as_array().map(Vec::len), Some(MOST_ITEMS + 1));
    }

    /// [S7]
    #[test]
    fn values_in_the_wrong_place_take_little_room() {
        let map: Value =
            (0..100).map(|i| (i.to_string(), json!({"a": {"b": []}}))).collect::<Map<_, _>>().into();
        let count = |value: &Value| {
            fn nodes(value: &Value) -> usize {
                1 + match value {
                    Value::Array(items) => items.iter().map(nodes).sum::<usize>(),
                    Value::Object(map) => map.values().map(nodes).sum(),
                    _ => 0,
                }
            }
            nodes(value)
        };
        let wrong = json!({"spec": {"hosts": vec![map.clone(); 500], "resolution": vec![map.clone(); 500]},
                           "metadata": {"name": map, "labels": vec![vec![json!([[1]]); 100]; 100]}});
        let kept = kept(&wrong);
        assert!(count(&kept) <= 500 + MOST_WRONG + 10, "{}", count(&kept));
        assert_eq!(kept["spec"]["hosts"].as_array().map(Vec::len), Some(500), "each has its finding");
    }

    /// [K3] [S7]
    #[test]
    fn the_names_of_fields_are_kept_where_they_tell_the_age_of_an_entry() {
        let many: Map<String, Value> = (0..1000).map(|i| (format!("f{i}"), json!([i]))).collect();
        let kept = kept(&json!({"spec": many}));
        assert_eq!(kept["spec"].as_object().map(Map::len), Some(MOST_NAMED));
    }

    /// [S5]
    #[test]
    fn what_no_json_value_can_hold_costs_only_its_part() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        for bad in [deep.as_str(), "1e999", r#""\ud800""#] {
            let object = read_text(&format!(
                r#"{{"metadata": {{"name": "a", "namespace": "b", "resourceVersion": "7", "labels": {bad}}},
                     "spec": {{"hosts": ["a.global", {bad}], "newField": {bad}}}, "status": {bad}}}"#
            ));
            assert_eq!(
                (&object["metadata"]["name"], &object["metadata"]["namespace"]),
                (&json!("a"), &json!("b"))
            );
            assert_eq!(object["spec"]["hosts"][0], "a.global", "{bad}");
            for part in ["/spec/hosts/1", "/status", "/metadata/labels"] {
                let found = object.pointer(part).and_then(Value::as_str).unwrap_or_default();
                assert!(found.starts_with("unreadable: "), "{bad}: {part}: {found}");
            }
        }
    }
}
