//! `globaldns export`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::output;
use super::table::{AllNamespaces, TableArgs};
use super::{OR_FILES, without_cluster};
use crate::app;
use crate::config::ConfigError;
use crate::export::{self, Exported};
use crate::source::advertise;
use crate::telemetry::{self, LogFormat};

#[derive(Args, Debug)]
pub(super) struct Export {
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    all: AllNamespaces,

    /// What to print
    #[arg(
        long,
        short = 'o',
        visible_alias = "output",
        value_enum,
        default_value = "json",
        help_heading = "Output"
    )]
    format: Format,
    /// Write one file per zone, NAME.zone, into this directory instead of printing (with --format zone)
    #[arg(long, value_name = "DIRECTORY", help_heading = "Output")]
    output_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// RFC 1035 zone files, one per zone
    Zone,
    /// Lines for /etc/hosts
    Hosts,
    /// The table with owners
    Json,
    /// The same as YAML
    Yaml,
}

impl Export {
    pub(super) fn run(mut self) -> anyhow::Result<ExitCode> {
        telemetry::start("warn", LogFormat::Text)?;
        if self.output_dir.is_some() && self.format != Format::Zone {
            return Err(ConfigError(
                "--output-dir goes with --format zone; redirect the output instead".to_owned(),
            )
            .into());
        }
        self.table.read_once(&self.all, &[]);
        let config = self.table.config()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (exported, name_server) = runtime.block_on(async {
            let (index, access) = app::load_once(&config).await.map_err(without_cluster(OR_FILES))?;
            let name_server = match (&config.advertise_service, &access) {
                _ if !config.advertise_addresses.is_empty() => config.advertise_addresses.clone(),
                (Some(service), Some(access)) => advertise::cluster_ips_once(access, service)
                    .await
                    .with_context(|| format!("reading the Service {service}"))?,
                _ => Vec::new(),
            };
            anyhow::Ok((Exported::new(&index, config.policy.ttl, config.negative_ttl), name_server))
        })?;
        match self.format {
            Format::Json => print(&output::json(&exported)?)?,
            Format::Yaml => print(&output::yaml(&exported)?)?,
            Format::Hosts => print(&export::hosts_file(&exported))?,
            Format::Zone => {
                if name_server.is_empty() {
                    return Err(ConfigError(
                        "--format zone: a zone file must name its server's address, and none is configured; give --advertise-address, or --advertise-service of a Service with a ClusterIP".to_owned(),
                    )
                    .into());
                }
                for zone in &exported.zones {
                    let text = export::zone_file(zone, &exported, &name_server);
                    match &self.output_dir {
                        None => print(&text)?,
                        Some(directory) => {
                            let path = directory.join(format!("{}.zone", zone.zone));
                            std::fs::write(&path, text).with_context(|| {
                                format!(
                                    "writing {}; does the directory of --output-dir exist?",
                                    path.display()
                                )
                            })?;
                        }
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// To standard output. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to standard output"),
    }
}
