//! The names this program is called by: `globaldns`, and as a plugin of kubectl `kubectl globaldns` (X2).

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;

use clap_complete::engine;

/// What kubectl looks for on the PATH.
const PLUGIN: &str = "kubectl-globaldns";
/// What it asks for completions of the plugin's arguments.
const COMPLETER: &str = "kubectl_complete-globaldns";
/// As people type it.
const BY_KUBECTL: &str = "kubectl globaldns";

/// What kubectl is told of completions, in the numbers of Go's package cobra.
const NO_SPACE: u8 = 2;
const NO_FILES: u8 = 4;

static NAME: OnceLock<&'static str> = OnceLock::new();

/// The name people have called the program by, for messages.
pub(super) fn name() -> &'static str {
    NAME.get().copied().unwrap_or("globaldns")
}

/// Says something beside the result.
pub(super) fn say(text: &str) {
    tell(&format!("{}: {text}\n", name()));
}

/// The same, as it is. Standard error may be closed, or full: that is no reason to end.
pub(super) fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Learns the name. True if only completions are wanted.
pub(super) fn learn(program: &OsStr) -> bool {
    let file = Path::new(program).file_name().unwrap_or_default();
    if file == PLUGIN || file == COMPLETER {
        let _ = NAME.set(BY_KUBECTL);
    }
    file == COMPLETER
}

/// The command line under that name.
pub(super) fn named(command: clap::Command) -> clap::Command {
    if name() == BY_KUBECTL { command.bin_name(BY_KUBECTL) } else { command }
}

/// What may stand in the place of the last argument: a line each, with a tab before what it means, and last what the
/// shell is to do with them.
pub(super) fn completions(mut command: clap::Command, arguments: Vec<OsString>) -> Result<String, io::Error> {
    let wanted = arguments.last().cloned().unwrap_or_default();
    let words: Vec<OsString> = std::iter::once("globaldns".into()).chain(arguments).collect();
    let at = words.len() - 1;
    let here = std::env::current_dir().ok();
    let found = engine::complete(&mut command, words, at, here.as_deref())?;
    let is_path = |value: &str| here.as_ref().is_some_and(|here| here.join(value).exists());
    let mut text = String::new();
    let mut directive = NO_FILES;
    for candidate in found.iter().filter(|candidate| !candidate.is_hide_set()) {
        let value = candidate.get_value().to_string_lossy();
        if is_path(&value) && !value.starts_with('-') {
            // The shell knows better how to complete these.
            directive = 0;
            continue;
        }
        if value.ends_with('=') {
            directive |= NO_SPACE;
        }
        let help = candidate.get_help().map(|help| help.to_string()).unwrap_or_default();
        let help = help.lines().next().unwrap_or_default();
        text += &if help.is_empty() { format!("{value}\n") } else { format!("{value}\t{help}\n") };
    }
    // A value that is a path, of which there is none yet.
    if found.is_empty() && !wanted.to_string_lossy().starts_with('-') {
        directive = 0;
    }
    Ok(format!("{text}:{directive}\n"))
}
