//! Real CoreDNS servers of several versions judge Corefiles: those of `corpus/`, as they are and edited.
//!
//! `tests/coredns/run` provides the servers and runs everything here; without it the tests are ignored.
#![allow(missing_docs)]

mod compare;
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod coredns;
mod corpus;
#[path = "../e2e/dns.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod dns;
mod judge;
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod pod;
#[path = "../e2e/process.rs"]
mod process;
#[path = "../e2e/wait.rs"]
mod wait;

use std::fs;

use globaldns::stub::corefile::{Block, Corefile, Process, edit};
use globaldns::stub::{Ours, Refusal, Stub};
use globaldns::wire::name::Name;

use corpus::{Case, Refused};
use judge::{Version, for_each, versions};

fn stub() -> Stub {
    let zones = ["global", "cluster2", judge::REVERSE].map(|zone| Name::parse(zone).expect("a zone"));
    Stub::new(zones, [coredns::dns_port(judge::OUR_SERVICE)]).expect("a stub domain")
}

/// What a pod's CoreDNS adds to its Corefile.
fn process() -> Process<'static> {
    let variable = |name: &str| {
        let found = coredns::VARIABLES.iter().find(|(known, _)| *known == name);
        Some(found.map_or_else(String::new, |(_, value)| (*value).to_owned()))
    };
    Process { env: Box::leak(Box::new(variable)), ..Process::default() }
}

/// The text with our block, as the server for `.` in it listens.
fn edited(text: &str) -> Result<String, Refusal> {
    let process = process();
    let file = Corefile::parse(text, &process)?;
    let bind = file.root_bind()?;
    let block = Block { bind, ..Block::new(stub(), file.root_port().unwrap_or(53)) };
    edit(text, Some(&block), &Ours::default(), &process).map(|edit| edit.text)
}

/// What somebody who does not look would write.
fn blindly_edited(text: &str) -> String {
    let separator = if text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{separator}{}", Block::new(stub(), 53))
}

#[test]
fn every_corefile_can_be_edited_and_restored() {
    for case in corpus::cases() {
        let (name, text) = (&case.name, case.text());
        let with = edited(&text).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert!(with.starts_with(&text), "{name}: what was there is there: {with}");
        assert_eq!(edited(&with).as_ref(), Ok(&with), "{name}: a second time");
        let without = edit(&with, None, &Ours::default().with(&stub()), &process());
        assert_eq!(without.map(|edit| edit.text), Ok(text), "{name}: without ours");
    }
}

#[test]
fn corefiles_to_be_refused_are_refused_for_the_reason_and_at_the_line_of_the_table() {
    let wrong =
        corpus::refused().into_iter().filter_map(|Refused { case, at: (file, line), kind, .. }| {
            let text = match file.as_str() {
                "" => case.text(),
                file => fs::read_to_string(case.beside.join(file)).expect("read what is imported"),
            };
            match edited(&text) {
                Err(refusal) if refusal.kind == kind && refusal.place == format!("line {line}") => None,
                Err(refusal) => Some(format!("{}: {:?}: {refusal}", case.name, refusal.kind)),
                Ok(_) => Some(format!("{}: edited", case.name)),
            }
        });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
#[ignore = "needs several CoreDNS: run tests/coredns/run"]
fn every_corefile_starts_as_it_is_and_forwards_our_zones_when_edited() {
    let cases = corpus::cases();
    assert!(cases.len() >= 40, "{} Corefiles", cases.len());
    // One file, for whoever writes it.
    let wanted = std::env::var("COREFILE").unwrap_or_default();
    let versions = versions();
    let pairs: Vec<(&Case, &Version)> = cases
        .iter()
        .flat_map(|case| versions.iter().map(move |version| (case, version)))
        .filter(|(case, _)| case.name.contains(&wanted))
        .collect();
    let count = pairs.len();
    for_each(pairs, |judge, (case, version)| {
        let text = case.text();
        judge.put(&case.beside, &text);
        let as_it_is = judge.start(version, case.at).map(drop);
        if !case.starts_with(version.number) {
            return as_it_is.err().map(drop).ok_or_else(|| "starts with it".to_owned());
        }
        as_it_is.map_err(|error| format!("as it is: {error}"))?;
        judge.put(&case.beside, &edited(&text).map_err(|refusal| refusal.to_string())?);
        let mut running = judge.start(version, case.at).map_err(|error| format!("edited: {error}"))?;
        running.forwards()
    });
    println!("{count} pairs of {} Corefiles and {} versions", cases.len(), versions.len());
}

#[test]
#[ignore = "needs several CoreDNS: run tests/coredns/run"]
fn corefiles_to_be_refused_would_not_serve_us_after_an_edit() {
    let versions = versions();
    let refused = corpus::refused();
    let pairs: Vec<(&Refused, &Version)> = refused
        .iter()
        .flat_map(|refused| versions.iter().map(move |version| (refused, version)))
        .filter(|(refused, version)| refused.case.starts_with(version.number))
        .collect();
    for_each(pairs, |judge, (refused, version)| {
        let case = &refused.case;
        let text = case.text();
        judge.put(&case.beside, &text);
        let as_it_is = judge.start(version, case.at).map(drop);
        if as_it_is.is_ok() != refused.starts {
            return Err(format!("as it is: {as_it_is:?}"));
        }
        // What a refusal spares the cluster.
        judge.put(&case.beside, &blindly_edited(&text));
        match judge.start(version, case.at) {
            Err(_) => Ok(()),
            Ok(mut running) => match running.forwards() {
                Err(_) => Ok(()),
                Ok(()) => Err("could have been edited".to_owned()),
            },
        }
    });
}
