//! Answers for the mailbox as a listening stream socket would.

use std::ptr;

use libc::{c_int, c_void, sockaddr, socklen_t};

use ostler_shared::claims::Escape;

use crate::descriptors;
use crate::originals::{self, set_errno};
use crate::post::{Post, post};

fn of_mailbox(fd: c_int) -> Option<&'static Post> {
    post().filter(|post| post.is_mailbox(fd))
}

/// listen(2): it listens already. Not a sign of readiness, since preforking programs listen before they load.
///
/// # Safety
/// As for listen(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    match of_mailbox(fd) {
        Some(_) => 0,
        // SAFETY: (caller) as for listen(2).
        None => unsafe { originals::listen(fd, backlog) },
    }
}

/// bind(2): it is bound already.
///
/// # Safety
/// As for bind(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bind(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
    match of_mailbox(fd) {
        Some(_) => fails(libc::EINVAL),
        // SAFETY: (caller) as for bind(2).
        None => unsafe { originals::bind(fd, addr, len) },
    }
}

/// getsockname(2): the address of the pool's first listener.
///
/// # Safety
/// As for getsockname(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockname(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    let Some(post) = of_mailbox(fd) else {
        // SAFETY: (caller) as for getsockname(2).
        return unsafe { originals::getsockname(fd, addr, len) };
    };
    let Some(address) = post.listeners.first() else { return fails(libc::EBADF) };
    // SAFETY: (caller) as for getsockname(2).
    unsafe { give(address.bytes(), addr.cast(), len) }
}

/// getpeername(2): nobody is connected.
///
/// # Safety
/// As for getpeername(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getpeername(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    match of_mailbox(fd) {
        Some(_) => fails(libc::ENOTCONN),
        // SAFETY: (caller) as for getpeername(2).
        None => unsafe { originals::getpeername(fd, addr, len) },
    }
}

/// getsockopt(2): what tells a listening stream socket, and zeroes for options of protocols that the mailbox has not.
///
/// # Safety
/// As for getsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    let family = of_mailbox(fd).and_then(|post| post.listeners.first()).map(|address| address.family());
    let answer = match (family, level, name) {
        (Some(_), libc::SOL_SOCKET, libc::SO_TYPE) => libc::SOCK_STREAM,
        (Some(_), libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => 1,
        (Some(family), libc::SOL_SOCKET, libc::SO_DOMAIN) => family,
        (Some(libc::AF_UNIX), libc::SOL_SOCKET, libc::SO_PROTOCOL) => 0,
        (Some(_), libc::SOL_SOCKET, libc::SO_PROTOCOL) => libc::IPPROTO_TCP,
        (Some(_), libc::IPPROTO_TCP | libc::IPPROTO_IP | libc::IPPROTO_IPV6, _) => 0,
        // SAFETY: (caller) as for getsockopt(2).
        (Some(_) | None, _, _) => return unsafe { originals::getsockopt(fd, level, name, value, len) },
    };
    // SAFETY: (caller) as for getsockopt(2).
    unsafe { give(&answer.to_ne_bytes(), value, len) }
}

/// setsockopt(2): options of protocols that the mailbox has not are taken.
///
/// # Safety
/// As for setsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    match (level, of_mailbox(fd)) {
        (libc::IPPROTO_TCP | libc::IPPROTO_IP | libc::IPPROTO_IPV6, Some(_)) => 0,
        // SAFETY: (caller) as for setsockopt(2).
        (_, Some(_) | None) => unsafe { originals::setsockopt(fd, level, name, value, len) },
    }
}

/// shutdown(2): it has no effect, as what it would do is done to all who share the mailbox.
///
/// # Safety
/// As for shutdown(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    match of_mailbox(fd) {
        Some(_) => 0,
        // SAFETY: (caller) as for shutdown(2).
        None => unsafe { originals::shutdown(fd, how) },
    }
}

/// sendmsg(2): a connection that is sent to another process is one that we lose sight of.
///
/// # Safety
/// As for sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const libc::msghdr, flags: c_int) -> libc::ssize_t {
    // SAFETY: (caller) as for sendmsg(2): the control data is as long as it says.
    unsafe {
        if !message.is_null() && !(*message).msg_control.is_null() {
            passed(&*message);
        }
        originals::sendmsg(fd, message, flags)
    }
}

/// # Safety
/// The control data of `message` must be as long as it says.
unsafe fn passed(message: &libc::msghdr) {
    // SAFETY: (caller) the headers that these macros return lie inside the control data, and so do as many ints as they say.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                for index in 0..bytes / size_of::<c_int>() {
                    let fd = ptr::read_unaligned(libc::CMSG_DATA(header).cast::<c_int>().add(index));
                    descriptors::escape(fd, Escape::Passed);
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// Copies as much as there is room for, and says how much there is.
///
/// # Safety
/// `len` must be null or lead to the room that `to` has.
unsafe fn give(bytes: &[u8], to: *mut c_void, len: *mut socklen_t) -> c_int {
    if len.is_null() || to.is_null() {
        return fails(libc::EFAULT);
    }
    // SAFETY: (caller) there is room for `*len` bytes.
    unsafe {
        let room = usize::try_from(*len).unwrap_or(0);
        ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast::<u8>(), bytes.len().min(room));
        *len = socklen_t::try_from(bytes.len()).unwrap_or(0);
    }
    0
}

fn fails(errno: c_int) -> c_int {
    set_errno(errno);
    -1
}
