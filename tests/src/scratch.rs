//! Gives a test a directory of its own, and checks at the end what is left in it.
//!
//! Removed when the test passed; kept, and its name printed, when it failed.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// A test's directory; clones are the same directory.
#[derive(Debug, Clone)]
pub struct Scratch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Something was killed on purpose: sockets and locks may be left.
    disorderly: AtomicBool,
    next: AtomicU32,
}

impl Scratch {
    /// A new, empty directory with a runtime directory (0700) in it.
    ///
    /// # Panics
    /// When the machine has no room for it.
    #[must_use]
    pub fn new() -> Scratch {
        let dir = tempfile::Builder::new()
            .prefix("ostler-test-")
            .tempdir()
            .expect("cannot make a temporary directory")
            .keep();
        // Workers may run as somebody else, who has to reach the sockets.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
        let runtime = dir.join("runtime");
        fs::create_dir(&runtime).expect("the directory is ours");
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).expect("the directory is ours");
        Scratch(Arc::new(Inner { dir, disorderly: AtomicBool::new(false), next: AtomicU32::new(0) }))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.dir.join(name)
    }

    /// Writes a file in it and answers with its path.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }

    /// From now on sockets and locks may be left: a supervisor was killed on purpose.
    pub fn expect_disorder(&self) {
        self.0.disorderly.store(true, Ordering::Relaxed);
    }

    /// A number that nobody else got from this directory.
    pub(crate) fn next_number(&self) -> u32 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept: {}", self.dir.display());
            return;
        }
        let left = if self.disorderly.load(Ordering::Relaxed) { Vec::new() } else { leftovers(&self.dir) };
        let _ = fs::remove_dir_all(&self.dir);
        assert!(left.is_empty(), "left behind by an orderly stop: {left:?}");
    }
}

/// Sockets, lock files and scoreboards that lie below a directory.
#[must_use]
pub fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &Path| {
        path.extension().is_some_and(|extension| ["lock", "board", "new"].iter().any(|ours| extension == *ours))
    };
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_socket() || is_ours(&path) {
                found.push(path);
            }
        }
    }
    found
}
