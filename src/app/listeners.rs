//! Sockets are bound, and answered at (L1).

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;

use crate::config::{Config, Listen};
use crate::lifecycle::Readiness;
use crate::metrics::Metrics;
use crate::panics;
use crate::serve::listen::Purpose;
use crate::serve::responder::Responder;
use crate::serve::stream::place;
use crate::serve::{http, listen, quic, tcp, tls, udp};
use crate::wire::Transport;

/// Descriptors kept for everything but DNS.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Raises the limit of open files to what the system allows us, and says how many connections that leaves room for: with
/// fewer descriptors than connections, new ones could not even be accepted to close idle ones (D14), and the admin listener
/// would starve.
pub(super) fn make_room_for_connections(connections: usize, workers: usize) -> usize {
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

/// What every listener for connections needs to start.
pub(super) struct Runway<'a> {
    pub(super) readiness: &'a Readiness,
    pub(super) data: &'a tokio::runtime::Runtime,
    pub(super) metrics: &'a Metrics,
}

impl Runway<'_> {
    /// Binds and serves DNS over UDP and TCP.
    pub(super) fn serve_dns(
        &self,
        config: &Config,
        responder: &Arc<Responder>,
        tcp: &Arc<tcp::Server>,
        workers: &mut udp::Workers,
    ) -> anyhow::Result<Vec<SocketAddr>> {
        let mut bound = Vec::new();
        for at in &config.listen {
            let listener = listen::dns(at.address, at.any_host, config.workers)?;
            let _inside = self.data.enter();
            let stream = tokio::net::TcpListener::from_std(listener.tcp)?;
            let address = stream.local_addr()?;
            for socket in listener.udp {
                workers
                    .start(socket, responder.clone(), self.metrics.worker())
                    .with_context(|| format!("serving DNS on {address} (UDP)"))?;
            }
            let (tcp, stream) = (tcp.clone(), Arc::new(stream));
            self.begin(format!("DNS on {address}"), Transport::Tcp, move || {
                tcp.clone().accept(stream.clone())
            });
            tracing::info!(%address, workers = config.workers, "serving DNS");
            bound.push(address);
        }
        Ok(bound)
    }

    /// Binds, lets `accept` run on each socket, and tells which addresses these have.
    pub(super) fn serve<F>(
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
    pub(super) fn serve_quic(
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

    /// Accepts to the end, and shows that it does.
    fn run<F>(&self, address: SocketAddr, transport: Transport, accept: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let over = transport.name();
        self.begin(format!("DNS over {over} on {address}"), transport, accept);
        self.metrics.show(transport);
        tracing::info!(%address, "serving DNS over {over}");
    }

    /// Accepts to the end; what panics begins again (L9). Readiness waits for it by this name.
    fn begin<F>(&self, name: String, transport: Transport, accept: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listening = self.readiness.await_for(name);
        self.data.spawn(async move {
            drop(listening);
            panics::restarted(place(transport), accept).await;
        });
    }
}
