//! Notices where descriptors end and what they are copied to.
//!
//! `fcntl` and `syscall` take a varying number of arguments in C. On the machines that ostler runs on these are passed in the
//! same registers as those of an ordinary function, so that they can be taken and passed on as integers.

use libc::{c_int, c_long, c_uint};

use ostler_shared::claims::Escape;

use crate::descriptors;
use crate::originals::{self, aside, set_errno};
use crate::post::{Post, post};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("find out how this machine passes variable arguments, and write it here");

/// close(2). Ostler's own descriptors are not the program's to close: it is told that they are not open.
///
/// # Safety
/// As for close(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if post().is_some_and(|post| post.is_own(fd) && post.me().is_some()) {
        set_errno(libc::EBADF);
        return -1;
    }
    let entrance = entrance(fd);
    let claim = descriptors::forget(fd);
    // SAFETY: (caller) as for close(2).
    let answer = unsafe { originals::close(fd) };
    if let Some(post) = entrance {
        aside(|| post.closed_mailbox());
    }
    if let (Some(claim), Some(post)) = (claim, post()) {
        aside(|| descriptors::finish(post, Some(claim)));
    }
    answer
}

/// Whether a descriptor is one by which this process alone takes connections.
fn entrance(fd: c_int) -> Option<&'static Post> {
    let post = post().filter(|post| !descriptors::is_connection(fd) && post.takes_alone())?;
    aside(|| post.is_true_mailbox(fd)).then_some(post)
}

/// close_range(2), around ostler's own.
///
/// # Safety
/// As for close_range(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    let closes = flags.cast_unsigned() & libc::CLOSE_RANGE_CLOEXEC == 0;
    let Some(post) = post().filter(|post| closes && first <= last && post.me().is_some()) else {
        // SAFETY: (caller) as for close_range(2).
        return unsafe { originals::close_range(first, last, flags) };
    };
    // What is not there any more is a number that no range has.
    let mut own = post.own().map(|fd| c_uint::try_from(fd).unwrap_or(c_uint::MAX));
    own.sort_unstable();
    let mut from = first;
    let mut answer = 0;
    for kept in own.into_iter().filter(|kept| *kept != c_uint::MAX && (first..=last).contains(kept)) {
        if from < kept {
            // SAFETY: (caller) as for close_range(2), on a part of it.
            answer |= unsafe { originals::close_range(from, kept - 1, flags) };
        }
        from = kept + 1;
    }
    if from <= last {
        // SAFETY: as above.
        answer |= unsafe { originals::close_range(from, last, flags) };
    }
    if answer == 0 {
        let [first, last] = [first, last].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        aside(|| descriptors::forget_range(first, last).for_each(|claim| descriptors::finish(post, Some(claim))));
    }
    answer
}

/// closefrom(3).
///
/// # Safety
/// As for closefrom(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn closefrom(first: c_int) {
    // SAFETY: (caller) as for closefrom(3).
    unsafe { close_range(c_uint::try_from(first).unwrap_or(0), c_uint::MAX, 0) };
}

/// dup(2).
///
/// # Safety
/// As for dup(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: (caller) as for dup(2).
    let copy = unsafe { originals::dup(fd) };
    descriptors::copied(fd, copy);
    copy
}

/// dup2(2).
///
/// # Safety
/// As for dup2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup2(from: c_int, to: c_int) -> c_int {
    // SAFETY: (caller) as for dup2(2).
    taken_over(from, to, || unsafe { originals::dup2(from, to) })
}

/// dup3(2).
///
/// # Safety
/// As for dup3(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    // SAFETY: (caller) as for dup3(2).
    taken_over(from, to, || unsafe { originals::dup3(from, to, flags) })
}

fn taken_over(from: c_int, to: c_int, duplicate: impl FnOnce() -> c_int) -> c_int {
    if let Some(post) = post().filter(|post| from != to && post.is_own(to) && post.me().is_some()) {
        aside(|| post.make_way(to));
    }
    let entrance = if from == to { None } else { entrance(to) };
    let before = if from == to { None } else { descriptors::forget(to) };
    let answer = duplicate();
    if answer == -1 {
        descriptors::restore(to, before);
        return answer;
    }
    if let Some(post) = entrance {
        aside(|| post.closed_mailbox());
    }
    if let (Some(before), Some(post)) = (before, post()) {
        aside(|| descriptors::finish(post, Some(before)));
    }
    descriptors::copied(from, to);
    answer
}

/// fcntl(2).
///
/// # Safety
/// As for fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
    // SAFETY: (caller) as for fcntl(2).
    controlled(fd, command, unsafe { originals::fcntl(fd, command, argument) })
}

/// fcntl(2), as programs call it that were built for large files.
///
/// # Safety
/// As for fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int {
    // SAFETY: (caller) as for fcntl(2).
    controlled(fd, command, unsafe { originals::fcntl64(fd, command, argument) })
}

fn controlled(fd: c_int, command: c_int, answer: c_int) -> c_int {
    if command == libc::F_DUPFD || command == libc::F_DUPFD_CLOEXEC {
        descriptors::copied(fd, answer);
    }
    answer
}

/// syscall(2). Node closes its descriptors in this way.
///
/// # Safety
/// As for syscall(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    // SAFETY: (caller) as for syscall(2), and for close(2) where that is called.
    unsafe {
        match number {
            libc::SYS_close => close(c_int::try_from(a).unwrap_or(-1)).into(),
            libc::SYS_clone | libc::SYS_clone3 => {
                // Of which kind is not looked at: threads are made by the C library without this function.
                aside(|| descriptors::escape_all(Escape::Cloned));
                originals::syscall(number, a, b, c, d, e, f)
            }
            _ => originals::syscall(number, a, b, c, d, e, f),
        }
    }
}
