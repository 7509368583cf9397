//! Decides from mode bits whether a user could enter a directory or execute a file.
//!
//! access(2) answers for the process that asks, which is mostly root. What mode bits don't tell (a security module, a
//! file server) shows when a worker starts.

use std::ffi::CStr;
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
        bits & wanted != 0 || has_list_of_rights(path)
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

/// Whether a file has a list of access rights (acl(5)), by which others may have rights that its mode does not show.
///
/// No when that can't be found out: most filesystems without such lists say that they are not supported.
fn has_list_of_rights(path: &Path) -> bool {
    rustix::fs::getxattr_query(path, LIST_OF_RIGHTS).is_ok_and(|len| len > 0)
}

const LIST_OF_RIGHTS: &CStr = c"system.posix_acl_access";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{XattrFlags, setxattr};
    use rustix::io::Errno;

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
    fn what_is_not_there_has_no_list_of_rights() {
        assert!(!has_list_of_rights(Path::new("/no/such/file")));
        assert!(!has_list_of_rights(Path::new("/proc/self/status")), "proc(5) knows no such lists");
    }

    #[test]
    fn a_list_of_rights_that_was_set_is_seen() {
        let (_root, path) = tree(0o700, 0o700, 0o600);
        // Version 2 and five entries: owner rw, user 1 x, group r, mask rwx, others none (linux/posix_acl_xattr.h).
        let entries: [(u16, u16, u32); 5] =
            [(0x01, 6, u32::MAX), (0x02, 1, 1), (0x04, 4, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)];
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(rights.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        let set = setxattr(&path, LIST_OF_RIGHTS, &list, XattrFlags::empty());
        // A filesystem that has no lists at all says so, and then there is none to be seen.
        assert_eq!(has_list_of_rights(&path), set.is_ok(), "{set:?}");
        assert!(matches!(set, Ok(()) | Err(Errno::OPNOTSUPP)), "{set:?}");
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
