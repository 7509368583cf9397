//! Names why something ended, failed or had to leave.

use std::time::Duration;

use ostler_config::checked::{Handoff, Ready};
use ostler_shared::{ConnId, WorkerId, WorkerName};

use crate::event::Exit;
/// Why a connection was let go without being served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shed {
    /// The line was full.
    QueueFull,
    /// It waited too long.
    QueueTimeout,
    /// Its client hung up while it waited.
    ClientGone,
    /// Its user has as many in the line as one may have.
    PerUid,
    /// The supervisor stops.
    Stopping,
}

impl Shed {
    /// The reason as status and logs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Shed::QueueFull => "queue_full",
            Shed::QueueTimeout => "queue_timeout",
            Shed::ClientGone => "client_gone",
            Shed::PerUid => "per_uid",
            Shed::Stopping => "stopping",
        }
    }
}

/// Why a worker that had to prove itself did not, or why there is no new generation at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The worker, where there was one.
    pub worker: Option<(WorkerId, WorkerName)>,
    /// What happened.
    pub what: What,
}

/// Why a reload was undone, and how far it had come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setback {
    /// What happened.
    pub failure: Failure,
    /// How far the reload was.
    pub stage: SetbackStage,
}

/// How far a reload was when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetbackStage {
    /// The new configuration was being read and checked: nothing had been touched.
    Reading,
    /// The first new worker was not READY yet.
    Canary,
    /// The first new worker served and had to prove itself.
    CanaryOnProbation,
    /// Workers were being replaced, or had been and had to prove themselves.
    Moving {
        /// Slots that had their new worker.
        moved: u32,
        /// All slots of the pool.
        of: u32,
    },
    /// A pool was to appear, and its workers were starting or had to prove themselves.
    Appearing {
        /// Slots that had a worker that was READY.
        ready: u32,
        /// All slots of the pool.
        of: u32,
    },
    /// Every worker was replaced, and the new listeners were being opened.
    Opening,
    /// A stop came between.
    CutShort,
}

/// What a failure consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It ended before it was READY.
    DiedStarting(Exit),
    /// It ended soon after READY without having served one connection.
    DiedEarly(Exit),
    /// It ended soon after READY, and whom it has served nobody counts.
    DiedSoon(Exit),
    /// It ended before its probation was over, which lasts as long as this.
    DiedOnProbation(Exit, Duration),
    /// It was not READY in time.
    NeverReady(Duration, Handoff, Ready),
    /// Its program could not be executed.
    Exec(String),
    /// No process could be made.
    Spawn(String),
    /// It broke the protocol.
    Misbehaved(String),
    /// It closed its control channel before it was READY.
    HungUp,
    /// A template that had not loaded everything in time.
    NeverLoaded(Duration),
    /// A template that was asked for a worker and did not answer for so long.
    NoAnswer(Duration),
    /// A template that can't be copied.
    Unfit(String),
    /// It did not beat for so long.
    Silent(Duration),
    /// It was at a request on this connection for so long.
    Overdue(ConnId, Duration),
    /// The configuration can't be used.
    Config(String),
    /// A listener can't be had.
    Listen(String),
    /// The supervisor stops.
    Stopping,
    /// A reload removed the pool.
    PoolRemoved,
    /// The pool lost the slot while it was replaced.
    ScaledAway,
    /// The pool is paused.
    Paused,
}

/// Why a worker has served enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wear {
    /// So many connections.
    Requests,
    /// For so long.
    Age,
    /// It occupies too much memory.
    Memory,
    /// Somebody says so.
    Asked,
}

/// Why a worker was asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its successor is READY.
    Replaced,
    /// The pool has fewer slots now.
    ScaledDown,
    /// The pool is paused.
    Paused,
    /// The supervisor stops.
    Stopping,
    /// A reload removed its pool.
    PoolRemoved,
    /// The rollout that started it was undone.
    Undone,
    /// It has served enough, and its successor is READY.
    Recycled {
        /// In which respect.
        why: Wear,
    },
    /// It was to replace a worker that stays for now.
    NotNeeded,
    /// It was not READY in time.
    NeverReady,
    /// It broke the protocol.
    Misbehaved,
    /// It says that it leaves.
    Leaves,
    /// It closed its control channel, as by a process that is ending.
    HungUp,
    /// It does not beat.
    Silent,
    /// A request takes it too long.
    Overdue,
    /// A template that was asked for a worker and did not answer.
    NoAnswer,
    /// A template that can't be copied.
    Unfit,
}

impl Cause {
    /// We wanted it to go, for no fault of its own.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        match self {
            Cause::Replaced
            | Cause::ScaledDown
            | Cause::Paused
            | Cause::Stopping
            | Cause::PoolRemoved
            | Cause::Undone
            | Cause::Recycled { .. }
            | Cause::NotNeeded => true,
            Cause::NeverReady
            | Cause::Misbehaved
            | Cause::Leaves
            | Cause::HungUp
            | Cause::Silent
            | Cause::Overdue
            | Cause::NoAnswer
            | Cause::Unfit => false,
        }
    }

    /// It was found standing still while it served.
    #[must_use]
    pub const fn is_a_watchdogs(self) -> bool {
        match self {
            Cause::Silent | Cause::Overdue => true,
            Cause::Replaced
            | Cause::ScaledDown
            | Cause::Paused
            | Cause::Stopping
            | Cause::PoolRemoved
            | Cause::Undone
            | Cause::Recycled { .. }
            | Cause::NotNeeded
            | Cause::NeverReady
            | Cause::Misbehaved
            | Cause::Leaves
            | Cause::HungUp
            | Cause::NoAnswer
            | Cause::Unfit => false,
        }
    }

    /// The cause as records and hooks write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Replaced => "replaced",
            Cause::ScaledDown => "scaled_down",
            Cause::Paused => "paused",
            Cause::Stopping => "stopping",
            Cause::PoolRemoved => "pool_removed",
            Cause::Undone => "undone",
            Cause::Recycled { why } => match why {
                Wear::Requests => "recycled_requests",
                Wear::Age => "recycled_age",
                Wear::Memory => "recycled_memory",
                Wear::Asked => "recycled_asked",
            },
            Cause::NotNeeded => "not_needed",
            Cause::NeverReady => "never_ready",
            Cause::Misbehaved => "misbehaved",
            Cause::Leaves => "leaves",
            Cause::HungUp => "hung_up",
            Cause::Silent => "silent",
            Cause::Overdue => "overdue",
            Cause::NoAnswer => "no_answer",
            Cause::Unfit => "unfit",
        }
    }
}

/// What was not served during a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StopCount {
    /// Connections shed since the stop began.
    pub shed: u64,
    /// Connections lost since the stop began.
    pub lost: u64,
    /// Workers that had to be aborted or killed.
    pub killed: u64,
}
