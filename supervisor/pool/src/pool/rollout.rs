//! Takes a pool to a new generation, or back: what a reload consists of in one pool (I4).
//!
//! ```text
//! canary starts ─▶ READY ─▶ its probation ─▶ the others, `surge` at a time ─▶ their probation ─▶ arrived
//!       └──────────────┴──────── any failure before the commit ─▶ failed ─▶ undo: those that moved go back
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ostler_config::checked::{self, Canary};
use ostler_shared::{Generation, SlotNo};

use super::moving::Purpose;
use super::{Key, Pool, Slot, Standing};
use crate::Moment;
use crate::event::{Exit, Settings};
use crate::note::{Note, Rescaled};
use crate::reason::{Cause, Failure, Setback, SetbackStage, What};
use crate::snapshot::ReloadOutcome;
use crate::turn::Turn;
use crate::worker::{Seat, Worker};

/// A walk of all slots to one generation.
#[derive(Debug)]
pub(super) struct Rollout {
    goal: Arc<Settings>,
    direction: Direction,
    progress: Progress,
    lead: Lead,
    /// Until then a worker of the goal is on probation.
    proven_at: Moment,
    /// Failed tries of slots that are moved back.
    tries: BTreeMap<SlotNo, u32>,
    /// Slots that could not be moved back.
    given_up: BTreeSet<SlotNo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Back,
}

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Slots are being moved.
    Moving,
    /// Every slot is where it should be, and has proven itself.
    Arrived,
    /// A slot could not be moved, or was and failed.
    Failed(Setback),
}

/// Whether a slot runs a program that has to prove itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotTrial {
    /// It runs what is committed, or is to go back to it.
    None,
    /// It does: filled again even when the pool had been given up, since that was another program.
    UnderWay,
    /// It did, and its rollout is about to be undone.
    Failed,
}

/// Who may be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// One slot.
    Canary,
    /// Nobody until then.
    OnProbation { until: Moment },
    /// Everybody.
    Released,
}

impl Pool {
    /// Nobody is alive of another generation than its slot's, so a new generation makes at most two.
    pub(crate) fn is_settled(&self) -> bool {
        self.rollout.is_none()
            && self
                .all_workers()
                .all(|worker| self.slots[&worker.slot].settings.generation == worker.settings.generation)
            && self.templates.are_of(self.settings.generation)
    }

    /// Begins to move every slot to a new generation.
    pub(crate) fn roll_out(&mut self, turn: &mut Turn<'_>, config: checked::Pool) {
        assert!(self.rollout.is_none(), "I4: two rollouts of pool {} at a time", self.name);
        self.newest = self.newest.next();
        let lead = match config.reload.canary {
            Canary::Sent => Lead::Canary,
            Canary::Spared => Lead::Released,
        };
        let goal = Arc::new(Settings { generation: self.newest, pool: config });
        self.begin_rollout(turn, goal, lead);
        if self.target == 0 {
            // Nobody would find out whether the new program works: one worker does, and goes when it is idle.
            self.set_target(turn, 1, Rescaled::Reload);
        }
        self.put_off_recycling(turn, Cause::NotNeeded);
        // What the previous program did says nothing about this one.
        self.forgive_slots();
    }

    /// A pool that appears: every slot is where it should be and has to prove itself.
    pub(super) fn begin_trial(&mut self, turn: &mut Turn<'_>) {
        self.begin_rollout(turn, Arc::clone(&self.settings), Lead::Released);
    }

    fn begin_rollout(&mut self, turn: &mut Turn<'_>, goal: Arc<Settings>, lead: Lead) {
        // A pool that nobody needs at the moment gets one worker that tries the program.
        let slots = self.target.max(1);
        turn.note(Note::RolloutBegun { pool: self.name.clone(), generation: goal.generation, slots });
        self.rollout = Some(Rollout {
            goal,
            direction: Direction::Forward,
            progress: Progress::Moving,
            lead,
            proven_at: turn.now,
            tries: BTreeMap::new(),
            given_up: BTreeSet::new(),
        });
    }

    pub(crate) fn progress(&self) -> Option<&Progress> {
        self.rollout.as_ref().map(|rollout| &rollout.progress)
    }

    pub(super) fn rollout_goal(&self) -> Option<&Arc<Settings>> {
        self.rollout.as_ref().map(|rollout| &rollout.goal)
    }

    pub(super) fn rollout_direction(&self) -> Option<Direction> {
        self.rollout.as_ref().map(|rollout| rollout.direction)
    }

    // ── the walk ───────────────────────────────────────────────────────────────────────────────────────────

    /// Slots that are to be moved and have not.
    pub(super) fn slots_elsewhere(&self) -> impl Iterator<Item = SlotNo> {
        let moving = self.rollout.iter().filter(|rollout| rollout.progress == Progress::Moving);
        moving.flat_map(|rollout| {
            let slots = self.slots.range(..SlotNo(self.target)).filter(|(no, slot)| {
                slot.settings.generation != rollout.goal.generation && !rollout.given_up.contains(no)
            });
            slots.map(|(no, _)| *no)
        })
    }

    /// How many slots may be on the move. Going back knows no canary: that program has proven itself.
    pub(super) fn rollout_width(&self) -> usize {
        let Some(rollout) = &self.rollout else { return 0 };
        match rollout.lead {
            Lead::Canary => 1,
            Lead::OnProbation { .. } => 0,
            Lead::Released => rollout.goal.pool.reload.surge.of(self.target) as usize,
        }
    }

    /// The canary has passed its probation: the others may follow.
    pub(super) fn release_the_others(&mut self, now: Moment) {
        let Some(rollout) = &mut self.rollout else { return };
        if let Lead::OnProbation { until } = rollout.lead {
            match until <= now {
                true => rollout.lead = Lead::Released,
                false => self.timers.set(Key::Probation, until),
            }
        }
    }

    /// A worker is READY; one of the goal is on probation from now on.
    pub(super) fn begin_probation(&mut self, now: Moment, seat: Seat) {
        let generation = self.worker(seat).settings.generation;
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.is_on_trial(generation)) {
            let until = now + rollout.goal.pool.reload.probation;
            rollout.proven_at = rollout.proven_at.max(until);
            if rollout.lead == Lead::Canary {
                rollout.lead = Lead::OnProbation { until };
            }
        }
    }

    /// A worker is starting that the rollout wants to have in its slot.
    pub(super) fn slot_moves(&self, turn: &mut Turn<'_>, seat: Seat) {
        turn.note(Note::SlotMoves { worker: self.worker(seat).name.clone() });
    }

    /// A slot runs what the rollout wants it to run.
    pub(super) fn slot_rolled(&mut self, turn: &mut Turn<'_>, no: SlotNo, seat: Seat) {
        let (moved, of) = self.moved();
        let worker = self.worker(seat).name.clone();
        if let Some(rollout) = &mut self.rollout {
            rollout.tries.remove(&no);
            turn.note(Note::SlotRolled { worker, moved, of });
        }
    }

    /// How many slots are on the goal, and how many there are.
    fn moved(&self) -> (u32, u32) {
        let Some(rollout) = &self.rollout else { return (0, self.target) };
        let there = self.slots.range(..SlotNo(self.target));
        // The slots of a pool that appears are on their goal from the start.
        let is_there = |slot: &Slot| slot.settings.generation == rollout.goal.generation && slot.has_served;
        let there = there.filter(|(_, slot)| is_there(slot)).count();
        (u32::try_from(there).expect("bounded"), self.target)
    }

    /// Whether every slot is where it should be and has shown that it works. What dies later than its probation is
    /// restarted as always and holds nothing up: some programs never have all their workers at one time.
    pub(super) fn arrive(&mut self, turn: &Turn<'_>) {
        let Some(rollout) = self.rollout.as_ref().filter(|rollout| rollout.progress == Progress::Moving) else {
            return;
        };
        let proven = match rollout.direction {
            Direction::Back => true,
            Direction::Forward => self.has_served_everywhere() && !self.has_deserters(turn.now),
        };
        let proven_at = rollout.proven_at;
        if !proven || self.slots_elsewhere().next().is_some() {
            return;
        }
        if proven_at > turn.now && self.rollout_direction() == Some(Direction::Forward) {
            return self.timers.set(Key::Probation, proven_at);
        }
        if let Some(rollout) = &mut self.rollout {
            rollout.progress = Progress::Arrived;
        }
    }

    fn has_deserters(&self, now: Moment) -> bool {
        self.rollout.is_some() && self.all_workers().any(|worker| self.is_deserter(worker, now))
    }

    /// It turned away on its probation and is not dead yet: its death will undo the rollout.
    pub(super) fn is_deserter(&self, worker: &Worker, now: Moment) -> bool {
        let Some(rollout) = &self.rollout else { return false };
        worker.leaving.is_some() && !worker.was_asked() && rollout.is_on_probation(worker, now)
    }

    /// Slots were opened, in the committed generation: whoever had arrived has not.
    pub(super) fn look_again(&mut self) {
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.progress == Progress::Arrived) {
            rollout.progress = Progress::Moving;
        }
    }

    // ── failure ────────────────────────────────────────────────────────────────────────────────────────────

    /// A successor of the new generation did not become READY.
    pub(super) fn rollout_failed(&mut self, failure: Failure) {
        let stage = self.setback_stage();
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.progress == Progress::Moving) {
            rollout.progress = Progress::Failed(Setback { failure, stage });
        }
    }

    fn setback_stage(&self) -> SetbackStage {
        let (moved, of) = self.moved();
        match self.rollout.as_ref().map(|rollout| rollout.lead) {
            Some(Lead::Canary) => SetbackStage::Canary,
            Some(Lead::OnProbation { .. }) => SetbackStage::CanaryOnProbation,
            Some(Lead::Released) | None if self.standing == Standing::OnTrial => {
                SetbackStage::Appearing { ready: moved, of }
            }
            Some(Lead::Released) | None => SetbackStage::Moving { moved, of },
        }
    }

    /// A worker of the new generation that failed before the commit has failed for all of it (I4).
    pub(super) fn fails_rollout(&mut self, worker: &Worker, failure: &Failure) -> bool {
        let stage = self.setback_stage();
        let Some(rollout) = &mut self.rollout else { return false };
        let concerned = rollout.is_on_trial(worker.settings.generation);
        if concerned {
            rollout.progress = Progress::Failed(Setback { failure: failure.clone(), stage });
        }
        concerned
    }

    /// A template of the new generation that failed before the commit has failed for all of it (I4).
    pub(super) fn template_fails_rollout(&mut self, generation: Generation, failure: &Failure) -> bool {
        let concerned = self.rollout.as_ref().is_some_and(|rollout| rollout.is_on_trial(generation));
        if concerned {
            let stage = self.setback_stage();
            if let Some(rollout) = &mut self.rollout {
                rollout.progress = Progress::Failed(Setback { failure: failure.clone(), stage });
            }
        }
        concerned
    }

    /// Why a death fails the rollout, whether or not it would count against its slot: it happened on probation.
    pub(super) fn probation_failure(&self, worker: &Worker, now: Moment, exit: Exit) -> Option<Failure> {
        let rollout = self.rollout.as_ref()?;
        let fails = !worker.was_asked() && !worker.judged && rollout.is_on_probation(worker, now);
        let died = What::DiedOnProbation(exit, rollout.goal.pool.reload.probation);
        fails.then(|| worker.failed(worker.trouble.clone().unwrap_or(died)))
    }

    /// Turns the rollout round: what moved goes back to the committed generation.
    pub(crate) fn undo(&mut self, turn: &mut Turn<'_>) {
        let Some(rollout) = &mut self.rollout else { return };
        rollout.goal = Arc::clone(&self.settings);
        rollout.direction = Direction::Back;
        rollout.progress = Progress::Moving;
        rollout.lead = Lead::Released;
        rollout.tries.clear();
        self.timers.clear(Key::Probation);
        self.abandon_moves(turn, Purpose::Rollout, Cause::Undone);
    }

    /// The previous generation does not start any more either: try again, but not for ever.
    pub(super) fn move_back_failed(&mut self, turn: &mut Turn<'_>, no: SlotNo, failure: Failure) {
        let start = self.config().start.clone();
        let slot = self.slots.get_mut(&no).expect("a slot stays while a worker is in it");
        slot.wait_until = Some(turn.now + slot.back_off.wait(&start, turn.rng));
        let Some(rollout) = &mut self.rollout else { return };
        let tries = rollout.tries.entry(no).or_default();
        *tries += 1;
        if *tries >= start.failures {
            rollout.given_up.insert(no);
            turn.note(Note::UndoStuck { pool: self.name.clone(), slot: no, failure });
        }
    }

    // ── the end ────────────────────────────────────────────────────────────────────────────────────────────

    /// Makes the goal the pool's configuration.
    pub(crate) fn commit(&mut self, turn: &mut Turn<'_>) -> Generation {
        let rollout = self.rollout.take().expect("only a rollout can be committed");
        let elsewhere = self.slots.range(..SlotNo(self.target)).find(|(_, slot)| slot.settings != rollout.goal);
        assert!(elsewhere.is_none(), "I4: committed while a slot of {} had not moved: {elsewhere:?}", self.name);
        let workers_before = self.config().workers;
        self.settings = rollout.goal;
        self.timers.clear(Key::Probation);
        self.give_slots_the_committed_settings(&BTreeSet::new());
        self.reload = ReloadOutcome::Ok;
        self.tally.reloads_ok += 1;
        self.standing = Standing::InForce;
        self.free.set_dispatch(self.settings.pool.dispatch);
        self.ahead.set_dispatch(self.settings.pool.dispatch);
        self.forgive();
        // A target that somebody scaled, or the load did, stays until the file asks for another number.
        if self.settings.pool.workers != workers_before {
            let target = self.settings.pool.workers.nearest_to(self.target);
            self.set_target(turn, target, Rescaled::Configured);
            self.scaling.begin_anew();
        }
        self.settings.generation
    }

    pub(crate) fn undone(&mut self, setback: Setback) {
        self.forget_rollout();
        self.reload = ReloadOutcome::Undone(setback);
        self.tally.reloads_undone += 1;
        self.roster_changed = true;
    }

    /// Ends a rollout that is not to be committed, wherever it is: whoever starts from now on is of the committed generation (I4).
    pub(super) fn forget_rollout(&mut self) {
        // A reload that failed while its file was read has not touched a slot, not even one that an earlier undo gave up.
        if let Some(rollout) = self.rollout.take() {
            self.give_slots_the_committed_settings(&rollout.given_up);
        }
    }

    /// Slots above the target did not take part in the walk; if they are opened again, it is in this generation.
    fn give_slots_the_committed_settings(&mut self, except: &BTreeSet<SlotNo>) {
        for (_, slot) in self.slots.iter_mut().filter(|(no, _)| !except.contains(no)) {
            slot.settings = Arc::clone(&self.settings);
        }
    }

    /// Whether a slot runs a program that has to prove itself.
    pub(super) fn trial_of_slot(&self, no: SlotNo) -> SlotTrial {
        match &self.rollout {
            Some(rollout)
                if rollout.direction == Direction::Forward
                    && self.slots[&no].settings.generation == rollout.goal.generation =>
            {
                match rollout.progress {
                    Progress::Moving | Progress::Arrived => SlotTrial::UnderWay,
                    Progress::Failed(_) => SlotTrial::Failed,
                }
            }
            Some(_) | None => SlotTrial::None,
        }
    }
}

impl Rollout {
    /// Whether workers of this generation have to prove themselves.
    fn is_on_trial(&self, generation: Generation) -> bool {
        self.direction == Direction::Forward
            && matches!(self.progress, Progress::Moving | Progress::Arrived)
            && generation == self.goal.generation
    }

    /// Whether a worker that is gone, or goes, did so before its probation was over.
    fn is_on_probation(&self, worker: &Worker, now: Moment) -> bool {
        let until = worker.leaving.map_or(now, |(_, since)| since);
        let probation = self.goal.pool.reload.probation;
        self.is_on_trial(worker.settings.generation) && worker.ready_at.is_some_and(|ready| until < ready + probation)
    }
}
