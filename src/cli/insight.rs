//! The flags of chapter I.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::clients::Switch;
use super::value::number;
use crate::config::ConfigError;
use crate::insight::Settings;
use crate::insight::query_log::{self, MOST_RATE, MOST_SAMPLE};
use crate::insight::tap::Wants;

#[derive(Args, Debug)]
pub(super) struct InsightArgs {
    /// Keep lists of the names, suffixes without names and clients that are most frequent: off, on
    #[arg(
        long,
        env = "GLOBALDNS_TOP_LISTS",
        value_name = "SWITCH",
        value_enum,
        default_value = "on",
        help_heading = "Insight"
    )]
    top_lists: Switch,
    /// Log queries, a JSON object a line: off, failures (any other code than NOERROR), sampled, all
    #[arg(
        long,
        env = "GLOBALDNS_QUERY_LOG",
        value_name = "QUERIES",
        value_enum,
        default_value = "off",
        help_heading = "Insight"
    )]
    query_log: Queries,
    /// With --query-log sampled: one query in so many is logged
    #[arg(
        long, env = "GLOBALDNS_QUERY_LOG_SAMPLE", value_name = "NUMBER", default_value_t = 100,
        value_parser = number::<u32>(1..=MOST_SAMPLE), help_heading = "Insight"
    )]
    query_log_sample: u32,
    /// The most lines of the query log in a second; further ones are left out and counted
    #[arg(
        long, env = "GLOBALDNS_QUERY_LOG_RATE", value_name = "NUMBER", default_value_t = 1000,
        value_parser = number::<u32>(1..=MOST_RATE), help_heading = "Insight"
    )]
    query_log_rate: u32,
    /// Where the query log goes: a file, which is opened again when it was moved away, or - for standard output
    #[arg(
        long,
        env = "GLOBALDNS_QUERY_LOG_OUTPUT",
        value_name = "PATH",
        default_value = "-",
        help_heading = "Insight"
    )]
    query_log_output: PathBuf,
}

/// `--query-log`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Queries {
    Off,
    Failures,
    Sampled,
    All,
}

impl InsightArgs {
    pub(super) fn config(self) -> Result<Settings, ConfigError> {
        if self.query_log_output.as_os_str().is_empty() {
            return Err(ConfigError(
                "--query-log-output is empty; name a file, or - for standard output".to_owned(),
            ));
        }
        if matches!(self.query_log, Queries::Off) && self.query_log_output.as_os_str() != "-" {
            return Err(ConfigError(format!(
                "--query-log-output {} is of no use while --query-log is off; add --query-log failures, sampled or all, or \
                 leave the file out",
                self.query_log_output.display()
            )));
        }
        let wants = match self.query_log {
            Queries::Off => None,
            Queries::Failures => Some(Wants::Failures),
            Queries::Sampled => Some(Wants::OneIn(self.query_log_sample)),
            Queries::All => Some(Wants::All),
        };
        let output = (self.query_log_output.as_os_str() != "-").then_some(self.query_log_output);
        let rate = self.query_log_rate;
        let query_log = wants.map(|wants| query_log::Settings { wants, rate, output });
        Ok(Settings { top_lists: self.top_lists == Switch::On, query_log })
    }
}
