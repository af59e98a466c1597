//! Commands and flags. Every flag of `serve` has an environment variable `GLOBALDNS_<FLAG>`; the flag wins
//! (X0). No flag is called `--port…` or `--service-…`: Kubernetes injects such variables for a Service
//! called globaldns.

mod called;
mod check;
mod clients;
mod compare;
mod explain;
mod export;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
mod hints;
mod insight;
mod output;
mod pages;
mod plugin;
mod serve;
mod stub_domains;
mod table;
mod value;

use std::panic::PanicHookInfo;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::ConfigError;
use crate::serve::cookies::SecretsError;
use crate::serve::listen::ListenError;
use crate::serve::tls::CertificateError;
use crate::source::cluster::AccessError;
use crate::source::files::LoadError;
use crate::{panics, telemetry};

/// Bad usage or configuration (X1).
const USAGE: u8 = 2;

const ABOUT: &str =
    "Authoritative DNS for *.global and *.<cluster>: answers the hosts of Istio ServiceEntries";

#[derive(Debug, Parser)]
#[command(name = "globaldns", version = version(), about = ABOUT, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer DNS queries from ServiceEntries in files or a cluster
    Serve(Box<serve::Serve>),
    /// Say why a name resolves, or does not, and what to do
    Explain(Box<explain::Explain>),
    /// Print the name table as zone files, a hosts file or JSON, and end
    Export(Box<export::Export>),
    /// Ask an old and a new server the same questions, and explain the differences
    Compare(Box<compare::Compare>),
    /// Find what is wrong with ServiceEntries, in manifests or a cluster
    Check(Box<check::Check>),
    /// The configuration that makes cluster DNS send our zones here
    StubDomains(Box<stub_domains::StubDomains>),
    /// Print a script by which a shell completes this command line
    Completion(pages::Completion),
    /// Write a man page for each command
    Man(pages::Man),
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("GLOBALDNS_COMMIT"), ")")
}

/// The command line as it is parsed: for documents to be held against.
pub fn command() -> clap::Command {
    let hide = |command: clap::Command, id: &str| {
        command.mut_arg(id, |arg| arg.hide(true).env(None::<&'static str>))
    };
    Cli::command().mut_subcommand("check", |check| check::WITHOUT_EFFECT.into_iter().fold(check, hide))
}

/// Parses the command line and runs the command to its exit code (X1).
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(Some(cli)) => cli,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return fail(&error),
    };
    // Both ring and another provider may be linked one day; rustls must not have to choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    panics::install(end);
    let result = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::StubDomains(command) => command.run(),
        Command::Completion(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    let code = match result {
        Ok(code) => code,
        Err(error) => fail(&error),
    };
    telemetry::finish();
    code
}

fn fail(error: &anyhow::Error) -> ExitCode {
    telemetry::say(format!("{}: {error:#}", called::name()));
    ExitCode::from(if is_usage(error) { USAGE } else { 1 })
}

/// The command line, unless only completions were asked for; what clap refuses ends the program here (X1).
fn parse() -> anyhow::Result<Option<Cli>> {
    let command = without_empty_variables(command());
    let cli = |matches: &ArgMatches| Cli::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let refuse = |error: clap::Error| -> ArgMatches { hints::with_hint(error, &words).exit() };
    if called::learn(&program) {
        export::print(&called::completions(called::named(command), arguments.collect())?)?;
        return Ok(None);
    }
    if !plugin::is_called(&program) {
        return Ok(Some(cli(&called::named(command).try_get_matches().unwrap_or_else(refuse))));
    }
    let plugin::Translated { arguments, left_out } = plugin::translate(arguments, &command)?;
    let arguments = std::iter::once("globaldns".to_owned()).chain(arguments);
    let mut cli = cli(&plugin::with_defaults(command).get_matches_from(arguments));
    if let Command::Serve(serve) = &mut cli.command {
        serve.left_out = Some(left_out);
    }
    Ok(Some(cli))
}

/// A panic that nobody contains must not leave a program behind that looks alive and does nothing: whoever runs us
/// restarts us.
fn end(panic: &PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    telemetry::say(format!(
        "globaldns: {panic}; this is a fault of globaldns, please report it\n{backtrace}"
    ));
    std::process::abort();
}

/// An empty variable is an unset one: that is what an empty value in a manifest means (X0).
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        arg.get_env().is_some_and(|name| std::env::var_os(name).is_some_and(|value| value.is_empty()))
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(None::<&'static str>) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// What a command can be given in the place of a cluster, if there is none.
fn without_cluster(other: &'static str) -> impl Fn(anyhow::Error) -> anyhow::Error {
    move |error| match error.downcast::<AccessError>() {
        Ok(access) => access.with(other).into(),
        Err(error) => error,
    }
}

/// [`without_cluster`] of a command that can read files.
const OR_FILES: &str = ", or name files with --file";

fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>()
        || error.is::<LoadError>()
        || error.is::<AccessError>()
        || error.is::<ListenError>()
        || error.is::<SecretsError>()
        || error.is::<CertificateError>()
}
