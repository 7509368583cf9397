//! Watches the program wait: the first wait for the mailbox means READY, each wait is a sign of life.
//!
//! Nothing is changed in what is waited for. The mailbox is readable exactly when a connection waits in it.

use libc::{c_int, epoll_event, fd_set, nfds_t, pollfd, sigset_t, size_t, timespec, timeval};

use crate::originals;
use crate::post::post;
use crate::silence;

/// Somebody waits for these.
fn waits_for(mut fds: impl Iterator<Item = c_int>) {
    let Some(post) = post() else { return };
    if !post.claimant.is_ready() && fds.any(|fd| post.is_mailbox(fd)) {
        post.announce();
    }
    post.beat();
}

/// # Safety
/// `fds` must be null or lead to `count` entries.
unsafe fn polled(fds: *const pollfd, count: nfds_t) {
    let count = if fds.is_null() { 0 } else { usize::try_from(count).unwrap_or(0) };
    // SAFETY: (caller) there are so many.
    waits_for((0..count).map(|index| unsafe { (*fds.add(index)).fd }));
}

/// # Safety
/// `read` must be null or lead to an fd_set of `count` numbers.
unsafe fn selected(count: c_int, read: *const fd_set) {
    let count = if read.is_null() { 0 } else { count };
    // SAFETY: (caller) there are so many bits, and FD_ISSET only looks at one.
    waits_for((0..count).filter(|fd| unsafe { libc::FD_ISSET(*fd, read) }));
}

/// poll(2).
///
/// # Safety
/// As for poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    // SAFETY: (caller) as for poll(2).
    unsafe {
        polled(fds, count);
        originals::poll(fds, count, timeout)
    }
}

/// poll(2), as programs call it that were built with `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, size: size_t) -> c_int {
    // SAFETY: (caller) as for poll(2).
    unsafe {
        polled(fds, count);
        originals::poll_chk(fds, count, timeout, size)
    }
}

/// ppoll(2).
///
/// # Safety
/// As for ppoll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: (caller) as for ppoll(2).
    unsafe {
        polled(fds, count);
        originals::ppoll(fds, count, timeout, mask)
    }
}

/// ppoll(2), as programs call it that were built with `_FORTIFY_SOURCE`.
///
/// # Safety
/// As for ppoll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __ppoll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    size: size_t,
) -> c_int {
    // SAFETY: (caller) as for ppoll(2).
    unsafe {
        polled(fds, count);
        originals::ppoll_chk(fds, count, timeout, mask, size)
    }
}

/// select(2).
///
/// # Safety
/// As for select(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: (caller) as for select(2).
    unsafe {
        selected(count, read);
        originals::select(count, read, write, except, timeout)
    }
}

/// pselect(2).
///
/// # Safety
/// As for pselect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: (caller) as for pselect(2).
    unsafe {
        selected(count, read);
        originals::pselect(count, read, write, except, timeout, mask)
    }
}

/// epoll_ctl(2).
///
/// # Safety
/// As for epoll_ctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    // SAFETY: (caller) as for epoll_ctl(2).
    let answer = unsafe { originals::epoll_ctl(epoll, operation, fd, event) };
    if answer == 0
        && let Some(post) = post().filter(|post| post.is_mailbox(fd))
    {
        match operation {
            libc::EPOLL_CTL_DEL => silence::unregistered(epoll, fd),
            // SAFETY: (caller) other operations have an event, or the kernel would have refused.
            _ => silence::registered(epoll, fd, unsafe { *event }),
        }
        if operation == libc::EPOLL_CTL_ADD {
            post.announce();
            post.beat();
        }
    }
    answer
}

fn beat() {
    if let Some(post) = post() {
        post.beat();
    }
}

/// epoll_wait(2).
///
/// # Safety
/// As for epoll_wait(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(epoll: c_int, events: *mut epoll_event, most: c_int, timeout: c_int) -> c_int {
    beat();
    // SAFETY: (caller) as for epoll_wait(2).
    unsafe { originals::epoll_wait(epoll, events, most, timeout) }
}

/// epoll_pwait(2).
///
/// # Safety
/// As for epoll_pwait(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    beat();
    // SAFETY: (caller) as for epoll_pwait(2).
    unsafe { originals::epoll_pwait(epoll, events, most, timeout, mask) }
}

/// epoll_pwait2(2).
///
/// # Safety
/// As for epoll_pwait2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    beat();
    // SAFETY: (caller) as for epoll_pwait2(2).
    unsafe { originals::epoll_pwait2(epoll, events, most, timeout, mask) }
}
