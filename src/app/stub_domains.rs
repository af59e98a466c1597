//! The thread that looks after cluster DNS's stub domains (chapter T).

use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, StubDomains, host_name};
use crate::metrics::Metrics;
use crate::panics::{self, Place};
use crate::source::advertise::ServiceName;
use crate::source::cluster::{Access, Later};
use crate::stub::controller::{self, Controller};
use crate::stub::{DNS_PORT, Stub, engine, lease};

/// Looks after cluster DNS's stub domains; they follow the addresses we are reached at. On a thread of its own: reading
/// what a cluster is made of takes longer than a change of the name table may (L7).
pub(super) async fn start(
    config: &Config,
    settings: &StubDomains,
    access: &Access,
    reached_at: watch::Receiver<Vec<IpAddr>>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let service = config.table.advertise_service.clone().unwrap_or_else(ServiceName::usual);
    // Pods may share a host name, and every one of them is process 1.
    let random: u32 = rand::random();
    let identity = format!("{}-{random:08x}", String::from_utf8_lossy(&host_name(200)));
    let options = controller::Options {
        mode: settings.mode,
        namespace: service.namespace,
        service: Some(service.name),
        settings: engine::Settings {
            edit_managed: settings.edit_managed,
            proof_limit: settings.timeout,
            identity,
            started: Timestamp::now(),
            insist_on_answer: true,
        },
        lease: lease::DURATION,
    };
    let tally = metrics.stub_domains();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime of the stub domains")?;
    // A client belongs to the runtime it is built in.
    let client = {
        let _inside = runtime.enter();
        let access = access.clone();
        Later::new(move || access.client(), |_| ())
    };
    let client = match client.begun().await {
        Ok(client) => client,
        Err(error) => {
            // A runtime must not be dropped inside another one in the ordinary way.
            runtime.shutdown_background();
            return Err(error.into());
        }
    };
    let zones = [&config.table.zones[..], &config.table.reverse].concat();
    let stub = move |addresses: &[IpAddr]| {
        let servers = addresses.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT));
        Stub::new(zones.clone(), servers).inspect_err(|error| tracing::warn!("stub domains: {error}")).ok()
    };
    let stop = stop.clone();
    let all = async move {
        let client = client.get().await;
        // A controller knows how to go on from any other's end: what it has done is recorded in the cluster.
        let run = move || {
            let (client, options, tally) = (client.clone(), options.clone(), tally.clone());
            let (stop, stub, mut reached_at) = (stop.clone(), stub.clone(), reached_at.clone());
            let (wanted, wants) = watch::channel(None);
            let follow = async move {
                loop {
                    let now = reached_at.borrow_and_update().clone();
                    if !now.is_empty() {
                        wanted.send_replace(stub(&now));
                    }
                    if reached_at.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            async move {
                let controller = Controller::new(client, options, tally);
                tokio::select! {
                    () = controller.run(wants, stop) => {}
                    () = follow => {}
                }
            }
        };
        panics::restarted(Place::StubDomains, run).await;
    };
    std::thread::Builder::new()
        .name("stub-domains".to_owned())
        .spawn(move || runtime.block_on(all))
        .context("starting the thread of the stub domains")
}
