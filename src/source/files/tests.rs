use super::*;
use crate::entry::Rules;
use crate::index::{Index, Partition, Policy};
use crate::lifecycle::Readiness;
use crate::source::{Pending, Status};
use crate::wire::name::Name;
use crate::zone::{Table, Zones};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

struct World {
    dir: tempfile::TempDir,
    index: Arc<Index>,
    readiness: Readiness,
    status: Arc<Status>,
}

impl World {
    fn new() -> World {
        let name = |text: &str| Name::parse(text).expect(text);
        let zones = Zones::new(vec![name("global")], name("cluster.local"), 0).expect("valid zones");
        let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 };
        let index = Arc::new(Index::new(policy, Arc::new(Table::new(zones)), || 1000));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let status = Arc::new(Status::new("files", Partition(0)));
        World { dir, index, readiness: Readiness::default(), status }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn load(&self, names: &[&str]) -> Result<Files, LoadError> {
        let pending = Pending::new(1, self.index.clone());
        let awaited = self.readiness.await_for("files");
        let rules = Arc::new(Rules::default());
        let feed = Feed::new(self.index.clone(), rules, self.status.clone(), pending, awaited);
        Files::load(names.iter().map(|name| self.path(name)).collect(), Arc::new(feed))
    }

    /// `host=address` of every host, sorted.
    fn hosts(&self) -> Vec<String> {
        let mut hosts = Vec::new();
        self.index.table().for_each(|host, answers| {
            let addresses: Vec<_> =
                answers.addresses(crate::zone::answer::Family::V4).map(|a| a.to_string()).collect();
            hosts.push(format!("{host}={}", addresses.join(",")));
        });
        hosts.sort();
        hosts
    }

    fn findings(&self) -> Vec<String> {
        self.index.findings().iter().map(ToString::to_string).collect()
    }
}

/// Follows in the background; stops and joins on drop.
struct Following {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Following {
    fn start(files: Files) -> Following {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || files.follow(&flag));
        Following { stop, thread: Some(thread) }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn entry(name: &str, address: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: {name}\nspec:\n  hosts: [{name}.global]\n  addresses: [{address}]\n  resolution: DNS\n"
    )
}

/// [S2] [D9] [L1]
#[test]
fn directories_are_read_recursively_and_hidden_names_are_skipped() {
    let w = World::new();
    w.write("d/a.yaml", &entry("a", "240.0.0.1"));
    w.write("d/sub/b.yml", &entry("b", "240.0.0.2"));
    w.write(
        "d/c.json",
        r#"{"apiVersion":"networking.istio.io/v1beta1","kind":"ServiceEntry","metadata":{"name":"c"},
            "spec":{"hosts":["c.global"],"addresses":["240.0.0.3"]}}"#,
    );
    w.write("d/notes.txt", "not: [yaml");
    w.write("d/.hidden.yaml", &entry("hidden", "240.0.0.9"));
    w.write("d/..data/e.yaml", &entry("e", "240.0.0.9"));
    w.write("d/.git/f.yaml", &entry("f", "240.0.0.9"));
    assert!(!w.index.table().is_complete() && w.readiness.is_ready());
    w.load(&["d"]).expect("loads");
    assert_eq!(w.hosts(), ["a.global=240.0.0.1", "b.global=240.0.0.2", "c.global=240.0.0.3"]);
    assert!(w.index.table().is_complete() && w.readiness.is_ready() && w.status.is_complete());
}

/// [S2] [S5]
#[test]
fn many_documents_lists_and_other_kinds_in_one_file() {
    let w = World::new();
    let a = entry("a", "240.0.0.1");
    w.write(
        "many.yaml",
        &format!(
            "# a comment\n---\n{a}---\napiVersion: v1\nkind: ConfigMap\ndata:\n  80: x\n---\n---\n\
             apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.istio.io/v1\n  kind: ServiceEntry\n  metadata: {{name: b, namespace: ns}}\n  spec: {{hosts: [b.global], addresses: [240.0.0.2]}}\n\
             - kind: Service\n- 7\n---\n\
             apiVersion: networking.istio.io/v1\nkind: ServiceEntryList\nitems:\n- metadata: {{name: c}}\n  spec: {{hosts: [c.global], addresses: [240.0.0.3]}}\n---\n\
             apiVersion: example.com/v1\nkind: ServiceEntry\nspec: {{hosts: [x.global], addresses: [240.0.0.9]}}\n---\njust text\n"
        ),
    );
    w.write(
        "two.json",
        &format!(
            "{0}\n{0}",
            r#"{"kind":"ServiceEntry","spec":{"hosts":["d.global"],"addresses":["240.0.0.4"]}}"#
        ),
    );
    w.load(&["many.yaml", "two.json"]).expect("loads");
    assert_eq!(
        w.hosts(),
        ["a.global=240.0.0.1", "b.global=240.0.0.2", "c.global=240.0.0.3", "d.global=240.0.0.4"]
    );
    let host = crate::zone::Host { name: Name::parse("b.global").expect("valid"), wildcard: false };
    let owner = w.index.owners(&host)[0].clone();
    assert_eq!(&*owner.namespace, "ns");
    assert!(owner.to_string().ends_with("many.yaml:3[1]"), "{owner}");
}

/// [S2]
#[test]
fn what_walkthroughs_leave_in_their_yaml_is_no_syntax_error() {
    let w = World::new();
    w.write(
        "w.yaml",
        "kind: ServiceEntry\nspec:\n  hosts:\n  - <hostname>\n  - ok.global\n  addresses:\n  - <vip address>\n  - 240.0.0.1 # a comment\n  endpoints:\n  - address: $(kubectl --context ${CTX} get svc -o jsonpath='{@.status.ip}')\n",
    );
    w.load(&["w.yaml"]).expect("loads");
    assert_eq!(w.hosts(), ["ok.global=240.0.0.1"]);
    assert_eq!(w.findings().len(), 2);
}

/// [S3]
#[test]
fn an_unusable_file_at_the_start_says_where() {
    let w = World::new();
    let error = |names: &[&str]| match w.load(names) {
        Ok(_) => panic!("{names:?} loads"),
        Err(error) => error.to_string(),
    };
    let missing = error(&["missing.yaml"]);
    assert!(
        missing.contains("missing.yaml: No such file") && missing.contains("check the path"),
        "{missing}"
    );
    w.write("bad.yaml", "a: 1\nb: [1, 2\nc: 3\n");
    let bad = error(&["bad.yaml"]);
    assert!(bad.contains("bad.yaml:3:") && bad.contains("not YAML"), "{bad}");
    w.write("bad.json", "{\"a\": 1,\n  \"b\": }");
    let bad = error(&["bad.json"]);
    assert!(bad.contains("bad.json:2:8: not JSON"), "{bad}");
    fs::write(w.path("latin.yaml"), b"a: \xff\xfe").expect("a file");
    assert!(error(&["latin.yaml"]).contains("latin.yaml"), "not UTF-8");
}

/// [S2] [S3] [S6]
#[test]
fn changes_are_followed_and_broken_files_keep_their_last_good_content() {
    let w = World::new();
    w.write("d/a.yaml", &entry("a", "240.0.0.1"));
    w.write("d/b.yaml", &entry("b", "240.0.0.2"));
    w.write("single.yaml", &entry("s", "240.0.0.3"));
    let _following = Following::start(w.load(&["d", "single.yaml"]).expect("loads"));

    w.write("d/a.yaml", &entry("a", "240.0.0.11"));
    wait_for("a change", || w.hosts()[0] == "a.global=240.0.0.11");
    // An editor's rename.
    w.write("d/.a.yaml.tmp", &entry("a", "240.0.0.12"));
    fs::rename(w.path("d/.a.yaml.tmp"), w.path("d/a.yaml")).expect("renamed");
    wait_for("a rename", || w.hosts()[0] == "a.global=240.0.0.12");
    w.write("d/new/c.yaml", &entry("c", "240.0.0.4"));
    wait_for("a new file", || w.hosts().len() == 4);
    fs::remove_file(w.path("d/b.yaml")).expect("removed");
    wait_for("a removed file", || w.hosts().len() == 3);

    w.write("d/a.yaml", "a: [");
    wait_for("a finding", || w.findings().len() == 1);
    assert!(w.findings()[0].starts_with("error [file-unreadable] "), "{:?}", w.findings());
    assert!(w.findings()[0].contains("line 1, column ") && w.findings()[0].contains("last good content"));
    assert!(!w.status.is_up());
    assert_eq!(w.hosts()[0], "a.global=240.0.0.12");
    // Named files that vanish are hidden, not deleted.
    fs::remove_file(w.path("single.yaml")).expect("removed");
    wait_for("a second finding", || w.findings().len() == 2);
    assert_eq!(w.hosts(), ["a.global=240.0.0.12", "c.global=240.0.0.4", "s.global=240.0.0.3"]);

    w.write("d/a.yaml", &entry("a", "240.0.0.13"));
    w.write("single.yaml", &entry("s", "240.0.0.33"));
    wait_for("recovery", || w.findings().is_empty() && w.status.is_up());
    assert_eq!(w.hosts(), ["a.global=240.0.0.13", "c.global=240.0.0.4", "s.global=240.0.0.33"]);
    assert_eq!(w.status.errors(), [("reload", 2)]);
}

/// [S2] What kubelet does to a mounted ConfigMap.
#[test]
fn a_symlink_swap_is_one_change() {
    let w = World::new();
    w.write("m/..1/a.yaml", &entry("a", "240.0.0.1"));
    std::os::unix::fs::symlink("..1", w.path("m/..data")).expect("a link");
    std::os::unix::fs::symlink("..data/a.yaml", w.path("m/a.yaml")).expect("a link");
    let _following = Following::start(w.load(&["m"]).expect("loads"));
    assert_eq!(w.hosts(), ["a.global=240.0.0.1"]);
    w.write("m/..2/a.yaml", &entry("a", "240.0.0.2"));
    std::os::unix::fs::symlink("..2", w.path("m/..data_tmp")).expect("a link");
    fs::rename(w.path("m/..data_tmp"), w.path("m/..data")).expect("renamed");
    wait_for("the swap", || w.hosts() == ["a.global=240.0.0.2"]);
}

/// [S2] A host that moves from one file to another in one change is never missing.
#[test]
fn a_host_that_moves_between_files_does_not_blink() {
    let w = World::new();
    w.write("d/a.yaml", &entry("h", "240.0.0.1"));
    w.write("d/b.yaml", &entry("other", "240.0.0.2"));
    let mut files = w.load(&["d"]).expect("loads");
    let generation = w.index.table().generation();
    w.write("d/a.yaml", "# nothing\n");
    w.write("d/b.yaml", &entry("h", "240.0.0.1"));
    let look = files.look_leniently();
    files.reload(&look);
    assert_eq!(w.hosts(), ["h.global=240.0.0.1"]);
    assert_eq!(w.index.table().generation(), generation + 1, "only the other host changed");
}

/// [S2]
#[test]
fn a_half_written_file_is_not_a_change() {
    let w = World::new();
    w.write("d/a.yaml", &entry("a", "240.0.0.1"));
    let _following = Following::start(w.load(&["d"]).expect("loads"));
    // For longer than two looks the file is broken, but never the same twice.
    let begun = Instant::now();
    let mut text = String::from("a: [");
    while begun.elapsed() < POLL * 5 {
        text.push(' ');
        w.write("d/a.yaml", &text);
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(w.findings(), [""; 0]);
    w.write("d/a.yaml", &entry("a", "240.0.0.2"));
    wait_for("the whole file", || w.hosts() == ["a.global=240.0.0.2"]);
    assert_eq!(w.status.errors(), []);
}

/// [S2] The library's limits for configuration files must not bite a mesh.
#[test]
fn a_file_of_many_thousand_entries_loads() {
    let w = World::new();
    let all: String = (0..20_000)
        .map(|i| format!("---\nkind: ServiceEntry\nspec: {{hosts: [h{i}.global], addresses: [240.{}.{}.1], ports: [{{number: 80, name: http, protocol: HTTP}}]}}\n", i / 250, i % 250))
        .collect();
    w.write("all.yaml", &all);
    w.load(&["all.yaml"]).expect("loads");
    assert_eq!(w.index.table().zones().iter().map(|z| z.hosts()).sum::<usize>(), 20_000);
}

/// [S2] The pause after a look is for looking: when it counted loading too, a file of 100,000 entries that was written
/// again was not looked at for a minute and a half.
#[test]
fn what_loading_takes_is_not_waited_for_again() {
    let w = World::new();
    let all: String = (0..5_000).map(|i| format!("---\n{}", entry(&format!("h{i}"), "240.0.0.1"))).collect();
    w.write("all.yaml", "");
    let mut files = w.load(&["all.yaml"]).expect("loads");
    w.write("all.yaml", &all);
    let mut previous = Look::default();
    files.follow_once(&mut previous);
    let begun = Instant::now();
    let looking = files.follow_once(&mut previous);
    let took = begun.elapsed();
    assert_eq!(w.hosts().len(), 5_000);
    assert!(looking * 10 < took, "looking took {looking:?} of {took:?}");
}

/// [S2] [S3] `kind` decides at the end whether `items` were entries.
#[test]
fn items_of_what_is_no_list_do_not_count() {
    let w = World::new();
    let entry = r#"{"kind":"ServiceEntry","metadata":{"name":"x"},"spec":{"hosts":["x.global"],"addresses":["240.0.0.1"]}}"#;
    w.write("other.json", &format!(r#"{{"items":[{entry}],"kind":"Other"}} [{entry}] 7 {entry}"#));
    w.write("other.yaml", &format!("items: [{entry}]\nkind: Other\n---\n[{entry}]\n---\n7\n"));
    w.load(&["other.json", "other.yaml"]).expect("loads");
    assert_eq!(w.hosts(), ["x.global=240.0.0.1"], "the last document of the first file");
    let owner = w
        .index
        .owners(&crate::zone::Host { name: Name::parse("x.global").expect("a name"), wildcard: false });
    assert!(owner[0].to_string().ends_with("other.json:4"), "{owner:?}");
}

/// [S7]
#[test]
fn there_are_only_so_many_files() {
    let w = World::new();
    for i in 0..6 {
        w.write(&format!("d/{i}.yaml"), "");
    }
    let look = |most_files| {
        let mut look = Look::default();
        let mut below = Below { seen: HashSet::new(), most_files };
        let all = look_at(&w.path("d"), 0, &mut below, &mut look, &|error| Err(error.to_string()));
        (all, look.files.len())
    };
    assert_eq!(look(6), (Ok(()), 6));
    let (refused, read) = look(5);
    assert!(refused.expect_err("one too many").contains("there are more than 5 files, and no more are read"));
    assert_eq!(read, 5);
}
