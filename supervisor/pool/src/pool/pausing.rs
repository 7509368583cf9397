//! Lets a pool rest: no workers, while clients go on joining the waiting line.
//!
//! ```text
//!            pause               the last one is gone
//! Active ───────────▶ Pausing ───────────────────────▶ Paused
//!    ▲                   │ resume                         │ resume
//!    │ complete, or      ▼                                ▼
//!    └─ given up ── Resuming ──its patience is over──▶ Late ──▶ Active, as soon as it is complete or given up
//! ```
//! The workers drain as for any other reason, each with its own deadlines, so that a pause ends in bounded time. What
//! they had not claimed comes back to the line, whose limits and deadline stay in force. Nothing starts a worker
//! meanwhile but a stop, which ends the pause: who waits is served before everything ends.
//!
//! Resuming begins with a clean slate, so that it brings back a pool that was given up, too.

use std::time::Duration;

use super::{Key, Pool};
use crate::lifecycle::{Input, State};
use crate::note::Note;
use crate::reason::{Cause, Failure, What};
use crate::turn::Turn;
use crate::{RESUME_SLACK, STARTING_MAX};

/// Whether a pool has workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It has, or starts them.
    Active,
    /// They leave.
    Pausing,
    /// They are gone.
    Paused,
    /// They come back.
    Resuming,
    /// They should be back by now.
    Late,
}

impl Pool {
    /// Sends all workers away; new ones come with [`resume`](Pool::resume).
    pub(crate) fn pause(&mut self, turn: &mut Turn<'_>) {
        match self.activity {
            Activity::Pausing | Activity::Paused => return,
            Activity::Active | Activity::Resuming | Activity::Late => {}
        }
        self.activity = Activity::Pausing;
        self.timers.clear(Key::Resumed);
        turn.note(Note::PauseBegun { pool: self.name.clone() });
        self.abandon_everything(turn, Cause::Paused, What::Paused);
        for seat in self.all_seats() {
            if matches!(self.worker(seat).state, State::Starting | State::Ready) {
                self.dismiss(turn, seat, Input::Drain, Cause::Paused);
            }
        }
    }

    /// Lets workers come back. A pool that is not paused has nothing to come back to.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>) {
        if !self.is_paused() {
            return;
        }
        self.activity = Activity::Resuming;
        self.timers.set(Key::Resumed, turn.now + self.resume_patience());
        turn.note(Note::ResumeBegun { pool: self.name.clone(), waiting: self.line.len() as u64 });
        self.forgive();
    }

    /// The time in which all workers become READY if nothing goes wrong: they start in so many rounds at most.
    fn resume_patience(&self) -> Duration {
        let rounds = 1 + self.target / STARTING_MAX;
        self.config().start.ready_timeout.saturating_mul(rounds).saturating_add(RESUME_SLACK)
    }

    /// That time is over.
    pub(super) fn resume_is_late(&mut self) {
        match self.activity {
            Activity::Resuming => self.activity = Activity::Late,
            Activity::Active | Activity::Pausing | Activity::Paused | Activity::Late => {}
        }
    }

    /// Arrives where a pause or its end was going.
    pub(super) fn advance_pause(&mut self, turn: &mut Turn<'_>) {
        match self.activity {
            Activity::Active | Activity::Paused => {}
            Activity::Pausing if self.seats.is_empty() => {
                self.activity = Activity::Paused;
                turn.note(Note::Paused { pool: self.name.clone(), waiting: self.line.len() as u64 });
            }
            Activity::Resuming | Activity::Late if self.is_complete() => {
                self.end_pause();
                turn.note(Note::Resumed { pool: self.name.clone(), workers: self.target });
            }
            Activity::Resuming | Activity::Late if self.is_failed() => self.end_pause(),
            Activity::Pausing | Activity::Resuming | Activity::Late => {}
        }
    }

    /// Whatever was paused or resumed is over: everything is as it would be without.
    pub(super) fn end_pause(&mut self) {
        self.activity = Activity::Active;
        self.timers.clear(Key::Resumed);
        self.roster_changed = true;
    }

    pub(crate) fn activity(&self) -> Activity {
        self.activity
    }

    /// It has no workers, or sends them away.
    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.activity, Activity::Pausing | Activity::Paused)
    }

    /// How many workers are READY, of how many.
    pub(crate) fn strength(&self) -> (u32, u32) {
        let ready = self.all_workers().filter(|worker| worker.state == State::Ready).count();
        (u32::try_from(ready).expect("bounded"), self.target)
    }

    /// The failure that made the pool give up.
    pub(crate) fn last_failure(&self) -> Option<Failure> {
        self.last_failure.clone().filter(|_| self.is_failed())
    }
}
