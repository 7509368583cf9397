//! Does what could block on a thread of its own, and comes back with an event.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::Pid;
use ostler_config::Config;
use ostler_shared::{ConnId, WorkerId};

use super::signals::with_only_ttou;
use super::{measuring, portrait, standing_by};
use crate::logging::Aside;
use ostler_pool::PoolNo;

/// Most jobs that wait: one configuration, workers that stand still, and one look at the memory of each pool that limits it.
/// What does not fit is done without.
const JOBS_MAX: usize = 32;

/// Why somebody wants to know what a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// It is about to be aborted.
    Abort,
    /// It is slow with this one.
    Slow(ConnId),
}

/// Something that could block.
pub(crate) enum Job {
    /// Read the configuration again.
    ReadConfig(Box<dyn FnOnce() -> Result<Fresh, String> + Send>),
    /// See what a worker is doing.
    Portray {
        /// Which.
        worker: WorkerId,
        /// Where.
        pid: Pid,
        /// Why.
        occasion: Occasion,
    },
    /// See how much memory workers occupy.
    Measure(measuring::Order),
    /// See whether a program waits for connections.
    LookAt {
        /// Which.
        worker: WorkerId,
        /// Where.
        pid: Pid,
        /// The inodes of its listeners.
        listeners: BTreeSet<u64>,
    },
}

/// A configuration that was read, and what was opened for it.
pub(crate) struct Fresh {
    pub(crate) config: Arc<Config>,
    pub(crate) log: Aside,
}

/// What came of it.
pub(crate) enum Outcome {
    /// The configuration, or why there is none.
    Config(Result<Fresh, String>),
    /// What a worker was doing.
    Portrait {
        /// Which.
        worker: WorkerId,
        /// Why it was looked at.
        occasion: Occasion,
        /// Lines for people.
        portrait: Vec<String>,
    },
    /// Whether a program waits for connections.
    Look {
        /// Which.
        worker: WorkerId,
        /// What was seen.
        seen: standing_by::Seen,
    },
    /// How much memory workers occupy.
    Sizes {
        /// Their pool.
        pool: PoolNo,
        /// Each in bytes.
        sizes: Vec<(WorkerId, u64)>,
    },
}

/// How many jobs wait to be done, and how many to be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) asked: usize,
    pub(crate) done: usize,
}

/// The helper thread.
pub(crate) struct Jobs {
    todo: Sender<Job>,
    done: Receiver<Outcome>,
    bell: Arc<EventFd>,
}

impl Jobs {
    pub(crate) fn start() -> io::Result<Jobs> {
        let (todo, jobs) = bounded::<Job>(JOBS_MAX);
        let (report, done) = bounded(JOBS_MAX);
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let rings = Arc::clone(&bell);
        // It writes to no terminal, so it is the one that TTOU may interrupt.
        with_only_ttou(|| {
            std::thread::Builder::new().name("jobs".into()).stack_size(512 * 1024).spawn(move || {
                for job in jobs {
                    if report.send(run(job)).is_err() {
                        return; // the loop is over
                    }
                    ring(&rings);
                }
            })
        })?;
        Ok(Jobs { todo, done, bell })
    }

    /// Readable when something is done.
    pub(crate) fn readable(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Asks for a job. Never waits.
    ///
    /// # Errors
    /// The job itself when too many wait.
    pub(crate) fn ask(&self, job: Job) -> Result<(), Job> {
        self.todo.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    /// What waits on both sides.
    pub(crate) fn counts(&self) -> Counts {
        Counts { asked: self.todo.len(), done: self.done.len() }
    }

    /// What is done by now.
    pub(crate) fn take(&self) -> Vec<Outcome> {
        let _count = self.bell.read(); // EAGAIN: somebody rang between two reads, and was heard
        self.done.try_iter().collect()
    }
}

/// Wakes the loop, which hears of what is done in no other way.
fn ring(bell: &EventFd) {
    // Interrupted (write(2)) it has not rung. Anything else is a counter at its limit, which rings already.
    while bell.write(1) == Err(Errno::EINTR) {}
}

fn run(job: Job) -> Outcome {
    match job {
        Job::ReadConfig(read) => Outcome::Config(read()),
        Job::Measure(order) => Outcome::Sizes { pool: order.pool, sizes: measuring::measure(&order) },
        Job::LookAt { worker, pid, listeners } => Outcome::Look { worker, seen: standing_by::look(pid, &listeners) },
        Job::Portray { worker, pid, occasion } => Outcome::Portrait { worker, occasion, portrait: portrait::of(pid) },
    }
}
