//! Waits for the kernel to say which descriptor has something to say.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ostler_shared::{ConnId, WorkerId};

/// Most sources that are handled before the loop looks again.
const BATCH: usize = 64;

/// What can have something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Signals arrived.
    Signals,
    /// The helper thread finished something.
    Jobs,
    /// A thread that writes the log has something to report.
    Log,
    /// Somebody connects to the control socket.
    ControlListener,
    /// A client of the control socket.
    Client(u64),
    /// A connection waits at a listener, by its number over all pools.
    Listener(u64),
    /// A worker sent a frame.
    Control(WorkerId),
    /// A worker's process ended.
    Process(WorkerId),
    /// A worker printed.
    Output(WorkerId),
    /// A worker complained.
    Errors(WorkerId),
    /// A worker's exec succeeded or failed.
    Exec(WorkerId),
    /// A worker reported something in shared memory while we waited.
    Doorbell(WorkerId),
    /// A hook's process ended.
    Hook(u64),
    /// A hook printed.
    HookOutput(u64),
    /// The client of a connection in the line has something to say, by silence.
    Waiting(ConnId),
    /// A client that has its last word sends on, or has ended.
    Lingering(ConnId),
    /// A worker said something of itself.
    Notices(WorkerId),
    /// A process of an unmodified program ended, by its number over all of them.
    Owner(u64),
}

/// Bits of a token that tell which one; the rest tells what.
const NUMBER_BITS: u32 = 56;

impl Source {
    fn token(self) -> u64 {
        let (kind, number) = match self {
            Source::Signals => (0, 0),
            Source::Jobs => (1, 0),
            Source::ControlListener => (2, 0),
            Source::Client(number) => (3, number),
            Source::Listener(number) => (4, number),
            Source::Control(worker) => (5, worker.0),
            Source::Process(worker) => (6, worker.0),
            Source::Output(worker) => (7, worker.0),
            Source::Errors(worker) => (8, worker.0),
            Source::Exec(worker) => (9, worker.0),
            Source::Doorbell(worker) => (10, worker.0),
            Source::Hook(number) => (11, number),
            Source::HookOutput(number) => (12, number),
            Source::Waiting(conn) => (13, conn.0),
            Source::Lingering(conn) => (14, conn.0),
            Source::Notices(worker) => (15, worker.0),
            Source::Owner(number) => (16, number),
            Source::Log => (17, 0),
        };
        assert!(number >> NUMBER_BITS == 0, "more than 2^56 of one kind of source");
        kind << NUMBER_BITS | number
    }

    fn of_token(token: u64) -> Source {
        let number = token & ((1 << NUMBER_BITS) - 1);
        match token >> NUMBER_BITS {
            0 => Source::Signals,
            1 => Source::Jobs,
            2 => Source::ControlListener,
            3 => Source::Client(number),
            4 => Source::Listener(number),
            5 => Source::Control(WorkerId(number)),
            6 => Source::Process(WorkerId(number)),
            7 => Source::Output(WorkerId(number)),
            8 => Source::Errors(WorkerId(number)),
            9 => Source::Exec(WorkerId(number)),
            10 => Source::Doorbell(WorkerId(number)),
            11 => Source::Hook(number),
            12 => Source::HookOutput(number),
            13 => Source::Waiting(ConnId(number)),
            14 => Source::Lingering(ConnId(number)),
            15 => Source::Notices(WorkerId(number)),
            16 => Source::Owner(number),
            17 => Source::Log,
            kind => unreachable!("epoll gave a token that we never made: kind {kind}"),
        }
    }
}

/// The descriptors that are waited for. Level-triggered, but for doorbells and those who wait in the line: what is not
/// taken now is said again.
#[derive(Debug)]
pub(crate) struct Sources {
    epoll: Epoll,
}

impl Sources {
    pub(crate) fn new() -> io::Result<Sources> {
        Ok(Sources { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Waits for `fd` to become readable, or to end.
    pub(crate) fn add(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, source.token()))?)
    }

    /// Waits for a write to an eventfd. Edge-triggered: each write is told once, and the counter is never read, which saves
    /// a system call per ring (eventfd(2), epoll(7)).
    pub(crate) fn add_doorbell(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, source.token()))?)
    }

    /// Waits for the end of a conversation, each step towards it once: what a client sends wakes nobody (epoll(7)).
    pub(crate) fn add_waiting(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET, source.token()))?)
    }

    /// Changes what is waited for on `fd`.
    pub(crate) fn change(&self, fd: impl AsFd, source: Source, flags: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, source.token()))?)
    }

    /// Stops waiting for `fd`. That it was not waited for is no error.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        match self.epoll.delete(fd) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => panic!("cannot stop waiting for a descriptor of ours: {error}"),
        }
    }

    /// Waits until something has something to say, a signal comes, or `timeout` (`None`: for ever) is over.
    ///
    /// # Panics
    /// When epoll_wait fails for another reason than a signal: the loop would spin on it.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Vec<Source> {
        let mut events = [EpollEvent::empty(); BATCH];
        let count = match self.epoll.wait(&mut events, whole_milliseconds(timeout)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => panic!("epoll_wait on our own descriptor failed: {error}"),
        };
        events[..count].iter().map(|event| Source::of_token(event.data())).collect()
    }
}

/// Rounded up, so that a deadline has passed when the wait is over.
fn whole_milliseconds(timeout: Option<Duration>) -> EpollTimeout {
    let Some(timeout) = timeout else { return EpollTimeout::NONE };
    let ms = timeout.as_nanos().div_ceil(1_000_000);
    EpollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_survives_its_token() {
        let worker = WorkerId(77);
        for source in [
            Source::Signals,
            Source::Jobs,
            Source::ControlListener,
            Source::Client(3),
            Source::Listener(4),
            Source::Control(worker),
            Source::Process(worker),
            Source::Output(worker),
            Source::Errors(worker),
            Source::Exec(worker),
            Source::Doorbell(worker),
            Source::Hook(5),
            Source::HookOutput(6),
            Source::Waiting(ConnId(5)),
            Source::Lingering(ConnId(6)),
            Source::Notices(worker),
            Source::Owner(7),
        ] {
            assert_eq!(Source::of_token(source.token()), source);
        }
    }

    #[test]
    fn a_wait_is_never_shorter_than_its_deadline() {
        assert_eq!(whole_milliseconds(Some(Duration::from_nanos(1))), EpollTimeout::from(1u8));
        assert_eq!(whole_milliseconds(Some(Duration::ZERO)), EpollTimeout::ZERO);
        assert_eq!(whole_milliseconds(None), EpollTimeout::NONE);
    }
}
