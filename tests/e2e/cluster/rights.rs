//! Who may read ServiceEntries.

use serde_json::{Value, json};

use super::{Cluster, GROUP};
use crate::credentials::User;
use crate::wait::{DEADLINE, wait_until};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

impl Cluster {
    /// The rights the documentation asks for: in all namespaces for one user, as a ClusterRole
    /// that others can be bound to.
    pub(crate) fn grant_documented_rights(&self) {
        let verbs = ["get", "list", "watch"];
        self.create_unless_present(
            &format!("{RBAC}/clusterroles"),
            &json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": { "name": "globaldns" },
                "rules": [
                    { "apiGroups": [GROUP], "resources": ["serviceentries"], "verbs": verbs },
                    { "apiGroups": [""], "resources": ["services"], "verbs": verbs },
                ],
            }),
        );
        self.bind(User::Globaldns, None);
    }

    /// The rights docs/stub-domains.md asks for, octet for octet.
    pub(crate) fn grant_stub_domain_rights(&self, user: User) {
        let page = include_str!("../../../docs/stub-domains.md");
        let yaml = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
        let roles: Vec<Value> =
            serde_saphyr::from_multiple(yaml.expect("the page has the rights")).expect("they are YAML");
        assert_eq!(roles.len(), 3, "two Roles and a ClusterRole");
        let group = "rbac.authorization.k8s.io";
        for role in roles {
            let namespace = role["metadata"]["namespace"].as_str();
            let scope = match namespace {
                None => RBAC.to_owned(),
                Some(namespace) => {
                    self.create_namespace(namespace);
                    format!("{RBAC}/namespaces/{namespace}")
                }
            };
            let kind = role["kind"].as_str().expect("a kind");
            self.create_unless_present(&format!("{scope}/{}s", kind.to_lowercase()), &role);
            let binding = json!({
                "apiVersion": format!("{group}/v1"), "kind": format!("{kind}Binding"),
                "metadata": { "name": "globaldns-stub-domains" },
                "roleRef": { "apiGroup": group, "kind": kind, "name": role["metadata"]["name"] },
                "subjects": [{ "apiGroup": group, "kind": "User", "name": user.name() }],
            });
            self.create_unless_present(&format!("{scope}/{}bindings", kind.to_lowercase()), &binding);
        }
    }

    /// The rights docs/operations.md asks for where Events are written, octet for octet.
    pub(crate) fn grant_rights_of_events(&self, user: User) {
        self.grant_rights_of_events_at_home(user);
        self.bind_rights_of_events(user, true);
    }

    /// Of these only what is about our own namespace.
    pub(crate) fn grant_rights_of_events_at_home(&self, user: User) {
        self.bind_rights_of_events(user, false);
    }

    /// Takes all of them away again.
    pub(crate) fn revoke_rights_of_events(&self, user: User) {
        for path in [
            format!("{RBAC}/clusterrolebindings/globaldns-events-{}", user.name()),
            format!("{RBAC}/namespaces/istio-system/rolebindings/globaldns-events-{}", user.name()),
        ] {
            if self.status_of(&path) == 200 {
                self.delete_path(&path);
            }
        }
        self.wait_for(user, ("coordination.k8s.io", "leases", "create"), Some("istio-system"), false);
        self.wait_for(user, ("events.k8s.io", "events", "create"), Some("default"), false);
    }

    fn bind_rights_of_events(&self, user: User, everywhere: bool) {
        let page = include_str!("../../../docs/operations.md");
        let section = page.split("## Kubernetes Events").nth(1).expect("the page has the section");
        let yaml = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
        let roles: Vec<Value> =
            serde_saphyr::from_multiple(yaml.expect("the section has the rights")).expect("they are YAML");
        assert_eq!(roles.len(), 2, "a ClusterRole and a Role");
        let group = "rbac.authorization.k8s.io";
        for role in roles {
            let namespace = role["metadata"]["namespace"].as_str();
            if namespace.is_none() != everywhere {
                continue;
            }
            let scope =
                namespace.map_or(RBAC.to_owned(), |namespace| format!("{RBAC}/namespaces/{namespace}"));
            namespace.into_iter().for_each(|namespace| self.create_namespace(namespace));
            let kind = role["kind"].as_str().expect("a kind");
            self.create_unless_present(&format!("{scope}/{}s", kind.to_lowercase()), &role);
            let binding = json!({
                "apiVersion": format!("{group}/v1"), "kind": format!("{kind}Binding"),
                "metadata": { "name": format!("globaldns-events-{}", user.name()) },
                "roleRef": { "apiGroup": group, "kind": kind, "name": role["metadata"]["name"] },
                "subjects": [{ "apiGroup": group, "kind": "User", "name": user.name() }],
            });
            self.create_unless_present(&format!("{scope}/{}bindings", kind.to_lowercase()), &binding);
        }
        if everywhere {
            self.wait_for(user, ("events.k8s.io", "events", "create"), Some("default"), true);
        } else {
            self.wait_for(user, ("coordination.k8s.io", "leases", "create"), Some("istio-system"), true);
        }
    }

    /// Gives `user` the documented rights in all namespaces, until [`revoke`](Self::revoke) or
    /// [`reset`](Self::reset).
    pub(crate) fn grant(&self, user: User) {
        self.bind(user, None);
    }

    /// Gives `user` the documented rights in one namespace only.
    pub(crate) fn grant_in(&self, user: User, namespace: &str) {
        self.create_namespace(namespace);
        self.bind(user, Some(namespace));
    }

    /// A token of a ServiceAccount that has the documented rights, good as long as a Secret of this name is there.
    pub(crate) fn token_bound_to(&self, namespace: &str, secret: &str) -> String {
        let group = "rbac.authorization.k8s.io";
        self.create_namespace(namespace);
        let core = format!("/api/v1/namespaces/{namespace}");
        self.create_unless_present(
            &format!("{core}/serviceaccounts"),
            &json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "globaldns" } }),
        );
        self.create_unless_present(
            &format!("{RBAC}/clusterrolebindings"),
            &json!({
                "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding",
                "metadata": { "name": format!("{namespace}-globaldns") },
                "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "globaldns" },
                "subjects": [{ "kind": "ServiceAccount", "name": "globaldns", "namespace": namespace }],
            }),
        );
        let object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": secret } });
        let made = self.post(&format!("{core}/secrets"), &object);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "expirationSeconds": 3600, "boundObjectRef": {
                "apiVersion": "v1", "kind": "Secret", "name": secret, "uid": made["metadata"]["uid"],
            }},
        });
        let reply = self.post(&format!("{core}/serviceaccounts/globaldns/token"), &request);
        reply["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// Takes back what [`grant`](Self::grant) gave, if it did.
    pub(crate) fn revoke(&self, user: User) {
        let binding = format!("{RBAC}/clusterrolebindings/{}", user.name());
        if self.status_of(&binding) == 200 {
            self.delete_path(&binding);
        }
        self.wait_for_right(user, None, false);
    }

    fn bind(&self, user: User, namespace: Option<&str>) {
        let (path, kind) = match namespace {
            None => (format!("{RBAC}/clusterrolebindings"), "ClusterRoleBinding"),
            Some(namespace) => (format!("{RBAC}/namespaces/{namespace}/rolebindings"), "RoleBinding"),
        };
        let group = "rbac.authorization.k8s.io";
        self.create_unless_present(
            &path,
            &json!({
                "apiVersion": format!("{group}/v1"),
                "kind": kind,
                "metadata": { "name": user.name() },
                "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "globaldns" },
                "subjects": [{ "apiGroup": group, "kind": "User", "name": user.name() }],
            }),
        );
        self.wait_for_right(user, namespace, true);
    }

    fn wait_for_right(&self, user: User, namespace: Option<&str>, wanted: bool) {
        self.wait_for(user, (GROUP, "serviceentries", "list"), namespace, wanted);
    }

    fn wait_for(
        &self,
        user: User,
        (group, resource, verb): (&str, &str, &str),
        namespace: Option<&str>,
        wanted: bool,
    ) {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": { "user": user.name(), "resourceAttributes": {
                "group": group,
                "resource": resource,
                "verb": verb,
                "namespace": namespace.unwrap_or_default(),
            }},
        });
        wait_until("the authorizer knows the binding", DEADLINE, || {
            let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            self.post(reviews, &review)["status"]["allowed"] == wanted
        });
    }
}
