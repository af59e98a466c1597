//! The addresses that a cluster gives to its pods, Services and nodes, read once (F3).

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use super::advertise::cluster_ips;
use super::cluster::bounded::TooLarge;
use super::cluster::{Access, AccessError, cause};
use crate::check::{Holder, Range};
use crate::entry;
use crate::limits::PAGE;

/// Nodes of a page: they are large, and of each a few octets are kept.
const NODES: u32 = 100;
/// A node that is younger may get its `spec.podCIDR` yet.
const JOINING: SignedDuration = SignedDuration::from_mins(2);

/// What a cluster says of its ranges.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The ranges.
    pub ranges: Vec<Range>,
    /// Why the nodes cannot be listed.
    pub no_nodes: Option<Unlisted>,
    /// Why neither ServiceCIDRs nor Services can be listed.
    pub no_services: Option<(Unlisted, Unlisted)>,
    /// Every node says which addresses its pods have. Where a network plugin hands them out by itself, none may.
    pub pods: bool,
}

/// Why something cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// In words.
    pub why: String,
    /// The right or the kind is missing; all else may pass.
    pub lasts: bool,
}

impl Told {
    /// What has failed, and may not the next time.
    pub fn passing(&self) -> Option<&Unlisted> {
        let of_services = self.no_services.iter().flat_map(|(cidrs, services)| [cidrs, services]);
        self.no_nodes.iter().chain(of_services).find(|unlisted| !unlisted.lasts)
    }

    /// Whether all of it could be asked for.
    pub fn is_complete(&self) -> bool {
        self.no_nodes.is_none() && self.no_services.is_none()
    }
}

impl From<kube::Error> for Unlisted {
    fn from(error: kube::Error) -> Unlisted {
        let lasts = matches!(&error, kube::Error::Api(status) if matches!(status.code, 403 | 404));
        Unlisted { why: cause(&error), lasts }
    }
}

impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
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
    let (mut told, now) = (Told::default(), Timestamp::now());
    let (mut with, mut without) = (false, false);
    let ranges = &mut told.ranges;
    let listed = list::<Node>(client, NODES, |node| {
        of_node(&node, ranges);
        let has = node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
        with |= has;
        let created = node.metadata.creation_timestamp.as_ref();
        without |= !has && created.is_none_or(|created| now.duration_since(created.0) > JOINING);
    });
    told.no_nodes = listed.await.err();
    told.pods = told.no_nodes.is_none() && with && !without;
    // Since Kubernetes 1.33; before, the Services tell what is in use.
    let mut cidrs = Vec::new();
    let listed = list::<ServiceCIDR>(client, PAGE, |cidr| {
        cidrs.extend(cidr.spec.and_then(|spec| spec.cidrs).into_iter().flatten());
    });
    let first = listed.await;
    if first.is_ok() && !cidrs.is_empty() {
        cidrs.iter().for_each(|text| add(text, Holder::Services, &mut told.ranges));
        return told;
    }
    let none = || Unlisted { why: "there are none".to_owned(), lasts: true };
    // What fails now may tell of more than the Services do.
    if let Err(why) = &first
        && !why.lasts
    {
        told.no_services = Some((why.clone(), none()));
        return told;
    }
    let ranges = &mut told.ranges;
    let listed = list::<Service>(client, PAGE, |service| {
        let addresses = cluster_ips(&service);
        ranges.extend(addresses.into_iter().map(|ip| Range { net: ip.into(), holder: Holder::Services }));
    });
    if let Err(services) = listed.await {
        told.no_services = Some((first.err().unwrap_or_else(none), services));
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

/// Shows all objects of a kind, of which a page is held at a time (S7).
async fn list<K>(client: &Client, page: u32, mut show: impl FnMut(K)) -> Result<(), Unlisted>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let mut parameters = ListParams::default().limit(page);
    loop {
        match api.list(&parameters).await {
            Ok(page) => {
                page.items.into_iter().for_each(&mut show);
                match page.metadata.continue_.filter(|more| !more.is_empty()) {
                    Some(more) => parameters = parameters.continue_token(&more),
                    None => return Ok(()),
                }
            }
            Err(error) => match parameters.limit {
                Some(limit) if limit > 1 && TooLarge::is_behind(&error) => {
                    parameters = parameters.limit((limit / 4).max(1));
                }
                _ => return Err(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests;
