//! Finds workers that serve and stand still, and has them replaced.
//!
//! ```text
//! READY ──heartbeat──▶ pulse taken ── heard, or not expected to beat ──▶ again when that would be too long ago
//!                           └── silent ──▶ doubted: taken once more ── still silent ──▶ ABRT, then KILL
//! ```
//! Two looks, because time may have passed that nobody lived: a machine that wakes up lets its timers fire in any order, and
//! the worker gets a moment to beat. Nobody is judged by anything but silence where a beat was promised (I7).

use std::time::Duration;

use ostler_shared::WorkerId;
use ostler_shared::region::Beats;

use super::{Key, Pool};
use crate::action::Action;
use crate::event::Pulse;
use crate::lifecycle::{Input, State};
use crate::note::Note;
use crate::reason::{Cause, What};
use crate::turn::Turn;
use crate::worker::Seat;
use crate::{Moment, PULSE_SPACING_MIN};

/// A silent worker is given this part of `watchdog.heartbeat` to beat after all: in it, one that lives beats once.
const DOUBT: u32 = 4;

impl Pool {
    /// A worker has begun to serve: from now on it is expected to beat.
    pub(super) fn watch_over(&mut self, now: Moment, seat: Seat) {
        let heartbeat = self.heartbeat(seat);
        if !heartbeat.is_zero() {
            self.timers.set(Key::Pulse(seat), now + heartbeat);
        }
    }

    pub(super) fn stop_watching_over(&mut self, seat: Seat) {
        self.timers.clear(Key::Pulse(seat));
        self.timers.clear(Key::Marks(seat));
    }

    pub(super) fn take_pulse(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let worker = self.worker(seat).id;
        turn.act(Action::TakePulse { worker });
    }

    /// The answer to [`Action::TakePulse`].
    pub(crate) fn pulse_taken(&mut self, turn: &mut Turn<'_>, worker: WorkerId, pulse: Pulse) {
        let Some(seat) = self.seat_of(worker).filter(|seat| self.worker(*seat).state == State::Ready) else { return };
        let (now, heartbeat) = (turn.now, self.heartbeat(seat));
        let worker = self.worker_mut(seat);
        let Some(ready_at) = worker.ready_at else { return };
        let heard_at = pulse.heard_at.map_or(ready_at, |at| at.max(ready_at));
        let is_expected = match pulse.beats {
            Beats::Never => false,
            // Its books are ours: what it has not reported as over, it may still be at.
            Beats::WhileIdle => worker.load() == 0,
            Beats::Always => true,
        };
        let next = if !is_expected {
            worker.doubted = None;
            now + heartbeat
        } else if now < heard_at + heartbeat {
            worker.doubted = None;
            heard_at + heartbeat
        } else if worker.doubted != Some(heard_at) {
            worker.doubted = Some(heard_at);
            now + heartbeat / DOUBT
        } else {
            return self.is_silent(turn, seat, now.since(heard_at));
        };
        // What a worker says of its last beat must not make us look without a pause.
        self.timers.set(Key::Pulse(seat), next.max(now + PULSE_SPACING_MIN));
    }

    fn is_silent(&mut self, turn: &mut Turn<'_>, seat: Seat, silence: Duration) {
        let worker = self.worker_mut(seat);
        worker.trouble.get_or_insert(What::Silent(silence));
        turn.note(Note::Silent { worker: worker.name.clone(), silence });
        self.dismiss(turn, seat, Input::Wedged, Cause::Silent);
    }

    fn heartbeat(&self, seat: Seat) -> Duration {
        self.worker(seat).settings.pool.watchdog.heartbeat
    }
}
