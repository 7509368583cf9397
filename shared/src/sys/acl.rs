//! Asks files for their lists of access rights (acl(5)), which no crate here reads.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// Whether a file has a list of access rights, by which others may have rights that its mode does not show.
///
/// No when that can't be found out: most filesystems without such lists say that they are not supported.
#[must_use]
pub fn has_one(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both texts end in NUL and outlive the call; with a size of 0 nothing is written (getxattr(2)).
    unsafe { libc::getxattr(path.as_ptr(), c"system.posix_acl_access".as_ptr(), ptr::null_mut(), 0) > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_has_none() {
        assert!(!has_one(Path::new("/no/such/file")));
        assert!(!has_one(Path::new("/proc/self/status")), "proc(5) knows no such lists");
    }

    #[test]
    fn a_list_that_was_set_is_seen() {
        let file = std::env::temp_dir().join(format!("ostler-acl-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let name = CString::new(file.as_os_str().as_bytes()).unwrap();
        // Version 2 and five entries: owner rw, user 1 x, group r, mask rwx, others none (linux/posix_acl_xattr.h).
        let entries: [(u16, u16, u32); 5] =
            [(0x01, 6, u32::MAX), (0x02, 1, 1), (0x04, 4, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)];
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(rights.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        // SAFETY: the texts end in NUL, the list has the length that is said, and all outlive the call.
        let set = unsafe {
            libc::setxattr(name.as_ptr(), c"system.posix_acl_access".as_ptr(), list.as_ptr().cast(), list.len(), 0)
        };
        let error = std::io::Error::last_os_error();
        let seen = has_one(&file);
        std::fs::remove_file(&file).unwrap();
        // A filesystem that has no lists at all says so, and then there is none to be seen.
        assert_eq!(seen, set == 0, "{error}");
        assert!(set == 0 || error.raw_os_error() == Some(libc::EOPNOTSUPP), "{error}");
    }
}
