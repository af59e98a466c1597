//! ServiceEntries from files and directories (S2, S3), reloaded when they change.
//!
//! A plain thread stats the files every [`POLL`]: it sees editors' renames, mounted ConfigMaps' symlink
//! swaps and network file systems alike, where notification interfaces each miss one. What has changed is
//! loaded once two looks in a row agree, so a half-written file does not count.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod check;
mod document;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufReader, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeSeed;
use serde_json::Value;

use super::{Feed, Trouble};
use crate::entry::Origin;
use crate::finding::{Code, Finding};
use crate::index::Packed;
use crate::limits::{self, MOST_DIRECTORIES_DEEP, MOST_FILE, MOST_FILES};
use crate::panics::{Pauses, Place, contain};
use document::{Document, Reading, is_list};

/// The source's name.
pub const NAME: &str = "files";
/// Time between two looks: a change counts after this much quiet (S2).
pub const POLL: Duration = Duration::from_millis(200);
/// Octets read from a file at a time.
const READ_AHEAD: usize = 64 * 1024;
/// The name of standard input.
const STDIN: &str = "-";

/// A file that cannot be used, and where in it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The operating system says no.
    #[error("cannot read {}: {error}; {}", path.display(), remedy(error))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not YAML or JSON.
    #[error("{}:{line}:{column}: not {format}: {message}; correct the file or leave it out", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What it was read as.
        format: &'static str,
        /// The parser's reason.
        message: String,
    },
    /// It makes us panic (L9).
    #[error(
        "{}: reading it makes this version of globaldns panic; report it, with the file and the log line, and write \
         the file in another way until it is mended",
        path.display()
    )]
    Panic {
        /// The file.
        path: PathBuf,
    },
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        _ if limits::is_no_file(error) => "what a pipe gives is read once with --file - < PIPE",
        ErrorKind::FileTooLarge => "divide it into several",
        _ => "check the path and its permissions",
    }
}

impl LoadError {
    /// The file or directory.
    pub fn path(&self) -> &Path {
        match self {
            LoadError::Io { path, .. } | LoadError::Syntax { path, .. } | LoadError::Panic { path } => path,
        }
    }

    /// Whether it says nothing of what is in the file: there may have been no descriptor, or a disk that was away.
    fn may_pass(&self) -> bool {
        let of_content = [ErrorKind::FileTooLarge, ErrorKind::InvalidData];
        matches!(self, LoadError::Io { error, .. } if !of_content.contains(&error.kind()))
    }

    /// For who serves what the file held before.
    fn finding(&self) -> Finding {
        let (why, remedy) = self.told(true, "correct the file");
        self.found(format!("{why}; its last good content is served"), remedy)
    }

    /// For who only looks (F2).
    pub fn first_finding(&self) -> Finding {
        // Of a file the finding has the place by itself.
        let from_stdin = self.path() == Path::new(STDIN);
        let (why, remedy) =
            self.told(from_stdin, "correct the file; what comes behind this place was not looked at");
        self.found(why, remedy)
    }

    fn found(&self, why: String, remedy: &str) -> Finding {
        Finding::new(Code::FileUnreadable, self.path().display().to_string(), "", "", why, remedy)
    }

    /// Why it cannot be used, and what to do.
    fn told(&self, placed: bool, correct: &'static str) -> (String, &'static str) {
        match self {
            LoadError::Io { error, .. } => (format!("it cannot be read: {error}"), remedy(error)),
            LoadError::Syntax { path, line, column, format, message } => {
                let place = if placed { format!(" at line {line}, column {column}") } else { String::new() };
                let remedy = if is_template(path, *line) {
                    "it is a template: render it first, helm template . | globaldns check -"
                } else {
                    correct
                };
                (format!("it is not {format}{place}: {message}"), remedy)
            }
            LoadError::Panic { .. } => (
                "reading it makes this version of globaldns panic".to_owned(),
                "report it, with the file; until it is mended, write the file in another way",
            ),
        }
    }

    /// Where in the file: line and column, from 1.
    pub fn position(&self) -> Option<(u64, u64)> {
        match self {
            LoadError::Syntax { line, column, .. } => Some((*line, *column)),
            _ => None,
        }
    }
}

/// Whether this line of a file is for a templating engine; the file was read a moment ago.
fn is_template(path: &Path, line: u64) -> bool {
    let is_one = |text: String| {
        let line = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
        text.lines().nth(line).is_some_and(|line| line.contains("{{"))
    };
    path != Path::new(STDIN) && limits::read_file(path, MOST_FILE).is_ok_and(is_one)
}

/// What a parser says, without the place, which stands before it.
fn without_place(message: String, line: u64, column: u64) -> String {
    let places = [format!(" at line {line}, column {column}"), format!(" at line {line} column {column}")];
    let bare = places.iter().find_map(|place| message.strip_suffix(place.as_str()));
    bare.map(str::to_owned).unwrap_or(message)
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// One look at the disk: every file named or found, and what could not be looked at.
#[derive(Debug, Default, PartialEq, Eq)]
struct Look {
    files: BTreeMap<PathBuf, Stamp>,
    unreadable: BTreeMap<PathBuf, String>,
}

/// The file source.
pub struct Files {
    paths: Vec<PathBuf>,
    feed: Arc<Feed>,
    loaded: Look,
    /// Files whose entries are served.
    served: BTreeSet<PathBuf>,
    problems: BTreeMap<PathBuf, Finding>,
}

impl Files {
    /// Loads everything for the first time; any error is fatal (S3). Delivers the first complete list.
    pub fn load(paths: Vec<PathBuf>, feed: Arc<Feed>) -> Result<Files, LoadError> {
        let mut files = Files {
            paths,
            feed,
            loaded: Look::default(),
            served: BTreeSet::new(),
            problems: BTreeMap::new(),
        };
        files.feed.status().begin();
        let look = files.look(Err)?;
        let mut all = Vec::new();
        if files.paths.iter().any(|path| path == Path::new(STDIN)) {
            all.extend(files.take_file(Path::new(STDIN))?);
        }
        for path in look.files.keys() {
            all.extend(files.take_file(path)?);
        }
        files.loaded = look;
        files.feed.reset(all);
        Ok(files)
    }

    /// Loads whatever can be loaded, and says what cannot (F2). Of a file that ends badly, the documents before that count.
    pub fn load_leniently(paths: Vec<PathBuf>, feed: &Feed) -> Vec<LoadError> {
        feed.status().begin();
        let (mut look, mut errors, mut all) = (Look::default(), Vec::new(), Vec::new());
        let from_stdin = paths.iter().find(|path| *path == Path::new(STDIN)).cloned();
        for path in paths.iter().filter(|path| *path != Path::new(STDIN)) {
            let mut below = Below { seen: HashSet::new(), most_files: MOST_FILES };
            let mut errors_below = Vec::new();
            let noted = std::cell::RefCell::new(&mut errors_below);
            let seen = look_at(path, 0, &mut below, &mut look, &|error| {
                noted.borrow_mut().push(error);
                Ok::<(), std::convert::Infallible>(())
            });
            let Ok(()) = seen;
            errors.extend(errors_below);
        }
        for path in from_stdin.iter().chain(look.files.keys()) {
            let read = contain(Place::Files, || read_file(path, feed, &mut all));
            errors.extend(read.unwrap_or_else(|| Err(LoadError::Panic { path: path.clone() })).err());
        }
        feed.reset(all);
        errors
    }

    /// Follows changes until `stop` says so. Runs on a thread of its own.
    pub fn follow(mut self, stop: &std::sync::atomic::AtomicBool) {
        let mut previous = Look::default();
        let mut pause = POLL;
        let mut pauses = Pauses::default();
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            std::thread::park_timeout(pause);
            pause = match contain(Place::Files, || self.follow_once(&mut previous)) {
                // Looking takes no more than a tenth of one CPU, however many files there are.
                Some(looking) => POLL.max(looking * 9),
                None => {
                    // What has changed since the last look that was finished is still what differs from it.
                    previous = Look::default();
                    pauses.pause()
                }
            };
        }
    }

    /// Looks, and loads what has changed. Returns how long it took to look: who writes much waits for what that takes to
    /// load, and for no more.
    fn follow_once(&mut self, previous: &mut Look) -> Duration {
        let begun = Instant::now();
        let look = self.look_leniently();
        let looking = begun.elapsed();
        #[cfg(test)]
        for path in look.files.keys().filter(|path| !self.loaded.files.contains_key(*path)) {
            crate::panics::trip("files", path.as_os_str().as_encoded_bytes());
        }
        if look != self.loaded && look == *previous {
            let again = self.reload(&look);
            self.loaded = look;
            // So that the next look differs.
            self.loaded.files.retain(|path, _| !again.contains(path));
            *previous = Look::default();
        } else {
            *previous = look;
            if self.problems.is_empty() {
                self.feed.status().touch();
            }
        }
        looking
    }

    fn look_leniently(&self) -> Look {
        match self.look(|_| Ok::<(), std::convert::Infallible>(())) {
            Ok(look) => look,
            Err(never) => match never {},
        }
    }

    /// Loads what has changed. Returns the files that may be loaded another time though they do not change.
    fn reload(&mut self, look: &Look) -> Vec<PathBuf> {
        let mut entries = Vec::new();
        let mut files = Vec::new();
        let mut again = Vec::new();
        self.problems.retain(|path, _| look.files.contains_key(path) && !look.unreadable.contains_key(path));
        for (path, stamp) in &look.files {
            if self.loaded.files.get(path) == Some(stamp) {
                continue;
            }
            match self.take_file(path) {
                Ok(loaded) => {
                    entries.extend(loaded);
                    files.push(origin(path));
                    self.problems.remove(path);
                    tracing::info!(file = %path.display(), "file loaded");
                }
                Err(error) => {
                    self.trouble(path, &error);
                    if error.may_pass() {
                        again.push(path.clone());
                    }
                }
            }
        }
        for (path, error) in &look.unreadable {
            let error = LoadError::Io { path: path.clone(), error: std::io::Error::other(error.clone()) };
            self.trouble(path, &error);
        }
        // A file that is gone takes its entries along, unless we only cannot see it (S3).
        let hidden = |path: &Path| look.unreadable.keys().any(|unreadable| path.starts_with(unreadable));
        let is_lost =
            |path: &PathBuf| !look.files.contains_key(path) && !hidden(path) && path != Path::new(STDIN);
        let lost: Vec<PathBuf> = self.served.iter().filter(|path| is_lost(path)).cloned().collect();
        files.extend(lost.iter().map(|path| origin(path)));
        self.feed.reset_files(&files, entries);
        // Afterwards, so that a reload that is broken off can be done again.
        for path in lost {
            tracing::info!(file = %path.display(), "file is gone");
            self.served.remove(&path);
        }
        self.feed.report(self.problems.values().cloned().collect());
        if self.problems.is_empty() {
            self.feed.status().recovered();
        }
        again
    }

    fn trouble(&mut self, path: &Path, error: &LoadError) {
        let finding = error.finding();
        if self.problems.get(path) != Some(&finding) {
            tracing::warn!(file = %path.display(), "{error}; its last good content is served");
            self.feed.status().failed(Trouble::Reload, "a file cannot be loaded");
            self.problems.insert(path.to_owned(), finding);
        }
    }

    /// Reads one file and remembers that it is served; on an error the memory stays.
    fn take_file(&mut self, path: &Path) -> Result<Vec<Packed>, LoadError> {
        let mut entries = Vec::new();
        contain(Place::Files, || read_file(path, &self.feed, &mut entries))
            .unwrap_or_else(|| Err(LoadError::Panic { path: path.to_owned() }))?;
        self.served.insert(path.to_owned());
        Ok(entries)
    }

    /// Looks at every file without reading it. `on_error` decides whether a path that cannot be looked at
    /// ends the look.
    fn look<E>(&self, on_error: impl Fn(LoadError) -> Result<(), E>) -> Result<Look, E> {
        let mut look = Look::default();
        for path in self.paths.iter().filter(|path| *path != Path::new(STDIN)) {
            let mut below = Below { seen: HashSet::new(), most_files: MOST_FILES };
            look_at(path, 0, &mut below, &mut look, &on_error)?;
        }
        Ok(look)
    }
}

/// A look below one path.
struct Below {
    /// The directories that were looked at, by device and inode: one that is linked into itself, or twice from elsewhere,
    /// is read once.
    seen: HashSet<(u64, u64)>,
    most_files: usize,
}

fn look_at<E>(
    path: &Path,
    depth: u32,
    below: &mut Below,
    look: &mut Look,
    on_error: &impl Fn(LoadError) -> Result<(), E>,
) -> Result<(), E> {
    let fail = |look: &mut Look, error: std::io::Error| {
        look.unreadable.insert(path.to_owned(), error.to_string());
        on_error(LoadError::Io { path: path.to_owned(), error })
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return fail(look, error),
    };
    if !metadata.is_dir() {
        if look.files.len() >= below.most_files {
            // One directory of them may hold a million.
            let error = std::io::Error::other(format!(
                "there are more than {} files, and no more are read",
                below.most_files
            ));
            let path = path.parent().unwrap_or(path).to_owned();
            look.unreadable.insert(path.clone(), error.to_string());
            return on_error(LoadError::Io { path, error });
        }
        look.files.insert(path.to_owned(), Stamp::of(&metadata));
        return Ok(());
    }
    if !below.seen.insert((metadata.dev(), metadata.ino())) {
        return Ok(());
    }
    if depth == MOST_DIRECTORIES_DEEP {
        let why = format!("more than {MOST_DIRECTORIES_DEEP} directories deep");
        return fail(look, std::io::Error::other(why));
    }
    let mut children = Vec::new();
    match std::fs::read_dir(path).and_then(|dir| dir.collect::<Result<Vec<_>, _>>()) {
        Ok(items) => children.extend(items.into_iter().map(|item| item.path())),
        Err(error) => return fail(look, error),
    }
    // In an order of their own, so that of two ways to a directory the same one is always taken.
    children.sort();
    for child in children {
        let hidden = child.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || (!child.is_dir() && !is_manifest(&child)) {
            continue;
        }
        look_at(&child, depth + 1, below, look, on_error)?;
    }
    Ok(())
}

impl Stamp {
    fn of(metadata: &std::fs::Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

/// A file as its entries name it.
fn origin(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

/// Reads a file without ever holding all of it: only its entries, packed. After an error, they are those of the
/// documents before it.
fn read_file(path: &Path, feed: &Feed, entries: &mut Vec<Packed>) -> Result<(), LoadError> {
    let io = |error| LoadError::Io { path: path.to_owned(), error };
    #[cfg(test)]
    crate::panics::trip("reading", path.as_os_str().as_encoded_bytes());
    let input: Box<dyn Read> = if path == Path::new(STDIN) {
        Box::new(std::io::stdin())
    } else {
        Box::new(limits::open_file(path).map_err(io)?)
    };
    let input = BufReader::with_capacity(READ_AHEAD, limits::bounded(input, MOST_FILE));
    let mut file = Reader { origin: origin(path), feed, document: 0, entries };
    if path.extension().is_some_and(|e| e == "json") {
        file.read_json(input).map_err(|error| json_error(path, error))?;
    } else {
        file.read_yaml(input).map_err(|error| yaml_error(path, error))?;
    }
    Ok(())
}

/// The entries of one file.
struct Reader<'f> {
    origin: Arc<str>,
    feed: &'f Feed,
    /// The number of the document that is read, from 1.
    document: u32,
    entries: &'f mut Vec<Packed>,
}

impl Reader<'_> {
    fn read_json(&mut self, input: impl Read) -> serde_json::Result<()> {
        let mut json = serde_json::Deserializer::from_reader(input);
        while json.end().is_err() {
            self.document += 1;
            let (before, mut item) = (self.entries.len(), 0);
            let mut take = |object: Value| {
                item += 1;
                self.take(&object, item);
            };
            let object = Reading::new(&mut take).deserialize(&mut json);
            if !object.as_ref().is_ok_and(is_list) {
                self.entries.truncate(before);
                self.take(&object?, 0);
            }
        }
        Ok(())
    }

    fn read_yaml(&mut self, mut input: impl Read) -> Result<(), serde_saphyr::Error> {
        for document in serde_saphyr::read_with_options::<_, Document>(&mut input, yaml_options()) {
            let Document { object, items } = document?;
            self.document += 1;
            if !is_list(&object) {
                self.take(&object, 0);
                continue;
            }
            for (text, item) in items.iter().zip(1..) {
                // It is our own text, and YAML's limit of depth is below that of JSON.
                self.take(&serde_json::from_str(text).unwrap_or_default(), item);
            }
        }
        Ok(())
    }

    fn take(&mut self, object: &Value, item: u32) {
        if is_service_entry(object, item) {
            let origin = Origin::Document { path: self.origin.clone(), position: (self.document, item) };
            self.entries.push(self.feed.pack(object, origin));
        }
    }
}

/// An item (from 1; 0 outside a list) of a typed list has no kind of its own.
fn is_service_entry(object: &Value, item: u32) -> bool {
    let group = object.get("apiVersion").and_then(Value::as_str).and_then(|v| v.split_once('/'));
    match object.get("kind").and_then(Value::as_str) {
        Some(kind) => kind == "ServiceEntry" && group.is_none_or(|(g, _)| g == super::GROUP),
        None => item > 0 && object.get("spec").is_some_and(|spec| spec.get("hosts").is_some()),
    }
}

fn json_error(path: &Path, error: serde_json::Error) -> LoadError {
    if error.is_io() {
        return LoadError::Io { path: path.to_owned(), error: error.into() };
    }
    let (line, column) = (error.line() as u64, error.column() as u64);
    let message = without_place(error.to_string(), line, column);
    // Behind the end of a line it counts from 0.
    let (line, column) = (line.max(1), column.max(1));
    LoadError::Syntax { path: path.to_owned(), line, column, format: "JSON", message }
}

fn yaml_error(path: &Path, error: serde_saphyr::Error) -> LoadError {
    if let serde_saphyr::Error::IOError { cause } = error {
        return LoadError::Io { path: path.to_owned(), error: cause };
    }
    let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
    // For who wrote the file; the other texts are for who calls the library.
    let message = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let message = without_place(message, line, column);
    LoadError::Syntax { path: path.to_owned(), line, column, format: "YAML", message }
}

fn yaml_options() -> serde_saphyr::Options {
    // The library's limits are made for configuration files; a mesh's 100,000 entries in one file are not an attack. They
    // hold for each document; what bounds a file is its size. Depth (64), anchors (50,000), aliases (50,000, and ten
    // times the anchors), merge keys (10,000) and what is put in for aliases (1,000,000 events) keep their limits.
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: None,
            max_events: 50_000_000,
            max_nodes: 50_000_000,
            max_recorded_anchor_events: limits::MOST_ANCHORED,
            max_total_scalar_bytes: 1 << 30,
            max_total_comment_bytes: 1 << 30,
        },
        with_snippet: false,
    }
}

#[cfg(test)]
mod tests;
