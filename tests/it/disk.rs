//! Faults of a real disk: what it costs is the saving of state, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::api_server::{ApiServer, Fault};
use crate::cluster::{answer, spawn, spec, wait_answer, wait_metric};
use crate::support::Program;

const SAVED: &str = "globaldns_state_saves_total{source=\"kubernetes\",result=\"success\"}";
/// Set where all is there that tests need.
const AS_ROOT: &str = "GLOBALDNS_TESTS_AS_ROOT";
const FAILED: &str = "globaldns_state_saves_total{source=\"kubernetes\",result=\"failure\"}";

/// Says so, or fails where it has to be shown.
fn not_shown<T>(what: &str, want: &str) -> Option<T> {
    println!("not shown: {what}, for want {want}");
    assert!(std::env::var_os(AS_ROOT).is_none(), "{AS_ROOT} is set, so this has to be shown");
    None
}

/// A file system of its own, until it is dropped.
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    frozen: bool,
}

impl Disk {
    /// One of 64 KiB. `None`, with a word, where this user may not mount.
    pub(crate) fn small(parent: &Path) -> Option<Disk> {
        Disk::mount(parent, &["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
    }

    /// One that can be frozen, or broken.
    fn ext4(parent: &Path) -> Option<Disk> {
        let image = parent.join("image");
        let image = image.to_str().expect("UTF-8");
        std::fs::File::create(image).and_then(|file| file.set_len(8 << 20)).expect("a file of 8 MiB");
        // Both are there where there is root.
        let made = Command::new("mkfs.ext4").args(["-q", image]).status();
        if !made.is_ok_and(|status| status.success()) {
            return not_shown("what happens on a disk that hangs", "of mkfs.ext4");
        }
        Disk::mount(parent, &["-o", "loop,errors=remount-ro", image])
    }

    fn mount(parent: &Path, what: &[&str]) -> Option<Disk> {
        let path = parent.join("disk");
        std::fs::create_dir(&path).expect("a directory");
        match Command::new("mount").args(what).arg(&path).output() {
            Ok(output) if output.status.success() => Some(Disk { path, frozen: false }),
            said => not_shown("what happens on such a disk", &format!("of the right to mount one: {said:?}")),
        }
    }

    /// From now on the kernel writes nothing to it any more, as after an error of the disk.
    fn abort(&self) {
        let status = Command::new("mount").args(["-o", "remount,abort"]).arg(&self.path).status();
        assert!(status.expect("mount runs").success());
    }

    /// From now on whoever writes to it waits, and cannot even be killed.
    fn freeze(&mut self) {
        assert!(
            Command::new("fsfreeze").arg("-f").arg(&self.path).status().expect("fsfreeze runs").success()
        );
        self.frozen = true;
    }

    fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            let _ = Command::new("fsfreeze").arg("-u").arg(&self.path).status();
        }
    }

    fn state(&self) -> String {
        self.path.join("state").to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

struct World {
    api: ApiServer,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let api = ApiServer::start(&["v1"]);
        api.apply("foo/a", spec("a.global", "240.0.0.1"));
        World { api, directory: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Another name comes, and is answered.
    fn change(&self, program: &Program, name: &str) {
        self.api.apply(&format!("foo/{name}"), spec(&format!("{name}.global"), "240.0.0.2"));
        wait_answer(program, &format!("{name}.global"), "NOERROR 240.0.0.2");
    }

    /// What is answered without an API server: a name that was saved is known.
    fn expect_saved(&self, state: &str, name: &str) {
        self.api.set_fault(Fault::Status(500));
        let mut program = spawn(&self.api, &["--state-dir", state]);
        program.ready();
        assert_eq!(answer(&program, &format!("{name}.global")), "NOERROR 240.0.0.2");
    }
}

/// [L6] As the kernel does it after an error of the disk.
#[test]
fn a_disk_that_becomes_read_only_takes_nothing_but_the_saving() {
    let world = World::new();
    let Some(disk) = Disk::ext4(world.directory.path()) else { return };
    let mut program = spawn(&world.api, &["--state-dir", &disk.state()]);
    program.ready();
    wait_metric(&program, SAVED, |saves| saves >= 1.0);
    world.change(&program, "b");
    wait_metric(&program, SAVED, |saves| saves >= 2.0);
    disk.abort();
    world.change(&program, "c");
    program.log_containing("state cannot be saved");
    wait_metric(&program, FAILED, |failures| failures >= 1.0);
    assert_eq!(program.get("/ready").0, 200);
    drop(program);
    // What is there can be read.
    world.expect_saved(&disk.state(), "b");
}

/// [L6] [L5] A file system that is frozen lets nobody write, and nobody who waits for it be killed.
#[test]
fn a_disk_that_hangs_holds_up_neither_answers_nor_a_start_nor_the_end() {
    let world = World::new();
    // Dropped after the disk has thawed.
    let (mut program, mut other): (Program, Program);
    let Some(mut disk) = Disk::ext4(world.directory.path()) else { return };
    program = spawn(&world.api, &["--state-dir", &disk.state()]);
    program.ready();
    wait_metric(&program, SAVED, |saves| saves >= 1.0);
    disk.freeze();
    for name in ["b", "c"] {
        world.change(&program, name);
    }
    assert_eq!(program.get("/ready").0, 200);
    other = spawn(&world.api, &["--state-dir", &disk.state()]);
    other.ready();
    assert_eq!(answer(&other, "c.global"), "NOERROR 240.0.0.2");
    other.signal("TERM");
    // It has not saved, so it need not wait for the disk.
    disk.thaw();
    assert_eq!(other.wait().code, Some(0));
    wait_metric(&program, SAVED, |saves| saves >= 2.0);
    // At the end it is waited for for ten seconds.
    disk.freeze();
    world.change(&program, "d");
    program.signal("TERM");
    program.log_containing("state was still being saved");
    disk.thaw();
    assert_eq!(program.wait().code, Some(0));
    world.expect_saved(&disk.state(), "c");
}

/// [L6] A limit on the size of files sends a signal that would end the program.
#[test]
fn a_limit_on_the_size_of_files_takes_nothing_but_the_saving() {
    let world = World::new();
    let state = world.directory.path().join("state");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 16; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_globaldns"), "serve"]);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--lameduck", "0s"]);
    command.args(["--log-format", "json", "--kubeconfig", world.api.kubeconfig(), "--state-dir"]).arg(&state);
    let mut program = Program::spawn(command);
    program.ready();
    wait_metric(&program, SAVED, |saves| saves >= 1.0);
    let long: Vec<String> = (0..2000).map(|i| format!("host-{i}.a-rather-long-name.global")).collect();
    world.api.apply("foo/long", json!({"hosts": long, "addresses": ["240.0.0.9"]}));
    program.log_containing("state cannot be saved");
    assert_eq!(answer(&program, "host-1999.a-rather-long-name.global"), "NOERROR 240.0.0.9");
    world.api.delete("foo/long");
    world.change(&program, "b");
    program.log("state is saved again", |_| true);
    drop(program);
    // Without the limit, what is there is used.
    world.expect_saved(state.to_str().expect("UTF-8"), "b");
}
