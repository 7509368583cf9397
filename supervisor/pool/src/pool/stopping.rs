//! Ends a pool: serve what waits, let the workers finish, then insist.
//!
//! ```text
//! delayed    accept and serve as before; then graceful (pools/ending.rs)
//! graceful   refuse new ─▶ serve the line and the kernel's queue ─▶ drain workers ─▶ gone
//!                                  └─ last call: shed the rest, TERM ─▶ ABRT ─▶ KILL ─▶ gone
//! now        refuse new, shed everything, TERM ─▶ 2 s ─▶ KILL ─▶ gone
//! ```

use std::time::Duration;

use super::{Key, Pool};
use crate::Moment;
use crate::action::Action;
use crate::event::Urgency;
use crate::lifecycle::{Input, State};
use crate::note::Note;
use crate::reason::{Cause, StopCount, What};
use crate::turn::Turn;

#[derive(Debug)]
pub(super) struct Stopping {
    /// Why its workers leave.
    cause: Cause,
    /// When serving ends and TERM goes out: `stop_timeout − kill_after`.
    last_call: Moment,
    /// From TERM to KILL, so short that KILL comes before `stop_timeout` is over.
    kill_after_max: Duration,
    phase: Phase,
    kernel_queue_empty: bool,
    /// The totals when the stop began.
    shed_before: u64,
    lost_before: u64,
    killed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What waits is served.
    Serving,
    /// Workers finish what they hold; nothing new is handed out.
    Draining,
    /// Nothing is left.
    Gone,
}

impl Pool {
    /// Everything is going to stop, but for now clients are accepted and served as before, by those who are there.
    pub(crate) fn delay_stop(&mut self, turn: &mut Turn<'_>) {
        if self.stopping.is_none() {
            self.abandon_everything(turn, Cause::Stopping, What::Stopping);
            self.end_recycling();
            self.end_pause();
        }
    }

    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>, urgency: Urgency, stop_timeout: Duration, cause: Cause) {
        if self.stopping.is_none() {
            let kill_after = self.config().drain.kill_after.min(stop_timeout);
            let last_call = turn.now + stop_timeout.saturating_sub(kill_after);
            self.stopping = Some(Stopping {
                cause,
                last_call,
                kill_after_max: kill_after,
                phase: Phase::Serving,
                kernel_queue_empty: false,
                shed_before: self.books.shed_total(),
                lost_before: self.books.lost,
                killed: 0,
            });
            let what = if cause == Cause::Stopping { What::Stopping } else { What::PoolRemoved };
            self.abandon_everything(turn, cause, what);
            self.end_pause();
            turn.act(Action::RefuseNew { pool: self.no });
            self.timers.set(Key::LastCall, last_call);
            // Whoever drains already is held to the stop's deadline too.
            for seat in self.all_seats() {
                let deadline = self.timers.of(Key::Life(seat));
                if let (State::Draining, Some(at)) = (self.worker(seat).state, deadline) {
                    self.timers.set(Key::Life(seat), at.min(last_call));
                }
            }
        }
        if urgency == Urgency::Now {
            self.shed_line(turn);
            self.set_phase(Phase::Draining);
            for seat in self.all_seats() {
                self.dismiss(turn, seat, Input::Hurry, cause);
            }
            self.dismiss_templates(turn, Input::Hurry, cause);
            self.shed_line(turn);
        }
    }

    pub(crate) fn kernel_queue_empty(&mut self) {
        // While workers that accept for themselves leave, somebody may come into a queue that was empty.
        let is_early = self.leaves_queue() && self.is_shedding() && !self.seats.is_empty();
        if let Some(stopping) = self.stopping.as_mut().filter(|_| !is_early) {
            stopping.kernel_queue_empty = true;
        }
    }

    /// The time for serving is over.
    pub(super) fn last_call(&mut self, turn: &mut Turn<'_>) {
        self.drain_everybody(turn);
        self.shed_line(turn);
    }

    fn drain_everybody(&mut self, turn: &mut Turn<'_>) {
        let Some(Stopping { cause, .. }) = self.stopping else { return };
        self.set_phase(Phase::Draining);
        for seat in self.all_seats() {
            if matches!(self.worker(seat).state, State::Starting | State::Ready) {
                self.dismiss(turn, seat, Input::Drain, cause);
            }
        }
        self.dismiss_templates(turn, Input::Drain, cause);
    }

    pub(super) fn advance_stop(&mut self, turn: &mut Turn<'_>) {
        let Some(stopping) = &self.stopping else { return };
        match stopping.phase {
            // What a stuck worker has not claimed comes back in a moment, and somebody must be there to serve it.
            Phase::Serving if self.nobody_waits() && self.nothing_is_doubtful() => self.drain_everybody(turn),
            // Given up before the stop, and the last survivor is gone: nobody will ever serve those who wait.
            Phase::Serving if self.is_failed() && self.seats.is_empty() => {
                self.set_phase(Phase::Draining);
                return self.shed_line(turn);
            }
            Phase::Serving | Phase::Gone => return,
            Phase::Draining => {}
        }
        if self.seats.is_empty() && self.templates.is_empty() && self.nobody_waits() {
            self.set_phase(Phase::Gone);
            self.timers.clear(Key::LastCall);
            turn.note(Note::PoolStopped {
                pool: self.name.clone(),
                done: self.books.done,
                lost: self.books.lost,
                shed: self.books.shed_by_reason().collect(),
            });
        }
    }

    /// Neither in the kernel's queue nor in the line.
    fn nobody_waits(&self) -> bool {
        self.line.is_empty() && self.stopping.as_ref().is_some_and(|stopping| stopping.kernel_queue_empty)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.phase() == Some(Phase::Gone)
    }

    /// What this stop cost, so far.
    pub(crate) fn stop_count(&self) -> StopCount {
        self.stopping.as_ref().map_or_else(StopCount::default, |stopping| StopCount {
            shed: self.books.shed_total() - stopping.shed_before,
            // A lie about a lost connection that came to light since may have brought the total down.
            lost: self.books.lost.saturating_sub(stopping.lost_before),
            killed: stopping.killed,
        })
    }

    /// It ends: because of a reload, or with everything.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Nothing that waits will be served any more.
    pub(super) fn is_shedding(&self) -> bool {
        matches!(self.phase(), Some(Phase::Draining | Phase::Gone))
    }

    /// Whether an empty slot should be filled: not while the pool is paused, and at a stop only while somebody waits.
    pub(super) fn wants_workers(&self) -> bool {
        match self.phase() {
            None => !self.is_paused(),
            // Who accepts for himself is needed as long as somebody may wait for that.
            Some(Phase::Serving) if self.accepts_by_itself() => {
                self.stopping.as_ref().is_some_and(|stopping| !stopping.kernel_queue_empty)
            }
            Some(Phase::Serving) => !self.line.is_empty(),
            Some(Phase::Draining | Phase::Gone) => false,
        }
    }

    /// Why its workers leave, where all do.
    pub(super) fn stopping_cause(&self) -> Option<Cause> {
        self.stopping.as_ref().map(|stopping| stopping.cause)
    }

    pub(super) fn last_call_at(&self) -> Option<Moment> {
        self.stopping.as_ref().map(|stopping| stopping.last_call)
    }

    pub(super) fn kill_after(&self, configured: Duration) -> Duration {
        self.stopping.as_ref().map_or(configured, |stopping| configured.min(stopping.kill_after_max))
    }

    pub(super) fn count_killed(&mut self) {
        if let Some(stopping) = &mut self.stopping {
            stopping.killed += 1;
        }
    }

    fn phase(&self) -> Option<Phase> {
        self.stopping.as_ref().map(|stopping| stopping.phase)
    }

    fn set_phase(&mut self, phase: Phase) {
        let begins_to_shed = phase == Phase::Draining && self.phase() == Some(Phase::Serving);
        let by_itself = self.leaves_queue();
        if let Some(stopping) = &mut self.stopping {
            stopping.phase = phase;
            // What workers leave in the kernel's queue is looked for when they are gone.
            stopping.kernel_queue_empty &= !(by_itself && begins_to_shed);
        }
    }
}
