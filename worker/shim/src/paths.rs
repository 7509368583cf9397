//! Leaves the pool's own sockets where they are: programs unlink or rename what they were given, and it is not theirs.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use libc::{AT_FDCWD, AT_SYMLINK_NOFOLLOW, c_char, c_int, c_uint};

use crate::originals::{self, aside};
use crate::post::post;

/// Whether a path leads to one of the pool's sockets, however it is written.
///
/// # Safety
/// `path` must be null or end in NUL.
unsafe fn is_ours(dir: c_int, path: *const c_char) -> bool {
    let Some(post) = post().filter(|post| !post.paths.is_empty() && !path.is_null()) else { return false };
    // SAFETY: (caller) it ends in NUL.
    let path = unsafe { CStr::from_ptr(path) };
    aside(|| {
        let named = file(dir, path);
        named.is_some() && post.paths.iter().any(|own| file(AT_FDCWD, own) == named)
    })
}

fn file(dir: c_int, path: &CStr) -> Option<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path ends in NUL; fstatat writes a whole stat where it answers 0.
    unsafe {
        let answer = libc::fstatat(dir, path.as_ptr(), stat.as_mut_ptr(), AT_SYMLINK_NOFOLLOW);
        (answer == 0).then(|| {
            let stat = stat.assume_init();
            (stat.st_dev, stat.st_ino)
        })
    }
}

/// unlink(2).
///
/// # Safety
/// As for unlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: (caller) as for unlink(2).
    unsafe { if is_ours(AT_FDCWD, path) { 0 } else { originals::unlink(path) } }
}

/// unlinkat(2).
///
/// # Safety
/// As for unlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: (caller) as for unlinkat(2).
    unsafe { if is_ours(dir, path) { 0 } else { originals::unlinkat(dir, path, flags) } }
}

/// remove(3).
///
/// # Safety
/// As for remove(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remove(path: *const c_char) -> c_int {
    // SAFETY: (caller) as for remove(3).
    unsafe { if is_ours(AT_FDCWD, path) { 0 } else { originals::remove(path) } }
}

/// rename(2).
///
/// # Safety
/// As for rename(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: (caller) as for rename(2).
    unsafe { if is_ours(AT_FDCWD, from) || is_ours(AT_FDCWD, to) { 0 } else { originals::rename(from, to) } }
}

/// renameat(2).
///
/// # Safety
/// As for renameat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char) -> c_int {
    // SAFETY: (caller) as for renameat(2).
    unsafe {
        if is_ours(from_dir, from) || is_ours(to_dir, to) { 0 } else { originals::renameat(from_dir, from, to_dir, to) }
    }
}

/// renameat2(2).
///
/// # Safety
/// As for renameat2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: (caller) as for renameat2(2).
    unsafe {
        if is_ours(from_dir, from) || is_ours(to_dir, to) {
            0
        } else {
            originals::renameat2(from_dir, from, to_dir, to, flags)
        }
    }
}
