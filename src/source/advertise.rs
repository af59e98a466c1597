//! The ClusterIPs of the Service we are reached by, for the zones' name server records (D5).

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};

use super::cluster::{Access, AccessError, Backoff, cause, describe_watch, must_restart};
use crate::finding::{Code, Finding};
use crate::index::{Index, Partition};

/// `NAMESPACE/NAME` of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ServiceName {
    /// What the Service in front of us is called unless told otherwise.
    pub fn usual() -> ServiceName {
        ServiceName { namespace: "istio-system".to_owned(), name: "globaldns".to_owned() }
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl std::str::FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(ServiceName { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("write NAMESPACE/NAME, for example istio-system/globaldns".to_owned()),
        }
    }
}

/// Watches one Service and calls `publish` with its ClusterIPs whenever they change.
pub struct Advertise {
    service: ServiceName,
    api: Api<Service>,
    index: Arc<Index>,
    partition: Partition,
}

impl Advertise {
    /// `partition` holds the finding while the Service gives no address.
    pub fn new(
        access: &Access,
        service: ServiceName,
        index: Arc<Index>,
        partition: Partition,
    ) -> Result<Advertise, AccessError> {
        let api = Api::namespaced(access.client()?, &service.namespace);
        Ok(Advertise { service, api, index, partition })
    }

    /// Runs for ever.
    pub async fn run(&self, publish: impl Fn(Vec<IpAddr>)) {
        let mut backoff = Backoff::default();
        loop {
            self.watch(&publish, &mut backoff).await;
        }
    }

    /// Watches until a new watcher is needed.
    async fn watch(&self, publish: &impl Fn(Vec<IpAddr>), backoff: &mut Backoff) {
        let config =
            watcher::Config::default().fields(&format!("metadata.name={}", self.service.name)).timeout(40);
        let mut events = pin!(watcher::watcher(self.api.clone(), config));
        let mut listed = None;
        let mut troubled = None;
        while let Some(event) = events.next().await {
            let addresses = match event {
                // The beginning of every try, not a success.
                Ok(Event::Init) => {
                    listed = None;
                    continue;
                }
                Ok(Event::InitApply(service)) => {
                    listed = Some(cluster_ips(&service));
                    continue;
                }
                Ok(Event::InitDone) => listed.take().unwrap_or_default(),
                Ok(Event::Apply(service)) => cluster_ips(&service),
                Ok(Event::Delete(_)) => Vec::new(),
                Err(error) => {
                    let (trouble, what) = describe_watch(&error, "services");
                    if troubled.replace(trouble) != Some(trouble) {
                        self.report(&format!("its ClusterIPs cannot be watched: {what}"));
                        tracing::warn!(service = %self.service, "{what}; retrying, its last addresses stay");
                    }
                    backoff.wait().await;
                    if must_restart(&error, trouble) {
                        return;
                    }
                    continue;
                }
            };
            self.found(addresses, publish);
            troubled = None;
            *backoff = Backoff::default();
        }
    }

    fn found(&self, addresses: Vec<IpAddr>, publish: &impl Fn(Vec<IpAddr>)) {
        if addresses.is_empty() {
            self.report("it does not exist or has no ClusterIP");
        } else {
            tracing::info!(service = %self.service, ?addresses, "advertised addresses");
            self.index.set_source_findings(self.partition, Vec::new());
        }
        publish(addresses);
    }

    fn report(&self, why: &str) {
        let finding = Finding::new(
            Code::AdvertiseService,
            self.service.to_string(),
            "spec.clusterIPs",
            "",
            format!("{why}; until addresses are known, name server records give the one a query arrived at"),
            "create the Service (not headless), correct --advertise-service, or use --advertise-address",
        );
        self.index.set_source_findings(self.partition, vec![finding]);
    }
}

/// One look, for commands that print and end.
pub async fn cluster_ips_once(access: &Access, service: &ServiceName) -> anyhow::Result<Vec<IpAddr>> {
    let api: Api<Service> = Api::namespaced(access.client()?, &service.namespace);
    let found = api.get(&service.name).await.map_err(|error| anyhow::anyhow!(cause(&error)))?;
    Ok(cluster_ips(&found))
}

/// The addresses of a Service; none for a headless one.
pub fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else {
        tracing::debug!(service = service.name_any(), "a Service without spec");
        return Vec::new();
    };
    // `None` is how a headless Service is written; it and anything else that is no address drops out.
    let many = spec.cluster_ips.iter().flatten();
    let one = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none());
    many.chain(one).filter_map(|text| text.parse().ok()).collect()
}
