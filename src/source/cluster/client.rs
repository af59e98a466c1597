//! How the API server is reached (S1), with a limit on every wait and a clock on every answer.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::Client;
use kube::client::{AuthError, Body, ClientBuilder};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::super::Status;
use super::Backoff;
use super::bounded::{Bounded, is_watch};
use crate::limits::{MOST_KUBECONFIG, too_large};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence on a connection: above the watch's 40 s, below the 60 s of L4.
const READ_TIMEOUT: Duration = Duration::from_secs(50);

/// Why the cluster cannot be reached at all: a matter of configuration (exit code 2).
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Neither in a pod nor is there a kubeconfig.
    #[error(
        "no cluster to watch: not running in a pod ({in_cluster}), and no usable kubeconfig ({kubeconfig}); give --kubeconfig, or serve files with --file"
    )]
    None {
        /// Why not by the pod's ServiceAccount.
        in_cluster: String,
        /// Why not by a kubeconfig.
        kubeconfig: String,
    },
    /// The kubeconfig named by a flag.
    #[error("cannot use the kubeconfig{}: {error}; check --kubeconfig and --context", path.as_ref().map(|p| format!(" {}", p.display())).unwrap_or_default())]
    Kubeconfig {
        /// The file, if one was named.
        path: Option<PathBuf>,
        /// Why.
        error: String,
    },
    /// Certificates, proxies, authentication plug-ins.
    #[error("cannot build a client for the API server: {0}")]
    Client(String),
    /// The plug-in was run, and failed. It may need what is away at the moment.
    #[error("no credentials for the API server: {0}; run the command of the kubeconfig's user by hand")]
    Credentials(String),
}

impl From<kube::Error> for AccessError {
    fn from(error: kube::Error) -> AccessError {
        match error {
            kube::Error::Auth(failed @ AuthError::AuthExecRun { .. }) => {
                AccessError::Credentials(failed.to_string())
            }
            other => AccessError::Client(other.to_string()),
        }
    }
}

/// What needs a client, as soon as there are credentials for one (L2): a plug-in that asks somebody else for them fails
/// where the network does, and then saved state is there to answer from (L6).
pub struct Later<T> {
    first: Option<T>,
    make: Arc<dyn Fn() -> Result<T, AccessError> + Send + Sync>,
    failed: Box<dyn Fn(&AccessError) + Send + Sync>,
}

impl<T: Send + 'static> Later<T> {
    /// Tries at once. `failed` hears that there are no credentials, each time.
    pub fn new(
        make: impl Fn() -> Result<T, AccessError> + Send + Sync + 'static,
        failed: impl Fn(&AccessError) + Send + Sync + 'static,
    ) -> Result<Later<T>, AccessError> {
        let first = match make() {
            Err(error @ AccessError::Credentials(_)) => {
                failed(&error);
                None
            }
            made => Some(made?),
        };
        Ok(Later { first, make: Arc::new(make), failed: Box::new(failed) })
    }

    /// Tries until it is there.
    pub async fn get(mut self) -> T {
        let mut backoff = Backoff::default();
        loop {
            if let Some(made) = self.first.take() {
                return made;
            }
            backoff.wait().await;
            let make = self.make.clone();
            // A plug-in is another program, and is waited for.
            match tokio::task::spawn_blocking(move || make()).await {
                Ok(Ok(made)) => self.first = Some(made),
                Ok(Err(error)) => (self.failed)(&error),
                // It has panicked, and is tried again like everything else.
                Err(_) => {}
            }
        }
    }
}

/// Where the API server is and who we are.
#[derive(Clone)]
pub struct Access {
    config: Config,
}

impl Access {
    /// In-cluster credentials, else the usual kubeconfig rules; a flag decides for the kubeconfig (S1).
    pub async fn find(kubeconfig: Option<PathBuf>, context: Option<String>) -> Result<Access, AccessError> {
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        let named = kubeconfig.is_some() || options.context.is_some();
        let from_kubeconfig = async {
            match &kubeconfig {
                Some(path) => {
                    check_size(path).map_err(|e| e.to_string())?;
                    let read = Kubeconfig::read_from(path).map_err(|e| e.to_string())?;
                    Config::from_custom_kubeconfig(read, &options).await.map_err(|e| e.to_string())
                }
                None => Config::from_kubeconfig(&options).await.map_err(|e| e.to_string()),
            }
        };
        let mut config = if named {
            from_kubeconfig
                .await
                .map_err(|error| AccessError::Kubeconfig { path: kubeconfig.clone(), error })?
        } else {
            match Config::incluster() {
                Ok(config) => config,
                Err(in_cluster) => from_kubeconfig.await.map_err(|kubeconfig| AccessError::None {
                    in_cluster: in_cluster.to_string(),
                    kubeconfig,
                })?,
            }
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.write_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        // The default policy waits up to 1,000 s between tries; ours is in the source.
        config.default_retry = false;
        Ok(Access { config })
    }

    /// The API server's address, for messages.
    pub(in crate::source) fn server(&self) -> String {
        self.config.cluster_url.to_string().trim_end_matches('/').to_owned()
    }

    /// What tells this cluster from others, as far as it is known without asking it: where it is, and who vouches for it
    /// (SHA-256 of each certificate).
    pub fn fingerprint(&self) -> (String, Vec<String>) {
        let digest = |certificate: &Vec<u8>| {
            let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
            digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
        };
        let authorities = self.config.root_cert.iter().flatten().map(digest).collect();
        (self.server(), authorities)
    }

    /// A client whose watches of `plural`, when they begin, count as contact with the source.
    pub(in crate::source) fn client(
        &self,
        plural: &'static str,
        status: Arc<Status>,
    ) -> Result<Client, AccessError> {
        let builder = ClientBuilder::try_from(self.config.clone())?;
        let layer = tower::layer::layer_fn(move |inner| Contact { inner, plural, status: status.clone() });
        let bounded = tower::layer::layer_fn(Bounded);
        Ok(builder.with_layer(&layer).with_layer(&bounded).build())
    }

    /// A client without a clock.
    pub fn plain_client(&self) -> Result<Client, AccessError> {
        let builder = ClientBuilder::try_from(self.config.clone())?;
        Ok(builder.with_layer(&tower::layer::layer_fn(Bounded)).build())
    }
}

/// A kubeconfig is read whole. A pipe is as good as a file; a device may never end.
fn check_size(path: &Path) -> std::io::Result<()> {
    // Whoever reads it says why it cannot be.
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
    if metadata.file_type().is_char_device() || metadata.file_type().is_block_device() {
        return Err(std::io::Error::other("it is a device"));
    }
    if metadata.len() > MOST_KUBECONFIG { Err(too_large(MOST_KUBECONFIG)) } else { Ok(()) }
}

/// Tells a source of each watch that begins. The watcher shows neither that a quiet watch
/// was restarted (every 40 s, so a healthy source is never older than that) nor that one works again.
struct Contact<S> {
    inner: S,
    plural: &'static str,
    status: Arc<Status>,
}

impl<S, B> tower::Service<Request<Body>> for Contact<S>
where
    S: tower::Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // Only of a watch: a list counts when it was read to its end.
        let counts = is_watch(request.uri()) && request.uri().path().ends_with(self.plural);
        let status = self.status.clone();
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            if counts && response.status().is_success() {
                status.recovered();
            }
            Ok(response)
        })
    }
}
