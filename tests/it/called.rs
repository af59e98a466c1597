//! The names the program is called by, what it completes, and its man pages.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::cli::end;

/// The program under another name.
struct Called {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Called {
    fn new(name: &str) -> Called {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(name);
        symlink(env!("CARGO_BIN_EXE_globaldns"), &path).expect("a link");
        Called { _directory: directory, path }
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(&self.path);
        command
            .args(args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("KUBECONFIG")
            .env_remove("COLUMNS");
        let Output { status, stdout, stderr } = command.output().expect("it runs");
        let text = |octets| String::from_utf8(octets).expect("UTF-8");
        (status.code(), text(stdout), text(stderr))
    }
}

/// [X2]
#[test]
fn a_plugin_of_kubectl_is_called_so_in_help_and_errors() {
    let plugin = Called::new("kubectl-globaldns");
    let (code, help, _) = plugin.run(&["check", "--help"]);
    assert_eq!(code, Some(0));
    assert!(help.contains("Usage: kubectl globaldns check [OPTIONS] [PATH]..."), "{help}");
    let (code, _, refused) = plugin.run(&["serv"]);
    assert_eq!(code, Some(2));
    assert!(refused.contains("Usage: kubectl globaldns <COMMAND>"), "{refused}");
    let (code, _, refused) = plugin.run(&["check"]);
    assert_eq!((code, refused.split(": ").next()), (Some(2), Some("kubectl globaldns")), "{refused}");
    let (_, own_help, _) = Called::new("globaldns").run(&["check", "--help"]);
    assert!(own_help.contains("Usage: globaldns check [OPTIONS] [PATH]..."), "{own_help}");
}

/// [X2] As kubectl reads it: a line each, and what to do with them behind a colon.
#[test]
fn kubectl_is_told_what_may_come_next() {
    let completer = Called::new("kubectl_complete-globaldns");
    let lines = |args: &[&str]| {
        let (code, stdout, stderr) = completer.run(args);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}");
        stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let commands = lines(&[""]);
    assert_eq!(commands.last().map(String::as_str), Some(":4"));
    let named: Vec<_> = commands.iter().map(|line| line.split('\t').next().unwrap_or_default()).collect();
    for name in ["serve", "check", "stub-domains", "completion", "man"] {
        assert!(named.contains(&name), "{named:?}");
    }
    assert!(
        !lines(&["check", "--neg"])[0].starts_with("--negative-ttl"),
        "what has no effect is not offered"
    );
    assert_eq!(lines(&["stub-domains", "stat"]).len(), 2);
    let flags = lines(&["check", "--str"]);
    assert!(flags[0].starts_with("--strict\tFail on warnings too"), "{flags:?}");
    assert_eq!(lines(&["check", "-o", "sa"])[0].split('\t').next(), Some("sarif"));
    // The shell completes files.
    assert_eq!(lines(&["check", "README"]), [":0"]);
}

/// [X2]
#[test]
fn every_shell_gets_a_script_with_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = end(&["completion", shell]);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["stub-domains", "check", "--kubeconfig", "--strict"] {
            let word = if shell == "fish" { word.trim_start_matches('-') } else { word };
            assert!(ended.stdout.contains(word), "{shell}: {word}");
        }
    }
}

/// [X2]
#[test]
fn every_command_has_its_man_page() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let ended = end(&["man", path]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for page in
        ["globaldns", "globaldns-serve", "globaldns-check", "globaldns-stub-domains-apply", "globaldns-man"]
    {
        let text = fs::read_to_string(directory.path().join(format!("{page}.1"))).expect(page);
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}");
    }
    let ended = end(&["man", "/nowhere"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("/nowhere; does the directory exist?"), "{}", ended.stderr);
}
