//! Child processes that never outlive the test binary.
//!
//! A [`Process`] is killed by its handle when it is dropped, also by a panic. What lives
//! in a `static` is never dropped, and a killed test binary drops nothing: for these a
//! shell at the other end of a pipe notices that we are gone and does the same.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Where every file of this run lives; removed after the run unless
/// `GLOBALDNS_E2E_KEEP` is set.
pub(crate) fn run_directory() -> &'static Path {
    &reaper().directory
}

/// A fresh directory below [`run_directory`].
pub(crate) fn fresh_directory(name: &str) -> PathBuf {
    tempfile::Builder::new()
        .prefix(&format!("{name}-"))
        .tempdir_in(run_directory())
        .expect("create a directory for a test")
        .keep()
}

/// A running child.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to the file `log`.
    pub(crate) fn start_with_log(name: &str, mut command: Command, log: &Path) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("open a log file");
        let copy = log.try_clone().expect("clone a log file handle");
        command.stdout(copy).stderr(log);
        Self::start(name, command)
    }

    /// Starts `command` with the streams it was given; stdin is empty.
    pub(crate) fn start(name: &str, mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        reaper().tell("guard", child.id());
        Self { name: name.to_owned(), child }
    }

    /// The child's stderr, if it was piped and not taken yet.
    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Its process id, good as long as this value lives.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the child and waits for its end.
    pub(crate) fn stop(&mut self) {
        // Released first: after `wait` the pid may belong to somebody else.
        reaper().tell("release", self.child.id());
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How the child ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("ask for a child's status")?;
        Some(format!("{} ended with {status}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last `lines` lines of a file, for the message of a failed test.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let kept = &all[all.len().saturating_sub(lines)..];
    format!("--- end of {} ---\n{}", path.display(), kept.join("\n"))
}

struct Reaper {
    shell: Mutex<Child>,
    directory: PathBuf,
}

/// Reads `guard PID` and `release PID` until the pipe closes, which the kernel does
/// whichever way we end; then kills what is still guarded and removes the files.
const REAPER: &str = r#"
trap '' INT TERM HUP
guarded=
while read -r verb pid; do
    others=
    for one in $guarded; do
        [ "$one" = "$pid" ] || others="$others $one"
    done
    guarded=$others
    if [ "$verb" = guard ]; then guarded="$guarded $pid"; fi
done
if [ -n "$guarded" ]; then kill -KILL $guarded 2>/dev/null; fi
for one in $guarded; do
    while kill -0 "$one" 2>/dev/null; do sleep 0.05; done
done
if [ -n "$1" ]; then rm -rf -- "$1"; fi
"#;

impl Reaper {
    fn tell(&self, verb: &str, pid: u32) {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        // Without its shell the drop guards still work: no reason to fail a test.
        let _ = shell.stdin.as_mut().map(|stdin| writeln!(stdin, "{verb} {pid}"));
    }
}

fn reaper() -> &'static Reaper {
    static CELL: OnceLock<Reaper> = OnceLock::new();
    CELL.get_or_init(|| {
        let directory = tempfile::Builder::new()
            .prefix("globaldns-e2e-")
            .tempdir()
            .expect("create a directory for this run")
            .keep();
        let keep = std::env::var_os("GLOBALDNS_E2E_KEEP").is_some();
        if keep {
            eprintln!("files of this run stay in {}", directory.display());
        }
        let remove = if keep { Path::new("") } else { &directory };
        let shell = Command::new("sh")
            .args(["-c", REAPER, "reaper"])
            .arg(remove)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the shell that cleans up");
        Reaper { shell: Mutex::new(shell), directory }
    })
}
