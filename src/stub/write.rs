//! The only file that writes to the cluster.
//!
//! Every write carries the resource version of the object it was planned from, so nobody's edit in between is lost:
//! the API server says 409, and the plan is made anew. A key of our own in a shared ConfigMap is written by
//! server-side apply without force; a Corefile never is, for applying a scalar takes it from its owner.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ObjectMeta, Patch, PatchParams,
    PostParams, Preconditions,
};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::layout::{Layer, Place, STUB_DOMAINS};
use super::plan::Change;
use super::record::{self, Record};
use super::survey::{Key, Survey};

/// The name our writes go by in `managedFields`.
pub const MANAGER: &str = "globaldns";
/// On a ConfigMap that would not exist without us: it goes with our last key.
const CREATED: &str = "globaldns.io/created";
/// Longest wait for one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody wrote in between, or creates what we were about to: look again.
    #[error("{0} was changed meanwhile")]
    Stale(String),
    /// Another field manager owns what we would apply.
    #[error("{place}: {owner}")]
    Owned {
        /// The object and field.
        place: String,
        /// The API server's own words.
        owner: String,
    },
    /// The API server's own words.
    #[error("writing {what}: {error}")]
    Api {
        /// What was written.
        what: String,
        /// What came back.
        error: Box<kube::Error>,
    },
    /// It may or may not have been written.
    #[error("writing {0}: no answer within {limit} s", limit = WRITE_TIMEOUT.as_secs())]
    Timeout(String),
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

    /// Replaces the record that was read. Of two writers that read the same one, only the first succeeds.
    pub async fn save(&self, loaded: &mut Loaded, record: Record) -> Result<(), WriteError> {
        if self.dry_run || loaded.record == record {
            loaded.record = record;
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&record).unwrap_or_default();
        let data = Some(BTreeMap::from([(record::KEY.to_owned(), text)]));
        let what = format!("ConfigMap {}/{}", self.namespace, record::NAME);
        let api = self.config_maps(&self.namespace);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let object = match &loaded.object {
            Some(object) => {
                let object = ConfigMap { data, ..object.clone() };
                within(&what, api.replace(record::NAME, &params, &object)).await?
            }
            None => {
                let metadata = ObjectMeta { name: Some(record::NAME.to_owned()), ..ObjectMeta::default() };
                let object = ConfigMap { metadata, data, ..ConfigMap::default() };
                within(&what, api.create(&params, &object)).await?
            }
        };
        *loaded = Loaded { record, object: Some(object) };
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
                let resource = resource("operator.openshift.io", "v1", "DNS", "dnses");
                self.set_field(&resource, survey.openshift.as_ref(), "servers", after, &what).await
            }
            Place::CustomDns => {
                let resource =
                    resource("networking.alibabacloud.com", "v1beta1", "CustomDNSConfig", "customdnsconfigs");
                self.set_field(&resource, survey.custom_dns.as_ref(), "zones", after, &what).await
            }
            Place::Nowhere | Place::Unclear(_) => Ok(()),
        }
    }

    /// A key of a ConfigMap: replaced, or dropped together with a ConfigMap that only we needed.
    async fn set_key(
        &self,
        survey: &Survey,
        (namespace, name): &Key,
        key: &str,
        text: Option<&str>,
        what: &str,
    ) -> Result<(), WriteError> {
        let api = self.config_maps(namespace);
        let params = self.post();
        let Some(live) = survey.config_map(namespace, name) else {
            let Some(text) = text else { return Ok(()) };
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                annotations: Some(BTreeMap::from([(CREATED.to_owned(), "true".to_owned())])),
                ..ObjectMeta::default()
            };
            let data = Some(BTreeMap::from([(key.to_owned(), text.to_owned())]));
            let object = ConfigMap { metadata, data, ..ConfigMap::default() };
            within(what, api.create(&params, &object)).await?;
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
        (namespace, name): &Key,
        key: &str,
        text: &str,
        what: &str,
    ) -> Result<(), WriteError> {
        let mut metadata = json!({"name": name});
        match survey.config_map(namespace, name) {
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
        let mut object = live.clone();
        let spec = &mut object.data["spec"];
        match text.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            Some(value) => spec[field] = value,
            None => {
                if let Some(spec) = spec.as_object_mut() {
                    spec.remove(field);
                }
            }
        }
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

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// One call, with a limit, and what went wrong in our words.
pub(super) async fn within<T>(
    what: &str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, WriteError> {
    match tokio::time::timeout(WRITE_TIMEOUT, call).await {
        Err(_) => Err(WriteError::Timeout(what.to_owned())),
        Ok(Ok(done)) => Ok(done),
        // Server-side apply says 409 for an owner as well as for a version.
        Ok(Err(kube::Error::Api(status)))
            if status.is_conflict() && status.message.contains("conflict with") =>
        {
            Err(WriteError::Owned { place: what.to_owned(), owner: status.message.clone() })
        }
        Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
            Err(WriteError::Stale(what.to_owned()))
        }
        // Deleted since the survey.
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Err(WriteError::Stale(what.to_owned())),
        Ok(Err(error)) => Err(WriteError::Api { what: what.to_owned(), error: Box::new(error) }),
    }
}
