use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::entry::{Entry, Origin, Rules};
use crate::index::{Partition, Policy};
use crate::lifecycle::Readiness;
use crate::source::{Pending, Status};
use crate::zone::{Table, Zones};

/// A source called `kubernetes` at second 1000, with a directory.
struct World {
    directory: tempfile::TempDir,
    index: Arc<Index>,
    feed: Arc<Feed>,
    table: TableConfig,
}

impl World {
    fn new() -> World {
        let name = |text: &str| Name::parse(text).expect(text);
        let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 };
        let table = TableConfig {
            zones: vec![name("global")],
            cluster_domain: name("cluster.local"),
            sources: crate::config::Sources { files: vec![], cluster: None },
            rules: Rules::default(),
            policy: policy.clone(),
            negative_ttl: 5,
            advertise_addresses: vec![],
            advertise_service: None,
        };
        let zones = Zones::new(table.zones.clone(), table.cluster_domain.clone(), 1000).expect("valid zones");
        let index = Arc::new(Index::new(policy, Arc::new(Table::new(zones)), || 1000));
        let status = Arc::new(Status::new("kubernetes", Partition(0)));
        let pending = Pending::new(1, index.clone());
        let awaited = Readiness::default().await_for("it");
        let feed = Arc::new(Feed::new(index.clone(), Arc::default(), status, pending, awaited));
        World { directory: tempfile::tempdir().expect("a temporary directory"), index, feed, table }
    }

    fn start(&self) -> Keeper {
        let settings =
            State { directory: self.directory.path().to_owned(), max_age: Duration::from_secs(3600) };
        let tally = Arc::new(Tally::new(["kubernetes"].into_iter()));
        Keeper::start(settings, &self.table, None, std::slice::from_ref(&self.feed), tally).expect("a thread")
    }

    fn entry(&self, host: &str) -> Entry {
        let object = serde_json::json!({"metadata": {"name": host}, "spec": {"hosts": [host], "addresses": ["240.0.0.1"]}});
        self.feed.read(&object, Origin::Object)
    }

    fn serial(&self) -> u32 {
        self.index.table().zones().iter().next().map_or(0, |zone| zone.serial())
    }

    /// The hosts in the file, and the serials in its header.
    fn on_disk(&self) -> (Vec<String>, BTreeMap<String, u32>) {
        let file = File::open(self.directory.path().join("kubernetes.state")).expect("a file");
        let reader = Reader::new(file).unwrap_or_else(|error| panic!("{error}"));
        let (serials, mut hosts) = (reader.header.serials.clone(), Vec::new());
        let read = reader.read(|entry| hosts.extend(entry.claims.iter().map(|claim| claim.host.to_string())));
        read.unwrap_or_else(|error| panic!("{error}"));
        hosts.sort();
        (hosts, serials)
    }
}

/// [D6] [L6] Whatever the clock does meanwhile, and whether or not the entries can be used.
#[test]
fn serials_do_not_go_back_over_a_restart() {
    let before = World::new();
    before.index.table().touch_serials(4_000_000_000);
    let keeper = before.start();
    before.feed.reset(vec![before.feed.pack_saved(before.entry("a.global"))]);
    keeper.finish();
    let serials = [("global".to_owned(), 4_000_000_000)].into();
    assert_eq!(before.on_disk(), (vec!["a.global".to_owned()], serials));
    let mut after = World::new();
    after.directory = before.directory;
    after.table.rules.public_only = true;
    let keeper = after.start();
    assert_eq!(after.serial(), 4_000_000_000);
    after.feed.reset(Vec::new());
    after.feed.apply(after.entry("b.global"));
    assert_eq!(after.serial(), 4_000_000_000);
    keeper.finish();
    assert_eq!(after.on_disk().0, ["b.global"]);
}

/// [L6] What is not known must not replace what was.
#[test]
fn nothing_is_saved_of_a_source_that_has_not_delivered() {
    let world = World::new();
    world.start().finish();
    assert!(!world.directory.path().join("kubernetes.state").exists());
    let mut entry = world.entry("a.global");
    entry.claims[0].host.name = Name::parse("a.example").expect("a name");
    let restored = vec![world.feed.pack_saved(world.entry("b.global")), world.feed.pack_saved(entry)];
    assert!(world.feed.restore(restored, SystemTime::now()));
    assert_eq!(world.index.entries(Partition(0)), 2);
    world.start().finish();
    assert!(!world.directory.path().join("kubernetes.state").exists());
    // And a list that has come is not replaced.
    world.feed.reset(vec![world.feed.pack_saved(world.entry("c.global"))]);
    assert!(!world.feed.restore(Vec::new(), SystemTime::now()));
    world.start().finish();
    assert_eq!(world.on_disk().0, ["c.global"]);
}

/// [L6]
#[test]
fn a_stream_of_changes_is_written_at_a_bounded_rate() {
    let world = World::new();
    let settings = State { directory: world.directory.path().to_owned(), max_age: Duration::from_secs(3600) };
    let mut work = Work {
        directory: Directory::new(settings.directory.clone()),
        sources: vec![Kept {
            feed: world.feed.clone(),
            made_from: Fingerprint::new(),
            saved: None,
            heard: UNIX_EPOCH,
        }],
        settings,
        tally: Arc::new(Tally::new(["kubernetes"].into_iter())),
        failure: None,
    };
    assert_eq!(work.save(false), None, "nothing has come");
    let entries = |count| (0..count).map(|i| world.feed.pack_saved(world.entry(&format!("h{i}.global"))));
    world.feed.reset(entries(10).collect());
    let pause = work.save(false).expect("saved");
    assert!(pause >= EVERY && pause < PATIENCE, "{pause:?}");
    assert_eq!(work.save(false), None, "nothing has changed");
    // A relist that brings nothing new.
    world.feed.reset(entries(10).collect());
    assert_eq!(work.save(false), None, "nothing has changed");
    world.feed.reset(entries(40_000).collect());
    let pause = work.save(false).expect("saved");
    let size = fs::metadata(world.directory.path().join("kubernetes.state")).expect("a file").len();
    assert!(size > OCTETS_PER_SECOND, "{size}");
    assert!(size <= OCTETS_PER_SECOND * (pause.as_secs() + 1), "{size} in {pause:?}");
    assert!(size / 40_000 < 80, "{size}");
}

/// [L6]
#[test]
fn what_state_was_made_from_is_compared_part_by_part() {
    let of = |zones: &[&str]| -> Fingerprint {
        [
            ("zones".to_owned(), zones.iter().map(|zone| (*zone).to_owned()).collect()),
            ("source".to_owned(), vec!["kubernetes".to_owned()]),
        ]
        .into()
    };
    assert_eq!(difference(&of(&["global"]), &of(&["global"])), None);
    let said = difference(&of(&["global"]), &of(&["global", "eu"])).expect("a difference");
    assert!(said.contains("other zones (\"global\", and now \"global, eu\")"), "{said}");
    let mut newer = of(&["global"]);
    newer.insert("something".to_owned(), vec!["more".to_owned()]);
    assert!(difference(&newer, &of(&["global"])).is_some_and(|said| said.contains("other something")));
}

/// [L6]
#[test]
fn a_clock_that_went_back_makes_state_new_not_old() {
    assert_eq!(age(SystemTime::now() + Duration::from_secs(1_000_000)), Duration::ZERO);
    assert!(age(UNIX_EPOCH) > Duration::from_secs(1_000_000));
}

/// [L6]
#[test]
fn a_file_is_replaced_whole_and_is_its_owners() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let path = parent.path().join("state");
    let mut directory = Directory::new(path.clone());
    let size = directory.replace("kubernetes/shop", |out| io::Write::write_all(out, b"one")).expect("saved");
    let file = path.join("kubernetes_shop.state");
    assert_eq!((size, fs::read(&file).expect("a file")), (3, b"one".to_vec()));
    let mode = |path: &PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
    // What fails leaves the old one, and nothing else.
    let failed = directory.replace("kubernetes/shop", |out| {
        io::Write::write_all(out, b"two")?;
        Err(io::ErrorKind::StorageFull.into())
    });
    let said = failed.expect_err("it cannot be written").to_string();
    assert!(said.contains("make room"), "{said}");
    assert_eq!(fs::read(&file).expect("a file"), b"one");
    let mut names: Vec<_> =
        fs::read_dir(&path).expect("a directory").map(|e| e.expect("one").file_name()).collect();
    names.sort();
    assert_eq!(names, ["kubernetes_shop.state", "lock"]);
    // A link that somebody left where the new file goes is not followed.
    let target = parent.path().join("target");
    fs::write(&target, "mine").expect("written");
    std::os::unix::fs::symlink(&target, file.with_extension("new")).expect("a link");
    directory.replace("kubernetes/shop", |out| io::Write::write_all(out, b"three")).expect("saved");
    assert_eq!(
        (fs::read(&file).expect("a file"), fs::read(&target).expect("a file")),
        (b"three".into(), b"mine".into())
    );
}

/// [L6]
#[test]
fn one_process_writes_until_it_ends() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let [mut one, mut two] = [(); 2].map(|()| Directory::new(parent.path().join("state")));
    let save =
        |directory: &mut Directory| directory.replace("files", |_| Ok(())).map_err(|error| error.to_string());
    assert_eq!(save(&mut one), Ok(0));
    let said = save(&mut two).expect_err("it is locked");
    assert!(said.contains("another process saves in") && said.contains("--state-dir of its own"), "{said}");
    drop(one);
    assert_eq!(save(&mut two), Ok(0));
}
