//! The addresses that a cluster gives to its pods, Services and nodes, read once (F3).

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use super::advertise::cluster_ips;
use super::cluster::{Access, AccessError, cause};
use crate::check::{Holder, Range};
use crate::entry;
use crate::limits::PAGE;

/// What a cluster says of its ranges.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The ranges.
    pub ranges: Vec<Range>,
    /// Why the nodes cannot be listed.
    pub no_nodes: Option<String>,
    /// Why neither ServiceCIDRs nor Services can be listed.
    pub no_services: Option<(String, String)>,
    /// Every node says which addresses its pods have. Where a network plugin hands them out by itself, none may.
    pub pods: bool,
}

/// The ranges of a cluster, and what could not be looked at, with the reason: that costs only this look.
pub async fn of_cluster(access: &Access) -> Result<(Vec<Range>, Vec<String>), AccessError> {
    let told = told(&access.client()?).await;
    let mut missing = Vec::new();
    if let Some(why) = told.no_nodes {
        missing.push(format!(
            "nodes cannot be listed ({why}), so no VIP is held against their addresses and those of their pods; grant the \
             verb list on nodes, or give --node-cidr and --pod-cidr"
        ));
    }
    if let Some((cidrs, services)) = told.no_services {
        missing.push(format!(
            "neither ServiceCIDRs ({cidrs}) nor Services ({services}) can be listed, so no VIP is held against ClusterIPs; \
             grant the verb list on servicecidrs.networking.k8s.io or services, or give --service-cidr"
        ));
    }
    Ok((told.ranges, missing))
}

/// The same, for whoever draws other conclusions.
pub async fn told(client: &Client) -> Told {
    let mut told = Told::default();
    let ranges = &mut told.ranges;
    match list::<Node>(client).await {
        Ok(nodes) => {
            told.pods = !nodes.is_empty();
            for node in &nodes {
                of_node(node, ranges);
                told.pods &= node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
            }
        }
        Err(why) => told.no_nodes = Some(why),
    }
    // Since Kubernetes 1.33; before, the Services tell what is in use.
    let of_services = list::<ServiceCIDR>(client).await.map(|found| {
        let cidrs = found.into_iter().filter_map(|cidr| cidr.spec?.cidrs).flatten();
        cidrs.collect::<Vec<_>>()
    });
    match of_services {
        Ok(cidrs) if !cidrs.is_empty() => {
            cidrs.iter().for_each(|text| add(text, Holder::Services, ranges));
        }
        first => match list::<Service>(client).await {
            Ok(services) => {
                let addresses = services.iter().flat_map(cluster_ips);
                ranges.extend(addresses.map(|ip| Range { net: ip.into(), holder: Holder::Services }));
            }
            Err(why) => {
                told.no_services = Some((first.err().unwrap_or_else(|| "there are none".to_owned()), why));
            }
        },
    }
    told
}

fn of_node(node: &Node, ranges: &mut Vec<Range>) {
    if let Some(spec) = &node.spec {
        let one = spec.pod_cidr.iter().filter(|_| spec.pod_cidrs.is_none());
        for text in spec.pod_cidrs.iter().flatten().chain(one) {
            add(text, Holder::Pods, ranges);
        }
    }
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    for address in addresses {
        // Host names are among them.
        add(&address.address, Holder::Nodes, ranges);
    }
}

/// What is no range is none.
fn add(text: &str, holder: Holder, ranges: &mut Vec<Range>) {
    ranges.extend(entry::network(text).map(|net| Range { net, holder }));
}

/// All objects of a kind, in pages.
async fn list<K>(client: &Client) -> Result<Vec<K>, String>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let mut parameters = ListParams::default().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&parameters).await.map_err(|error| cause(&error))?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => parameters = parameters.continue_token(&more),
            None => return Ok(all),
        }
    }
}
