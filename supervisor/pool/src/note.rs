//! Names what is told to the operator; `report.rs` of the driver words it.

use std::time::Duration;

use ostler_shared::{ConnId, Generation, PoolName, SlotNo, WorkerId, WorkerName};

use crate::action::Step;
use crate::event::{Exit, Urgency};
use crate::reason::{Cause, Failure, Setback, Shed, Wear};
/// Something for the log; `report.rs` of the driver words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A worker became READY.
    Ready {
        /// Its identity: its name it may share with a predecessor.
        id: WorkerId,
        /// Which.
        worker: WorkerName,
        /// How long that took.
        took: Duration,
    },
    /// A template has loaded everything.
    TemplateReady {
        /// Which.
        template: WorkerName,
        /// How long that took.
        took: Duration,
    },
    /// A worker was asked to leave.
    Leaves {
        /// Which.
        worker: WorkerName,
        /// Why.
        cause: Cause,
    },
    /// A worker got a signal because it did not leave in time, or has to go.
    Escalated {
        /// Which.
        worker: WorkerName,
        /// Which signal.
        step: Step,
    },
    /// A worker is gone.
    Died {
        /// Its identity, to find its last words.
        id: WorkerId,
        /// Which.
        worker: WorkerName,
        /// How.
        exit: Exit,
        /// Whether we had asked it to leave.
        asked: Option<Cause>,
        /// How long ago it was spawned.
        age: Duration,
        /// Connections that it had served.
        done: u64,
        /// Connections that it had claimed.
        lost: u64,
        /// Connections that were still in its mailbox.
        redelivered: u64,
    },
    /// A worker failed and its slot waits before the next try.
    BackOff {
        /// Which.
        failure: Failure,
        /// How long.
        wait: Duration,
    },
    /// A worker broke the protocol.
    Misbehaved {
        /// Which.
        worker: WorkerName,
        /// What it did.
        how: String,
    },
    /// A pool has all its workers.
    PoolReady {
        /// Which.
        pool: PoolName,
        /// How many.
        workers: u32,
    },
    /// A pool spent its intensity: no more restarts by itself.
    PoolFailed {
        /// Which.
        pool: PoolName,
        /// The last failure.
        failure: Failure,
        /// How many workers serve on.
        survivors: usize,
    },
    /// A connection was counted lost because the worker had no descriptor for it.
    Truncated {
        /// Which worker.
        worker: WorkerName,
        /// Which connection.
        conn: ConnId,
    },
    /// A connection is lost because the process that held it has died, one of several of its worker.
    Dropped {
        /// Which worker.
        worker: WorkerName,
        /// Which connection.
        conn: ConnId,
    },
    /// A handler panicked.
    Panicked {
        /// Which worker.
        worker: WorkerName,
        /// Which connection.
        conn: ConnId,
    },
    /// A worker left connections unclaimed though it had places for them; it is handed nothing for the time being.
    Stuck {
        /// Which worker.
        worker: WorkerName,
        /// Connections that were taken back.
        recalled: u64,
    },
    /// A worker that was stuck has shown that it lives and is handed connections again.
    Unstuck {
        /// Which worker.
        worker: WorkerName,
    },
    /// A worker does not beat, and is replaced.
    Silent {
        /// Which worker.
        worker: WorkerName,
        /// For how long it was not heard of.
        silence: Duration,
    },
    /// A worker is at one request for too long, and is replaced.
    Overdue {
        /// Which worker.
        worker: WorkerName,
        /// On which connection.
        conn: ConnId,
        /// For how long.
        age: Duration,
    },
    /// A request takes long.
    Slow {
        /// Which worker is at it.
        worker: WorkerName,
        /// On which connection.
        conn: ConnId,
        /// For how long, so far.
        age: Duration,
    },
    /// Accepting pauses.
    AcceptPaused {
        /// Which pool.
        pool: PoolName,
        /// Why.
        why: &'static str,
    },
    /// Accepting goes on.
    AcceptResumed {
        /// Which pool.
        pool: PoolName,
    },
    /// Connections were let go since the last such note.
    Shed {
        /// Which pool.
        pool: PoolName,
        /// Why.
        why: Shed,
        /// How many.
        count: u64,
    },
    /// A rollout begins.
    RolloutBegun {
        /// Which pool.
        pool: PoolName,
        /// To which generation.
        generation: Generation,
        /// In how many slots.
        slots: u32,
    },
    /// A worker is starting that a reload, or its undo, wants to have in a slot.
    SlotMoves {
        /// Which.
        worker: WorkerName,
    },
    /// A reload is complete.
    Committed {
        /// The generation of each reloaded pool.
        generations: Vec<(PoolName, Generation)>,
        /// The pools that end.
        removed: Vec<PoolName>,
    },
    /// A slot runs the generation that a reload, or its undo, wants it to run.
    SlotRolled {
        /// The worker that serves there now.
        worker: WorkerName,
        /// How many slots do by now.
        moved: u32,
        /// How many there are.
        of: u32,
    },
    /// A reload goes back.
    UndoBegun {
        /// Why.
        setback: Setback,
    },
    /// A reload is undone.
    Undone {
        /// The pools that it was for.
        pools: Vec<PoolName>,
        /// Why.
        setback: Setback,
    },
    /// A slot could not be put back on the previous generation.
    UndoStuck {
        /// The worker that goes on in the new generation, where there is one.
        pool: PoolName,
        /// Which slot.
        slot: SlotNo,
        /// Why.
        failure: Failure,
    },
    /// A replacement asked for by `restart` failed.
    RestartFailed {
        /// Which pool.
        pool: PoolName,
        /// Why.
        failure: Failure,
    },
    /// A worker has served enough. It serves on until its replacement is READY.
    Worn {
        /// Its identity.
        id: WorkerId,
        /// Which.
        worker: WorkerName,
        /// In which respect.
        wear: Wear,
    },
    /// The replacement of a worn worker did not become READY.
    RecycleFailed {
        /// Which pool.
        pool: PoolName,
        /// Why.
        failure: Failure,
        /// How long until the next try.
        wait: Duration,
    },
    /// A worker was too large when it was looked at for the first time: replacing it will not help.
    RecycleFutile {
        /// Which.
        worker: WorkerName,
        /// The memory that it occupies, in bytes.
        rss: u64,
        /// What it may.
        limit: u64,
        /// How long nobody is replaced.
        wait: Duration,
    },
    /// The number of workers changes.
    Scaled {
        /// Which pool.
        pool: PoolName,
        /// From.
        from: u32,
        /// To.
        to: u32,
        /// Why.
        why: Rescaled,
    },
    /// Nobody in particular asked for a pause that can't be had now.
    PauseRefused {
        /// Why, and what to do.
        why: String,
    },
    /// The workers of a pool are sent away.
    PauseBegun {
        /// Which pool.
        pool: PoolName,
    },
    /// They are gone.
    Paused {
        /// Which pool.
        pool: PoolName,
        /// How many clients wait.
        waiting: u64,
    },
    /// They may come back.
    ResumeBegun {
        /// Which pool.
        pool: PoolName,
        /// How many clients wait.
        waiting: u64,
    },
    /// They are back.
    Resumed {
        /// Which pool.
        pool: PoolName,
        /// How many.
        workers: u32,
    },
    /// A stop begins or becomes faster.
    StopBegun {
        /// How.
        urgency: Urgency,
    },
    /// A stop goes on accepting for a while.
    StopDelayed {
        /// For so long.
        length: Duration,
    },
    /// A pool has stopped, with its totals.
    PoolStopped {
        /// Which pool.
        pool: PoolName,
        /// Connections served.
        done: u64,
        /// Connections lost.
        lost: u64,
        /// Connections shed, by reason.
        shed: Vec<(Shed, u64)>,
    },
}

/// Why the number of workers changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescaled {
    /// An operator asked for it.
    Asked,
    /// A reload changed `workers`.
    Configured,
    /// A pool without workers is reloaded, and one has to prove the new program.
    Reload,
    /// Somebody came to a pool without workers.
    FirstConnection,
    /// Everybody waits too long.
    LineStands,
    /// Some were not needed for long.
    Idle,
}
