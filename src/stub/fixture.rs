//! Clusters for the tests of what is found and planned there.

use k8s_openapi::api::core::v1::ConfigMap;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::survey::{Missing, Survey, Workload};
use super::{Ours, Stub};
use crate::source::ranges::Told;
use crate::wire::name::Name;

/// kubeadm's Corefile.
pub(super) const KUBEADM: &str = "\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
";

/// The Corefile of k3s, whose keys of `coredns-custom` are imported.
pub(super) const K3S: &str = "\
.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
      pods insecure
      fallthrough in-addr.arpa ip6.arpa
    }
    hosts /etc/coredns/NodeHosts {
      ttl 60
      fallthrough
    }
    prometheus :9153
    cache 30
    loop
    reload
    import /etc/coredns/custom/*.override
    forward . /etc/resolv.conf
}
import /etc/coredns/custom/*.server
";

/// Reads an object.
pub(super) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

/// `global` and `cluster2` to 10.96.0.53.
pub(super) fn stub() -> Stub {
    stub_to(&["10.96.0.53:53"])
}

/// The same zones to other servers.
pub(super) fn stub_to(servers: &[&str]) -> Stub {
    let zones = ["global", "cluster2"].map(|zone| Name::parse(zone).expect(zone));
    Stub::new(zones, servers.iter().map(|server| server.parse().expect(server))).expect("a stub")
}

/// What may be ours where nothing was recorded.
pub(super) fn nothing_recorded() -> Ours {
    Ours::default()
}

impl Survey {
    /// A ConfigMap is there.
    pub(super) fn having(mut self, namespace: &str, name: &str, data: Value) -> Survey {
        let map =
            json!({"metadata": {"name": name, "namespace": namespace, "resourceVersion": "7"}, "data": data});
        self.config_maps.insert((namespace.to_owned(), name.to_owned()), Ok(object(map)));
        self
    }

    /// A ConfigMap may not be read.
    pub(super) fn forbidding(mut self, name: &str) -> Survey {
        self.config_maps.insert(("kube-system".to_owned(), name.to_owned()), Err(Missing::Forbidden));
        self
    }

    /// A ConfigMap that is there is marked.
    pub(super) fn marking(mut self, name: &str, metadata: Value) -> Survey {
        let map =
            self.config_maps.values_mut().flatten().find(|map| map.metadata.name.as_deref() == Some(name));
        let map = map.expect("a ConfigMap to mark");
        let mut value = serde_json::to_value(&*map).expect("JSON");
        for (key, mark) in metadata.as_object().expect("an object") {
            value["metadata"][key] = mark.clone();
        }
        *map = object::<ConfigMap>(value);
        self
    }

    /// Cluster DNS is CoreDNS as kubeadm runs it, with this Corefile.
    pub(crate) fn coredns(corefile: &str) -> Survey {
        Survey {
            service: Some(object(json!({
                "metadata": {"name": "kube-dns", "namespace": "kube-system"},
                "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"],
                    "selector": {"k8s-app": "kube-dns"}},
            }))),
            pod: Some(object(json!({
                "containers": [{
                    "name": "coredns", "image": "registry.k8s.io/coredns/coredns:v1.12.1",
                    "args": ["-conf", "/etc/coredns/Corefile"],
                    "volumeMounts": [{"name": "config-volume", "mountPath": "/etc/coredns", "readOnly": true}],
                }],
                "volumes": [{"name": "config-volume", "configMap": {"name": "coredns",
                    "items": [{"key": "Corefile", "path": "Corefile"}]}}],
            }))),
            workload: Some(Workload {
                kind: "Deployment",
                metadata: object(json!({"name": "coredns", "namespace": "kube-system"})),
            }),
            endpoints: vec!["10.244.0.2:53".parse().expect("an address"), "10.244.0.3:53".parse().expect("one")],
            told: Some(Told { pods: true, ..Told::default() }),
            ..Survey::default()
        }
        .having("kube-system", "coredns", json!({"Corefile": corefile}))
    }

    /// The pod mounts one more ConfigMap.
    pub(super) fn mounting(mut self, path: &str, config_map: &str) -> Survey {
        let mut pod = serde_json::to_value(self.pod.as_ref().expect("a pod")).expect("JSON");
        let push = |list: &mut Value, item| list.as_array_mut().expect("a list").push(item);
        let mount = json!({"name": config_map, "mountPath": path});
        push(&mut pod["containers"][0]["volumeMounts"], mount);
        let volume = json!({"name": config_map, "configMap": {"name": config_map, "optional": true}});
        push(&mut pod["volumes"], volume);
        self.pod = Some(object(pod));
        self.config_maps
            .entry(("kube-system".to_owned(), config_map.to_owned()))
            .or_insert(Err(Missing::Absent));
        self
    }

    /// NodeLocal DNSCache runs in front, with this Corefile, and mounts what else is named.
    pub(super) fn node_local(
        mut self,
        config_map: &str,
        key: &str,
        corefile: &str,
        mounts: &[&str],
    ) -> Survey {
        let volumes: Vec<_> = mounts
            .iter()
            .chain([&config_map])
            .map(|name| json!({"name": name, "configMap": {"name": name, "optional": true}}))
            .collect();
        self.node_local = Some(object(json!({
            "metadata": {"name": "node-local-dns", "namespace": "kube-system",
                "labels": {"k8s-app": "node-local-dns"}},
            "spec": {"selector": {}, "template": {"spec": {
                "containers": [{"name": "node-cache", "image": "registry.k8s.io/dns/k8s-dns-node-cache:1.26.4",
                    "args": ["-localip", "169.254.20.10,10.96.0.10", "-conf", "/etc/Corefile"]}],
                "volumes": volumes,
            }}},
        })));
        for name in mounts {
            self.config_maps
                .entry(("kube-system".to_owned(), (*name).to_owned()))
                .or_insert(Err(Missing::Absent));
        }
        self.having("kube-system", config_map, json!({key: corefile}))
    }
}
