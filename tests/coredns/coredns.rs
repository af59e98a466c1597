//! A real CoreDNS in a pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use hickory_proto::rr::RecordType;

use crate::dns::Resolver;
use crate::pod::Pod;
use crate::process::{Process, tail};
use crate::wait::{DEADLINE, poll};

/// Where a pod sees its Corefile and what lies beside it.
pub(crate) const DIRECTORY: &str = "/etc/coredns";

/// What `{$…}` of a Corefile may ask for.
pub(crate) const VARIABLES: [(&str, &str); 2] = [("DNS_PORT", "53"), ("MESH_ZONE", "global")];

/// A running CoreDNS. Dropping it kills it.
pub(crate) struct CoreDns {
    process: Process,
    log: PathBuf,
}

/// How a CoreDNS is started.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a Path,
    /// A path in the pod.
    pub(crate) corefile: &'a str,
    /// Where in the pod the API server is, for `kubernetes` blocks without an endpoint.
    pub(crate) api_server: SocketAddr,
    /// Appended to.
    pub(crate) log: &'a Path,
}

impl CoreDns {
    /// Starts it without waiting for anything.
    pub(crate) fn start(pod: &Pod, how: &Start<'_>) -> Self {
        let mut command = pod.command(how.program);
        command
            .args(["-conf", how.corefile])
            .env("KUBERNETES_SERVICE_HOST", how.api_server.ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", how.api_server.port().to_string())
            .envs(VARIABLES);
        Self { process: Process::start_with_log("CoreDNS", command, how.log), log: how.log.to_owned() }
    }

    /// Waits until the server at `address` of its pod answers whatever it is asked; the end of the log if
    /// CoreDNS ends first.
    pub(crate) fn wait_until_it_answers(&mut self, pod: &Pod, address: SocketAddr) -> Result<(), String> {
        let mut resolver = pod.inside(|| Resolver::new(address));
        let answers = poll(DEADLINE, || {
            if let Some(end) = self.process.ended() {
                return Some(Err(format!("{end}\n{}", self.log_tail())));
            }
            // Refused at once while nobody listens.
            resolver.ask("ready.invalid", RecordType::A).map(|_| Ok(()))
        });
        answers.unwrap_or_else(|| Err(format!("no answer within {DEADLINE:?}\n{}", self.log_tail())))
    }

    /// Kills it and waits until it has released what it held.
    pub(crate) fn stop(&mut self) {
        self.process.stop();
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log, 30)
    }
}

/// Port 53 of an address of loopback's network or of a pod.
pub(crate) fn dns_port(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, 53))
}
