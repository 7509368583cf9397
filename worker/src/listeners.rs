//! Accepts for itself, where the pool's listeners are given to its workers (`handoff = "listen"`).
//!
//! All workers wait at the same sockets. They wait in an epoll of their own, exclusively, so that a client wakes one of them, and
//! beside the mailbox, in which nothing comes but its end. The listeners don't block: which of them has a client, and whether
//! another worker was faster, shows when accept(2) is called. That is a flag that all holders of a listener share.
//!
//! ```text
//! gate open? ── no ──► wait for the mailbox's end, look again        (at least every 250 ms, both)
//!     │ yes
//!     ▼
//! wait ── the mailbox has ended, or somebody may be there ──► accept ── count it ──► a connection
//!                                                               └── nobody ──► drained, if it had ended before
//! ```
//!
//! The supervisor closes the gate before it ends the mailbox. One that has ended behind an open gate is a dead supervisor's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};
use ostler_shared::ConnId;
use ostler_shared::packet::Wait;
use ostler_shared::region::Gate;
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::sys::socket::accept;
use ostler_shared::ticket::{Family, Peer, Ticket};

use crate::claim::{Look, NextError};
use crate::stage::Stage;
use crate::station::{NO_MORE, Station};

/// The gate is read at least so often.
const GATE_EVERY: Duration = Duration::from_millis(250);

/// What the epoll says of the mailbox; a listener has its place in the list.
const MAILBOX: u64 = u64::MAX;

/// The listeners of a worker.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// What is waited at.
    set: Epoll,
    /// None any more when this worker accepts no more. One thread at a time accepts, so nobody waits for another here.
    listeners: Mutex<Vec<Listener>>,
    /// How many connections were accepted, ever; written by whoever has the turn.
    accepted: AtomicU64,
}

#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    family: Family,
}

/// What a call of accept(2) brought.
enum Accepted {
    Connection(OwnedFd),
    Nobody,
    NoDescriptor,
}

/// Whether a worker shall accept nobody any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    /// It is drained, or leaves.
    Here,
    /// As soon as nobody waits: the supervisor is gone.
    Orphaned,
}

impl Listeners {
    /// Begins to wait at `sockets` and at the end of `mailbox`.
    ///
    /// # Errors
    /// When one is no socket, or the kernel has no room.
    pub(crate) fn new(sockets: Vec<OwnedFd>, mailbox: BorrowedFd<'_>) -> io::Result<Listeners> {
        let set = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        set.add(mailbox, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, MAILBOX))?;
        let mut listeners = Vec::with_capacity(sockets.len());
        for (number, socket) in sockets.into_iter().enumerate() {
            fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            set.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, number as u64))?;
            let family = family_of(&socket)?;
            listeners.push(Listener { socket, family });
        }
        Ok(Listeners { set, listeners: Mutex::new(listeners), accepted: AtomicU64::new(0) })
    }

    /// Lets go of the listeners. Of a worker without a supervisor that still serves somebody, others would wait at them in vain,
    /// and the next supervisor could not have the address.
    pub(crate) fn close(&self) {
        for listener in self.open().drain(..) {
            // Other workers have it too, so it would stay in the epoll.
            let _was_forgotten_before = self.set.delete(&listener.socket);
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readable when there may be something to accept, or the mailbox has ended.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.0.as_fd()
    }

    /// Waits for a client, or for the mailbox's end; interrupted or without memory, it looks as well.
    fn wait(&self, at_most: Duration) {
        let timeout = EpollTimeout::try_from(at_most).unwrap_or(EpollTimeout::ZERO);
        let _look_anyway = self.set.wait(&mut [EpollEvent::empty()], timeout);
    }

    /// What somebody has shut down is readable for ever, while accept(2) says EINVAL at TCP and at a path that nobody waits.
    fn forget_those_shut_down(&self, open: &[Listener]) {
        for listener in open {
            let mut end = [PollFd::new(listener.socket.as_fd(), NO_MORE)];
            if poll(&mut end, PollTimeout::ZERO).is_ok_and(|ended| ended > 0) {
                let _may_be_forgotten_by_now = self.set.delete(&listener.socket);
            }
        }
    }
}

impl Station {
    /// Accepts one connection, if there is one and the gate is open. In the turn of this thread.
    pub(crate) fn accept(&self, listeners: &Listeners, wait: Wait) -> Result<Look, NextError> {
        let stage = self.stage.get();
        if stage != Stage::Orphaned && self.completions.dials().gate() == Gate::Closed {
            return Ok(self.wait_at_closed_gate(wait)); // who waits in the kernel's queue is everybody's
        }
        if wait == Wait::Block && stage == Stage::Serving {
            listeners.wait(self.beat_every.map_or(GATE_EVERY, |every| every.min(GATE_EVERY)));
        }
        accept_to_the_end(stage == Stage::Serving, || self.accept_at_any(listeners), || self.end())
    }

    fn end(&self) -> End {
        // The mailbox's end is an edge to an event loop, and comes before the word that says the same.
        if !self.is_draining() {
            return End::NotYet;
        }
        match self.stage.get() {
            Stage::Leaving | Stage::Starved => End::Here,
            Stage::Orphaned => End::Orphaned,
            Stage::Serving | Stage::Draining => match self.completions.dials().gate() {
                Gate::Closed => End::Here,
                Gate::Open => End::Orphaned,
            },
        }
    }

    fn accept_at_any(&self, listeners: &Listeners) -> Result<Look, NextError> {
        let accepted = listeners.accepted.load(Ordering::Relaxed);
        let open = listeners.open();
        let count = open.len();
        for turn in 0..count {
            // Each of them is the first in its turn.
            let number = (accepted as usize).wrapping_add(turn) % count;
            let listener = &open[number];
            match self.accept_at(listener)? {
                Accepted::Connection(fd) => return Ok(self.count_in(listeners, listener, number, fd)),
                Accepted::NoDescriptor => return Ok(Look::Starved),
                Accepted::Nobody => {}
            }
        }
        listeners.forget_those_shut_down(&open);
        Ok(Look::Nothing)
    }

    fn wait_at_closed_gate(&self, wait: Wait) -> Look {
        if wait == Wait::Block && !self.is_draining() {
            let mut mailbox = [PollFd::new(self.mailbox.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(GATE_EVERY).unwrap_or(PollTimeout::ZERO);
            let _look_anyway = poll(&mut mailbox, timeout);
        }
        if self.is_draining() { Look::End } else { Look::Nothing }
    }

    fn accept_at(&self, listener: &Listener) -> Result<Accepted, NextError> {
        let first = accept_once(listener)?;
        let Accepted::NoDescriptor = first else { return Ok(first) };
        self.reserve.lend();
        let second = accept_once(listener);
        self.reserve.take_back();
        second
    }

    /// Counts before anybody can say that it is over. Who is killed in between has lost one that nobody counts.
    fn count_in(&self, listeners: &Listeners, listener: &Listener, number: usize, fd: OwnedFd) -> Look {
        let accepted = listeners.accepted.load(Ordering::Relaxed) + 1;
        listeners.accepted.store(accepted, Ordering::Relaxed);
        self.completions.dials().set_accepted(accepted);
        let peer = match listener.family {
            Family::Unix => getsockopt(&fd, sockopt::PeerCredentials).ok(),
            Family::V4 | Family::V6 => None,
        };
        let peer = peer.map(|peer| Peer { uid: peer.uid(), gid: peer.gid(), pid: peer.pid().unsigned_abs() });
        let ticket = Ticket {
            conn: ConnId(accepted),
            listener: u32::try_from(number).unwrap_or(u32::MAX),
            family: listener.family,
            accepted_at_ns: monotonic_ns(),
            peer,
        };
        Look::Connection(fd, ticket)
    }
}

/// Accepts, and where nobody waits says what that means to a worker that was serving at that time, or already was not.
///
/// Whoever came after nobody was there and before the supervisor died has nobody else, so an orphan accepts once more.
fn accept_to_the_end(
    was_serving: bool,
    mut accept: impl FnMut() -> Result<Look, NextError>,
    end: impl FnOnce() -> End,
) -> Result<Look, NextError> {
    let first = accept()?;
    let Look::Nothing = first else { return Ok(first) };
    match if was_serving { end() } else { End::Here } {
        End::NotYet => return Ok(Look::Nothing),
        End::Here => return Ok(Look::End),
        End::Orphaned => {}
    }
    let last = accept()?;
    let Look::Nothing = last else { return Ok(last) };
    Ok(Look::End)
}

fn accept_once(listener: &Listener) -> Result<Accepted, NextError> {
    match accept(listener.socket.as_fd()) {
        Ok(connection) => Ok(Accepted::Connection(connection)),
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) => Ok(Accepted::NoDescriptor),
            Some(Errno::EBADF | Errno::ENOTSOCK | Errno::EFAULT) | None => Err(NextError::Mailbox(error)),
            // Another worker was faster, or it is the one connection that failed (accept(2)), or somebody has shut it down.
            Some(_) => Ok(Accepted::Nobody),
        },
    }
}

fn family_of(socket: &OwnedFd) -> io::Result<Family> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    match address.family() {
        Some(AddressFamily::Unix) => Ok(Family::Unix),
        Some(AddressFamily::Inet) => Ok(Family::V4),
        Some(AddressFamily::Inet6) => Ok(Family::V6),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a look says while `waiting` says at each call of accept(2) whether somebody waits, and what the calls were.
    fn look(was_serving: bool, end: End, waiting: &[bool]) -> (Look, usize) {
        let mut calls = 0;
        let look = accept_to_the_end(
            was_serving,
            || {
                calls += 1;
                // For the connection itself stands that there is no descriptor for it.
                Ok(if waiting[calls - 1] { Look::Starved } else { Look::Nothing })
            },
            || end,
        );
        (look.expect("nothing failed"), calls)
    }

    #[test]
    fn who_came_between_a_look_and_the_end_of_the_supervisor_is_accepted() {
        assert!(matches!(look(true, End::Orphaned, &[false, true]), (Look::Starved, 2)));
        assert!(matches!(look(true, End::Orphaned, &[false, false]), (Look::End, 2)));
        assert!(matches!(look(false, End::Orphaned, &[true]), (Look::Starved, 1)));
        assert!(matches!(look(false, End::Orphaned, &[false]), (Look::End, 1)));
    }

    #[test]
    fn who_comes_when_a_worker_is_drained_is_left_to_the_others() {
        assert!(matches!(look(true, End::Here, &[false]), (Look::End, 1)));
        assert!(matches!(look(true, End::NotYet, &[false]), (Look::Nothing, 1)));
        assert!(matches!(look(true, End::NotYet, &[true]), (Look::Starved, 1)));
    }
}
