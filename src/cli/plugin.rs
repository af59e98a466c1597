//! The name `plugin`: the program in the place of istio-coredns-plugin, beside the CoreDNS of an istiocoredns (G4).
//!
//! Called by that name it is `serve` with other defaults, and reads its arguments as Go's package `flag` does: one dash
//! or two, the value behind `=` or in the next argument.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::ArgAction;

use crate::config::ConfigError;

/// The file name of istio-coredns-plugin.
const NAME: &str = "plugin";
/// What differs from `serve`, by the names of the fields: CoreDNS has the ports 53 and 9153 of the pod.
const DEFAULTS: [(&str, &str); 3] = [("listen", "off"), ("admin_listen", "off"), ("grpc_listen", ":8053")];
/// The flags of the library by which the plugin's own libraries logged (github.com/golang/glog), and whether they take
/// a value.
const LOG_FLAGS: [(&str, bool); 7] = [
    ("alsologtostderr", false),
    ("log_backtrace_at", true),
    ("log_dir", true),
    ("logtostderr", false),
    ("stderrthreshold", true),
    ("v", true),
    ("vmodule", true),
];

/// Arguments as our own command line has them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Translated {
    /// Without the program's name.
    pub(super) arguments: Vec<String>,
    /// What has no meaning here.
    pub(super) left_out: Vec<String>,
}

/// Whether the program was called by this name.
pub(super) fn is_called(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new(NAME))
}

/// The command line with our defaults for `serve`; flags and variables win over them.
pub(super) fn with_defaults(command: clap::Command) -> clap::Command {
    command.mut_subcommand("serve", |mut serve| {
        for (id, value) in DEFAULTS {
            serve = serve.mut_arg(id, |arg| arg.default_value(value));
        }
        serve
    })
}

/// The old plugin's arguments, or those of `serve`, for `command`.
pub(super) fn translate(
    arguments: impl Iterator<Item = OsString>,
    command: &clap::Command,
) -> Result<Translated, ConfigError> {
    let mut translated = Translated { arguments: vec!["serve".to_owned()], left_out: Vec::new() };
    let mut arguments = arguments.map(|argument| {
        let refuse = |argument: OsString| refusal(&argument.to_string_lossy(), "is not UTF-8; write it anew");
        argument.into_string().map_err(refuse)
    });
    while let Some(argument) = arguments.next().transpose()? {
        let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'));
        let Some(flag) = flag.filter(|flag| !flag.is_empty() && !flag.starts_with(['-', '='])) else {
            return Err(refusal(&argument, "is no flag, and there are only flags; leave it out"));
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        match name {
            "version" => {
                translated.arguments = vec!["--version".to_owned()];
                return Ok(translated);
            }
            "h" | "help" => {
                translated.arguments.push("--help".to_owned());
                return Ok(translated);
            }
            _ => {}
        }
        let of_log = LOG_FLAGS.iter().find(|(known, _)| *known == name).map(|(_, takes_value)| *takes_value);
        let ours = || {
            let serve = command.find_subcommand("serve")?;
            let arg = serve.get_arguments().find(|arg| arg.get_long() == Some(name))?;
            Some(!matches!(arg.get_action(), ArgAction::SetTrue))
        };
        let Some(takes_value) = of_log.or_else(ours) else {
            return Err(refusal(
                &argument,
                "is a flag neither of istio-coredns-plugin nor of globaldns serve; leave it out, or see --help",
            ));
        };
        let value = match value {
            None if takes_value => {
                let next = arguments.next().transpose()?;
                Some(next.ok_or_else(|| refusal(&argument, "needs a value; write it behind a ="))?)
            }
            value => value.map(str::to_owned),
        };
        let value = match value {
            Some(value) if !takes_value => match go_bool(&value) {
                // As if it were not there.
                Some(false) if of_log.is_none() => continue,
                Some(_) if of_log.is_none() => None,
                Some(_) => Some(value),
                None => {
                    return Err(refusal(
                        &argument,
                        "has neither true nor false behind its =; write one of them, or leave out the = too",
                    ));
                }
            },
            value => value,
        };
        let text =
            |dashes: &str| value.iter().fold(format!("{dashes}{name}"), |text, value| text + "=" + value);
        if of_log.is_some() {
            translated.left_out.push(text("-"));
        } else if value.as_deref() != Some("") {
            // Empty is what all values of the old plugin were by default.
            translated.arguments.push(text("--"));
        }
    }
    Ok(translated)
}

/// A truth value as Go's `strconv.ParseBool` reads it.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Says in the log what the name has done.
pub(super) fn announce(left_out: &[String]) {
    tracing::info!(
        "called \"{NAME}\": in the place of istio-coredns-plugin, DNS over gRPC and nothing else, unless flags or \
         variables say so"
    );
    if !left_out.is_empty() {
        tracing::warn!(
            flags = left_out.join(" "),
            "flags of istio-coredns-plugin's log have no meaning here; GLOBALDNS_LOG_LEVEL says how much is logged"
        );
    }
}

fn refusal(argument: &str, why: &str) -> ConfigError {
    ConfigError(format!("{NAME}: {argument:?} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn translated(arguments: &[&str]) -> Result<Translated, String> {
        let command = super::super::Cli::command();
        translate(arguments.iter().map(OsString::from), &command).map_err(|error| error.to_string())
    }

    /// [G4]
    #[test]
    fn the_file_name_counts_wherever_it_lies() {
        for name in ["plugin", "./plugin", "/usr/local/bin/plugin"] {
            assert!(is_called(OsStr::new(name)), "{name}");
        }
        for name in ["globaldns", "/plugin/globaldns", "plugin2", "", "/"] {
            assert!(!is_called(OsStr::new(name)), "{name}");
        }
    }

    /// [G4]
    #[test]
    fn flags_are_written_as_go_reads_them() {
        let cases: [(&[&str], &[&str], &[&str]); 9] = [
            (&[], &[], &[]),
            (&["-default-address", "240.0.0.8"], &["--default-address=240.0.0.8"], &[]),
            (
                &["--default-address=240.0.0.8", "-kubeconfig=a=b"],
                &["--default-address=240.0.0.8", "--kubeconfig=a=b"],
                &[],
            ),
            // Whatever comes next is the value.
            (&["--context", "-c", "-no-rotate"], &["--context=-c", "--no-rotate"], &[]),
            (&["-kubeconfig=", "--default-address", ""], &[], &[]),
            (&["-logtostderr", "-v", "2"], &[], &["-logtostderr", "-v=2"]),
            (
                &["--logtostderr=true", "--v=2", "--stderrthreshold=INFO", "-zone", "cluster2"],
                &["--zone=cluster2"],
                &["-logtostderr=true", "-v=2", "-stderrthreshold=INFO"],
            ),
            (&["-h", "-unheard-of"], &["--help"], &[]),
            (&["--admin-listen", ":9154"], &["--admin-listen=:9154"], &[]),
        ];
        for (arguments, wanted, left_out) in cases {
            let found = translated(arguments).expect("usable arguments");
            assert_eq!(found.arguments, [&["serve"], wanted].concat(), "{arguments:?}");
            assert_eq!(found.left_out, left_out, "{arguments:?}");
        }
        assert_eq!(translated(&["--version"]).expect("usable").arguments, ["--version"]);
    }

    /// [G4]
    #[test]
    fn flags_without_a_value_take_the_truth_values_of_go() {
        for value in ["1", "t", "T", "TRUE", "true", "True"] {
            let found = translated(&[&format!("-no-rotate={value}"), "--zone=a"]).expect("usable");
            assert_eq!(found.arguments, ["serve", "--no-rotate", "--zone=a"], "{value}");
        }
        for value in ["0", "f", "F", "FALSE", "false", "False"] {
            let found = translated(&[&format!("--no-rotate={value}"), "--zone=a"]).expect("usable");
            assert_eq!(found.arguments, ["serve", "--zone=a"], "{value}");
            let found = translated(&[&format!("-logtostderr={value}")]).expect("usable");
            assert_eq!(found.left_out, [format!("-logtostderr={value}")]);
        }
        for argument in
            ["-no-rotate=", "-no-rotate=yes", "--no-rotate=tRUE", "-logtostderr=", "-logtostderr=2"]
        {
            let wanted = format!(
                "plugin: {argument:?} has neither true nor false behind its =; write one of them, or leave out the = too"
            );
            assert_eq!(translated(&[argument]), Err(wanted));
        }
    }

    /// [G4]
    #[test]
    fn arguments_that_cannot_be_meant_are_refused() {
        for (arguments, wanted) in [
            (
                &["-unheard-of"][..],
                "plugin: \"-unheard-of\" is a flag neither of istio-coredns-plugin nor of",
            ),
            (&["serve"], "plugin: \"serve\" is no flag, and there are only flags"),
            (&["-v=2", "-"], "plugin: \"-\" is no flag"),
            (&["--"], "plugin: \"--\" is no flag"),
            (&["---v"], "plugin: \"---v\" is no flag"),
            (&["-=1"], "plugin: \"-=1\" is no flag"),
            (&["-kubeconfig"], "plugin: \"-kubeconfig\" needs a value"),
        ] {
            let refused = translated(arguments).expect_err("refused");
            assert!(refused.starts_with(wanted), "{refused}");
        }
    }
}
