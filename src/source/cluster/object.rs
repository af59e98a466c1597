//! A ServiceEntry as the API server sent it: metadata kube needs, and what is read of the object, as JSON text.
//!
//! As a tree of values it would take many times the room, and kube keeps those of a page all at once (S7).
//!
//! Decoding cannot fail for anything that is JSON, so one malformed object never costs a list or a watch (S5). It is
//! first taken as text, because serde_json stops at what it cannot hold, and would not stop at the object.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ApiResource;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::entry::object;

/// See the module text.
#[derive(Clone, Debug)]
pub(in crate::source) struct Object {
    meta: ObjectMeta,
    text: Box<str>,
}

impl Object {
    /// The object.
    pub(super) fn json(&self) -> Value {
        // It is our own text.
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = object::read_text(Box::<RawValue>::deserialize(deserializer)?.get());
        let mut metadata = json.get("metadata").cloned().unwrap_or_default();
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        let essentials = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        // kube has no use for it.
        metadata.as_object_mut().map(|metadata| metadata.remove("managedFields"));
        let meta = ObjectMeta::deserialize(&metadata).unwrap_or(essentials);
        Ok(Object { meta, text: json.to_string().into() })
    }
}

impl kube::Resource for Object {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::ResourceExt;
    use serde_json::json;

    /// [S5]
    #[test]
    fn an_object_with_malformed_metadata_still_decodes_with_its_identity() {
        let object: Object = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "b", "resourceVersion": "7",
                         "creationTimestamp": "yesterday", "labels": ["not", "a", "map"]},
            "spec": 12
        }))
        .expect("any object decodes");
        assert_eq!((object.name_any(), object.namespace()), ("a".to_owned(), Some("b".to_owned())));
        assert_eq!(object.resource_version().as_deref(), Some("7"));
        assert_eq!(object.json()["spec"], 12);
    }

    /// [S5]
    #[test]
    fn an_item_that_is_no_object_decodes_to_one_without_a_name() {
        for text in ["null", "5", "[]", r#""text""#, r#"{"metadata": [1]}"#] {
            let object: Object = serde_json::from_str(text).expect("any JSON decodes");
            assert_eq!(object.name_any(), "", "{text}");
        }
    }
}
