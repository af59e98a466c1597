//! Pods without a container runtime: a network and a few directories of their own, held by one process.
//!
//! Nothing of it is named or visible outside: when the holder ends, the kernel removes the network with
//! its links, and the mounts. Needs the right to make namespaces (root).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sched::{CloneFlags, setns};

use crate::process::Process;

/// A network and a view of the file system. Dropping it ends both, once nothing runs in them.
pub(crate) struct Pod {
    holder: Process,
    network: File,
}

/// A directory of this machine and where a pod sees it.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    pub(crate) path: String,
}

/// `/etc` and `/run` are empty in a pod but for what is mounted there and two files. The name server is
/// one that nobody routes to: what is forwarded to it fails at once.
const HOLDER: &str = r#"
set -e
ip link set lo up
run=$(readlink -f /var/run)
mount -t tmpfs pod /etc
mount -t tmpfs pod "$run"
echo 'nameserver 192.0.2.1' >/etc/resolv.conf
echo '127.0.0.1 localhost' >/etc/hosts
while [ $# -gt 0 ]; do
    mkdir -p "$2"
    mount --bind "$1" "$2"
    shift 2
done
echo ready >&2
exec sleep infinity
"#;

impl Pod {
    /// A pod with nothing but loopback, and these directories.
    pub(crate) fn start(name: &str, mounts: &[Mount]) -> Self {
        home();
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation=private", "sh", "-c", HOLDER, "pod"]);
        for mount in mounts {
            command.arg(&mount.source).arg(&mount.path);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut holder = Process::start(&format!("pod {name}"), command);
        let mut stderr = BufReader::new(holder.take_stderr().expect("stderr is piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("read what the pod says");
        if line != "ready\n" {
            let _ = stderr.read_to_string(&mut line);
            panic!("cannot make a pod ({}); it takes root, or CAP_SYS_ADMIN", line.trim_end());
        }
        let network = format!("/proc/{}/ns/net", holder.id());
        let network = File::open(&network).unwrap_or_else(|error| panic!("{network}: {error}"));
        Self { holder, network }
    }

    /// Gives the pod an address that only those who route to it reach.
    pub(crate) fn add_address(&self, address: Ipv4Addr) {
        self.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]);
    }

    /// Makes the pod the node of others: what [`join`](Self::join)s it can reach it, and one another.
    pub(crate) fn become_node(&self, address: Ipv4Addr) {
        // Its own address: else it has the lowest of its ports', and changes it when a pod comes or goes.
        self.ip(&["link", "add", "cni0", "address", "0a:58:0a:f4:00:01", "type", "bridge"]);
        self.ip(&["address", "add", &format!("{address}/24"), "dev", "cni0"]);
        self.ip(&["link", "set", "cni0", "up"]);
        // Which network this file is about depends on who writes.
        let forward = self.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"));
        forward.expect("let the node forward");
    }

    /// Links the pod to `node` and its other pods, with an address of the node's network. Everything else
    /// stays unreachable, and says so at once.
    pub(crate) fn join(&self, node: &Self, address: Ipv4Addr) {
        let link = format!("veth{}", self.holder.id());
        let pid = self.holder.id().to_string();
        node.ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        node.ip(&["link", "set", &link, "master", "cni0", "up"]);
        self.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"]);
        self.ip(&["link", "set", "eth0", "up"]);
    }

    /// Sends what the pod has for the network `to` by way of `via`, a neighbour.
    pub(crate) fn route(&self, to: &str, via: Ipv4Addr) {
        self.ip(&["route", "replace", to, "via", &via.to_string()]);
    }

    /// A command that runs in the pod.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &self.holder.id().to_string(), "--"]).arg(program);
        command
    }

    /// Calls `inside` in the pod's network. Sockets made there stay there, and so do threads and
    /// processes started there.
    pub(crate) fn inside<T>(&self, inside: impl FnOnce() -> T) -> T {
        within(&self.network, inside)
    }

    fn ip(&self, arguments: &[&str]) {
        run(Command::new("nsenter")
            .args(["--net", "--target", &self.holder.id().to_string(), "--", "ip"])
            .args(arguments));
    }
}

/// Calls `outside` in the network that the first pod was made from: ours, however deep inside pods.
pub(crate) fn at_home<T>(outside: impl FnOnce() -> T) -> T {
    within(home(), outside)
}

fn home() -> &'static File {
    static HOME: OnceLock<File> = OnceLock::new();
    HOME.get_or_init(present_network)
}

fn present_network() -> File {
    File::open("/proc/thread-self/ns/net").expect("open the present network namespace")
}

fn within<T>(network: &File, inside: impl FnOnce() -> T) -> T {
    let back = Back(present_network());
    setns(network, CloneFlags::CLONE_NEWNET).expect("enter a network namespace");
    let value = inside();
    drop(back);
    value
}

/// Returns the thread to the network it came from, also from a panic.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).expect("return to the network namespace of before");
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
