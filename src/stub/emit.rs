//! Texts for people: the stub domain in the form that each kind of cluster DNS, or resolver outside, takes.
//!
//! Where cluster DNS is somebody else's (a cloud's API, a Helm release, a cluster specification), writing to the
//! cluster would be undone; there the exact text is all we can give.

mod guide;
mod manifests;
mod resolvers;
mod values;

use clap::ValueEnum;
use serde::Serialize;

use self::guide::Guide;
use super::corefile::{self, Bind, Block, Corefile, Edit, Plugin, Process, Zone};
use super::{DNS_PORT, Ours, Refusal, RefusalKind, Stub};
use crate::zone::reverse;

/// node-cache puts its own addresses here.
const OWN_ADDRESSES: &str = "__PILLAR__LOCAL__DNS__";

/// What a text is for. The names are those of `--for`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub enum Flavour {
    /// CoreDNS as kubeadm installs it
    Kubeadm,
    /// CoreDNS in kind
    Kind,
    /// CoreDNS with a ConfigMap that nobody else writes
    Coredns,
    /// CoreDNS older than 1.1, whose forward was called proxy
    #[value(name = "coredns-1.0")]
    Coredns10,
    /// CoreDNS in minikube
    Minikube,
    /// CoreDNS in MicroK8s
    #[value(name = "microk8s")]
    MicroK8s,
    /// CoreDNS under Cluster API's KubeadmControlPlane
    ClusterApi,
    /// Amazon EKS, CoreDNS managed by yourself
    Eks,
    /// Amazon EKS, CoreDNS as managed add-on: its configuration values
    EksAddon,
    /// Amazon EKS Auto Mode, which takes no stub domain: a notice
    EksAuto,
    /// Azure AKS
    Aks,
    /// K3s
    K3s,
    /// vcluster
    Vcluster,
    /// DigitalOcean Kubernetes
    Doks,
    /// Linode (Akamai) LKE
    Lke,
    /// OVHcloud Managed Kubernetes
    Ovh,
    /// Oracle OKE
    Oke,
    /// Outscale OKS
    Oks,
    /// Cloudfleet
    Cloudfleet,
    /// Gardener shoots, whose CoreDNS listens on 8053
    Gardener,
    /// Yandex Managed Kubernetes
    Yandex,
    /// RKE2: a HelmChartConfig
    Rke2,
    /// RKE2 with NodeLocal DNSCache: stubDomains, beside the text for rke2
    Rke2Nodelocal,
    /// k0s, the ConfigMap
    K0s,
    /// k0s, a patch in its cluster configuration
    K0sConfig,
    /// Talos
    Talos,
    /// kops with CoreDNS: the cluster specification
    Kops,
    /// kops with kube-dns: the cluster specification
    KopsKubedns,
    /// kops with NodeLocal DNSCache: the cluster specification, beside the text for kops
    KopsNodelocal,
    /// Kubespray: inventory variables for CoreDNS and nodelocaldns
    Kubespray,
    /// The Helm chart coredns: values
    HelmCoredns,
    /// kube-dns: stubDomains of its ConfigMap
    KubeDns,
    /// Google GKE with kube-dns: the same
    Gke,
    /// Google GKE with Cloud DNS, Autopilot included: private forwarding zones
    GkeCloudDns,
    /// NodeLocal DNSCache that mounts the ConfigMap kube-dns: stubDomains, beside the text for CoreDNS
    Nodelocal,
    /// NodeLocal DNSCache that does not: its own Corefile, beside the text for CoreDNS
    NodelocalCorefile,
    /// OpenShift: an element of spec.servers of the DNS operator
    Openshift,
    /// OpenShift: the same as JSON patch
    OpenshiftPatch,
    /// MicroShift
    Microshift,
    /// Alibaba Cloud ACK with managed CoreDNS: elements of spec.zones
    Ack,
    /// Huawei Cloud CCE: a parameter of the CoreDNS add-on
    Cce,
    /// dnsmasq
    Dnsmasq,
    /// systemd-resolved: a drop-in for all links
    SystemdResolved,
    /// systemd-resolved: commands for one link
    SystemdResolvedLink,
    /// BIND: forward zones
    Bind,
    /// BIND: static-stub zones
    BindStaticStub,
    /// Unbound
    Unbound,
    /// Google Cloud DNS for VMs: private forwarding zones
    CloudDns,
    /// Windows: rules of the name resolution policy table
    Windows,
    /// macOS: a file per zone in /etc/resolver
    Macos,
}

impl Flavour {
    /// Every flavour, those of clusters first.
    pub fn all() -> &'static [Flavour] {
        Flavour::value_variants()
    }

    /// As `--for` takes it.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it is, in one line.
    pub fn about(self) -> String {
        self.to_possible_value().and_then(|value| Some(value.get_help()?.to_string())).unwrap_or_default()
    }

    /// What live text `emit` can take for it, in words.
    pub fn live(self) -> Option<&'static str> {
        use Flavour::*;
        match self {
            Kubeadm | Kind | Coredns | Coredns10 | Minikube | MicroK8s | ClusterApi | Eks | EksAddon
            | Yandex | Rke2 | K0s | K0sConfig | Talos | Kops | HelmCoredns | NodelocalCorefile
            | Microshift => Some("the Corefile"),
            Rke2Nodelocal | KubeDns | Gke | Nodelocal => Some("the value of stubDomains"),
            OpenshiftPatch => Some("dnses.operator.openshift.io/default as JSON"),
            _ => None,
        }
    }
}

/// A text, and what to do with it.
#[derive(Clone, Debug, Serialize)]
pub struct Emitted {
    /// The name of the flavour.
    pub flavour: String,
    /// The object and key, or the file, it goes into.
    pub into: String,
    /// How it is put there.
    pub apply: String,
    /// How it is taken out.
    pub remove: String,
    /// How long it takes until every client notices.
    pub takes: String,
    /// What else to know.
    pub notes: Vec<String>,
    /// The text itself, loadable as it stands.
    pub text: String,
    /// How the format begins a comment, if it has comments that are welcome there.
    #[serde(skip)]
    comment: Option<&'static str>,
}

impl Emitted {
    /// What is said about the text, a line each.
    pub fn header(&self) -> Vec<String> {
        let field = |name: &str, text: &str| (!text.is_empty()).then(|| format!("{name}: {text}"));
        let fields =
            [("Into", &self.into), ("Apply", &self.apply), ("Remove", &self.remove), ("Takes", &self.takes)];
        let fields = fields.into_iter().filter_map(|(name, text)| field(name, text));
        fields.chain(self.notes.iter().filter_map(|note| field("Note", note))).collect()
    }

    /// The text with the header as comments on top, and the header where it cannot be there.
    pub fn file(&self) -> (String, Vec<String>) {
        match self.comment {
            None => (self.text.clone(), self.header()),
            Some(mark) => {
                let header = self.header().into_iter().map(|line| format!("{mark} {line}\n"));
                (header.chain([self.text.clone()]).collect(), Vec::new())
            }
        }
    }
}

/// The text for `flavour`. With `live` (see [`Flavour::live`]) it is all of what is to be written; without it, texts
/// that must repeat the live one have a place marked for it.
///
/// # Errors
///
/// `Invalid`: the flavour cannot express a zone or server, or takes no live text, or the live text is broken.
/// `Conflict`, `Unsure`: it cannot be extended.
pub fn emit(flavour: Flavour, stub: &Stub, live: Option<&str>) -> Result<Emitted, Refusal> {
    use Flavour::*;
    if live.is_some() && flavour.live().is_none() {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            "",
            format!("the text for {} does not depend on a live one", flavour.name()),
            "leave the live text out",
        ));
    }
    let mut block = block_for(flavour, stub);
    let mut warnings = Vec::new();
    let mut whole = None;
    if let Some(live) = live.filter(|_| flavour.live() == Some("the Corefile")) {
        let edit = extend(live, &mut block)?;
        warnings = edit.warnings;
        whole = Some(edit.text);
    }
    let text = match flavour {
        Kubeadm | Kind | Coredns | Coredns10 | Minikube | MicroK8s | ClusterApi | Eks | Yandex | K0s
        | Talos | Microshift => whole.unwrap_or_else(|| block.to_string()),
        NodelocalCorefile => whole.unwrap_or_else(|| block.bare()),
        Aks | K3s | Vcluster | Doks | Lke | Ovh | Oke | Oks | Cloudfleet | Gardener => {
            manifests::custom(&block)
        }
        EksAddon => manifests::eks_addon(&block, whole),
        EksAuto => String::new(),
        Rke2 => values::rke2(&block, live)?,
        HelmCoredns => values::chart(&block, live)?,
        K0sConfig => manifests::k0s(&block, whole),
        Kops => manifests::kops(&block, whole),
        KopsKubedns => manifests::kops_kube_dns(stub)?,
        KopsNodelocal => manifests::kops_node_local(&block),
        Kubespray => manifests::kubespray(stub),
        KubeDns | Gke | Nodelocal | Rke2Nodelocal => manifests::stub_domains(stub, live)?,
        Openshift => manifests::openshift(stub)?,
        OpenshiftPatch => manifests::openshift_patch(stub, live)?,
        Ack => manifests::ack(stub)?,
        Cce => manifests::cce(stub)?,
        Dnsmasq => resolvers::dnsmasq(stub),
        SystemdResolved => resolvers::resolved(stub),
        SystemdResolvedLink => resolvers::resolved_link(stub),
        Bind => resolvers::bind(stub),
        BindStaticStub => resolvers::bind_static_stub(stub)?,
        Unbound => resolvers::unbound(stub),
        GkeCloudDns | CloudDns => resolvers::cloud_dns(stub)?,
        Windows => resolvers::windows(stub)?,
        Macos => resolvers::macos(stub)?,
    };
    let Guide { into, apply, remove, takes, mut notes } = guide::guide(flavour, stub, live.is_some());
    if let Some(zone) = stub.zones().iter().find(|zone| reverse::addresses(zone.wire()).is_some()) {
        notes.push(format!(
            "{zone} has the names of addresses, and cluster DNS those of pods and services: the range may have nothing \
             but VIPs in it"
        ));
    }
    notes.extend(warnings);
    let comment = match flavour {
        // A Corefile is printed as it is to be stored, and JSON has no comments.
        flavour if live.is_some() && flavour.live() == Some("the Corefile") && !is_yaml(flavour) => None,
        EksAddon | KubeDns | Gke | Nodelocal | Rke2Nodelocal | Openshift | OpenshiftPatch | Cce => None,
        Bind | BindStaticStub => Some("//"),
        _ => Some("#"),
    };
    Ok(Emitted { flavour: flavour.name(), into, apply, remove, takes, notes, text, comment })
}

/// Our block as the flavour's own Corefile needs it.
fn block_for(flavour: Flavour, stub: &Stub) -> Block {
    let port = match flavour {
        Flavour::Microshift => 5353,
        Flavour::Gardener => 8053,
        _ => DNS_PORT,
    };
    let bind = match flavour {
        Flavour::NodelocalCorefile | Flavour::KopsNodelocal => Bind::new([OWN_ADDRESSES]).unwrap_or_default(),
        _ => Bind::default(),
    };
    let plugin = if flavour == Flavour::Coredns10 { Plugin::Proxy } else { Plugin::Forward };
    Block { bind, plugin, ..Block::new(stub.clone(), port) }
}

/// A live Corefile with our block, which is made to listen where the block for `.` does: there pods ask.
fn extend(live: &str, block: &mut Block) -> Result<Edit, Refusal> {
    let process = Process::default();
    let file = Corefile::parse(live, &process)?;
    if file.claims().any(|claim| claim.zone == Zone::Root) {
        block.port = file.root_port().unwrap_or(block.port);
        block.bind = file.root_bind()?;
    }
    corefile::edit(live, Some(block), &Ours::default(), &process)
}

fn is_yaml(flavour: Flavour) -> bool {
    matches!(flavour, Flavour::Rke2 | Flavour::HelmCoredns | Flavour::K0sConfig | Flavour::Kops)
}
