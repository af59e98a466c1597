//! The ServiceEntry CRD: created, changed, deleted, and known to discovery.

use serde_json::{Value, json};

use super::{Cluster, GROUP};
use crate::wait::{DEADLINE, wait_until};

/// The versions of our CRD, the preferred one first.
pub(super) const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CRD: &str = "serviceentries.networking.istio.io";

impl Cluster {
    /// Makes the CRD serve all its versions.
    pub(crate) fn install_crd(&mut self) {
        self.install_crd_serving(&VERSIONS);
    }

    /// Creates or changes the CRD so that it serves exactly `versions`, and waits until discovery says so.
    pub(crate) fn install_crd_serving(&mut self, versions: &[&'static str]) {
        let manifest = include_str!("../serviceentry-crd.yaml");
        let mut crd: Value = serde_saphyr::from_str(manifest).expect("the manifest is YAML");
        for version in crd["spec"]["versions"].as_array_mut().expect("versions") {
            let served = versions.iter().any(|name| version["name"] == *name);
            version["served"] = served.into();
        }
        self.create_unless_present(CRDS, &crd);
        self.merge(&format!("{CRDS}/{CRD}"), &json!({ "spec": crd["spec"] }));
        self.version = versions[0];
        self.wait_for_served(versions);
    }

    /// Deletes the CRD and every ServiceEntry, and waits until discovery knows neither.
    pub(crate) fn delete_crd(&self) {
        self.delete_path(&format!("{CRDS}/{CRD}"));
        wait_until("the CRD is gone", DEADLINE, || self.status_of(&format!("{CRDS}/{CRD}")) == 404);
        self.wait_for_served(&[]);
    }

    fn wait_for_served(&self, wanted: &[&str]) {
        wait_until("discovery shows the served versions", DEADLINE, || {
            let groups = self.get("/apis");
            let groups = groups["groups"].as_array().cloned().unwrap_or_default();
            let group = groups.into_iter().find(|group| group["name"] == GROUP);
            let served = group.map(|group| group["versions"].clone());
            let served = served.iter().flat_map(|served| served.as_array()).flatten();
            let served: Vec<&str> = served.filter_map(|one| one["version"].as_str()).collect();
            // Discovery is ahead of the handlers at times, and behind them at others.
            VERSIONS.iter().all(|version| {
                let reply = self.status_of(&format!("/apis/{GROUP}/{version}/serviceentries?limit=1"));
                let wanted = wanted.contains(version);
                served.contains(version) == wanted && reply == if wanted { 200 } else { 404 }
            })
        });
    }
}
