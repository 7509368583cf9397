//! Hands out the connections that this process claims.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ostler_shared::{PoolName, WorkerName};

use crate::claim::NextError;
use crate::connection::Connection;
use crate::station::Station;

/// This process's place in a pool. Usable from several threads at once.
///
/// Its descriptor ([`AsFd`]) is the mailbox, or where the pool has `handoff = "listen"` an epoll of its listeners, readable when [`Worker::try_next`] has something to say. Its description
/// is shared with the supervisor: register it with an event loop, but never set it non-blocking.
#[derive(Debug)]
pub struct Worker {
    pub(crate) station: Arc<Station>,
}

/// What [`Worker::try_next`] found.
#[derive(Debug)]
pub enum TryNext {
    /// A connection.
    Connection(Connection),
    /// No connection for now: wait until the mailbox is readable.
    Nothing,
    /// A connection waits, but this process has no free descriptor for it. The mailbox stays readable: try again
    /// when a descriptor was closed, or after [`STARVED_RETRY`](crate::STARVED_RETRY).
    Starved,
    /// No more connections will come: finish and leave.
    Drained,
}

impl Worker {
    /// Waits for the next connection. The first call tells the supervisor that this worker is ready.
    ///
    /// `None` when no more connections will come: finish what is claimed, and leave.
    ///
    /// # Errors
    /// [`NextError::Starved`] when this process is out of descriptors for too long: finish, and leave with a
    /// nonzero exit code. The other errors mean that the supervisor is broken: leave as well.
    pub fn next(&self) -> Result<Option<Connection>, NextError> {
        self.station.tell_ready();
        self.station.claim()
    }

    /// As [`Worker::next`], without waiting.
    ///
    /// # Errors
    /// As [`Worker::next`].
    pub fn try_next(&self) -> Result<TryNext, NextError> {
        self.station.tell_ready();
        self.station.try_claim()
    }

    /// How many connections the supervisor lets this worker hold at a time, at least 1.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        usize::try_from(self.station.concurrency).unwrap_or(usize::MAX)
    }

    /// What this worker is called: `pool/slot.generation`.
    #[must_use]
    pub fn name(&self) -> &WorkerName {
        &self.station.name
    }

    /// The pool that it serves.
    #[must_use]
    pub fn pool(&self) -> &PoolName {
        &self.station.name.pool
    }

    /// How full the pool's waiting line is, in thousandths of its limit (`queue.limit`), in steps of 50: 0 when nobody
    /// or hardly anybody waits, 1000 when the line is full.
    ///
    /// It is one read of shared memory, so that it can be asked for every request. A program that can do less for each
    /// client, by leaving out what is dear or by not keeping connections alive, does so while this is high.
    #[must_use]
    pub fn pressure(&self) -> u16 {
        self.station.completions.pressure()
    }

    /// Whether this worker has been asked to leave. Connections may still come out of the mailbox.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.station.is_draining()
    }
}

impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.station.listeners {
            None => self.station.mailbox.as_fd(),
            Some(listeners) => listeners.as_fd(),
        }
    }
}
