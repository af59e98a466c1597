//! What is known of watches by their requests: kube's watcher shows neither that a quiet watch was restarted (every 40 s,
//! so a healthy source is never older than that), nor that one works again, nor where it goes on from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use kube::Client;
use kube::client::Body;
use tokio::sync::Notify;

use super::super::{LASTING, Status};
use super::bounded::is_watch;
use super::client::Way;

/// The watches of one source.
pub(in crate::source) struct Watches {
    plural: &'static str,
    status: Arc<Status>,
    /// The resource version that the last one goes on from; 0 if that is no number.
    from: AtomicU64,
    /// The way that the last list's first page has come.
    listed: Mutex<Option<Way>>,
    /// Told when they work again.
    pub(in crate::source) again: Notify,
}

impl Watches {
    pub(in crate::source) fn new(plural: &'static str, status: Arc<Status>) -> Arc<Watches> {
        Arc::new(Watches {
            plural,
            status,
            from: AtomicU64::new(0),
            listed: Mutex::default(),
            again: Notify::new(),
        })
    }

    /// A client whose watches are told to the source.
    pub(in crate::source) fn follow(self: &Arc<Self>, client: Client) -> Client {
        Client::new(Followed { client, watches: self.clone() }, "default")
    }

    /// A list comes before the next watch: until that begins nothing is known of where it goes on from.
    pub(super) fn list_first(&self) {
        self.from.store(0, Ordering::Relaxed);
    }

    /// The resource version that the last watch goes on from, which the API server had told before; 0 if it is no number.
    pub(super) fn from(&self) -> u64 {
        self.from.load(Ordering::Relaxed)
    }

    /// The resource version in a request, if that is a watch.
    fn version_of(uri: &Uri) -> Option<&str> {
        let query = uri.query().filter(|_| is_watch(uri))?;
        Some(query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).unwrap_or_default())
    }

    /// Whether a watch has come the way of the list that it goes on from.
    fn continues(&self, response: &Response<Body>) -> bool {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        *listed == response.extensions().get().copied()
    }

    fn has_begun(self: Arc<Self>) {
        let began = self.status.watch_began();
        tokio::spawn(async move {
            tokio::time::sleep(LASTING).await;
            if self.status.watch_lasts(began) {
                self.again.notify_one();
            }
        });
    }
}

#[derive(Clone)]
struct Followed {
    client: Client,
    watches: Arc<Watches>,
}

impl tower::Service<Request<Body>> for Followed {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, kube::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Followed { client, watches } = self.clone();
        Box::pin(async move {
            if !request.uri().path().ends_with(watches.plural) {
                return client.send(request).await;
            }
            let Some(version) = Watches::version_of(request.uri()) else {
                // Pages may have come different ways: the watch is held against the first one's.
                let is_later_page = request.uri().query().is_some_and(|query| query.contains("continue="));
                let response = client.send(request).await?;
                if !is_later_page {
                    let way = response.extensions().get().copied();
                    *watches.listed.lock().unwrap_or_else(PoisonError::into_inner) = way;
                }
                return Ok(response);
            };
            watches.from.store(version.parse().unwrap_or(0), Ordering::Relaxed);
            // kube's watcher begins a watch that has ended at once, however often that happens.
            tokio::time::sleep_until((Instant::now() + watches.status.before_a_watch()).into()).await;
            let response = client.send(request).await?;
            if response.status().is_success() && !watches.continues(&response) {
                let status = kube::core::Status::failure("the list was of another API server", "Expired");
                return Err(kube::Error::Api(status.with_code(410).boxed()));
            }
            // A list counts when it was read to its end.
            if response.status().is_success() {
                watches.has_begun();
            }
            Ok(response)
        })
    }
}
