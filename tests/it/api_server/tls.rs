//! TLS in front of the scripted API server: its certificate can be replaced, and need not be good.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Who vouches for API servers.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What an API server shows.
pub(crate) struct Certificate {
    config: Arc<rustls::ServerConfig>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    /// Its own certificate, as a kubeconfig names it.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for loopback that is good until this year begins.
    pub(crate) fn certificate_until(&self, year: i32) -> Certificate {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        Certificate { config: Arc::new(config) }
    }
}

/// Shows the certificate of now to every connection.
#[derive(Clone)]
pub(super) struct Acceptor {
    config: Arc<Mutex<Arc<rustls::ServerConfig>>>,
}

impl Acceptor {
    pub(super) fn new(certificate: &Certificate) -> Acceptor {
        Acceptor { config: Arc::new(Mutex::new(certificate.config.clone())) }
    }

    pub(super) fn set(&self, certificate: &Certificate) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = certificate.config.clone();
    }

    pub(super) fn over(self, tcp: TcpListener) -> Listener {
        Listener { tcp, acceptor: self }
    }
}

pub(super) struct Listener {
    tcp: TcpListener,
    acceptor: Acceptor,
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, peer)) = self.tcp.accept().await else { continue };
            let config = self.acceptor.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // A client that does not like the certificate ends the handshake.
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
