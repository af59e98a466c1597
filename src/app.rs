//! The composition root: builds the parts in order, and takes them down in reverse.
//!
//! The control plane (sources, admin, findings) runs on the calling thread's runtime, DNS over TCP on a runtime of
//! its own and DNS over UDP on plain threads: a slow scrape or a large relist must not delay an answer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::config::{
    Config, ConfigError, CookieSecrets, Listen, MetricsCompat, StubDomains, TableConfig, host_name,
};
use crate::entry::Rules;
use crate::finding::{Code, Finding, Severity};
use crate::index::{Index, Partition};
use crate::lifecycle::{Readiness, unix_now};
use crate::metrics::Metrics;
use crate::panics::{self, Place};
use crate::serve::cookies::{Cookies, Follower, Secrets};
use crate::serve::limiter::Limiter;
use crate::serve::listen::Purpose;
use crate::serve::responder::{Guard, Responder};
use crate::serve::stream::{Answerer, Connections, place};
use crate::serve::{grpc, http, https, listen, quic, tcp, tls, udp};
use crate::source::advertise::{Advertise, ServiceName};
use crate::source::cluster::{self, Access, Cluster, Later};
use crate::source::files::{self, Files};
use crate::source::{Feed, Onlooker, Pending, Status};
use crate::state::Keeper;
use crate::stub::controller::{self, Controller};
use crate::stub::{DNS_PORT, Stub, engine, lease};
use crate::wire::Transport;
use crate::zone::Table;

/// How often new findings are looked for after a change.
const FINDINGS_EVERY: Duration = Duration::from_secs(1);
/// The most findings logged at once.
const FINDINGS_LOGGED: usize = 50;
/// Descriptors kept for everything but DNS.
const DESCRIPTORS_BESIDE: u64 = 64;
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
        let index = Arc::new(Index::new(config.policy.clone(), table, unix_now));
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
    let core = Core::new(config, Readiness::default())?;
    let mut feeds = core.feeds(onlooker.as_ref()).into_iter();
    if !config.sources.files.is_empty()
        && let Some(feed) = feeds.next()
    {
        Files::load(config.sources.files.clone(), feed)?;
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
                let grace = MOST_GRACE.mul_f64(rand::random());
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
    stop_stub_domains: CancellationToken,
    stub_domains: Option<std::thread::JoinHandle<()>>,
    keeper: Option<Keeper>,
}

/// Starts everything. Sockets come first: from then on every query gets a reply.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let readiness = Readiness::default();
    // Held to the end: a source may deliver before everything else runs.
    let started = readiness.await_for("the start");
    let core = Core::new(&config.table, readiness)?;
    let metrics = Arc::new(Metrics::new(core.index.clone(), core.readiness.clone(), core.statuses.clone()));
    let feeds = core.feeds(None);
    let stop_files = Arc::new(AtomicBool::new(false));
    let responder = Responder::new(
        core.index.table().clone(),
        config.answers.clone(),
        config.table.advertise_addresses.clone(),
    );
    let responder = Arc::new(responder.guarded(guard(&config, &metrics, &stop_files)?));

    let data = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(TCP_THREADS)
        .thread_name("tcp")
        .enable_all()
        .build()
        .context("starting the runtime of DNS over connections")?;
    let places = make_room_for_connections(config.tcp_connections, config.workers * config.listen.len());
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
        stop_stub_domains: CancellationToken::new(),
        stub_domains: None,
        keeper: None,
    };
    let data = running.data.insert(data);
    let workers = running.udp.insert(udp::Workers::default());
    let tcp = tcp::Server::new(answerer.clone(), connections.clone(), tcp::IDLE_TIMEOUT);
    running.dns = serve_dns(&config, &core, &metrics, &responder, &tcp, data, workers)?;
    let runway = Runway { readiness: &core.readiness, data, metrics: &metrics };
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
        let pages = Admin { metrics: metrics.clone(), readiness: core.readiness.clone() };
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
    let reached_at = start_sources(&config, &core, access.as_ref(), feeds, &responder, stop_files).await?;
    if let (Some(settings), Some(access)) = (&config.stub_domains, &access) {
        let stop = &running.stop_stub_domains;
        running.stub_domains =
            Some(start_stub_domains(&config, settings, access, reached_at, &metrics, stop)?);
    }
    let (index, broken) = (core.index.clone(), running.broken.clone());
    let watch = move || watch_findings(index.clone(), metrics.clone(), broken.clone());
    tokio::spawn(panics::restarted(Place::Findings, watch));
    drop(started);
    Ok(running)
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

/// Raises the limit of open files to what the system allows us, and says how many connections that leaves room for: with
/// fewer descriptors than connections, new ones could not even be accepted to close idle ones (D14), and the admin listener
/// would starve.
fn make_room_for_connections(connections: usize, workers: usize) -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let beside = workers as u64 + DESCRIPTORS_BESIDE;
    let wanted = connections as u64 + beside;
    let limits = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    });
    match limits {
        Ok(limit) if limit >= wanted => connections,
        Ok(limit) => {
            // At least half of what there is: the rest may never be used.
            let places = limit.saturating_sub(beside).max(limit / 2).max(1).min(connections as u64);
            tracing::warn!(
                limit,
                wanted,
                connections = places,
                "the limit of open files is below --tcp-connections and what else is needed, so fewer connections are \
                 taken; raise it (ulimit -n, LimitNOFILE) or lower --tcp-connections"
            );
            usize::try_from(places).unwrap_or(connections)
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            connections
        }
    }
}

fn serve_dns(
    config: &Config,
    core: &Core,
    metrics: &Metrics,
    responder: &Arc<Responder>,
    tcp: &Arc<tcp::Server>,
    data: &tokio::runtime::Runtime,
    workers: &mut udp::Workers,
) -> anyhow::Result<Vec<SocketAddr>> {
    let mut bound = Vec::new();
    for at in &config.listen {
        let listener = listen::dns(at.address, at.any_host, config.workers)?;
        let _inside = data.enter();
        let stream = tokio::net::TcpListener::from_std(listener.tcp)?;
        let address = stream.local_addr()?;
        let listening = core.readiness.await_for(format!("DNS on {address}"));
        for socket in listener.udp {
            workers
                .start(socket, responder.clone(), metrics.worker())
                .with_context(|| format!("serving DNS on {address} (UDP)"))?;
        }
        let (tcp, stream) = (tcp.clone(), Arc::new(stream));
        let accepting = panics::restarted(Place::Tcp, move || tcp.clone().accept(stream.clone()));
        data.spawn(async move {
            drop(listening);
            accepting.await;
        });
        tracing::info!(%address, workers = config.workers, "serving DNS");
        bound.push(address);
    }
    Ok(bound)
}

/// What every listener for connections needs to start.
struct Runway<'a> {
    readiness: &'a Readiness,
    data: &'a tokio::runtime::Runtime,
    metrics: &'a Metrics,
}

impl Runway<'_> {
    /// Binds, lets `accept` run on each socket, and tells which addresses these have.
    fn serve<F>(
        &self,
        listens: &[Listen],
        transport: Transport,
        purpose: Purpose,
        accept: impl Fn(Arc<tokio::net::TcpListener>) -> F + Clone + Send + 'static,
    ) -> anyhow::Result<Vec<SocketAddr>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut bound = Vec::new();
        for at in listens {
            let listener = listen::tcp(at.address, at.any_host, purpose)?;
            let _inside = self.data.enter();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let address = listener.local_addr()?;
            let (listener, accept) = (Arc::new(listener), accept.clone());
            self.run(address, transport, move || accept(listener.clone()));
            bound.push(address);
        }
        Ok(bound)
    }

    /// The same for DNS over QUIC.
    fn serve_quic(
        &self,
        listens: &[Listen],
        server: &Arc<quic::Server>,
        tls: &tls::Tls,
        patience: http::Patience,
    ) -> anyhow::Result<Vec<SocketAddr>> {
        let mut bound = Vec::new();
        for at in listens {
            let socket = listen::quic(at.address, at.any_host)?;
            let _inside = self.data.enter();
            let address = socket.local_addr()?;
            let (server, tls) = (server.clone(), tls.clone());
            let endpoint = move || quic::endpoint(socket.try_clone()?, tls.clone(), patience);
            let mut first = Some(endpoint()?);
            self.run(address, Transport::Quic, move || {
                let endpoint = first.take().map_or_else(&endpoint, Ok);
                server.clone().accept(endpoint.expect("what worked at the start"))
            });
            bound.push(address);
        }
        Ok(bound)
    }

    /// Accepts to the end; what panics begins again (L9).
    fn run<F>(&self, address: SocketAddr, transport: Transport, accept: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let over = transport.name();
        let listening = self.readiness.await_for(format!("DNS over {over} on {address}"));
        self.data.spawn(async move {
            drop(listening);
            panics::restarted(place(transport), accept).await;
        });
        self.metrics.show(transport);
        tracing::info!(%address, "serving DNS over {over}");
    }
}

async fn start_sources(
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
        for (scope, feed) in source.scopes().into_iter().zip(feeds) {
            let (access, asked) = (access.clone(), feed.clone());
            let make = move || Cluster::new(&access, scope.clone(), asked.clone());
            let later = Later::new(make, move |error| Cluster::cannot_ask(&feed, error))?;
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
        let later = Later::new(make, |_| ())?;
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

/// Looks after cluster DNS's stub domains; they follow the addresses we are reached at. On a thread of its own: reading
/// what a cluster is made of takes longer than a change of the name table may (L7).
fn start_stub_domains(
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
        Later::new(move || access.client(), |_| ())?
    };
    let zones = config.table.zones.clone();
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
        self.stop_stub_domains.cancel();
        if let Some(keeper) = &self.keeper {
            keeper.hurry();
        }
        tokio::time::sleep(lameduck).await;
        // Beside all the rest: a disk may be slow.
        let saved = self.keeper.take().map(|keeper| tokio::task::spawn_blocking(|| keeper.finish()));
        if let Some(stub_domains) = self.stub_domains.take() {
            // Others may write at once if it can release its Lease, and in a while if the API server is away.
            let ended = tokio::task::spawn_blocking(|| stub_domains.join());
            let _ = tokio::time::timeout(RELEASE_LIMIT, ended).await;
        }
        self.drain.cancel();
        if tokio::time::timeout(DRAIN_LIMIT, self.connections.drained()).await.is_err() {
            tracing::warn!("replies were still in flight; closing their connections");
        }
        if let Some(udp) = self.udp.take() {
            // It blocks, and a second signal must be heard meanwhile.
            let _ = tokio::task::spawn_blocking(|| udp.stop()).await;
        }
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
        self.stop_stub_domains.cancel();
        self.stop_files.store(true, Ordering::Relaxed);
        self.stop_certificates.store(true, Ordering::Relaxed);
        self.stop_admin.cancel();
        // A runtime must not be dropped inside another one in the ordinary way.
        if let Some(data) = self.data.take() {
            data.shutdown_background();
        }
    }
}

/// Counts findings for the metrics and logs new ones (F1), at most once a second and only after changes. Also looks
/// whether the index is broken.
async fn watch_findings(index: Arc<Index>, metrics: Arc<Metrics>, broken: CancellationToken) {
    let hasher = RandomState::default();
    let mut known: HashSet<u64> = HashSet::new();
    let mut seen = None;
    let mut tick = tokio::time::interval(FINDINGS_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let version = index.version();
        if index.is_broken() {
            broken.cancel();
            return;
        }
        if seen == Some(version) {
            continue;
        }
        seen = Some(version);
        // Of a large mesh this takes a while: events must not wait for it.
        let source = index.clone();
        let hasher = hasher.clone();
        let search = move || {
            let seen = panics::contain(Place::Findings, || Seen::search(&source, hasher, &known));
            (seen, known)
        };
        let Ok((found, before)) = tokio::task::spawn_blocking(search).await else { return };
        known = before;
        let Some(Seen { counts, hashes, news, first }) = found else { continue };
        for finding in &first {
            tracing::warn!(code = finding.code.as_str(), object = finding.object, "{finding}");
        }
        if news > first.len() {
            tracing::warn!(more = news - first.len(), "more findings; globaldns_findings counts them");
        }
        known = hashes;
        metrics.set_findings(counts.into_iter().collect());
    }
}

/// What is kept of all findings: there may be many times more of them than of what they are about (S7).
#[derive(Default)]
struct Seen {
    counts: BTreeMap<Code, u64>,
    hashes: HashSet<u64>,
    /// How many are new, and the first of them.
    news: usize,
    first: BTreeSet<Finding>,
}

impl Seen {
    fn search(index: &Index, hasher: RandomState, known: &HashSet<u64>) -> Seen {
        let mut seen = Seen::default();
        index.search(&mut |finding| seen.see(finding, &hasher, known));
        seen
    }

    fn see(&mut self, finding: Finding, hasher: &RandomState, known: &HashSet<u64>) {
        let hash = hasher.hash_one(&finding);
        if !self.hashes.insert(hash) {
            return;
        }
        *self.counts.entry(finding.code).or_default() += 1;
        if finding.code.severity() == Severity::Info || known.contains(&hash) {
            return;
        }
        self.news += 1;
        self.first.insert(finding);
        if self.first.len() > FINDINGS_LOGGED {
            self.first.pop_last();
        }
    }
}
