//! Wakes a loop at a moment: a timer of the kernel's among what an epoll waits for, which is as exact as the clock.

use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// A timer that an epoll waits for.
pub(crate) struct Alarm {
    timer: TimerFd,
    set_for_ns: u64,
}

impl Alarm {
    /// One that is known to the epoll by this number.
    pub(crate) fn among(epoll: &Epoll, number: u64) -> nix::Result<Alarm> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        Ok(Alarm { timer, set_for_ns: 0 })
    }

    /// Sets it anew, in nanoseconds of `CLOCK_MONOTONIC`, which also takes back that it has expired.
    pub(crate) fn set(&mut self, due_ns: u64) -> nix::Result<()> {
        if self.set_for_ns == due_ns {
            return Ok(());
        }
        self.set_for_ns = due_ns;
        let due = TimeSpec::from_duration(Duration::from_nanos(due_ns));
        self.timer.set(Expiration::OneShot(due), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }
}
