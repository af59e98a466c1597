//! Logs: structured, to standard error; text on a terminal, JSON otherwise.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `level` is a level (`info`) or a filter (`globaldns=debug,kube=warn`).
pub fn start(level: &str, format: LogFormat) -> anyhow::Result<()> {
    // A lone word that is no level would be taken as a target's name, and silence everything else.
    let is_filter = level.contains(['=', ',']);
    anyhow::ensure!(
        is_filter || level.parse::<LevelFilter>().is_ok(),
        "--log-level {level:?} is not a level; use off, error, warn, info, debug, trace, or a filter of target=level"
    );
    // hickory-server would write two lines per reply, and kube a line per retry beside ours, without the
    // remedy. A filter that names them turns them on again.
    let filter = EnvFilter::try_new(format!("hickory_server=warn,kube_client=off,kube_runtime=off,{level}")).map_err(|error| {
        anyhow::anyhow!(
            "--log-level {level:?} is not a level or filter ({error}); use error, warn, info, debug, trace or target=level"
        )
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    if json {
        subscriber.json().init();
    } else {
        subscriber.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    }
    Ok(())
}
