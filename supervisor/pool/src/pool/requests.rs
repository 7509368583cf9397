//! Finds requests that take too long: notes the slow ones, and has the worker of an overdue one replaced.
//!
//! A worker marks in its memory which connections are busy; without marks a connection counts as one request (I7: an idle one
//! is never overdue). Nobody tells us when a mark changes, so they are read when the first of them could have become too old:
//! at most once in the shorter of the two times for a worker that holds connections, never for one that holds none.

use std::time::Duration;

use ostler_shared::region::Keeping;
use ostler_shared::{ConnId, WorkerId};

use super::{Key, Pool};
use crate::action::Action;
use crate::event::{Marks, Sign};
use crate::lifecycle::{Input, State};
use crate::note::Note;
use crate::reason::{Cause, What};
use crate::turn::Turn;
use crate::worker::{Seat, Ticket};
use crate::{MARKS_SPACING_MIN, Moment};

/// When a request is too old for something; zero: never.
#[derive(Debug, Clone, Copy)]
struct Limits {
    overdue: Duration,
    slow: Duration,
}

impl Limits {
    /// The age of a request at which the next look at it is due.
    fn next_after(self, slow_was_told: Told) -> Option<Duration> {
        let slow = match slow_was_told {
            Told::No => self.slow,
            Told::Yes => Duration::ZERO,
        };
        [self.overdue, slow].into_iter().filter(|limit| !limit.is_zero()).min()
    }
}

/// Whether the log has said that a request is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

impl Ticket {
    /// Since when its request runs, which can't be longer than its worker has it.
    fn since(&self, sign: Sign) -> Option<Moment> {
        match sign {
            Sign::Idle => None,
            Sign::Unmarked => Some(self.handed_at),
            Sign::Busy { since } => Some(since.max(self.handed_at)),
        }
    }

    fn told(&self, since: Moment) -> Told {
        if self.slow_told_at.is_some_and(|told_at| since <= told_at) { Told::Yes } else { Told::No }
    }
}

impl Pool {
    /// A worker was handed something: its marks will be worth reading.
    pub(super) fn expect_answers(&mut self, now: Moment, seat: Seat) {
        if let Some(patience) = self.limits(seat).next_after(Told::No)
            && self.timers.of(Key::Marks(seat)).is_none()
        {
            self.timers.set(Key::Marks(seat), now + patience);
        }
    }

    pub(super) fn read_marks(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let worker = self.worker(seat);
        if worker.load() > 0 {
            turn.act(Action::ReadMarks { worker: worker.id });
        }
    }

    /// The answer to [`Action::ReadMarks`].
    pub(crate) fn marks_read(&mut self, turn: &mut Turn<'_>, worker: WorkerId, marks: &Marks) {
        let Some(seat) = self.seat_of(worker).filter(|seat| self.worker(*seat).state == State::Ready) else { return };
        let limits = self.limits(seat);
        let Some(patience) = limits.next_after(Told::No) else { return };
        let now = turn.now;
        let mut next = now + patience;
        for (conn, sign) in self.signs(seat, marks) {
            let worker = self.worker_mut(seat);
            // A mark of what it does not hold is old, or a lie; neither concerns anybody.
            let Some(ticket) = worker.tickets.get_mut(&conn) else { continue };
            let Some(since) = ticket.since(sign) else { continue };
            let age = now.since(since);
            if !limits.overdue.is_zero() && age >= limits.overdue {
                return self.is_overdue(turn, seat, conn, age);
            }
            if !limits.slow.is_zero() && age >= limits.slow && ticket.told(since) == Told::No {
                ticket.slow_told_at = Some(now);
                turn.note(Note::Slow { worker: worker.name.clone(), conn, age });
            }
            if let Some(patience) = limits.next_after(ticket.told(since)) {
                next = next.min(since + patience);
            }
        }
        if self.worker(seat).load() > 0 {
            self.timers.set(Key::Marks(seat), next.max(now + MARKS_SPACING_MIN));
        }
    }

    /// What is said of each connection that matters. What a worker that keeps marks has not marked lies in its mailbox.
    fn signs(&self, seat: Seat, marks: &Marks) -> Vec<(ConnId, Sign)> {
        match marks.keeping {
            Keeping::Marks => marks.signs.clone(),
            Keeping::Nothing => self.worker(seat).tickets.keys().map(|conn| (*conn, Sign::Unmarked)).collect(),
        }
    }

    fn is_overdue(&mut self, turn: &mut Turn<'_>, seat: Seat, conn: ConnId, age: Duration) {
        let worker = self.worker_mut(seat);
        worker.trouble.get_or_insert(What::Overdue(conn, age));
        turn.note(Note::Overdue { worker: worker.name.clone(), conn, age });
        self.dismiss(turn, seat, Input::Wedged, Cause::Overdue);
    }

    fn limits(&self, seat: Seat) -> Limits {
        let watchdog = &self.worker(seat).settings.pool.watchdog;
        Limits { overdue: watchdog.request, slow: watchdog.slow }
    }
}
