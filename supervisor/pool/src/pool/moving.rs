//! Replaces workers: the successor is READY before the incumbent goes (I3), in a few slots at a time.
//!
//! A rollout moves every slot to a new generation, an undo moves those back that had moved, and a renewal gives slots
//! fresh workers of their generation, and so does recycling. All are the same walk: find slots that are not where they should be, start
//! a successor there, hand over, wait until the predecessor is gone, go on. How wide the walk may be is `reload.surge`.

use std::sync::Arc;

use ostler_shared::SlotNo;

use super::rollout::Direction;
use super::{Key, Pool};
use crate::event::Settings;
use crate::lifecycle::{Input, State};
use crate::reason::{Cause, Failure, What};
use crate::turn::Turn;
use crate::{Moment, SPAWN_BATCH_MAX, SPAWN_BATCH_PAUSE, STARTING_MAX};

/// A slot that changes its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    stage: Stage,
    pub(super) purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The successor is not READY yet.
    Starting,
    /// The successor serves, the predecessor goes.
    Clearing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Rollout,
    Renewal,
    Recycle,
}

/// Whether a move can begin in a slot.
enum Chance {
    Now,
    At(Moment),
    /// When somebody who is leaving is gone.
    Later,
}

impl Pool {
    /// Goes on with whatever is under way: starts the next successors, or arrives.
    pub(super) fn advance_moves(&mut self, turn: &mut Turn<'_>) {
        if self.is_stopping() {
            return;
        }
        self.forget_cleared_moves();
        self.release_the_others(turn.now);
        self.begin_moves(turn);
        self.arrive(turn);
        self.finish_renewal_when_done(turn);
        self.finish_errands(turn);
    }

    fn forget_cleared_moves(&mut self) {
        let (slots, target) = (&self.slots, SlotNo(self.target));
        self.moves.retain(|no, moving| {
            let slot = slots.get(no).filter(|_| *no < target);
            slot.is_some_and(|slot| moving.stage == Stage::Starting || !slot.leaving.is_empty())
        });
    }

    fn begin_moves(&mut self, turn: &mut Turn<'_>) {
        let starting = self.all_workers().filter(|worker| worker.state == State::Starting).count();
        let mut places = STARTING_MAX.saturating_sub(u32::try_from(starting).expect("bounded"));
        let mut come_back: Option<Moment> = None;
        let mut begun = 0;
        for (no, purpose) in self.slots_to_move() {
            if self.moves.len() >= self.width(purpose) || places == 0 {
                continue; // a slot that has changed its worker, or one that is READY, makes room
            }
            let at = match self.chance(turn, no, purpose) {
                // Forking takes time; the loop looks at everything else first.
                Chance::Now if begun == SPAWN_BATCH_MAX => turn.now + SPAWN_BATCH_PAUSE,
                Chance::Now => {
                    self.begin_move(turn, no, purpose);
                    (begun, places) = (begun + 1, places - 1);
                    continue;
                }
                Chance::At(at) => at,
                Chance::Later => continue,
            };
            come_back = Some(come_back.map_or(at, |earlier| earlier.min(at)));
        }
        match come_back {
            Some(at) => self.timers.set(Key::Move, at),
            None => self.timers.clear(Key::Move),
        }
    }

    /// Slots that are not where they should be and that nobody moves yet. A slot that only waits for its
    /// predecessor's end is where it should be.
    fn slots_to_move(&self) -> Vec<(SlotNo, Purpose)> {
        let rollout = self.slots_elsewhere().map(|no| (no, Purpose::Rollout));
        let renewal = self.slots_to_renew().map(|no| (no, Purpose::Renewal));
        let recycling = self.slots_to_recycle().into_iter().map(|no| (no, Purpose::Recycle));
        rollout.chain(renewal).chain(recycling).filter(|(no, _)| !self.moves.contains_key(no)).collect()
    }

    /// How many slots may change their worker at a time.
    fn width(&self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Rollout => self.rollout_width(),
            Purpose::Renewal | Purpose::Recycle => self.config().reload.surge.of(self.target) as usize,
        }
    }

    fn chance(&self, turn: &Turn<'_>, no: SlotNo, purpose: Purpose) -> Chance {
        let slot = &self.slots[&no];
        let earliest = match purpose {
            Purpose::Rollout | Purpose::Renewal => slot.earliest_spawn(),
            Purpose::Recycle => slot.earliest_spawn().max(self.earliest_recycling(no)),
        };
        match earliest {
            Some(at) if at > turn.now => Chance::At(at),
            // A template that becomes ready sets `roster_changed`.
            Some(_) | None if self.origin_of(self.settings_after(no, purpose)).is_none() => Chance::Later,
            Some(_) | None if slot.leaving.is_empty() => Chance::Now,
            Some(_) | None => Chance::Later, // its end sets `roster_changed`
        }
    }

    /// What the successor of a slot runs.
    fn settings_after(&self, no: SlotNo, purpose: Purpose) -> &Arc<Settings> {
        match (purpose, self.rollout_goal()) {
            (Purpose::Rollout, Some(goal)) => goal,
            (Purpose::Rollout, None) | (Purpose::Renewal | Purpose::Recycle, _) => &self.slots[&no].settings,
        }
    }

    fn begin_move(&mut self, turn: &mut Turn<'_>, no: SlotNo, purpose: Purpose) {
        let settings = Arc::clone(self.settings_after(no, purpose));
        let seat = self.spawn(turn, no, settings);
        if purpose == Purpose::Rollout {
            self.slot_moves(turn, seat);
        }
        self.slot_mut(no).successor = Some(seat);
        self.moves.insert(no, Move { stage: Stage::Starting, purpose });
    }

    /// The successor of `no` is READY: it takes the slot, and whoever was there goes.
    pub(super) fn promote(&mut self, turn: &mut Turn<'_>, no: SlotNo) {
        let slot = self.slots.get_mut(&no).expect("a slot stays while a worker is in it");
        let successor = slot.successor.take().expect("only a successor is promoted");
        let predecessor = slot.incumbent.replace(successor);
        let settings = Arc::clone(&self.worker(successor).settings);
        let is_recycled = self.moves.get(&no).is_some_and(|moving| moving.purpose == Purpose::Recycle);
        let wear = predecessor.filter(|_| is_recycled).map(|seat| self.wear_at_the_end(seat));
        let slot = self.slot_mut(no);
        slot.settings = settings;
        slot.back_off.forgive();
        if let Some(seat) = predecessor {
            self.slot_mut(no).leaving.push(seat);
            let cause = wear.map_or(Cause::Replaced, |why| Cause::Recycled { why });
            self.dismiss(turn, seat, Input::Drain, cause);
        }
        self.roster_changed = true;
        let Some(moving) = self.moves.get_mut(&no) else { return };
        moving.stage = Stage::Clearing;
        match moving.purpose {
            Purpose::Rollout => self.slot_rolled(turn, no, successor),
            Purpose::Renewal => self.slot_renewed(no),
            Purpose::Recycle => self.slot_recycled(wear),
        }
    }

    /// A successor did not become READY.
    pub(super) fn move_failed(&mut self, turn: &mut Turn<'_>, no: SlotNo, failure: Failure) {
        self.roster_changed = true;
        let Some(moving) = self.moves.remove(&no) else { return };
        match (moving.purpose, self.rollout_direction()) {
            (Purpose::Rollout, Some(Direction::Forward)) => self.rollout_failed(failure),
            (Purpose::Rollout, Some(Direction::Back)) => self.move_back_failed(turn, no, failure),
            (Purpose::Rollout, None) => {}
            (Purpose::Renewal, _) => self.renewal_failed(turn, failure),
            (Purpose::Recycle, _) => self.recycling_failed(turn, failure),
        }
    }

    /// Stops the moves of one kind; a successor that is not READY goes.
    pub(super) fn abandon_moves(&mut self, turn: &mut Turn<'_>, purpose: Purpose, cause: Cause) {
        self.abandon(turn, cause, |moving| moving.purpose == purpose);
    }

    /// Worn workers serve on, since something else goes first. Those that were replaced already go, and take up their share of
    /// `surge` until they have.
    pub(super) fn put_off_recycling(&mut self, turn: &mut Turn<'_>, cause: Cause) {
        let begun = |moving: &Move| moving.purpose == Purpose::Recycle && moving.stage == Stage::Starting;
        self.abandon(turn, cause, begun);
    }

    fn abandon(&mut self, turn: &mut Turn<'_>, cause: Cause, is_meant: impl Fn(&Move) -> bool) {
        let abandoned: Vec<SlotNo> =
            self.moves.iter().filter(|(_, moving)| is_meant(moving)).map(|(no, _)| *no).collect();
        for no in abandoned {
            self.moves.remove(&no);
            if let Some(seat) = self.slots.get(&no).and_then(|slot| slot.successor) {
                self.dismiss(turn, seat, Input::Drain, cause);
            }
        }
        self.roster_changed = true;
    }

    /// Ends rollout, renewal and recycling because the supervisor stops, or the pool is paused.
    pub(super) fn abandon_everything(&mut self, turn: &mut Turn<'_>, cause: Cause, what: What) {
        self.abandon_moves(turn, Purpose::Rollout, cause);
        self.abandon_moves(turn, Purpose::Renewal, cause);
        self.put_off_recycling(turn, cause);
        self.forget_rollout();
        self.abandon_renewal(turn, what.clone());
        self.give_up_errands(turn, &Failure { worker: None, what });
    }
}
