//! The composition root: builds the parts in order, and takes them down in reverse.
//!
//! The control plane (sources, admin, findings) runs on the calling thread's runtime, DNS over TCP on a runtime of
//! its own and DNS over UDP on plain threads: a slow scrape or a large relist must not delay an answer.

mod aside;
mod events;
mod findings;
mod listeners;
mod sources;
mod stub_domains;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::api::{Api, Turn};
use crate::admin::peers::{Instance, Peers};
use crate::admin::{self, Admin};
use crate::config::{Config, ConfigError, CookieSecrets, MetricsCompat, Pages, TableConfig};
use crate::entry::Rules;
use crate::events::Desk;
use crate::index::{Index, Partition};
use crate::insight::Insight;
use crate::lifecycle::{Readiness, chance, unix_now};
use crate::metrics::Metrics;
use crate::panics::{self, Place};
use crate::serve::cookies::{Cookies, Follower, Secrets};
use crate::serve::limiter::Limiter;
use crate::serve::listen::Purpose;
use crate::serve::responder::{Guard, Responder};
use crate::serve::stream::{Answerer, Connections};
use crate::serve::{grpc, http, https, listen, quic, tcp, tls, udp};
use crate::source::cluster::{self, Access};
use crate::source::files::{self, Files, LoadError};
use crate::source::{Feed, Onlooker, Pending, Status};
use crate::state::Keeper;
use crate::wire::Transport;
use crate::zone::Table;
use listeners::Runway;

/// Threads that answer TCP, there for the few replies that UDP cannot hold, gRPC, which one CoreDNS asks, and whatever is
/// encrypted: handshakes delay no answer over UDP.
const TCP_THREADS: usize = 2;
/// The longest wait for a Lease to be released.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);
/// The longest wait for the last save: with the others and the usual lameduck time below a pod's 30 s.
const SAVE_LIMIT: Duration = Duration::from_secs(10);
/// The longest time for which a program with a broken index answers on (L9). It is chosen at random: replicas that have
/// had the same fault are not to go together.
const MOST_GRACE: Duration = Duration::from_secs(60);
/// The longest wait for what is left of the query log to be written.
const LOG_LIMIT: Duration = Duration::from_secs(2);
/// The longest wait for replies in flight over connections after the lameduck time.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// The index with its sources, before anything runs.
struct Core {
    index: Arc<Index>,
    rules: Arc<Rules>,
    readiness: Readiness,
    statuses: Vec<Arc<Status>>,
    pending: Arc<Pending>,
}

impl Core {
    fn new(config: &TableConfig, readiness: Readiness) -> Result<Core, ConfigError> {
        let table = Arc::new(Table::new(config.zones(unix_now())?));
        let index = Index::new(config.policy.clone(), table, unix_now).diagnosing(config.diagnoses);
        let index = Arc::new(index);
        let rules = Arc::new(config.rules.clone());
        let mut names = Vec::new();
        if !config.sources.files.is_empty() {
            names.push(files::NAME.to_owned());
        }
        if let Some(cluster) = &config.sources.cluster {
            names.extend(cluster.scopes().iter().map(|scope| cluster::status_name(scope.as_deref())));
        }
        let statuses: Vec<_> = names
            .into_iter()
            .enumerate()
            .map(|(i, name)| Arc::new(Status::new(name, Partition(i))))
            .collect();
        let pending = Pending::new(statuses.len(), index.clone());
        Ok(Core { index, rules, readiness, statuses, pending })
    }

    /// The feeds, in the order of the statuses: files first. An onlooker sees what they read.
    fn feeds(&self, onlooker: Option<&Onlooker>) -> Vec<Arc<Feed>> {
        self.statuses
            .iter()
            .map(|status| {
                let awaited =
                    self.readiness.await_for(format!("the first complete list of {}", status.name()));
                let (index, rules) = (self.index.clone(), self.rules.clone());
                let feed = Feed::new(index, rules, status.clone(), self.pending.clone(), awaited);
                Arc::new(match onlooker {
                    Some(onlooker) => feed.seen_by(onlooker.clone()),
                    None => feed,
                })
            })
            .collect()
    }

    /// A partition beside those of the sources, for findings.
    fn extra_partition(&self) -> Partition {
        Partition(self.statuses.len())
    }
}

/// Reads every source once: for commands that print and end.
pub async fn load_once(config: &TableConfig) -> anyhow::Result<(Arc<Index>, Option<Access>)> {
    load_once_seen_by(config, None).await
}

/// The same; the onlooker sees the objects as they are.
pub async fn load_once_seen_by(
    config: &TableConfig,
    onlooker: Option<Onlooker>,
) -> anyhow::Result<(Arc<Index>, Option<Access>)> {
    load_with(config, onlooker, |files, feed| Ok(_ = Files::load(files, feed)?)).await
}

/// Reads every source once, and whatever can be read of the files; also says what cannot (F2).
pub async fn look_once(
    config: &TableConfig,
    onlooker: Onlooker,
) -> anyhow::Result<(Arc<Index>, Option<Access>, Vec<LoadError>)> {
    let mut unread = Vec::new();
    let look = |files, feed: Arc<Feed>| {
        unread = Files::load_leniently(files, &feed);
        Ok(())
    };
    let (index, access) = load_with(config, Some(onlooker), look).await?;
    Ok((index, access, unread))
}

async fn load_with(
    config: &TableConfig,
    onlooker: Option<Onlooker>,
    load_files: impl FnOnce(Vec<PathBuf>, Arc<Feed>) -> Result<(), LoadError>,
) -> anyhow::Result<(Arc<Index>, Option<Access>)> {
    let core = Core::new(config, Readiness::default())?;
    let mut feeds = core.feeds(onlooker.as_ref()).into_iter();
    if !config.sources.files.is_empty()
        && let Some(feed) = feeds.next()
    {
        load_files(config.sources.files.clone(), feed)?;
    }
    let mut access = None;
    if let Some(source) = &config.sources.cluster {
        let found = Access::find(source.kubeconfig.clone(), source.context.clone()).await?;
        for (scope, feed) in source.scopes().into_iter().zip(feeds) {
            cluster::list_once(&found, scope, feed).await?;
        }
        access = Some(found);
    }
    Ok((core.index, access))
}

/// Runs `serve` until a signal ends it.
pub fn run(config: Config) -> anyhow::Result<ExitCode> {
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the control runtime")?;
    let code = control.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        // Without a handler, a file that grows above `ulimit -f` ends the program; with one, the write fails (L6).
        let _file_size = signal(SignalKind::from_raw(libc::SIGXFSZ)).context("listening for SIGXFSZ")?;
        let mut signals = async move || {
            tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            }
        };
        let lameduck = config.lameduck;
        panics::contain_tasks();
        // Before the start is over there is nothing to drain.
        let running = tokio::select! {
            started = start(config) => started?,
            code = signals() => return Ok(ExitCode::from(code)),
        };
        let leaves_with = tokio::select! {
            _ = signals() => ExitCode::SUCCESS,
            () = running.broken() => {
                let grace = MOST_GRACE.mul_f64(chance());
                tracing::error!(
                    seconds = grace.as_secs_f64(),
                    "a panic has left the index half-changed: answers stay as they are, and then the program leaves to \
                     be started anew"
                );
                let _ = tokio::time::timeout(grace, signals()).await;
                ExitCode::FAILURE
            }
        };
        tracing::info!(
            seconds = lameduck.as_secs_f64(),
            "shutting down: answering on, a second signal ends at once"
        );
        tokio::select! {
            () = running.stop(lameduck) => Ok(leaves_with),
            code = signals() => Ok(ExitCode::from(code)),
        }
    });
    // A list of a hanging API server must not hold the exit.
    control.shutdown_background();
    code
}

/// The running program, with the addresses it really has.
pub struct Running {
    /// DNS, UDP and TCP, in the order of `--listen`.
    pub dns: Vec<SocketAddr>,
    /// DNS over gRPC, in the order of `--grpc-listen`.
    pub grpc: Vec<SocketAddr>,
    /// DNS over TLS, in the order of `--tls-listen`.
    pub tls: Vec<SocketAddr>,
    /// DNS over HTTPS, in the order of `--https-listen`.
    pub https: Vec<SocketAddr>,
    /// DNS over QUIC, in the order of `--quic-listen`.
    pub quic: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
    readiness: Readiness,
    broken: CancellationToken,
    drain: CancellationToken,
    stop_admin: CancellationToken,
    stop_files: Arc<AtomicBool>,
    stop_certificates: Arc<AtomicBool>,
    connections: Arc<Connections>,
    udp: Option<udp::Workers>,
    data: Option<tokio::runtime::Runtime>,
    stop_asides: CancellationToken,
    asides: Vec<std::thread::JoinHandle<()>>,
    keeper: Option<Keeper>,
    insight: Insight,
}

/// Starts everything. Sockets come first: from then on every query gets a reply.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let core = Core::new(&config.table, Readiness::default())?;
    // Held to the end: a source may deliver before everything else runs.
    let started = core.readiness.await_for("the start");
    let metrics = Arc::new(Metrics::new(core.index.clone(), core.readiness.clone(), core.statuses.clone()));
    let feeds = core.feeds(None);
    let stop_files = Arc::new(AtomicBool::new(false));
    let responder = Responder::new(
        core.index.table().clone(),
        config.answers.clone(),
        config.table.advertise_addresses.clone(),
    );
    let insight = Insight::start(&config.insight, core.index.table())?;
    metrics.show_insight(&insight);
    let responder = responder.guarded(guard(&config, &metrics, &stop_files)?);
    let responder = Arc::new(responder.watched(insight.taps().clone()));

    let data = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(TCP_THREADS)
        .thread_name("tcp")
        .enable_all()
        .build()
        .context("starting the runtime of DNS over connections")?;
    let places =
        listeners::make_room_for_connections(config.tcp_connections, config.workers * config.listen.len());
    let drain = CancellationToken::new();
    let connections = Connections::new(places, metrics.tcp(), drain.clone());
    let answerer = Answerer::new(responder.clone(), metrics.pool());
    // From here on a start that fails takes down what already runs, in the way `Running` does it.
    let mut running = Running {
        dns: Vec::new(),
        grpc: Vec::new(),
        tls: Vec::new(),
        https: Vec::new(),
        quic: Vec::new(),
        admin: None,
        readiness: core.readiness.clone(),
        broken: CancellationToken::new(),
        drain,
        stop_admin: CancellationToken::new(),
        stop_files,
        stop_certificates: Arc::new(AtomicBool::new(false)),
        connections: connections.clone(),
        udp: None,
        data: None,
        stop_asides: CancellationToken::new(),
        asides: Vec::new(),
        keeper: None,
        insight,
    };
    let data = running.data.insert(data);
    let workers = running.udp.insert(udp::Workers::default());
    let tcp = tcp::Server::new(answerer.clone(), connections.clone(), tcp::IDLE_TIMEOUT);
    let runway = Runway { readiness: &core.readiness, data, metrics: &metrics };
    running.dns = runway.serve_dns(&config, &responder, &tcp, workers)?;
    if !config.grpc_listen.is_empty() {
        let server = grpc::Server::new(answerer.clone(), connections.clone(), http::Patience::GRPC);
        running.grpc =
            runway.serve(&config.grpc_listen, Transport::Grpc, Purpose::GRPC, move |listener| {
                server.clone().accept(listener)
            })?;
    }
    if let Some(encrypted) = &config.encrypted {
        let certificates = tls::Certificates::load(encrypted.certificate.clone(), metrics.certificate())?;
        let dot = certificates.tls(tls::DOT);
        running.tls = runway.serve(&encrypted.tls, Transport::Tls, Purpose::TLS, move |listener| {
            tcp.clone().accept_tls(listener, dot.clone())
        })?;
        let (patience, path) = (http::Patience::HTTPS, encrypted.path.clone());
        let doh = https::Server::new(answerer.clone(), connections.clone(), patience, path);
        let with = certificates.tls(tls::HTTP);
        running.https =
            runway.serve(&encrypted.https, Transport::Https, Purpose::HTTPS, move |listener| {
                doh.clone().accept(listener, with.clone())
            })?;
        let doq = quic::Server::new(answerer, connections, patience);
        running.quic = runway.serve_quic(&encrypted.quic, &doq, &certificates.quic(tls::DOQ), patience)?;
        let stop = running.stop_certificates.clone();
        std::thread::Builder::new()
            .name("certificates".to_owned())
            .spawn(move || certificates.follow(&stop))
            .context("starting the thread that follows the certificate")?;
    }
    if config.metrics_compat == MetricsCompat::Coredns {
        metrics.show_coredns_names(&[
            (Transport::Udp, &running.dns),
            (Transport::Grpc, &running.grpc),
            (Transport::Tls, &running.tls),
            (Transport::Https, &running.https),
            (Transport::Quic, &running.quic),
        ]);
    }
    if let Some(at) = config.admin_listen {
        let listener =
            tokio::net::TcpListener::from_std(listen::tcp(at.address, at.any_host, Purpose::ADMIN)?)?;
        let listener = Arc::new(listener);
        let address = listener.local_addr()?;
        let api = config.pages.as_ref().map(|pages| api(pages, &core, &metrics, &responder));
        if let Some(peers) = api.as_ref().and_then(|api| api.peers.clone()) {
            let stop = running.stop_admin.clone();
            let watch = panics::restarted(Place::Admin, move || peers.clone().watch());
            tokio::spawn(async move { stop.run_until_cancelled(watch).await });
        }
        let pages = Admin { metrics: metrics.clone(), readiness: core.readiness.clone(), api };
        let stop = running.stop_admin.clone();
        let serve = move || admin::serve(listener.clone(), pages.clone(), stop.clone());
        tokio::spawn(panics::restarted(Place::Admin, serve));
        tracing::info!(%address, "serving admin");
        running.admin = Some(address);
    }
    let access = match &config.table.sources.cluster {
        Some(source) => Some(Access::find(source.kubeconfig.clone(), source.context.clone()).await?),
        None => None,
    };
    if let Some(settings) = config.state.clone() {
        let keeper = Keeper::start(settings, &config.table, access.as_ref(), &feeds, metrics.state());
        running.keeper = Some(keeper.context("starting the thread that saves state")?);
    }
    let stop_files = running.stop_files.clone();
    let reached_at = sources::start(&config, &core, access.as_ref(), feeds, &responder, stop_files).await?;
    if let (Some(settings), Some(access)) = (&config.stub_domains, &access) {
        let stop = &running.stop_asides;
        running
            .asides
            .push(stub_domains::start(&config, settings, access, reached_at, &metrics, stop).await?);
    }
    let desk = config.events.then(Arc::<Desk>::default);
    if let (Some(desk), Some(access)) = (&desk, &access) {
        let stop = &running.stop_asides;
        running.asides.push(events::start(&config, access, desk.clone(), &metrics, stop).await?);
    }
    let (index, sources, broken) = (core.index.clone(), core.statuses.clone(), running.broken.clone());
    let watch = move || {
        findings::watch(index.clone(), metrics.clone(), desk.clone(), sources.clone(), broken.clone())
    };
    tokio::spawn(panics::restarted(Place::Findings, watch));
    drop(started);
    Ok(running)
}

/// What the JSON API reads, and who asks the other replicas for theirs.
fn api(pages: &Pages, core: &Core, metrics: &Arc<Metrics>, responder: &Arc<Responder>) -> Api {
    let instance = Instance::this();
    let peers =
        (!pages.peers.is_empty()).then(|| Peers::new(pages.peers.clone(), instance.clone(), metrics.clone()));
    Api {
        metrics: metrics.clone(),
        readiness: core.readiness.clone(),
        index: core.index.clone(),
        services: core.rules.services,
        responder: responder.clone(),
        hosts: Arc::new(pages.hosts.clone()),
        instance,
        peers,
        names: Turn::default(),
        findings: Turn::default(),
        explanations: Turn::default(),
        changes: Turn::default(),
    }
}

/// What is asked of clients. A file of cookie secrets is followed from here on.
fn guard(config: &Config, metrics: &Metrics, stop: &Arc<AtomicBool>) -> anyhow::Result<Guard> {
    let cookies = match &config.cookies {
        None => None,
        Some(CookieSecrets::Random) => Some(Arc::new(Cookies::new(Secrets::random()))),
        Some(CookieSecrets::File(path)) => {
            let (follower, cookies) = Follower::new(path.clone(), metrics.cookie_secrets())?;
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("cookie-secrets".to_owned())
                .spawn(move || follower.follow(&stop))
                .context("starting the thread that follows the cookie secrets")?;
            Some(cookies)
        }
    };
    Ok(Guard { cookies, limiter: config.rate_limit.clone().map(Limiter::new), access: config.access.clone() })
}

impl Running {
    /// Whether `/ready` says so.
    pub fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// Waits until the index is broken (L9).
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// L5: not ready at once, answering for `lameduck`, then replies in flight over connections are finished and queued UDP
    /// queries answered.
    pub async fn stop(mut self, lameduck: Duration) {
        self.readiness.drain();
        self.stop_asides.cancel();
        if let Some(keeper) = &self.keeper {
            keeper.hurry();
        }
        tokio::time::sleep(lameduck).await;
        // Beside all the rest: a disk may be slow.
        let saved = self.keeper.take().map(|keeper| tokio::task::spawn_blocking(|| keeper.finish()));
        // Others may write at once if these can release their Leases, and in a while if the API server is away.
        let asides = std::mem::take(&mut self.asides);
        let ended = tokio::task::spawn_blocking(|| asides.into_iter().for_each(|aside| drop(aside.join())));
        let _ = tokio::time::timeout(RELEASE_LIMIT, ended).await;
        self.drain.cancel();
        if tokio::time::timeout(DRAIN_LIMIT, self.connections.drained()).await.is_err() {
            tracing::warn!("replies were still in flight; closing their connections");
        }
        if let Some(udp) = self.udp.take() {
            // It blocks, and a second signal must be heard meanwhile.
            let _ = tokio::task::spawn_blocking(|| udp.stop()).await;
        }
        // After the last reply.
        let insight = std::mem::take(&mut self.insight);
        let _ = tokio::task::spawn_blocking(move || insight.stop(LOG_LIMIT)).await;
        if let Some(saved) = saved
            && tokio::time::timeout(SAVE_LIMIT, saved).await.is_err()
        {
            tracing::warn!("state was still being saved; what was saved before stays");
        }
        self.stop_files.store(true, Ordering::Relaxed);
        self.stop_certificates.store(true, Ordering::Relaxed);
        self.stop_admin.cancel();
        if let Some(data) = self.data.take() {
            data.shutdown_background();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_asides.cancel();
        self.stop_files.store(true, Ordering::Relaxed);
        self.stop_certificates.store(true, Ordering::Relaxed);
        self.stop_admin.cancel();
        // A runtime must not be dropped inside another one in the ordinary way.
        if let Some(data) = self.data.take() {
            data.shutdown_background();
        }
    }
}
