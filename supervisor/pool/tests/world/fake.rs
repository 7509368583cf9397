//! Plays a worker process, as much of it as a driver would see.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ostler_config::checked::Recycle;
use ostler_pool::{Settings, Wear};
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::region::{Beats, Keeping};
use ostler_shared::{ConnId, SlotNo, WorkerName};

/// A worker process, and what the pool was told of it.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) pool: usize,
    pub(crate) name: WorkerName,
    concurrency: usize,
    prefetch: usize,
    pub(crate) recycle: Recycle,
    pub(crate) process: Process,
    /// Since when its loop stands still, whatever its other threads do.
    pub(crate) stands_still: Option<u64>,
    /// Since when it holds something.
    pub(crate) busy_since: u64,
    pub(crate) traits: Traits,
    pub(crate) mailbox: VecDeque<ConnId>,
    pub(crate) hands: Vec<ConnId>,
    /// Since when a connection in its hands is busy; what is not in here is idle.
    pub(crate) busy: BTreeMap<ConnId, u64>,
    /// Finished, and nobody can know it yet.
    pub(crate) unpublished: Vec<Record>,
    /// Finished and published; not yet read.
    pub(crate) ring: VecDeque<Record>,
    /// What it has accepted for itself.
    pub(crate) own: Own,
    pub(crate) known: Known,
}

/// What a worker that accepts for itself counts.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// It has said Hello, and so it counts.
    pub(crate) counts: bool,
    pub(crate) total: u64,
    pub(crate) unrecorded: u64,
    /// Accepted since the pool was last told.
    pub(crate) untold: u64,
    /// Over without a record since then.
    pub(crate) over: Vec<ConnId>,
}

/// What a worker wrote about a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) conn: ConnId,
    pub(crate) outcome: Outcome,
    pub(crate) at: u64,
}

impl Record {
    pub(crate) fn completion(self) -> Completion {
        Completion { conn: self.conn, outcome: self.outcome, claimed_at_ns: self.at / 2, done_at_ns: self.at }
    }
}

/// The state of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Runs,
    /// SIGSTOP: it does nothing at all until it is continued.
    Stopped,
    /// SIGSTOP, and TERM is waiting for it.
    StoppedWithTerm,
    /// It has ended, and the pool has not heard of it.
    Dead,
}

/// What kind of program it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// It never becomes READY.
    pub(crate) mute: bool,
    /// It never claims.
    pub(crate) idle: bool,
    /// TERM and ABRT do not impress it.
    pub(crate) stubborn: bool,
    /// When it promises to beat.
    pub(crate) beats: Beats,
    /// Whether it marks what it is at.
    pub(crate) keeping: Keeping,
}

/// What the pool can know of a worker, from the events that it was given and the actions that it asked for.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// READY, and neither drained nor signalled nor turned away.
    pub(crate) serving: bool,
    pub(crate) was_ready: bool,
    pub(crate) ready_at: Option<u64>,
    pub(crate) drained: bool,
    /// It told what is not so, or broke the protocol.
    pub(crate) liar: bool,
    pub(crate) turned_away: bool,
    /// When it turned away or broke the protocol, being READY.
    pub(crate) left_at: Option<u64>,
    /// What it holds, as far as the pool knows.
    pub(crate) tickets: BTreeSet<ConnId>,
    pub(crate) rests_until: u64,
    pub(crate) stuck: bool,
    pub(crate) stuck_times: u32,
    /// It left connections lying and has completed none since.
    pub(crate) doubtful: bool,
    pub(crate) probe: Probe,
    /// When it answered the probe after it was found stuck.
    pub(crate) alive_at: Option<u64>,
    pub(crate) completed_at: u64,
    /// When a recall last had to leave something behind.
    pub(crate) starved_at: u64,
    /// When nobody else had a free place, last.
    pub(crate) alone_at: u64,
    pub(crate) first_signal_at: Option<u64>,
    /// Connections that it has served.
    pub(crate) done: u64,
    /// The most memory that it was found to occupy.
    pub(crate) rss_max: u64,
    /// It has served enough.
    pub(crate) worn: Option<Wear>,
    /// It was drained for that.
    pub(crate) recycled: bool,
    /// A watchdog has bitten.
    pub(crate) bitten: bool,
    /// The last look found that it should have been heard of.
    pub(crate) doubted: bool,
}

/// A question for a sign of life.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    #[default]
    None,
    Asked,
}

impl Known {
    /// It turned away or broke the protocol. Who did so before it was READY is taken for serving all the same.
    pub(crate) fn leaves(&mut self, now: u64) {
        if self.was_ready {
            self.left_at.get_or_insert(now);
        }
    }
}

impl Fake {
    pub(crate) fn new(pool: usize, name: WorkerName, settings: &Settings, traits: Traits) -> Fake {
        Fake {
            pool,
            name,
            concurrency: settings.pool.concurrency as usize,
            prefetch: settings.pool.prefetch as usize,
            recycle: settings.pool.recycle,
            process: Process::Runs,
            stands_still: None,
            busy_since: 0,
            traits,
            mailbox: VecDeque::new(),
            hands: Vec::new(),
            busy: BTreeMap::new(),
            unpublished: Vec::new(),
            ring: VecDeque::new(),
            own: Own::default(),
            known: Known::default(),
        }
    }

    pub(crate) fn slot(&self) -> SlotNo {
        self.name.slot
    }

    pub(crate) fn runs(&self) -> bool {
        self.process == Process::Runs
    }

    /// It does its work.
    pub(crate) fn turns(&self) -> bool {
        self.runs() && self.stands_still.is_none()
    }

    /// When it beat for the last time.
    pub(crate) fn heard_at(&self, now: u64) -> u64 {
        let busy = self.traits.beats == Beats::WhileIdle && !self.hands.is_empty();
        let since = if busy { self.busy_since } else { now };
        self.stands_still.map_or(since, |still| still.min(since))
    }

    /// The pool may expect it to beat.
    pub(crate) fn should_beat(&self) -> bool {
        match self.traits.beats {
            Beats::Never => false,
            Beats::WhileIdle => self.load() == 0,
            Beats::Always => true,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.process, Process::Stopped | Process::StoppedWithTerm)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.process == Process::Dead
    }

    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency
    }

    pub(crate) fn load(&self) -> usize {
        self.known.tickets.len()
    }

    /// A library claims no more than it may hold at a time.
    pub(crate) fn may_claim(&self) -> bool {
        self.turns() && !self.traits.idle && !self.mailbox.is_empty() && self.hands.len() < self.concurrency()
    }

    pub(crate) fn holds_nothing(&self) -> bool {
        self.mailbox.is_empty() && self.hands.is_empty()
    }

    fn takes(&self, now: u64) -> bool {
        self.known.serving && !self.known.stuck && self.known.rests_until <= now
    }

    /// Somebody who was handed a connection now would be served at once, as far as the pool can know.
    pub(crate) fn has_free_place(&self, now: u64) -> bool {
        self.takes(now) && self.load() < self.concurrency()
    }

    /// It may be handed one more, if only into its mailbox.
    pub(crate) fn has_room(&self, now: u64) -> bool {
        let ahead = if self.known.doubtful { 0 } else { self.prefetch };
        self.takes(now) && self.load() < self.concurrency() + ahead
    }
}
