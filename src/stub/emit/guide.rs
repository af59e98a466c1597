//! What is said about a text: where it goes, how, and how long it takes.

use super::Flavour::{self, *};
use super::resolvers::zone_id;
use crate::stub::Stub;

pub(super) struct Guide {
    pub(super) into: String,
    pub(super) apply: String,
    pub(super) remove: String,
    pub(super) takes: String,
    pub(super) notes: Vec<String>,
}

const WITH_RELOAD: &str = "25 to 130 s where the Corefile has reload, otherwise until its pods are restarted";
const REPLACE: &str = "the line about the live Corefile stands for all of it: put it there, or give it \
    with --live; without it \
                       the cluster has no other names";

pub(super) fn guide(flavour: Flavour, stub: &Stub, live: bool) -> Guide {
    let mut guide = base(flavour, stub, live);
    guide
        .notes
        .extend(notes(flavour, stub, live).into_iter().filter(|note| !note.is_empty()).map(str::to_owned));
    guide
}

fn guided(into: &str, apply: &str, remove: &str, takes: &str) -> Guide {
    let [into, apply, remove, takes] = [into, apply, remove, takes].map(str::to_owned);
    Guide { into, apply, remove, takes, notes: Vec::new() }
}

fn base(flavour: Flavour, stub: &Stub, live: bool) -> Guide {
    match flavour {
        Kubeadm | Kind | Coredns | Coredns10 | Minikube | MicroK8s | ClusterApi | Eks | K0s | Talos => {
            in_corefile("kube-system", "coredns", live)
        }
        Yandex => in_corefile("kube-system", "coredns-user", live),
        Microshift => in_corefile("openshift-dns", "dns-default", live),
        NodelocalCorefile => {
            let mut guide = in_corefile("kube-system", "node-local-dns", live);
            guide.takes = "40 to 140 s".to_owned();
            guide
        }
        Aks | K3s | Vcluster | Doks | Lke | Ovh | Oke | Oks | Cloudfleet | Gardener => guided(
            "ConfigMap kube-system/coredns-custom, key globaldns.server",
            "kubectl apply --server-side --field-manager=globaldns -f FILE",
            "kubectl -n kube-system patch configmap coredns-custom --type json --patch \
             '[{\"op\": \"remove\", \"path\": \"/data/globaldns.server\"}]'",
            WITH_RELOAD,
        ),
        EksAddon => guided(
            "the EKS add-on coredns, configurationValues",
            "aws eks update-addon --cluster-name NAME --addon-name coredns --resolve-conflicts PRESERVE \
             --configuration-values file://FILE",
            "the same with a Corefile without this block",
            "minutes: the add-on is updated",
        ),
        EksAuto => Guide {
            notes: vec![
                "EKS Auto Mode runs CoreDNS on the nodes and takes no stub domain".to_owned(),
                "let the mesh capture DNS (ISTIO_META_DNS_CAPTURE, or ambient), or give pods that need \
                 these names a \
                 dnsConfig"
                    .to_owned(),
            ],
            ..guided("nothing", "", "", "")
        },
        Rke2 => guided(
            "HelmChartConfig kube-system/rke2-coredns, of which there can be only one: merge it with one \
             that is there",
            "kubectl apply -f FILE, or a file in /var/lib/rancher/rke2/server/manifests",
            "take the servers of these zones out again",
            "1 to 3 min: a job updates the release and the pods of CoreDNS are replaced",
        ),
        HelmCoredns => guided(
            "the values of your release of the chart coredns",
            "helm upgrade RELEASE coredns/coredns --reuse-values -f FILE",
            "take the servers of these zones out again",
            "until the pods of CoreDNS are replaced",
        ),
        K0sConfig => guided(
            "the cluster configuration of k0s (k0s.yaml)",
            "k0s install or restart with it, or kubectl -n kube-system edit clusterconfig k0s",
            "take the patch out again",
            WITH_RELOAD,
        ),
        Kops | KopsKubedns | KopsNodelocal => guided(
            "the cluster specification of kops",
            "kops edit cluster, then kops update cluster --yes",
            "take it out again and update the cluster",
            "minutes after the update; the pods of NodeLocal DNSCache are not replaced by themselves",
        ),
        Kubespray => guided(
            "the inventory, for example group_vars/k8s_cluster/k8s-cluster.yml",
            "run the playbook cluster.yml (tags coredns, nodelocaldns)",
            "take the variables out again and run the playbook",
            "the run, and 25 to 130 s",
        ),
        KubeDns | Gke | Nodelocal | Rke2Nodelocal => guided(
            "ConfigMap kube-system/kube-dns, key stubDomains",
            "kubectl -n kube-system patch configmap kube-dns --type merge --patch \
             \"$(jq -Rs '{data: {stubDomains: .}}' FILE)\"",
            "take these domains out of the value again, and the key with the last of them",
            if flavour == Nodelocal || flavour == Rke2Nodelocal { "40 to 140 s" } else { "10 to 100 s" },
        ),
        GkeCloudDns | CloudDns => cloud_dns(stub),
        Openshift | OpenshiftPatch => guided(
            "dnses.operator.openshift.io/default, spec.servers",
            if flavour == Openshift {
                "oc edit dnses.operator.openshift.io default, and add it to the list"
            } else {
                "oc patch dnses.operator.openshift.io default --type json --patch-file FILE"
            },
            "take the element named globaldns out of the list again",
            "30 to 135 s",
        ),
        Ack => guided(
            "CustomDNSConfig default, spec.zones",
            "kubectl edit customdnsconfigs.networking.alibabacloud.com default, and add them to the list",
            "take these elements out of the list again",
            "about 20 s",
        ),
        Cce => guided(
            "the add-on CoreDNS, parameter stub_domains",
            "the console's add-on page, or the API for add-on instances (spec.values.custom)",
            "take these domains out again",
            "minutes: the add-on is updated",
        ),
        Dnsmasq | SystemdResolved | SystemdResolvedLink | Bind | BindStaticStub | Unbound | Windows
        | Macos => outside(flavour, stub),
    }
}

fn in_corefile(namespace: &str, name: &str, live: bool) -> Guide {
    let into = format!("ConfigMap {namespace}/{name}, key Corefile");
    let (into, apply) = if live {
        let patch = "\"$(jq -Rs '{data: {Corefile: .}}' FILE)\"";
        (into, format!("kubectl -n {namespace} patch configmap {name} --type merge --patch {patch}"))
    } else {
        let into = format!("{into}, at the end of what is there");
        (into, format!("kubectl -n {namespace} edit configmap {name}"))
    };
    guided(&into, &apply, "cut the block out again, before globaldns goes", WITH_RELOAD)
}

fn cloud_dns(stub: &Stub) -> Guide {
    let zones = stub.zones().iter().map(|zone| format!("mesh-{}", zone_id(&zone.to_string())));
    let delete: Vec<_> = zones.map(|zone| format!("gcloud dns managed-zones delete {zone}")).collect();
    guided("Cloud DNS, one private zone each", "VPC=NETWORK sh FILE", &delete.join(" && "), "about a minute")
}

fn outside(flavour: Flavour, stub: &Stub) -> Guide {
    let zones: Vec<_> = stub.zones().iter().map(ToString::to_string).collect();
    let files = zones.iter().map(|zone| format!("/etc/resolver/{zone}")).collect::<Vec<_>>();
    match flavour {
        Dnsmasq => guided(
            "a file in /etc/dnsmasq.d",
            "restart dnsmasq: on SIGHUP it does not read its configuration again",
            "delete the file and restart",
            "at once",
        ),
        SystemdResolved => guided(
            "/etc/systemd/resolved.conf.d/globaldns.conf",
            "systemctl restart systemd-resolved",
            "delete the file and restart",
            "at once",
        ),
        SystemdResolvedLink => guided(
            "the settings of one link, until it goes down",
            "IF=eth0 sh FILE",
            "resolvectl revert \"$IF\"",
            "at once",
        ),
        Bind | BindStaticStub => guided(
            "a file that named.conf includes",
            "rndc reconfig",
            "take it out again, and rndc reconfig",
            "at once; rndc flush forgets what was cached",
        ),
        Unbound => guided(
            "a file in /etc/unbound/unbound.conf.d",
            "unbound-control reload",
            "delete the file and reload",
            "at once",
        ),
        Windows => guided(
            "the name resolution policy table",
            "run it in PowerShell as administrator",
            "Get-DnsClientNrptRule | Where-Object Comment -eq globaldns | Remove-DnsClientNrptRule -Force",
            "at once; Clear-DnsClientCache forgets what was cached",
        ),
        _ => guided(
            &files.join(" and "),
            "write it into each of these files as root",
            "delete the files",
            "at once; dscacheutil -flushcache forgets what was cached",
        ),
    }
}

fn notes(flavour: Flavour, stub: &Stub, live: bool) -> Vec<&'static str> {
    let unless_live = |text| if live { "" } else { text };
    let mut notes = match flavour {
        Kubeadm => vec![
            "kubeadm upgrade may rewrite the Corefile and drops comments \
             (https://github.com/kubernetes/kubernetes/issues/88811): look at it afterwards",
        ],
        Coredns10 => vec!["CoreDNS 1.5 and newer do not load with proxy: look at the tag of the image first"],
        Minikube => vec!["minikube edits the Corefile at each start: look at it afterwards"],
        MicroK8s => vec![
            "microk8s enable dns writes the Corefile anew (https://github.com/canonical/microk8s/issues/543)",
        ],
        ClusterApi => vec![
            "an upgrade of the control plane migrates the Corefile; the annotation \
             controlplane.cluster.x-k8s.io/skip-coredns opts out",
        ],
        Eks => vec!["only where CoreDNS is not the EKS add-on, which writes it back"],
        EksAddon => vec![unless_live(
            "<live> stands for the current Corefile, as in kubectl -n kube-system get configmap coredns: \
             put it there, or give it with --live; without it the cluster has no other names",
        )],
        K0s => vec![
            "k0s writes the ConfigMap anew when its own manifest changes \
             (https://github.com/k0sproject/k0s/issues/7963)",
        ],
        K0sConfig | Kops => vec![unless_live(REPLACE)],
        Talos => vec!["talosctl upgrade-k8s may write the ConfigMap anew: look at it afterwards"],
        Microshift => vec![
            "MicroShift writes the ConfigMap anew at each start; newer releases read a Corefile of yours \
             (dns.configFile)",
        ],
        K3s => vec!["the ConfigMap coredns itself is written anew at each start of k3s: leave it alone"],
        Aks => vec![
            "the ConfigMap coredns itself is written back within a minute \
             (https://github.com/Azure/AKS/issues/811): leave it alone",
            "images older than CoreDNS 1.6.1 need kubectl -n kube-system rollout restart deployment coredns",
        ],
        Oke => vec!["basic clusters drop customisations now and then: look at it from time to time"],
        Gardener => vec![
            "CoreDNS may only ask on port 53 there; with node-local DNS set \
             spec.systemComponents.nodeLocalDNS.disableForwardToUpstreamDNS: true in the shoot \
             (https://github.com/gardener/gardener/issues/6852)",
        ],
        Rke2 => vec![
            "the chart puts the cluster domain before the parameters of kubernetes",
            unless_live(
                "the first server is the chart's own; what you have changed there must be said here \
                 again, or give the live Corefile with --live",
            ),
        ],
        HelmCoredns => vec![unless_live(
            "the first server is the chart's own; what you have changed there must be said here again, or \
             give the live Corefile with --live",
        )],
        KubeDns | Gke | Nodelocal | Rke2Nodelocal => vec![unless_live(
            "this replaces the whole value: if there is one, give it with --live, and its domains are kept",
        )],
        NodelocalCorefile => vec![
            "only where the DaemonSet does not mount the ConfigMap kube-dns; there a zone in both places \
             stops every node's DNS",
            "the ConfigMap is nodelocaldns with Kubespray",
            "a ConfigMap with the label addonmanager.kubernetes.io/mode: Reconcile is written back: \
             change what it is made from",
            unless_live("node-cache puts its own addresses for __PILLAR__LOCAL__DNS__"),
        ],
        OpenshiftPatch => vec![unless_live(
            "<rv> stands for metadata.resourceVersion, and the path for a list that is there; give the \
             object with --live for a patch that fits",
        )],
        Openshift => vec!["a zone that another element has as well stops all cluster DNS: look first"],
        Ack => vec![
            "whether managed CoreDNS reaches a ClusterIP is not documented: an internal load balancer's \
             address is on the safe side",
        ],
        GkeCloudDns | CloudDns => vec![
            "Cloud DNS reaches no ClusterIP: give an internal passthrough load balancer's address, and \
             let 35.199.192.0/19 in",
        ],
        SystemdResolved => vec![
            "a server without a link may be asked for other names as well; systemd-resolved-link avoids that",
        ],
        SystemdResolvedLink => vec!["resolvectl nta keeps DNSSEC validation from refusing the zones"],
        _ => Vec::new(),
    };
    if flavour == SystemdResolved {
        notes.push(
            "where DNSSEC= is on, write the zones, one per line, into \
            /etc/dnssec-trust-anchors.d/globaldns.negative",
        );
    }
    let asks_from_outside = matches!(
        flavour,
        Dnsmasq | SystemdResolved | SystemdResolvedLink | Bind | BindStaticStub | Unbound | Windows | Macos
    );
    if asks_from_outside && stub.servers().iter().any(|server| !server.ip().is_loopback()) {
        notes.push(
            "a ClusterIP is usually not reachable from outside the cluster: give a load balancer's address",
        );
    }
    notes
}
