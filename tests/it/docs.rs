//! The documents say what is true: clauses are tested, tables name what exists, walls stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Program, globaldns, run};

mod operations;
mod reliability;

/// Clauses that no test of this version can show, with the reason. (Z4 has one that could only fail together
/// with D8: the program has no code that would ask another server.)
const NOT_TESTED: [(&str, &str); 1] =
    [("L7", "a promise in milliseconds is shown by `cargo bench -p globaldns-bench --bench update`")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file below a directory.
fn rust_files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(below)];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            let children = fs::read_dir(&path).expect("a directory");
            todo.extend(children.map(|child| child.expect("an entry").path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A test function.
struct Test {
    name: String,
    /// What its doc comment cites as `[D3]`.
    cites: BTreeSet<String>,
    /// Run by CI, but not by a plain `cargo test`.
    ignored: bool,
}

/// Every test function.
fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for path in [rust_files("src"), rust_files("tests")].concat() {
        let text = fs::read_to_string(&path).expect("readable");
        let mut cited = BTreeSet::new();
        let (mut is_test, mut ignored) = (false, false);
        for line in text.lines().map(str::trim) {
            if let Some(comment) = line.strip_prefix("/// ") {
                cited.extend(clauses_in(comment));
            } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")) {
                let name = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
                if is_test {
                    tests.push(Test { name, cites: std::mem::take(&mut cited), ignored });
                }
                (is_test, ignored, cited) = (false, false, BTreeSet::new());
            } else if line.starts_with("#[ignore") {
                ignored = true;
            } else if !line.starts_with("#[") {
                cited.clear();
            }
        }
    }
    tests
}

fn clauses_in(comment: &str) -> impl Iterator<Item = String> + '_ {
    comment.split('[').skip(1).filter_map(|part| {
        let id = part.split(']').next()?;
        is_clause(id).then(|| id.to_owned())
    })
}

/// Those of all chapters.
fn clauses_of_the_contract() -> BTreeSet<String> {
    let contract = read("docs/contract.md");
    let named = contract.lines().filter_map(|line| line.strip_prefix("- **")?.split("**").next());
    named.map(str::to_owned).collect()
}

fn is_clause(id: &str) -> bool {
    let mut chars = id.chars();
    chars.next().is_some_and(|c| "ZSAHODLFGEKITX".contains(c)) && {
        let number = chars.as_str();
        !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
    }
}

/// [F1] Every clause of the contract is cited by a test, and no test cites a clause that is not there.
#[test]
fn every_clause_has_a_test() {
    let clauses: BTreeSet<String> =
        clauses_of_the_contract().into_iter().filter(|id| is_clause(id)).collect();
    let mut cited: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut without_ignored = BTreeSet::new();
    for test in tests() {
        for clause in test.cites {
            if !test.ignored {
                without_ignored.insert(clause.clone());
            }
            cited.entry(clause).or_default().push(test.name.clone());
        }
    }
    let unknown: Vec<_> = cited.keys().filter(|c| !clauses.contains(*c)).collect();
    assert!(unknown.is_empty(), "cited but not in docs/contract.md: {unknown:?}");
    let missing: Vec<_> = clauses
        .iter()
        .filter(|c| !cited.contains_key(*c) && NOT_TESTED.iter().all(|(id, _)| id != c))
        .collect();
    assert!(missing.is_empty(), "no test cites {missing:?}");
    let citations: usize = cited.values().map(Vec::len).sum();
    let slow: Vec<_> = cited.keys().filter(|c| !without_ignored.contains(*c)).collect();
    println!(
        "{} clauses, {} of them cited {citations} times by tests; by ignored tests only: {slow:?}; not tested: \
         {NOT_TESTED:?}",
        clauses.len(),
        cited.len()
    );
}

/// Every row of the table of complaints names tests that exist.
#[test]
fn every_complaint_has_its_test() {
    let names: BTreeSet<String> = tests().into_iter().map(|test| test.name).collect();
    let wanted: BTreeSet<u32> = [1..=3, 6..=6, 13..=13, 17..=17, 22..=27, 29..=36, 39..=41, 47..=47, 49..=55]
        .into_iter()
        .flatten()
        .collect();
    let mut rows = BTreeSet::new();
    let mut of_stub_domains = 0u32;
    for line in read("docs/complaints.md").lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let number = cells.next().unwrap_or_default();
        let cells: Vec<_> = cells.collect();
        let (does, shown) = match (number.parse::<u32>(), number.strip_prefix('S').map(str::parse::<u32>)) {
            (Ok(number), _) => {
                rows.insert(number);
                (cells[1], cells[2])
            }
            (_, Some(Ok(number))) => {
                of_stub_domains += 1;
                assert_eq!(of_stub_domains, number, "the rows S1, S2, … are in order");
                (cells[2], cells[3])
            }
            _ => continue,
        };
        let tests: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        assert!(
            tests.is_empty() == does.starts_with("No test"),
            "row {number}: a test, or why there is none"
        );
        for test in tests {
            assert!(names.contains(test), "row {number}: there is no test {test}");
        }
    }
    assert_eq!(of_stub_domains, 45);
    assert_eq!(rows, wanted);
}

/// The threat model names tests that exist, and pages.
#[test]
fn what_the_threat_model_rests_on_is_there() {
    let names: BTreeSet<String> = tests().into_iter().map(|test| test.name).collect();
    let page = read("docs/security.md");
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        if word.matches('_').count() >= 3 && !word.contains(' ') {
            assert!(names.contains(word), "there is no test {word}");
            named += 1;
        }
        for path in
            word.split_whitespace().filter(|path| path.starts_with("tests/") || path.starts_with("deploy/"))
        {
            assert!(root().join(path).exists(), "{path} is not there");
        }
    }
    assert!(named >= 15, "{named} tests");
    for target in page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
        assert!(root().join("docs").join(target).exists(), "{target} is not there");
    }
}

/// `--flag` at the beginning of a help line, with the variable named below it.
fn flags_of_serve() -> BTreeMap<String, String> {
    let help = run(globaldns(&["serve", "--help"])).stdout;
    let mut flags: BTreeMap<String, String> = BTreeMap::new();
    let mut current = None;
    for line in help.lines().map(str::trim) {
        // `-h, --help`.
        let declared = match line.split_once(", ") {
            Some((short, long)) if short.len() == 2 && short.starts_with('-') => long,
            _ => line,
        };
        if let Some(flag) = declared.strip_prefix("--") {
            current = flag.split([' ', '=', '<']).next().map(str::to_owned);
            if let Some(flag) = &current {
                flags.insert(flag.clone(), String::new());
            }
        }
        if let (Some(flag), Some((_, rest))) = (&current, line.split_once("[env: ")) {
            let variable = rest.split(['=', ']']).next().unwrap_or_default().to_owned();
            flags.insert(flag.clone(), variable);
        }
    }
    flags.remove("help");
    flags
}

/// [X0]
#[test]
fn the_readme_lists_every_flag_and_every_flag_has_its_variable() {
    let flags = flags_of_serve();
    assert!(flags.len() >= 24, "{flags:?}");
    for (flag, variable) in &flags {
        assert_eq!(*variable, format!("GLOBALDNS_{}", flag.to_uppercase().replace('-', "_")));
        let injected =
            ["GLOBALDNS_PORT", "GLOBALDNS_SERVICE_"].iter().any(|prefix| variable.starts_with(prefix));
        assert!(!injected, "{variable} is a name that Kubernetes injects");
    }
    let readme = read("README.md");
    let listed: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `--"))
        .map(|rest| rest.split(['`', ' ']).next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(listed, flags.into_keys().collect());
}

/// [K1] What docs/migration.md tells people to type is what there is: our command lines parse, the chart has the values, the
/// files and headings are there, the clauses are in the contract.
#[test]
fn the_migration_guide_names_what_there_is() {
    let guide = read("docs/migration.md");
    // Blocks, and code in prose, each command on one line.
    let mut lines: Vec<String> = Vec::new();
    for (nth, part) in guide.split("```").enumerate() {
        let joined = part.replace("\\\n", " ");
        if nth % 2 == 1 {
            lines.extend(joined.lines().map(str::to_owned));
        } else {
            lines.extend(joined.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")));
        }
    }
    let mut ours = 0;
    for line in &lines {
        let begun = line.trim_start();
        let Some(rest) = begun.strip_prefix("globaldns ").or_else(|| Some(begun.split_once(" -- ")?.1))
        else {
            continue;
        };
        parses(rest.trim_start().trim_start_matches("globaldns "));
        ours += 1;
    }
    assert!(ours >= 15, "{ours} command lines of ours");
    let values: serde_json::Value =
        serde_saphyr::from_str(&read("deploy/helm/globaldns/values.yaml")).expect("YAML");
    let mut set = 0;
    for words in lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>()) {
        if words.first() != Some(&"helm") {
            continue;
        }
        assert!(words.contains(&"-n"), "in which namespace? {words:?}");
        for pair in words.windows(2).filter(|pair| pair[0] == "--set") {
            for value in pair[1].trim_matches('\'').split(',') {
                has_value(&values, value);
                set += 1;
            }
        }
    }
    assert!(set >= 12, "{set} values");
    for word in lines.iter().filter(|line| line.starts_with("stubDomains.") || line.starts_with("resources."))
    {
        has_value(&values, word);
    }
    let contract = read("docs/contract.md");
    let mut cited = BTreeSet::new();
    for word in guide.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_clause(word)) {
        assert!(contract.contains(&format!("\n- **{word}** ")), "{word} is no clause");
        cited.insert(word);
    }
    assert!(cited.len() >= 15, "{cited:?}");
    for target in guide.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() { "docs/migration.md".to_owned() } else { format!("docs/{file}") };
        let text = read(&file);
        let anchor = |title: &str| {
            let kept = title.chars().filter(|c| c.is_alphanumeric() || [' ', '-'].contains(c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        };
        let headings = text.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
        assert!(heading.is_empty() || headings.map(anchor).any(|found| found == heading), "{target}");
    }
    for path in guide.split_whitespace().map(|word| word.trim_matches(['`', '.', ',', ';', ':'])) {
        if ["deploy/", "docs/", "examples/", "tests/"].iter().any(|room| path.starts_with(room)) {
            assert!(root().join(path).exists(), "{path} is not there");
        }
    }
}

/// A command line of ours, up to a pipe, a redirection or a remark.
#[track_caller]
fn parses(line: &str) {
    let words = line.split_whitespace().take_while(|word| !["|", ">", "<", "#", "&"].contains(word));
    let words: Vec<&str> = std::iter::once("globaldns").chain(words).collect();
    if let [_, command] = words[..] {
        // In prose, the name alone stands for the command.
        assert!(globaldns::cli::command().find_subcommand(command).is_some(), "there is no {words:?}");
        return;
    }
    if let Err(error) = globaldns::cli::command().try_get_matches_from(&words) {
        panic!("{words:?}: {error}");
    }
}

/// A value of the chart, `a.b=c`.
#[track_caller]
fn has_value(values: &serde_json::Value, text: &str) {
    let path = text.split('=').next().unwrap_or_default().replace("\\.", "\u{0}");
    let mut at = values;
    for key in path.split('.') {
        let map = at.as_object().unwrap_or_else(|| panic!("values.yaml: {text}: {at} has no {key}"));
        // An empty map is for keys of the user's.
        if map.is_empty() {
            return;
        }
        at = map.get(key).unwrap_or_else(|| panic!("values.yaml has no {text}"));
    }
}

/// The README's table of metrics is what `/metrics` shows, and every one of ours has help and a sane name.
#[test]
fn the_readme_lists_every_metric() {
    let program = Program::serve(&["--file", "examples/banzai-multimesh"]);
    let _ = crate::dig::dig(program.dns(), "echo.default.global");
    // One failure, so that the family with errors is there.
    let broken = tempfile::tempdir().expect("a temporary directory");
    let file = broken.path().join("a.yaml");
    fs::write(&file, "{}").expect("written");
    let compatible = ["--metrics-compat", "coredns", "--grpc-listen", "127.0.0.1:0"];
    let secrets = broken.path().join("secrets");
    fs::write(&secrets, "00112233445566778899aabbccddeeff").expect("written");
    let cookies = ["--cookies", "on", "--cookie-secret-file", secrets.to_str().expect("UTF-8")];
    let failing = Program::serve(
        &[&compatible[..], &cookies, &["--file", broken.path().to_str().expect("UTF-8")]].concat(),
    );
    let _ = crate::dig::dig(failing.dns(), "echo.default.global");
    fs::write(&file, "[").expect("written");
    failing.findings(&[("file-unreadable", 1)]);
    let mut shown = BTreeSet::new();
    for metrics in [program.get("/metrics").1, failing.get("/metrics").1] {
        for line in metrics.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
                assert!(metrics.contains(&format!("# HELP {name} ")), "{name} has no help");
                shown.insert(name.to_owned());
            }
        }
    }
    shown.retain(|name| !name.starts_with("process_"));
    // These are shown where there is a cluster, with saved state, a certificate, or a query log.
    let rooms = ["stub_domains", "events", "state", "certificate", "insight"];
    for file in rooms.map(|file| format!("src/metrics/{file}.rs")) {
        shown.extend(read(file).split('"').filter(|word| word.starts_with("globaldns_")).map(str::to_owned));
    }
    let listed: BTreeSet<String> = read("README.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter(|rest| ["globaldns_", "coredns_"].iter().any(|prefix| rest.starts_with(prefix)))
        .map(|rest| rest.split('`').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(listed, shown);
}

/// `unsafe` is in one file, where every block has its reason.
#[test]
fn unsafe_code_is_in_one_file() {
    let files: Vec<_> = rust_files("src")
        .into_iter()
        .filter(|file| {
            let text = fs::read_to_string(file).expect("readable");
            let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
            code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
                .any(|word| word == "unsafe" || word == "unsafe_code")
        })
        .map(|file| file.strip_prefix(root()).expect("below the root").display().to_string())
        .collect();
    assert_eq!(files, ["src/serve/udp/sys.rs"]);
}

/// The rules of `src/lib.rs`: who may know whom.
#[test]
fn the_walls_between_the_rooms_stand() {
    let core = &["tokio", "kube", "hickory", "axum", "crate::serve", "crate::source", "crate::app"][..];
    let rules: [(&str, &[&str]); 8] = [
        ("src/wire", core),
        ("src/zone", core),
        ("src/entry", core),
        ("src/index", core),
        ("src/serve", &["crate::source", "crate::stub", "crate::index", "crate::app", "kube::"]),
        (
            "src/insight",
            &["tokio", "kube::", "crate::serve", "crate::source", "crate::app", "crate::metrics"],
        ),
        ("src/source", &["crate::serve", "crate::app", "crate::metrics", "crate::state"]),
        ("src/state", &["tokio", "kube::", "crate::serve", "crate::stub", "crate::app", "crate::metrics"]),
    ];
    for (room, forbidden) in rules {
        let files = [rust_files(room), vec![root().join(format!("{room}.rs"))]].concat();
        for file in files {
            for line in fs::read_to_string(&file).expect("readable").lines() {
                let code = line.split("//").next().unwrap_or_default();
                for name in forbidden {
                    let names_it =
                        code.contains(&format!("{name}::")) || code.contains(&format!("use {name}"));
                    assert!(!names_it, "{}: {line}", file.display());
                }
            }
        }
    }
}
