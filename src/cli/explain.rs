//! `globaldns explain`.

mod remote;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::export::print;
use super::output::{self, Plain};
use super::table::{AllNamespaces, TableArgs};
use super::{OR_FILES, without_cluster};
use crate::app;
use crate::config::{ConfigError, TableConfig};
use crate::explain::{self, Explanation, Forwarding, Question, Subject};
use crate::serve::responder::{Responder, Settings};
use crate::source::advertise::{self, ServiceName};
use crate::source::cluster::Access;
use crate::stub::plan::{Outcome, plan};
use crate::stub::survey::Survey;
use crate::stub::{DNS_PORT, Ours, Stub, layout};
use crate::telemetry::{self, LogFormat};

#[derive(Args, Debug)]
pub(super) struct Explain {
    /// The name that does not resolve, or does
    #[arg(value_name = "NAME")]
    name: String,
    /// A type to ask for, such as A, AAAA, TXT or TYPE65; repeatable [default: A and AAAA]
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// How it is printed
    #[arg(long, short, value_enum, default_value = "text")]
    output: Plain,
    /// Ask a running server, at the URL of its admin listener, or at NAMESPACE/SERVICE or NAMESPACE/SERVICE:PORT through
    /// the API server; files and flags of the table are not used then
    #[arg(long, value_name = "URL", help_heading = "Sources")]
    server: Option<String>,
    #[command(flatten)]
    table: TableArgs,
    #[command(flatten)]
    all: AllNamespaces,
}

impl Explain {
    pub(super) fn run(mut self) -> anyhow::Result<ExitCode> {
        self.table.read_once(&self.all, &[]);
        telemetry::start("error", LogFormat::Text)?;
        let question =
            Question::new(&self.name, &self.types).map_err(|error| ConfigError(format!("--type {error}")))?;
        if self.server.is_some() {
            self.table.leave_out_files()?;
        }
        let config = self.table.config()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let explained = runtime.block_on(async {
            match &self.server {
                Some(server) => remote::ask(server, &self.name, &self.types, &config).await,
                None => Ok(serde_json::to_value(here(&config, &question).await?)?),
            }
        });
        // A credential plugin that hangs must not hold the exit.
        runtime.shutdown_background();
        let explained = explained?;
        match self.output {
            Plain::Json => print(&output::json(&explained)?)?,
            Plain::Yaml => print(&output::yaml(&explained)?)?,
            Plain::Text => {
                let explanation: Explanation = serde_json::from_value(explained.clone()).context(
                    "reading the reply: the server is of another version; use its version of globaldns, or --output json",
                )?;
                print(&explain::text(&explanation))?;
            }
        }
        let resolves = explained.get("resolves").and_then(Value::as_bool).unwrap_or(false);
        Ok(if resolves { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// From files, or a cluster that is listed once.
async fn here(config: &TableConfig, question: &Question) -> anyhow::Result<Explanation> {
    let (index, access) = app::load_once(config).await.map_err(without_cluster(OR_FILES))?;
    let service = match (&config.advertise_service, &access) {
        (Some(service), Some(access)) if config.advertise_addresses.is_empty() => {
            advertise::cluster_ips_once(access, service).await.unwrap_or_default()
        }
        _ => config.advertise_addresses.clone(),
    };
    let settings = Settings {
        ttl: config.policy.ttl,
        negative_ttl: config.negative_ttl,
        rotate: false,
        nsid: Vec::new(),
    };
    let responder = Responder::new(index.table().clone(), settings, service);
    let (services, budget) = (config.rules.services, explain::BUDGET);
    let subject = Subject { index: &index, responder: &responder, serving: false, services, budget };
    let mut explanation = explain::explain(&subject, question);
    if let Some(zone) = explanation.zone.as_ref().map(|zone| zone.name.clone()) {
        explanation.forwarding = Some(match &access {
            None => {
                Forwarding::unknown(&zone, "what clients ask was not looked at, as no cluster is contacted")
            }
            Some(access) => forwarding(config, access, &zone).await.unwrap_or_else(|error| {
                Forwarding::unknown(&zone, &format!("what clients ask could not be looked at ({error:#})"))
            }),
        });
    }
    Ok(explanation)
}

/// What cluster DNS makes of our zones. Reads, and writes nothing.
async fn forwarding(config: &TableConfig, access: &Access, zone: &str) -> anyhow::Result<Forwarding> {
    let servers = if config.advertise_addresses.is_empty() {
        let service = config.advertise_service.clone().unwrap_or_else(ServiceName::usual);
        advertise::cluster_ips_once(access, &service)
            .await
            .with_context(|| format!("reading the Service {service}; --advertise-service names another"))?
    } else {
        config.advertise_addresses.clone()
    };
    let servers: Vec<_> = servers.into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT)).collect();
    let plain = Stub::new(config.zones.clone(), servers.clone())?;
    let whole = Stub::new([&config.zones[..], &config.reverse].concat(), servers)?;
    let survey = Survey::read_for(&access.client()?, Some(&whole)).await?;
    let ours = Ours::default().with(&whole);
    let planned = |stub: &Stub| -> Vec<_> {
        let layers = layout::layers(&survey).into_iter();
        layers.map(|layer| plan(&survey, layer, Some(stub), &ours, false)).collect()
    };
    let mut of_whole = planned(&whole);
    if config.zones.iter().any(|own| own.to_string() == zone) {
        // Reverse zones that do not lead here are another question.
        for (whole, plain) in of_whole.iter_mut().zip(planned(&plain)) {
            if matches!(plain.outcome, Outcome::InPlace) {
                *whole = plain;
            }
        }
    }
    Ok(Forwarding::of(&of_whole, zone))
}
