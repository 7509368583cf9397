//! Claims: `accept` on the mailbox.
//!
//! As in ostler's library a claim looks before it takes: at its descriptor limit a process would receive the ticket and lose the
//! connection. The peek delivers a copy of the descriptor and leaves the message; then the place in the table is reserved,
//! and the message taken. Several threads and processes may be at it: what the second step brings counts, and where it is
//! not what was peeked at, somebody else has that.
//!
//! ```text
//! peek ─ a ticket and a copy ─▶ reserve ─▶ take ─ a ticket ─▶ held, tracked, given to the program
//!   ├─ no room for the copy ─▶ EMFILE           └─ nothing: recalled, or somebody else's ─▶ again
//!   ├─ a knock ─▶ give a sign of life, take it, again
//!   └─ the end ─▶ silence, again
//! ```

use std::os::fd::RawFd;

use libc::{c_int, sockaddr, socklen_t};
use ostler_shared::Ticket;
use ostler_shared::claims::{Claim, Holder};
use ostler_shared::completion::Outcome;

use crate::descriptors::{self, NUMBERS};
use crate::mail::{self, Mail};
use crate::originals::{self, aside, set_errno};
use crate::post::{Post, now_ns, post};
use crate::silence;

/// accept(2).
///
/// # Safety
/// As for accept(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
    match post().filter(|post| post.is_mailbox(fd)) {
        // SAFETY: (caller) as for accept(2).
        None => unsafe { originals::accept(fd, addr, len) },
        // SAFETY: (caller) as for accept(2).
        Some(post) => unsafe { claim(post, fd, addr, len, 0) },
    }
}

/// accept4(2).
///
/// # Safety
/// As for accept4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
    match post().filter(|post| post.is_mailbox(fd)) {
        // SAFETY: (caller) as for accept4(2).
        None => unsafe { originals::accept4(fd, addr, len, flags) },
        // SAFETY: (caller) as for accept4(2).
        Some(post) => unsafe { claim(post, fd, addr, len, flags) },
    }
}

/// # Safety
/// `addr` and `len` as for accept(2).
unsafe fn claim(post: &Post, fd: RawFd, addr: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return fails(libc::EINVAL);
    }
    post.announce();
    let close_on_exec = if flags & libc::SOCK_CLOEXEC == 0 { 0 } else { libc::MSG_CMSG_CLOEXEC };
    let connection = loop {
        post.beat();
        // Whether this waits is said by the mailbox's own O_NONBLOCK, as for a listener.
        match mail::receive(fd, libc::MSG_PEEK | close_on_exec) {
            Err(errno) => return fails(errno),
            Ok(Mail::End) => silence::fall(post),
            Ok(Mail::Knock) => match answer(post, fd, close_on_exec) {
                Taken::Connection(connection) => break connection,
                Taken::Nothing => {}
                Taken::NoRoom => return fails(libc::EMFILE),
            },
            Ok(Mail::Connection(peeked, copy)) => match take(post, fd, close_on_exec, peeked, copy) {
                Taken::Connection(connection) => break connection,
                Taken::Nothing => {}
                Taken::NoRoom => return fails(libc::EMFILE),
            },
        }
    };
    if flags & libc::SOCK_NONBLOCK != 0 {
        aside(|| set_nonblocking(connection));
    }
    if !addr.is_null() && !len.is_null() {
        // A client that has gone already has no name any more; the program finds out when it reads.
        // SAFETY: (caller) as for accept(2), whose address this is.
        aside(|| unsafe {
            if originals::getpeername(connection, addr, len) == -1 {
                *len = 0;
            }
        });
    }
    connection
}

enum Taken {
    Connection(RawFd),
    /// Somebody else was faster.
    Nothing,
    /// This process has no descriptor left, or we no place for one.
    NoRoom,
}

fn take(post: &Post, fd: RawFd, close_on_exec: c_int, peeked: Ticket, copy: Option<RawFd>) -> Taken {
    let Some(copy) = copy else { return Taken::NoRoom };
    let reserved = usize::try_from(copy)
        .ok()
        .filter(|number| *number < NUMBERS)
        .and_then(|_| post.me())
        .and_then(|me| post.claimant.reserve(peeked.conn, me, now_ns()).map(|claim| (me, claim)));
    let Some((me, claim)) = reserved else {
        mail::close(Some(copy));
        return Taken::NoRoom;
    };
    let (ticket, second) = match mail::receive(fd, libc::MSG_DONTWAIT | close_on_exec) {
        Ok(Mail::Connection(ticket, second)) => (ticket, second),
        Ok(Mail::Knock | Mail::End) | Err(_) => {
            post.claimant.give_back(claim);
            mail::close(Some(copy));
            return Taken::Nothing;
        }
    };
    post.claimant.hold(claim, ticket.conn);
    post.introduce();
    let (connection, other) = match second {
        // Both are the same connection. The program gets the lower number, as it would from accept.
        _ if ticket.conn == peeked.conn => (Some(copy), second),
        Some(second) => (Some(second), Some(copy)),
        None => (None, Some(copy)),
    };
    mail::close(other);
    // A recall in between, and not even two descriptors: then it is none.
    give(post, me, claim, connection)
}

/// Takes the knock that was seen. Between the look and this the supervisor may have emptied the mailbox and handed out
/// again: then it is a connection that comes, and it is claimed like any other.
fn answer(post: &Post, fd: RawFd, close_on_exec: c_int) -> Taken {
    let Ok(Mail::Connection(ticket, connection)) = mail::receive(fd, libc::MSG_DONTWAIT | close_on_exec) else {
        return Taken::Nothing;
    };
    let claim = post.me().and_then(|me| post.claimant.reserve(ticket.conn, me, now_ns()).map(|claim| (me, claim)));
    let Some((me, claim)) = claim else {
        mail::close(connection);
        return Taken::NoRoom;
    };
    post.claimant.hold(claim, ticket.conn);
    give(post, me, claim, connection)
}

/// Gives the program what it has claimed.
fn give(post: &Post, me: Holder, claim: Claim, connection: Option<RawFd>) -> Taken {
    match connection {
        Some(connection) if descriptors::track(post, connection, claim) => Taken::Connection(connection),
        // No descriptor was left for it: the connection is gone, and that is said.
        lost => {
            mail::close(lost);
            post.ring_if(post.claimant.release(claim, me, now_ns(), Outcome::Truncated));
            Taken::Nothing
        }
    }
}

fn set_nonblocking(fd: RawFd) {
    let on: c_int = 1;
    // SAFETY: an int that outlives the call.
    unsafe { libc::ioctl(fd, libc::FIONBIO, &raw const on) };
}

fn fails(errno: c_int) -> c_int {
    set_errno(errno);
    -1
}
