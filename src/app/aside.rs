//! What writes to the cluster beside all the rest: on a thread with a runtime and a client of its own, because reading what
//! a cluster is made of takes longer than a change of the name table may (L7).

use anyhow::Context;
use kube::Client;

use crate::config::host_name;
use crate::lifecycle::random;
use crate::panics::{self, Place};
use crate::source::cluster::{Access, Later};

/// What leaders are told apart by. Pods may share a host name, and every one of them is process 1.
pub(super) fn identity() -> String {
    let mark = u32::from_ne_bytes(random());
    format!("{}-{mark:08x}", String::from_utf8_lossy(&host_name(200)))
}

/// Runs what `run` makes, as soon as there are credentials, and again after a panic (L9), until it ends by itself.
pub(super) async fn start<F: Future<Output = ()> + Send>(
    name: &str,
    place: Place,
    access: &Access,
    run: impl Fn(Client) -> F + Send + 'static,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .with_context(|| format!("starting the runtime of {name}"))?;
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
    let all = async move {
        let client = client.get().await;
        panics::restarted(place, move || run(client.clone())).await;
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(all))
        .with_context(|| format!("starting the thread of {name}"))
}
