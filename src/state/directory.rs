//! The directory of saved state: one file for each source, replaced whole, and one process that writes.
//!
//! Files are replaced by rename, so reading takes no lock, and a reader sees one version or the next. The new file has a
//! fixed name, so that a program that is killed in mid-write leaves one at most, which the next write makes anew.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Octets gathered for one write.
const WRITE_BEHIND: usize = 64 * 1024;
/// What the state of a mesh tells is for its owner.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

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

impl Directory {
    pub(super) fn new(path: PathBuf) -> Directory {
        Directory { path, lock: None }
    }

    /// The file of a source. Its name can have a `/` but no `_`: a namespace is a DNS label.
    pub(super) fn file(&self, source: &str) -> PathBuf {
        self.path.join(format!("{}.state", source.replace('/', "_")))
    }

    /// Makes this process the one that writes, if no other is.
    fn lock(&mut self) -> Result<(), Failure> {
        if self.lock.is_some() {
            return Ok(());
        }
        match std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Failure::Io { path: self.path.clone(), error });
            }
            _ => {}
        }
        let path = self.path.join("lock");
        let opened = OpenOptions::new().create(true).write(true).truncate(false).mode(FILE_MODE).open(&path);
        let file = opened.map_err(|error| Failure::Io { path: path.clone(), error })?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(TryLockError::WouldBlock) => return Err(Failure::Locked(self.path.clone())),
            Err(TryLockError::Error(error)) => return Err(Failure::Io { path, error }),
        }
        Ok(())
    }

    /// Replaces the file of a source by what `write` writes; returns its size. Whatever fails, the old one stays.
    pub(super) fn replace(
        &mut self,
        source: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<u64, Failure> {
        self.lock()?;
        let path = self.file(source);
        let new = path.with_extension("new");
        let replaced = write_new(&new, write).and_then(|size| {
            std::fs::rename(&new, &path)?;
            // The name, too, has to be there after a power cut.
            File::open(&self.path)?.sync_all()?;
            Ok(size)
        });
        replaced.map_err(|error| {
            // On a full disk it is in the way of others; it is gone already if only the last step failed.
            let _ = std::fs::remove_file(&new);
            Failure::Io { path, error }
        })
    }
}

fn write_new(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<u64> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // New: nobody's link is followed, and the mode is ours.
    let file = OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(path)?;
    let mut out = BufWriter::with_capacity(WRITE_BEHIND, file);
    write(&mut out)?;
    out.flush()?;
    let file = out.get_ref();
    file.sync_all()?;
    Ok(file.metadata()?.len())
}
