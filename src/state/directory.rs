//! The directory of saved state: one file for each source, replaced whole, and one process that writes.
//!
//! Files are replaced by rename, so reading takes no lock. Those that are saved together are replaced together: all new
//! ones are written first, and if that fails, none replaces anything. Where there are several, a file `state.commit` comes
//! into being before the first rename. While it is there, a new file that it names counts in place of the old one,
//! so a kill between two renames leaves nothing half done; the next process that writes brings it to its end.
//!
//! New files have names that no other save has, and what is left of them is swept by whoever takes the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lifecycle::random;
use crate::limits;

/// Octets gathered for one write.
const WRITE_BEHIND: usize = 64 * 1024;
/// What the state of a mesh tells is for its owner.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Says which new files count.
const COMMIT: &str = "state.commit";

/// Why nothing was saved.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Another process has it.
    #[error(
        "another process saves in {}; give each process a --state-dir of its own. This one takes over when the other \
         ends",
        .0.display()
    )]
    Locked(PathBuf),
    /// The operating system says no.
    #[error("{}: {error}; {}", path.display(), remedy(error))]
    Io {
        /// What was written.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room: a save needs place for the new file beside the old one"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "make --state-dir a directory this user may write to"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "make --state-dir a directory below one that exists"
        }
        _ => "look at the file system of --state-dir",
    }
}

/// A directory, locked once something is to be written.
pub(super) struct Directory {
    path: PathBuf,
    lock: Option<File>,
}

/// New files, which replace the old ones together or not at all.
pub(super) struct Batch<'d> {
    directory: &'d Directory,
    /// What no other save has in its names.
    mark: String,
    files: Vec<PathBuf>,
    counts: bool,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Directory {
        Directory { path, lock: None }
    }

    /// The file of a source. Its name can have a `/` but no `_`: a namespace is a DNS label.
    pub(super) fn file(&self, source: &str) -> PathBuf {
        self.path.join(format!("{}.state", source.replace('/', "_")))
    }

    /// What is saved of a source.
    pub(super) fn open(&self, source: &str) -> io::Result<Option<File>> {
        let path = self.file(source);
        if let Some(mark) = self.committed()?
            && let Some(file) = open_file(&new_name(&path, &mark))?
        {
            return Ok(Some(file));
        }
        open_file(&path)
    }

    /// Makes this process the one that writes, if no other is. True if it was not so far, or the directory is another
    /// one: then nothing in it is known to be ours.
    pub(super) fn lock(&mut self) -> Result<bool, Failure> {
        let path = self.path.join("lock");
        if let Some(held) = &self.lock {
            let same = |there: &std::fs::Metadata| {
                held.metadata().is_ok_and(|held| (held.dev(), held.ino()) == (there.dev(), there.ino()))
            };
            if std::fs::symlink_metadata(&path).is_ok_and(|there| same(&there)) {
                return Ok(false);
            }
            self.lock = None;
        }
        match std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Failure::Io { path: self.path.clone(), error });
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(FILE_MODE).custom_flags(libc::O_NONBLOCK);
        let file = options.open(&path).map_err(|error| Failure::Io { path: path.clone(), error })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Failure::Locked(self.path.clone())),
            Err(TryLockError::Error(error)) => return Err(Failure::Io { path, error }),
        }
        self.settle().and_then(|()| self.sweep()).map_err(|error| Failure::Io { path, error })?;
        self.lock = Some(file);
        Ok(true)
    }

    /// A batch of new files; only with the lock.
    pub(super) fn begin(&self) -> Result<Batch<'_>, Failure> {
        self.settle().map_err(|error| Failure::Io { path: self.path.join(COMMIT), error })?;
        let mark = format!("{:016x}", u64::from_ne_bytes(random()));
        Ok(Batch { directory: self, mark, files: Vec::new(), counts: false })
    }

    /// The mark of the new files that count although they have not replaced the old ones.
    fn committed(&self) -> io::Result<Option<String>> {
        let Some(file) = open_file(&self.path.join(COMMIT))? else { return Ok(None) };
        let mut mark = String::new();
        file.take(64).read_to_string(&mut mark)?;
        Ok(Some(mark).filter(|mark| is_mark(mark)))
    }

    /// Brings to its end what an earlier batch has begun.
    fn settle(&self) -> io::Result<()> {
        let Some(mark) = self.committed()? else { return Ok(()) };
        let ending = format!(".{mark}.new");
        for file in std::fs::read_dir(&self.path)? {
            let name = file?.file_name();
            if let Some(source) = name.to_str().and_then(|name| name.strip_suffix(&ending)) {
                std::fs::rename(self.path.join(&name), self.path.join(format!("{source}.state")))?;
            }
        }
        self.sync()?;
        std::fs::remove_file(self.path.join(COMMIT))
    }

    /// Removes what was never finished.
    fn sweep(&self) -> io::Result<()> {
        for file in std::fs::read_dir(&self.path)? {
            let name = file?.file_name();
            let unfinished = name.to_str().and_then(|name| name.strip_suffix(".new")?.rsplit_once('.'));
            // A stranger's files are left alone.
            if unfinished.is_some_and(|(_, mark)| is_mark(mark)) {
                let _ = std::fs::remove_file(self.path.join(&name));
            }
        }
        Ok(())
    }

    /// Removes the state of sources that are not `known`, once it is too old to be used; until then they may come back.
    /// Only with the lock.
    pub(super) fn forget_others(&self, known: &[&str], max_age: Duration) -> Result<(), Failure> {
        let known: Vec<_> = known.iter().map(|source| self.file(source)).collect();
        let forget = || {
            for file in std::fs::read_dir(&self.path)? {
                let file = file?;
                let path = file.path();
                // A file is written anew every hour.
                let is_old = || {
                    Ok::<_, io::Error>(file.metadata()?.modified()?.elapsed().unwrap_or_default() > max_age)
                };
                if path.extension().is_some_and(|ending| ending == "state")
                    && !known.contains(&path)
                    && is_old()?
                {
                    tracing::info!(file = %path.display(), "removing saved state of a source that is not configured any more");
                    std::fs::remove_file(&path)?;
                }
            }
            Ok(())
        };
        forget().map_err(|error| Failure::Io { path: self.path.clone(), error })
    }

    /// Names, too, have to be there after a power cut.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Batch<'_> {
    /// A new file for a source.
    pub(super) fn create(&mut self, source: &str) -> Result<BufWriter<File>, Failure> {
        let path = self.directory.file(source);
        let new = create_new(&new_name(&path, &self.mark)).map_err(|error| self.failure(source, error))?;
        self.files.push(path);
        Ok(BufWriter::with_capacity(WRITE_BEHIND, new))
    }

    /// A file is written to its end; returns its size.
    pub(super) fn finish(&self, source: &str, mut out: BufWriter<File>) -> Result<u64, Failure> {
        let mut finish = || {
            out.flush()?;
            out.get_ref().sync_all()?;
            Ok(out.get_ref().metadata()?.len())
        };
        finish().map_err(|error| self.failure(source, error))
    }

    /// What went wrong with the file of a source.
    pub(super) fn failure(&self, source: &str, error: io::Error) -> Failure {
        Failure::Io { path: self.directory.file(source), error }
    }

    /// Replaces the old files by these, which are finished.
    pub(super) fn commit(mut self) -> Result<(), Failure> {
        let path = self.directory.path.clone();
        self.replace().map_err(|error| Failure::Io { path, error })
    }

    fn replace(&mut self) -> io::Result<()> {
        let commit = self.directory.path.join(COMMIT);
        // One rename needs no word about it.
        if self.files.len() > 1 {
            let new = new_name(&commit, &self.mark);
            let written = create_new(&new).and_then(|mut file| {
                file.write_all(self.mark.as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&new, &commit)
            });
            if let Err(error) = written {
                let _ = std::fs::remove_file(&new);
                return Err(error);
            }
            self.counts = true;
            self.directory.sync()?;
        }
        for path in &self.files {
            std::fs::rename(new_name(path, &self.mark), path)?;
        }
        self.directory.sync()?;
        if self.counts {
            std::fs::remove_file(&commit)?;
        }
        self.counts = true;
        Ok(())
    }
}

impl Drop for Batch<'_> {
    /// On a full disk they are in the way of others.
    fn drop(&mut self) {
        if !self.counts {
            for path in &self.files {
                let _ = std::fs::remove_file(new_name(path, &self.mark));
            }
        }
    }
}

/// As [`Directory::begin`] makes them.
fn is_mark(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|octet| octet.is_ascii_hexdigit())
}

fn new_name(path: &Path, mark: &str) -> PathBuf {
    path.with_extension(format!("{mark}.new"))
}

/// Nobody's link is followed, and the mode is ours.
fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(path)
}

/// Opens a file, if there is one.
fn open_file(path: &Path) -> io::Result<Option<File>> {
    match limits::open_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}
