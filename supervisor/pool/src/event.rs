//! Names what can happen to the pools and what they can ask for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ostler_config::checked::{self, Farewell};
use ostler_shared::completion::Completion;
use ostler_shared::region::{Beats, Keeping};
use ostler_shared::{ConnId, Generation, PoolName, SlotNo, WorkerId, WorkerName};

use crate::Moment;

/// A pool's identity, ascending from 0 in the order of the configuration and then of appearance; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolNo(pub usize);

/// Somebody who waits for an answer (a client of the control socket); the driver knows who.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Whose a connection is: the user that called connect, as the kernel recorded it. Over TCP nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub u32);

/// What a worker runs with: a generation and its configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// The generation that this configuration began.
    pub generation: Generation,
    /// The configuration.
    pub pool: checked::Pool,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A listener of `pool` gave a connection. `Moment` of the step is its accept time.
    Accepted {
        /// The pool whose listener it was.
        pool: PoolNo,
        /// Its identity, given by the driver, never reused, ascending.
        conn: ConnId,
        /// Whose it is, where the kernel knows.
        uid: Option<Uid>,
    },
    /// A client has hung up before a worker was handed its connection. It may have been handed out meanwhile: then
    /// it is the worker's to find out.
    ClientGone {
        /// The pool whose listener it was.
        pool: PoolNo,
        /// The connection.
        conn: ConnId,
    },
    /// What [`Action::Recall`] brought back, oldest first; possibly nothing. When descriptors ran out on the way,
    /// [`Event::AcceptStarved`] comes before it, so that the rest is looked for again.
    Recalled {
        /// Whose mailbox it was.
        worker: WorkerId,
        /// The connections, in the driver's hands again.
        conns: Vec<ConnId>,
    },
    /// A handoff did not happen; the connection is in the driver's hands again.
    HandOffRefused {
        /// Who was to get it.
        worker: WorkerId,
        /// The connection.
        conn: ConnId,
        /// Why.
        why: Refusal,
    },
    /// accept4 failed for want of descriptors or memory.
    AcceptStarved {
        /// The pool whose listener it was.
        pool: PoolNo,
    },
    /// After [`Action::RefuseNew`]: the kernel's queues of this pool's listeners were accepted to their end.
    KernelQueueEmpty {
        /// The pool.
        pool: PoolNo,
    },
    /// A worker can take connections.
    Ready {
        /// Which.
        worker: WorkerId,
    },
    /// A worker answered [`Action::Probe`].
    Alive {
        /// Which.
        worker: WorkerId,
    },
    /// The answer to [`Action::TakePulse`].
    Pulse {
        /// Whose.
        worker: WorkerId,
        /// What was found.
        pulse: Pulse,
    },
    /// The answer to [`Action::ReadMarks`].
    Marks {
        /// Whose.
        worker: WorkerId,
        /// What was found.
        marks: Marks,
    },
    /// The answer to [`Action::Measure`].
    Measured {
        /// Whose workers.
        pool: PoolNo,
        /// The memory that each occupies, in bytes, as far as it could be read.
        sizes: Vec<(WorkerId, u64)>,
    },
    /// A worker finished a connection.
    Completed {
        /// Which.
        worker: WorkerId,
        /// What it says of it.
        completion: Completion,
    },
    /// A worker says that it leaves, or closed its control channel.
    HungUp {
        /// Which.
        worker: WorkerId,
        /// Which of the two.
        how: HangUp,
    },
    /// A worker broke the protocol.
    Misbehaved {
        /// Which.
        worker: WorkerId,
        /// What it did, for the log.
        how: String,
    },
    /// No process could be made for [`Action::Spawn`].
    SpawnFailed {
        /// The worker that was to be.
        worker: WorkerId,
        /// Why, for the log.
        why: String,
    },
    /// The process was made but could not execute its program; its death follows.
    ExecFailed {
        /// Which.
        worker: WorkerId,
        /// Why, for the log.
        why: String,
    },
    /// A worker is gone; everything that it had said before was reported earlier.
    Died {
        /// Which.
        worker: WorkerId,
        /// How it ended.
        exit: Exit,
        /// What was still in its mailbox, oldest first; in the driver's hands again.
        unclaimed: Vec<ConnId>,
    },
    /// Reload `pools` (all when empty) from the configuration as it is on disk after this moment.
    Reload {
        /// Who wants to know.
        request: Option<RequestId>,
        /// Which pools.
        pools: Vec<PoolName>,
    },
    /// The answer to [`Action::ReadConfig`].
    ConfigRead {
        /// What is to be in force for all pools, or why nothing can be done. New listeners are bound by now.
        config: Result<Arc<checked::Config>, NoConfig>,
    },
    /// The answer to [`Action::OpenListeners`].
    ListenersOpened {
        /// Why not, if not.
        outcome: Result<(), String>,
    },
    /// Replace the workers of a pool, or of one slot, by fresh ones of the same generation.
    Restart {
        /// Who wants to know.
        request: Option<RequestId>,
        /// Which pool.
        pool: PoolName,
        /// Which slot; all when absent.
        slot: Option<SlotNo>,
    },
    /// Replace the workers of a pool, or of one slot, as those are that have served enough.
    Recycle {
        /// Who wants to know.
        request: Option<RequestId>,
        /// Which pool.
        pool: PoolName,
        /// Which slot; all when absent.
        slot: Option<SlotNo>,
    },
    /// Change the number of workers.
    Scale {
        /// Who wants to know.
        request: Option<RequestId>,
        /// Which pool; the first when absent.
        pool: Option<PoolName>,
        /// To what.
        change: Change,
    },
    /// Send the workers of a pool away, and let its clients wait.
    Pause {
        /// Who wants to know when they are gone.
        request: Option<RequestId>,
        /// Which pool; all when absent.
        pool: Option<PoolName>,
    },
    /// Let the workers of a pool come back.
    Resume {
        /// Who wants to know when they are there.
        request: Option<RequestId>,
        /// Which pool; all when absent.
        pool: Option<PoolName>,
    },
    /// HUP: resume what is paused, or else reload everything.
    ResumeOrReload,
    /// End everything.
    Stop {
        /// How.
        urgency: Urgency,
    },
    /// Nothing happened, but the time of [`crate::Pools::next_deadline`] has come.
    Tick,
}

/// What can be seen of a worker's heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// When it says that it beats.
    pub beats: Beats,
    /// When it was last heard of, by its own words; never in the future, and never before the end of an absence of ours: who
    /// was not there can't blame anybody for his silence.
    pub heard_at: Option<Moment>,
}

/// Why a reload has no configuration to go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoConfig {
    /// The file can't be read, is wrong, or asks for what a reload can't do.
    Unusable(String),
    /// A new listener can't be had.
    CannotListen(String),
}

/// What a worker says of the requests that it works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// Whether it says anything.
    pub keeping: Keeping,
    /// What it says of which connection.
    pub signs: Vec<(ConnId, Sign)>,
}

/// What a worker says of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Nobody waits for an answer.
    Idle,
    /// It can't tell.
    Unmarked,
    /// Somebody does.
    Busy {
        /// Since then, by its own words, within the limits of [`Pulse::heard_at`].
        since: Moment,
    },
}

/// How a worker turns away by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangUp {
    /// It said so; it finishes what it holds.
    Leaves,
    /// Its control channel is closed, as by a process that is ending.
    ChannelClosed,
}

/// Why a handoff did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The kernel has no room now: EAGAIN, ETOOMANYREFS, ENOBUFS, ENOMEM.
    Busy,
    /// The worker does not read its mailbox any more: EPIPE, ECONNRESET.
    Closed,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A new number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Exactly so many.
    To(u32),
    /// So many more.
    More(u32),
    /// So many fewer.
    Fewer(u32),
}

/// How a stop goes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Serve what waits, let workers finish, within `stop_timeout`.
    Graceful,
    /// TERM, two seconds, KILL; what waits is shed.
    Now,
}

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
    /// [`Event::KernelQueueEmpty`].
    RefuseNew {
        /// On the listeners of this pool.
        pool: PoolNo,
    },
    /// Make a worker process. Failure comes back as [`Event::SpawnFailed`].
    Spawn {
        /// Its identity.
        worker: WorkerId,
        /// Its pool.
        pool: PoolNo,
        /// Its name.
        name: WorkerName,
        /// What it runs.
        settings: Arc<Settings>,
    },
    /// Put a connection into a worker's mailbox. Failure comes back as [`Event::HandOffRefused`].
    HandOff {
        /// Whose.
        worker: WorkerId,
        /// Which.
        conn: ConnId,
    },
    /// Take everything out of a worker's mailbox; answered by [`Event::Recalled`], always: the pool hands nothing
    /// out until it has the answer or the worker's death.
    Recall {
        /// Whose.
        worker: WorkerId,
    },
    /// Ask a worker for a sign of life, answered by [`Event::Alive`] whenever it comes. Never two at once per
    /// worker. It is not handed anything until it answers, so a question that can't be sent now is sent later.
    Probe {
        /// Whom.
        worker: WorkerId,
    },
    /// See when a worker last beat, answered by [`Event::Pulse`].
    TakePulse {
        /// Whose.
        worker: WorkerId,
    },
    /// See which of a worker's connections are busy, answered by [`Event::Marks`].
    ReadMarks {
        /// Whose.
        worker: WorkerId,
    },
    /// See how much memory workers occupy, answered by [`Event::Measured`], always.
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
    /// answered by [`Event::ConfigRead`].
    ReadConfig {
        /// Which pools.
        pools: Vec<PoolName>,
    },
    /// Let clients connect to the new listeners and give the others their new options, so that nothing can fail any more;
    /// answered by [`Event::ListenersOpened`].
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
    /// It ended before its probation was over, which lasts as long as this.
    DiedOnProbation(Exit, Duration),
    /// It was not READY in time.
    NeverReady(Duration),
    /// Its program could not be executed.
    Exec(String),
    /// No process could be made.
    Spawn(String),
    /// It broke the protocol.
    Misbehaved(String),
    /// It closed its control channel before it was READY.
    HungUp,
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
            Cause::NeverReady | Cause::Misbehaved | Cause::Leaves | Cause::HungUp | Cause::Silent | Cause::Overdue => {
                false
            }
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
            | Cause::HungUp => false,
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
        }
    }
}

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

/// One step's time and outlet, handed down to whoever acts.
pub(crate) struct Turn<'a> {
    pub(crate) now: Moment,
    pub(crate) out: &'a mut Vec<Action>,
    pub(crate) next_worker: &'a mut u64,
    pub(crate) rng: &'a mut fastrand::Rng,
}

impl Turn<'_> {
    pub(crate) fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.out.push(Action::Note(note));
    }

    /// Tells whoever waits, where somebody does.
    pub(crate) fn answer(&mut self, request: Option<RequestId>, answer: Answer) {
        self.out.extend(request.map(|request| Action::Answer { request, answer }));
    }

    pub(crate) fn new_worker_id(&mut self) -> WorkerId {
        *self.next_worker += 1;
        WorkerId(*self.next_worker)
    }
}
