//! Passes on what the pools note: to the log, the record of deaths, the hooks, and the service manager.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use ostler_pool::{Cause, Exit, Moment, Note, Settings, Step};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::{WorkerId, WorkerName};

use super::Driver;
use super::child::Ended;
use super::link::Link;
use super::oom::OutOfMemory;
use super::worker_notify::Notices;
use crate::deaths::Death;
use crate::report::{self, Experience};

/// What is left of a dead worker until the pools have said what its death meant.
#[derive(Debug)]
pub(super) struct Remains {
    ended: Ended,
    out_of_memory: OutOfMemory,
    sent: Option<Step>,
    heartbeat_ago: Option<Duration>,
    last_words: Vec<String>,
    settings: Arc<Settings>,
    portrait: Vec<String>,
}

impl Driver {
    pub(super) fn note(&mut self, note: &Note) {
        self.write_epitaph(report::failure_noted(note));
        self.note_for_the_manager(note);
        self.note_for_the_board(note);
        match note {
            Note::Stuck { worker, recalled } => {
                report::stuck(worker, *recalled, self.last_sign_of(worker), self.experience_of(worker));
            }
            Note::Slow { worker, conn, .. } => {
                report::note(note, &self.epitaphs);
                self.look_at_slow_one(worker, *conn);
            }
            Note::Died { id, .. } => {
                let remains = self.remains.remove(id).expect("a death that the driver reported");
                let settings = Arc::clone(&remains.settings);
                if let Some(death) = inquest(note, remains) {
                    report::died(&death);
                    self.call_exit(&settings, &death);
                    self.deaths.record(death);
                }
            }
            note => report::note(note, &self.epitaphs),
        }
        if let Note::StopBegun { urgency } = note {
            self.readiness.stopping(self.config.supervisor.stop_timeout);
            self.hooks.stop_begun(*urgency, self.clock.now(), self.config.supervisor.stop_timeout);
        }
        self.call_hooks(note);
    }

    fn note_for_the_manager(&mut self, note: &Note) {
        if let Some(verdict) = report::reload_verdict(note) {
            self.readiness.reloaded(&verdict);
        }
        if report::is_about_workers(note) {
            self.readiness.news_arrived();
        }
        if matches!(note, Note::Ready { .. } | Note::TemplateReady { .. }) {
            let patience = self.patience();
            self.readiness.progress(patience);
        }
    }

    pub(super) fn keep_remains(&mut self, worker: WorkerId, link: &Link, ended: Ended) {
        let by_kill = ended.exit == Exit::Signal(Signal::SIGKILL as i32);
        let out_of_memory = match link.sent {
            Some(Step::Term | Step::Abort) | None if by_kill => self.oom.explains_a_death(),
            // Whoever we killed ourselves did not die of anything else.
            Some(Step::Term | Step::Abort | Step::Kill) | None => OutOfMemory::No,
        };
        let remains = Remains {
            ended,
            out_of_memory,
            sent: link.sent,
            heartbeat_ago: self.heartbeat_ago(link),
            last_words: link.last_words.lines(),
            settings: Arc::clone(&link.settings),
            portrait: link.portrait.clone(),
        };
        self.remains.insert(worker, remains);
    }

    /// How long ago a serving thread of a worker was last heard of, by its own words.
    fn last_sign_of(&self, name: &WorkerName) -> Option<Duration> {
        let link = self.workers.values().find(|link| link.name == *name)?;
        self.heartbeat_ago(link)
    }

    /// Whether a worker has ever claimed something, where its own memory can tell.
    fn experience_of(&self, name: &WorkerName) -> Experience {
        let link = self.workers.values().find(|link| link.name == *name);
        match link.and_then(|link| self.rings.table(link.ring)) {
            Some(table) if !table.has_claimed() => Experience::None,
            Some(_) | None => Experience::Some,
        }
    }

    pub(super) fn heartbeat_ago(&self, link: &Link) -> Option<Duration> {
        let heard_at = self.heartbeat_at_ns(link)?;
        // By the kernel's clock, which is the worker's: ours leaves absences out.
        Some(Moment::from_ns(monotonic_ns()).since(Moment::from_ns(heard_at)))
    }

    /// When a worker was last heard of, by the kernel's clock.
    pub(super) fn heartbeat_at_ns(&self, link: &Link) -> Option<u64> {
        let notified_at = link.notices.as_ref().and_then(Notices::alive_at_ns);
        self.rings.hints(link.ring).heartbeat_ns.max(notified_at)
    }
}

/// Puts together what the pools and the kernel say about a death. Whoever dies closes its control channel, and which of the two
/// is noticed first is chance: that is a cause only where the worker did not go of it, and had to be sent a signal.
fn inquest(note: &Note, remains: Remains) -> Option<Death> {
    let Note::Died { id, worker, exit, asked, age, done, lost, redelivered } = note else { return None };
    Some(Death {
        at: SystemTime::now(),
        worker: worker.clone(),
        id: *id,
        pid: remains.ended.pid.as_raw(),
        exit: *exit,
        core: remains.ended.core,
        out_of_memory: remains.out_of_memory,
        cause: asked.filter(|cause| *cause != Cause::HungUp || remains.sent.is_some()),
        sent: remains.sent,
        age: *age,
        done: *done,
        lost: *lost,
        redelivered: *redelivered,
        heartbeat_ago: remains.heartbeat_ago,
        usage: remains.ended.usage,
        last_words: remains.last_words,
        portrait: remains.portrait,
    })
}
