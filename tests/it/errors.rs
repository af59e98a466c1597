//! docs/errors.md: what people get wrong, and what they are told.
//!
//! `UPDATE_DOCS=1 cargo test --test it errors` writes the messages anew; read the difference.

use std::fs;
use std::path::Path;

use crate::cli::end;

const PAGE: &str = "docs/errors.md";
/// A line end inside of a cell.
const BREAK: &str = " <br>";

/// A row of the table: what is typed, the exit code, and what is said.
fn rewritten(line: &str) -> Option<String> {
    let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    let [typed, _, _] = cells[..] else { return None };
    let typed = typed.strip_prefix('`')?.strip_suffix('`')?;
    let words: Vec<&str> = typed.strip_prefix("globaldns")?.split_whitespace().collect();
    let ended = end(&words);
    assert_ne!(ended.code, Some(0), "{typed}: {ended:?}");
    assert_eq!(ended.stdout, "", "{typed}");
    let said: Vec<&str> = ended
        .stderr
        .lines()
        // A start that fails late has written to its log as well.
        .filter(|line| {
            !line.starts_with('{') && !line.trim().is_empty() && !line.starts_with("For more information")
        })
        .collect();
    let said = said.iter().map(|line| format!("`{}`", line.trim().replace('|', "\\|").replace('`', "'")));
    let code = ended.code.expect("an exit code");
    Some(format!("| `{typed}` | {code} | {} |", said.collect::<Vec<_>>().join(BREAK)))
}

/// [X1] [F2]
#[test]
fn thirty_wrong_invocations_get_the_messages_that_are_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(&path).expect("the page");
    let mut rows = 0;
    let mut anew = String::new();
    for line in page.lines() {
        let row = rewritten(line);
        rows += usize::from(row.is_some());
        anew += row.as_deref().unwrap_or(line);
        anew.push('\n');
    }
    assert!(rows >= 30, "{rows} rows");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, anew).expect("written");
        return;
    }
    for (told, wanted) in anew.lines().zip(page.lines()) {
        assert_eq!(told, wanted);
    }
}
