//! Remembers what the pool knows of one worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ostler_config::checked::Handoff;
use ostler_shared::{ConnId, SlotNo, WorkerId, WorkerName};

use crate::Moment;
use crate::event::{Exit, Settings, Uid};
use crate::lifecycle::State;
use crate::reason::{Cause, Failure, Wear, What};

/// What the pool knows of a connection that it has handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) accepted_at: Moment,
    pub(crate) uid: Option<Uid>,
    pub(crate) handed_at: Moment,
    /// When the log last said that a request on it is slow.
    pub(crate) slow_told_at: Option<Moment>,
    /// Which handoff of the pool it was.
    pub(crate) handoff: HandoffNo,
}

/// The place of a handoff, or of a look into a mailbox, in the order of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HandoffNo(pub(crate) u64);

/// Whether a worker claims what it is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// It does, as far as we know.
    Claims,
    /// It left something unclaimed, perhaps because its places were taken: it is handed nothing ahead before it
    /// completes something.
    Doubtful,
    /// It had a free place and did not claim; there was no sign of life since.
    Stuck,
    /// It was stuck, has shown a sign of life since, and is left alone for a moment.
    Recovering,
}

/// What kind of room a worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// A place in which a connection is served at once.
    Free,
    /// Only a place in its mailbox.
    Ahead,
    /// None, or it takes no more.
    None,
}

/// What a worker that accepts for itself says of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Own {
    /// Whether it says anything: only who has said Hello does.
    pub(crate) telling: Telling,
    /// Accepted and not reported as over.
    pub(crate) held: u64,
    /// Accepted, ever.
    pub(crate) total: u64,
    /// Over without a record, ever.
    pub(crate) unrecorded: u64,
}

/// Whether a worker tells what it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Telling {
    #[default]
    Nothing,
    Everything,
}

/// A worker's place in its pool's table; reused after its death, unlike [`WorkerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seat(pub(crate) u32);

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) name: WorkerName,
    pub(crate) slot: SlotNo,
    pub(crate) settings: Arc<Settings>,
    /// The template that was asked for it, where there is one.
    pub(crate) template: Option<WorkerId>,
    pub(crate) state: State,
    pub(crate) spawned_at: Moment,
    pub(crate) ready_at: Option<Moment>,
    /// What it was handed and has not completed.
    pub(crate) tickets: BTreeMap<ConnId, Ticket>,
    /// What it has accepted for itself.
    pub(crate) own: Own,
    pub(crate) done: u64,
    /// What it completed as `truncated` or `dropped`, counted lost: kept to tell which books a lie has to be struck from.
    pub(crate) lost: BTreeSet<ConnId>,
    /// It had to be aborted or killed.
    pub(crate) forced: bool,
    /// Why it has to leave, and since when; the first reason stays.
    pub(crate) leaving: Option<(Cause, Moment)>,
    /// What it did wrong, as soon as that is known.
    pub(crate) trouble: Option<What>,
    /// Its failure has had its consequences before its death: it was a successor.
    pub(crate) judged: bool,
    /// It refused a handoff for want of kernel memory and is left alone for a moment.
    pub(crate) resting: bool,
    pub(crate) conduct: Conduct,
    /// How often in a row it was found stuck, with no completion in between.
    pub(crate) stuck_in_row: u32,
    /// A question for a sign of life is under way.
    pub(crate) probed: bool,
    pub(crate) completed_at: Option<Moment>,
    /// What it was handed before this was looked for in its mailbox.
    pub(crate) looked_at: HandoffNo,
    /// It may hold something unclaimed for too long; its mailbox is looked into at this moment, or when there is room.
    pub(crate) overdue: Option<Moment>,
    /// So many connections wear it out.
    pub(crate) done_max: Option<u64>,
    /// Why it is to be replaced, though nothing is wrong with it.
    pub(crate) wear: Option<Wear>,
    /// Its memory has been looked at.
    pub(crate) was_measured: bool,
    /// It has been silent since then for too long, and is given a last chance to beat.
    pub(crate) doubted: Option<Moment>,
}

impl Worker {
    pub(crate) fn load(&self) -> u32 {
        let held = self.tickets.len() as u64 + self.own.held;
        u32::try_from(held).expect("bounded by the capacity, or where it is counted")
    }

    /// Since when it has been as status shows it.
    pub(crate) fn state_since(&self) -> Moment {
        match self.state {
            State::Starting => self.spawned_at,
            State::Ready => self.ready_at.unwrap_or(self.spawned_at),
            State::Draining | State::Terminating | State::TerminatingFast | State::Aborting | State::Killing => {
                self.leaving.map_or(self.spawned_at, |(_, since)| since)
            }
        }
    }

    /// When the oldest connection that it holds was handed to it.
    pub(crate) fn oldest_handed(&self) -> Option<Moment> {
        self.tickets.values().map(|ticket| ticket.handed_at).min()
    }

    /// Connections that it serves at a time.
    pub(crate) fn concurrency(&self) -> u32 {
        self.settings.pool.concurrency
    }

    /// Whether it may be handed one more connection, and how well.
    pub(crate) fn room(&self) -> Room {
        let (load, concurrency) = (self.load(), self.concurrency());
        if self.state != State::Ready || self.resting {
            return Room::None;
        }
        match self.conduct {
            Conduct::Claims | Conduct::Doubtful if load < concurrency => Room::Free,
            Conduct::Claims if load < concurrency + self.settings.pool.prefetch => Room::Ahead,
            Conduct::Claims | Conduct::Doubtful | Conduct::Stuck | Conduct::Recovering => Room::None,
        }
    }

    pub(crate) fn is_stuck(&self) -> bool {
        matches!(self.conduct, Conduct::Stuck | Conduct::Recovering)
    }

    /// It has shown that its program works: what happens to it now says nothing about the next start.
    pub(crate) fn is_settled(&self, now: Moment) -> bool {
        let until = self.leaving.map_or(now, |(_, since)| since);
        let long_enough = |ready: Moment| until.since(ready) >= self.settings.pool.start.settle;
        self.ready_at.is_some_and(|ready| self.done > 0 || long_enough(ready))
    }

    /// Why its death counts against its slot, or `None` when it does not.
    pub(crate) fn failure(&self, now: Moment, exit: Exit) -> Option<Failure> {
        if self.was_asked() || self.judged || self.is_settled(now) {
            return None;
        }
        let what = match (&self.trouble, self.ready_at) {
            (Some(trouble), _) => trouble.clone(),
            (None, None) => What::DiedStarting(exit),
            (None, Some(_)) if self.is_uncounted() => What::DiedSoon(exit),
            (None, Some(_)) => What::DiedEarly(exit),
        };
        Some(self.failed(what))
    }

    /// It accepts for itself and tells nothing of it.
    fn is_uncounted(&self) -> bool {
        self.settings.pool.handoff == Handoff::Listen && self.own.telling == Telling::Nothing
    }

    /// We wanted it to go, for no fault of its own.
    pub(crate) fn was_asked(&self) -> bool {
        self.leaving.is_some_and(|(cause, _)| cause.is_ours())
    }

    /// A watchdog has bitten.
    pub(crate) fn stood_still(&self) -> bool {
        self.leaving.is_some_and(|(cause, _)| cause.is_a_watchdogs())
    }

    pub(crate) fn failed(&self, what: What) -> Failure {
        Failure { worker: Some((self.id, self.name.clone())), what }
    }

    pub(crate) fn ready_timeout(&self) -> Duration {
        self.settings.pool.start.ready_timeout
    }
}
