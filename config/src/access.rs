//! Decides from mode bits whether a user could enter a directory or execute a file.
//!
//! access(2) answers for the process that asks, which is mostly root. What mode bits don't tell (a security module, a
//! file server) shows when a worker starts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid, getgroups};

use crate::checked::Process;

/// Who would enter or execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Visitor {
    /// The worker that a process configuration makes; `None` when it is who the supervisor is.
    pub(crate) fn of(process: &Process) -> Option<Visitor> {
        let Process { user, group, groups, .. } = process;
        if user.is_none() && group.is_none() && groups.is_none() {
            return None;
        }
        let own_groups = || getgroups().unwrap_or_default().into_iter().map(|gid| gid.as_raw()).collect();
        Some(Visitor {
            uid: user.as_ref().map_or_else(|| geteuid().as_raw(), |account| account.uid),
            gid: group.unwrap_or_else(|| getegid().as_raw()),
            groups: groups.clone().unwrap_or_else(own_groups),
        })
    }

    /// The first thing on the way to `path`, itself included, that this visitor may not enter or execute.
    ///
    /// What can't be looked at stands in nobody's way: it is missing, which others say better.
    pub(crate) fn barrier(&self, path: &Path) -> Option<PathBuf> {
        // Links are followed, so that the directories are those that the kernel will go through.
        let real = fs::canonicalize(path).ok()?;
        let mut way: Vec<&Path> = real.ancestors().collect();
        way.reverse();
        way.into_iter().find(|step| !self.may_pass(step)).map(Path::to_owned)
    }

    /// Whether this visitor may enter a directory or execute a file, once it is there.
    pub(crate) fn may_pass(&self, path: &Path) -> bool {
        let Ok(about) = fs::metadata(path) else { return true };
        let bits = about.mode();
        if self.uid == 0 {
            return about.is_dir() || bits & 0o111 != 0;
        }
        let wanted = self.bit_that_counts(about.uid(), about.gid());
        // A list of access rights says more than the bits, and may allow what they seem to forbid.
        bits & wanted != 0 || ostler_shared::sys::acl::has_one(path)
    }

    /// One of them alone: an owner without the owner's bit is not helped by those of others.
    fn bit_that_counts(&self, owner: u32, group: u32) -> u32 {
        if owner == self.uid {
            0o100
        } else if group == self.gid || self.groups.contains(&group) {
            0o010
        } else {
            0o001
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn visitor(uid: u32, gid: u32, groups: &[u32]) -> Visitor {
        Visitor { uid, gid, groups: groups.to_owned() }
    }

    /// A file in a directory in a directory, with these modes.
    fn tree(outer: u32, inner: u32, file: u32) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("dir");
        fs::create_dir(&dir).unwrap();
        let path = dir.join("file");
        fs::write(&path, "").unwrap();
        for (path, mode) in [(&path, file), (&dir, inner), (&root.path().to_owned(), outer)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        (root, path)
    }

    /// A user that is neither who runs this nor in one of its groups.
    const STRANGER: u32 = 54_321;

    #[test]
    fn a_stranger_needs_the_last_bit_on_the_whole_way() {
        let stranger = visitor(STRANGER, STRANGER, &[]);
        let (_open, path) = tree(0o711, 0o711, 0o711);
        assert_eq!(stranger.barrier(&path), None);
        let (root, path) = tree(0o710, 0o700, 0o700);
        assert_eq!(stranger.barrier(&path), Some(fs::canonicalize(root.path()).unwrap()), "the outermost one is named");
        let (_root, path) = tree(0o711, 0o711, 0o770);
        assert_eq!(stranger.barrier(&path), Some(fs::canonicalize(&path).unwrap()));
    }

    #[test]
    fn the_owner_has_one_bit_the_groups_another_and_others_the_last() {
        let visitor = visitor(7, 8, &[9]);
        assert_eq!(visitor.bit_that_counts(7, 8), 0o100);
        assert_eq!(visitor.bit_that_counts(1, 8), 0o010);
        assert_eq!(visitor.bit_that_counts(1, 9), 0o010);
        assert_eq!(visitor.bit_that_counts(1, 7), 0o001);
    }

    #[test]
    fn root_enters_everywhere_and_executes_what_anybody_can() {
        let root = visitor(0, 0, &[]);
        let (_root, path) = tree(0o700, 0o000, 0o001);
        assert!(root.may_pass(path.parent().unwrap()));
        let (_root, path) = tree(0o700, 0o700, 0o600);
        assert_eq!(root.barrier(&path), Some(fs::canonicalize(&path).unwrap()));
    }

    #[test]
    fn links_lead_to_what_they_name() {
        let (_root, path) = tree(0o711, 0o700, 0o711);
        let (other, _) = tree(0o711, 0o711, 0o711);
        let link = other.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let barrier = visitor(STRANGER, STRANGER, &[]).barrier(&link);
        assert_eq!(barrier, Some(fs::canonicalize(path.parent().unwrap()).unwrap()));
    }

    #[test]
    fn a_way_that_is_not_there_is_closed_to_nobody() {
        assert_eq!(visitor(STRANGER, STRANGER, &[]).barrier(Path::new("/no/such/way")), None);
    }
}
