//! What people who come from other programs type, and what they mean.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Flags of CoreDNS, kubectl and others, and ours.
const KNOWN: [(&str, &str); 9] = [
    ("--port", "the address and port to answer on are --listen, such as --listen :5353"),
    ("--dns", "the address and port to answer on are --listen, such as --listen :5353"),
    ("--bind", "the address and port to answer on are --listen, such as --listen :5353"),
    ("--conf", "there is no configuration file: flags and variables GLOBALDNS_… say everything"),
    ("-c", "there is no configuration file: flags and variables GLOBALDNS_… say everything"),
    ("--config", "there is no configuration file: flags and variables GLOBALDNS_… say everything"),
    ("--filename", "manifests are named with --file, and behind check without a flag"),
    ("-f", "manifests are named with --file, and behind check without a flag"),
    ("--all-namespaces", "all namespaces are read unless --namespace names some"),
];

/// A remedy where the parser knows none, for who has typed these words.
pub(super) fn with_hint(mut error: Error, words: &[String]) -> Error {
    if error.kind() != ErrorKind::UnknownArgument || error.get(ContextKind::SuggestedArg).is_some() {
        return error;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return error };
    let name = given.split(['=', '.']).next().unwrap_or_default();
    let known =
        KNOWN.iter().find(|(flag, _)| *flag == name || (!flag.starts_with("--") && name.starts_with(flag)));
    let hint = match known {
        Some((_, hint)) => (*hint).to_owned(),
        None if given.starts_with('-') || given.is_empty() => return error,
        None => match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["serve" | "export" | "compare", ..] => {
                format!("only check takes words that are no flags; a manifest is --file {given}")
            }
            ["stub-domains", "emit", ..] => format!("the kind of cluster DNS is --for {given}"),
            _ => return error,
        },
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    error
}
