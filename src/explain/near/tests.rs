use super::*;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::parse(text).expect(text)
}

/// The textbook's table, without a bound.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut cells = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                cells[i][j] = i + j;
                continue;
            }
            let replaced = cells[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            cells[i][j] = replaced.min(cells[i - 1][j] + 1).min(cells[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cells[i][j] = cells[i][j].min(cells[i - 2][j - 2] + 1);
            }
        }
    }
    cells[a.len()][b.len()]
}

proptest! {
    /// [I2]
    #[test]
    fn the_bounded_distance_is_the_distance(
        a in "[ab.]{0,9}", b in "[ab.]{0,9}", most in 0..4usize
    ) {
        let known = distance(a.as_bytes(), b.as_bytes());
        let found = Rows::default().distance(a.as_bytes(), b.as_bytes(), most);
        prop_assert_eq!(found, (known <= most).then_some(known));
    }

    /// [I2]
    #[test]
    fn a_label_more_is_seen_wherever_it_is(
        labels in proptest::collection::vec("[ab]{1,3}", 1..5), more in "[ab]{1,3}", at in any::<prop::sample::Index>()
    ) {
        let mut longer = labels.clone();
        longer.insert(at.index(labels.len() + 1), more);
        let (asked, host) = (labels.join("."), longer.join("."));
        // At the end it is another zone, and no label of it.
        let expected = longer.last() == labels.last();
        let found = is_with_one_label_more(asked.as_bytes(), host.as_bytes());
        prop_assert!(found || !expected, "{} {}", asked, host);
        prop_assert!(!is_with_one_label_more(host.as_bytes(), asked.as_bytes()));
    }
}

/// [I2]
#[test]
fn letters_labels_and_wildcards_are_compared() {
    let zones = Zones::new(vec![name("global")], name("cluster.local"), 0).expect("zones");
    let zone = zones.iter().next().expect("a zone");
    let cases = [
        ("echo.defualt.global", "echo.default.global", false, Some((Cause::Misspelled, 1))),
        ("echo.default.globl", "echo.default.global", false, Some((Cause::Misspelled, 1))),
        ("ecko.defolt.global", "echo.default.global", false, None),
        ("echo.global", "echo.default.global", false, Some((Cause::LabelMissing, 0))),
        ("default.global", "echo.default.global", false, Some((Cause::LabelMissing, 0))),
        ("echo.default.global", "echo.default.global", false, None),
        ("abc.wld.global", "wild.global", true, Some((Cause::Misspelled, 1))),
        ("wld.global", "wild.global", true, None),
        ("a.global", "b.global", false, None),
        ("abcd.global", "abce.global", false, Some((Cause::Misspelled, 1))),
        ("a.b", "c.d", false, None),
    ];
    for (asked, host, wildcard, expected) in cases {
        let found = Comparison::new(&name(asked), Some(zone)).compare(host.as_bytes(), wildcard);
        assert_eq!(found.map(|(how, letters, _)| (how, letters)), expected, "{asked} {host}");
    }
    let found = Comparison::new(&name("a.wld.global"), None).compare(b"wild.global", true);
    assert_eq!(found.map(|(.., text)| text).as_deref(), Some("a.wild.global"));
}

/// [I2]
#[test]
fn a_host_that_is_none_is_matched_by_what_it_was_meant_for() {
    use Fit::{Exact, Pattern, Wildcard};
    let cases = [
        ("echo.default.global:80", Code::HostInvalid, Some(Exact)),
        ("http://echo.default.global", Code::HostInvalid, Some(Exact)),
        ("echo.*.global", Code::HostInvalid, Some(Pattern)),
        ("ech*.default.global", Code::HostInvalid, Some(Pattern)),
        ("*.*.global", Code::HostInvalid, Some(Pattern)),
        ("*.default.global:80", Code::HostInvalid, Some(Wildcard)),
        ("*.echo.default.global:80", Code::HostInvalid, None),
        ("other.*.global", Code::HostInvalid, None),
        ("echo.*", Code::HostInvalid, None),
        ("<name>.default.global", Code::Placeholder, Some(Pattern)),
        ("echo.${NAMESPACE}.global", Code::Placeholder, Some(Pattern)),
        ("<name>.global", Code::Placeholder, None),
        ("<a>.<b>.<c>.global", Code::Placeholder, None),
        ("<hostname>", Code::Placeholder, None),
        ("{{ .name }}.other.global", Code::Placeholder, None),
        ("ECHO.default.global.", Code::ExportHidden, Some(Exact)),
        ("*.default.global", Code::ExportHidden, Some(Wildcard)),
        ("*.global", Code::HostApexWildcard, Some(Wildcard)),
        ("*.echo.default.global", Code::ExportHidden, None),
        ("*.fault.global", Code::ExportHidden, None),
    ];
    for (host, code, expected) in cases {
        let name = name("echo.default.global");
        assert_eq!(fit(host, code, &name, "echo.default.global"), expected, "{host}");
    }
}

/// [I2] A name that is served comes before any that is not, and is told as served however often it was found.
#[test]
fn served_names_come_first() {
    let near = |letters: usize, name: &str, served: bool| Near {
        how: Cause::Misspelled,
        letters,
        name: name.to_owned(),
        served,
        of: None,
    };
    for served_first in [true, false] {
        let mut found = Found::default();
        let mut all: Vec<Near> = (0..30).map(|n| near(1, &format!("unserved{n:02}"), false)).collect();
        all.extend([near(2, "served", true), near(1, "both", false), near(1, "both", true)]);
        if served_first {
            all.reverse();
        }
        all.into_iter().for_each(|near| found.insert(near));
        let told = found.into_sorted();
        assert_eq!(told.len(), MOST);
        assert_eq!(told[..3], [near(1, "both", true), near(2, "served", true), near(1, "unserved00", false)]);
    }
}
