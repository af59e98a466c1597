//! The ClusterIPs of the Service we are reached by, for the zones' name server records (D5).

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};

use super::Status;
use super::cluster::{Access, AccessError, Backoff, Watches, cause, describe_watch, must_restart};
use crate::finding::{Code, Finding};
use crate::index::{Index, Partition};

/// How often the Service is listed however quiet its watch is, so that an API server that has gone back is followed (L2).
const LIST_AGAIN: Duration = Duration::from_secs(20);

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
    watches: Arc<Watches>,
    /// Of the watch: what it tells is no source of entries.
    status: Arc<Status>,
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
        let status = Arc::new(Status::new(format!("Service {service}"), partition));
        let watches = Watches::new("services", status.clone());
        let api = Api::namespaced(watches.follow(access.client()?), &service.namespace);
        Ok(Advertise { service, api, watches, status, index, partition })
    }

    /// Runs for ever.
    pub async fn run(&self, publish: impl Fn(Vec<IpAddr>)) {
        let (mut backoff, mut published) = (Backoff::default(), None);
        let mut found = |addresses| self.found(addresses, &mut published, &publish);
        loop {
            self.watch(&mut found, &mut backoff).await;
        }
    }

    /// Watches until it is to be listed again.
    async fn watch(&self, found: &mut impl FnMut(Vec<IpAddr>), backoff: &mut Backoff) {
        let config =
            watcher::Config::default().fields(&format!("metadata.name={}", self.service.name)).timeout(40);
        let mut events = pin!(watcher::watcher(self.api.clone(), config));
        let mut outdated = pin!(async {
            tokio::select! {
                () = tokio::time::sleep(LIST_AGAIN) => {}
                () = self.watches.again.notified() => {}
            }
        });
        let (mut listed, mut complete) = (Vec::new(), false);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut outdated, if complete => return,
            };
            match event {
                // The beginning of every try, not a success.
                Some(Ok(Event::Init)) => (listed, complete) = (Vec::new(), false),
                Some(Ok(Event::InitApply(service))) => listed = cluster_ips(&service),
                Some(Ok(Event::InitDone)) => {
                    complete = true;
                    found(std::mem::take(&mut listed));
                }
                Some(Ok(Event::Apply(service))) => found(cluster_ips(&service)),
                Some(Ok(Event::Delete(_))) => found(Vec::new()),
                Some(Err(error)) => {
                    let (trouble, what) = describe_watch(&error, "services");
                    self.report(&format!("its ClusterIPs cannot be watched: {what}"));
                    self.status.failed(trouble, &what);
                    backoff.wait().await;
                    if must_restart(&error, trouble) {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    fn found(
        &self,
        addresses: Vec<IpAddr>,
        published: &mut Option<Vec<IpAddr>>,
        publish: &impl Fn(Vec<IpAddr>),
    ) {
        if addresses.is_empty() {
            self.report("it does not exist or has no ClusterIP");
        } else if self.status.works() {
            self.index.set_source_findings(self.partition, Vec::new());
        }
        if published.as_ref() == Some(&addresses) {
            return;
        }
        if !addresses.is_empty() {
            tracing::info!(service = %self.service, ?addresses, "advertised addresses");
        }
        *published = Some(addresses.clone());
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
