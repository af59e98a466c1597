//! How much of anything is read (S7): every bound, with its unit, why it is what it is, and where that comes from.
//!
//! Whoever writes an entry decides how much memory it takes here, and whoever serves a list how long it is. Beyond a
//! bound there is a finding or an error that names it, and nothing but what is beyond is lost.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Items of `spec.hosts`, `spec.addresses`, `spec.exportTo` and `status.addresses` that are read. Istio's CRD admits 256
/// hosts and 256 addresses since 1.23, and any number before.
pub const MOST_ITEMS: usize = 10_000;

/// Addresses of one host, of all the entries that are merged for it. As AAAA records they take 28,672 octets, so a reply
/// over TCP, which has at most 65,535 (RFC 1035 section 4.2.2), holds them all (D13).
pub const MOST_ADDRESSES: usize = 1_024;

/// Findings about hosts and addresses that one entry has by itself. A finding takes several hundred octets, and the ten
/// that it is about may be repeated a hundred thousand times in an object of 1.5 MiB, which is what etcd takes
/// (`--max-request-bytes`).
pub const MOST_FINDINGS: usize = 100;

/// Octets of one reply of the API server, and of one event of a watch. An object has at most 3 MiB (the API server's
/// limit for requests); for a list that has more than this, fewer objects are asked for at a time.
pub const MOST_REPLY: usize = 16 << 20;

/// Objects asked for at a time, unless they turn out too big together; what kubectl asks for.
pub const PAGE: u32 = 500;

/// Entries of one complete list. A million is the largest mesh that is measured; a list that goes on for ever is
/// broken.
pub const MOST_ENTRIES: usize = 4_000_000;

/// Octets of one file, or of standard input. A million entries as YAML take 300 MiB.
pub const MOST_FILE: u64 = 512 << 20;

/// Events of YAML (values, and ends of lists and maps) that a document keeps for its aliases. The library's million, which
/// an alias bomb fills, takes 100 MiB.
pub const MOST_ANCHORED: usize = 100_000;

/// Files below the directories of `--file`.
pub const MOST_FILES: usize = 100_000;

/// Directories below one another; a tree that is deeper was not meant.
pub const MOST_DIRECTORIES_DEEP: u32 = 32;

/// Octets of a kubeconfig. With certificates for a hundred clusters it has 1 MiB.
pub const MOST_KUBECONFIG: u64 = 16 << 20;

/// Octets of a list of names (K1): a million names of 64.
pub const MOST_NAMES: u64 = 64 << 20;

/// Octets of the text that `stub-domains emit --live` puts an edit into: what etcd takes of a ConfigMap.
pub const MOST_LIVE: u64 = 3 << 20;

/// Characters of what an API server says went wrong: it is kept, and in log lines and findings.
pub const MOST_MESSAGE: usize = 1_000;

/// Octets that are kept of a field manager's name, which the API server bounds at 128, and of a resource version.
pub const MOST_MANAGER: usize = 128;

/// Changes of the table that are remembered (I6), and the octets that they may take.
pub const MOST_CHANGES: usize = 1_000;
/// See [`MOST_CHANGES`]. An ordinary change takes 400 octets; one of hosts with a thousand addresses 40 KiB.
pub const MOST_CHANGES_OCTETS: usize = 1 << 20;

/// Reads at most `most` octets, and says so where there are more.
pub fn read_to_string(input: impl Read, most: u64) -> io::Result<String> {
    let mut text = String::new();
    bounded(input, most).read_to_string(&mut text)?;
    Ok(text)
}

/// The same of a file, which may be a pipe.
pub fn read_file(path: &Path, most: u64) -> io::Result<String> {
    read_to_string(File::open(path)?, most)
}

/// What is no file.
#[derive(Debug, thiserror::Error)]
#[error("it is no file")]
struct NoFile;

/// Opens a file: who opens a pipe waits for somebody who writes, and a device may never end.
pub fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other(NoFile)) }
}

/// Whether that is why it was not opened.
pub fn is_no_file(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoFile>())
}

/// Gives at most `most` octets; a read beyond them fails, so that a part is never taken for the whole.
pub fn bounded(input: impl Read, most: u64) -> impl Read {
    Bounded { input, left: most, most }
}

struct Bounded<R> {
    input: R,
    left: u64,
    most: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        if room == 0 && !out.is_empty() {
            return match self.input.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(too_large(self.most)),
            };
        }
        let read = self.input.read(&mut out[..room])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// What is said of anything that has more than `most` octets.
pub fn too_large(most: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("it has more than {most} octets, and no more are read"),
    )
}

/// A text of somebody else's, as long as we keep it.
pub fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [S7]
    #[test]
    fn what_is_longer_than_it_may_be_is_an_error_and_never_a_part() {
        for (octets, most, whole) in
            [(0, 0, true), (1, 0, false), (9, 10, true), (10, 10, true), (11, 10, false)]
        {
            let read = read_to_string(&vec![b'x'; octets][..], most);
            assert_eq!(
                read.as_ref().is_ok_and(|text| text.len() == octets),
                whole,
                "{octets} of {most}: {read:?}"
            );
        }
        // One that never ends does.
        let error = read_to_string(io::repeat(b'x'), 1 << 20).expect_err("endless");
        assert_eq!(error.to_string(), "it has more than 1048576 octets, and no more are read");
    }

    /// [S7]
    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((shorten("éé", 2), shorten("ééé", 2)), ("éé".to_owned(), "éé…".to_owned()));
    }
}
