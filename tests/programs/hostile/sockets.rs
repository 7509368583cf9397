//! Misuses the mailbox and the control channel.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use ostler_shared::sys::msg::send_with_fd;
use ostler_shared::sys::socket::refuse_new_tcp;
use ostler_shared::wire::{ToSupervisor, encode};
use ostler_tests::deadline::{SOON, wait_until};

use super::memory::attempt;
use super::{Raw, answer};

/// More descriptors than a leak could hide.
const DESCRIPTORS: usize = 50;

// linux/socket.h; libc does not name them yet.
const SO_PASSPIDFD: libc::c_int = 76;
const SO_PASSRIGHTS: libc::c_int = 83;

/// What the worker does for the rest of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It takes what it is handed, and answers.
    Serves,
    /// It takes nothing.
    Nothing,
}

impl Raw {
    pub(super) fn write_into_the_mailbox(&self) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let sent = send(self.mailbox().as_raw_fd(), &[0; 40], flags).map(drop).map_err(io::Error::from);
        attempt("write into its mailbox", sent);
        attempt("send a descriptor there", send_with_fd(self.mailbox(), &[0; 40], self.doorbell.as_fd()));
        self.did_it();
        self.serve();
    }

    /// Right frames, each with something that nobody asked for.
    pub(super) fn send_descriptors(&self) {
        let frame = encode(&ToSupervisor::Pong { nonce: 1 }).expect("short enough");
        for own in [self.control(), self.doorbell.as_fd()].into_iter().cycle().take(DESCRIPTORS) {
            let _ = send_with_fd(self.control(), &frame, own);
        }
    }

    // ── options ────────────────────────────────────────────────────────────────────────────────────────────

    /// All that change what can be read from a socket, while a connection waits in the mailbox.
    pub(super) fn set_options(&self) {
        self.peek();
        attempt("filter its mailbox", refuse_new_tcp(self.mailbox()));
        attempt("filter its control channel", refuse_new_tcp(self.control()));
        for socket in [self.mailbox(), self.control()] {
            spoil(socket, 7);
            fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_ASYNC)).expect("flags of a socket");
        }
        self.did_it();
    }

    /// While the supervisor puts them back.
    pub(super) fn set_options_for_ever(&self) {
        self.peek();
        self.did_it();
        for offset in (0..40).cycle() {
            spoil(self.mailbox(), offset);
        }
    }

    /// With a client in hand, so that its completion brings the next handoff.
    pub(super) fn refuse_descriptors(&self) {
        let Some((connection, ticket)) = self.take() else { return };
        attempt("refuse descriptors", set_option(self.mailbox(), SO_PASSRIGHTS, 0));
        self.did_it();
        answer(connection);
        self.complete(ticket.conn);
    }

    // ── shutdowns ──────────────────────────────────────────────────────────────────────────────────────────

    /// With a client in hand, so that its completion brings the next handoff.
    pub(super) fn shut(&self, socket: BorrowedFd<'_>, how: Shutdown, then: Then) {
        let Some((connection, ticket)) = self.take() else { return };
        shutdown(socket.as_raw_fd(), how).expect("a socket");
        self.did_it();
        answer(connection);
        self.complete(ticket.conn);
        match then {
            Then::Serves => self.serve(),
            Then::Nothing => {}
        }
    }

    /// Reports by the ring when the supervisor has long seen the channel's end, and leaves.
    pub(super) fn complete_when_told(&self) {
        let Some((connection, ticket)) = self.take() else { return };
        shutdown(self.control().as_raw_fd(), Shutdown::Both).expect("a socket");
        answer(connection);
        self.did_it();
        wait_until(SOON, "the test's word", || self.peace.0.with_extension("told").exists());
        self.complete(ticket.conn);
        std::process::exit(0);
    }
}

/// Sets whatever changes what a socket gives to those who read it, as far as this kernel lets us.
fn spoil(socket: BorrowedFd<'_>, peek_offset: libc::c_int) {
    let options = [
        (libc::SO_PEEK_OFF, peek_offset),
        (libc::SO_PASSCRED, 1),
        (libc::SO_PASSSEC, 1),
        (SO_PASSPIDFD, 1),
        (libc::SO_TIMESTAMP, 1),
        (libc::SO_RCVLOWAT, 1 << 20),
        (libc::SO_RCVBUF, 1),
        (libc::SO_SNDBUF, 1),
    ];
    for (option, value) in options {
        let _ = set_option(socket, option, value);
    }
}

fn set_option(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option is an int, and the pointer is to one that outlives the call.
    #[allow(unsafe_code)]
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
