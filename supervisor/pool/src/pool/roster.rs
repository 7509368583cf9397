//! Keeps the workers: who starts, who serves, who has to go, and what follows a death.

use std::sync::Arc;

use ostler_config::checked::Handoff;
use ostler_shared::{ConnId, SlotNo, WorkerId, WorkerName};

use super::rollout::SlotTrial;
use super::{Health, Key, Pool, Standing, at_most, half};
use crate::action::{Action, Origin, Step};
use crate::event::{Exit, HangUp, Settings};
use crate::lifecycle::{self, Effect, Input, State};
use crate::note::Note;
use crate::reason::{Cause, Failure, What};
use crate::restart::Verdict;
use crate::tally;
use crate::turn::Turn;
use crate::worker::{Conduct, HandoffNo, Own, Seat, Worker};
use crate::{FAST_KILL_AFTER, HANGUP_GRACE, SPAWN_BATCH_MAX, SPAWN_BATCH_PAUSE, STARTING_MAX};

impl Pool {
    // ── birth ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Starts a worker in every slot that has none and may have one.
    pub(super) fn fill_vacancies(&mut self, turn: &mut Turn<'_>) {
        if !self.wants_workers() {
            return;
        }
        let wanted = |no: &SlotNo| match self.trial_of_slot(*no) {
            SlotTrial::None => self.health == Health::Trying,
            SlotTrial::UnderWay => true,
            SlotTrial::Failed => false,
        };
        let vacant: Vec<SlotNo> = self.slots.range(..SlotNo(self.target)).map(|(no, _)| *no).filter(wanted).collect();
        let starting = self.all_workers().filter(|worker| worker.state == State::Starting).count();
        let places = STARTING_MAX.saturating_sub(u32::try_from(starting).expect("bounded"));
        let mut spawned = 0;
        for no in vacant {
            if self.may_fill(turn, no) {
                if spawned == places {
                    return; // one that becomes READY, or dies, makes room for the next
                }
                if spawned == SPAWN_BATCH_MAX {
                    // Forking takes time; the loop looks at everything else first.
                    return self.timers.set(Key::Vacancy(no), turn.now + SPAWN_BATCH_PAUSE);
                }
                spawned += 1;
                let settings = Arc::clone(&self.slots[&no].settings);
                let seat = self.spawn(turn, no, settings);
                self.slot_mut(no).incumbent = Some(seat);
            }
        }
    }

    fn may_fill(&mut self, turn: &Turn<'_>, no: SlotNo) -> bool {
        let slot = &self.slots[&no];
        let taken = slot.incumbent.is_some() || slot.successor.is_some();
        // One that failed is waited for, so that a program which can't even die does not pile up; one whose end will
        // undo a rollout as well.
        let awaited =
            |seat: &Seat| !self.worker(*seat).is_settled(turn.now) || self.is_deserter(self.worker(*seat), turn.now);
        let crowded = slot.leaving.len() > 1 || slot.leaving.iter().any(awaited);
        if taken || crowded {
            return false;
        }
        if self.origin_of(&slot.settings).is_none() {
            return false; // a template that becomes ready sets `roster_changed`
        }
        match slot.earliest_spawn() {
            Some(at) if at > turn.now => {
                self.timers.set(Key::Vacancy(no), at);
                false
            }
            Some(_) | None => true,
        }
    }

    /// Makes a worker and asks for its process. The caller gives it its role in the slot.
    pub(super) fn spawn(&mut self, turn: &mut Turn<'_>, slot: SlotNo, settings: Arc<Settings>) -> Seat {
        self.tally.started += 1;
        let id = turn.new_worker_id();
        let origin = self.origin_of(&settings).expect("whoever asks for a worker has seen that it can be made");
        let name = WorkerName { pool: self.name.clone(), slot, generation: settings.generation };
        let worker = Worker {
            id,
            name: name.clone(),
            slot,
            settings: Arc::clone(&settings),
            template: match origin {
                Origin::Exec => None,
                Origin::Template(template) => Some(template),
            },
            state: State::Starting,
            spawned_at: turn.now,
            ready_at: None,
            tickets: std::collections::BTreeMap::new(),
            own: Own::default(),
            done: 0,
            lost: std::collections::BTreeSet::new(),
            forced: false,
            leaving: None,
            trouble: None,
            judged: false,
            resting: false,
            conduct: Conduct::Claims,
            stuck_in_row: 0,
            probed: false,
            completed_at: None,
            looked_at: HandoffNo(0),
            overdue: None,
            done_max: None,
            wear: None,
            was_measured: false,
            doubted: None,
        };
        let deadline = turn.now + worker.ready_timeout();
        let seat = self.free_seats.pop().map_or(Seat(u32::try_from(self.workers.len()).expect("bounded")), Seat);
        if self.workers.len() == seat.0 as usize {
            self.workers.push(None);
        }
        self.workers[seat.0 as usize] = Some(worker);
        self.seats.insert(id, seat);
        self.timers.set(Key::Life(seat), deadline);
        let slot = self.slot_mut(slot);
        slot.last_spawn = Some(turn.now);
        slot.wait_until = None;
        match origin {
            Origin::Exec => {}
            Origin::Template(_) => self.await_fork(turn, seat),
        }
        turn.act(Action::Spawn { worker: id, pool: self.no, name, settings, origin });
        if self.standing == Standing::OnTrial {
            self.slot_moves(turn, seat);
        }
        seat
    }

    // ── what a worker says ─────────────────────────────────────────────────────────────────────────────────

    pub(crate) fn ready(&mut self, turn: &mut Turn<'_>, worker: WorkerId) {
        if self.has_template(worker) {
            return self.template_ready(turn, worker);
        }
        let Some(seat) = self.seat_of(worker) else { return };
        if self.pass(seat, Input::Ready) != Effect::Serve {
            return;
        }
        self.timers.clear(Key::Life(seat));
        let worker = self.worker_mut(seat);
        worker.ready_at = Some(turn.now);
        let (id, name, slot) = (worker.id, worker.name.clone(), worker.slot);
        let took = turn.now.since(worker.spawned_at);
        turn.note(Note::Ready { id, worker: name, took });
        self.has_served = true;
        self.roster_changed = true;
        self.note_telling(seat);
        self.watch_over(turn.now, seat);
        self.begin_to_wear(turn, seat);
        self.place(seat);
        self.slot_mut(slot).has_served = true;
        self.prove_template(seat);
        self.begin_probation(turn.now, seat);
        if self.slots[&slot].successor == Some(seat) {
            self.promote(turn, slot);
        } else if self.standing == Standing::OnTrial {
            self.slot_rolled(turn, slot, seat);
        }
    }

    pub(crate) fn hung_up(&mut self, turn: &mut Turn<'_>, worker: WorkerId, how: HangUp) {
        if self.has_template(worker) {
            return self.template_hung_up(turn, worker, how);
        }
        let Some(seat) = self.seat_of(worker) else { return };
        let cause = match how {
            HangUp::Leaves => Cause::Leaves,
            HangUp::ChannelClosed => Cause::HungUp,
        };
        if self.worker(seat).state == State::Starting {
            self.pass(seat, Input::HungUp);
        } else {
            self.dismiss(turn, seat, Input::HungUp, cause);
        }
        if how == HangUp::ChannelClosed && matches!(self.worker(seat).state, State::Starting | State::Draining) {
            // It cannot tell us anything any more; normally because it is ending, which takes no time.
            self.timers.set(Key::Life(seat), turn.now + HANGUP_GRACE);
        }
    }

    pub(crate) fn misbehaved(&mut self, turn: &mut Turn<'_>, worker: WorkerId, how: String) {
        if self.has_template(worker) {
            return self.template_misbehaved(turn, worker, how);
        }
        let Some(seat) = self.seat_of(worker) else { return };
        let worker = self.worker_mut(seat);
        if matches!(worker.leaving, Some((Cause::Misbehaved, _))) {
            return; // said once
        }
        turn.note(Note::Misbehaved { worker: worker.name.clone(), how: how.clone() });
        worker.trouble.get_or_insert(What::Misbehaved(how));
        self.dismiss(turn, seat, Input::Misbehaved, Cause::Misbehaved);
    }

    pub(crate) fn exec_failed(&mut self, worker: WorkerId, why: String) {
        if self.has_template(worker) {
            return self.template_exec_failed(worker, why);
        }
        let Some(seat) = self.seat_of(worker) else { return };
        self.worker_mut(seat).trouble = Some(What::Exec(why));
    }

    // ── leaving ────────────────────────────────────────────────────────────────────────────────────────────

    /// Applies an input that makes a worker go, and takes its role in the slot away.
    pub(super) fn dismiss(&mut self, turn: &mut Turn<'_>, seat: Seat, input: Input, cause: Cause) {
        let before = self.worker(seat).state;
        let effect = self.pass(seat, input);
        let now = turn.now;
        let worker = self.worker_mut(seat);
        let state = worker.state;
        let (id, slot) = (worker.id, worker.slot);
        if worker.leaving.is_none() {
            worker.leaving = Some((cause, now));
            turn.note(Note::Leaves { worker: worker.name.clone(), cause });
        }
        if before == State::Ready && state != State::Ready {
            self.stop_watching(seat);
            self.stop_watching_over(seat);
            self.stop_wearing(seat);
            self.place(seat);
        }
        // At a graceful stop it serves what is in its mailbox: nobody else would. An unmodified program that is asked to leave
        // takes nothing more.
        // One that closed its channel is most likely dead: then its mailbox is emptied with its death.
        let reads_to_the_end = match self.worker(seat).settings.pool.handoff {
            Handoff::Pass | Handoff::Stdio => true,
            // In `listen` nothing is in it.
            Handoff::Accept | Handoff::Listen => false,
        };
        let keeps_mailbox = (self.is_stopping() && input == Input::Drain && reads_to_the_end) || cause == Cause::HungUp;
        let had_mailbox = matches!(before, State::Ready | State::Draining);
        if had_mailbox && state != before && !keeps_mailbox {
            turn.act(Action::Recall { worker: id });
        }
        self.carry_out(turn, seat, effect);
        if effect != Effect::Nothing || state != before {
            self.set_life_deadline(turn, seat);
        }
        let slot = self.slot_mut(slot);
        if slot.incumbent == Some(seat) {
            slot.incumbent = None;
            slot.leaving.push(seat);
        }
        let was_successor = slot.successor == Some(seat);
        if was_successor {
            slot.successor = None;
            slot.leaving.push(seat);
        }
        self.roster_changed = true;
        if was_successor {
            self.judge_successor(turn, seat, cause);
        }
    }

    /// A successor that goes by its own fault has failed its move; its death adds nothing to that.
    fn judge_successor(&mut self, turn: &mut Turn<'_>, seat: Seat, cause: Cause) {
        if !cause.is_ours() {
            let worker = self.worker_mut(seat);
            worker.judged = true;
            let (slot, failure) = (worker.slot, worker.failed(worker.trouble.clone().unwrap_or(What::HungUp)));
            self.move_failed(turn, slot, failure);
        }
    }

    /// A state's deadline has passed.
    pub(super) fn deadline_passed(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let worker = self.worker_mut(seat);
        match worker.state {
            State::Starting => {
                let hung_up = turn.now < worker.spawned_at + worker.ready_timeout();
                let failure = if hung_up {
                    What::HungUp
                } else {
                    let pool = &worker.settings.pool;
                    What::NeverReady(worker.ready_timeout(), pool.handoff, pool.start.ready)
                };
                worker.trouble.get_or_insert(failure);
                self.dismiss(turn, seat, Input::Deadline, Cause::NeverReady);
            }
            State::Ready => {}
            State::Draining | State::Terminating | State::TerminatingFast | State::Aborting | State::Killing => {
                let alive_after_all = worker.state == State::Draining;
                if alive_after_all && matches!(worker.leaving, Some((Cause::HungUp, _))) {
                    let worker = worker.id;
                    turn.act(Action::Recall { worker });
                }
                let effect = self.pass(seat, Input::Deadline);
                self.carry_out(turn, seat, effect);
                self.set_life_deadline(turn, seat);
            }
        }
    }

    /// Moves a worker on in its life.
    fn pass(&mut self, seat: Seat, input: Input) -> Effect {
        let before = self.worker(seat).state;
        self.visits.note(before, input);
        let (state, effect) = lifecycle::next(before, input);
        self.worker_mut(seat).state = state;
        effect
    }

    fn carry_out(&mut self, turn: &mut Turn<'_>, seat: Seat, effect: Effect) {
        let worker = self.worker(seat).id;
        let step = match effect {
            Effect::Nothing | Effect::Serve | Effect::HandNothing => return,
            Effect::TellDrain => return turn.act(Action::Drain { worker }),
            Effect::Term => Step::Term,
            Effect::Abort => Step::Abort,
            Effect::Kill => Step::Kill,
        };
        let was_told_of = step == Step::Abort && self.worker(seat).stood_still();
        if !was_told_of {
            turn.note(Note::Escalated { worker: self.worker(seat).name.clone(), step });
        }
        turn.act(Action::Signal { worker, step });
        if step != Step::Term && !std::mem::replace(&mut self.worker_mut(seat).forced, true) {
            self.count_killed();
        }
    }

    fn set_life_deadline(&mut self, turn: &Turn<'_>, seat: Seat) {
        let worker = self.worker(seat);
        let drain = &worker.settings.pool.drain;
        let kill_after = self.kill_after(drain.kill_after);
        let deadline = match worker.state {
            State::Starting => worker.spawned_at + worker.ready_timeout(),
            State::Ready => return self.timers.clear(Key::Life(seat)),
            State::Draining => at_most(turn.now + drain.timeout, self.last_call_at()),
            // One that stood still was not asked by TERM before: the whole time is between ABRT and KILL.
            State::Aborting if worker.stood_still() => turn.now + kill_after,
            State::Terminating | State::Aborting => turn.now + half(kill_after),
            State::TerminatingFast => turn.now + FAST_KILL_AFTER,
            State::Killing => turn.now + kill_after.max(FAST_KILL_AFTER),
        };
        self.timers.set(Key::Life(seat), deadline);
    }

    // ── death ──────────────────────────────────────────────────────────────────────────────────────────────

    /// No process could be made.
    pub(crate) fn spawn_failed(&mut self, turn: &mut Turn<'_>, worker: WorkerId, why: String) {
        if self.has_template(worker) {
            return self.template_not_started(turn, worker, why);
        }
        let Some(seat) = self.seat_of(worker) else { return };
        let worker = self.bury(seat);
        self.tally.started -= 1;
        let failure = worker.failed(What::Spawn(why));
        self.after_death(turn, &worker, seat, Some(failure));
    }

    pub(crate) fn died(&mut self, turn: &mut Turn<'_>, worker: WorkerId, exit: Exit, unclaimed: &[ConnId]) {
        if self.has_template(worker) {
            return self.template_died(turn, worker, exit);
        }
        let Some(seat) = self.seat_of(worker) else {
            panic!("I8: {worker} died twice");
        };
        for conn in unclaimed {
            self.retake(turn, seat, *conn);
            self.books.redelivered += 1;
        }
        let worker = self.bury(seat);
        let lost = worker.tickets.len() as u64 + worker.own.held;
        self.outstanding -= lost;
        self.books.lost += lost;
        turn.note(Note::Died {
            id: worker.id,
            worker: worker.name.clone(),
            exit,
            asked: worker.leaving.map(|(cause, _)| cause),
            age: turn.now.since(worker.spawned_at),
            done: worker.done,
            lost,
            redelivered: unclaimed.len() as u64,
        });
        tally::died(&mut self.tally, worker.leaving.map(|(cause, _)| cause), exit);
        let failure = self.probation_failure(&worker, turn.now, exit).or_else(|| worker.failure(turn.now, exit));
        let slot = self.slot_mut(worker.slot);
        slot.last_exit = Some((exit, turn.now));
        let was_successor = worker.judged || slot.successor == Some(seat);
        if !worker.was_asked() && !was_successor {
            slot.restarts += 1;
            self.tally.restarts += 1;
        }
        self.after_death(turn, &worker, seat, failure);
    }

    pub(super) fn bury(&mut self, seat: Seat) -> Worker {
        self.free.withdraw(seat);
        self.ahead.withdraw(seat);
        self.timers.clear(Key::Life(seat));
        self.timers.clear(Key::Rest(seat));
        self.timers.clear(Key::Fork(seat));
        self.stop_watching(seat);
        self.stop_watching_over(seat);
        self.stop_wearing(seat);
        self.end_look(seat);
        let worker = self.workers[seat.0 as usize].take().expect("a seat in use has a worker");
        self.seats.remove(&worker.id);
        self.free_seats.push(seat.0);
        worker
    }

    fn after_death(&mut self, turn: &mut Turn<'_>, worker: &Worker, seat: Seat, failure: Option<Failure>) {
        let slot = self.slot_mut(worker.slot);
        slot.leaving.retain(|other| *other != seat);
        let was_successor = slot.successor == Some(seat);
        if was_successor {
            slot.successor = None;
        }
        if slot.incumbent == Some(seat) {
            slot.incumbent = None;
        }
        self.roster_changed = true;
        if was_successor {
            // Whatever it was: it did not become READY, and somebody waits for a verdict.
            let failure = failure.unwrap_or_else(|| worker.failed(What::ScaledAway));
            return self.move_failed(turn, worker.slot, failure);
        }
        if let Some(failure) = failure.filter(|_| !self.is_stopping()) {
            self.hold_against(turn, worker, failure);
        }
    }

    /// A failure before a commit is the rollout's; otherwise the slot and the pool remember it.
    fn hold_against(&mut self, turn: &mut Turn<'_>, worker: &Worker, failure: Failure) {
        if !self.fails_rollout(worker, &failure) {
            self.suspect(turn, worker.slot, failure);
        }
    }

    /// A failure that counts against the slot and the pool.
    fn suspect(&mut self, turn: &mut Turn<'_>, slot: SlotNo, failure: Failure) {
        if self.count_failure(turn, &failure) == Verdict::Spent {
            return;
        }
        let start = self.config().start.clone();
        let slot = self.slots.get_mut(&slot).expect("a slot stays while a worker is in it");
        let wait = slot.back_off.wait(&start, turn.rng);
        slot.wait_until = Some(turn.now + wait);
        if self.health == Health::Trying {
            turn.note(Note::BackOff { failure, wait });
        }
    }

    /// Counts a failure; `Spent` when it is the one by which the pool is given up.
    pub(super) fn count_failure(&mut self, turn: &mut Turn<'_>, failure: &Failure) -> Verdict {
        let start = self.config().start.clone();
        self.last_failure = Some(failure.clone());
        // A command that can't be executed at the first start will not mend itself while somebody waits for it.
        let hopeless = !self.has_served && matches!(failure.what, What::Exec(_));
        // That the machine has no room for a process says nothing about the program: only deaths are counted.
        let counts = !self.has_served || !matches!(failure.what, What::Spawn(_));
        let spent = counts && self.intensity.note(turn.now, &start) == Verdict::Spent;
        if self.health == Health::Trying && (spent || hopeless) {
            self.health = Health::Failed;
            let survivors = self.all_workers().filter(|worker| worker.state == State::Ready).count();
            turn.note(Note::PoolFailed { pool: self.name.clone(), failure: failure.clone(), survivors });
            return Verdict::Spent;
        }
        Verdict::Holds
    }

    // ── slots ──────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn empty_slots_above_target(&mut self, turn: &mut Turn<'_>) {
        let surplus: Vec<Seat> = self
            .slots
            .range(SlotNo(self.target)..)
            .flat_map(|(_, slot)| [slot.incumbent, slot.successor])
            .flatten()
            .collect();
        for seat in surplus {
            self.dismiss(turn, seat, Input::Drain, Cause::ScaledDown);
        }
        self.roster_changed = true;
    }

    /// Forgets slots above the target as soon as nobody is in them.
    pub(super) fn close_slots(&mut self) {
        let target = SlotNo(self.target);
        let timers = &mut self.timers;
        self.slots.retain(|no, slot| {
            let occupied = slot.incumbent.is_some() || slot.successor.is_some() || !slot.leaving.is_empty();
            let stays = *no < target || occupied;
            if !stays {
                timers.clear(Key::Vacancy(*no));
            }
            stays
        });
    }

    pub(super) fn note_completeness(&mut self, turn: &mut Turn<'_>) {
        if !self.was_complete && self.is_complete() {
            self.was_complete = true;
            turn.note(Note::PoolReady { pool: self.name.clone(), workers: self.target });
        }
    }

    /// Some slot has lost its worker, or never got one that works. One that is starting for the first time is neither.
    pub(super) fn is_degraded(&self) -> bool {
        self.slots.range(..SlotNo(self.target)).any(|(_, slot)| {
            let serves = slot.incumbent.is_some_and(|seat| self.worker(seat).state == State::Ready);
            !serves && (slot.has_served || slot.back_off.has_failures())
        })
    }

    /// Every slot has had a READY worker at some time.
    pub(super) fn has_served_everywhere(&self) -> bool {
        self.slots.range(..SlotNo(self.target)).all(|(_, slot)| slot.has_served)
    }

    /// Every slot has a READY worker.
    pub(super) fn is_complete(&self) -> bool {
        let serves = |seat: Option<Seat>| seat.is_some_and(|seat| self.worker(seat).state == State::Ready);
        self.slots.range(..SlotNo(self.target)).all(|(_, slot)| serves(slot.incumbent))
    }

    /// It spent its intensity.
    pub(super) fn is_failed(&self) -> bool {
        self.health == Health::Failed
    }

    /// `restart` and `reload` begin with a clean slate.
    pub(super) fn forgive(&mut self) {
        self.health = Health::Trying;
        self.intensity.forgive();
        self.templates.forgive();
        self.forgive_slots();
    }

    /// No slot waits for a failure of its past any more.
    pub(super) fn forgive_slots(&mut self) {
        for slot in self.slots.values_mut() {
            slot.back_off.forgive();
            slot.wait_until = None;
        }
        self.roster_changed = true;
    }
}
