//! Writes our pid into a file while we run, for who looks for us there.
//!
//! Nobody is kept from starting by it: who owns an address is decided by the locks of the listeners. A file that is left behind by a
//! supervisor that was killed is replaced; at the end the file is removed only if it is still the one that we wrote.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::report;

/// Everybody may read who we are.
const MODE: u32 = 0o644;

/// The file can't be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write supervisor.pid_file {path}: {1}", path = .0.display())]
pub(crate) struct Unwritten(PathBuf, #[source] io::Error);

/// The file, as long as we run.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl PidFile {
    /// Writes it in one step: who reads it reads a whole number, the old one or ours.
    ///
    /// # Errors
    /// [`Unwritten`]; whatever was there is still there.
    pub(super) fn write(path: &Path) -> Result<PidFile, Unwritten> {
        let own = std::process::id();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{own}"));
        let draft = path.with_file_name(name);
        let written = draft_of(&draft, own).and_then(|identity| fs::rename(&draft, path).map(|()| identity));
        match written {
            Ok(identity) => Ok(PidFile { path: path.to_owned(), identity }),
            Err(error) => {
                let _absent_or_removed = fs::remove_file(&draft);
                Err(Unwritten(path.to_owned(), error))
            }
        }
    }
}

fn draft_of(draft: &Path, pid: u32) -> io::Result<(u64, u64)> {
    use io::Write;
    // One of our own pid is left from long ago. Nothing is followed, and nothing of somebody else's is written.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(draft)?;
    file.write_all(format!("{pid}\n").as_bytes())?;
    let about = file.metadata()?;
    Ok((about.dev(), about.ino()))
}

impl Drop for PidFile {
    fn drop(&mut self) {
        match fs::symlink_metadata(&self.path) {
            // The kernel gives numbers of files that are gone to new ones, so the content has to be ours as well.
            Ok(about) if (about.dev(), about.ino()) == self.identity && says_our_pid(&self.path) => {
                if let Err(error) = fs::remove_file(&self.path) {
                    report::log::pid_file_left(&self.path, &error);
                }
            }
            Ok(_) => report::log::pid_file_of_another(&self.path),
            Err(_) => {} // somebody has tidied up already
        }
    }
}

fn says_our_pid(path: &Path) -> bool {
    fs::read(path).is_ok_and(|said| said == format!("{}\n", std::process::id()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_while_we_run_and_replaces_one_that_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        fs::write(&path, "999999\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_file_of_another_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let (first, second) = (PidFile::write(&path).unwrap(), PidFile::write(&path).unwrap());
        drop(first);
        assert!(path.exists(), "the second one's");
        // Perhaps with the number of the file before it.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(second);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn one_that_cannot_be_written_is_named() {
        let refused = PidFile::write(Path::new("/no/such/directory/pid")).unwrap_err().to_string();
        assert!(refused.contains("supervisor.pid_file /no/such/directory/pid"), "{refused}");
    }
}
