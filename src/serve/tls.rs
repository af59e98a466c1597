//! TLS for the encrypted transports (E1, E5): the certificate, which is read again when it changes, and handshakes.
//!
//! hickory-server has listeners for all three transports, and they are not used: they open connections without a bound
//! on their number, take none down in good order, do not say which address a query arrived at, and over QUIC answer one
//! stream of a connection at a time. DNS over TLS is [`super::tcp`] over another stream, DNS over HTTPS shares
//! [`super::http`] with gRPC, and [`super::quic`] is quinn's endpoint with our places.

mod certificate;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::stream::Seat;
use crate::metrics::CertificateCounters;
use crate::panics::{Place, contain};
pub use certificate::CertificateError;
use certificate::{Certificate, Look};

/// The name of DNS over TLS in a handshake (RFC 7858 has none, IANA's registry does).
pub const DOT: &[&[u8]] = &[b"dot"];
/// The names of HTTP, the better one first.
pub const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];
/// The name of DNS over QUIC, RFC 9250 section 4.1.
pub const DOQ: &[&[u8]] = &[b"doq"];
/// A handshake that is not over in this time is broken off; one takes two round trips and a millisecond.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time between two looks at the files: a change counts once two looks in a row agree.
const POLL: Duration = Duration::from_secs(1);

/// How connections are encrypted.
pub type Tls = Arc<ServerConfig>;

/// Where the certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `--tls-cert`: the certificate and those that lead to its authority, PEM.
    pub cert: PathBuf,
    /// `--tls-key`: its private key, PEM.
    pub key: PathBuf,
}

/// The certificate that is shown to clients.
#[derive(Debug)]
pub struct Certificates {
    paths: Paths,
    current: ArcSwap<CertifiedKey>,
    counters: Arc<CertificateCounters>,
    first: Look,
}

impl Certificates {
    /// Reads it for the first time.
    pub fn load(
        paths: Paths,
        counters: Arc<CertificateCounters>,
    ) -> Result<Arc<Certificates>, CertificateError> {
        let first = Look::at(&paths)?;
        let certificate = first.certificate(&paths)?;
        let current = ArcSwap::new(certificate.key.clone());
        let certificates = Certificates { paths, current, counters, first };
        certificates.show(certificate);
        Ok(Arc::new(certificates))
    }

    /// What is spoken over TLS with it: TLS 1.2 and 1.3, and the protocols of these names.
    pub fn tls(self: &Arc<Self>, names: &[&[u8]]) -> Tls {
        self.config(names, rustls::ALL_VERSIONS)
    }

    /// The same for QUIC, which has TLS 1.3 alone (RFC 9001 section 4.2).
    pub fn quic(self: &Arc<Self>, names: &[&[u8]]) -> Tls {
        self.config(names, &[&rustls::version::TLS13])
    }

    fn config(
        self: &Arc<Self>,
        names: &[&[u8]],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Tls {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config = builder
            .with_protocol_versions(versions)
            .expect("ring has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// Follows changes of the files until `stop` says so: renamed ones, and those of a mounted Secret, which is a symbolic
    /// link that is replaced. Runs on a thread of its own, as a disk may hang.
    pub fn follow(&self, stop: &AtomicBool) {
        let mut tried = Ok(self.first.clone());
        let mut previous = tried.clone();
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(POLL);
            let look = Look::at(&self.paths);
            if look == previous && look != tried {
                let read = || look.as_ref().map_err(Clone::clone)?.certificate(&self.paths);
                match contain(Place::Files, read) {
                    Some(Ok(certificate)) => {
                        self.counters.loaded.fetch_add(1, Ordering::Relaxed);
                        self.show(certificate);
                    }
                    unusable => {
                        self.counters.up.store(false, Ordering::Relaxed);
                        self.counters.failed.fetch_add(1, Ordering::Relaxed);
                        // A panic has been told of.
                        if let Some(Err(error)) = unusable {
                            tracing::warn!("{error}; the last good certificate stays");
                        }
                    }
                }
                tried = look.clone();
            }
            previous = look;
        }
    }

    fn show(&self, certificate: Certificate) {
        let Certificate { key, expires } = certificate;
        self.current.store(key);
        self.counters.up.store(true, Ordering::Relaxed);
        self.counters.expires.store(expires.as_second(), Ordering::Relaxed);
        let file = self.paths.cert.display();
        if expires < jiff::Timestamp::now() {
            tracing::warn!(%file, %expires, "the certificate has expired; clients refuse it until it is renewed");
        } else {
            tracing::info!(%file, %expires, "certificate loaded");
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// The server's part of a handshake; `None` if it fails, takes too long, or its place is needed.
pub(super) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &Tls,
    stream: S,
    seat: &Seat,
) -> Option<TlsStream<S>> {
    let shaken = TlsAcceptor::from(tls.clone()).accept(stream);
    tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE, shaken) => match shaken {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => None,
        },
        () = seat.leave() => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
