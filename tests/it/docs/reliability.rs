//! `docs/reliability.md` claims nothing without a test or a command that shows it.

use std::collections::BTreeSet;

use super::operations::Page;
use super::{clauses_of_the_contract, is_clause};

/// Every row of its tables of faults is a fault, what is promised with its clauses, a test or command, and what others do; and
/// what it names exists.
#[test]
fn every_row_names_clauses_and_a_test_or_command_that_exist() {
    let page = Page::read("docs/reliability.md");
    assert!(page.names_what_exists() > 20, "is the page read at all?");
    let clauses: BTreeSet<String> = clauses_of_the_contract();
    for chapter in page.text.split("\n## ").skip(1) {
        assert!(
            chapter.contains("\n|---"),
            "a chapter without a table: {}",
            chapter.lines().next().unwrap_or_default()
        );
    }
    let mut is_of_faults = false;
    for row in page.text.lines() {
        // Other tables, of tools and what they found, have other columns.
        is_of_faults = row.starts_with("| Fault |") || is_of_faults && row.starts_with('|');
        if !is_of_faults || row.starts_with("| Fault |") || row.starts_with("|---") {
            continue;
        }
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [fault, promise, shown, ..] = cells[..] else { panic!("four columns: {row}") };
        let cited: Vec<&str> =
            promise.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_clause(word)).collect();
        assert!(!cited.is_empty(), "{fault}: which clause promises that?");
        for clause in cited {
            assert!(clauses.contains(clause), "{fault}: there is no clause {clause}");
        }
        assert!(shown.contains('`'), "{fault}: what shows that?");
    }
}
