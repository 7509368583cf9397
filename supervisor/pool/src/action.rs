//! Names what the pools ask the driver to do, and what they tell those who wait for an answer.

use std::sync::Arc;

use ostler_config::checked::{self, Farewell};
use ostler_shared::{ConnId, Generation, PoolName, WorkerId, WorkerName};

use crate::event::{PoolNo, RequestId, Settings};
use crate::note::Note;
use crate::reason::{Failure, Setback, Shed, StopCount};
/// Something for the driver to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start accepting, or go on.
    ResumeAccept {
        /// On the listeners of this pool.
        pool: PoolNo,
    },
    /// Stop accepting; the kernel's queues fill.
    PauseAccept {
        /// On the listeners of this pool.
        pool: PoolNo,
    },
    /// Let nobody connect any more, but keep what is in the kernel's queues; accept those to the end and say
    /// [`Event::KernelQueueEmpty`](crate::Event::KernelQueueEmpty). Where workers accept for themselves, wait until they have, and accept
    /// nothing before [`Action::ResumeAccept`], which comes when they are gone.
    RefuseNew {
        /// On the listeners of this pool.
        pool: PoolNo,
    },
    /// Make a worker process. Failure comes back as [`Event::SpawnFailed`](crate::Event::SpawnFailed); where a template makes
    /// it, the answer is [`Event::Forked`](crate::Event::Forked) or [`Event::NotForked`](crate::Event::NotForked), always,
    /// since a template that does not answer is made to end.
    Spawn {
        /// Its identity.
        worker: WorkerId,
        /// Its pool.
        pool: PoolNo,
        /// Its name.
        name: WorkerName,
        /// What it runs.
        settings: Arc<Settings>,
        /// What makes it.
        origin: Origin,
    },
    /// Start a template. Whatever is said of a worker's process comes back of it too, under this identity.
    StartTemplate {
        /// Its identity.
        template: WorkerId,
        /// Its pool.
        pool: PoolNo,
        /// Its name.
        name: WorkerName,
        /// What it runs.
        settings: Arc<Settings>,
    },
    /// Put a connection into a worker's mailbox. Failure comes back as [`Event::HandOffRefused`](crate::Event::HandOffRefused).
    HandOff {
        /// Whose.
        worker: WorkerId,
        /// Which.
        conn: ConnId,
    },
    /// Take everything out of a worker's mailbox; answered by [`Event::Recalled`](crate::Event::Recalled), always: the pool hands nothing
    /// out until it has the answer or the worker's death.
    Recall {
        /// Whose.
        worker: WorkerId,
    },
    /// Ask a worker for a sign of life, answered by [`Event::Alive`](crate::Event::Alive) whenever it comes. Never two at once per
    /// worker. It is not handed anything until it answers, so a question that can't be sent now is sent later.
    Probe {
        /// Whom.
        worker: WorkerId,
    },
    /// See when a worker last beat, answered by [`Event::Pulse`](crate::Event::Pulse).
    TakePulse {
        /// Whose.
        worker: WorkerId,
    },
    /// See which of a worker's connections are busy, answered by [`Event::Marks`](crate::Event::Marks).
    ReadMarks {
        /// Whose.
        worker: WorkerId,
    },
    /// See how much memory workers occupy, answered by [`Event::Measured`](crate::Event::Measured), always.
    Measure {
        /// Their pool.
        pool: PoolNo,
        /// Which.
        workers: Vec<WorkerId>,
    },
    /// Tell a worker to finish and leave.
    Drain {
        /// Which.
        worker: WorkerId,
    },
    /// Send a signal to a worker's process group.
    Signal {
        /// Which.
        worker: WorkerId,
        /// Which signal.
        step: Step,
    },
    /// Let a connection go.
    Shed {
        /// Which.
        conn: ConnId,
        /// Why.
        why: Shed,
        /// What it gets.
        farewell: Farewell,
    },
    /// Tell the workers of a pool, and those that it will have, how full the line is.
    TellPressure {
        /// Which pool.
        pool: PoolNo,
        /// 0: empty; 1000: full.
        thousandths: u16,
    },
    /// Read the configuration file again, for these pools (all when empty), and bind the listeners that it adds, aside;
    /// answered by [`Event::ConfigRead`](crate::Event::ConfigRead).
    ReadConfig {
        /// Which pools.
        pools: Vec<PoolName>,
    },
    /// Let clients connect to the new listeners and give the others their new options, so that nothing can fail any more;
    /// answered by [`Event::ListenersOpened`](crate::Event::ListenersOpened).
    OpenListeners,
    /// Close the listeners that were bound aside: the reload is undone.
    CloseAside,
    /// A reload is complete: this is the configuration from now on. Listeners that it adds begin to serve their pools,
    /// those that it does not have any more let nobody new connect, and close when who waits there was accepted.
    Adopt {
        /// All of it, with the parts that the reload did not concern as they were.
        config: Arc<checked::Config>,
        /// Who its pools are, in its order.
        pools: Vec<PoolNo>,
    },
    /// A pool that a reload removed, or that was to appear and does not, is gone: close its listeners.
    Forget {
        /// Which pool.
        pool: PoolNo,
    },
    /// Every pool is ready for the first time.
    AllReady,
    /// Answer somebody who waits.
    Answer {
        /// Who.
        request: RequestId,
        /// What.
        answer: Answer,
    },
    /// Tell somebody who waits how it goes: one of the notes of a rollout.
    Progress {
        /// Who.
        request: RequestId,
        /// What has just happened.
        news: Note,
    },
    /// Something for the log.
    Note(Note),
    /// Nothing is left to do: close, unlink, exit.
    Finished {
        /// How it ended.
        ended: Ended,
    },
}

/// What makes a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command is executed.
    Exec,
    /// This template forks it.
    Template(WorkerId),
}

/// A step of the escalation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// SIGTERM.
    Term,
    /// SIGABRT.
    Abort,
    /// SIGKILL.
    Kill,
}

/// What a waiting request learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Reload: every slot runs the new generation.
    Reloaded {
        /// The generation of each reloaded pool.
        generations: Vec<(PoolName, Generation)>,
        /// The pools that are gone.
        removed: Vec<PoolName>,
    },
    /// Reload: nothing changed.
    Undone {
        /// Why.
        setback: Setback,
    },
    /// Restart: done.
    Restarted,
    /// Restart: the old workers go on.
    NotRestarted {
        /// Why.
        failure: Failure,
    },
    /// Recycle: done.
    Recycled,
    /// Recycle: a replacement failed; those that are not replaced yet go on.
    NotRecycled {
        /// Why.
        failure: Failure,
    },
    /// Scale: the new target.
    Scaled {
        /// Which pool.
        pool: PoolName,
        /// How many workers it is to have.
        target: u32,
    },
    /// Pause: every worker has left.
    Paused {
        /// Each pool, and how many of its clients wait.
        pools: Vec<(PoolName, u64)>,
    },
    /// Resume: every slot has a READY worker.
    Resumed {
        /// Each pool, and how many workers it has.
        pools: Vec<(PoolName, u32)>,
    },
    /// Resume: the pool was given up.
    NotResumed {
        /// Which.
        pool: PoolName,
        /// Why.
        failure: Failure,
    },
    /// Resume: it takes longer than a start may take, and goes on.
    ResumesSlowly {
        /// Which pool.
        pool: PoolName,
        /// How many of its workers are READY …
        ready: u32,
        /// … of how many.
        target: u32,
    },
    /// The request makes no sense.
    Refused {
        /// Why, and what to do.
        why: String,
    },
}

/// How everything ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By a stop.
    Stopped(StopCount),
    /// A pool never came up.
    StartFailed {
        /// Which.
        pool: PoolName,
        /// Why.
        failure: Failure,
    },
    /// By a stop that followed when a pool was given up.
    PoolFailed {
        /// Which.
        pool: PoolName,
        /// Its last failure.
        failure: Failure,
        /// What the stop cost.
        count: StopCount,
    },
}
