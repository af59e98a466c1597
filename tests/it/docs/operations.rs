//! `docs/operations.md` is read at night: what it names exists, and every alert has its page there.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{clauses_of_the_contract, read, root, rust_files, tests};
use crate::support::{globaldns, run};

const PAGE: &str = "docs/operations.md";

/// A page in parts: prose, code spans, lines of code blocks.
pub(super) struct Page {
    path: &'static str,
    pub(super) text: String,
    prose: String,
    spans: Vec<String>,
    lines: Vec<String>,
}

impl Page {
    pub(super) fn read(path: &'static str) -> Page {
        let text = read(path);
        let (mut outside, mut lines) = (String::new(), Vec::new());
        let mut inside = false;
        for line in text.lines() {
            match (line.starts_with("```"), inside) {
                (true, _) => inside = !inside,
                (false, true) => lines.push(line.to_owned()),
                (false, false) => outside += &format!("{line}\n"),
            }
        }
        let parts: Vec<&str> = outside.split('`').collect();
        let prose = parts.iter().step_by(2).copied().collect();
        let spans = parts.iter().skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect();
        Page { path, text, prose, spans, lines }
    }

    /// All code.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.spans.iter().chain(&self.lines).map(String::as_str)
    }

    /// From a heading to the next one of its level.
    fn section(&self, heading: &str) -> Option<&str> {
        let (_, rest) = self.text.split_once(&format!("\n{heading}\n"))?;
        let level = heading.split(' ').next().unwrap_or_default();
        Some(rest.split(&format!("\n{level} ")).next().unwrap_or_default())
    }
}

/// What is made of these characters.
fn words(text: &str, of: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |c| !of(c)).filter(|word| !word.is_empty())
}

fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read("deploy/prometheus/rules.yaml")).expect("YAML");
    let groups = rules["groups"].as_array().cloned().expect("groups");
    groups.into_iter().flat_map(|group| group["rules"].as_array().cloned().expect("rules")).collect()
}

fn text_of<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// Every alert says where its page is, and the page has its severity and begins with its first command.
#[test]
fn every_alert_has_a_page_that_begins_with_its_first_command() {
    let page = Page::read(PAGE);
    for alert in alerts() {
        let name = text_of(&alert, "/alert");
        let anchor = format!("{PAGE}#{}", name.to_lowercase());
        assert_eq!(text_of(&alert, "/annotations/runbook"), anchor, "{name}");
        let section = page.section(&format!("### {name}")).unwrap_or_else(|| panic!("{PAGE} has no {name}"));
        let severity = text_of(&alert, "/labels/severity").to_lowercase();
        assert!(
            section.to_lowercase().trim_start().starts_with(&format!("*{severity}.*")),
            "{name}: {severity}"
        );
        let first = text_of(&alert, "/annotations/action").lines().next().unwrap_or_default();
        let first = first.replace("{{ $labels.code }}", "CODE");
        let shown = section.split("```sh\n").nth(1).and_then(|block| block.lines().next());
        assert_eq!(shown, Some(first.as_str()), "{name}");
    }
}

#[test]
fn metrics_alerts_clauses_codes_and_messages_on_the_page_exist() {
    let page = Page::read(PAGE);
    let readme = read("README.md");
    let metrics: BTreeSet<&str> =
        words(&readme, is_of_a_metric).filter(|w| w.starts_with("globaldns_")).collect();
    for word in words(&page.text, is_of_a_metric).filter(|word| word.starts_with("globaldns_")) {
        let known =
            metrics.contains(word) || metrics.iter().any(|name| name.starts_with(&format!("{word}_")));
        assert!(known, "there is no metric {word}");
    }
    let alerts: BTreeSet<String> = alerts().iter().map(|alert| text_of(alert, "/alert").to_owned()).collect();
    let is_alert = |word: &&str| word.len() > 9 && word.starts_with("Globaldns");
    for word in words(&page.text, char::is_alphanumeric).filter(is_alert) {
        assert!(alerts.contains(word), "there is no alert {word}");
    }
    let clauses = clauses_of_the_contract();
    let is_clause = |word: &&str| {
        let (letter, number) = word.split_at(word.len().min(1));
        "ZSAHODLFITX".contains(letter) && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
    };
    for word in words(&page.prose, |c| c.is_ascii_alphanumeric()).filter(is_clause) {
        assert!(clauses.contains(word), "there is no clause {word}");
    }
    let codes = read("src/finding.rs");
    for code in page.text.split("code=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(codes.contains(&format!("\"{code}\"")), "there is no finding {code}");
    }
    // In the source a message may go on in the next line, and have its quotes escaped.
    let source: String = rust_files("src").into_iter().map(read).collect();
    for message in page.spans.iter().filter_map(|span| span.strip_prefix('"')?.strip_suffix('"')) {
        assert!(source.contains(message), "the program never says {message:?}");
    }
}

fn is_of_a_metric(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// [X0]
#[test]
fn commands_flags_and_values_on_the_page_exist() {
    let page = Page::read(PAGE);
    let flags_of = |command: &[&str]| -> BTreeSet<String> {
        let help = run(globaldns(&[command, &["--help"]].concat()));
        assert_eq!(help.code, Some(0), "there is no command {command:?}");
        let names = words(&help.stdout, |c| c.is_ascii_lowercase() || c == '-');
        names.filter(|name| name.starts_with("--")).map(str::to_owned).collect()
    };
    let of_serve = flags_of(&["serve"]);
    let flags_in = |text: &str| -> Vec<String> {
        let names = words(text, |c| c.is_ascii_lowercase() || c == '-');
        names.filter(|name| name.starts_with("--") && name.len() > 2).map(str::to_owned).collect()
    };
    let mut seen = 0;
    for code in page.code() {
        let of_ours = code.strip_prefix("globaldns ").or_else(|| Some(code.split_once("-- globaldns ")?.1));
        if let Some(command) = of_ours {
            let name: Vec<&str> = command.split(' ').take_while(|word| !word.starts_with('-')).collect();
            let known = flags_of(&name);
            for flag in flags_in(command) {
                assert!(known.contains(&flag), "{code}: there is no {flag}");
            }
            seen += 1;
        } else if code.starts_with("--") && !code.starts_with("---") || code.starts_with("extraArgs") {
            for flag in flags_in(code) {
                assert!(of_serve.contains(&flag), "{code}: serve has no {flag}");
            }
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} commands and flags found: is the page read at all?");

    let values: Value = serde_saphyr::from_str(&read("deploy/helm/globaldns/values.yaml")).expect("YAML");
    for code in page.code() {
        let set = code
            .split("--set")
            .skip(1)
            .map(|rest| rest.trim_start_matches("-json").trim_start_matches([' ', '\'']));
        let dotted = [code].into_iter().filter(|code| {
            let first = code.split('.').next().unwrap_or_default();
            code.contains('.') && values.get(first).is_some()
        });
        for value in set.chain(dotted) {
            let path = value.split(['=', ':', ' ']).next().unwrap_or_default();
            let pointer = format!("/{}", path.replace('.', "/"));
            assert!(values.pointer(&pointer).is_some(), "{code}: the chart has no value {path}");
        }
    }
}

#[test]
fn links_files_and_tests_on_the_page_exist() {
    let page = Page::read(PAGE);
    page.leads_somewhere();
    let rehearsed = page.names_what_exists();
    assert!(rehearsed > 8, "{rehearsed} tests are named");
}

impl Page {
    /// Links have targets.
    #[track_caller]
    fn leads_somewhere(&self) {
        for target in self.prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { self.path.to_owned() } else { format!("docs/{file}") };
            let text = read(&file);
            let headings = text.lines().filter(|line| line.starts_with('#')).map(anchor_of);
            assert!(
                anchor.is_empty() || headings.into_iter().any(|known| known == anchor),
                "{target} leads nowhere"
            );
        }
    }

    /// Files and tests that are named exist; returns how many tests are named.
    #[track_caller]
    pub(super) fn names_what_exists(&self) -> usize {
        let names: BTreeSet<String> = tests().into_iter().map(|test| test.name).collect();
        let mut tests = 0;
        for span in &self.spans {
            if span.len() > 30 && span.chars().all(is_of_a_metric) && !span.starts_with("globaldns_") {
                assert!(names.contains(span), "there is no test {span}");
                tests += 1;
            }
            let first = span.split(' ').next().unwrap_or_default();
            if ["bench/", "tests/", "deploy/", "docs/", "examples/"]
                .iter()
                .any(|room| first.starts_with(room))
            {
                assert!(root().join(first).exists(), "there is no {first}");
            }
        }
        tests
    }
}

/// As GitHub makes it of a heading.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
