//! What entries, and the addresses we are reached at, come from.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use tokio::sync::watch;

use super::Core;
use crate::config::Config;
use crate::lifecycle::unix_now;
use crate::panics::{self, Place};
use crate::serve::responder::Responder;
use crate::source::Feed;
use crate::source::advertise::Advertise;
use crate::source::cluster::{Access, Cluster, Later};
use crate::source::files::Files;

/// Starts what follows files and the cluster. Where we are reached is told as it changes.
pub(super) async fn start(
    config: &Config,
    core: &Core,
    access: Option<&Access>,
    feeds: Vec<Arc<Feed>>,
    responder: &Arc<Responder>,
    stop_files: Arc<AtomicBool>,
) -> anyhow::Result<watch::Receiver<Vec<IpAddr>>> {
    let (reached_at, addresses) = watch::channel(config.table.advertise_addresses.clone());
    let sources = &config.table.sources;
    let mut feeds = feeds.into_iter();
    let first = if sources.files.is_empty() { None } else { feeds.next() };
    // The cluster is not kept waiting by files that are slow to read.
    let files = first.map(|feed| {
        let paths = sources.files.clone();
        tokio::task::spawn_blocking(move || Files::load(paths, feed))
    });
    if let (Some(source), Some(access)) = (&sources.cluster, access) {
        let begin = |(scope, feed): (Option<String>, Arc<Feed>)| {
            // The credentials are a part of asking.
            feed.status().begin();
            let (access, asked) = (access.clone(), feed.clone());
            let make = move || Cluster::new(&access, scope.clone(), asked.clone());
            Later::new(make, move |error| Cluster::cannot_ask(&feed, error))
        };
        let all: Vec<_> = source.scopes().into_iter().zip(feeds).map(begin).collect();
        for later in all {
            let later = later.begun().await?;
            tokio::spawn(async move {
                let cluster = Arc::new(later.get().await);
                let watch = move || {
                    let cluster = cluster.clone();
                    async move { cluster.run().await }
                };
                panics::restarted(Place::Cluster, watch).await;
            });
        }
    }
    if let Some(files) = files {
        let files = files.await??;
        std::thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || files.follow(&stop_files))
            .context("starting the thread that follows files")?;
    }
    let Some(access) = access else { return Ok(addresses) };
    if let Some(service) = &config.table.advertise_service
        && config.table.advertise_addresses.is_empty()
    {
        let (access, service, index) = (access.clone(), service.clone(), core.index.clone());
        let (partition, responder) = (core.extra_partition(), responder.clone());
        let make = move || Advertise::new(&access, service.clone(), index.clone(), partition);
        // The source, which has the same credentials, says so.
        let later = Later::new(make, |_| ()).begun().await?;
        tokio::spawn(async move {
            let parts = Arc::new((later.get().await, responder, reached_at));
            let watch = move || {
                let parts = parts.clone();
                async move {
                    let (advertise, responder, reached_at) = &*parts;
                    let publish = |addresses: Vec<IpAddr>| {
                        responder.advertise(addresses.clone(), unix_now());
                        // Where nobody looks after stub domains, nobody listens.
                        let _ = reached_at.send(addresses);
                    };
                    advertise.run(publish).await;
                }
            };
            panics::restarted(Place::Advertise, watch).await;
        });
    }
    Ok(addresses)
}
