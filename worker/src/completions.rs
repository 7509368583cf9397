//! Reports the ends of connections: a record in shared memory, and the doorbell if the supervisor waits.
//!
//! Never waits and allocates nothing. When the supervisor is gone, nobody reads the records, and nobody is the poorer.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::unistd::write;
use ostler_shared::completion::{COMPLETION_WORDS, Completion};
use ostler_shared::region::{Beats, Dials, WorkerSide};
use ostler_shared::ring::{Bell, Full, Producer};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::sys::memory::{OwnMemory, PeerMemory};

/// A worker's end of its shared memory.
#[derive(Debug)]
pub(crate) struct Completions {
    ring: Mutex<Ring>,
    dials: Dials,
    doorbell: OwnedFd,
    held: AtomicU64,
}

/// The records, and where there is no room for one.
#[derive(Debug)]
struct Ring {
    producer: Producer<COMPLETION_WORDS>,
    /// Ends that found no room, ever.
    unrecorded: u64,
    when_full: WhenFull,
}

/// What becomes of an end for which the ring has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It can't be: the supervisor hands out no more than it has room for.
    Impossible,
    /// It is counted: who accepts for himself does not wait until the supervisor has read.
    Counted,
}

impl Completions {
    /// # Errors
    /// When the supervisor's memory has another layout.
    pub(crate) fn new(
        gauges: PeerMemory,
        region: OwnMemory,
        doorbell: OwnedFd,
        when_full: WhenFull,
    ) -> io::Result<Completions> {
        let WorkerSide { completions, dials } = WorkerSide::new(gauges, region).map_err(io::Error::other)?;
        let ring = Mutex::new(Ring { producer: completions, unrecorded: 0, when_full });
        Ok(Completions { ring, dials, doorbell, held: AtomicU64::new(0) })
    }

    /// Says how many connections this worker would hold.
    pub(crate) fn offer(&self, connections: u32) {
        self.dials.set_capacity(connections.into());
        self.dials.beat(monotonic_ns());
    }

    /// The dials, for marks.
    pub(crate) fn dials(&self) -> &Dials {
        &self.dials
    }

    /// Says that a serving thread is alive.
    pub(crate) fn beat(&self) {
        self.dials.beat(monotonic_ns());
    }

    /// Says when this worker beats, beginning now.
    pub(crate) fn promise(&self, beats: Beats) {
        self.beat();
        self.dials.promise(beats);
    }

    /// How full the supervisor's waiting line is.
    pub(crate) fn pressure(&self) -> u16 {
        self.dials.pressure()
    }

    /// Notes that a connection was claimed.
    pub(crate) fn note_claim(&self, now_ns: u64) {
        let before = self.held.fetch_add(1, Ordering::Relaxed);
        self.dials.set_held(before + 1);
        self.dials.beat(now_ns);
    }

    /// Gives a claimed connection's credit back to the supervisor.
    ///
    /// # Errors
    /// [`Full`]: this worker was handed more connections than it has credit for, which no supervisor does.
    pub(crate) fn report(&self, completion: &Completion) -> Result<(), Full> {
        let before = self.held.fetch_sub(1, Ordering::Relaxed);
        self.dials.set_held(before.wrapping_sub(1));
        self.dials.beat(completion.done_at_ns);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let reported = ring.producer.report(completion);
        if reported.is_err() && ring.when_full == WhenFull::Counted {
            ring.unrecorded += 1;
            self.dials.set_unrecorded(ring.unrecorded);
            return Ok(());
        }
        match reported? {
            Bell::Silent => {}
            // It can't be full of rings that nobody has heard: the supervisor would have to miss 2^64 of them.
            Bell::Ring => drop(write(&self.doorbell, &1u64.to_ne_bytes())),
        }
        Ok(())
    }
}
