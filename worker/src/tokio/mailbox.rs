//! Watches the mailbox with the event loop of tokio.
//!
//! The mailbox's description is the supervisor's too, so it stays blocking: claims say for themselves that they don't
//! wait. Only the readiness comes from here.
//!
//! This is the one unsafe door of the feature; `docs/decisions/0003-unsafe-doors.md` tells why there is one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A worker whose mailbox is registered with the runtime.
#[derive(Debug)]
pub(super) struct Mailbox(AsyncFd<Registered>);

/// Gives away the number of its mailbox, as tokio wants it.
#[derive(Debug)]
struct Registered(crate::Worker);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Mailbox {
    /// Registers the mailbox with the runtime that this is called in.
    ///
    /// # Errors
    /// As epoll_ctl(2): `ENOMEM`, `ENOSPC`.
    ///
    /// # Panics
    /// Outside of a runtime with I/O.
    pub(super) fn watch(worker: crate::Worker) -> io::Result<Mailbox> {
        // SAFETY: the number has to be open and lead to the same description until the AsyncFd is gone. The mailbox is
        // an OwnedFd in the station, which nothing ever replaces and which the worker inside keeps alive.
        #[allow(unsafe_code)]
        let registered = unsafe { AsyncFd::register_with_interest(Registered(worker), Interest::READABLE) };
        Ok(Mailbox(registered?))
    }

    pub(super) fn worker(&self) -> &crate::Worker {
        &self.0.get_ref().0
    }

    pub(super) fn into_worker(self) -> crate::Worker {
        self.0.into_inner().0
    }

    /// Waits until the mailbox may have changed since the last call. At its end that is always.
    ///
    /// Readiness is an edge, and this takes it: look into the mailbox after every call, and before the first. One task
    /// at a time, or a task may take the edge that was meant for another.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub(super) async fn stirred(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
