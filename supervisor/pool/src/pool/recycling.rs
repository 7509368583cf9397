//! Says who has served enough and is to be replaced, though nothing is wrong with it.
//!
//! ```text
//! READY ── connections, age, memory, or somebody asks ──▶ worn ── room within `surge` ──▶ its successor starts
//!                                                          ▲                                │       └─ READY: it drains (I3)
//!                                                          └────── back-off ◀── not READY ──┘
//! ```
//! A worn worker serves on as if nothing were: there is no hurry. So a reload goes first, a pool that was given up recycles
//! nobody, and a replacement that fails costs nothing but a wait. The wait is the pool's, since all its slots run one program.

use std::collections::BTreeSet;

use ostler_config::checked::Jitter;
use ostler_shared::{SlotNo, WorkerId};

use super::{Key, Pool};
use crate::action::{Action, Answer};
use crate::event::RequestId;
use crate::lifecycle::State;
use crate::note::Note;
use crate::reason::{Failure, Wear};
use crate::restart::BackOff;
use crate::turn::Turn;
use crate::worker::Seat;
use crate::{MEASURE_EVERY, Moment};

/// What a pool remembers of replacing worn workers.
#[derive(Debug, Default)]
pub(super) struct Recycling {
    errands: Vec<Errand>,
    back_off: BackOff,
    /// Before this nobody is replaced for its wear alone.
    not_before: Option<Moment>,
    measuring: Measuring,
    prospect: Prospect,
}

/// Somebody waits until these are gone.
#[derive(Debug)]
struct Errand {
    request: RequestId,
    workers: BTreeSet<WorkerId>,
}

/// Whether it is worth while to replace anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Prospect {
    #[default]
    Open,
    /// The end of everything is near.
    Ending,
}

/// Whether the memory of workers is being looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Measuring {
    /// Nobody needs to be looked at.
    #[default]
    Nobody,
    /// The next look has its time.
    Later,
    /// The answer is awaited.
    Now,
}

impl Pool {
    // ── wear ───────────────────────────────────────────────────────────────────────────────────────────────

    /// A worker begins to serve: its limits are drawn.
    pub(super) fn begin_to_wear(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let recycle = self.worker(seat).settings.pool.recycle;
        if recycle.requests > 0 {
            let limit = (f64::from(recycle.requests) * draw(recycle.jitter, turn)).round().max(1.0);
            // Positive and far below the largest whole number that a float can say.
            self.worker_mut(seat).done_max = Some(limit as u64);
        }
        if !recycle.age.is_zero() {
            self.timers.set(Key::Age(seat), turn.now + recycle.age.mul_f64(draw(recycle.jitter, turn)));
        }
        if recycle.rss > 0 && self.recycling.measuring == Measuring::Nobody {
            self.measure_later(turn.now);
        }
    }

    pub(super) fn stop_wearing(&mut self, seat: Seat) {
        self.timers.clear(Key::Age(seat));
    }

    /// A worker has served one more connection.
    pub(super) fn count_towards_wear(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let worker = self.worker(seat);
        if worker.done_max.is_some_and(|most| worker.done >= most) {
            self.wears_out(turn, seat, Wear::Requests);
        }
    }

    pub(super) fn comes_of_age(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        self.wears_out(turn, seat, Wear::Age);
    }

    /// What somebody asks for may fail and is forgotten then; what a limit asks for is not.
    fn wears_out(&mut self, turn: &mut Turn<'_>, seat: Seat, wear: Wear) {
        let worker = self.worker_mut(seat);
        if worker.state == State::Ready && matches!(worker.wear, None | Some(Wear::Asked)) {
            worker.wear = Some(wear);
            turn.note(Note::Worn { id: worker.id, worker: worker.name.clone(), wear });
            self.roster_changed = true;
        }
    }

    // ── memory ─────────────────────────────────────────────────────────────────────────────────────────────

    fn measure_later(&mut self, now: Moment) {
        self.recycling.measuring = Measuring::Later;
        self.timers.set(Key::Measure, now + MEASURE_EVERY);
    }

    /// Asks for the memory of those who have a limit and are within it, as far as is known.
    pub(super) fn measure(&mut self, turn: &mut Turn<'_>) {
        let limited = self.all_workers().filter(|worker| {
            worker.state == State::Ready && worker.settings.pool.recycle.rss > 0 && worker.wear.is_none()
        });
        let workers: Vec<WorkerId> = limited.map(|worker| worker.id).collect();
        self.recycling.measuring = if workers.is_empty() { Measuring::Nobody } else { Measuring::Now };
        if !workers.is_empty() {
            turn.act(Action::Measure { pool: self.no, workers });
        }
    }

    /// The answer to [`Action::Measure`].
    pub(crate) fn measured(&mut self, turn: &mut Turn<'_>, sizes: &[(WorkerId, u64)]) {
        if self.is_stopping() {
            return;
        }
        self.measure_later(turn.now);
        let (mut any_fits, mut too_large_from_birth) = (false, None);
        for (worker, rss) in sizes {
            let Some(seat) = self.seat_of(*worker) else { continue };
            let worker = self.worker_mut(seat);
            let limit = worker.settings.pool.recycle.rss;
            let first_look = !std::mem::replace(&mut worker.was_measured, true);
            if *rss < limit {
                any_fits |= first_look;
                continue;
            }
            if first_look {
                too_large_from_birth.get_or_insert((worker.name.clone(), *rss, limit));
            }
            self.wears_out(turn, seat, Wear::Memory);
        }
        match too_large_from_birth {
            // The next one would be as large: without a pause one would replace the other for ever.
            Some((worker, rss, limit)) => {
                let wait = self.wait_before_recycling(turn);
                turn.note(Note::RecycleFutile { worker, rss, limit, wait });
            }
            None if any_fits => self.recycling.back_off.forgive(),
            None => {}
        }
    }

    // ── replacing ──────────────────────────────────────────────────────────────────────────────────────────

    /// Slots whose worker is worn and may be replaced as soon as there is room.
    pub(super) fn slots_to_recycle(&self) -> Vec<SlotNo> {
        if self.rollout.is_some() || self.is_failed() || self.recycling.prospect == Prospect::Ending {
            return Vec::new();
        }
        let slots = self.slots.range(..SlotNo(self.target));
        slots.filter(|(no, _)| self.wear_of(**no).is_some()).map(|(no, _)| *no).collect()
    }

    fn wear_of(&self, no: SlotNo) -> Option<Wear> {
        let worker = self.worker(self.slots[&no].incumbent?);
        worker.wear.filter(|_| worker.state == State::Ready)
    }

    /// Before this the worker of a slot is not replaced; whoever asks is not kept waiting for the failures of others.
    pub(super) fn earliest_recycling(&self, no: SlotNo) -> Option<Moment> {
        match self.wear_of(no) {
            Some(Wear::Requests | Wear::Age | Wear::Memory) => self.recycling.not_before,
            Some(Wear::Asked) | None => None,
        }
    }

    /// Why the worker in `seat` leaves, now that its replacement is there.
    pub(super) fn wear_at_the_end(&self, seat: Seat) -> Wear {
        // Whoever is replaced without being worn any more was asked for, by somebody who has his answer.
        self.worker(seat).wear.unwrap_or(Wear::Asked)
    }

    /// A replacement is READY. Whether it is smaller than its predecessor is not known yet.
    pub(super) fn slot_recycled(&mut self, why: Option<Wear>) {
        match why {
            Some(Wear::Requests | Wear::Age | Wear::Asked) => {
                self.recycling.back_off.forgive();
                self.recycling.not_before = None;
            }
            Some(Wear::Memory) | None => {}
        }
    }

    /// A replacement did not become READY: the old worker serves on.
    pub(super) fn recycling_failed(&mut self, turn: &mut Turn<'_>, failure: Failure) {
        let wait = self.wait_before_recycling(turn);
        turn.note(Note::RecycleFailed { pool: self.name.clone(), failure: failure.clone(), wait });
        self.give_up_errands(turn, &failure);
    }

    fn wait_before_recycling(&mut self, turn: &mut Turn<'_>) -> std::time::Duration {
        let start = self.config().start.clone();
        let wait = self.recycling.back_off.wait(&start, turn.rng);
        self.recycling.not_before = Some(turn.now + wait);
        self.roster_changed = true;
        wait
    }

    // ── asking ─────────────────────────────────────────────────────────────────────────────────────────────

    /// Has the workers that serve in `slot`, or in every slot, replaced by and by.
    pub(crate) fn recycle(&mut self, turn: &mut Turn<'_>, slot: Option<SlotNo>, request: Option<RequestId>) {
        let seats = match self.who_is_meant(slot) {
            Ok(seats) => seats,
            Err(why) => return turn.answer(request, Answer::Refused { why }),
        };
        let workers = seats.iter().map(|seat| self.worker(*seat).id).collect();
        for seat in seats {
            if self.worker(seat).wear.is_none() {
                self.wears_out(turn, seat, Wear::Asked);
            }
        }
        self.recycling.errands.extend(request.map(|request| Errand { request, workers }));
    }

    fn who_is_meant(&self, slot: Option<SlotNo>) -> Result<Vec<Seat>, String> {
        let name = &self.name;
        if self.is_failed() {
            return Err(format!("pool {name} has been given up: mend it, then `ostler restart {name}`"));
        }
        let slots = match slot {
            Some(no) if no.0 >= self.target => return Err(self.no_such_slot(no)),
            Some(no) => no..SlotNo(no.0 + 1),
            None => SlotNo(0)..SlotNo(self.target),
        };
        let seats = self.slots.range(slots).filter_map(|(_, slot)| slot.incumbent);
        let serving: Vec<Seat> = seats.filter(|seat| self.worker(*seat).state == State::Ready).collect();
        match serving.is_empty() {
            true => {
                Err(format!("nobody serves there: `ostler status` shows why, `ostler restart {name}` starts workers"))
            }
            false => Ok(serving),
        }
    }

    pub(super) fn finish_errands(&mut self, turn: &mut Turn<'_>) {
        let seats = &self.seats;
        self.recycling.errands.retain_mut(|errand| {
            errand.workers.retain(|worker| seats.contains_key(worker));
            if errand.workers.is_empty() {
                turn.answer(Some(errand.request), Answer::Recycled);
            }
            !errand.workers.is_empty()
        });
    }

    /// A stop is near: whoever serves serves to the end.
    pub(super) fn end_recycling(&mut self) {
        self.recycling.prospect = Prospect::Ending;
    }

    /// Tells those who wait that their wish failed, and forgets it.
    pub(super) fn give_up_errands(&mut self, turn: &mut Turn<'_>, failure: &Failure) {
        for worker in self.workers.iter_mut().flatten().filter(|worker| worker.wear == Some(Wear::Asked)) {
            worker.wear = None;
        }
        for errand in std::mem::take(&mut self.recycling.errands) {
            turn.answer(Some(errand.request), Answer::NotRecycled { failure: failure.clone() });
        }
    }
}

/// By how much one worker's limit differs from what is configured.
fn draw(jitter: Jitter, turn: &mut Turn<'_>) -> f64 {
    jitter.factor(turn.rng.f64() * 2.0 - 1.0)
}
