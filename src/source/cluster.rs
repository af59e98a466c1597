//! ServiceEntries from a Kubernetes API server (S1, S6, L2–L4).
//!
//! kube-runtime's `watcher` does list and watch; around it this module adds what DNS needs: the version is
//! chosen by discovery and chosen again when the CRD comes, goes or changes; an object is taken as
//! untyped JSON, so none can stop the list; a list becomes visible at once when it is complete; retries
//! never end; what a watch may have lost, or an API server gone back to, is listed again; and every answer of the
//! API server moves a clock (`Status::contact_age`).

pub(super) mod bounded;
mod client;
pub(super) mod object;
mod watches;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use backon::BackoffBuilder;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::runtime::watcher::{self, Event};

pub use client::{Access, AccessError, Later};
pub(super) use watches::Watches;

use self::bounded::TooLarge;
use self::object::Object;
use super::{Feed, GROUP, Status, Trouble};
use crate::entry::provenance::Provenance;
use crate::entry::{EntryId, Origin};
use crate::finding::{Code, Finding};
use crate::index::{Packed, Partition};
use crate::limits::{MOST_ENTRIES, MOST_MESSAGE, MOST_REPLY, PAGE, shorten};

const KIND: &str = "ServiceEntry";
const PLURAL: &str = "serviceentries";
/// Most preferred first (S1).
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];

/// The server ends a watch after this many seconds; with the 5 s the watcher adds, a connection that died
/// silently is noticed within 45 s (L4 allows 60).
const WATCH_SECONDS: u32 = 40;
/// How often the API server is asked whether the watch is still the right one.
const REDISCOVER: Duration = Duration::from_secs(30);
/// How often discovery is asked while the CRD is absent.
const REDISCOVER_ABSENT: Duration = Duration::from_secs(2);
/// Longest wait between attempts, before jitter.
const MAX_DELAY: Duration = Duration::from_secs(3);
/// A failure this long after the last one is a first one.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// Longest wait for one discovery call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// One namespace, or all, of one cluster.
pub struct Cluster {
    client: Client,
    /// The same, for what the watcher lists and watches.
    watching: Client,
    watches: Arc<Watches>,
    /// Where the API server is, for messages.
    server: String,
    namespace: Option<String>,
    feed: Arc<Feed>,
    /// How many objects are asked for at a time.
    page: AtomicU32,
}

/// A complete list on its way.
#[derive(Default)]
struct Listing {
    entries: Vec<Packed>,
    /// There are more than are read.
    endless: bool,
}

impl Listing {
    fn push(&mut self, entry: Packed, most: usize) {
        if self.entries.len() < most { self.entries.push(entry) } else { self.endless = true }
    }
}

impl Cluster {
    /// A source that watches `namespace`, or all of them.
    pub fn new(access: &Access, namespace: Option<String>, feed: Arc<Feed>) -> Result<Cluster, AccessError> {
        let watches = Watches::new(PLURAL, feed.status().clone());
        let client = access.client()?;
        let watching = watches.follow(client.clone());
        let (server, page) = (access.server(), AtomicU32::new(PAGE));
        Ok(Cluster { client, watching, watches, server, namespace, feed, page })
    }

    /// There are no credentials to ask with, so far.
    pub fn cannot_ask(feed: &Feed, error: &AccessError) {
        feed.status().failed(Trouble::Connection, &error.to_string());
    }

    /// Lists and watches for ever. What it has heard is in the index, so it can be broken off and begun again.
    pub async fn run(&self) {
        let mut backoff = Backoff::default();
        let mut watched = None;
        self.feed.status().begin();
        loop {
            match discover(&self.client).await {
                Err((trouble, what)) => {
                    let what = format!("discovering {PLURAL}.{GROUP} at {} failed: {what}", self.server);
                    self.feed.status().failed(trouble, &what);
                    backoff.wait().await;
                }
                Ok(None) => {
                    self.absent();
                    (backoff, watched) = (Backoff::default(), None);
                    tokio::time::sleep(REDISCOVER_ABSENT).await;
                }
                Ok(Some(version)) => {
                    self.feed.report(Vec::new());
                    self.feed.status().got_further();
                    if watched.replace(version) != Some(version) {
                        tracing::info!(
                            source = self.feed.status().name(),
                            version,
                            "watching ServiceEntries"
                        );
                    }
                    self.watch(version, &mut backoff).await;
                }
            }
        }
    }

    /// The cluster does not serve ServiceEntries: an empty complete list if there is nothing to answer from (L1); else
    /// what is left stays (L2), also of saved state, which is taken first.
    fn absent(&self) {
        let status = self.feed.status();
        status.touch();
        self.feed.reset_if_waiting();
        status.failed(
            Trouble::NotFound,
            &format!(
                "the cluster does not serve {PLURAL}.{GROUP}: install Istio's CRDs, or name another cluster"
            ),
        );
        self.feed.report(vec![Finding::new(
            Code::CrdAbsent,
            format!("{PLURAL}.{GROUP}"),
            "",
            "",
            "the cluster does not serve this resource, so it has no ServiceEntries to answer",
            "install Istio's CRDs; they are noticed without a restart",
        )]);
    }

    /// Watches one version until another watch is needed: returns when discovery is to be asked again.
    async fn watch(&self, version: &'static str, backoff: &mut Backoff) {
        self.watches.list_first();
        let page = self.page.load(Ordering::Relaxed);
        let config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(page);
        let mut events = pin!(watcher::watcher(self.api(&self.watching, version), config));
        let mut outdated = pin!(self.outdated(version));
        let mut listing = Listing::default();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut outdated => return,
            };
            match event {
                Some(Ok(Event::Init)) => listing = Listing::default(),
                Some(Ok(Event::InitApply(object))) => {
                    listing.push(self.pack(&object), MOST_ENTRIES);
                    if listing.endless {
                        self.feed.status().failed(Trouble::Decode, &endless());
                        drop(listing);
                        backoff.wait().await;
                        return;
                    }
                }
                Some(Ok(Event::InitDone)) => self.feed.reset(std::mem::take(&mut listing).entries),
                Some(Ok(Event::Apply(object))) => {
                    #[cfg(test)]
                    crate::panics::trip("cluster", object.json().to_string().as_bytes());
                    self.feed.apply(self.feed.pack_changed(&object.json(), Origin::Object))
                }
                Some(Ok(Event::Delete(object))) => {
                    let object = object.json();
                    let by = Provenance::of_deleted(&object);
                    self.feed.delete(&EntryId::of(&object, Origin::Object), Some(by))
                }
                Some(Err(error)) if self.asks_for_less(&error) => return,
                Some(Err(error)) => {
                    let (trouble, what) = describe(&error);
                    self.feed.status().failed(trouble, &what);
                    backoff.wait().await;
                    // After a 404 the version may have gone with its CRD.
                    if trouble == Trouble::NotFound || must_restart(&error, trouble) {
                        return;
                    }
                }
                // kube's watcher does not end; if it ever does, begin again.
                None => return,
            }
        }
    }

    /// Whether a page was too large, and the next ones will have fewer objects (S7).
    fn asks_for_less(&self, error: &watcher::Error) -> bool {
        let page = self.page.load(Ordering::Relaxed);
        let is_too_large =
            matches!(error, watcher::Error::InitialListFailed(_)) && TooLarge::is_behind(error);
        if !is_too_large || page == 1 {
            return false;
        }
        let less = (page / 4).max(1);
        tracing::info!(
            source = self.feed.status().name(),
            objects = less,
            "a page of {page} objects has more than {MOST_REPLY} octets; asking for fewer at a time"
        );
        self.page.store(less, Ordering::Relaxed);
        true
    }

    /// Waits until a watch of `version` is not the right one any more: another version should be watched, or the API
    /// server has gone back behind what we have seen. Asked regularly, and when a watch works again.
    async fn outdated(&self, version: &'static str) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(REDISCOVER) => {}
                () = self.watches.again.notified() => {}
            }
            // A failure says nothing about versions; the watch reports what is wrong with the connection.
            if let Ok(found) = discover(&self.client).await
                && found != Some(version)
            {
                return;
            }
            if let Some((seen, now)) = self.gone_back(version).await {
                let server = &self.server;
                self.feed.status().failed(
                    Trouble::Gone,
                    &format!(
                        "the API server at {server} has gone back from resource version {seen} to {now}, as after \
                         etcd was restored from a backup"
                    ),
                );
                return;
            }
        }
    }

    /// The resource version the watch goes on from and the one the API server has, if that is before.
    ///
    /// A watch from a version that is yet to come is silent: it would show nothing of what happens until then. Versions
    /// of one resource are ordered numbers.
    async fn gone_back(&self, version: &str) -> Option<(u64, u64)> {
        let seen = self.watches.from();
        // Without a version a list is of now, whichever API server of many is asked.
        let (api, one) = (self.api(&self.client, version), ListParams::default().limit(1));
        let list = in_time(api.list(&one)).await.ok()?.ok()?;
        let now = list.metadata.resource_version?.parse().ok()?;
        (now < seen).then_some((seen, now))
    }

    /// ServiceEntries in one version, of the namespace or of all.
    fn api(&self, client: &Client, version: &str) -> Api<Object> {
        let resource = resource(version);
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }

    fn pack(&self, object: &Object) -> Packed {
        self.feed.pack(&object.json(), Origin::Object)
    }
}

/// One complete list, for commands that print and end.
pub async fn list_once(access: &Access, namespace: Option<String>, feed: Arc<Feed>) -> anyhow::Result<()> {
    let name = feed.status().name().to_owned();
    let cluster = Cluster::new(access, namespace, feed)?;
    let version = discover(&cluster.client).await.map_err(|(_, what)| {
        let server = &cluster.server;
        anyhow::anyhow!(
            "{name}: discovering {PLURAL}.{GROUP} at {server} failed: {what}, or choose \
             another cluster with --kubeconfig and --context"
        )
    })?;
    let Some(version) = version else {
        anyhow::bail!(
            "{name}: the cluster does not serve {PLURAL}.{GROUP}; install Istio's CRDs, or name another cluster"
        );
    };
    loop {
        let config = watcher::Config::default().page_size(cluster.page.load(Ordering::Relaxed));
        let mut events = pin!(watcher::watcher(cluster.api(&cluster.client, version), config));
        let mut listing = Listing::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::InitApply(object)) => listing.push(cluster.pack(&object), MOST_ENTRIES),
                Ok(Event::InitDone) => {
                    cluster.feed.reset(listing.entries);
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if cluster.asks_for_less(&error) => break,
                Err(error) => anyhow::bail!("{name}: {}", describe(&error).1),
            }
            if listing.endless {
                anyhow::bail!("{name}: {}", endless());
            }
        }
    }
}

fn endless() -> String {
    format!(
        "the list of {PLURAL}.{GROUP} has more than {MOST_ENTRIES} entries, and no more are read; check the API server, or \
         read one namespace at a time with --namespace"
    )
}

/// The most preferred version the cluster serves ServiceEntries in (S1).
async fn discover(client: &Client) -> Result<Option<&'static str>, (Trouble, String)> {
    for version in VERSIONS {
        let group_version = format!("{GROUP}/{version}");
        match in_time(client.list_api_group_resources(&group_version)).await? {
            Ok(list) if list.resources.iter().any(|r| r.name == PLURAL) => return Ok(Some(version)),
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                // Discovery is open to every authenticated user by default (ClusterRole system:discovery).
                let (trouble, cause) = (trouble(&error), cause(&error));
                let remedy = match trouble {
                    Trouble::Unauthorized => "check the ServiceAccount token or the kubeconfig's user",
                    Trouble::Forbidden => "grant the ClusterRole system:discovery",
                    _ => "check that the API server is up and can be reached from here",
                };
                return Err((trouble, format!("{cause}; {remedy}")));
            }
        }
    }
    Ok(None)
}

async fn in_time<T>(call: impl Future<Output = T>) -> Result<T, (Trouble, String)> {
    tokio::time::timeout(CALL_TIMEOUT, call)
        .await
        .map_err(|_| (Trouble::Connection, format!("no answer within {} s", CALL_TIMEOUT.as_secs())))
}

/// What went wrong with a list or a watch of ServiceEntries.
fn describe(error: &watcher::Error) -> (Trouble, String) {
    describe_watch(error, &format!("{PLURAL}.{GROUP}"))
}

/// What went wrong with a list or a watch of `resource`, and what to do.
pub(super) fn describe_watch(error: &watcher::Error, resource: &str) -> (Trouble, String) {
    match error {
        watcher::Error::InitialListFailed(source) => describe_call("list", resource, source),
        watcher::Error::WatchStartFailed(source) => describe_call("watch", resource, source),
        watcher::Error::WatchFailed(source) => {
            (trouble(source), format!("the watch of {resource} broke: {}", cause(source)))
        }
        watcher::Error::WatchError(status) => {
            let what = format!("the API server ended the watch of {resource}: {}", said(status));
            (trouble_of_status(status.code), what)
        }
        watcher::Error::NoResourceVersion => {
            (Trouble::Decode, format!("the API server's list of {resource} has no resourceVersion"))
        }
    }
}

fn describe_call(verb: &str, resource: &str, error: &kube::Error) -> (Trouble, String) {
    let trouble = trouble(error);
    let cause = cause(error);
    let what = match trouble {
        Trouble::Forbidden => format!(
            "missing right: verb \"{verb}\" on resource {resource} ({cause}); grant get, list and watch on it with a \
             ClusterRole and a ClusterRoleBinding (with --namespace, a Role and a RoleBinding in that namespace)"
        ),
        Trouble::Unauthorized => format!(
            "the API server does not accept our credentials for verb \"{verb}\" on {resource} ({cause}); check the \
             ServiceAccount token or the kubeconfig's user"
        ),
        _ => format!("verb \"{verb}\" on {resource} failed: {cause}"),
    };
    (trouble, what)
}

fn resource(version: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, version, KIND), PLURAL)
}

/// One ServiceEntry as others refer to it, with its uid; `None` if there is none.
pub(crate) async fn reference(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<Option<ObjectReference>> {
    for version in VERSIONS {
        let resource = resource(version);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        // What is not there in one version is not there, or that version is not.
        let found = match api.get_metadata(name).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => continue,
            found => found?,
        };
        return Ok(Some(ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: found.metadata.uid,
            ..ObjectReference::default()
        }));
    }
    Ok(None)
}

/// Whether a new watcher is needed, which lists again. This one does so by itself after a 410 event; but it goes on
/// with a version that the start of a watch is refused for, over an event that it could not read, and over the end that
/// the API server announces when it cannot say what comes next.
pub(super) fn must_restart(error: &watcher::Error, trouble: Trouble) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => [400, 410, 504].contains(&status.code),
        watcher::Error::WatchFailed(_) => trouble != Trouble::Connection,
        watcher::Error::WatchError(_) => trouble != Trouble::Gone,
        _ => false,
    }
}

/// What the API server said, or the whole chain of what kept us from hearing it.
pub(crate) fn cause(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return said(status);
    }
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        let own = error.to_string();
        // Many wrappers repeat what they wrap.
        if !text.ends_with(&own) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&shorten(&own, MOST_MESSAGE));
        }
        next = error.source();
    }
    text
}

/// kube takes every JSON object that is nothing else for a status.
fn said(status: &kube::core::Status) -> String {
    let message = shorten(&status.message, MOST_MESSAGE);
    match status.code {
        0 if message.is_empty() => "what it sent is neither an event nor a status".to_owned(),
        0 => message.to_string(),
        code => format!("{message} (HTTP {code})"),
    }
}

fn trouble(error: &kube::Error) -> Trouble {
    match error {
        kube::Error::Api(status) => trouble_of_status(status.code),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Trouble::Decode,
        _ if TooLarge::is_behind(error) => Trouble::Decode,
        _ => Trouble::Connection,
    }
}

fn trouble_of_status(code: u16) -> Trouble {
    match code {
        0 => Trouble::Decode,
        401 => Trouble::Unauthorized,
        403 => Trouble::Forbidden,
        404 => Trouble::NotFound,
        410 => Trouble::Gone,
        _ => Trouble::Server,
    }
}

/// Waits between attempts: 0.2 s doubling to 3 s, and up to as much again as jitter, for ever (L2). Short,
/// because after an outage the wait is what keeps DNS behind.
///
/// After a minute without a wait it begins again: a quiet watch shows no event by which to know that it works.
pub(super) struct Backoff {
    pauses: backon::ExponentialBackoff,
    last: Instant,
}

impl Default for Backoff {
    fn default() -> Self {
        let backoff = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(MAX_DELAY)
            .with_jitter()
            .without_max_times();
        Backoff { pauses: backoff.build(), last: Instant::now() }
    }
}

impl Backoff {
    pub(super) async fn wait(&mut self) {
        if self.last.elapsed() > FORGIVEN_AFTER {
            *self = Backoff::default();
        }
        tokio::time::sleep(self.pauses.next().unwrap_or(MAX_DELAY)).await;
        self.last = Instant::now();
    }
}

/// A client for one watch that changes no answer: it begins once a second at most, and does not go on from the list of
/// another API server.
pub(crate) fn paced(client: Client, plural: &'static str, name: String) -> Client {
    Watches::new(plural, Arc::new(Status::new(name, Partition(0)))).follow(client)
}

/// A status for each part of the cluster that is watched on its own.
pub fn status_name(namespace: Option<&str>) -> String {
    match namespace {
        None => "kubernetes".to_owned(),
        Some(namespace) => format!("kubernetes/{namespace}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entry::{Entry, Rules};
    use crate::index::{Index, Partition, Policy};
    use crate::wire::name::Name;
    use crate::zone::{Table, Zones};

    /// [S7]
    #[test]
    fn a_list_is_endless_when_it_has_more_entries_than_are_read() {
        let name = |text: &str| Name::parse(text).expect(text);
        let zones = Zones::new(vec![name("global")], name("cluster.local"), 0).expect("valid zones");
        let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 };
        let index = Index::new(policy, Arc::new(Table::new(zones)), || 1000);
        let mut listing = Listing::default();
        for i in 0..4 {
            assert_eq!((listing.entries.len(), listing.endless), (i.min(3), false));
            let object = json!({"metadata": {"name": i.to_string()}, "spec": {"hosts": ["a.global"]}});
            let entry = Entry::read(&object, Origin::Object, index.table().zones(), &Rules::default());
            listing.push(index.pack(Partition(0), entry), 3);
        }
        assert_eq!((listing.entries.len(), listing.endless), (3, true));
        assert!(endless().contains("more than 4000000 entries"), "{}", endless());
    }

    /// [S7] What somebody else says of an error is kept in a metric's log line, a status and a finding.
    #[test]
    fn a_message_of_the_api_server_is_cut() {
        let status = kube::core::Status::failure(&"x".repeat(1 << 20), "Scripted").with_code(500);
        let error = kube::Error::Api(status.boxed());
        let cut = format!("{}… (HTTP 500)", "x".repeat(MOST_MESSAGE));
        assert_eq!(cause(&error), cut);
        assert!(describe(&watcher::Error::WatchFailed(error)).1.ends_with(&cut));
    }
}
