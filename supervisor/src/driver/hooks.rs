//! Runs the programs that a pool wants to know of its affairs, beside everything else and never in its way.
//!
//! ```text
//! called ──▶ waiting ──▶ running ──▶ ended
//!    └─ no room ─▶ dropped  └─ deadline: KILL to its group
//! ```
//! Nothing that a hook does or fails to do has a consequence but a line in the log: it may hang, flood, fork, crash or not be
//! there. How many run and wait is bounded, and so is what each may say and how long it may take, also at a stop.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use ostler_pool::{Moment, Urgency};

use super::Driver;
use super::child::{self, Which};
use super::output::{After, FLOOD_PAUSE, Pipe};
use super::sources::Source;
use super::sweep::reap;
use crate::report;

mod call;
mod happening;

use call::{Call, Running};
pub(crate) use call::{CallEnded, How, Title};

/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most that run at a time.
const RUNNING_MAX: usize = 8;
/// Most that wait for others to end; a further one is dropped.
const WAITING_MAX: usize = 1024;
/// What is left for hooks at the end of a stop that has used up its time. Once more so long, for the kernel to end those
/// that were killed then.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// One call's number, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HookNo(pub(super) u64);

/// The hooks of all pools.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    waiting: VecDeque<Call>,
    running: BTreeMap<HookNo, Running>,
    next: u64,
    /// Dropped since somebody last waited.
    dropped: u64,
    /// When the stop under way is to be over.
    stop_by: Option<Moment>,
    /// When the last of them have to be over: nothing else keeps the supervisor.
    end: Option<Moment>,
}

impl Hooks {
    /// Puts a call into the queue, if there is one to be made.
    fn call_any(&mut self, call: Option<Call>) {
        let Some(call) = call else { return };
        if self.waiting.len() >= WAITING_MAX {
            if self.dropped == 0 {
                report::hooks::no_room(&call.title, WAITING_MAX);
            }
            self.dropped += 1;
            return;
        }
        self.waiting.push_back(call);
    }

    pub(super) fn stop_begun(&mut self, urgency: Urgency, now: Moment, stop_timeout: Duration) {
        let by = match urgency {
            Urgency::Graceful => now + stop_timeout,
            Urgency::Now => now,
        };
        self.stop_by = Some(self.stop_by.map_or(by, |before| before.min(by)));
    }

    /// The pools are gone. What is left of the time for the stop is left for hooks.
    pub(super) fn finish(&mut self, now: Moment) {
        let by = self.stop_by.map_or(now, |by| by.max(now)).max(now + LAST_GRACE);
        self.end = Some(by.min(now + DEADLINE));
    }

    /// Whether the supervisor may go.
    pub(super) fn are_over(&self, now: Moment) -> bool {
        let idle = self.waiting.is_empty() && self.running.is_empty();
        idle || self.end.is_some_and(|end| end + LAST_GRACE <= now)
    }

    /// When to look again without an event.
    pub(super) fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let can_start = !self.waiting.is_empty() && self.running.len() < RUNNING_MAX;
        let running = self.running.values().filter_map(|running| running.deadline).min();
        let end = self.end.map(|end| if end > now { end } else { end + LAST_GRACE });
        [can_start.then_some(now), running, end].into_iter().flatten().min()
    }

    pub(super) fn numbered(&self, pid: Pid) -> Option<HookNo> {
        self.running.iter().find(|(_, running)| running.pid == pid).map(|(no, _)| *no)
    }

    pub(super) fn pipe(&self, no: HookNo) -> Option<&Pipe> {
        self.running.get(&no)?.output.as_ref()
    }

    /// How many run, and how many wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }
}

impl Driver {
    /// Starts what may start and ends what is overdue.
    pub(super) fn attend_to_hooks(&mut self, now: Moment) {
        if self.hooks.end.is_some_and(|end| end <= now) {
            self.end_hooks();
        }
        let overdue = |running: &&mut Running| running.deadline.is_some_and(|at| at <= now);
        self.hooks.running.values_mut().filter(overdue).for_each(Running::kill);
        while self.hooks.running.len() < RUNNING_MAX
            && let Some(call) = self.hooks.waiting.pop_front()
        {
            self.start_hook(call, now);
        }
        if self.hooks.waiting.is_empty() && self.hooks.dropped > 0 {
            report::hooks::dropped(std::mem::take(&mut self.hooks.dropped));
        }
    }

    fn end_hooks(&mut self) {
        let left = self.hooks.waiting.len();
        if left > 0 {
            self.hooks.waiting.clear();
            report::hooks::not_run(left);
        }
        self.hooks.running.values_mut().for_each(Running::kill);
    }

    fn start_hook(&mut self, call: Call, now: Moment) {
        let by = now + DEADLINE;
        let deadline = self.hooks.end.map_or(by, |end| end.min(by));
        let no = HookNo(self.hooks.next);
        self.hooks.next += 1;
        let title = call.title.clone();
        let started = call.start(self.limits, deadline).and_then(|running| {
            match self.watch_hook(no, &running) {
                Ok(()) => Ok(running),
                Err(error) => {
                    // Unwatched it would be nobody's. The sweep reaps it as a stranger.
                    let _killed = child::signal_group(running.pid, Signal::SIGKILL as i32);
                    Err(error)
                }
            }
        });
        match started {
            Ok(running) => {
                self.hooks.running.insert(no, running);
            }
            Err(error) => report::hooks::not_started(&title, &error),
        }
    }

    fn watch_hook(&self, no: HookNo, running: &Running) -> io::Result<()> {
        self.sources.add(&running.pidfd, Source::Hook(no.0))?;
        running.output.iter().try_for_each(|pipe| self.sources.add(pipe, Source::HookOutput(no.0)))
    }

    pub(super) fn read_hook_output(&mut self, no: HookNo) {
        let (now, source) = (self.now(), Source::HookOutput(no.0));
        if self.paused.iter().any(|(_, paused)| *paused == source) {
            return;
        }
        let Some(running) = self.hooks.running.get_mut(&no) else { return };
        let Some(pipe) = &mut running.output else { return };
        let said = &mut running.said;
        match pipe.read(&mut |print| said.line(&String::from_utf8_lossy(print.text))) {
            After::WaitOn => {}
            After::Pause => {
                self.sources.remove(&*pipe);
                self.paused.push_back((now + FLOOD_PAUSE, source));
            }
            After::Ended => {
                self.sources.remove(&*pipe);
                pipe.read_remainder(&mut |print| said.line(&String::from_utf8_lossy(print.text)));
                running.output = None;
            }
        }
    }

    /// A hook has ended; it is a zombie still.
    pub(super) fn bury_hook(&mut self, no: HookNo) {
        let Some(mut running) = self.hooks.running.remove(&no) else { return };
        // What it left in its group would hold its pipe, and belongs to nobody.
        let _signalled = child::signal_group(running.pid, Signal::SIGKILL as i32);
        let ended = reap(Which::Pidfd(running.pidfd.as_fd()));
        self.sources.remove(&running.pidfd);
        if let Some(mut pipe) = running.output.take() {
            self.sources.remove(&pipe);
            // Only what is there: somebody who has left the group may hold the other end for ever.
            pipe.read_remainder(&mut |print| running.said.line(&String::from_utf8_lossy(print.text)));
        }
        report::hooks::ended(&running.end(ended));
    }
}
