//! What people who come from other programs type, and what they mean.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

const LISTEN: &str = "the address and port to answer on are --listen, such as --listen :5353";
const NO_CONFIG: &str = "there is no configuration file: flags and variables GLOBALDNS_… say everything";
const FILE: &str = "manifests are named with --file, and behind check without a flag";
const OUTPUT: &str = "the form is chosen with -o, such as -o json";
const TYPE: &str = "the type is --type, such as --type AAAA";

/// Commands with `-o`.
const PRINTS: &[&str] = &["explain", "export", "compare", "check", "stub-domains"];

/// Flags of CoreDNS, kubectl and others, and ours; of these commands, or of all.
const KNOWN: [(&str, &[&str], &str); 15] = [
    ("--port", &[], LISTEN),
    ("--dns", &[], LISTEN),
    ("--bind", &[], LISTEN),
    ("--conf", &[], NO_CONFIG),
    ("-c", &[], NO_CONFIG),
    ("--config", &[], NO_CONFIG),
    ("--filename", &[], FILE),
    ("-f", &[], FILE),
    ("--json", PRINTS, OUTPUT),
    ("--yaml", PRINTS, "the form is chosen with -o, such as -o yaml"),
    ("--format", PRINTS, OUTPUT),
    ("-t", &["explain", "compare"], TYPE),
    ("--shell", &["completion"], "the shell is named without a flag, such as completion bash"),
    ("--server", &["export", "compare", "check"], "only explain asks a running server"),
    ("--all-namespaces", &[], "all namespaces are read unless --namespace names some"),
];

/// A remedy where the parser knows none, for who has typed these words.
pub(super) fn with_hint(mut error: Error, words: &[String]) -> Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return error };
    let name = given.split(['=', '.']).next().unwrap_or_default();
    let is_meant = |(flag, commands, _): &&(&str, &[&str], &str)| {
        (*flag == name || (!flag.starts_with("--") && name.starts_with(flag)))
            && (commands.is_empty() || words.first().is_some_and(|word| commands.contains(&word.as_str())))
    };
    let known = KNOWN.iter().find(is_meant);
    if known.is_none() && error.get(ContextKind::SuggestedArg).is_some() {
        return error;
    }
    let hint = match known {
        Some((_, _, hint)) => (*hint).to_owned(),
        None if given.starts_with('-') || given.is_empty() => return error,
        None => match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["serve" | "export" | "compare", ..] => {
                format!("only check takes words that are no flags; a manifest is --file {given}")
            }
            ["stub-domains", "emit", ..] => format!("the kind of cluster DNS is --for {given}"),
            _ => return error,
        },
    };
    // The usage that goes with it shows that argument.
    if error.remove(ContextKind::SuggestedArg).is_some() {
        error.remove(ContextKind::Usage);
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    error
}
