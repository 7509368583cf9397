//! Owns a Unix path: whoever holds the lock on `PATH.lock` may bind, replace and unlink PATH, nobody else.
//!
//! The lock is the kernel's (flock(2)) and ends with its holder, so a killed supervisor leaves nothing to clean up by
//! hand. The file holds the listener's cookie, which unlike an inode is never reused, and which file the path was, to recognise
//! a listener that outlived its owner.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How often the lock file may be replaced under our hands before we give up.
const TRIES_MAX: u32 = 8;
/// Longest record: a cookie, a device and an inode in decimal, with what separates them.
const RECORD_TEXT_MAX: u64 = 64;

/// Which file a path leads to. An inode is not reused while a socket is bound to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What the owner of a path writes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its listener's, never reused.
    pub(crate) cookie: u64,
    /// Where the path led to.
    pub(crate) file: FileIdentity,
}

/// What becomes of the lock file when the lock is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtEnd {
    Unlink,
    /// The listener lives on, and its next owner has to recognise it.
    Keep,
}

/// Why a path could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Somebody holds the lock.
    #[error("{path} belongs to another supervisor that is running (it holds {path}.lock): stop that one, or listen elsewhere", path = .0.display())]
    Held(PathBuf),
    /// The lock file can't be used.
    #[error("cannot lock {path}: {1}: check that its directory exists and that this user may write there", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// The right to a path, held for life.
#[derive(Debug)]
pub(crate) struct PathLock {
    file: Flock<File>,
    lock_path: PathBuf,
    at_end: AtEnd,
}

impl PathLock {
    /// Takes the lock of `path`. Never waits.
    pub(crate) fn take(path: &Path) -> Result<PathLock, LockError> {
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let failed = |error| LockError::Io(lock_path.clone(), error);
        for _ in 0..TRIES_MAX {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
                .open(&lock_path)
                .map_err(failed)?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Err(LockError::Held(path.to_owned())),
                Err((_, error)) => return Err(failed(error.into())),
            };
            // Its last owner may have unlinked it between our open and our lock.
            if is_still_at(&file, &lock_path).map_err(failed)? {
                return Ok(PathLock { file, lock_path, at_end: AtEnd::Unlink });
            }
        }
        Err(failed(io::Error::other("it is replaced again and again")))
    }

    /// What the last owner wrote down, if it did.
    pub(crate) fn recorded(&self) -> Option<Record> {
        let mut file: &File = &self.file;
        file.rewind().ok()?;
        let mut text = String::new();
        file.take(RECORD_TEXT_MAX).read_to_string(&mut text).ok()?;
        let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
        let (cookie, device, inode) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Record { cookie, file: FileIdentity { device, inode } })
    }

    /// Writes down whose the path is now.
    pub(crate) fn record(&self, listener: impl AsFd, identity: FileIdentity) -> io::Result<()> {
        let cookie = ostler_shared::sys::socket::cookie(listener.as_fd())?;
        let mut file: &File = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{cookie} {} {}\n", identity.device, identity.inode).as_bytes())
    }

    /// Leaves the lock file behind when the lock is given up.
    pub(crate) fn outlive(&mut self) {
        self.at_end = AtEnd::Keep;
    }
}

impl Drop for PathLock {
    /// Unlinks the lock file, still under the lock, unless it is to stay.
    fn drop(&mut self) {
        if self.at_end == AtEnd::Unlink && is_still_at(&self.file, &self.lock_path).unwrap_or(false) {
            // Left behind it does no harm: the next owner locks it again.
            let _unlinked = std::fs::remove_file(&self.lock_path);
        }
    }
}

fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok((held.dev(), held.ino()) == (found.dev(), found.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_owner_and_is_free_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let lock = PathLock::take(&path).unwrap();
        assert!(matches!(PathLock::take(&path), Err(LockError::Held(_))));
        drop(lock);
        assert!(!dir.path().join("x.sock.lock").exists());
        PathLock::take(&path).unwrap();
    }

    #[test]
    fn what_is_recorded_can_outlive_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let cookie = ostler_shared::sys::socket::cookie(listener.as_fd()).unwrap();
        let file = FileIdentity { device: u64::MAX, inode: u64::MAX };
        let mut lock = PathLock::take(&path).unwrap();
        assert_eq!(lock.recorded(), None);
        lock.record(&listener, file).unwrap();
        assert_eq!(lock.recorded(), Some(Record { cookie, file }));
        lock.outlive();
        drop(lock);
        let again = PathLock::take(&path).unwrap();
        assert_eq!(again.recorded(), Some(Record { cookie, file }));
        drop(again);
        assert_eq!(PathLock::take(&path).unwrap().recorded(), None);
    }

    #[test]
    fn half_a_record_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        for text in ["", "1", "1 2", "1 2 x"] {
            std::fs::write(dir.path().join("x.sock.lock"), text).unwrap();
            assert_eq!(PathLock::take(&path).unwrap().recorded(), None, "{text:?}");
        }
    }

    #[test]
    fn a_lock_file_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("x.sock.lock")).unwrap();
        assert!(matches!(PathLock::take(&path), Err(LockError::Io(..))));
    }
}
