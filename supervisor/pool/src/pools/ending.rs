//! Ends everything: because somebody asks, because a pool never came up, or because one was given up.
//!
//! ```text
//! graceful   delay: accept and serve as before ─▶ every pool stops (pool/stopping.rs) ─▶ finished
//! now        every pool stops at once ─▶ finished
//! ```

use ostler_config::checked::{self, OnPoolFailed, Owner};
use ostler_shared::PoolName;

use super::{Pools, Touched};
use crate::Moment;
use crate::action::{Action, Ended};
use crate::event::Urgency;
use crate::note::Note;
use crate::pool::Pool;
use crate::reason::{Cause, Failure, StopCount, What};

/// The time in which a stop goes on accepting, so that whoever sends clients here can notice.
#[derive(Debug)]
pub(super) struct Delay {
    pub(super) until: Moment,
    /// When the whole stop is to be over.
    stop_by: Moment,
}

impl Pools {
    pub(super) fn stop(&mut self, now: Moment, urgency: Urgency, out: &mut Vec<Action>) -> Touched {
        if self.stop.is_some_and(|under_way| under_way >= urgency) {
            return Touched::None; // a second TERM asks for what is being done
        }
        let is_first = self.stop.replace(urgency).is_none();
        out.push(Action::Note(Note::StopBegun { urgency }));
        self.end_reload(&Failure { worker: None, what: What::Stopping }, out);
        self.end_pauses(out);
        let (length, stop_by) = (self.config.supervisor.shutdown_delay, now + self.config.supervisor.stop_timeout);
        self.delay = None;
        match urgency {
            Urgency::Graceful if is_first && !length.is_zero() => {
                out.push(Action::Note(Note::StopDelayed { length }));
                self.delay = Some(Delay { until: now + length, stop_by });
                self.each_pool(now, out, |pool, turn| pool.delay_stop(turn))
            }
            Urgency::Graceful | Urgency::Now => self.stop_pools(now, urgency, stop_by, out),
        }
    }

    /// New clients were told where else to go, or have had the time to find out.
    pub(super) fn end_delay(&mut self, now: Moment, out: &mut Vec<Action>) -> Touched {
        match self.delay.take_if(|delay| delay.until <= now) {
            Some(Delay { stop_by, .. }) => self.stop_pools(now, Urgency::Graceful, stop_by, out),
            None => Touched::None,
        }
    }

    fn stop_pools(&mut self, now: Moment, urgency: Urgency, stop_by: Moment, out: &mut Vec<Action>) -> Touched {
        let timeout = stop_by.since(now);
        self.each_pool(now, out, |pool, turn| pool.stop(turn, urgency, timeout, Cause::Stopping))
    }

    fn each_pool(
        &mut self,
        now: Moment,
        out: &mut Vec<Action>,
        act: impl Fn(&mut Pool, &mut crate::turn::Turn<'_>),
    ) -> Touched {
        for no in self.pools.iter().map(Pool::no).collect::<Vec<_>>() {
            self.at(no, now, out, &act);
        }
        Touched::All
    }

    pub(super) fn check_first_start(&mut self, now: Moment, out: &mut Vec<Action>) {
        if self.stop.is_some() {
            return;
        }
        let failed = self.pools.iter().find_map(|pool| Some((pool.name.clone(), pool.start_failure()?)));
        if failed.is_some() && !self.said_ready {
            self.start_failed = failed;
            self.stop(now, Urgency::Now, out);
            self.conclude_pools(now, Touched::All, out);
        }
    }

    /// Ends everything when a pool that is in force was given up since `begun`. One that was given up before, when
    /// that was to change nothing, stays what it is.
    pub(super) fn check_pools_failed(&mut self, now: Moment, out: &mut Vec<Action>, begun: usize) {
        match self.config.supervisor.on_pool_failed {
            OnPoolFailed::Exit if self.stop.is_none() => {}
            OnPoolFailed::Exit | OnPoolFailed::Keep => return,
        }
        // Whoever can't be watched serves all the same.
        let counts = |pool: &checked::Pool| pool.owner() == Owner::User;
        let in_force = |name: &PoolName| self.config.pools.iter().any(|pool| pool.name == *name && counts(pool));
        self.brought_down = out[begun..].iter().find_map(|action| match action {
            Action::Note(Note::PoolFailed { pool, failure, .. }) if in_force(pool) => {
                Some((pool.clone(), failure.clone()))
            }
            _ => None,
        });
        if self.brought_down.is_some() {
            self.stop(now, Urgency::Graceful, out);
            self.conclude_pools(now, Touched::All, out);
        }
    }

    pub(super) fn check_finished(&mut self, out: &mut Vec<Action>) {
        if self.finished || self.stop.is_none() || !self.pools.iter().all(Pool::is_gone) {
            return;
        }
        self.finished = true;
        // Who looked on was served by nobody's pool.
        let users = self.pools.iter().filter(|pool| pool.owner() == Owner::User);
        let count = users.map(Pool::stop_count).fold(StopCount::default(), |sum, one| StopCount {
            shed: sum.shed + one.shed,
            lost: sum.lost + one.lost,
            killed: sum.killed + one.killed,
        });
        let ended = match (self.start_failed.take(), self.brought_down.take()) {
            (Some((pool, failure)), _) => Ended::StartFailed { pool, failure },
            (None, Some((pool, failure))) => Ended::PoolFailed { pool, failure, count },
            (None, None) => Ended::Stopped(count),
        };
        out.push(Action::Finished { ended });
    }
}
