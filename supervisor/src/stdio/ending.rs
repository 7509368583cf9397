//! Waits for the processes of a connection, and ends those that outlive the last one.
//!
//! A stage that dies takes nobody along: who reads from it sees the end of its input, who writes to it gets PIPE, and each ends as
//! its program does then. What would never end so is a stage that waits for its client when nobody is left to answer. So when the
//! last one has ended, the connection is shut down in both directions: the client has its answer, the first stage its end of
//! input. Who still lives after half of `drain.kill_after` is asked by `drain.signal`, and killed at the end of it.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use ostler_pool::Exit;
use ostler_worker::{End, ProgramEnd, Stream};

use super::orders::Orders;
use super::starting::{Cut, Running};
use crate::driver::child::{self, Reap, Which};

/// What is done when the last stage has ended.
#[derive(Debug)]
pub(super) struct Last {
    /// The connection, where more than the last stage may use it.
    pub(super) kept: Option<Stream>,
}

/// What comes next for those that outlive the last stage.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Nothing: the last one lives.
    Nothing,
    Ask {
        at: Instant,
        kill_at: Instant,
    },
    Kill {
        at: Instant,
    },
    /// The kernel has been told.
    Killed,
}

struct Stage {
    running: Running,
    end: Option<End>,
}

/// Waits until all of them have ended, and says how.
pub(super) fn wait(running: Vec<Running>, last: Last, orders: &Orders) -> Vec<ProgramEnd> {
    let mut stages: Vec<Stage> = running.into_iter().map(|running| Stage { running, end: None }).collect();
    let (mut last, mut next) = (Some(last), Next::Nothing);
    while stages.iter().any(|stage| stage.end.is_none()) {
        await_an_end(&stages, next);
        stages.iter_mut().for_each(Stage::look);
        let is_over = stages.last().is_none_or(|stage| stage.end.is_some());
        if is_over && let Some(last) = last.take() {
            last.cut();
            let now = Instant::now();
            next = Next::Ask { at: now + orders.kill_after / 2, kill_at: now + orders.kill_after };
        }
        next = next.after(&stages, Instant::now(), orders.drain_signal);
    }
    stages.into_iter().map(Stage::ended).collect()
}

/// Ends those that were started before one could not be.
pub(super) fn abandon(cut: Cut) -> Vec<ProgramEnd> {
    let errno = cut.errno;
    let unborn = cut.of - cut.running.len();
    let mut stages: Vec<Stage> = cut.running.into_iter().map(|running| Stage { running, end: None }).collect();
    stages.iter().for_each(|stage| stage.signal(Signal::SIGKILL as i32));
    while stages.iter().any(|stage| stage.end.is_none()) {
        await_an_end(&stages, Next::Killed);
        stages.iter_mut().for_each(Stage::look);
    }
    let ended = stages.into_iter().map(Stage::ended);
    ended.chain((0..unborn).map(|_| ProgramEnd { pid: 0, end: End::NotStarted(errno) })).collect()
}

impl Last {
    fn cut(self) {
        if let Some(connection) = self.kept {
            // A client that has gone is past being told.
            let _gone = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Next {
    fn after(self, stages: &[Stage], now: Instant, drain_signal: i32) -> Next {
        let living = || stages.iter().filter(|stage| stage.end.is_none());
        match self {
            Next::Ask { at, kill_at } if now >= at => {
                living().for_each(|stage| stage.signal(drain_signal));
                Next::Kill { at: kill_at }
            }
            Next::Kill { at } if now >= at => {
                living().for_each(|stage| stage.signal(Signal::SIGKILL as i32));
                Next::Killed
            }
            Next::Nothing | Next::Ask { .. } | Next::Kill { .. } | Next::Killed => self,
        }
    }

    fn timeout(self) -> PollTimeout {
        let (Next::Ask { at, .. } | Next::Kill { at }) = self else { return PollTimeout::NONE };
        let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    }
}

impl Stage {
    /// Notes its end, if it has ended.
    fn look(&mut self) {
        if self.end.is_some() {
            return;
        }
        let Ok(found) = child::ended_child(Which::Pidfd(self.running.pidfd.as_fd()), Reap::Yes) else { return };
        self.end = found.map(|ended| match ended.exit {
            Exit::Code(code) => End::Code(code),
            Exit::Signal(signal) => End::Signal(signal),
        });
    }

    /// It is not reaped while it has no end here.
    fn signal(&self, signal: i32) {
        // It may be about to end, or belong to somebody else by now (setuid): then it is on its own.
        let _sent: io::Result<()> = child::signal_one(self.running.pid, signal);
    }

    fn ended(self) -> ProgramEnd {
        let end = self.end.expect("waited for");
        ProgramEnd { pid: self.running.pid.as_raw().unsigned_abs(), end }
    }
}

/// Waits until one of them may have ended, or for what comes next.
fn await_an_end(stages: &[Stage], next: Next) {
    let living = stages.iter().filter(|stage| stage.end.is_none());
    let mut living: Vec<PollFd<'_>> =
        living.map(|stage| PollFd::new(stage.running.pidfd.as_fd(), PollFlags::POLLIN)).collect();
    // Interrupted or without memory, it looks once more, which does no harm.
    let _look_anyway = poll(&mut living, next.timeout());
}
