//! Claims connections out of the mailbox, and none that can't be received.
//!
//! At its descriptor limit a process would receive the ticket and lose the connection. So a claim first looks:
//! a peek delivers a *copy* of the connection's descriptor and leaves the message, and only who holds a copy takes
//! the message. Whatever happens to the descriptor of the second step, the copy is the connection. In between
//! only the supervisor may take the message back, since one thread at a time has its [turn](Station::turn).
//!
//! ```text
//! look ── copy ──► room for one more? ── yes ──► take ── the same one ──► ours, by either descriptor
//!   │                     no │                     └──── another, or none ► the copy's one was recalled: drop it;
//!   │                        ▼                                              another is ours as it came
//!   └─ truncated ► free the reserve, look again ── truncated ► starved: wait for a descriptor, leave at STARVED_MAX
//! ```
//! A recall between the two steps may make the second one deliver another connection, which is why a claim needs two
//! free places and the reserve has as many. One loss remains possible, and is reported as `truncated`: such a recall
//! while another thread of this process opens a file in the microsecond in which the second place is free.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};
use ostler_shared::completion::Outcome;
use ostler_shared::packet::{self, Claim, ClaimError, Take, Wait};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::ticket::{BadTicket, TICKET_LEN, Ticket};

use crate::connection::Connection;
use crate::report::say;
use crate::reserve::Room;
use crate::stage::{Stage, Step};
use crate::station::Station;
use crate::worker::TryNext;

/// How long a worker lets connections wait because it has no descriptor to receive them with. Then it leaves, and
/// they go to others.
pub const STARVED_MAX: Duration = Duration::from_secs(1);
/// How long a worker without a free descriptor waits before it looks again, unless one of its connections ends.
pub const STARVED_RETRY: Duration = Duration::from_millis(20);

const REMEDY: &str = "raise `process.nofile` of the pool, or close files in the handler";

/// Why no further connection can be claimed.
#[derive(Debug, thiserror::Error)]
pub enum NextError {
    /// This process had no free descriptor for [`STARVED_MAX`], and has told the supervisor that it leaves.
    #[error("cannot claim connections: no free file descriptor for {STARVED_MAX:?} ({REMEDY})")]
    Starved,
    /// The supervisor put something into the mailbox that is no connection.
    #[error("cannot claim a connection: {0}")]
    Message(#[from] BadTicket),
    /// The kernel refused.
    #[error("cannot receive a connection: {0}")]
    Mailbox(#[source] io::Error),
}

impl From<ClaimError> for NextError {
    fn from(error: ClaimError) -> NextError {
        match error {
            ClaimError::Ticket(error) => NextError::Message(error),
            ClaimError::Io(error) => NextError::Mailbox(error),
        }
    }
}

/// What one look at the mailbox, or at the listeners, brought.
pub(crate) enum Look {
    Connection(OwnedFd, Ticket),
    Nothing,
    /// A connection waits, and there is no descriptor for it.
    Starved,
    End,
}

/// Whose turn it is; since when claims have found no descriptor.
type Turn<'a> = MutexGuard<'a, Option<Instant>>;

impl Station {
    /// Waits for the next connection; `None` when the worker shall leave.
    pub(crate) fn claim(self: &Arc<Self>) -> Result<Option<Connection>, NextError> {
        self.beat_while_idle();
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.claim_once(&mut turn, Wait::Block)? {
                TryNext::Connection(connection) => return Ok(Some(connection)),
                TryNext::Drained => return Ok(None),
                TryNext::Nothing => {}
                TryNext::Starved => self.reserve.wait(STARVED_RETRY),
            }
            self.completions.beat();
        }
    }

    /// As [`Station::claim`], without waiting for a connection, a descriptor or another thread.
    pub(crate) fn try_claim(self: &Arc<Self>) -> Result<TryNext, NextError> {
        let mut turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(TryNext::Nothing), // it is that thread's
        };
        self.claim_once(&mut turn, Wait::Not)
    }

    fn claim_once(self: &Arc<Self>, starving: &mut Turn<'_>, wait: Wait) -> Result<TryNext, NextError> {
        match self.stage.get() {
            Stage::Serving | Stage::Draining | Stage::Orphaned => {}
            Stage::Leaving => {
                self.accept_no_more();
                return Ok(TryNext::Drained);
            }
            Stage::Starved => return Err(NextError::Starved),
        }
        let look = match &self.listeners {
            None => self.look(wait)?,
            Some(listeners) => self.accept(listeners, wait)?,
        };
        if !matches!(look, Look::Starved) {
            **starving = None;
        }
        match look {
            Look::Connection(fd, ticket) => Ok(TryNext::Connection(Connection::new(fd, ticket, Arc::clone(self)))),
            Look::Nothing => Ok(TryNext::Nothing),
            Look::Starved => self.starve(starving.get_or_insert_with(Instant::now)),
            Look::End => {
                self.drain();
                self.accept_no_more();
                Ok(TryNext::Drained)
            }
        }
    }

    fn accept_no_more(&self) {
        if let Some(listeners) = &self.listeners {
            listeners.close();
        }
    }

    /// Gives up at the end of [`STARVED_MAX`], unless nobody is left to take over.
    fn starve(&self, since: &Instant) -> Result<TryNext, NextError> {
        if since.elapsed() < STARVED_MAX || self.leave(Stage::Starved) == Step::Late {
            return Ok(TryNext::Starved);
        }
        say(NextError::Starved);
        Err(NextError::Starved)
    }

    fn look(&self, wait: Wait) -> Result<Look, NextError> {
        let look = match packet::claim(self.mailbox.as_fd(), wait, Take::Peek) {
            Ok(Claim::Truncated(_)) => {
                self.reserve.lend();
                self.look_at_what_waits(packet::claim(self.mailbox.as_fd(), Wait::Not, Take::Peek))
            }
            first => self.look_at_what_waits(first),
        };
        self.reserve.take_back();
        Ok(look?)
    }

    fn look_at_what_waits(&self, peeked: Result<Claim, ClaimError>) -> Result<Look, ClaimError> {
        match peeked {
            Ok(Claim::Connection(copy, ticket)) => self.take(copy, ticket),
            Ok(Claim::Truncated(_)) => Ok(Look::Starved),
            Ok(Claim::Empty) => Ok(Look::Nothing),
            Ok(Claim::End) => Ok(Look::End),
            Err(ClaimError::Ticket(error)) => self.discard(error),
            Err(error) => Err(error),
        }
    }

    /// Takes the message that `copy` was peeked from, if it is still there.
    fn take(&self, copy: OwnedFd, peeked: Ticket) -> Result<Look, ClaimError> {
        // What is taken may be another connection, so `copy` must not sit in the last free place.
        match self.reserve.lend_another() {
            Room::Plenty => {}
            Room::Lent if self.is_first(&peeked) => {}
            Room::Lent => return Ok(Look::Nothing),
            // Nobody recalls any more, so what is taken is what was peeked.
            Room::None if self.stage.get() == Stage::Orphaned => {}
            Room::None => {
                self.reserve.put_back(copy);
                return Ok(Look::Starved);
            }
        }
        match packet::claim(self.mailbox.as_fd(), Wait::Not, Take::Message)? {
            Claim::Connection(_, ticket) | Claim::Truncated(ticket) if ticket.conn == peeked.conn => {
                Ok(Look::Connection(copy, ticket))
            }
            Claim::Connection(fd, ticket) => Ok(Look::Connection(fd, ticket)),
            Claim::Truncated(ticket) => {
                self.report_truncated(ticket);
                Ok(Look::Nothing)
            }
            Claim::Empty => Ok(Look::Nothing),
            Claim::End => Ok(Look::End),
        }
    }

    /// Whether a peeked connection still waits at the head of the mailbox. Needs no descriptor.
    fn is_first(&self, peeked: &Ticket) -> bool {
        let mut bytes = [0; TICKET_LEN];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.mailbox.as_raw_fd(), &mut bytes, flags) == Ok(TICKET_LEN) && bytes == peeked.to_bytes()
    }

    /// Removes a message that is no connection, so that it does not stand in the way for ever.
    fn discard(&self, error: BadTicket) -> Result<Look, ClaimError> {
        match packet::claim(self.mailbox.as_fd(), Wait::Not, Take::Message)? {
            // The supervisor had removed it, and this is the next one.
            Claim::Connection(fd, ticket) => Ok(Look::Connection(fd, ticket)),
            Claim::Truncated(ticket) => {
                self.report_truncated(ticket);
                Err(error.into())
            }
            Claim::Empty | Claim::End => Err(error.into()),
        }
    }

    fn report_truncated(&self, ticket: Ticket) {
        say(format_args!("lost conn={}: its file descriptor could not be received ({REMEDY})", ticket.conn));
        let claimed_at_ns = monotonic_ns();
        self.completions.note_claim(claimed_at_ns);
        self.report_end(ticket.conn, claimed_at_ns, Outcome::Truncated);
    }
}
