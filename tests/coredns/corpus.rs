//! The Corefiles of `corpus/` and what its tables say of them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use globaldns::stub::RefusalKind;

use crate::judge::Number;

/// One Corefile.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    file: PathBuf,
    /// What lies beside it.
    pub(crate) beside: PathBuf,
    /// Where the server answers that is asked for everything.
    pub(crate) at: SocketAddr,
    from: Option<Number>,
    until: Option<Number>,
}

/// A Corefile that must not be edited.
pub(crate) struct Refused {
    pub(crate) case: Case,
    /// The file that the refusal is about, and the line in it.
    pub(crate) at: (String, usize),
    pub(crate) kind: RefusalKind,
    /// Whether CoreDNS starts with it.
    pub(crate) starts: bool,
}

impl Case {
    /// Whether this version knows what is in the file.
    pub(crate) fn starts_with(&self, version: Number) -> bool {
        // `1.6` is every 1.6.x.
        let minor = Number(version.0, version.1, 0);
        self.from.is_none_or(|from| from <= version) && self.until.is_none_or(|until| minor <= until)
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()))
    }

    fn new(directory: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            file: directory.join(format!("{name}.Corefile")),
            beside: directory.join(format!("{name}.d")),
            at: SocketAddr::from(([127, 0, 0, 1], 53)),
            from: None,
            until: None,
        }
    }
}

/// The Corefiles that can be edited.
pub(crate) fn cases() -> Vec<Case> {
    let rows = rows("## To be edited");
    let case = |cells: &Vec<String>| {
        let [name, from, until, at, _] = cells.as_slice() else { panic!("a row of five cells: {cells:?}") };
        let number = |text: &str| (!text.is_empty()).then(|| Number::parse(text));
        let at = at.parse().expect("an address and port");
        Case { at, from: number(from), until: number(until), ..Case::new(&directory(), name) }
    };
    let cases: Vec<Case> = rows.iter().map(case).collect();
    assert_listed(&directory(), &cases);
    cases
}

/// The Corefiles that must not be.
pub(crate) fn refused() -> Vec<Refused> {
    let rows = rows("## To be refused");
    let directory = directory().join("refused");
    let refused = |cells: &Vec<String>| {
        let [name, line, kind, coredns, from, _] = cells.as_slice() else {
            panic!("a row of six cells: {cells:?}")
        };
        let (file, line) = line.split_once(':').unwrap_or(("", line));
        let kind = match kind.as_str() {
            "Conflict" => RefusalKind::Conflict,
            "Invalid" => RefusalKind::Invalid,
            "Unsure" => RefusalKind::Unsure,
            other => panic!("{other} is no kind of refusal"),
        };
        assert!(["starts", "ends"].contains(&coredns.as_str()), "{coredns}");
        let from = (!from.is_empty()).then(|| Number::parse(from));
        Refused {
            case: Case { from, ..Case::new(&directory, name) },
            at: (file.to_owned(), line.parse().expect("a line number")),
            kind,
            starts: coredns == "starts",
        }
    };
    let refused: Vec<Refused> = rows.iter().map(refused).collect();
    assert_listed(&directory, refused.iter().map(|refused| &refused.case));
    refused
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coredns/corpus")
}

/// The cells of the table below a heading of the index.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let index = fs::read_to_string(directory().join("README.md")).expect("read the index");
    let section = index.lines().skip_while(|line| *line != heading).skip(1);
    let lines = section.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| "));
    let cells = |line: &str| {
        let line = line.trim_start_matches("| ").trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    // The first is the head.
    lines.skip(1).map(cells).collect()
}

fn assert_listed<'a>(directory: &Path, cases: impl IntoIterator<Item = &'a Case>) {
    let mut listed: Vec<PathBuf> = cases.into_iter().map(|case| case.file.clone()).collect();
    let files = fs::read_dir(directory).expect("list the corpus").map(|file| file.expect("a file").path());
    let mut there: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "Corefile")).collect();
    listed.sort();
    there.sort();
    assert_eq!(listed, there, "the index lists every Corefile");
}
