//! Names what can happen to the pools.

use std::fmt;
use std::sync::Arc;

use ostler_config::checked;
use ostler_shared::completion::Completion;
use ostler_shared::region::{Beats, Keeping};
use ostler_shared::{ConnId, Generation, PoolName, SlotNo, WorkerId};

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
    /// What [`Action::Recall`](crate::Action::Recall) brought back, oldest first; possibly nothing. When descriptors ran out on the way,
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
    /// After [`Action::RefuseNew`](crate::Action::RefuseNew): the kernel's queues of this pool's listeners were accepted to their end.
    /// Where workers accept for themselves it comes twice: when their queues are empty, and after
    /// [`Action::ResumeAccept`](crate::Action::ResumeAccept) when what they left was accepted too.
    KernelQueueEmpty {
        /// The pool.
        pool: PoolNo,
    },
    /// A worker can take connections.
    Ready {
        /// Which.
        worker: WorkerId,
    },
    /// A worker answered [`Action::Probe`](crate::Action::Probe).
    Alive {
        /// Which.
        worker: WorkerId,
    },
    /// The answer to [`Action::TakePulse`](crate::Action::TakePulse).
    Pulse {
        /// Whose.
        worker: WorkerId,
        /// What was found.
        pulse: Pulse,
    },
    /// The answer to [`Action::ReadMarks`](crate::Action::ReadMarks).
    Marks {
        /// Whose.
        worker: WorkerId,
        /// What was found.
        marks: Marks,
    },
    /// The answer to [`Action::Measure`](crate::Action::Measure).
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
    /// A worker that accepts for itself has said Hello: what it accepts is told by [`Event::Taken`] and its end by
    /// [`Event::Completed`]. Comes before its `Ready`; of others nobody knows what they accept.
    Introduced {
        /// Which.
        worker: WorkerId,
    },
    /// What a worker that accepts for itself says that it has accepted so far. Comes before the completions that were read
    /// with it, before [`Event::Pulse`], before its death, and whenever somebody wants to know.
    Taken {
        /// Which.
        worker: WorkerId,
        /// How many connections, ever.
        total: u64,
        /// How many of them have ended without a record, since there was no room for one, ever.
        unrecorded: u64,
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
    /// No process could be made for [`Action::Spawn`](crate::Action::Spawn).
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
    /// The template that was asked for a worker has forked it.
    Forked {
        /// Which worker.
        worker: WorkerId,
    },
    /// The template that was asked for a worker has not forked it: there is no such process.
    NotForked {
        /// The worker that was to be.
        worker: WorkerId,
        /// Why not.
        why: NotForked,
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
    /// The answer to [`Action::ReadConfig`](crate::Action::ReadConfig).
    ConfigRead {
        /// What is to be in force for all pools, or why nothing can be done. New listeners are bound by now.
        config: Result<Arc<checked::Config>, NoConfig>,
    },
    /// The answer to [`Action::OpenListeners`](crate::Action::OpenListeners).
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

/// Why a template has not forked a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotForked {
    /// It had no process, memory or descriptor, or could not be asked, in words for the log. Later it may.
    Shortage(String),
    /// It says that it can't be copied, in words for the log: another template has to be asked.
    Unfit(String),
    /// It ended first, which is told next.
    TemplateEnded,
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
