//! Who wrote an object last, and when: what the API server notes of it.

use serde_json::Value;

use crate::limits::{MOST_MANAGER, shorten};

/// Who wrote an object last, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The manager of the newest of `metadata.managedFields`; nobody of a deletion, which leaves no trace there.
    pub manager: Option<Box<str>>,
    /// When that was, Unix seconds. Else `metadata.creationTimestamp`; of a deletion `metadata.deletionTimestamp`.
    pub time: Option<i64>,
    /// Nothing tells more than when it was made.
    pub only_created: bool,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<Box<str>>,
}

/// When an object was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Unix seconds.
    pub at: i64,
    /// That is when it was made; it may have been changed since.
    pub only_created: bool,
}

impl Provenance {
    /// When the object was written or deleted, if it tells.
    pub fn written(&self) -> Option<Written> {
        Some(Written { at: self.time?, only_created: self.only_created })
    }

    /// Of an object that was written.
    pub fn of(object: &Value) -> Provenance {
        let metadata = object.get("metadata").unwrap_or(&Value::Null);
        // The newest is all that is kept of them.
        let newest = metadata.get("managedFields").and_then(|managers| managers.get(0));
        let managed = newest.and_then(|newest| time(newest, "time"));
        Provenance {
            manager: newest.and_then(|newest| short(newest, "manager")),
            time: managed.or_else(|| time(metadata, "creationTimestamp")),
            only_created: managed.is_none(),
            resource_version: short(metadata, "resourceVersion"),
        }
    }

    /// Of an object that was deleted, as it was last.
    pub fn of_deleted(object: &Value) -> Provenance {
        let metadata = object.get("metadata").unwrap_or(&Value::Null);
        Provenance {
            time: time(metadata, "deletionTimestamp"),
            resource_version: short(metadata, "resourceVersion"),
            ..Provenance::default()
        }
    }
}

fn time(map: &Value, key: &str) -> Option<i64> {
    let time: jiff::Timestamp = map.get(key)?.as_str()?.parse().ok()?;
    Some(time.as_second())
}

fn short(map: &Value, key: &str) -> Option<Box<str>> {
    let text = map.get(key)?.as_str()?;
    Some(shorten(text, MOST_MANAGER).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::object;
    use serde_json::json;

    fn read(metadata: Value) -> Value {
        object::read(json!({"metadata": metadata})).expect("any JSON is read")
    }

    /// [I6] [I8]
    #[test]
    fn the_newest_manager_wrote_an_object_last() {
        let fields = json!({"f:spec": {"f:hosts": {}}});
        let by = |manager: &str, time: Value| json!({"manager": manager, "time": time, "fieldsV1": fields});
        let object = read(json!({
            "creationTimestamp": "2024-01-31T12:00:00Z", "resourceVersion": "77",
            "managedFields": [
                by("helm", json!("2024-01-31T12:00:00Z")), by("pilot-discovery", json!("2024-02-01T00:00:05Z")),
                by("kubectl", json!("2024-01-31T23:59:59Z")), by("old", json!(null)), "no map", 7,
            ]
        }));
        assert_eq!(
            Provenance::of(&object),
            Provenance {
                manager: Some("pilot-discovery".into()),
                time: Some(1_706_745_605),
                only_created: false,
                resource_version: Some("77".into()),
            }
        );
        assert!(!object.to_string().contains("f:hosts"), "{object}");
    }

    /// [I6] [I8] [S5]
    #[test]
    fn without_managers_the_creation_is_all_that_is_known() {
        let created = json!("2024-01-31T12:00:00Z");
        for managers in [json!(null), json!([]), json!("x"), json!([{"time": "soon"}]), json!({"a": 1})] {
            let of = Provenance::of(&read(json!({"creationTimestamp": created, "managedFields": managers})));
            assert_eq!((of.time, of.only_created), (Some(1_706_702_400), true), "{managers}");
        }
        assert_eq!(Provenance::of(&json!(5)).time, None);
    }

    /// [I6] [I8]
    #[test]
    fn who_wrote_an_object_last_is_not_who_deleted_it() {
        let object = read(json!({
            "deletionTimestamp": "2024-02-01T00:00:00Z", "resourceVersion": "9",
            "managedFields": [{"manager": "helm", "time": "2024-01-31T12:00:00Z"}]
        }));
        let of = Provenance::of_deleted(&object);
        assert_eq!(
            (of.manager, of.time, of.resource_version.as_deref()),
            (None, Some(1_706_745_600), Some("9"))
        );
    }

    /// [S7]
    #[test]
    fn a_long_manager_is_cut() {
        let object = read(json!({"managedFields": [{"manager": "m".repeat(1 << 20)}]}));
        let manager = Provenance::of(&object).manager.expect("a manager");
        assert!(manager.len() < MOST_MANAGER + 8, "{}", manager.len());
    }
}
