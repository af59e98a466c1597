//! The thread that looks after cluster DNS's stub domains (chapter T).

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::aside;
use crate::config::{Config, StubDomains};
use crate::kubernetes::lease;
use crate::metrics::Metrics;
use crate::panics::Place;
use crate::source::advertise::ServiceName;
use crate::source::cluster::Access;
use crate::stub::controller::{self, Controller};
use crate::stub::{DNS_PORT, Stub, engine};

/// Looks after cluster DNS's stub domains; they follow the addresses we are reached at.
pub(super) async fn start(
    config: &Config,
    settings: &StubDomains,
    access: &Access,
    reached_at: watch::Receiver<Vec<IpAddr>>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let service = config.table.advertise_service.clone().unwrap_or_else(ServiceName::usual);
    let options = controller::Options {
        mode: settings.mode,
        namespace: service.namespace,
        service: Some(service.name),
        settings: engine::Settings {
            edit_managed: settings.edit_managed,
            proof_limit: settings.timeout,
            identity: aside::identity(),
            started: Timestamp::now(),
            insist_on_answer: true,
        },
        lease: lease::DURATION,
    };
    let tally = metrics.stub_domains();
    let zones = [&config.table.zones[..], &config.table.reverse].concat();
    let stub = move |addresses: &[IpAddr]| {
        let servers = addresses.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT));
        Stub::new(zones.clone(), servers).inspect_err(|error| tracing::warn!("stub domains: {error}")).ok()
    };
    let stop = stop.clone();
    // A controller knows how to go on from any other's end: what it has done is recorded in the cluster.
    let run = move |client| {
        let (options, tally) = (options.clone(), tally.clone());
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
    aside::start("stub-domains", Place::StubDomains, access, run).await
}
