//! What a cluster's DNS is made of, read from the API server: Service → pods → workload → volumes → ConfigMaps, and
//! the custom resources of platforms that have one. No name is assumed where a reference can be followed.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Node, Pod, PodSpec, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Client, ResourceExt};

use super::Stub;
use crate::source::cluster::cause;
use crate::source::ranges::{self, Told};

/// Where cluster DNS lives nearly everywhere.
pub const KUBE_SYSTEM: &str = "kube-system";
/// Where OpenShift and MicroShift keep it.
const OPENSHIFT_DNS: &str = "openshift-dns";
/// How often the nodes and Services of the cluster are read, where a reverse zone takes that (T4).
const RANGES: Duration = Duration::from_secs(300);
/// Longest wait for the whole survey: a dozen small reads.
const SURVEY_TIMEOUT: Duration = Duration::from_secs(20);

/// A namespace and a name.
pub type Key = (String, String);

/// Everything a plan is made from. `None` and empty mean "does not exist".
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// OpenShift's `dnses.operator.openshift.io/default`.
    pub openshift: Option<DynamicObject>,
    /// Alibaba's `customdnsconfigs.networking.alibabacloud.com/default`.
    pub custom_dns: Option<DynamicObject>,
    /// The Service pods ask.
    pub service: Option<Service>,
    /// The template of what runs the pods behind the Service, or one of them: image, arguments, volumes.
    pub pod: Option<PodSpec>,
    /// What runs these pods.
    pub workload: Option<Workload>,
    /// Where the Service's pods answer.
    pub endpoints: Vec<SocketAddr>,
    /// NodeLocal DNSCache.
    pub node_local: Option<DaemonSet>,
    /// Every ConfigMap one of them mounts.
    pub config_maps: BTreeMap<Key, Result<ConfigMap, Missing>>,
    /// Some node, if we may read nodes: its labels name the distribution.
    pub node: Option<Node>,
    /// What the cluster says of the addresses of its pods, Services and nodes, if a reverse zone made us ask.
    pub told: Option<Told>,
    /// `kube-system/kubeadm-config` exists.
    pub kubeadm: bool,
    /// The name servers of our own resolv.conf.
    pub nameservers: Vec<IpAddr>,
}

/// Why a ConfigMap is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It does not exist.
    Absent,
    /// We may not read it.
    Forbidden,
}

/// A Deployment or DaemonSet.
#[derive(Clone, Debug)]
pub struct Workload {
    /// `Deployment` or `DaemonSet`.
    pub kind: &'static str,
    /// Its metadata: labels and managers tell who owns it.
    pub metadata: ObjectMeta,
}

/// Why the cluster could not be surveyed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The API server's own words.
    #[error("reading {what}: {}{}", cause(error), rights(error))]
    Api {
        /// What was read.
        what: String,
        /// What came back.
        error: kube::Error,
    },
    /// A platform's own resource is there, and we may not read it.
    #[error(
        "{plural}.{group} is what configures cluster DNS here and cannot be read; grant a ClusterRole with get and \
         update on {plural}.{group} default: docs/stub-domains.md (Rights)"
    )]
    Right {
        /// The resource's API group.
        group: String,
        /// The resource.
        plural: String,
    },
    /// The addresses of nodes or Services cannot be listed now.
    #[error("listing the addresses of nodes and Services, for the reverse zones: {0}")]
    Ranges(String),
    /// No answer.
    #[error("the API server did not answer within {} s", SURVEY_TIMEOUT.as_secs())]
    Timeout,
}

/// What to do where a right is missing.
pub(super) fn rights(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.is_forbidden() => {
            "; grant the rights listed in docs/stub-domains.md (Rights)"
        }
        _ => "",
    }
}

/// What the cluster has said of its addresses. Every node is read for that, so it is not asked at every look; and what it
/// has said holds while it cannot be asked.
#[derive(Default)]
pub struct Addresses(Option<(Instant, Told)>);

impl Addresses {
    /// What it says now, or has said within the last five minutes.
    pub async fn told(&mut self, client: &Client) -> Result<Told, SurveyError> {
        if let Some((at, told)) = &self.0
            && at.elapsed() < RANGES
            && told.is_complete()
        {
            return Ok(told.clone());
        }
        match (Survey::told(client).await, &self.0) {
            (Ok(told), _) => {
                self.0 = Some((Instant::now(), told.clone()));
                Ok(told)
            }
            (Err(error), Some((_, told))) => {
                tracing::debug!(%error, "what the cluster has said of its addresses before is taken");
                Ok(told.clone())
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl Survey {
    /// Reads the cluster. Rights that only sharpen the picture (nodes, kubeadm's ConfigMap) may be missing.
    pub async fn read(client: &Client) -> Result<Survey, SurveyError> {
        tokio::time::timeout(SURVEY_TIMEOUT, Reader { client }.survey())
            .await
            .unwrap_or(Err(SurveyError::Timeout))
    }

    /// The same for what is wanted: a reverse zone takes more to plan (T4).
    pub async fn read_for(client: &Client, wanted: Option<&Stub>) -> Result<Survey, SurveyError> {
        let mut survey = Survey::read(client).await?;
        if wanted.is_some_and(Stub::has_reverse) {
            survey.told = Some(Survey::told(client).await?);
        }
        Ok(survey)
    }

    /// What the cluster says of its addresses. What fails and may not the next time is an error; a right that is missing
    /// is not.
    pub async fn told(client: &Client) -> Result<Told, SurveyError> {
        let told = tokio::time::timeout(SURVEY_TIMEOUT, ranges::told(client)).await;
        let told = told.map_err(|_| SurveyError::Timeout)?;
        match told.passing() {
            Some(unlisted) => Err(SurveyError::Ranges(unlisted.why.clone())),
            None => Ok(told),
        }
    }

    /// A ConfigMap a volume names, if it exists.
    pub fn config_map(&self, config_map: &Key) -> Option<&ConfigMap> {
        self.config_maps.get(config_map)?.as_ref().ok()
    }

    /// What a key of a ConfigMap says.
    pub fn text(&self, config_map: &Key, key: &str) -> Option<&str> {
        self.config_map(config_map)?.data.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether a ConfigMap is one we may not read.
    pub fn is_forbidden(&self, config_map: &Key) -> bool {
        self.config_maps
            .get(config_map)
            .is_some_and(|found| found.as_ref().err() == Some(&Missing::Forbidden))
    }

    /// The namespace of the cluster's DNS.
    pub fn namespace(&self) -> String {
        self.service.as_ref().and_then(|s| s.namespace()).unwrap_or_else(|| KUBE_SYSTEM.to_owned())
    }

    /// The ClusterIPs pods ask.
    pub fn cluster_ips(&self) -> Vec<IpAddr> {
        self.service.as_ref().map(crate::source::advertise::cluster_ips).unwrap_or_default()
    }
}

struct Reader<'c> {
    client: &'c Client,
}

impl Reader<'_> {
    async fn survey(&self) -> Result<Survey, SurveyError> {
        let (openshift, custom_dns, service, daemon_sets, node, kubeadm) = tokio::try_join!(
            self.custom(openshift_dns()),
            self.custom(custom_dns_config()),
            self.service(),
            self.daemon_sets(KUBE_SYSTEM),
            self.node(),
            self.kubeadm(),
        )?;
        let mut survey = Survey { openshift, custom_dns, node, kubeadm, ..Survey::default() };
        survey.node_local = daemon_sets.iter().find(|set| is_node_local(set)).cloned();
        if let Some(service) = service {
            let namespace = service.namespace().unwrap_or_default();
            let elsewhere =
                if namespace == KUBE_SYSTEM { daemon_sets } else { self.daemon_sets(&namespace).await? };
            let (pod, workload) = self.behind(&service, &elsewhere).await?;
            survey.endpoints = self.endpoints(&service).await?;
            (survey.pod, survey.workload, survey.service) = (pod, workload, Some(service));
        }
        survey.nameservers = own_nameservers();
        if survey.openshift.is_some() || survey.custom_dns.is_some() {
            // The ConfigMaps there are made from these.
            return Ok(survey);
        }
        let mut wanted: Vec<Key> = Vec::new();
        let namespace = survey.namespace();
        wanted.extend(survey.pod.iter().flat_map(|pod| mounted(&namespace, pod)));
        let node_local = survey.node_local.as_ref().and_then(template);
        wanted.extend(node_local.iter().flat_map(|pod| mounted(KUBE_SYSTEM, pod)));
        for key in wanted {
            let found = self.config_map(&key).await?;
            survey.config_maps.insert(key, found);
        }
        Ok(survey)
    }

    async fn custom(&self, resource: ApiResource) -> Result<Option<DynamicObject>, SurveyError> {
        let ApiResource { group, version, plural, .. } = &resource;
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        match api.get("default").await {
            Ok(found) => Ok(Some(found)),
            // Where the API does not exist the answer is 404, and no Status but a line of text; without any right, 403,
            // whether it exists or not.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                if self.serves(group, version, plural).await? {
                    return Err(SurveyError::Right { group: group.clone(), plural: plural.clone() });
                }
                Ok(None)
            }
            Err(error) => Err(failed(format!("{plural}.{group}/default"), error)),
        }
    }

    /// Discovery, which everyone who has logged in may read.
    async fn serves(&self, group: &str, version: &str, plural: &str) -> Result<bool, SurveyError> {
        match self.client.list_api_group_resources(&format!("{group}/{version}")).await {
            Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == plural)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(failed(format!("the resources of {group}/{version}"), error)),
        }
    }

    async fn service(&self) -> Result<Option<Service>, SurveyError> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), KUBE_SYSTEM);
        let what = "the Service of cluster DNS";
        if let Some(found) = api.get_opt("kube-dns").await.map_err(|e| failed(what, e))? {
            return Ok(Some(found));
        }
        let labelled = ListParams::default().labels("k8s-app=kube-dns");
        let found = api.list(&labelled).await.map_err(|e| failed(what, e))?;
        if let Some(first) = found.items.into_iter().find(|s| !is_headless(s)) {
            return Ok(Some(first));
        }
        let api: Api<Service> = Api::namespaced(self.client.clone(), OPENSHIFT_DNS);
        match api.get_opt("dns-default").await {
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
            other => other.map_err(|error| failed(what, error)),
        }
    }

    async fn daemon_sets(&self, namespace: &str) -> Result<Vec<DaemonSet>, SurveyError> {
        let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), namespace);
        let list = api.list(&ListParams::default()).await;
        Ok(list.map_err(|e| failed(format!("the DaemonSets of {namespace}"), e))?.items)
    }

    /// A pod the Service selects, and what runs it.
    async fn behind(
        &self,
        service: &Service,
        daemon_sets: &[DaemonSet],
    ) -> Result<(Option<PodSpec>, Option<Workload>), SurveyError> {
        let namespace = service.namespace().unwrap_or_default();
        let selector = service.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
        if selector.is_empty() {
            return Ok((None, None));
        }
        let labels: Vec<_> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let found = pods.list(&ListParams::default().labels(&labels.join(","))).await;
        let found = found.map_err(|e| failed(format!("the pods of {namespace}"), e))?;
        let spec = best(found.items).and_then(|pod| pod.spec);

        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let listed = deployments.list(&ListParams::default()).await;
        let listed = listed.map_err(|e| failed(format!("the Deployments of {namespace}"), e))?;
        let of_deployments = listed.items.into_iter().map(|d| {
            let template = d.spec.map(|s| s.template);
            (Workload { kind: "Deployment", metadata: d.metadata }, template)
        });
        let of_daemon_sets = daemon_sets.iter().cloned().map(|d| {
            let template = d.spec.map(|s| s.template);
            (Workload { kind: "DaemonSet", metadata: d.metadata }, template)
        });
        for (workload, template) in of_deployments.chain(of_daemon_sets) {
            let Some(template) = template else { continue };
            let labels = template.metadata.and_then(|m| m.labels).unwrap_or_default();
            if selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
                return Ok((template.spec.or(spec), Some(workload)));
            }
        }
        Ok((spec, None))
    }

    async fn endpoints(&self, service: &Service) -> Result<Vec<SocketAddr>, SurveyError> {
        let namespace = service.namespace().unwrap_or_default();
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &namespace);
        let of_service = format!("kubernetes.io/service-name={}", service.name_any());
        let list = api.list(&ListParams::default().labels(&of_service)).await;
        let list = list.map_err(|e| failed(format!("the EndpointSlices of {namespace}"), e))?;
        let mut found: Vec<SocketAddr> = list.items.iter().flat_map(answering).collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    async fn config_map(&self, (namespace, name): &Key) -> Result<Result<ConfigMap, Missing>, SurveyError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        match api.get_opt(name).await {
            Ok(found) => Ok(found.ok_or(Missing::Absent)),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(Err(Missing::Forbidden)),
            Err(error) => Err(failed(format!("ConfigMap {namespace}/{name}"), error)),
        }
    }

    async fn node(&self) -> Result<Option<Node>, SurveyError> {
        let api: Api<Node> = Api::all(self.client.clone());
        match api.list(&ListParams::default().limit(1)).await {
            Ok(list) => Ok(list.items.into_iter().next()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
            Err(error) => Err(failed("nodes", error)),
        }
    }

    async fn kubeadm(&self) -> Result<bool, SurveyError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), KUBE_SYSTEM);
        match api.get_opt("kubeadm-config").await {
            Ok(found) => Ok(found.is_some()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(false),
            Err(error) => Err(failed("ConfigMap kube-system/kubeadm-config", error)),
        }
    }
}

/// OpenShift's `dnses.operator.openshift.io`.
pub(super) fn openshift_dns() -> ApiResource {
    resource("operator.openshift.io", "v1", "DNS", "dnses")
}

/// Alibaba's `customdnsconfigs.networking.alibabacloud.com`.
pub(super) fn custom_dns_config() -> ApiResource {
    resource("networking.alibabacloud.com", "v1beta1", "CustomDNSConfig", "customdnsconfigs")
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn failed(what: impl Into<String>, error: kube::Error) -> SurveyError {
    SurveyError::Api { what: what.into(), error }
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

/// The pod that tells most of what answers now: not one that was evicted, or is about to go.
fn best(pods: Vec<Pod>) -> Option<Pod> {
    let runs = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    };
    pods.into_iter().min_by_key(|pod| !runs(pod))
}

/// The pod of a DaemonSet.
pub fn template(set: &DaemonSet) -> Option<PodSpec> {
    set.spec.as_ref()?.template.spec.clone()
}

/// NodeLocal DNSCache goes by two labels, and by its image.
fn is_node_local(set: &DaemonSet) -> bool {
    let labelled = set.labels().get("k8s-app").is_some_and(|v| v == "node-local-dns" || v == "nodelocaldns");
    labelled || template(set).is_some_and(|pod| node_cache(&pod).is_some())
}

/// The container that runs NodeLocal's `node-cache`.
pub fn node_cache(pod: &PodSpec) -> Option<&Container> {
    pod.containers.iter().find(|c| c.image.as_deref().is_some_and(|image| image.contains("node-cache")))
}

/// The ConfigMaps a pod mounts.
fn mounted(namespace: &str, pod: &PodSpec) -> Vec<Key> {
    let mut names: Vec<&str> = Vec::new();
    for volume in pod.volumes.iter().flatten() {
        names.extend(volume.config_map.iter().map(|source| source.name.as_str()));
        let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        names.extend(projected.filter_map(|source| source.config_map.as_ref()).map(|s| s.name.as_str()));
    }
    // In every pod, for its ServiceAccount.
    names.retain(|name| *name != "kube-root-ca.crt");
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (namespace.to_owned(), name.to_owned())).collect()
}

/// The addresses of a slice that answer DNS over UDP.
fn answering(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let udp = |port: &&k8s_openapi::api::discovery::v1::EndpointPort| port.protocol.as_deref() == Some("UDP");
    let Some(port) = slice.ports.iter().flatten().find(udp).and_then(|p| p.port) else { return Vec::new() };
    let Ok(port) = u16::try_from(port) else { return Vec::new() };
    let ready = slice.endpoints.iter().filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|c| c.ready).unwrap_or(true)
    });
    ready
        .flat_map(|endpoint| &endpoint.addresses)
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

fn own_nameservers() -> Vec<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let address_of = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    };
    text.lines().filter_map(address_of).collect()
}

#[cfg(test)]
mod tests;
