//! Words that people and old Deployments give us: arguments as Go reads them (G4), and lines of names to compare (K1).
//! Refused with a text that is safe to print, or read to what can be asked.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use hickory_proto::rr::Name as HickoryName;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::{Cli, CommandFactory, compare, plugin};
use crate::compare::questions::Plan;
use crate::testing::Octets;
use crate::wire::name::Name;
use crate::zone::Zones;

const WORDS: [&str; 32] = [
    "-kubeconfig",
    "--kubeconfig=/a",
    "-kubeconfig=",
    "-context",
    "-default-address",
    "240.0.0.8",
    "--default-address=240.0.0.8",
    "-v",
    "2",
    "-v=2",
    "-logtostderr",
    "-logtostderr=true",
    "--logtostderr=no",
    "-vmodule=a=2",
    "-zone",
    "--zone=global",
    "-no-rotate",
    "--no-rotate=false",
    "-no-rotate=T",
    "--listen=:53",
    "-grpc-listen",
    ":8053",
    "--",
    "-",
    "---v",
    "-=1",
    "serve",
    "-h",
    "--help=1",
    "--version",
    "",
    "=",
];

/// Makes arguments or lines of octets, and panics where what is read of them breaks a rule.
pub(crate) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    match octets.below(2) {
        0 => arguments(&mut octets),
        _ => names(&String::from_utf8_lossy(octets.rest())),
    }
}

fn is_safe(text: &str) {
    assert!(!text.chars().any(|c| c.is_control()), "{text:?}");
}

fn arguments(octets: &mut Octets<'_>) {
    static COMMAND: OnceLock<clap::Command> = OnceLock::new();
    let command = COMMAND.get_or_init(|| plugin::with_defaults(Cli::command()));
    let words: Vec<OsString> = (0..octets.below(8))
        .map(|_| match octets.below(8) {
            7 => {
                let length = octets.below(32);
                OsString::from_vec(octets.many(length))
            }
            6 => octets.text().into(),
            _ => octets.pick(&WORDS).into(),
        })
        .collect();
    let translate = |words: Vec<OsString>| plugin::translate(words.into_iter(), command);
    match translate(words.clone()) {
        Err(refused) => is_safe(&refused.to_string()),
        Ok(translated) => {
            // One dash or two are the same to Go.
            let respelled = words.iter().map(|word| match word.to_str() {
                Some(text) if text.starts_with("--") => text[1..].into(),
                _ => word.clone(),
            });
            let is_value = |word: &OsString| word.to_str().is_some_and(|text| text.starts_with("--"));
            if let Ok(again) = translate(respelled.collect())
                && !translated.arguments.iter().any(|argument| {
                    argument.split_once('=').is_some_and(|(_, value)| is_value(&value.into()))
                })
                && !translated.left_out.iter().any(|flag| flag.contains("=--"))
            {
                assert_eq!(again, translated, "{words:?}");
            }
            let flags = || translated.arguments[1..].iter();
            let serve = command.find_subcommand("serve").expect("a subcommand");
            for flag in flags() {
                let name = flag.strip_prefix("--").expect("a flag");
                let name = name.split_once('=').map_or(name, |(name, _)| name);
                let known = serve.get_arguments().any(|arg| arg.get_long() == Some(name));
                assert!(known || name == "help", "{flag}");
                assert!(!flag.ends_with('=') || flag.matches('=').count() > 1, "{flag}");
            }
            assert!(translated.arguments == ["--version"] || translated.arguments[0] == "serve");
        }
    }
}

fn names(text: &str) {
    let name = |text: &str| Name::parse(text).expect(text);
    let zones = Zones::new(vec![name("global"), name("eu.global")], name("cluster.local"), 0).expect("zones");
    let mut plan = Plan::new(&zones, vec![1, 28]);
    for line in text.lines() {
        match compare::read_name("--names file:1:", line) {
            Err(refused) => is_safe(&refused.to_string()),
            Ok(None) => assert!(line.split('#').next().is_some_and(|line| line.trim().is_empty())),
            Ok(Some(listed)) => {
                if let Err(error) = plan.add(&listed.name, &listed.types) {
                    is_safe(&format!("{:?} is no name: {error}", listed.name));
                }
            }
        }
    }
    plan.add_derived(&name("cluster.local"));
    let (subjects, _) = plan.finish();
    for question in subjects.iter().flat_map(|subject| subject.questions()) {
        let wire = question.wire();
        let mut decoder = BinDecoder::new(&wire);
        let asked = HickoryName::read(&mut decoder).expect("a name");
        assert!(decoder.is_empty());
        let labels: Vec<&[u8]> = asked.iter().collect();
        assert_eq!(labels.join(&b'.'), question.spelling.trim_end_matches('.').as_bytes());
        assert_eq!(wire.to_ascii_lowercase(), question.name.wire());
    }
}
