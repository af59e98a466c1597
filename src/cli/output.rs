//! `-o`: how a command prints its result, with kubectl's words.

use clap::ValueEnum;
use serde::Serialize;

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Text,
    /// For people, with how it was found
    Wide,
    /// One JSON value
    Json,
    /// The same as YAML
    Yaml,
}

/// The same where there is no more to say of how it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Plain {
    /// For people
    Text,
    /// One JSON value
    Json,
    /// The same as YAML
    Yaml,
}

impl Output {
    /// The text for programs; nothing if people are to read it.
    pub(super) fn for_programs(self, value: &impl Serialize) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Output::Text | Output::Wide => None,
            Output::Json => Some(json(value)?),
            Output::Yaml => Some(yaml(value)?),
        })
    }
}

pub(super) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

pub(super) fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}
