//! Two replicas that want to write the same Corefile, somebody else who edits it all the while, and leaders that die.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use globaldns::stub::Stub;
use globaldns::stub::controller::{Controller, Mode, Options};
use globaldns::stub::engine::Settings;
use globaldns::stub::layout::Role;
use globaldns::stub::tally::Tally;
use globaldns::wire::name::Name;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster_dns::{ClusterDns, Flavour, KUBE_DNS, OUR_SERVICE};
use crate::control_plane::with_shared;
use crate::credentials::User;
use crate::program::Program;
use crate::wait::DEADLINE;

const CHANGES: usize = 2_000;
/// A leader dies without a word after so many changes.
const LIFE: usize = 100;
const LEASE: Duration = Duration::from_secs(3);
const NAMESPACE: &str = "istio-system";

/// [T5] [T6]
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn two_racing_replicas_write_one_at_a_time_and_lose_nobodys_edit() {
    with_shared(|plane| {
        let dns = ClusterDns::start(plane, Flavour::Objects);
        plane.cluster.grant_stub_domain_rights(User::Globaldns);
        for path in [
            "/api/v1/namespaces/istio-system/configmaps",
            "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases",
        ] {
            let path = format!("{path}/globaldns-stub-domains");
            if plane.cluster.status_of(&path) == 200 {
                plane.cluster.delete_path(&path);
            }
        }
        // It answers where we are and where cluster DNS is, so that proofs take no time.
        let listen = [OUR_SERVICE, KUBE_DNS].map(|address| format!("{address}:53"));
        let arguments = ["--listen", &listen[0], "--listen", &listen[1], "--zone", "global,cluster2"];
        let _program = dns.inside(|| Program::start_ready(&arguments, &plane.kubeconfig(User::Globaldns)));
        let replica = plane.kubeconfig(User::Globaldns);
        let other = plane.kubeconfig(User::Admin);
        dns.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(race(&replica, &other));
        });
    });
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

/// One replica's controller, which can die at once.
struct Replica {
    tally: Tally,
    wanted: watch::Sender<Option<Stub>>,
    task: tokio::task::JoinHandle<()>,
}

impl Replica {
    fn start(client: Client, number: usize, wanted: Stub) -> Self {
        let identity = format!("replica-{number}");
        let settings = Settings {
            edit_managed: false,
            proof_limit: Duration::from_secs(180),
            identity,
            started: Timestamp::now(),
            insist_on_answer: true,
        };
        let options = Options {
            mode: Mode::Manage,
            namespace: NAMESPACE.to_owned(),
            service: None,
            settings,
            lease: LEASE,
        };
        let tally = Tally::default();
        let controller = Controller::new(client, options, tally.clone());
        let (sender, receiver) = watch::channel(Some(wanted));
        let task = tokio::spawn(controller.run(receiver, CancellationToken::new()));
        Replica { tally, wanted: sender, task }
    }

    fn writes(&self) -> u64 {
        self.tally.numbers(Role::ClusterDns).writes
    }
}

fn stub(with_second: bool) -> Stub {
    let zones = ["global", "cluster2"].into_iter().take(1 + usize::from(with_second));
    let zones = zones.map(|zone| Name::parse(zone).expect(zone));
    Stub::new(zones, [SocketAddr::from((OUR_SERVICE, 53))]).expect("a stub")
}

async fn race(replica: &Path, other: &Path) {
    let (ours, theirs) = (client(replica).await, client(other).await);
    let corefiles: Api<ConfigMap> = Api::namespaced(theirs.clone(), "kube-system");
    let corefile = || async {
        let map = corefiles.get("coredns").await.expect("a ConfigMap");
        map.data.expect("data")["Corefile"].clone()
    };
    let stop = Arc::new(AtomicBool::new(false));
    let texts = follow::<ConfigMap>(&theirs, "kube-system", "coredns", stop.clone()).await;
    let records = follow::<ConfigMap>(&theirs, NAMESPACE, "globaldns-stub-domains", stop.clone()).await;
    let leases = follow::<Lease>(&theirs, NAMESPACE, "globaldns-stub-domains", stop.clone()).await;
    let foreigner = tokio::spawn(edit_all_the_while(corefiles.clone(), stop.clone()));

    let mut born = 2;
    let mut replicas: Vec<Replica> =
        (0..born).map(|number| Replica::start(ours.clone(), number, stub(false))).collect();
    let mut buried = 0;
    let begun = Instant::now();
    for change in 0..CHANGES {
        let with_second = change % 2 == 1;
        for replica in &replicas {
            replica.wanted.send_replace(Some(stub(with_second)));
        }
        let deadline = Instant::now() + DEADLINE;
        loop {
            let text = corefile().await;
            if text.contains("global:53") && text.contains("cluster2:53") == with_second {
                break;
            }
            assert!(Instant::now() < deadline, "change {change} was not written:\n{text}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if change % LIFE == LIFE - 1
            && let Some(leader) = replicas.iter().position(|replica| replica.tally.leads())
        {
            let dead = replicas.swap_remove(leader);
            dead.task.abort();
            while !dead.task.is_finished() {
                tokio::task::yield_now().await;
            }
            buried += dead.writes();
            replicas.push(Replica::start(ours.clone(), born, stub(with_second)));
            born += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::SeqCst);
    let foreign = foreigner.await.expect("no foreign edit was lost");
    let quiet = corefiles.get("coredns").await.expect("a ConfigMap").resource_version();
    let before: u64 = replicas.iter().map(Replica::writes).sum();
    for _ in 0..20 {
        for replica in &replicas {
            // The same as before, sent again: a look, and no write.
            replica.wanted.send_replace(Some(stub((CHANGES - 1) % 2 == 1)));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(corefiles.get("coredns").await.expect("a ConfigMap").resource_version(), quiet);
    assert_eq!(replicas.iter().map(Replica::writes).sum::<u64>(), before);

    let texts = texts.await.expect("the follower of the Corefile");
    let (mut our_writes, mut their_writes) = (0u64, 0u64);
    let mut last = None;
    for map in texts.values() {
        let text = &map.data.as_ref().expect("data")["Corefile"];
        let (block, rest) = split(text);
        if let Some((last_block, last_rest)) = last.replace((block.clone(), rest.clone())) {
            match (block != last_block, rest != last_rest) {
                (true, false) => our_writes += 1,
                (false, true) => their_writes += 1,
                (true, true) => panic!("one write changed what is ours and what is not:\n{text}"),
                (false, false) => panic!("a write changed nothing:\n{text}"),
            }
        }
    }
    let counted = buried + before;
    assert!(our_writes >= CHANGES as u64, "{our_writes} writes of ours");
    // A replica that died between the API server's answer and its own count leaves one uncounted.
    let uncounted = our_writes - counted.min(our_writes);
    assert!(uncounted <= (born - 2) as u64 && counted <= our_writes, "{counted} counted of {our_writes}");
    assert_eq!(their_writes, foreign, "every edit of theirs is there");
    let handovers = one_writer_at_a_time(records.await.expect("records"), leases.await.expect("leases"));
    println!(
        "{CHANGES} changes in {seconds:.0} s, {our_writes} writes of ours ({counted} counted), {foreign} edits of somebody \
         else, {} leaders died, {handovers} handovers",
        born - 2
    );
    assert_eq!(born - 2, CHANGES / LIFE, "leaders that died");
    assert!(handovers >= CHANGES / LIFE, "{handovers} handovers");
    for replica in replicas {
        replica.task.abort();
    }
}

/// What is ours of a Corefile, and the rest.
fn split(text: &str) -> (String, String) {
    let ours = |block: &str| block.starts_with("# BEGIN globaldns");
    match text.find("# BEGIN globaldns") {
        Some(at) => {
            let end = text[at..].find("# END globaldns managed stub zones\n").expect("an end") + at;
            let end = end + "# END globaldns managed stub zones\n".len();
            assert!(ours(&text[at..end]));
            (text[at..end].to_owned(), format!("{}{}", &text[..at], &text[end..]))
        }
        None => (String::new(), text.to_owned()),
    }
}

/// Counts up in a block of its own, and looks each time whether its last number is still there.
async fn edit_all_the_while(corefiles: Api<ConfigMap>, stop: Arc<AtomicBool>) -> u64 {
    let mut number = 0u64;
    let block =
        |number: u64| format!("corp.example:53 {{\n    forward . 10.1.2.3\n    # edit {number}\n}}\n");
    while !stop.load(Ordering::SeqCst) {
        let mut map = corefiles.get("coredns").await.expect("a ConfigMap");
        let text = map.data.as_mut().and_then(|data| data.get_mut("Corefile")).expect("a Corefile");
        *text = if number == 0 {
            format!("{}{text}", block(1))
        } else {
            let mine = block(number);
            assert_eq!(text.matches(&mine).count(), 1, "edit {number} was lost:\n{text}");
            text.replace(&mine, &block(number + 1))
        };
        let params = PostParams { field_manager: Some("somebody".to_owned()), ..PostParams::default() };
        match corefiles.replace("coredns", &params, &map).await {
            Ok(_) => number += 1,
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    number
}

/// Every version of one object, by its resource version.
async fn follow<K>(
    client: &Client,
    namespace: &str,
    name: &str,
    stop: Arc<AtomicBool>,
) -> tokio::task::JoinHandle<BTreeMap<u64, K>>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let selector = format!("metadata.name={name}");
    let list = api.list(&kube::api::ListParams::default().fields(&selector)).await.expect("a list");
    let mut version = list.metadata.resource_version.expect("a version");
    let mut seen = BTreeMap::new();
    for object in list.items {
        seen.insert(object.resource_version().expect("a version").parse().expect("a number"), object);
    }
    tokio::spawn(async move {
        loop {
            let last = stop.load(Ordering::SeqCst);
            let params = WatchParams::default().fields(&selector).timeout(5);
            let mut events = api.watch(&params, &version).await.expect("a watch").boxed();
            while let Some(event) = events.next().await {
                match event.expect("an event") {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        version = object.resource_version().expect("a version");
                        seen.insert(version.parse().expect("a number"), object);
                    }
                    WatchEvent::Bookmark(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            if last {
                return seen;
            }
        }
    })
}

/// Every intent to write was recorded while its writer held the Lease. Returns how often the Lease changed hands.
fn one_writer_at_a_time(records: BTreeMap<u64, ConfigMap>, leases: BTreeMap<u64, Lease>) -> usize {
    let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    let mut written = String::new();
    let mut intents = 0;
    for (version, record) in records {
        let text = &record.data.expect("data")["record.json"];
        let record: serde_json::Value = serde_json::from_str(text).expect("a record");
        let entry = &record["places"]["ConfigMap kube-system/coredns Corefile"];
        let at = entry["written"].as_str().unwrap_or_default();
        if at == written {
            continue;
        }
        at.clone_into(&mut written);
        intents += 1;
        let (_, lease) = leases.range(..version).next_back().expect("a Lease before the first write");
        assert_eq!(holder(lease).as_deref(), entry["by"].as_str(), "intent {intents}: {entry}");
    }
    assert!(intents >= CHANGES, "{intents} intents");
    let holders: Vec<_> = leases.values().map(holder).collect();
    holders.windows(2).filter(|pair| pair[0] != pair[1]).count()
}
