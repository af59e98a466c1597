//! A ServiceAccount with a token, as a pod has it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::NAMESPACE;
use crate::cluster::Cluster;
use crate::control_plane::ControlPlane;
use crate::process::run_directory;

/// A right, as the API server names it; the last is the object's name, or empty for all.
pub(super) type Right = (String, String, String, String);

/// A ServiceAccount with a token, as a pod has it.
pub(super) struct ServiceAccount {
    name: String,
    pub(super) kubeconfig: PathBuf,
}

impl ServiceAccount {
    pub(super) fn of(plane: &ControlPlane, name: &str) -> Self {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{name}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let reply = plane.cluster.post(&path, &request);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{ "name": "e2e", "cluster": {
                "server": format!("https://127.0.0.1:{}", plane.port()),
                "certificate-authority": plane.ca_certificate(),
            }}],
            "users": [{ "name": name, "user": { "token": reply["status"]["token"] } }],
            "contexts": [{ "name": name, "context": { "cluster": "e2e", "user": name } }],
        });
        let kubeconfig = run_directory().join(format!("{name}-{}.kubeconfig", plane.port()));
        std::fs::write(&kubeconfig, config.to_string()).expect("write a kubeconfig");
        Self { name: name.to_owned(), kubeconfig }
    }

    /// What the authorizer says about one right.
    pub(super) fn may(
        &self,
        cluster: &Cluster,
        namespace: &str,
        (verb, group, resource, name): &Right,
    ) -> bool {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": { "user": format!("system:serviceaccount:{NAMESPACE}:{}", self.name), "resourceAttributes": {
                "verb": verb, "group": group, "resource": resource, "name": name,
                "namespace": if resource == "nodes" { "" } else { namespace },
            }},
        });
        cluster.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)["status"]["allowed"]
            == true
    }

    /// All its rights in a namespace, those on what is in none included.
    pub(super) fn rights(&self, namespace: &str) -> BTreeSet<Right> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
        });
        let reply = Cluster::connect(&self.kubeconfig)
            .post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review);
        assert_eq!(reply["status"]["incomplete"], false, "{reply:#}");
        let texts = |rule: &Value, field: &str| -> Vec<String> {
            let items = rule[field].as_array().cloned().unwrap_or_default();
            items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let mut rights = BTreeSet::new();
        for rule in reply["status"]["resourceRules"].as_array().expect("rules") {
            let mut names = texts(rule, "resourceNames");
            if names.is_empty() {
                names.push(String::new());
            }
            for verb in texts(rule, "verbs") {
                for group in texts(rule, "apiGroups") {
                    for resource in texts(rule, "resources") {
                        for name in &names {
                            rights.insert((verb.clone(), group.clone(), resource.clone(), name.clone()));
                        }
                    }
                }
            }
        }
        rights
    }
}
