//! Who writes an object of cluster DNS besides us, and which distribution that tells of.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::COREFILE;
use crate::stub::emit::Flavour;
use crate::stub::survey::{Key, Survey, Workload};

/// Who else writes a key of a ConfigMap, so that an edit there would be undone.
pub(in crate::stub) fn writers(survey: &Survey, config_map: &Key, key: &str) -> Vec<String> {
    let Some(config_map) = survey.config_map(config_map) else { return Vec::new() };
    let mut found = Vec::new();
    signs(&config_map.metadata, key, &mut found);
    if let Some(workload) = &survey.workload
        && workload_is_chart(workload, config_map)
    {
        found.push("RKE2's Helm chart (undone at the next reconcile)".to_owned());
    }
    found
}

fn workload_is_chart(workload: &Workload, config_map: &ConfigMap) -> bool {
    let name = |metadata: &ObjectMeta| metadata.name.clone().unwrap_or_default();
    name(&workload.metadata).starts_with("rke2-coredns")
        && name(&config_map.metadata).starts_with("rke2-coredns")
}

/// The marks that tools leave on what they keep in their own form.
fn signs(metadata: &ObjectMeta, key: &str, found: &mut Vec<String>) {
    let empty = BTreeMap::new();
    let labels = metadata.labels.as_ref().unwrap_or(&empty);
    let annotations = metadata.annotations.as_ref().unwrap_or(&empty);
    let mut sign = |who: &str, by: String| found.push(format!("{who} ({by})"));
    if labels.get("addonmanager.kubernetes.io/mode").is_some_and(|mode| mode == "Reconcile") {
        sign("the addon manager", "label addonmanager.kubernetes.io/mode=Reconcile".to_owned());
    }
    if let Some(name) = labels.get("addon.kops.k8s.io/name") {
        sign("kops", format!("label addon.kops.k8s.io/name={name}"));
    }
    if labels.get("app.kubernetes.io/managed-by").is_some_and(|by| by == "Helm") {
        sign("Helm", "label app.kubernetes.io/managed-by=Helm".to_owned());
    }
    let prefixes = [
        ("Flux", "kustomize.toolkit.fluxcd.io/"),
        ("Flux", "helm.toolkit.fluxcd.io/"),
        ("Argo CD", "argocd.argoproj.io/"),
        ("k3s", "objectset.rio.cattle.io/"),
    ];
    for (who, prefix) in prefixes {
        if let Some(mark) = labels.keys().chain(annotations.keys()).find(|mark| mark.starts_with(prefix)) {
            sign(who, mark.clone());
        }
    }
    if labels.contains_key("dns.operator.openshift.io/owning-dns") {
        sign("OpenShift's DNS operator", "label dns.operator.openshift.io/owning-dns".to_owned());
    }
    let owners = metadata.owner_references.iter().flatten();
    for owner in owners.filter(|owner| owner.controller == Some(true)) {
        sign(&format!("{} {}", owner.kind, owner.name), "controller in ownerReferences".to_owned());
    }
    for entry in metadata.managed_fields.iter().flatten() {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let owns = entry.fields_v1.as_ref().is_some_and(|fields| {
            fields.0.get("f:data").is_some_and(|data| data.get(format!("f:{key}")).is_some())
        });
        if owns && manager == "eks" {
            sign("the EKS add-on", format!("field manager eks of {key}"));
        }
        if owns && manager == "kops" && !labels.contains_key("addon.kops.k8s.io/name") {
            sign("kops", format!("field manager kops of {key}"));
        }
    }
}

/// The distribution, by the marks it leaves; for the name and the emitted text, never for the place.
pub(super) fn flavour(survey: &Survey, config_map: &Key) -> Flavour {
    let metadata = survey.config_map(config_map).map(|map| map.metadata.clone()).unwrap_or_default();
    let mut owners = Vec::new();
    signs(&metadata, COREFILE, &mut owners);
    let owned_by = |who: &str| owners.iter().any(|owner| owner.starts_with(who));
    let labels = metadata.labels.unwrap_or_default();
    let managers: Vec<String> =
        metadata.managed_fields.into_iter().flatten().filter_map(|entry| entry.manager).collect();
    let node = survey.node.as_ref();
    let node_labels = node.and_then(|n| n.metadata.labels.clone()).unwrap_or_default();
    let os_image = node.and_then(|n| n.status.as_ref()?.node_info.as_ref()).map(|i| i.os_image.clone());
    let provider = node.and_then(|n| n.spec.as_ref()?.provider_id.clone()).unwrap_or_default();
    let workload = survey.workload.as_ref().and_then(|w| w.metadata.name.clone()).unwrap_or_default();
    if config_map.0 == "openshift-dns" {
        return Flavour::Microshift;
    }
    if workload.starts_with("rke2-coredns") {
        return Flavour::Rke2;
    }
    if owned_by("the EKS add-on") {
        return Flavour::EksAddon;
    }
    if owned_by("kops") {
        return Flavour::Kops;
    }
    if owned_by("Helm") {
        return Flavour::HelmCoredns;
    }
    if node_labels.contains_key("kubernetes.azure.com/cluster") {
        return Flavour::Aks;
    }
    if owned_by("k3s") {
        return Flavour::K3s;
    }
    if labels.contains_key("k0s.k0sproject.io/stack") {
        return Flavour::K0s;
    }
    if node_labels.contains_key("minikube.k8s.io/name") {
        return Flavour::Minikube;
    }
    if node_labels.contains_key("microk8s.io/cluster") {
        return Flavour::MicroK8s;
    }
    if os_image.is_some_and(|image| image.contains("Talos")) {
        return Flavour::Talos;
    }
    if managers.iter().any(|manager| manager.starts_with("capi-")) {
        return Flavour::ClusterApi;
    }
    if provider.starts_with("kind://") {
        return Flavour::Kind;
    }
    if provider.starts_with("aws://") {
        return Flavour::Eks;
    }
    if survey.kubeadm { Flavour::Kubeadm } else { Flavour::Coredns }
}
