//! How the API server is reached (S1): with a limit on every wait, and with what kubeconfig and ServiceAccount say now.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::{AuthError, Body, ClientBuilder};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::task::JoinHandle;

use super::Backoff;
use super::bounded::Bounded;
use crate::limits::{MOST_KUBECONFIG, too_large};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence on a connection: above the watch's 40 s, below the 60 s of L4.
const READ_TIMEOUT: Duration = Duration::from_secs(50);

/// How long the start waits for the first credentials. A plug-in that takes longer is no mistake that could be told.
const FIRST_TRY: Duration = Duration::from_secs(2);

/// Why the cluster cannot be reached at all: a matter of configuration (exit code 2).
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Neither in a pod nor is there a kubeconfig.
    #[error(
        "no cluster to contact: not running in a pod ({in_cluster}), and no usable kubeconfig ({kubeconfig}); give --kubeconfig{instead}"
    )]
    None {
        /// Why not by the pod's ServiceAccount.
        in_cluster: String,
        /// Why not by a kubeconfig.
        kubeconfig: String,
        /// What else a command can be given.
        instead: &'static str,
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

impl AccessError {
    /// The same, with what a command can do without a cluster: the end of its message.
    pub fn with(mut self, other: &'static str) -> AccessError {
        if let AccessError::None { instead, .. } = &mut self {
            *instead = other;
        }
        self
    }
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
/// where the network does, or hangs, and then saved state is there to answer from (L6).
pub struct Later<T> {
    made: Option<T>,
    trying: Option<Try<T>>,
    began: Instant,
    make: Arc<dyn Fn() -> Result<T, AccessError> + Send + Sync>,
    failed: Box<dyn Fn(&AccessError) + Send + Sync>,
}

type Try<T> = JoinHandle<Result<T, AccessError>>;

impl<T: Send + 'static> Later<T> {
    /// Begins to try, on a thread of this runtime that may wait: a plug-in is another program. `failed` hears that there
    /// are no credentials, each time.
    pub fn new(
        make: impl Fn() -> Result<T, AccessError> + Send + Sync + 'static,
        failed: impl Fn(&AccessError) + Send + Sync + 'static,
    ) -> Later<T> {
        let began = Instant::now();
        let mut later =
            Later { made: None, trying: None, began, make: Arc::new(make), failed: Box::new(failed) };
        later.trying = Some(later.begin());
        later
    }

    fn begin(&self) -> Try<T> {
        let make = self.make.clone();
        tokio::task::spawn_blocking(move || make())
    }

    /// Hears of the first try if it ends in time; then what is a mistake is an error. It may have begun in another runtime.
    pub async fn begun(mut self) -> Result<Later<T>, AccessError> {
        let Some(mut first) = self.trying.take() else { return Ok(self) };
        match tokio::time::timeout_at((self.began + FIRST_TRY).into(), &mut first).await {
            Ok(Ok(Err(error @ AccessError::Credentials(_)))) => (self.failed)(&error),
            Ok(Ok(made)) => self.made = Some(made?),
            // It has panicked, and is tried again like everything else.
            Ok(Err(_)) => {}
            Err(_) => self.trying = Some(first),
        }
        Ok(self)
    }

    /// Tries until it is there.
    pub async fn get(mut self) -> T {
        let mut backoff = Backoff::default();
        loop {
            if let Some(made) = self.made.take() {
                return made;
            }
            let trying = match self.trying.take() {
                Some(trying) => trying,
                None => {
                    backoff.wait().await;
                    self.begin()
                }
            };
            match trying.await {
                Ok(Ok(made)) => self.made = Some(made),
                Ok(Err(error)) => (self.failed)(&error),
                Err(_) => {}
            }
        }
    }
}

/// Where the API server is and who we are.
#[derive(Clone)]
pub struct Access {
    config: Config,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    /// The kubeconfigs it was found in.
    read: Vec<PathBuf>,
}

impl Access {
    /// In-cluster credentials, else the usual kubeconfig rules; a flag decides for the kubeconfig (S1).
    pub async fn find(kubeconfig: Option<PathBuf>, context: Option<String>) -> Result<Access, AccessError> {
        let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
        let named = kubeconfig.is_some() || options.context.is_some();
        let paths = kubeconfigs(kubeconfig.as_ref());
        let given = kubeconfig.is_some();
        let from_kubeconfig = async move {
            let read = read(&paths, given)?;
            let config =
                Config::from_custom_kubeconfig(read, &options).await.map_err(|error| error.to_string())?;
            Ok((config, paths))
        };
        let (mut config, read) = if named {
            from_kubeconfig
                .await
                .map_err(|error| AccessError::Kubeconfig { path: kubeconfig.clone(), error })?
        } else {
            match Config::incluster() {
                Ok(config) => (config, Vec::new()),
                Err(in_cluster) => from_kubeconfig.await.map_err(|kubeconfig| AccessError::None {
                    in_cluster: in_cluster.to_string(),
                    kubeconfig,
                    instead: "",
                })?,
            }
        };
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.write_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        // The default policy waits up to 1,000 s between tries; ours is in the source.
        config.default_retry = false;
        Ok(Access { config, kubeconfig, context, read })
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

    /// A client that goes on when what this was found from is replaced: tokens, certificate authorities, the address.
    pub fn client(&self) -> Result<Client, AccessError> {
        let now = Now { client: connect(&self.config)?, access: self.clone(), doubt: None, way: Way(0) };
        Ok(Client::new(Renewed { now: Arc::new(Mutex::new(now)) }, "default"))
    }
}

fn connect(config: &Config) -> Result<Client, AccessError> {
    let builder = ClientBuilder::try_from(config.clone())?;
    Ok(builder.with_layer(&tower::layer::layer_fn(Bounded)).build())
}

/// The kubeconfigs to read, by the usual rules: what is named, else `$KUBECONFIG`, else the one of the home directory.
fn kubeconfigs(named: Option<&PathBuf>) -> Vec<PathBuf> {
    if let Some(path) = named {
        return vec![path.clone()];
    }
    let variable = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let listed: Vec<_> =
        std::env::split_paths(&variable).filter(|path| !path.as_os_str().is_empty()).collect();
    match std::env::home_dir() {
        Some(home) if listed.is_empty() => vec![home.join(".kube").join("config")],
        _ => listed,
    }
}

/// What kubeconfigs say together: in the first one that says something of a thing, as kubectl has it. An error names the
/// one that it is about, unless that was `given`.
fn read(paths: &[PathBuf], given: bool) -> Result<Kubeconfig, String> {
    if paths.is_empty() {
        return Err("there is no home directory to look for one in".to_owned());
    }
    let one = |path: &PathBuf| {
        // Whoever gave a path names it himself.
        let named = |error: String| if given { error } else { format!("{}: {error}", path.display()) };
        check_size(path).map_err(|error| named(error.to_string()))?;
        Kubeconfig::read_from(path).map_err(|error| named(error.to_string()))
    };
    paths.iter().try_fold(Kubeconfig::default(), |all, path| {
        one(path).and_then(|next| all.merge(next).map_err(|error| error.to_string()))
    })
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

/// Hands requests to a client, and has another one made if that is no good any more.
///
/// kube's own client knows the authorities and the address of its beginning, and goes on with a token for what the
/// wall clock says is a minute, which is a year for a clock that was set back by one.
#[derive(Clone)]
struct Renewed {
    now: Arc<Mutex<Now>>,
}

struct Now {
    client: Client,
    access: Access,
    doubt: Option<Doubt>,
    way: Way,
}

/// Which way a response has come; with another one, resource versions may be another API server's. Every response has it
/// among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way(u64);

/// Why the next request may need another client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// The API server said 401: with the token of now it may not.
    Refused,
    /// There was no answer: it may be somewhere else by now, or vouched for by somebody else.
    Unreached,
}

impl Renewed {
    /// The client of now, which is another one than before where that is in doubt and another one can be had.
    async fn client(&self) -> (Client, Way) {
        let (access, doubt) = {
            let mut now = self.lock();
            (now.access.clone(), now.doubt.take())
        };
        if let Some(doubt) = doubt {
            self.renew(&access, doubt).await;
        }
        let now = self.lock();
        (now.client.clone(), now.way)
    }

    async fn renew(&self, access: &Access, doubt: Doubt) {
        // What came through a pipe was read to its end, and to read on would be to wait for ever.
        let found = if access.read.iter().all(|path| path.is_file()) {
            Access::find(access.kubeconfig.clone(), access.context.clone()).await
        } else {
            Ok(access.clone())
        };
        // What cannot be read is perhaps being replaced just now.
        let Ok(found) = found else { return };
        let moved = found.fingerprint() != access.fingerprint();
        if doubt == Doubt::Unreached && !moved {
            return;
        }
        // Credentials may come from a program, which is waited for.
        let config = found.config.clone();
        let Ok(Ok(client)) = tokio::task::spawn_blocking(move || connect(&config)).await else { return };
        let mut now = self.lock();
        if moved {
            tracing::info!(server = found.server(), "the way to the API server has changed, and is followed");
            now.way.0 += 1;
        }
        (now.client, now.access) = (client, found);
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl tower::Service<Request<Body>> for Renewed {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, kube::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let renewed = self.clone();
        Box::pin(async move {
            let (client, way) = renewed.client().await;
            let mut response = client.send(request).await;
            let doubt = match &mut response {
                Err(_) => Some(Doubt::Unreached),
                Ok(response) => {
                    response.extensions_mut().insert(way);
                    (response.status() == StatusCode::UNAUTHORIZED).then_some(Doubt::Refused)
                }
            };
            if doubt.is_some() {
                renewed.lock().doubt = doubt;
            }
            response.and_then(no_redirect)
        })
    }
}

/// kube takes a redirect for a success with an odd body: for a watch that has ended and is to be begun again, at once.
fn no_redirect(response: Response<Body>) -> kube::Result<Response<Body>> {
    if !response.status().is_redirection() {
        return Ok(response);
    }
    let to =
        response.headers().get(http::header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
    let status = kube::core::Status::failure(&format!("redirected to {to}"), "Redirect");
    Err(kube::Error::Api(status.with_code(response.status().as_u16()).boxed()))
}
