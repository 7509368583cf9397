//! Sends requests when they are due, one connection each, and notes when the answers come.
//!
//! One thread. A timer of the kernel's wakes it for the next arrival; when it is late itself, that counts against the
//! request, in the same way on every side.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, connect, recv, send, setsockopt, socket, sockopt,
};
use ostler_shared::sys::clock::monotonic_ns;

use crate::alarm::Alarm;
use crate::arrivals::{Arrival, Kind};
use crate::worker::{ANSWER_LEN, Stamp, request};

/// The timer among the connections, which are numbered from 0.
const TIMER: u64 = u64::MAX;
/// How long it looks at the connections without looking at the schedule, where nothing is due.
const IDLE_MS: u16 = 100;

/// A request that was answered. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) kind: Kind,
    pub(crate) due_ns: u64,
    pub(crate) claimed_ns: u64,
    pub(crate) answered_ns: u64,
    /// Who answered.
    pub(crate) pid: u32,
}

impl Answered {
    /// From the scheduled arrival to the answer.
    pub(crate) fn took_ns(&self) -> u64 {
        self.answered_ns.saturating_sub(self.due_ns)
    }

    /// From the scheduled arrival until a worker had it.
    pub(crate) fn waited_ns(&self) -> u64 {
        self.claimed_ns.saturating_sub(self.due_ns)
    }
}

/// A load at work.
pub(crate) struct OpenLoop {
    address: SockaddrIn,
    epoll: Epoll,
    alarm: Alarm,
    /// When the schedule begins.
    begun_ns: u64,
    next: u64,
    asked: BTreeMap<u64, Asked>,
    pub(crate) answered: Vec<Answered>,
    /// Connections that failed: must be 0.
    pub(crate) failures: u64,
    /// How late requests were sent.
    pub(crate) late_ns: Vec<u64>,
}

struct Asked {
    socket: OwnedFd,
    kind: Kind,
    due_ns: u64,
    received: usize,
    answer: [u8; ANSWER_LEN],
}

impl OpenLoop {
    /// The schedule begins now.
    pub(crate) fn start(address: SocketAddrV4) -> nix::Result<OpenLoop> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let alarm = Alarm::among(&epoll, TIMER)?;
        Ok(OpenLoop {
            address: SockaddrIn::from(address),
            epoll,
            alarm,
            begun_ns: monotonic_ns(),
            next: 0,
            asked: BTreeMap::new(),
            answered: Vec::new(),
            failures: 0,
            late_ns: Vec::new(),
        })
    }

    /// The moment that is so long after the beginning.
    pub(crate) fn moment(&self, after: Duration) -> u64 {
        self.begun_ns + u64::try_from(after.as_nanos()).expect("a window is short")
    }

    /// Sends each of these when it is due.
    pub(crate) fn send(&mut self, arrivals: impl Iterator<Item = Arrival>) -> nix::Result<()> {
        for arrival in arrivals {
            let due_ns = self.moment(arrival.at);
            while monotonic_ns() < due_ns {
                self.alarm.set(due_ns)?;
                self.look()?;
            }
            self.ask(arrival.kind, due_ns)?;
        }
        Ok(())
    }

    /// Reads the answers that are still to come, for so long at most.
    pub(crate) fn wait(&mut self, limit: Duration) -> nix::Result<()> {
        let end_ns = monotonic_ns() + u64::try_from(limit.as_nanos()).expect("a limit is short");
        while !self.asked.is_empty() && monotonic_ns() < end_ns {
            self.look()?;
        }
        Ok(())
    }

    /// The same; what is not there in the end has failed.
    pub(crate) fn finish(&mut self, limit: Duration) -> nix::Result<()> {
        self.wait(limit)?;
        self.failures += u64::try_from(self.asked.len()).expect("a count");
        self.asked.clear();
        Ok(())
    }

    fn look(&mut self) -> nix::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(IDLE_MS)) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error),
        };
        for event in &events[..count] {
            match event.data() {
                TIMER => {}
                number => self.receive(number),
            }
        }
        Ok(())
    }

    fn ask(&mut self, kind: Kind, due_ns: u64) -> nix::Result<()> {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // Closing resets, so that no port is left in TIME_WAIT.
        setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        connect(socket.as_raw_fd(), &self.address)?;
        send(socket.as_raw_fd(), &request(kind), MsgFlags::MSG_NOSIGNAL)?;
        self.late_ns.push(monotonic_ns().saturating_sub(due_ns));
        let number = self.next;
        self.next += 1;
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        self.asked.insert(number, Asked { socket, kind, due_ns, received: 0, answer: [0; ANSWER_LEN] });
        Ok(())
    }

    /// Reads what is there of an answer.
    fn receive(&mut self, number: u64) {
        let Some(asked) = self.asked.get_mut(&number) else { return };
        match recv(asked.socket.as_raw_fd(), &mut asked.answer[asked.received..], MsgFlags::MSG_DONTWAIT) {
            Ok(count @ 1..) => asked.received += count,
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Ok(0) | Err(_) => {
                self.failures += 1;
                self.asked.remove(&number);
                return;
            }
        }
        if asked.received < ANSWER_LEN {
            return;
        }
        let answered_ns = monotonic_ns();
        let Some(Asked { kind, due_ns, answer, .. }) = self.asked.remove(&number) else { return };
        let Stamp { pid, claimed_ns } = Stamp::of_answer(&answer);
        self.answered.push(Answered { kind, due_ns, claimed_ns, answered_ns, pid });
    }
}
