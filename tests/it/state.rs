//! Saved state: what survives a restart, and what is not taken for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::api_server::{ApiServer, Fault};
use crate::cluster::{answer, metric, spawn, spec, wait_answer, wait_metric};
use crate::disk::Disk;
use crate::support::{Program, globaldns, run, wait_until};

const SAVED: &str = "globaldns_state_saves_total{source=\"kubernetes\",result=\"success\"}";
const FAILED: &str = "globaldns_state_saves_total{source=\"kubernetes\",result=\"failure\"}";
const USED: &str = "answering from saved state";
const AGE: &str = "globaldns_state_age_seconds{source=\"kubernetes\"}";

/// A directory for state, with the API server it is about.
struct World {
    api: ApiServer,
    directory: tempfile::TempDir,
}

impl World {
    /// With two entries, one of them with a finding.
    fn new() -> World {
        let api = ApiServer::start(&["v1"]);
        api.apply("foo/a", spec("a.global", "240.0.0.1"));
        api.apply("foo/b", json!({"hosts": ["b.global", "bad host"], "addresses": ["240.0.0.2"]}));
        World { api, directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn state(&self) -> String {
        self.directory.path().join("state").to_str().expect("UTF-8").to_owned()
    }

    fn file(&self) -> PathBuf {
        Path::new(&self.state()).join("kubernetes.state")
    }

    fn spawn(&self, more: &[&str]) -> Program {
        let state = self.state();
        spawn(&self.api, &[&["--state-dir", &state][..], more].concat())
    }

    /// Serves until the state is on disk, and is killed then: nothing is saved at the end.
    fn save_and_kill(&self) {
        let mut program = self.spawn(&[]);
        program.ready();
        wait_metric(&program, SAVED, |saves| saves >= 1.0);
    }

    /// From now on nobody is heard.
    fn silence(&self) {
        self.api.set_fault(Fault::Status(500));
    }

    /// Starts the program while nobody is heard, and expects this in its log and SERVFAIL.
    #[track_caller]
    fn expect_unused(&self, more: &[&str], why: &str) {
        let program = self.spawn(more);
        let line = program.log_containing("saved state is not used");
        for part in [why, "kubernetes.state"] {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
        assert_eq!(answer(&program, "a.global"), "SERVFAIL");
        assert_eq!(program.get("/ready").0, 503);
        assert_eq!(metric(&program, AGE), None);
        let told = program.stderr().lines().filter(|line| line.contains("saved state")).count();
        assert_eq!(told, 1, "{}", program.stderr());
    }
}

/// [L6] [D9] [L1] [L3] [F1]
#[test]
fn after_a_restart_without_an_api_server_saved_state_is_answered_until_the_first_list() {
    let world = World::new();
    world.save_and_kill();
    world.silence();
    let mut program = world.spawn(&[]);
    program.ready();
    for _ in 0..2 {
        assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
        assert_eq!(answer(&program, "b.global"), "NOERROR 240.0.0.2");
        assert_eq!(answer(&program, "c.global"), "NXDOMAIN");
        program.findings(&[("host-invalid", 1)]);
    }
    assert_eq!(program.get("/ready").0, 200);
    assert!(metric(&program, AGE).is_some());
    assert_eq!(metric(&program, "globaldns_source_complete{source=\"kubernetes\"}"), Some(0.0));
    // What happened meanwhile.
    world.api.delete("foo/a");
    world.api.apply("foo/c", spec("c.global", "240.0.0.3"));
    world.api.set_fault(Fault::None);
    wait_answer(&program, "c.global", "NOERROR 240.0.0.3");
    assert_eq!(answer(&program, "a.global"), "NXDOMAIN");
    assert_eq!(answer(&program, "b.global"), "NOERROR 240.0.0.2");
    wait_until("live answers", || metric(&program, AGE).is_none().then_some(()));
    // And that is saved in its turn.
    wait_metric(&program, SAVED, |saves| saves >= 1.0);
    drop(program);
    world.silence();
    let mut program = world.spawn(&[]);
    program.ready();
    assert_eq!(answer(&program, "a.global"), "NXDOMAIN");
    assert_eq!(answer(&program, "c.global"), "NOERROR 240.0.0.3");
}

/// [L6]
#[test]
fn a_change_is_saved_and_so_is_the_last_one_before_the_end() {
    let world = World::new();
    let mut program = world.spawn(&[]);
    program.ready();
    wait_metric(&program, SAVED, |saves| saves == 1.0);
    world.api.apply("foo/c", spec("c.global", "240.0.0.3"));
    wait_metric(&program, SAVED, |saves| saves == 2.0);
    let size = metric(&program, "globaldns_state_size_bytes{source=\"kubernetes\"}");
    assert_eq!(size, fs::metadata(world.file()).ok().map(|file| file.len() as f64));
    world.api.apply("foo/d", spec("d.global", "240.0.0.4"));
    wait_answer(&program, "d.global", "NOERROR 240.0.0.4");
    program.signal("TERM");
    assert_eq!(program.wait().code, Some(0));
    world.silence();
    let mut program = world.spawn(&[]);
    program.ready();
    for (name, address) in [("c", 3), ("d", 4)] {
        assert_eq!(answer(&program, &format!("{name}.global")), format!("NOERROR 240.0.0.{address}"));
    }
}

/// [L6]
#[test]
fn saved_state_is_not_used_when_a_complete_list_comes_in_time() {
    let world = World::new();
    world.save_and_kill();
    world.api.delete("foo/a");
    let mut program = world.spawn(&[]);
    program.ready();
    let begun = Instant::now();
    assert_eq!(answer(&program, "a.global"), "NXDOMAIN");
    // All else that it takes: a failure, and time.
    world.silence();
    let errors = "globaldns_source_errors_total{source=\"kubernetes\",reason=\"server\"}";
    wait_metric(&program, errors, |errors| errors >= 1.0);
    for_some_time(begun + Duration::from_secs(3), || {
        assert_eq!(metric(&program, AGE), None);
        assert_eq!(answer(&program, "a.global"), "NXDOMAIN");
        assert_eq!(answer(&program, "b.global"), "NOERROR 240.0.0.2");
    });
    assert!(!program.stderr().contains(USED), "{}", program.stderr());
}

fn for_some_time(end: Instant, check: impl Fn()) {
    while Instant::now() < end {
        check();
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// [L6] [D9] What it would say of a name that is new would be wrong, and soon there is better.
#[test]
fn saved_state_is_not_used_while_an_api_server_is_only_slow() {
    let world = World::new();
    world.save_and_kill();
    world.api.apply("foo/c", spec("c.global", "240.0.0.3"));
    world.api.set_fault(Fault::StalledList);
    let mut program = world.spawn(&[]);
    for_some_time(Instant::now() + Duration::from_secs(5), || {
        assert_eq!(answer(&program, "c.global"), "SERVFAIL");
        assert_eq!(program.get("/ready").0, 503);
    });
    world.api.set_fault(Fault::None);
    program.ready();
    assert_eq!(answer(&program, "c.global"), "NOERROR 240.0.0.3");
    assert!(!program.stderr().contains(USED), "{}", program.stderr());
}

/// [L6] It may be the API server that is in trouble: without its authenticator it accepts nobody.
#[test]
fn an_api_server_that_refuses_or_never_answers_is_given_fifteen_seconds() {
    let faults = [
        (Fault::StalledList, "no complete list after 15 s"),
        (Fault::Status(401), "does not accept our credentials"),
    ];
    let waiting = faults.map(|(fault, why)| {
        let world = World::new();
        world.save_and_kill();
        world.api.set_fault(fault);
        let begun = Instant::now();
        (world.spawn(&[]), begun, why, world)
    });
    for (mut program, begun, why, _world) in waiting {
        for_some_time(begun + Duration::from_secs(5), || {
            assert_eq!(answer(&program, "a.global"), "SERVFAIL");
        });
        let used = program.log(USED, |_| true);
        assert!(begun.elapsed() >= Duration::from_secs(15), "{:?}", begun.elapsed());
        assert!(used["why"].as_str().is_some_and(|said| said.contains(why)), "{used}");
        program.ready();
        assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    }
}

/// [L1] [L2] [L6] An API server that comes back may not serve the CRD yet.
#[test]
fn a_crd_that_is_absent_at_the_start_does_not_replace_saved_state() {
    let world = World::new();
    world.save_and_kill();
    world.api.set_versions(&[]);
    for _ in 0..2 {
        let mut program = world.spawn(&[]);
        program.ready();
        let used = program.log(USED, |_| true);
        assert!(used["why"].as_str().is_some_and(|why| why.contains("does not serve")), "{used}");
        program.findings(&[("crd-absent", 1), ("host-invalid", 1)]);
        assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
        program.signal("TERM");
        assert_eq!(program.wait().code, Some(0));
    }
    // Without state that can be used, an absent CRD is an empty list.
    let mut program = world.spawn(&["--state-max-age", "0s"]);
    program.ready();
    assert_eq!(answer(&program, "a.global"), "NXDOMAIN");
}

/// [L6]
#[test]
fn state_that_is_damaged_strange_or_old_is_told_once_and_not_used() {
    let world = World::new();
    world.save_and_kill();
    world.silence();
    let good = fs::read(world.file()).expect("a file");
    world.expect_unused(&["--zone", "global,cluster2"], "other zones");
    world.expect_unused(&["--public-only"], "other flags");
    world.expect_unused(&["--zone-owner", "a.global=foo"], "other zone owners");
    world.expect_unused(&["--state-max-age", "0s"], "--state-max-age is 0s");
    let mut turned = good.clone();
    turned[good.len() - 50] ^= 4;
    let newer = String::from_utf8_lossy(&good[..18]).replace('2', "3").into_bytes();
    for (content, why) in [
        (turned, "its checksum is wrong"),
        (good[..good.len() / 2].to_vec(), "damaged"),
        (Vec::new(), "it ends too early"),
        (b"apiVersion: v1\nkind: List".to_vec(), "it does not begin as saved state does"),
        ([&newer, &good[18..]].concat(), "format 3, and this version reads format 2"),
    ] {
        fs::write(world.file(), content).expect("written");
        world.expect_unused(&[], why);
    }
    // Who opens a pipe to read waits for somebody who writes.
    fs::remove_file(world.file()).expect("removed");
    nix::unistd::mkfifo(&world.file(), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    world.expect_unused(&[], "it is no file");
    fs::remove_file(world.file()).expect("removed");
    // Another API server is another cluster.
    fs::write(world.file(), &good).expect("written");
    let other = ApiServer::start(&["v1"]);
    other.set_fault(Fault::Status(500));
    let elsewhere = World { api: other, directory: world.directory };
    elsewhere.expect_unused(&[], "other API server");
}

/// [L6] [S4]
#[test]
fn each_source_is_restored_by_itself() {
    let world = World::new();
    let args = ["--namespace", "foo,bar", "--file", "examples/banzai-multimesh"];
    let mut program = world.spawn(&args);
    program.ready();
    for source in ["files", "kubernetes/foo", "kubernetes/bar"] {
        let saved = format!("globaldns_state_saves_total{{source=\"{source}\",result=\"success\"}}");
        wait_metric(&program, &saved, |saves| saves >= 1.0);
    }
    drop(program);
    world.silence();
    let mut program = world.spawn(&args);
    program.ready();
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    assert_eq!(answer(&program, "echo.default.global"), "NOERROR 127.255.0.1");
    // The files have been read: theirs is not used.
    assert_eq!(metric(&program, "globaldns_state_age_seconds{source=\"files\"}"), None);
    assert!(metric(&program, "globaldns_state_age_seconds{source=\"kubernetes/bar\"}").is_some());
    drop(program);
    // One is missing: what it would say is not known.
    fs::remove_file(Path::new(&world.state()).join("kubernetes_bar.state")).expect("removed");
    let program = world.spawn(&args);
    program.log(USED, |line| line["source"] == "kubernetes/foo");
    program.log("there is no saved state", |line| line["source"] == "kubernetes/bar");
    assert_eq!(answer(&program, "nope.global"), "SERVFAIL");
    assert_eq!(program.get("/ready").0, 503);
}

/// [L2] [L6] An API server that comes back may not serve the CRD yet.
#[test]
fn an_absent_crd_takes_nothing_from_saved_state() {
    let world = World::new();
    world.save_and_kill();
    world.silence();
    let mut program = world.spawn(&[]);
    program.ready();
    world.api.set_versions(&[]);
    program.findings(&[("crd-absent", 1), ("host-invalid", 1)]);
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    world.api.delete("foo/a");
    world.api.set_fault(Fault::None);
    world.api.set_versions(&["v1"]);
    wait_answer(&program, "a.global", "NXDOMAIN");
}

/// [L6]
#[test]
fn two_processes_on_one_directory_both_answer_and_one_saves() {
    let world = World::new();
    let mut one = world.spawn(&[]);
    one.ready();
    wait_metric(&one, SAVED, |saves| saves >= 1.0);
    let mut two = world.spawn(&[]);
    two.ready();
    let line = two.log_containing("state cannot be saved");
    assert!(line.contains("another process saves in"), "{line}");
    assert_eq!(answer(&two, "a.global"), "NOERROR 240.0.0.1");
    wait_metric(&two, FAILED, |failures| failures >= 2.0);
    let told = two.stderr().lines().filter(|line| line.contains("state cannot be saved")).count();
    assert_eq!(told, 1, "{}", two.stderr());
    drop(one);
    two.log("state is saved again", |_| true);
    drop(two);
    // One that may not write still reads.
    let mut one = world.spawn(&[]);
    one.ready();
    wait_metric(&one, SAVED, |saves| saves >= 1.0);
    world.silence();
    let mut two = world.spawn(&[]);
    two.ready();
    assert_eq!(answer(&two, "a.global"), "NOERROR 240.0.0.1");
}

/// [L6]
#[test]
fn a_full_disk_or_a_directory_that_cannot_be_written_takes_nothing_but_the_saving() {
    let world = World::new();
    // Not a directory, whoever is asked.
    fs::write(world.directory.path().join("state"), "").expect("written");
    let mut program = world.spawn(&[]);
    program.ready();
    let line = program.log_containing("state cannot be saved");
    assert!(line.contains("make --state-dir a directory"), "{line}");
    wait_metric(&program, FAILED, |failures| failures >= 1.0);
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    // It is tried again.
    fs::remove_file(world.directory.path().join("state")).expect("removed");
    program.log("state is saved again", |_| true);
    drop(program);
    let Some(disk) = Disk::small(world.directory.path()) else { return };
    let state = disk.path.to_str().expect("UTF-8");
    let mut program = spawn(&world.api, &["--state-dir", state]);
    program.ready();
    wait_metric(&program, SAVED, |saves| saves >= 1.0);
    // More than the disk has room for.
    let long: Vec<String> = (0..2000).map(|i| format!("host-{i}.a-rather-long-name.global")).collect();
    world.api.apply("foo/long", json!({"hosts": long, "addresses": ["240.0.0.9"]}));
    let line = program.log_containing("state cannot be saved");
    assert!(line.contains("make room"), "{line}");
    wait_answer(&program, "host-1999.a-rather-long-name.global", "NOERROR 240.0.0.9");
    assert!(unfinished(&disk.path).is_empty(), "what could not be written is in nobody's way");
    world.api.delete("foo/long");
    program.log("state is saved again", |_| true);
    drop(program);
    world.silence();
    let mut program = spawn(&world.api, &["--state-dir", state]);
    program.ready();
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
}

fn unfinished(directory: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(directory).expect("a directory").map(|file| file.expect("one").path());
    all.filter(|path| path.extension().is_some_and(|extension| extension == "new")).collect()
}

/// [L6] [L2] [X1] A plug-in that asks somebody else for credentials fails where the network does.
#[test]
fn a_credential_plugin_that_fails_at_the_start_is_tried_again_and_saved_state_is_answered() {
    let world = World::new();
    let (works, script) = (world.directory.path().join("works"), world.directory.path().join("plugin"));
    let credential = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                            "status": {"token": "t"}});
    let text = format!("#!/bin/sh\ntest -e {} || exit 3\necho '{credential}'\n", works.display());
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("possible");
    let kubeconfig = |command: &Path| {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": command,
                          "interactiveMode": "Never"});
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
               "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", world.api.address())}}],
               "users": [{"name": "u", "user": {"exec": exec}}],
               "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]})
    };
    fs::write(world.api.kubeconfig(), kubeconfig(&script).to_string()).expect("written");
    fs::write(&works, "").expect("written");
    world.save_and_kill();
    fs::remove_file(&works).expect("removed");
    let mut program = world.spawn(&[]);
    program.ready();
    let used = program.log(USED, |_| true);
    assert!(used["why"].as_str().is_some_and(|why| why.contains("no credentials")), "{used}");
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    world.api.apply("foo/c", spec("c.global", "240.0.0.3"));
    fs::write(&works, "").expect("written");
    wait_answer(&program, "c.global", "NOERROR 240.0.0.3");
    drop(program);
    // One that hangs holds up nothing, and is waited for.
    fs::remove_file(&works).expect("removed");
    let text =
        format!("#!/bin/sh\nwhile ! test -e {}; do sleep 0.1; done\necho '{credential}'\n", works.display());
    fs::write(&script, text).expect("written");
    let mut program = world.spawn(&[]);
    program.listening();
    assert_eq!((program.get("/health").0, program.get("/ready").0), (200, 503));
    program.ready();
    let used = program.log(USED, |_| true);
    assert!(used["why"].as_str().is_some_and(|why| why.contains("no complete list")), "{used}");
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    world.api.apply("foo/d", spec("d.global", "240.0.0.4"));
    fs::write(&works, "").expect("written");
    wait_answer(&program, "d.global", "NOERROR 240.0.0.4");
    drop(program);
    // One that is not there is a mistake.
    fs::write(world.api.kubeconfig(), kubeconfig(Path::new("/nowhere")).to_string()).expect("written");
    let mut command =
        globaldns(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--kubeconfig"]);
    command.arg(world.api.kubeconfig()).args(["--state-dir", &world.state()]);
    let ended = run(command);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}
