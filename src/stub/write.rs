//! The only file that writes what cluster DNS reads, and our record of that.
//!
//! Every write carries the resource version of the object it was planned from, so nobody's edit in between is lost:
//! the API server says 409, and the plan is made anew. A key of our own in a shared ConfigMap is written by
//! server-side apply without force; a Corefile never is, for applying a scalar takes it from its owner.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::layout::{Layer, Place, STUB_DOMAINS};
use super::plan::Change;
use super::record::{self, Record};
use super::survey::{Key, Survey, custom_dns_config, openshift_dns, rights};
use crate::kubernetes::{CALL_TIMEOUT, CallError, MANAGER, creating, is_not_found, is_owned, within};
use crate::source::cluster::cause;

/// On a ConfigMap that would not exist without us: it goes with our last key.
const CREATED: &str = "globaldns.io/created";

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody wrote in between, or creates what we were about to: look again.
    #[error("{0} was changed meanwhile")]
    Stale(String),
    /// Another field manager owns what we would apply.
    #[error(
        "{place}: {owner}; have that manager give the key up, or take the key out of the ConfigMap if it is not used"
    )]
    Owned {
        /// The object and field.
        place: String,
        /// The API server's own words.
        owner: String,
    },
    /// The API server's own words.
    #[error("writing {what}: {}{}", cause(error), remedy(error))]
    Api {
        /// What was written.
        what: String,
        /// What came back.
        error: Box<kube::Error>,
    },
    /// What was to be written does not go there.
    #[error(
        "writing {what}: {why}; look at the object, and at the record of our edits, and correct what is broken"
    )]
    Unfit {
        /// What was to be written.
        what: String,
        /// Why not.
        why: String,
    },
    /// It may or may not have been written.
    #[error("writing {0}: no answer within {limit} s", limit = CALL_TIMEOUT.as_secs())]
    Timeout(String),
}

impl From<CallError> for WriteError {
    fn from(error: CallError) -> WriteError {
        match error {
            CallError::Stale(what) => WriteError::Stale(what),
            CallError::Timeout(what) => WriteError::Timeout(what),
            CallError::Api { what, error } => match *error {
                kube::Error::Api(status) if is_owned(&status) => {
                    WriteError::Owned { place: what, owner: status.message.clone() }
                }
                error => WriteError::Api { what, error: Box::new(error) },
            },
        }
    }
}

fn remedy(error: &kube::Error) -> &'static str {
    if is_not_found(error) {
        // Whatever else is not found has changed meanwhile.
        return "; create that namespace, or name another with --record-namespace, or by --advertise-service";
    }
    rights(error)
}

/// Writes as `globaldns`, for our own record and other people's objects.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    namespace: String,
    dry_run: bool,
}

/// The record and the version it was read at; `None` while there is none.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What it says.
    pub record: Record,
    object: Option<ConfigMap>,
}

impl Writer {
    /// `namespace` holds the record. With `dry_run` the API server checks every write and keeps none.
    pub fn new(client: Client, namespace: impl Into<String>, dry_run: bool) -> Writer {
        Writer { client, namespace: namespace.into(), dry_run }
    }

    /// Reads the record. One that cannot be understood is an error: to overwrite it would forget what is ours.
    pub async fn load(&self) -> anyhow::Result<Loaded> {
        let name = format!("ConfigMap {}/{}", self.namespace, record::NAME);
        let object = within(&name, self.config_maps(&self.namespace).get_opt(record::NAME)).await?;
        let text = object.as_ref().and_then(|map| map.data.as_ref()?.get(record::KEY));
        let record = match text {
            None => Record::default(),
            Some(text) => serde_json::from_str(text).map_err(|error| {
                anyhow::anyhow!(
                    "{name}, key {}: {error}; delete that ConfigMap to begin a new record",
                    record::KEY
                )
            })?,
        };
        Ok(Loaded { record, object })
    }

    /// Replaces the record that was read. Of two writers that read the same one, only the first succeeds. In a dry run
    /// the API server is asked too: it may be the right to this that is missing.
    pub async fn save(&self, loaded: &mut Loaded, record: Record) -> Result<(), WriteError> {
        if loaded.record == record {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&record).unwrap_or_default();
        let data = Some(BTreeMap::from([(record::KEY.to_owned(), text)]));
        let what = format!("ConfigMap {}/{}", self.namespace, record::NAME);
        let api = self.config_maps(&self.namespace);
        let params = self.post();
        let object = match &loaded.object {
            Some(object) => {
                let object = ConfigMap { data, ..object.clone() };
                within(&what, api.replace(record::NAME, &params, &object)).await?
            }
            None => {
                let metadata = ObjectMeta { name: Some(record::NAME.to_owned()), ..ObjectMeta::default() };
                let object = ConfigMap { metadata, data, ..ConfigMap::default() };
                creating(&what, api.create(&params, &object)).await?
            }
        };
        if self.dry_run {
            // Nothing was kept, so what is there is still what was read.
            loaded.record = record;
        } else {
            *loaded = Loaded { record, object: Some(object) };
        }
        Ok(())
    }

    /// Carries a planned change out. `survey` is the one it was planned from.
    pub async fn change(&self, survey: &Survey, layer: &Layer, change: &Change) -> Result<(), WriteError> {
        let what = layer.place.name();
        let after = change.after.as_deref();
        match &layer.place {
            Place::DataKey { config_map, key, .. } => match after {
                Some(text) => self.apply_key(survey, config_map, key, text, &what).await,
                None => self.set_key(survey, config_map, key, None, &what).await,
            },
            Place::Corefile { config_map, key, .. } => {
                self.set_key(survey, config_map, key, after, &what).await
            }
            Place::StubDomains { config_map, .. } => {
                self.set_key(survey, config_map, STUB_DOMAINS, after, &what).await
            }
            Place::OpenShift => {
                self.set_field(&openshift_dns(), survey.openshift.as_ref(), "servers", after, &what).await
            }
            Place::CustomDns => {
                self.set_field(&custom_dns_config(), survey.custom_dns.as_ref(), "zones", after, &what).await
            }
            Place::Nowhere | Place::Unclear(_) => Ok(()),
        }
    }

    /// A key of a ConfigMap: replaced, or dropped together with a ConfigMap that only we needed.
    async fn set_key(
        &self,
        survey: &Survey,
        config_map: &Key,
        key: &str,
        text: Option<&str>,
        what: &str,
    ) -> Result<(), WriteError> {
        let (namespace, name) = config_map;
        let api = self.config_maps(namespace);
        let params = self.post();
        let Some(live) = survey.config_map(config_map) else {
            let Some(text) = text else { return Ok(()) };
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                annotations: Some(BTreeMap::from([(CREATED.to_owned(), "true".to_owned())])),
                ..ObjectMeta::default()
            };
            let data = Some(BTreeMap::from([(key.to_owned(), text.to_owned())]));
            let object = ConfigMap { metadata, data, ..ConfigMap::default() };
            creating(what, api.create(&params, &object)).await?;
            return Ok(());
        };
        let mut object = live.clone();
        let data = object.data.get_or_insert_default();
        match text {
            Some(text) => data.insert(key.to_owned(), text.to_owned()),
            None => data.remove(key),
        };
        let is_empty = data.is_empty() && object.binary_data.iter().flatten().next().is_none();
        if text.is_none() && is_empty && object.annotations().contains_key(CREATED) {
            let preconditions =
                Preconditions { resource_version: object.resource_version(), uid: object.uid() };
            let params = DeleteParams {
                dry_run: self.dry_run,
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            within(what, api.delete(name, &params)).await?;
            return Ok(());
        }
        within(what, api.replace(name, &params, &object)).await?;
        Ok(())
    }

    async fn apply_key(
        &self,
        survey: &Survey,
        config_map: &Key,
        key: &str,
        text: &str,
        what: &str,
    ) -> Result<(), WriteError> {
        let (namespace, name) = config_map;
        let mut metadata = json!({"name": name});
        match survey.config_map(config_map) {
            Some(live) => {
                metadata["resourceVersion"] = json!(live.resource_version());
                // What we once applied has to be applied again, or it goes.
                if live.annotations().contains_key(CREATED) {
                    metadata["annotations"] = json!({CREATED: "true"});
                }
            }
            None => metadata["annotations"] = json!({CREATED: "true"}),
        }
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {key: text}});
        let params = PatchParams { dry_run: self.dry_run, ..PatchParams::apply(MANAGER) };
        within(what, self.config_maps(namespace).patch(name, &params, &Patch::Apply(&object))).await?;
        Ok(())
    }

    async fn set_field(
        &self,
        resource: &ApiResource,
        live: Option<&DynamicObject>,
        field: &str,
        text: Option<&str>,
        what: &str,
    ) -> Result<(), WriteError> {
        let Some(live) = live else { return Ok(()) };
        let object = with_field(live, field, text, what)?;
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        within(what, api.replace(&live.name_any(), &self.post(), &object)).await?;
        Ok(())
    }

    fn post(&self) -> PostParams {
        PostParams { dry_run: self.dry_run, field_manager: Some(MANAGER.to_owned()) }
    }

    fn config_maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// `live` with a field of its `spec` as `text` says in JSON, or without it.
fn with_field(
    live: &DynamicObject,
    field: &str,
    text: Option<&str>,
    what: &str,
) -> Result<DynamicObject, WriteError> {
    let unfit = |why: String| WriteError::Unfit { what: what.to_owned(), why };
    let value: Option<Value> = text
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| unfit(format!("the text is not JSON: {error}")))?;
    let mut object = live.clone();
    let data = object.data.as_object_mut().ok_or_else(|| unfit("the object has no fields".to_owned()))?;
    let spec = data.entry("spec").or_insert(Value::Null);
    if spec.is_null() {
        *spec = json!({});
    }
    let spec = spec.as_object_mut().ok_or_else(|| unfit("its spec is not an object".to_owned()))?;
    match value {
        Some(value) => spec.insert(field.to_owned(), value),
        None => spec.remove(field),
    };
    Ok(object)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn dns(value: Value) -> DynamicObject {
        let mut object = json!({"apiVersion": "v1", "kind": "DNS", "metadata": {"name": "default"}});
        if let (Some(object), Some(more)) = (object.as_object_mut(), value.as_object()) {
            object.extend(more.clone());
        }
        serde_json::from_value(object).expect("an object")
    }

    /// [T5]
    #[test]
    fn a_field_is_set_and_dropped_and_the_others_stay() {
        let live = dns(json!({"spec": {"servers": [1], "logLevel": "Normal"}, "status": {"a": 1}}));
        let set = with_field(&live, "servers", Some("[2]"), "x").expect("written");
        assert_eq!(set.data, json!({"spec": {"servers": [2], "logLevel": "Normal"}, "status": {"a": 1}}));
        let dropped = with_field(&live, "servers", None, "x").expect("written");
        assert_eq!(dropped.data, json!({"spec": {"logLevel": "Normal"}, "status": {"a": 1}}));
        for empty in [json!({}), json!({"spec": null})] {
            let set = with_field(&dns(empty), "servers", Some("[2]"), "x").expect("written");
            assert_eq!(set.data["spec"], json!({"servers": [2]}));
        }
    }

    /// [T3] What is there stays where what was to be written is broken.
    #[test]
    fn what_is_not_json_or_has_no_place_is_an_error() {
        let live = dns(json!({"spec": {"servers": [1]}}));
        let error = with_field(&live, "servers", Some("[2"), "x").expect_err("no JSON");
        assert!(error.to_string().starts_with("writing x: the text is not JSON: "), "{error}");
        let odd = dns(json!({"spec": "text"}));
        assert!(matches!(with_field(&odd, "servers", Some("[2]"), "x"), Err(WriteError::Unfit { .. })));
    }

    /// [T5]
    #[tokio::test]
    async fn what_is_not_found_is_the_object_or_when_creating_its_namespace() {
        let refused = |code: u16, reason: &'static str, message: &'static str| async move {
            let status = Status::failure(message, reason).with_code(code);
            Err::<(), _>(kube::Error::Api(Box::new(status)))
        };
        let gone = || refused(404, "NotFound", "not found");
        let told = |error: Result<(), CallError>| WriteError::from(error.expect_err("a failure"));
        assert!(matches!(told(within("x", gone()).await), WriteError::Stale(_)));
        let error = told(creating("x", gone()).await);
        assert!(error.to_string().contains("--record-namespace"), "{error}");
        let forbidden = || refused(403, "Forbidden", "no");
        for error in [within("x", forbidden()).await, creating("x", forbidden()).await] {
            let error = told(error).to_string();
            assert!(error.ends_with("docs/stub-domains.md (Rights)"), "{error}");
        }
        let there = refused(409, "AlreadyExists", "there");
        assert!(matches!(told(creating("x", there).await), WriteError::Stale(_)));
        let owned = refused(409, "Conflict", "Apply failed with 1 conflict: conflict with \"kubectl\"");
        let error = told(within("x", owned).await);
        assert!(matches!(error, WriteError::Owned { .. }), "{error}");
    }
}
