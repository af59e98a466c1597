//! What CoreDNS's own code makes of random Corefiles, against what we make of them.
//!
//! `CADDY_READER` is the program of tests/coredns/lexer, `CADDY_TEXTS` and `CADDY_SEED` change the texts.

use std::collections::BTreeMap;
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Deserialize;

use super::edit::tests::block;
use super::random::{mangled, named, piece, shape, shaped, soup};
use super::*;
use crate::stub::Ours;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Reading {
    tokens: Option<Vec<Word>>,
    servers: Option<Vec<Serving>>,
    error: String,
    migrated: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Word {
    text: String,
    line: usize,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Serving {
    keys: Vec<String>,
    directives: BTreeMap<String, Vec<String>>,
}

/// No variable is set where the program runs.
const PROCESS: Process<'static> = Process { port: 53, env: &|_| Some(String::new()) };

fn value(text: &str) -> String {
    key::expand(text, &PROCESS).expect("known").into_owned()
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn readings(texts: &[String]) -> Vec<Reading> {
    let program = std::env::var("CADDY_READER").expect("CADDY_READER: run tests/coredns/lexer/run");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut readings = Vec::new();
    for texts in texts.chunks(500) {
        let paths: Vec<_> = (0..texts.len()).map(|n| folder.path().join(n.to_string())).collect();
        for (path, text) in paths.iter().zip(texts) {
            std::fs::write(path, text).expect("written");
        }
        let output = Command::new(&program).args(&paths).env_clear().output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        readings.extend(lines.lines().map(|line| serde_json::from_str::<Reading>(line).expect("a reading")));
    }
    assert_eq!(readings.len(), texts.len());
    readings
}

fn serving(server: &Server<'_>) -> Serving {
    let keys = server.claims.iter().map(|claim| value(&claim.key)).collect();
    let mut directives: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for directive in &server.directives {
        let words = directives.entry(value(directive.name())).or_default();
        // The first word is kept as it is written.
        words.push(directive.name().to_owned());
        words.extend(directive.tokens[1..].iter().map(|token| value(&token.text)));
    }
    Serving { keys, directives }
}

fn edited(text: &str) -> Option<Edit> {
    edit(text, Some(&block()), &Ours::default(), &Process::default()).ok()
}

fn texts(random: &mut TestRunner, count: usize, of: impl Strategy<Value = String>) -> Vec<String> {
    (0..count).map(|_| of.new_tree(random).expect("a text").current()).collect()
}

#[test]
#[ignore = "needs Go: run tests/coredns/lexer/run"]
fn coredns_reads_what_we_read() {
    let (count, seed) = (setting("CADDY_TEXTS", 5000), setting("CADDY_SEED", 1));
    println!("CADDY_SEED={seed} CADDY_TEXTS={count}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random =
        &mut TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let whole = (prop::collection::vec(piece(), 0..6), shape())
        .prop_map(|(pieces, shape)| shaped(&named(&pieces).concat(), shape));
    let whole = texts(random, count / 4, whole);
    let broken = prop_oneof![4 => mangled(), 4 => soup(), 1 => any::<String>()];
    let broken = texts(random, count - count / 4, broken);

    let (mut alike, mut ours_alone) = (0, 0);
    let mut compare = |text: &String, reading: &Reading| {
        let words = lex(text).tokens.into_iter();
        let words: Vec<_> = words.map(|t| Word { text: t.text.into_owned(), line: t.line }).collect();
        assert_eq!(&words, reading.tokens.as_deref().unwrap_or_default(), "tokens of {text:?}");
        let Ok(file) = Corefile::parse(text, &PROCESS) else {
            ours_alone += usize::from(reading.error.is_empty());
            return;
        };
        // CoreDNS goes on only where the file is there.
        if !reading.error.contains("File to import not found") {
            assert_eq!(reading.error, "", "CoreDNS refuses {text:?}");
            let servers: Vec<_> = file.parts.servers.iter().map(serving).collect();
            assert_eq!(servers, reading.servers.as_deref().unwrap_or_default(), "servers of {text:?}");
            alike += 1;
        }
    };
    let more: Vec<_> = broken.iter().filter_map(|text| edited(text)).map(|edit| edit.text).collect();
    for texts in [&broken, &more] {
        texts.iter().zip(&readings(texts)).for_each(|(text, reading)| compare(text, reading));
    }
    let with_ours: Vec<_> = whole.iter().map(|text| edited(text).expect("an edit").text).collect();
    let mut found = 0;
    for ((text, before), after) in with_ours.iter().zip(readings(&whole)).zip(readings(&with_ours)) {
        compare(text, &after);
        // kubernetes/kubernetes#88811: unless the upgrade breaks what was there without us.
        if edited(&before.migrated).is_some() {
            let again = edited(&after.migrated).unwrap_or_else(|| panic!("{}", after.migrated));
            assert!(!again.changes() && !after.migrated.is_empty(), "{text}\nmigrated:\n{}", after.migrated);
            found += 1;
        }
    }
    println!(
        "{alike} texts read alike, {ours_alone} refused by us alone; our block found after {found} of {} migrations",
        with_ours.len()
    );
    assert!(alike > count / 4 && found > count / 20, "too few texts are Corefiles");
}
