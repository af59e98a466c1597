//! The oracle: NSD, which knows nothing of us, loads our exported zones and must give our answers.
//!
//! `ORACLE_SEED`, `ORACLE_TABLES` and `ORACLE_QUERIES` (per table) change the run. What a seed asks is the
//! same everywhere; with the seed a failure names and `ORACLE_TABLES=1` its table runs alone.

mod compare;
mod kind;
mod question;
mod random;
mod reply;
mod servers;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use compare::{Clause, Comparison, Verdict};
use kind::Kind;
use question::Question;
use random::Random;
use reply::Reply;
use servers::{Server, export};
use table::Table;

const SEED: u64 = 20_240_229;
const TABLES: u64 = 20;
const QUERIES: u64 = 1000;
/// Below this many queries a run need not reach every [`Kind`].
const ENOUGH: u64 = 20_000;
/// So many replies of every [`Kind`] are reached.
const FEW: u64 = 20;
/// How many wrong replies are printed.
const SHOWN: usize = 10;

/// The same answers as NSD's, or a difference that a clause asks for.
///
/// [A6] [D1] [D2] [D3] [D4] [D5] [D7] [D8] [D10] [D12] [D13] [D15] [D17] [D22] [D23] [H3] [Z3]
#[test]
#[ignore = "needs NSD: run tests/oracle/run"]
fn nsd_serves_our_zones_as_we_do() {
    let seed = setting("ORACLE_SEED", SEED);
    let tables = setting("ORACLE_TABLES", TABLES);
    let queries = setting("ORACLE_QUERIES", QUERIES);
    println!("oracle: ORACLE_SEED={seed} ORACLE_TABLES={tables} ORACLE_QUERIES={queries}");
    let mut tally = Tally::default();
    for nth in 0..tables {
        // A table's own seed, so that one of many can be run alone.
        let table_seed = seed.wrapping_add(nth);
        let table = run(table_seed, queries, &mut tally);
        println!(
            "seed {table_seed}: {} hosts in {} zones; {} of {} replies wrong so far",
            table.hosts.len(),
            table.zones.len(),
            tally.wrong.len(),
            tally.queries
        );
    }
    tally.print();
    for wrong in tally.wrong.iter().take(SHOWN) {
        println!("{wrong}");
    }
    assert!(tally.wrong.is_empty(), "{} replies differ from NSD's without a clause", tally.wrong.len());
    if tally.queries >= ENOUGH {
        tally.assert_reached();
    }
}

fn run(seed: u64, queries: u64, tally: &mut Tally) -> Table {
    let mut random = Random::new(seed);
    let table = Table::random(&mut random);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let [entries, zones] = ["entries", "zones"].map(|name| directory.path().join(name));
    for path in [&entries, &zones] {
        std::fs::create_dir(path).expect("a directory can be made");
    }
    table.write(&entries).expect("the entries can be written");
    export(&table, &entries, &zones);
    for zone in table.all_zones() {
        let (exported, expected) = (exported_lines(zone, &zones), table.lines(zone));
        let differing: Vec<_> = exported.symmetric_difference(&expected).take(SHOWN).collect();
        assert!(
            differing.is_empty(),
            "seed {seed}: the zone file of {zone} and its entries differ in {differing:#?}"
        );
    }
    let mut ours = Server::globaldns(&table, &entries);
    let mut theirs = Server::nsd(&table, &zones);
    for nth in 0..queries {
        let question = Question::random(&table, &mut random);
        let query = question.octets(random.next() as u16);
        let replies = (ours.ask(&question, &query), theirs.ask(&question, &query));
        let verdict = match &replies {
            (Ok(ours), Ok(reference)) => {
                for kind in Kind::of(&table, &question, ours) {
                    *tally.reached.entry(kind).or_default() += 1;
                }
                let whole = |rtype| {
                    let question = question.whole(rtype);
                    theirs.ask(&question, &question.octets(0)).expect("NSD answers over TCP").view()
                };
                let comparison =
                    Comparison { table: &table, question: &question, query: &query, ours, theirs: reference };
                comparison.judge(whole)
            }
            _ => Verdict::Wrong("a reply is missing or broken".to_owned()),
        };
        tally.queries += 1;
        match verdict {
            Verdict::Same => tally.same += 1,
            Verdict::Justified(clause, what) => {
                *tally.justified.entry(clause).or_default().entry(what).or_default() += 1;
            }
            Verdict::Wrong(why) => {
                let (ours, theirs) = (shown(&replies.0), shown(&replies.1));
                let dig = question.dig();
                tally.wrong.push(format!(
                    "\nseed {seed}, query {nth}: {why}\n; <<>> {dig}\n; globaldns:\n{ours}; NSD:\n{theirs}"
                ));
            }
        }
    }
    table
}

/// The lines of an exported zone file, but for SOA, comments and directives.
fn exported_lines(zone: &str, directory: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(directory.join(format!("{zone}.zone"))).expect("the zone is exported");
    let lines = text.lines().filter(|line| !line.starts_with([';', '$']) && !line.contains(" IN SOA "));
    lines.map(str::to_owned).collect()
}

fn shown(reply: &Result<Reply, String>) -> String {
    match reply {
        Ok(reply) => reply.to_string(),
        Err(error) => format!("{error}\n"),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")),
        Err(_) => default,
    }
}

#[derive(Default)]
struct Tally {
    queries: u64,
    same: u64,
    justified: BTreeMap<Clause, BTreeMap<String, u64>>,
    reached: BTreeMap<Kind, u64>,
    wrong: Vec<String>,
}

impl Tally {
    fn print(&self) {
        println!("\nreplies compared{:>11}\n  the same{:>17}", self.queries, self.same);
        println!("  wrong{:>20}", self.wrong.len());
        println!("differences that a clause of the contract justifies");
        for clause in Clause::ALL {
            let differences = self.justified.get(&clause).into_iter().flatten();
            let count: u64 = differences.clone().map(|(_, count)| count).sum();
            println!("  {count:>6}  {}", clause.difference());
            for (what, count) in differences {
                println!("        {count:>6}  {what}");
            }
        }
        println!("what the replies were (one can be several)");
        for kind in Kind::ALL {
            println!("  {:>6}  {kind:?}", self.reached.get(&kind).copied().unwrap_or_default());
        }
    }

    fn assert_reached(&self) {
        for kind in Kind::ALL {
            let count = self.reached.get(&kind).copied().unwrap_or_default();
            assert!(count >= FEW, "only {count} replies were {kind:?}: the run proves too little");
        }
    }
}
