//! `--cookie-secret-file`: secrets that several servers share, and that change without a restart.
//!
//! The file is so small that it is read, not watched: a plain thread does so every [`POLL`], and so sees an editor's
//! rename and the symlink swap of a mounted Secret alike. What two looks in a row agree on counts (S2).

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Cookies, SECRET, Secrets};
use crate::limits;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(400);
/// The longest file that is read, in octets.
const LONGEST_FILE: usize = 4096;
/// The most secrets: each costs a hash of every cookie that is none of ours.
const MOST: usize = 8;

/// A file of secrets that cannot be used. No message shows any part of a secret.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SecretsError {
    /// The operating system says no.
    #[error("{}: cannot be read: {reason}; check the path and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A line is no secret, or one too many.
    #[error("{}:{line}: {reason}; {FORM}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// No line is a secret.
    #[error("{}: has no secret; {FORM}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What a file has to look like.
const FORM: &str = "write 32 hexadecimal digits a line, the secret that makes cookies first; \
                    `openssl rand -hex 16` makes one";

impl Secrets {
    /// A secret a line, in hexadecimal digits; empty lines and those that begin with `#` are left out.
    fn parse(path: &Path, content: &[u8]) -> Result<Secrets, SecretsError> {
        let wrong = |line: usize, reason| SecretsError::Line { path: path.to_owned(), line, reason };
        if content.len() > LONGEST_FILE {
            return Err(wrong(1, format!("the file has more than {LONGEST_FILE} octets")));
        }
        let mut secrets = Vec::new();
        for (text, number) in content.split(|octet| *octet == b'\n').zip(1..) {
            let text = text.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            if secrets.len() == MOST {
                return Err(wrong(number, format!("there are more than {MOST} secrets")));
            }
            secrets.push(secret(text).map_err(|reason| wrong(number, reason))?);
        }
        match secrets.split_first() {
            Some((first, others)) => Ok(Secrets::new(*first, others)),
            None => Err(SecretsError::Empty { path: path.to_owned() }),
        }
    }
}

/// The file's octets, and one more than may be if there are more.
fn content(path: &Path) -> Result<Vec<u8>, SecretsError> {
    let mut content = Vec::new();
    let read =
        limits::open_file(path).and_then(|file| file.take(LONGEST_FILE as u64 + 1).read_to_end(&mut content));
    match read {
        Ok(_) => Ok(content),
        Err(error) => Err(SecretsError::Io { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn secret(text: &[u8]) -> Result<[u8; SECRET], String> {
    let mut secret = [0; SECRET];
    if text.len() != 2 * SECRET {
        return Err(format!("the line has {} characters", text.len()));
    }
    for (at, digit) in text.iter().enumerate() {
        let value = char::from(*digit).to_digit(16);
        let value = value.ok_or_else(|| format!("character {} is no hexadecimal digit", at + 1))?;
        secret[at / 2] = secret[at / 2] << 4 | value as u8;
    }
    Ok(secret)
}

/// Keeps cookies at what a file says.
pub struct Follower {
    path: PathBuf,
    cookies: Arc<Cookies>,
    /// 1 in the metrics: the file is as it should be.
    up: Arc<AtomicBool>,
    /// What the last look found.
    seen: Result<Vec<u8>, SecretsError>,
    /// What was last made something of: good or bad, that is done once.
    used: Result<Vec<u8>, SecretsError>,
}

impl Follower {
    /// Reads the file for the first time, which must succeed.
    pub fn new(path: PathBuf, up: Arc<AtomicBool>) -> Result<(Follower, Arc<Cookies>), SecretsError> {
        let content = content(&path)?;
        let cookies = Arc::new(Cookies::new(Secrets::parse(&path, &content)?));
        up.store(true, Ordering::Relaxed);
        let follower =
            Follower { path, cookies: cookies.clone(), up, seen: Ok(content.clone()), used: Ok(content) };
        Ok((follower, cookies))
    }

    /// Follows changes until `stop` says so. Runs on a thread of its own.
    pub fn follow(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(POLL);
            self.look();
        }
    }

    /// Looks once.
    pub(super) fn look(&mut self) {
        let found = content(&self.path);
        let settled = found == self.seen;
        self.seen = found;
        if !settled || self.seen == self.used {
            return;
        }
        self.used = self.seen.clone();
        let parsed = match &self.used {
            Ok(content) => Secrets::parse(&self.path, content),
            Err(error) => Err(error.clone()),
        };
        self.up.store(parsed.is_ok(), Ordering::Relaxed);
        match parsed {
            Ok(secrets) => {
                let count = secrets.count();
                self.cookies.replace(secrets);
                tracing::info!(file = %self.path.display(), secrets = count, "cookie secrets loaded");
            }
            Err(error) => tracing::warn!("{error}; the last good cookie secrets stay"),
        }
    }
}
