//! The thread that writes Kubernetes Events about findings (F4).

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::aside;
use crate::config::Config;
use crate::events::Desk;
use crate::events::teller::{Options, Teller};
use crate::kubernetes::lease;
use crate::metrics::Metrics;
use crate::panics::Place;
use crate::source::advertise::ServiceName;
use crate::source::cluster::Access;

/// Tells what the search for findings lays on the desk.
pub(super) async fn start(
    config: &Config,
    access: &Access,
    desk: Arc<Desk>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let service = config.table.advertise_service.clone().unwrap_or_else(ServiceName::usual);
    let options = Options { service, identity: aside::identity(), lease: lease::DURATION };
    let (tally, stop) = (metrics.events(), stop.clone());
    let run =
        move |client| Teller::new(client, options.clone(), desk.clone(), tally.clone()).run(stop.clone());
    aside::start("events", Place::Events, access, run).await
}
