//! Looks at what a worker is doing that takes long over a request (`watchdog.slow`), and says so in the log: from outside, as /proc
//! shows it, and from inside, where its library prints its stacks at a signal.

use ostler_shared::{ConnId, WorkerId, WorkerName};

use super::jobs::{Job, Occasion};
use super::{Driver, child};
use crate::report;

impl Driver {
    /// The log has said that a request is slow. Of several at a time, the worker is looked at once: they share what it does.
    pub(super) fn look_at_slow_one(&mut self, name: &WorkerName, conn: ConnId) {
        let Some((worker, link)) = self.workers.iter_mut().find(|(_, link)| link.name == *name) else { return };
        if link.is_looked_at || link.ended.is_some() {
            return;
        }
        // Without a place among the jobs there is no record: the note was made.
        let job = Job::Portray { worker: *worker, pid: link.pid, occasion: Occasion::Slow(conn) };
        link.is_looked_at = self.jobs.ask(job).is_ok();
        if let Some(signal) = self.rings.stacks(link.ring) {
            // What it prints comes as its other lines do.
            if let Err(error) = child::signal_one(link.pid, signal) {
                tracing::warn!(worker = %link.name, "cannot ask it for its stacks: {error}");
            }
        }
    }

    /// What it was doing. As long as it is not reaped, its pid is its own.
    pub(super) fn slow_one_seen(&mut self, worker: WorkerId, conn: ConnId, portrait: &[String]) {
        let Some(link) = self.workers.get_mut(&worker).filter(|link| link.ended.is_none()) else { return };
        link.is_looked_at = false;
        report::slow(&link.name, conn, portrait);
    }
}
