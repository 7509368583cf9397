//! Keeps descriptors in reserve, so that a worker at its limit can still receive a connection.
//!
//! A process without a free descriptor receives a connection's ticket and the kernel drops the connection. So
//! the library keeps [`RESERVE`] places of the descriptor table for itself: one to look at a message, one to take
//! it (see claim.rs). A connection that ends gives its place back to the reserve in one step (dup3 closes it and
//! keeps the number), so that a handler which opens files until nothing is left can't get it in between.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{dup2_stderr, dup2_stdout, dup3};
use ostler_shared::sys::fd::duplicate;

/// How many descriptors are kept: one to look, one to take.
pub(crate) const RESERVE: usize = 2;
/// Below this soft limit descriptors count as scarce from the start. The usual one of a shell.
const LOW_LIMIT: u64 = 1024;
/// Duplicates leave the numbers of the standard streams alone.
const ABOVE_STANDARD: i32 = 3;

/// Places in the descriptor table that belong to the library.
#[derive(Debug)]
pub(crate) struct Reserve {
    /// `/dev/null`: what the places are filled with, and where output goes when the supervisor is gone.
    null: OwnedFd,
    kept: Mutex<Kept>,
    /// Whether descriptors may be scarce: the limit is low, or has been met before.
    scarce: AtomicBool,
    /// Rings when a connection gave its place back. One ring is remembered, more would say nothing more.
    bell: (Sender<()>, Receiver<()>),
    /// The same bell, for the task of an event loop.
    #[cfg(feature = "tokio")]
    task_bell: ::tokio::sync::Notify,
}

#[derive(Debug)]
struct Kept {
    places: Vec<OwnedFd>,
    use_now: Use,
}

/// Whether there is a place for one more descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// The process is not known to be near its limit.
    Plenty,
    /// One place, free for the moment.
    Lent,
    /// Not one.
    None,
}

/// Whether a claim is using the free places right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Kept,
    /// Another thread must not fill them.
    Lent,
}

impl Reserve {
    /// Opens the reserve.
    ///
    /// # Errors
    /// When not a single descriptor can be kept.
    pub(crate) fn open() -> io::Result<Reserve> {
        let null = OwnedFd::from(OpenOptions::new().write(true).open("/dev/null")?);
        let first = duplicate(null.as_fd(), ABOVE_STANDARD)?;
        let mut places = Vec::with_capacity(RESERVE);
        places.push(first);
        let kept = Mutex::new(Kept { places, use_now: Use::Kept });
        let reserve = Reserve {
            null,
            kept,
            scarce: AtomicBool::new(limit_is_low()),
            bell: bounded(1),
            #[cfg(feature = "tokio")]
            task_bell: ::tokio::sync::Notify::new(),
        };
        reserve.refill();
        Ok(reserve)
    }

    /// Frees every place for a claim that follows at once. [`Reserve::take_back`] ends the loan.
    pub(crate) fn lend(&self) {
        let mut kept = self.kept();
        kept.use_now = Use::Lent;
        kept.places.clear();
    }

    /// Lends a place for one more descriptor, if descriptors may be scarce.
    pub(crate) fn lend_another(&self) -> Room {
        if !self.scarce.load(Ordering::Relaxed) {
            return Room::Plenty;
        }
        let mut kept = self.kept();
        kept.use_now = Use::Lent;
        self.fill(&mut kept.places);
        let room = if kept.places.is_empty() { Room::None } else { Room::Lent };
        kept.places.clear();
        room
    }

    /// Ends a loan, and fills the reserve as far as there are free descriptors.
    pub(crate) fn take_back(&self) {
        let mut kept = self.kept();
        kept.use_now = Use::Kept;
        self.fill(&mut kept.places);
    }

    /// Fills the reserve as far as there are free descriptors, unless they are free for a claim.
    pub(crate) fn refill(&self) {
        let mut kept = self.kept();
        if kept.use_now == Use::Kept {
            self.fill(&mut kept.places);
        }
    }

    fn fill(&self, places: &mut Vec<OwnedFd>) {
        while places.len() < RESERVE {
            let Ok(place) = duplicate(self.null.as_fd(), ABOVE_STANDARD) else {
                self.scarce.store(true, Ordering::Relaxed);
                return;
            };
            places.push(place);
        }
    }

    /// Closes a connection that has ended; its place goes to the reserve if that lacks one.
    pub(crate) fn close(&self, connection: OwnedFd) {
        self.put_back(connection);
        self.ring();
    }

    /// Closes what a claim had in its hands and can't keep. Nothing is free that was not before, so nobody is woken:
    /// the claimer would only wake itself, again and again.
    pub(crate) fn put_back(&self, mut connection: OwnedFd) {
        let mut kept = self.kept();
        if kept.places.len() < RESERVE && dup3(&self.null, &mut connection, OFlag::O_CLOEXEC).is_ok() {
            kept.places.push(connection);
        } else {
            drop(kept);
            drop(connection);
        }
    }

    /// Says that a descriptor may have become free.
    pub(crate) fn ring(&self) {
        let _already_rung = self.bell.0.try_send(());
        #[cfg(feature = "tokio")]
        self.task_bell.notify_one();
    }

    /// Waits until a descriptor may have become free, at most `longest`.
    pub(crate) fn wait(&self, longest: Duration) {
        let _rung_or_not = self.bell.1.recv_timeout(longest);
    }

    /// As [`Reserve::wait`], for a task. One task at a time.
    #[cfg(feature = "tokio")]
    pub(crate) async fn wait_async(&self, longest: Duration) {
        let _rung_or_not = ::tokio::time::timeout(longest, self.task_bell.notified()).await;
    }

    /// Leads standard output and error to nowhere, so that printing can't fail.
    pub(crate) fn silence_output(&self) {
        let _none_to_tell = dup2_stdout(&self.null).and(dup2_stderr(&self.null));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit_is_low() -> bool {
    getrlimit(Resource::RLIMIT_NOFILE).is_ok_and(|(soft, _hard)| soft < LOW_LIMIT)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_connection_that_ends_gives_its_place_to_a_reserve_that_lacks_one() {
        let reserve = Reserve::open().unwrap();
        assert_eq!(reserve.kept().places.len(), RESERVE);
        reserve.lend();
        let (mut client, served) = UnixStream::pair().unwrap();
        let number = served.as_raw_fd();
        reserve.close(served.into());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the connection is still open");
        assert_eq!(reserve.kept().places[0].as_raw_fd(), number);
        reserve.wait(Duration::MAX); // rung by close, or this hangs
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn a_task_that_waits_for_a_place_is_woken_by_an_end() {
        let reserve = Reserve::open().unwrap();
        let (_client, served) = UnixStream::pair().unwrap();
        let runtime = ::tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let end = ::tokio::task::yield_now();
            let wait = reserve.wait_async(Duration::MAX);
            ::tokio::join!(wait, async {
                end.await;
                reserve.close(served.into());
            });
        });
    }

    #[test]
    fn what_a_claim_puts_back_rings_no_bell() {
        let reserve = Reserve::open().unwrap();
        let (_client, looked_at) = UnixStream::pair().unwrap();
        reserve.put_back(looked_at.into());
        assert!(reserve.bell.1.try_recv().is_err());
    }

    #[test]
    fn what_is_lent_is_not_filled_before_it_is_taken_back() {
        let reserve = Reserve::open().unwrap();
        reserve.lend();
        reserve.refill();
        assert_eq!(reserve.kept().places.len(), 0);
        reserve.take_back();
        assert_eq!(reserve.kept().places.len(), RESERVE);
    }

    #[test]
    fn a_whole_reserve_takes_no_more_places() {
        let reserve = Reserve::open().unwrap();
        let (mut client, served) = UnixStream::pair().unwrap();
        reserve.close(served.into());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(reserve.kept().places.len(), RESERVE);
        reserve.refill();
        assert_eq!(reserve.kept().places.len(), RESERVE);
    }
}
