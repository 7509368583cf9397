//! Sends the signals that make a worker go. Before ABRT, which may take what it was doing with it, that is recorded.

use nix::sys::signal::Signal;
use ostler_config::checked::Handoff;
use ostler_pool::{Moment, Step};
use ostler_shared::WorkerId;

use super::jobs::{Job, Occasion};
use super::portrait::SITTING_MAX;
use super::{Driver, child};
use crate::report;

impl Driver {
    pub(super) fn signal(&mut self, worker: WorkerId, step: Step) {
        // KILL waits for nobody, and TERM comes before.
        self.sittings.retain(|(_, sitter)| *sitter != worker);
        if self.signal_at_birth(worker, step) {
            return;
        }
        match step {
            Step::Term | Step::Kill => self.send(worker, step),
            Step::Abort => self.portray_and_abort(worker),
        }
    }

    fn portray_and_abort(&mut self, worker: WorkerId) {
        let Some(link) = self.workers.get(&worker).filter(|link| link.ended.is_none()) else { return };
        match self.jobs.ask(Job::Portray { worker, pid: link.pid, occasion: Occasion::Abort }) {
            Ok(()) => self.sittings.push_back((self.now() + SITTING_MAX, worker)),
            // The helper thread has more to do than there is time for.
            Err(_) => self.send(worker, Step::Abort),
        }
    }

    /// What a worker was doing is known. As long as it is not reaped, its pid is its own, and so is what was read there.
    pub(super) fn portrayed(&mut self, worker: WorkerId, portrait: Vec<String>) {
        let Some(link) = self.workers.get_mut(&worker).filter(|link| link.ended.is_none()) else { return };
        report::portrait(&link.name, &portrait);
        link.portrait = portrait;
        if let Some(place) = self.sittings.iter().position(|(_, sitter)| *sitter == worker) {
            self.sittings.remove(place);
            self.send(worker, Step::Abort);
        }
    }

    /// Those that the helper thread is too slow for are aborted all the same.
    pub(super) fn end_long_sittings(&mut self, now: Moment) {
        while let Some((_, worker)) = self.sittings.pop_front_if(|(until, _)| *until <= now) {
            self.send(worker, Step::Abort);
        }
    }

    fn send(&mut self, worker: WorkerId, step: Step) {
        // A worker whose spawn failed, or whose death we have seen and the pools not yet, has no process.
        let Some(link) = self.workers.get_mut(&worker).filter(|link| link.ended.is_none()) else { return };
        link.sent = Some(step);
        let signal = match step {
            Step::Term => Signal::SIGTERM,
            Step::Abort => Signal::SIGABRT,
            Step::Kill => Signal::SIGKILL,
        };
        let sent = match (link.settings.pool.handoff, step) {
            // The worker of programs passes TERM on to them, as their pool's `drain.signal`.
            (Handoff::Stdio, Step::Term) => child::signal_one(link.pid, signal as i32),
            (Handoff::Stdio, Step::Abort | Step::Kill) | (Handoff::Pass | Handoff::Accept | Handoff::Listen, _) => {
                child::signal_group(link.pid, signal as i32)
            }
        };
        if let Err(error) = sent {
            tracing::warn!(worker = %link.name, "cannot send {signal}: {error}");
        }
    }
}
