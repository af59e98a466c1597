//! The names that are served, searched and in order.
//!
//! The table has no order and keeps no copy: a search looks at all names once, without a lock, and keeps the page that was
//! asked for. That takes some 50 ms a million names and thread, so it has a budget of time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::parameters::Parameters;
use super::reply::Refused;
use crate::index::Index;
use crate::wire::name::Name;
use crate::zone::answer::{AnswersRef, Family};
use crate::zone::{Host, Table};

/// Names on a page.
const PAGE: usize = 100;
const MOST: usize = 500;
/// Addresses and owners of a name on a page.
const LISTED: usize = 8;
/// Owners of a name by itself.
const MOST_OWNERS: usize = 1_000;
/// Names between two looks at the clock.
const STEP: usize = 1 << 12;
/// How long a search may take.
pub(super) const BUDGET: Duration = Duration::from_secs(5);

/// What is searched for.
#[derive(Debug)]
pub(super) struct Search {
    /// A part of the name, in lower case.
    part: String,
    /// Its position.
    zone: Option<usize>,
    limit: usize,
    /// Only names behind this one.
    after: String,
}

/// Names in the order of their text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    names: Vec<Named>,
    /// Names that match, on all pages.
    matched: usize,
    /// How many of them come before this page.
    before: usize,
    /// The value of `after` for the next page.
    next: Option<String>,
    /// Whether the budget ended before all names were looked at.
    pub(super) truncated: bool,
}

/// One name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named {
    host: String,
    zone: String,
    ttl: u32,
    a: Vec<IpAddr>,
    aaaa: Vec<IpAddr>,
    /// All addresses, also those that are not listed here.
    address_count: usize,
    owners: Vec<String>,
    owner_count: usize,
    #[serde(skip)]
    kept: Option<Host>,
}

impl Search {
    pub(super) fn read(mut parameters: Parameters, index: &Index) -> Result<Search, Refused> {
        let zones = index.table().zones();
        let zone = parameters.text("zone")?.map(|text| {
            let name = Name::parse(text.trim_end_matches('.')).ok();
            match name.and_then(|name| zones.iter().find(|zone| *zone.apex() == name)) {
                Some(zone) => Ok(zone.index()),
                None => {
                    let all: Vec<_> = zones.iter().map(|zone| zone.apex().to_string()).collect();
                    let remedy = format!("give one of {}", all.join(", "));
                    Err(Refused::parameter("zone", &text, "it is none of the zones", remedy))
                }
            }
        });
        let part = parameters.text("search")?.unwrap_or_default();
        if part.len() > 253 {
            return Err(Refused::parameter(
                "search",
                &part,
                "no name is as long as that",
                "give at most 253 octets",
            ));
        }
        let search = Search {
            part: part.to_ascii_lowercase(),
            zone: zone.transpose()?,
            limit: parameters.number("limit", 1..=MOST, PAGE)?,
            after: parameters.text("after")?.unwrap_or_default(),
        };
        parameters.done(&["search", "zone", "limit", "after"])?;
        Ok(search)
    }

    /// Looks at all names, within the budget.
    pub(super) fn run(&self, index: &Index, budget: Duration) -> Page {
        let mut page = self.page(index.table(), budget);
        let hosts: Vec<Host> = page.names.iter_mut().filter_map(|named| named.kept.take()).collect();
        for (named, owners) in page.names.iter_mut().zip(index.owners_of(&hosts)) {
            named.owned_by(owners, LISTED);
        }
        page
    }

    fn page(&self, table: &Table, budget: Duration) -> Page {
        let begun = Instant::now();
        let mut first: BTreeMap<String, Named> = BTreeMap::new();
        let (mut looked, mut matched, mut before) = (0, 0, 0);
        let mut text = String::with_capacity(256);
        let ended = table.visit(|host, answers| {
            if looked % STEP == 0 && begun.elapsed() >= budget {
                return ControlFlow::Break(());
            }
            looked += 1;
            host.write_to(&mut text);
            // A name belongs to the longest of the zones it ends in (Z3).
            let in_zone = self.zone.is_none_or(|zone| host.zone().index() == zone);
            if !in_zone || !text.contains(&self.part) {
                return ControlFlow::Continue(());
            }
            matched += 1;
            if *text <= *self.after {
                before += 1;
            } else if first.len() < self.limit || first.last_key_value().is_some_and(|(last, _)| text < *last)
            {
                let mut named = Named::new(text.clone(), host.zone().apex().to_string(), answers, LISTED);
                named.kept = Some(host.to_host());
                first.insert(text.clone(), named);
                if first.len() > self.limit {
                    first.pop_last();
                }
            }
            ControlFlow::Continue(())
        });
        let truncated = ended.is_break();
        let more = !truncated && matched > before + first.len();
        let next = first.last_key_value().filter(|_| more).map(|(last, _)| last.clone());
        Page { names: first.into_values().collect(), matched, before, next, truncated }
    }
}

/// A host as an entry writes it.
pub(super) fn host(field: &'static str, text: &str) -> Result<Host, Refused> {
    let plain = text.strip_prefix("*.").unwrap_or(text);
    let name = Name::parse(plain.trim_end_matches('.')).map_err(|error| {
        let remedy = "give a name such as a.example.global, or a wildcard such as *.example.global";
        Refused::parameter(field, text, error.to_string(), remedy)
    })?;
    Ok(Host { name, wildcard: plain.len() < text.len() })
}

impl Named {
    fn new(host: String, zone: String, answers: AnswersRef<'_>, listed: usize) -> Named {
        let of = |family| answers.addresses(family).take(listed).collect();
        Named {
            host,
            zone,
            ttl: answers.ttl(),
            a: of(Family::V4),
            aaaa: of(Family::V6),
            address_count: answers.v4().len() + answers.v6().len(),
            owners: Vec::new(),
            owner_count: 0,
            kept: None,
        }
    }

    fn owned_by(&mut self, owners: Vec<crate::entry::EntryId>, listed: usize) {
        self.owner_count = owners.len();
        self.owners = owners.iter().take(listed).map(ToString::to_string).collect();
    }

    /// One host, whole.
    pub(super) fn find(index: &Index, text: &str) -> Result<Named, Refused> {
        let host = host("name", text)?;
        let found = index.table().with_host(&host, |zone, answers| {
            Named::new(host.to_string(), zone.apex().to_string(), answers, usize::MAX)
        });
        let mut named = found.ok_or_else(|| {
            Refused::new(
                axum::http::StatusCode::NOT_FOUND,
                "name",
                text,
                "no host of exactly this name has answers",
                "ask explain?name=… why; names?search=… finds those that are alike",
            )
        })?;
        named.owned_by(index.owners(&host), MOST_OWNERS);
        Ok(named)
    }
}
