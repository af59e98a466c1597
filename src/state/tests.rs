use std::fs;
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::entry::{Entry, Origin, Rules};
use crate::index::{Index, Partition, Policy};
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
            reverse: vec![],
            diagnoses: false,
            cluster_domain: name("cluster.local"),
            zone_owners: vec![],
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

    /// What a keeper works with.
    fn work(&self) -> Work {
        let settings =
            State { directory: self.directory.path().to_owned(), max_age: Duration::from_secs(3600) };
        Work {
            directory: Directory::new(settings.directory.clone()),
            sources: vec![Kept {
                feed: self.feed.clone(),
                made_from: Fingerprint::new(),
                tried: false,
                saved: None,
                heard: UNIX_EPOCH,
            }],
            settings,
            tally: Arc::new(Tally::new(["kubernetes"].into_iter())),
            failure: None,
        }
    }

    fn entry(&self, host: &str) -> Entry {
        let object = serde_json::json!({"metadata": {"name": host}, "spec": {"hosts": [host], "addresses": ["240.0.0.1"]}});
        self.feed.read(&object, Origin::Object)
    }

    fn serial(&self) -> u32 {
        self.index.table().zones().iter().next().map_or(0, |zone| zone.serial())
    }

    /// A start waits for the disk only so long.
    fn wait_for(&self, what: &str, passes: impl Fn(u32) -> bool) {
        let begun = Instant::now();
        while !passes(self.serial()) {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "waited in vain for {what}: {}",
                self.serial()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
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
    let serial = u32::try_from(seconds(SystemTime::now())).expect("before 2106") + 1000;
    before.index.table().touch_serials(serial);
    let keeper = before.start();
    before.feed.reset(vec![before.feed.pack_saved(before.entry("a.global"))]);
    keeper.finish();
    let serials = [("global".to_owned(), serial)].into();
    assert_eq!(before.on_disk(), (vec!["a.global".to_owned()], serials));
    let mut after = World::new();
    after.directory = before.directory;
    after.table.rules.public_only = true;
    let keeper = after.start();
    after.wait_for("the serial on disk", |serial_of_now| serial_of_now == serial);
    after.feed.reset(Vec::new());
    after.feed.apply(after.feed.pack_saved(after.entry("b.global")));
    assert_eq!(after.serial(), serial);
    keeper.finish();
    assert_eq!(after.on_disk().0, ["b.global"]);
}

/// [D6] [L6] A file of the format before has serials that count, and entries that do not.
#[test]
fn serials_are_kept_over_an_upgrade_from_the_format_before() {
    let before = World::new();
    let keeper = before.start();
    before.index.table().touch_serials(1_700_000_000);
    before.feed.reset(vec![before.feed.pack_saved(before.entry("a.global"))]);
    keeper.finish();
    let work = before.work();
    let header = work.open("kubernetes").ok().flatten().expect("a file").0.header;
    let header = serde_json::to_vec(&header).expect("JSON");
    let mut file = [b"globaldns-state 1\n", &(header.len() as u32).to_le_bytes()[..], &header].concat();
    file.extend(ring::digest::digest(&ring::digest::SHA256, &file).as_ref());
    std::fs::write(work.directory.file("kubernetes"), file).expect("writable");
    let mut after = World::new();
    after.directory = before.directory;
    let work = after.work();
    work.keep_serials();
    assert_eq!(after.serial(), 1_700_000_000);
    assert!(matches!(work.load(&work.sources[0]), Err(Unusable::Format(format)) if format == "1"));
}

/// [L6] [D22] What is a reverse zone is not what is a zone of hosts.
#[test]
fn reverse_zones_are_told_from_zones_in_what_state_is_made_from() {
    let of = |zones: &[&str], reverse: &[&str]| {
        let names = |texts: &[&str]| texts.iter().map(|text| Name::parse(text).expect(text)).collect();
        let table = TableConfig { zones: names(zones), reverse: names(reverse), ..World::new().table };
        fingerprint(&table, None, "kubernetes")
    };
    let zones = of(&["global", "240.in-addr.arpa"], &[]);
    let reverse = of(&["global"], &["240.in-addr.arpa"]);
    assert!(difference(&zones, &reverse).is_some());
    assert_eq!(
        of(&["global"], &[]).keys().map(String::as_str).collect::<Vec<_>>(),
        ["flags", "source", "zones"]
    );
}

/// [D6] The clock was wrong once: that is not for ever.
#[test]
fn a_serial_far_in_the_future_is_taken_for_tomorrow() {
    let before = World::new();
    before.index.table().touch_serials(4_000_000_000);
    let keeper = before.start();
    before.feed.reset(Vec::new());
    keeper.finish();
    let mut after = World::new();
    after.directory = before.directory;
    let _keeper = after.start();
    after.wait_for("a serial from disk", |serial| serial > 1000);
    let tomorrow = seconds(SystemTime::now()) + 24 * 3600;
    assert!((tomorrow - 60..=tomorrow).contains(&u64::from(after.serial())), "{}", after.serial());
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
    let mut work = world.work();
    assert_eq!(work.save(false), None, "nothing has come");
    let entries = |count| (0..count).map(|i| world.feed.pack_saved(world.entry(&format!("h{i}.global"))));
    world.feed.reset(entries(10).collect());
    let pause = work.save(false).expect("saved");
    assert!(pause >= EVERY, "{pause:?}");
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

/// [L9] It breaks after the save has begun.
#[test]
fn nothing_is_saved_of_an_index_that_breaks_meanwhile() {
    let world = World::new();
    let mut work = world.work();
    world.feed.reset(vec![world.feed.pack_saved(world.entry("a.global"))]);
    assert!(work.save(false).is_some());
    world.feed.apply(world.feed.pack_saved(world.entry("panic-index.global")));
    assert!(world.index.is_broken());
    let (mut due, mut written) = (vec![0], 0);
    let file = world.directory.path().join("kubernetes.state");
    let before = fs::read(&file).expect("a file");
    work.replace(&mut due, &mut written).expect("no fault of the disk");
    assert!(written > 0 && fs::read(&file).expect("a file") == before);
}

/// [L6] [L1] The CRD is absent, and the disk that would say what was saved says nothing for too long.
#[test]
fn an_absent_crd_is_not_saved_over_what_a_silent_disk_may_hold() {
    let world = World::new();
    let mut work = world.work();
    let complete = || world.index.table().is_complete();
    world.feed.expect_stand_in(true);
    world.feed.reset_if_waiting();
    assert!(!complete());
    world.feed.status().begin_before(crate::source::MOST_PATIENCE);
    world.feed.reset_if_waiting();
    assert!(complete());
    assert_eq!(work.save(true), None, "nothing is known that could be saved");
    world.feed.reset(Vec::new());
    assert!(work.save(true).is_some());
    // Where nothing was saved, it is an empty list at once.
    let world = World::new();
    world.feed.reset_if_waiting();
    assert!(world.index.table().is_complete() && world.work().save(true).is_some());
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

/// Replaces one file.
fn replace(
    directory: &mut Directory,
    source: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<u64, Failure> {
    directory.lock()?;
    let mut batch = directory.begin()?;
    let mut out = batch.create(source)?;
    write(&mut out).map_err(|error| batch.failure(source, error))?;
    let size = batch.finish(source, out)?;
    batch.commit()?;
    Ok(size)
}

/// [L6]
#[test]
fn a_file_is_replaced_whole_and_is_its_owners() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let path = parent.path().join("state");
    let mut directory = Directory::new(path.clone());
    let size =
        replace(&mut directory, "kubernetes/shop", |out| io::Write::write_all(out, b"one")).expect("saved");
    let file = path.join("kubernetes_shop.state");
    assert_eq!((size, fs::read(&file).expect("a file")), (3, b"one".to_vec()));
    let mode = |path: &PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
    // What fails leaves the old one, and nothing else.
    let failed = replace(&mut directory, "kubernetes/shop", |out| {
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
    // A link that somebody left where the file goes is not followed.
    let target = parent.path().join("target");
    fs::write(&target, "mine").expect("written");
    fs::remove_file(&file).expect("removed");
    std::os::unix::fs::symlink(&target, &file).expect("a link");
    replace(&mut directory, "kubernetes/shop", |out| io::Write::write_all(out, b"three")).expect("saved");
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
    let save = |directory: &mut Directory| {
        replace(directory, "files", |_| Ok(())).map_err(|error| error.to_string())
    };
    assert_eq!(save(&mut one), Ok(0));
    let said = save(&mut two).expect_err("it is locked");
    assert!(said.contains("another process saves in") && said.contains("--state-dir of its own"), "{said}");
    drop(one);
    assert_eq!(save(&mut two), Ok(0));
}

/// Two namespaces of one cluster over one index, as they are looked at when something is saved.
struct Two {
    world: World,
    work: Work,
}

impl Two {
    /// `x.global` is in foo, and that is on disk.
    fn new() -> Two {
        let world = World::new();
        let index = world.index.clone();
        let pending = Pending::new(2, index.clone());
        let kept = ["kubernetes/foo", "kubernetes/bar"].into_iter().enumerate().map(|(at, name)| {
            let status = Arc::new(Status::new(name, Partition(at)));
            let awaited = Readiness::default().await_for("it");
            let feed = Feed::new(index.clone(), Arc::default(), status, pending.clone(), awaited);
            Kept {
                feed: Arc::new(feed),
                made_from: Fingerprint::new(),
                tried: false,
                saved: None,
                heard: UNIX_EPOCH,
            }
        });
        let directory = world.directory.path().to_owned();
        let mut work = Work {
            directory: Directory::new(directory.clone()),
            sources: kept.collect(),
            settings: State { directory, max_age: Duration::from_secs(3600) },
            tally: Arc::new(Tally::new(["kubernetes/foo", "kubernetes/bar"].into_iter())),
            failure: None,
        };
        work.sources[0].feed.reset(vec![work.sources[0].feed.pack_saved(world.entry("x.global"))]);
        work.sources[1].feed.reset(Vec::new());
        work.save(false).expect("something to save");
        assert_eq!(work.failure, None);
        let two = Two { world, work };
        assert_eq!(two.on_disk(), [vec!["x.global".to_owned()], vec![]]);
        two
    }

    /// `x.global` is in bar, and then no more in foo.
    fn move_it(&self) {
        let entry = self.world.entry("x.global");
        let id = entry.id.clone();
        self.work.sources[1].feed.apply(self.work.sources[1].feed.pack_saved(entry));
        self.work.sources[0].feed.delete(&id, None);
    }

    /// The hosts that another process would find.
    fn on_disk(&self) -> [Vec<String>; 2] {
        let directory = Directory::new(self.world.directory.path().to_owned());
        ["kubernetes/foo", "kubernetes/bar"].map(|source| {
            let file = directory.open(source).expect("readable").expect("a file");
            let reader = Reader::new(file).unwrap_or_else(|error| panic!("{error}"));
            let mut hosts = Vec::new();
            let read =
                reader.read(|entry| hosts.extend(entry.claims.iter().map(|claim| claim.host.to_string())));
            read.unwrap_or_else(|error| panic!("{error}"));
            hosts.sort();
            hosts
        })
    }

    fn names(&self) -> Vec<String> {
        let all = fs::read_dir(self.world.directory.path()).expect("a directory");
        let mut names: Vec<_> =
            all.map(|file| file.expect("one").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

const MOVED: [&[&str]; 2] = [&[], &["x.global"]];
const UNMOVED: [&[&str]; 2] = [&["x.global"], &[]];

/// [L6] Else a host that was there all the time could be in neither.
#[test]
fn if_one_file_cannot_be_written_none_is_replaced() {
    let mut two = Two::new();
    two.move_it();
    let mut batch = two.work.directory.begin().expect("it is locked");
    let made = two.work.write(&mut batch, &[0, 1]).expect("written");
    assert_eq!(made.len(), 2);
    let failure = batch.failure("kubernetes/bar", io::ErrorKind::StorageFull.into());
    drop(batch);
    assert!(failure.to_string().contains("make room"), "{failure}");
    assert_eq!(two.on_disk(), UNMOVED);
    assert_eq!(two.names(), ["kubernetes_bar.state", "kubernetes_foo.state", "lock"]);
    two.work.save(false).expect("something to save");
    assert_eq!(two.on_disk(), MOVED);
    assert_eq!(two.names(), ["kubernetes_bar.state", "kubernetes_foo.state", "lock"]);
}

/// [L6]
#[test]
fn a_process_that_ends_between_two_renames_leaves_nothing_half_done() {
    let mut two = Two::new();
    two.move_it();
    // The second rename fails: there is a directory.
    let bar = two.world.directory.path().join("kubernetes_bar.state");
    fs::remove_file(&bar).expect("removed");
    fs::create_dir_all(bar.join("something")).expect("a directory");
    two.work.save(false).expect("something to save");
    assert!(two.work.failure.is_some());
    assert_eq!(two.on_disk(), MOVED);
    // Whoever writes next brings it to its end.
    fs::remove_dir_all(&bar).expect("removed");
    two.work.directory = Directory::new(two.world.directory.path().to_owned());
    two.work.directory.lock().expect("nobody else has it");
    assert_eq!(two.names(), ["kubernetes_bar.state", "kubernetes_foo.state", "lock"]);
    assert_eq!(two.on_disk(), MOVED);
}

/// [L6]
#[test]
fn a_source_that_changes_while_another_is_saved_is_saved_with_it() {
    let mut two = Two::new();
    two.move_it();
    // Only foo was seen to have changed.
    let mut due = vec![0];
    two.work.replace(&mut due, &mut 0).expect("saved");
    assert_eq!(due, [0, 1]);
    assert_eq!(two.on_disk(), MOVED);
    assert_eq!(two.work.save(false), None, "nothing has changed");
}

/// [L6] A thread may be between the index and the count, and the other source be seen without what has moved.
#[test]
fn a_change_that_is_not_counted_yet_is_saved_with_the_others() {
    let mut two = Two::new();
    let entry = two.world.entry("x.global");
    let id = entry.id.clone();
    let bar = two.work.sources[1].feed.clone();
    bar.apply_half(bar.pack_saved(entry));
    two.work.sources[0].feed.delete(&id, None);
    let mut due = vec![0];
    two.work.replace(&mut due, &mut 0).expect("saved");
    assert_eq!(due, [0, 1]);
    assert_eq!(two.on_disk(), MOVED);
}

/// [L6] Of one that is just being changed, a save may be written too often, and never too seldom.
#[test]
fn a_change_that_comes_into_the_index_after_it_was_announced_is_news() {
    let mut two = Two::new();
    let bar = two.work.sources[1].feed.clone();
    two.move_it();
    two.work.save(false).expect("something to save");
    assert_eq!(two.work.save(false), None);
    bar.apply_half(bar.pack_saved(two.world.entry("y.global")));
    two.work.save(false).expect("something to save");
    let mut hosts = two.on_disk()[1].clone();
    hosts.sort();
    assert_eq!(hosts, ["x.global", "y.global"]);
}

/// [L6] A new authority beside the old one, as while certificates are replaced, is the same cluster.
#[test]
fn an_authority_in_common_makes_it_the_same_cluster() {
    let of = |authorities: &[&str]| -> Fingerprint {
        let text = |text: &&str| (*text).to_owned();
        [(AUTHORITIES.to_owned(), authorities.iter().map(text).collect())].into()
    };
    let cases: [(&[&str], &[&str], bool); 7] = [
        (&["a"], &["a"], true),
        (&["a"], &["a", "b"], true),
        (&["a", "b"], &["b"], true),
        (&[], &[], true),
        (&["a"], &["b"], false),
        (&["a"], &[], false),
        (&[], &["a"], false),
    ];
    for (found, wanted, same) in cases {
        assert_eq!(difference(&of(found), &of(wanted)).is_none(), same, "{found:?} {wanted:?}");
    }
}

/// [L6] Others may come back to what they were; a stranger's file is none of ours.
#[test]
fn files_of_sources_that_are_no_more_are_removed_when_they_are_too_old_to_be_used() {
    let two = Two::new();
    let path = |name: &str| two.world.directory.path().join(name);
    let names = ["kubernetes_old.state", "kubernetes_young.state", "kubernetes_foo.state", "old.txt"];
    for name in names {
        let file = File::create(path(name)).expect("a file");
        let age = if name.contains("young") { 3000 } else { 4000 };
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("possible");
    }
    let mut work = two.work;
    work.directory = Directory::new(two.world.directory.path().to_owned());
    work.sources[0].saved = None;
    work.save(true).expect("something to save");
    assert_eq!(work.failure, None);
    assert_eq!(names.map(|name| path(name).exists()), [false, true, true, true]);
    // Also those that have become too old since.
    let file = File::options().write(true).open(path("kubernetes_young.state")).expect("a file");
    file.set_modified(SystemTime::now() - Duration::from_secs(4000)).expect("possible");
    work.sources[0].saved = None;
    work.save(true).expect("something to save");
    assert_eq!(names.map(|name| path(name).exists()), [false, false, true, true]);
}

/// [L6]
#[test]
fn a_directory_that_is_removed_or_replaced_is_made_and_locked_anew() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let path = parent.path().join("state");
    let mut one = Directory::new(path.clone());
    assert!(one.lock().expect("locked"));
    assert!(!one.lock().expect("locked"));
    fs::remove_dir_all(&path).expect("removed");
    assert!(one.lock().expect("locked"));
    fs::remove_dir_all(&path).expect("removed");
    let mut two = Directory::new(path);
    assert!(two.lock().expect("locked"));
    assert!(matches!(one.lock(), Err(Failure::Locked(_))));
}

/// [L6] What a killed process left is swept by the next.
#[test]
fn unfinished_files_are_swept() {
    let two = Two::new();
    let path = two.world.directory.path().join("kubernetes.0123456789abcdef.new");
    fs::write(&path, "half").expect("written");
    let strange = two.world.directory.path().join("something.new");
    fs::write(&strange, "mine").expect("written");
    drop(two.work);
    let mut next = Directory::new(two.world.directory.path().to_owned());
    next.lock().expect("locked");
    assert!(!path.exists());
    assert!(strange.exists());
}

/// [L6] Nobody may write to it for hours.
#[test]
fn a_pipe_in_the_place_of_a_file_holds_nothing_up() {
    let world = World::new();
    let path = world.directory.path().join("kubernetes.state");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR)
        .expect("a pipe");
    let begun = Instant::now();
    let keeper = world.start();
    world.feed.reset(vec![world.feed.pack_saved(world.entry("a.global"))]);
    keeper.finish();
    assert!(begun.elapsed() < FIRST_LOOK, "{:?}", begun.elapsed());
    assert_eq!(world.on_disk().0, ["a.global"]);
}
