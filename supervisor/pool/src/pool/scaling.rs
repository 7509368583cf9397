//! Decides how many workers a pool with a range has: more while its line stands, fewer when some were idle for long.
//!
//! The measure is that of CoDel (RFC 8289): not how long somebody waited, but the least that anybody waited over a
//! while. A burst that a few milliseconds absorb leaves somebody who hardly waited; a line that stands leaves nobody.
//!
//! ```text
//! somebody waits ─▶ nobody served within `target_delay` for a window ─▶ as many more as wait, at most twice as many
//! fewer would do ─▶ … all through `idle` ─▶ half of those that were too many go, at least one
//! ```
//!
//! There is no clock tick: [`Scaling::next_look`] has something to say only while somebody waits, or somebody is too
//! many. What an operator says holds like everything else: clients that wait may change it at once, idleness after `idle`.

use ostler_config::checked::Range;

use super::{Health, Pool, Standing};
use crate::lifecycle::State;
use crate::note::{Note, Rescaled};
use crate::turn::Turn;
use crate::{Moment, SCALE_WINDOW};

/// What it knows of the past.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    /// Somebody waits, or waited last, and since then nobody was served within `target_delay`.
    standing_since: Option<Moment>,
    spare: Option<Spare>,
    next_look: Option<Moment>,
}

/// Fewer workers would do.
#[derive(Debug, Clone, Copy)]
struct Spare {
    since: Moment,
    /// As many would have done all that time.
    most_needed: u32,
}

/// How the pool is.
#[derive(Debug, Clone, Copy)]
struct Load {
    target: u32,
    /// Connections in the line, and since when the oldest of them waits.
    waiting: u32,
    oldest: Option<Moment>,
    /// Workers that hold all that waits or is served, if each holds as much as it may.
    needed: u32,
    concurrency: u32,
}

/// Whether the pool can make use of more workers now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// So many are on their way already.
    Possible { starting: u32 },
    /// Its workers fail: more of them would fail as well.
    Futile,
}

/// Whether the pool can do with fewer workers now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shrinkage {
    Possible,
    /// Workers are being replaced; taking one away could take away the one that has to prove itself.
    Postponed,
}

impl Scaling {
    /// Somebody was served within `target_delay`: the line does not stand.
    fn moves(&mut self) {
        self.standing_since = None;
    }

    /// The number of workers was changed by somebody else, who had a reason.
    pub(super) fn begin_anew(&mut self) {
        (self.standing_since, self.spare) = (None, None);
    }

    /// When there is something to decide without an event.
    pub(super) fn next_look(&self) -> Option<Moment> {
        self.next_look
    }

    /// Answers the number of workers that there should be.
    fn look(
        &mut self,
        now: Moment,
        load: &Load,
        range: &Range,
        growth: impl FnOnce() -> Growth,
        shrinkage: Shrinkage,
    ) -> u32 {
        self.watch_the_line(now, load);
        self.watch_the_idle(now, load, range);
        let target = if self.line_stands(now, load, range) {
            // What comes of it is seen in the next window.
            self.standing_since = Some(now);
            load.grown(range, growth())
        } else {
            self.shrunk(now, load, range, shrinkage)
        };
        self.next_look = self.next_decision(&Load { target, ..*load }, range);
        target
    }

    /// Waits from before, as after a pause, say nothing about the workers that there are now.
    fn watch_the_line(&mut self, now: Moment, load: &Load) {
        if load.waiting > 0 {
            self.standing_since.get_or_insert(now);
        }
    }

    fn watch_the_idle(&mut self, now: Moment, load: &Load, range: &Range) {
        let too_many = load.target > range.min && load.needed < load.target && load.waiting == 0;
        if too_many {
            let spare = self.spare.get_or_insert(Spare { since: now, most_needed: 0 });
            spare.most_needed = spare.most_needed.max(load.needed);
        } else {
            self.spare = None;
        }
    }

    fn line_stands(&self, now: Moment, load: &Load, range: &Range) -> bool {
        self.decision_on_growth(load, range).is_some_and(|at| at <= now)
    }

    /// When it is known whether the line stands. Nobody has to wait for that where nobody serves.
    fn decision_on_growth(&self, load: &Load, range: &Range) -> Option<Moment> {
        let (oldest, since) = (load.oldest?, self.standing_since?);
        (load.target < range.max).then(|| (since + SCALE_WINDOW).max(oldest + range.target_delay))
    }

    fn shrunk(&mut self, now: Moment, load: &Load, range: &Range, shrinkage: Shrinkage) -> u32 {
        let Some(spare) = self.spare.filter(|spare| spare.since + range.idle <= now) else { return load.target };
        self.spare = Some(Spare { since: now, most_needed: load.needed });
        let enough = spare.most_needed.clamp(range.min, load.target);
        match shrinkage {
            Shrinkage::Possible => load.target - (load.target - enough).div_ceil(2),
            Shrinkage::Postponed => load.target,
        }
    }

    fn next_decision(&mut self, load: &Load, range: &Range) -> Option<Moment> {
        if load.needed >= load.target || load.target <= range.min {
            self.spare = None;
        }
        let shrink = self.spare.map(|spare| spare.since + range.idle);
        [self.decision_on_growth(load, range), shrink].into_iter().flatten().min()
    }
}

impl Load {
    /// A place for everybody who waits, less what is on its way; at most twice as many as there are.
    fn grown(&self, range: &Range, growth: Growth) -> u32 {
        match growth {
            Growth::Possible { starting } => {
                let missing = self.waiting.div_ceil(self.concurrency).saturating_sub(starting);
                (self.target + missing.min(self.target.max(1))).min(range.max)
            }
            Growth::Futile => self.target,
        }
    }
}

impl Pool {
    /// Lets the load decide about the number of workers, where the configuration says so.
    pub(super) fn follow_the_load(&mut self, turn: &mut Turn<'_>) {
        let Some(range) = self.config().workers.range() else { return self.scaling = Scaling::default() };
        if self.is_paused() {
            return self.scaling = Scaling::default();
        }
        self.wake_from_zero(turn);
        if self.is_stopping() || self.standing == Standing::OnTrial {
            return self.scaling = Scaling::default();
        }
        let load = self.load();
        let shrinkage = match self.moves.is_empty() && self.rollout.is_none() && self.renewal.is_none() {
            true => Shrinkage::Possible,
            false => Shrinkage::Postponed,
        };
        let mut scaling = std::mem::take(&mut self.scaling);
        let target = scaling.look(turn.now, &load, &range, || self.growth(), shrinkage);
        self.scaling = scaling;
        if target != load.target {
            let why = if target > load.target { Rescaled::LineStands } else { Rescaled::Idle };
            self.set_target(turn, target, why);
        }
    }

    /// The first who comes to a pool without workers waits for one to start, and for nothing else.
    fn wake_from_zero(&mut self, turn: &mut Turn<'_>) {
        let served_by_nobody = self.target == 0 && !self.line.is_empty() && !self.is_shedding();
        if served_by_nobody && self.health == Health::Trying {
            self.set_target(turn, 1, Rescaled::FirstConnection);
            self.scaling.begin_anew();
        }
    }

    /// A connection was handed to a worker that had a free place for it.
    pub(super) fn note_wait(&mut self, now: Moment, accepted_at: Moment) {
        if let Some(range) = self.config().workers.range()
            && now.since(accepted_at) <= range.target_delay
        {
            self.scaling.moves();
        }
    }

    fn load(&self) -> Load {
        let concurrency = self.config().concurrency;
        let waiting = self.line.len() as u64;
        let needed = (waiting + self.outstanding).div_ceil(u64::from(concurrency));
        Load {
            target: self.target,
            waiting: u32::try_from(waiting).unwrap_or(u32::MAX),
            oldest: self.line.oldest().map(|waiting| waiting.accepted_at),
            needed: u32::try_from(needed).unwrap_or(u32::MAX),
            concurrency,
        }
    }

    fn growth(&self) -> Growth {
        if self.health == Health::Failed || self.is_degraded() {
            return Growth::Futile;
        }
        let starting = self.all_workers().filter(|worker| worker.state == State::Starting).count();
        Growth::Possible { starting: u32::try_from(starting).expect("bounded") }
    }

    /// Changes the number of workers and says so.
    pub(super) fn set_target(&mut self, turn: &mut Turn<'_>, target: u32, why: Rescaled) {
        if target != self.target {
            turn.note(Note::Scaled { pool: self.name.clone(), from: self.target, to: target, why });
        }
        self.open_slots(target);
        self.empty_slots_above_target(turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);
    const RANGE: Range =
        Range { min: 2, max: 16, idle: Duration::from_secs(10), target_delay: Duration::from_millis(5) };

    /// A controller with its clock, and a pool whose workers are READY at once.
    struct Stage {
        scaling: Scaling,
        now: Moment,
        target: u32,
    }

    impl Stage {
        fn of(target: u32) -> Stage {
            Stage { scaling: Scaling::default(), now: Moment::from_ns(1_000_000_000), target }
        }

        /// So many connections are there, and the oldest in the line has waited this long.
        fn look(&mut self, connections: u32, oldest: Duration) -> u32 {
            let waiting = connections.saturating_sub(self.target);
            let since = Moment::from_ns(self.now.as_ns() - u64::try_from(oldest.as_nanos()).unwrap());
            let oldest = (waiting > 0).then_some(since);
            let load = Load { target: self.target, waiting, oldest, needed: connections, concurrency: 1 };
            let growth = || Growth::Possible { starting: 0 };
            self.target = self.scaling.look(self.now, &load, &RANGE, growth, Shrinkage::Possible);
            self.target
        }

        fn after(&mut self, length: Duration) -> &mut Stage {
            self.now = self.now + length;
            self
        }
    }

    #[test]
    fn a_line_that_stands_for_a_window_doubles_the_workers_at_most() {
        let mut stage = Stage::of(2);
        assert_eq!(stage.look(30, Duration::ZERO), 2);
        assert_eq!(stage.after(SCALE_WINDOW - MS).look(30, SCALE_WINDOW - MS), 2);
        assert_eq!(stage.after(MS).look(30, SCALE_WINDOW), 4);
        assert_eq!(stage.after(SCALE_WINDOW).look(30, SCALE_WINDOW), 8);
        assert_eq!(stage.after(SCALE_WINDOW).look(30, SCALE_WINDOW), 16);
        assert_eq!(stage.after(SCALE_WINDOW).look(300, SCALE_WINDOW), 16, "never more than max");
        assert_eq!(stage.scaling.next_look(), None, "and nothing is left to decide");
    }

    #[test]
    fn somebody_who_hardly_waited_begins_a_new_window() {
        let mut stage = Stage::of(2);
        stage.look(30, Duration::ZERO);
        stage.after(SCALE_WINDOW - MS).scaling.moves();
        assert_eq!(stage.after(MS).look(30, 2 * MS), 2, "a burst that is being absorbed");
        assert_eq!(stage.scaling.next_look(), Some(stage.now + SCALE_WINDOW));
    }

    #[test]
    fn one_who_waits_needs_one_worker_more() {
        let mut stage = Stage::of(4);
        stage.look(5, Duration::ZERO);
        assert_eq!(stage.after(SCALE_WINDOW).look(5, SCALE_WINDOW), 5);
    }

    #[test]
    fn workers_that_are_on_their_way_are_not_asked_for_again() {
        let load = Load { target: 4, waiting: 3, oldest: None, needed: 7, concurrency: 1 };
        assert_eq!(load.grown(&RANGE, Growth::Possible { starting: 1 }), 6);
        assert_eq!(load.grown(&RANGE, Growth::Possible { starting: 3 }), 4);
        assert_eq!(load.grown(&RANGE, Growth::Futile), 4);
    }

    #[test]
    fn what_was_not_needed_goes_by_halves_down_to_the_most_that_was() {
        let mut stage = Stage::of(16);
        let mut targets = Vec::new();
        for _ in 0..6 {
            stage.look(1, Duration::ZERO);
            stage.look(4, Duration::ZERO);
            stage.look(1, Duration::ZERO);
            targets.push(stage.after(RANGE.idle).look(1, Duration::ZERO));
        }
        assert_eq!(targets, [10, 7, 5, 4, 3, 2], "4 were needed at most, then one, and 2 is the least");
        assert_eq!(stage.scaling.next_look(), None);
    }

    #[test]
    fn nobody_goes_while_somebody_waits_however_short() {
        let (mut scaling, begun) = (Scaling::default(), Moment::from_ns(1_000_000_000));
        let load = Load { target: 4, waiting: 1, oldest: Some(begun), needed: 2, concurrency: 1 };
        for at in [begun, begun + RANGE.idle, begun + 2 * RANGE.idle] {
            scaling.moves();
            assert_eq!(scaling.look(at, &load, &RANGE, || Growth::Futile, Shrinkage::Possible), 4);
        }
    }

    #[test]
    fn a_moment_in_which_all_are_needed_begins_idleness_anew() {
        let mut stage = Stage::of(8);
        stage.look(0, Duration::ZERO);
        stage.after(RANGE.idle - MS).look(8, Duration::ZERO);
        stage.look(0, Duration::ZERO);
        assert_eq!(stage.after(MS).look(0, Duration::ZERO), 8);
        assert_eq!(stage.after(RANGE.idle - MS).look(0, Duration::ZERO), 5);
    }
}
