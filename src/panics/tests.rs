//! What follows a panic, through the whole program.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::body::Body;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::app::{self, Running};
use crate::config::{ClusterSource, Config, Listen, MetricsCompat, Sources, State, TableConfig};
use crate::entry::Rules;
use crate::index::Policy;
use crate::insight;
use crate::serve::fixture::{query, render, settings};
use crate::wire::name::Name;

/// One at a time: they count what the process counts.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn config(sources: Sources) -> Config {
    let name = |text: &str| Name::parse(text).expect(text);
    let listen = Listen { address: "127.0.0.1:0".parse().expect("an address"), any_host: false };
    Config {
        table: TableConfig {
            zones: vec![name("global")],
            zone_owners: vec![],
            cluster_domain: name("cluster.local"),
            sources,
            rules: Rules::default(),
            reverse: Vec::new(),
            diagnoses: false,
            policy: Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 },
            negative_ttl: 5,
            advertise_addresses: vec![],
            advertise_service: None,
        },
        answers: settings(),
        listen: vec![listen],
        grpc_listen: vec![],
        encrypted: None,
        admin_listen: Some(listen),
        workers: 1,
        tcp_connections: 10,
        lameduck: Duration::ZERO,
        metrics_compat: MetricsCompat::Off,
        pages: None,
        stub_domains: None,
        events: false,
        state: None,
        cookies: None,
        rate_limit: None,
        access: None,
        insight: insight::Settings { top_lists: true, query_log: None },
    }
}

fn from_files(directory: &Path) -> Config {
    config(Sources { files: vec![directory.to_owned()], cluster: None })
}

fn write(directory: &Path, file: &str, name: &str, host: &str) {
    let object = json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name},
                        "spec": {"hosts": [host], "addresses": ["240.0.0.1"], "resolution": "DNS"}});
    std::fs::write(directory.join(file), object.to_string()).expect("written");
}

/// The code of the reply.
fn rcode(server: SocketAddr, host: &str) -> String {
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("possible");
    client.send_to(&query(&format!("{host} A")).0, server).expect("sent");
    let mut reply = [0; 512];
    let length = client.recv(&mut reply).expect("a reply");
    render(&reply[..length])[0].split(' ').next().unwrap_or_default().to_owned()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_ready(running: &Running) {
    until("readiness", || running.is_ready()).await;
}

/// Waits until the metrics tell of one finding of each of these codes.
async fn until_found(running: &Running, codes: &[&str]) {
    let begun = Instant::now();
    loop {
        let admin = running.admin.expect("an admin listener");
        let mut stream = tokio::net::TcpStream::connect(admin).await.expect("it accepts");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).await.expect("a page");
        let is_found = |code: &&str| {
            page.lines().any(|line| {
                line.starts_with(&format!("globaldns_findings{{code=\"{code}\"")) && line.ends_with(" 1")
            })
        };
        if codes.iter().all(is_found) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain for {codes:?}: {page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// [L9]
#[test]
fn what_panics_is_counted_and_nothing_else_is_lost() {
    let _alone = ALONE.blocking_lock();
    let before = count(Place::Findings);
    assert_eq!(contain(Place::Findings, || 1), Some(1));
    assert_eq!(contain(Place::Findings, || -> u8 { panic!("with {}", "words") }), None);
    assert_eq!(count(Place::Findings), before + 1);
    assert!(!INSIDE.get());
}

/// [L9]
#[test]
fn the_hook_leaves_contained_panics_to_whoever_contains_them() {
    let _alone = ALONE.blocking_lock();
    let usual = Arc::new(std::panic::take_hook());
    let ended = Arc::new(AtomicUsize::new(0));
    let (print, count_it) = (usual.clone(), ended.clone());
    install(move |panic| {
        if message(panic.payload()) == "nobody contains this" {
            count_it.fetch_add(1, Ordering::Relaxed);
        } else {
            print(panic);
        }
    });
    let alone = || std::thread::spawn(|| panic!("nobody contains this")).join().is_err();
    let others = count(Place::Other);
    assert_eq!(contain(Place::Findings, || -> u8 { panic!("somebody does") }), None);
    assert_eq!(ended.load(Ordering::Relaxed), 0);
    assert!(alone());
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    // A task of a library's, before and after the program says that tasks may end alone.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let task = || runtime.block_on(async { tokio::spawn(async { panic!("nobody contains this") }).await });
    assert!(task().is_err());
    assert_eq!(ended.load(Ordering::Relaxed), 2);
    contain_tasks();
    assert!(task().is_err());
    assert_eq!((ended.load(Ordering::Relaxed), count(Place::Other)), (2, others + 1));
    assert!(alone());
    assert_eq!(ended.load(Ordering::Relaxed), 3);
    SERVING.store(false, Ordering::Relaxed);
    let told = TOLD.lock().expect("not poisoned");
    let places: Vec<_> = told.iter().flatten().filter(|(place, _)| *place == Place::Other).collect();
    assert!(places.iter().all(|(_, location)| location.starts_with("src/panics/tests.rs:")), "{places:?}");
    drop(told);
    std::panic::set_hook(Box::new(move |panic| usual(panic)));
}

/// [L9]
#[test]
fn pauses_grow_to_half_a_minute() {
    let mut pauses = Pauses::default();
    let all: Vec<_> = (0..9).map(|_| pauses.pause().as_millis()).collect();
    assert_eq!(all, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000]);
    pauses.last = Instant::now() - Duration::from_secs(100);
    assert_eq!(pauses.pause(), Pauses::FIRST);
}

/// [L9] Also where a task does not even come to be.
#[tokio::test(start_paused = true)]
async fn a_task_that_panics_as_it_is_made_is_begun_again() {
    let _alone = ALONE.lock().await;
    let mut times = 0;
    let task = || {
        times += 1;
        assert!(times > 2, "asked to panic before there is a task");
        std::future::ready(())
    };
    restarted(Place::Quic, task).await;
    assert_eq!(times, 3);
}

/// [L9] [S3]
#[tokio::test]
async fn a_file_or_an_entry_that_makes_us_panic_costs_only_itself() {
    let _alone = ALONE.lock().await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    write(directory.path(), "a.json", "a", "a.global");
    write(directory.path(), "b.json", "panic-object", "b.global");
    let [objects, files] = [Place::Object, Place::Files].map(count);
    let running = app::start(from_files(directory.path())).await.expect("it starts");
    until_ready(&running).await;
    let server = running.dns[0];
    assert_eq!((rcode(server, "a.global"), rcode(server, "b.global")), ("NOERROR".into(), "NXDOMAIN".into()));
    assert_eq!(count(Place::Object), objects + 1);
    // One that cannot be read to its end, and a good one beside it.
    write(directory.path(), "panic-reading.json", "c", "c.global");
    write(directory.path(), "d.json", "d", "d.global");
    until("d.global", || rcode(server, "d.global") == "NOERROR").await;
    assert_eq!(rcode(server, "c.global"), "NXDOMAIN");
    assert_eq!(count(Place::Files), files + 1);
    until_found(&running, &["entry-unread", "file-unreadable"]).await;
    // The look itself: until it is gone, nothing else is loaded. Then all is.
    write(directory.path(), "panic-files.json", "e", "e.global");
    until("a panic of the look", || count(Place::Files) >= files + 3).await;
    write(directory.path(), "f.json", "f", "f.global");
    std::fs::remove_file(directory.path().join("panic-files.json")).expect("removed");
    until("f.global", || rcode(server, "f.global") == "NOERROR").await;
    assert_eq!(rcode(server, "a.global"), "NOERROR");
    assert!(running.is_ready());
    running.stop(Duration::ZERO).await;
}

/// [L9] [L6] Answers stay, nothing of it is saved, and the program is to be started anew.
#[tokio::test]
async fn an_index_that_panics_in_a_change_answers_on_and_asks_for_the_end() {
    let _alone = ALONE.lock().await;
    let (directory, state) = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory")).into();
    write(directory.path(), "a.json", "a", "a.global");
    let mut config = from_files(directory.path());
    config.state = Some(State { directory: state.path().to_owned(), max_age: Duration::from_secs(60) });
    let running = app::start(config).await.expect("it starts");
    until_ready(&running).await;
    let saved = state.path().join("files.state");
    until("a save", || saved.exists()).await;
    let before = std::fs::read(&saved).expect("a file");
    write(directory.path(), "b.json", "b", "panic-index.global");
    tokio::time::timeout(Duration::from_secs(30), running.broken()).await.expect("it is noticed");
    write(directory.path(), "c.json", "c", "c.global");
    std::fs::remove_file(directory.path().join("a.json")).expect("removed");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(running.is_ready());
    let server = running.dns[0];
    assert_eq!((rcode(server, "a.global"), rcode(server, "c.global")), ("NOERROR".into(), "NXDOMAIN".into()));
    running.stop(Duration::ZERO).await;
    assert_eq!(std::fs::read(&saved).expect("a file"), before);
}

/// [L9] [L6]
#[tokio::test]
async fn a_save_that_panics_is_tried_again() {
    let _alone = ALONE.lock().await;
    let parent = tempfile::tempdir().expect("a temporary directory");
    let (good, bad) = (parent.path().join("good"), parent.path().join("panic-state"));
    for directory in [&good, &bad] {
        std::fs::create_dir(directory).expect("a directory");
        write(directory, "a.json", "a", "a.global");
    }
    let panics = count(Place::State);
    for (directory, expected) in [(&good, 0), (&bad, 1)] {
        let mut config = from_files(directory);
        let state = directory.with_extension("state");
        let saved = state.join("files.state");
        if expected > 0 {
            std::fs::create_dir(&state).expect("a directory");
            std::fs::write(&saved, "what was saved").expect("written");
        }
        config.state = Some(State { directory: state.clone(), max_age: Duration::from_secs(60) });
        let running = app::start(config).await.expect("it starts");
        until_ready(&running).await;
        if expected == 0 {
            until("a save", || saved.exists()).await;
        }
        until("the panics", || count(Place::State) >= panics + expected).await;
        assert_eq!(rcode(running.dns[0], "a.global"), "NOERROR");
        let ended = tokio::time::timeout(Duration::from_secs(5), running.stop(Duration::ZERO)).await;
        ended.expect("the thread of saved state lives, and hears of the end");
        let unfinished = std::fs::read_dir(&state).expect("a directory").filter(|file| {
            file.as_ref().is_ok_and(|file| file.path().extension().is_some_and(|ending| ending == "new"))
        });
        assert_eq!(unfinished.count(), 0);
        let stays = std::fs::read(&saved).expect("a file") == b"what was saved";
        assert_eq!(stays, expected > 0);
    }
    // Every try, and the last one.
    assert!(count(Place::State) >= panics + 2);
}

/// [L9] [L3] An API server whose first watch brings what makes the source panic.
#[tokio::test]
async fn a_source_that_panics_lists_again() {
    let _alone = ALONE.lock().await;
    let object = |name: &str| {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
               "metadata": {"namespace": "foo", "name": name, "resourceVersion": "2", "uid": name},
               "spec": {"hosts": [format!("{name}.global")], "addresses": ["240.0.0.1"]}})
    };
    let lists = Arc::new(AtomicUsize::new(0));
    let serve = move |uri: Uri| {
        let lists = lists.clone();
        async move { api(&uri, &lists, &object) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await });
    let kubeconfig = tempfile::NamedTempFile::new().expect("a temporary file");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(kubeconfig.path(), text.to_string()).expect("written");
    let cluster =
        ClusterSource { kubeconfig: Some(kubeconfig.path().to_owned()), context: None, namespaces: vec![] };
    let panics = count(Place::Cluster);
    let config = config(Sources { files: vec![], cluster: Some(cluster) });
    let running = app::start(config).await.expect("it starts");
    until_ready(&running).await;
    let server = running.dns[0];
    assert_eq!(rcode(server, "first.global"), "NOERROR");
    until("what only the second list has", || rcode(server, "second.global") == "NOERROR").await;
    assert_eq!(rcode(server, "first.global"), "NOERROR");
    assert_eq!(count(Place::Cluster), panics + 1);
    running.stop(Duration::ZERO).await;
}

fn api(uri: &Uri, lists: &AtomicUsize, object: &impl Fn(&str) -> Value) -> Response {
    let query = uri.query().unwrap_or_default();
    if !uri.path().ends_with("/serviceentries") {
        return axum::Json(json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "networking.istio.io/v1", "resources": [
                {"name": "serviceentries", "singularName": "", "namespaced": true, "kind": "ServiceEntry", "verbs": ["list"]},
            ],
        }))
        .into_response();
    }
    if query.contains("watch=true") {
        // The type comes first, as from an API server.
        let poison = format!("{{\"type\": \"ADDED\", \"object\": {}}}\n", object("panic-cluster"));
        let first = (lists.load(Ordering::Relaxed) == 1).then_some(Ok::<_, std::io::Error>(poison));
        let events = futures::stream::iter(first).chain(futures::stream::pending());
        return Response::new(Body::from_stream(events));
    }
    let items: Vec<_> = match lists.fetch_add(1, Ordering::Relaxed) {
        0 => vec![object("first")],
        _ => vec![object("first"), object("second")],
    };
    axum::Json(json!({
        "kind": "ServiceEntryList", "apiVersion": "networking.istio.io/v1", "items": items,
        "metadata": {"resourceVersion": "2", "continue": ""},
    }))
    .into_response()
}
