//! Keeps a scoreboard in a file: made aside and renamed into place by the supervisor, opened with suspicion by everybody else.
//!
//! Nothing is mapped. Whoever truncates the file harms neither side: the next state that is published makes it whole, and a
//! reader is told.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::SUFFIX;
use super::banks::{Load, NotPublished, Publisher, Store, Unreadable, read};
use super::content::{BadContent, Content};
use crate::sys::memory::WORD;

/// Nobody but the supervisor's user.
const MODE: u32 = 0o600;

/// Where the scoreboard of the supervisor with this control socket is.
#[must_use]
pub fn beside(control: &Path) -> PathBuf {
    appended(control, SUFFIX)
}

fn appended(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}

impl Store for File {
    fn store(&self, at: usize, words: &[u64]) -> io::Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write_all_at(&bytes, (at * WORD) as u64)
    }
}

impl Load for File {
    fn load(&self, at: usize, words: &mut [u64]) -> io::Result<()> {
        let mut bytes = vec![0; words.len() * WORD];
        self.read_exact_at(&mut bytes, (at * WORD) as u64)?;
        bytes.as_slice().load(0, words)
    }
}

// ── the supervisor's side ──────────────────────────────────────────────────────────────────────────────────────

/// The file that a supervisor publishes in. Dropped, it is unlinked if it is still the one at its path.
#[derive(Debug)]
pub struct Posted {
    publisher: Publisher<File>,
    path: PathBuf,
}

impl Posted {
    /// Puts a new scoreboard with its first state at `path`, in place of whatever is there: the path belongs to whoever owns
    /// the control socket beside it. Nobody ever sees one without a state.
    ///
    /// # Errors
    /// [`NotPublished`]: the directory can't be written to, or is full.
    pub fn post(path: &Path, content: &[u8]) -> Result<Posted, NotPublished> {
        let aside = appended(path, ".new");
        // What a killed supervisor left in the middle of this.
        if let Err(error) = fs::remove_file(&aside)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
        let options = OFlag::O_NOFOLLOW.bits();
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).custom_flags(options).open(&aside)?;
        let mut publisher = Publisher::new(file);
        // Whatever the umask is.
        let posted = publisher.store().set_permissions(Permissions::from_mode(MODE)).map_err(NotPublished::from);
        let posted = posted.and_then(|()| publisher.publish(content));
        match posted.and_then(|()| Ok(fs::rename(&aside, path)?)) {
            Ok(()) => Ok(Posted { publisher, path: path.to_owned() }),
            Err(error) => {
                // What is left of it is found by the next try.
                let _removed = fs::remove_file(&aside);
                Err(error)
            }
        }
    }

    /// Publishes the next state.
    ///
    /// # Errors
    /// [`NotPublished`].
    pub fn publish(&mut self, content: &[u8]) -> Result<(), NotPublished> {
        self.publisher.publish(content)
    }

    /// Whether the file is still the one at its path: somebody may have tidied up.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        let identity = |found: &fs::Metadata| (found.dev(), found.ino());
        let own = self.publisher.store().metadata().map(|found| identity(&found));
        let there = fs::symlink_metadata(&self.path).map(|found| identity(&found));
        matches!((own, there), (Ok(own), Ok(there)) if own == there)
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        if self.is_in_place() {
            // A directory that can't be written to any more keeps it; its readers find that its supervisor is gone.
            let _unlinked = fs::remove_file(&self.path);
        }
    }
}

// ── the readers' side ──────────────────────────────────────────────────────────────────────────────────────────

/// A scoreboard to read from. Each read opens it anew, so that it may be replaced meanwhile.
#[derive(Debug, Clone)]
pub struct Board {
    path: PathBuf,
}

/// Why a scoreboard is not read.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// There is none.
    #[error("there is no scoreboard at {}", .0.display())]
    Missing(PathBuf),
    /// It can't be opened or read.
    #[error("cannot read the scoreboard {path}: {1}", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// It is a link, a directory, a device, or the like.
    #[error("{} is no regular file, so it is no scoreboard: remove it", .0.display())]
    NotAFile(PathBuf),
    /// Somebody else made it.
    #[error("{path} belongs to uid {1}, who is neither root nor this user: it is not read", path = .0.display())]
    Foreign(PathBuf, u32),
    /// Somebody else could have written to it.
    #[error("{path} has mode {1:04o}, and others than its owner may use it: it is not read (a scoreboard has 0600)", path = .0.display())]
    Open(PathBuf, u32),
    /// There is no state in it.
    #[error("cannot read the scoreboard {path}: {1}", path = .0.display())]
    Unreadable(PathBuf, #[source] Unreadable),
    /// What is in it is not understood.
    #[error("cannot read the scoreboard {path}: {1}", path = .0.display())]
    Content(PathBuf, #[source] BadContent),
}

impl Board {
    /// The scoreboard at this path, if there is one that may be read.
    ///
    /// # Errors
    /// [`BoardError`], as [`Board::read`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Board, BoardError> {
        let board = Board { path: path.into() };
        board.file()?;
        Ok(board)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was published last. Waits for nobody.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn read(&self) -> Result<Content, BoardError> {
        let file = self.file()?;
        let bytes = read(&file).map_err(|why| BoardError::Unreadable(self.path.clone(), why))?;
        Content::decode(&bytes).map_err(|why| BoardError::Content(self.path.clone(), why))
    }

    /// Opens it without following a link or waiting for a pipe, and looks whose it is before it is read.
    fn file(&self) -> Result<File, BoardError> {
        let options = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let path = || self.path.clone();
        let file = OpenOptions::new().read(true).custom_flags(options).open(&self.path).map_err(|error| {
            match (error.kind(), error.raw_os_error()) {
                (io::ErrorKind::NotFound, _) => BoardError::Missing(path()),
                // A link; a socket.
                (_, Some(libc::ELOOP | libc::ENXIO)) => BoardError::NotAFile(path()),
                _ => BoardError::Io(path(), error),
            }
        })?;
        let found = file.metadata().map_err(|error| BoardError::Io(path(), error))?;
        let us = geteuid().as_raw();
        if !found.is_file() {
            return Err(BoardError::NotAFile(path()));
        }
        // Root may look at anybody's, as it may ask anybody; what it reads there is bounded and checked.
        if us != 0 && found.uid() != us && found.uid() != 0 {
            return Err(BoardError::Foreign(path(), found.uid()));
        }
        if found.mode() & 0o077 != 0 {
            return Err(BoardError::Open(path(), found.mode() & 0o7777));
        }
        Ok(file)
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
