//! Hosts workers that accept for themselves: what they are given, how they are heard, and who is left when they are gone.
//!
//! ```text
//! serving ─▶ nobody new comes ─▶ workers empty the queue ─▶ workers drain ─▶ gone: we take whom they left ─▶ closed
//! ```
//! We hold the same listeners, and accept nothing while a worker may. What the workers do there we learn from their memories,
//! when somebody wants to know: nobody is woken for it more than [`HEAR_EVERY`].

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use ostler_config::checked::Handoff;
use ostler_pool::{Event, Moment, PoolNo};
use ostler_shared::{WorkerId, env};

use super::Driver;
use super::accepting::Stage;
use super::doors::Taker;
use super::link::Link;
use super::listeners::{Listener, Tenure};
use super::rings::News;
use super::unmodified::Unmodified;

/// A worker that accepts for itself rings once; then its ring is read so often, until it says nothing more.
const HEAR_EVERY: Duration = Duration::from_millis(20);

/// Where a worker's connections come from.
#[derive(Debug)]
pub(crate) enum Entrance {
    /// Its mailbox.
    Mailbox,
    /// Its mailbox, which it takes for a listener.
    Imitation(Unmodified),
    /// The listeners themselves.
    Listeners(Listeners),
}

impl Entrance {
    pub(crate) fn unmodified(&self) -> Option<&Unmodified> {
        match self {
            Entrance::Imitation(unmodified) => Some(unmodified),
            Entrance::Mailbox | Entrance::Listeners(_) => None,
        }
    }

    pub(crate) fn listeners(&self) -> Option<&Listeners> {
        match self {
            Entrance::Listeners(listeners) => Some(listeners),
            Entrance::Mailbox | Entrance::Imitation(_) => None,
        }
    }
}

/// The listeners of one worker, and what each is called.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    sockets: Vec<OwnedFd>,
    names: Vec<String>,
}

impl Listeners {
    /// # Errors
    /// As fcntl(F_DUPFD_CLOEXEC).
    pub(crate) fn add(&mut self, listener: &Listener, name: &str) -> io::Result<()> {
        self.sockets.push(listener.as_fd().try_clone_to_owned()?);
        self.names.push(name.to_owned());
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }

    /// The first descriptor behind them: ostler's own begin there.
    pub(crate) fn first_behind(&self) -> RawFd {
        env::MAILBOX_FD + RawFd::try_from(self.sockets.len()).expect("as many as the process has descriptors")
    }

    /// What sd_listen_fds(3) reads. A colon stands between names, so none has one.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let names = self.names.join(":");
        let variables = [(env::LISTEN_FDS, self.sockets.len().to_string()), ("LISTEN_FDNAMES", names)];
        variables.into_iter().map(|(key, value)| (OsString::from(key), OsString::from(value)))
    }
}

impl Link {
    /// It has said Hello: it is built on the library, or speaks as if.
    pub(crate) fn has_spoken(&self) -> bool {
        self.look.was_introduced
    }

    /// Whether WATCHDOG=1 is its sign of life: it has no other.
    pub(crate) fn notifies_its_life(&self) -> bool {
        self.accepts_by_itself() && !self.has_spoken()
    }

    fn accepts_by_itself(&self) -> bool {
        self.settings.pool.handoff == Handoff::Listen
    }
}

impl Driver {
    // ── what they say ──────────────────────────────────────────────────────────────────────────────────────

    /// Tells the pool what a worker has accepted for itself, if that is news. Before whatever it says of their ends.
    pub(super) fn count_own(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get_mut(&worker).filter(|link| link.accepts_by_itself() && link.has_spoken())
        else {
            return;
        };
        let own = self.rings.own(link.ring);
        if std::mem::replace(&mut link.look.told, own) != own {
            self.events.push_back(Event::Taken { worker, total: own.accepted, unrecorded: own.unrecorded });
        }
    }

    /// As they are now, for whoever asks: ends first read, then counted.
    pub(super) fn count_all_own(&mut self) {
        let own = |link: &Link| link.accepts_by_itself() && link.has_spoken();
        let workers: Vec<WorkerId> = self.workers.iter().filter(|(_, link)| own(link)).map(|(id, _)| *id).collect();
        workers.into_iter().for_each(|worker| self.read_ring(worker));
        if !self.events.is_empty() {
            self.step(Event::Tick);
        }
    }

    /// A worker that accepts for itself has rung: it is not asked to again for a while.
    pub(super) fn let_it_be(&mut self, worker: WorkerId) {
        let at = self.now() + HEAR_EVERY;
        if let Some(link) = self.workers.get(&worker).filter(|link| link.accepts_by_itself()) {
            self.rings.hush(link.ring);
            self.unheard.insert((at, worker));
        }
    }

    /// Reads what was said meanwhile. Whoever said nothing rings the next time.
    pub(super) fn hear_the_unheard(&mut self, now: Moment) {
        while let Some((at, worker)) = self.unheard.first().copied().filter(|(at, _)| *at <= now) {
            self.unheard.remove(&(at, worker));
            let Some(link) = self.workers.get(&worker) else { continue };
            if self.rings.listen(link.ring) == News::Some {
                self.read_ring(worker);
                self.let_it_be(worker);
            }
        }
    }

    // ── whom they leave ────────────────────────────────────────────────────────────────────────────────────

    /// The workers of a pool are gone, and whoever is left in the kernel's queues is ours to take.
    pub(super) fn sweep_doors(&mut self, pool: PoolNo) {
        let now = self.now();
        let by_workers = |taker: Taker| taker == Taker::Workers;
        let numbers = self.doors.numbers_of(pool);
        // Those of a pool that a reload took out of the configuration were emptied, and are gone.
        let mut is_asked = numbers.is_empty();
        for number in numbers {
            let Some(door) = self.doors.get_mut(number).filter(|door| by_workers(door.taker)) else { continue };
            is_asked = true;
            if door.listener.tenure == Tenure::Shared {
                door.stage = Stage::Empty; // the next holder's
                continue;
            }
            if let Err(error) = door.listener.refuse_new() {
                tracing::warn!("cannot close {} for new clients: {error}", door.listener.shown);
            }
            self.take_over(number, now);
        }
        if is_asked {
            self.doors.refusing.insert(pool);
            if self.has_just_emptied(pool) {
                self.events.push_back(Event::KernelQueueEmpty { pool });
            }
        }
    }
}
