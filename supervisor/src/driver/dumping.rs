//! Writes the state of everything into the log: what `status` says, and what only somebody who hunts a fault wants to know.
//!
//! It asks nobody and waits for nobody, so that it works when every worker is stuck.

use std::time::Duration;

use ostler_config::format_duration;
use ostler_pool::{Moment, PoolSnapshot, TemplateSnapshot, WorkerSnapshot};

use super::{Driver, jobs, limits};
use crate::{report, status};

/// Most lines of one dump; a log is no place for the rest of a thousand workers.
const LINES_MAX: usize = 512;

impl Driver {
    /// Logs the state, and answers with where the log is.
    pub(super) fn dump(&mut self) -> String {
        let mut lines = self.own_lines();
        let now = self.now();
        for pool in self.pools.snapshot(now) {
            lines.extend(self.pool_lines(now, &pool));
        }
        if lines.len() > LINES_MAX {
            let left = lines.len() - LINES_MAX;
            lines.truncate(LINES_MAX);
            lines.push(format!("… and {left} lines more: `ostler status --json` has all workers"));
        }
        report::dump(&lines.join("\n"));
        format!("the state is in the log of pid {}, which goes to {}", std::process::id(), self.log.place())
    }

    fn own_lines(&self) -> Vec<String> {
        let now = self.now();
        let open = std::fs::read_dir("/proc/self/fd").map_or_else(|_| "?".to_owned(), |fds| fds.count().to_string());
        let jobs::Counts { asked, done } = self.jobs.counts();
        let (running, waiting) = self.hooks.counts();
        vec![
            format!(
                "state of ostler {} pid {} · {} · up {}",
                env!("CARGO_PKG_VERSION"),
                std::process::id(),
                self.state(),
                brief(now.since(self.started_at))
            ),
            format!(
                "  descriptors {open} of {} · parked connections {} · paused sources {} · events {}",
                limits::in_force(),
                self.parking.len(),
                self.paused.len(),
                self.events.len()
            ),
            format!(
                "  dead with mail left {} · to be asked for a sign of life {} · next deadline {}",
                self.starved.len(),
                self.unasked.len(),
                until(now, self.pools.next_deadline())
            ),
            format!("  jobs asked {asked}, done {done} · hooks running {running}, waiting {waiting}"),
            format!(
                "  clients {} · waiting for an answer {}, for the end {}",
                self.server.client_count(),
                self.requests.len(),
                self.awaiting_end.len()
            ),
        ]
    }

    fn pool_lines(&self, now: Moment, pool: &PoolSnapshot) -> Vec<String> {
        let listeners: Vec<String> = self
            .doors
            .of(pool.no)
            .map(|(_, door)| format!("{} ({:?}, {:?})", door.listener.shown, door.stage, door.watch))
            .collect();
        let mut lines = vec![
            format!(
                "pool {} · {} · generation {} · target {} · {}",
                pool.name,
                status::pool_state(pool.state),
                pool.generation,
                pool.target,
                listeners.join(" ")
            ),
            format!(
                "  accepted {} · done {} · lost {} · line {} of {} · outstanding {} · handed {} · recalled {} · redelivered {}",
                pool.accepted,
                pool.done,
                pool.lost,
                pool.in_line,
                pool.queue_limit,
                pool.outstanding,
                pool.handed,
                pool.recalled,
                pool.redelivered
            ),
        ];
        lines.extend(pool.workers.iter().map(|worker| self.worker_line(pool, worker)));
        lines.extend(pool.templates.iter().map(|template| self.template_line(pool, template)));
        let timers = self.pools.timers(pool.no);
        lines.extend(timers.iter().map(|timer| format!("  timer {} · {}", until(now, Some(timer.at)), timer.what)));
        lines
    }

    fn template_line(&self, pool: &PoolSnapshot, template: &TemplateSnapshot) -> String {
        let pid = self.workers.get(&template.id).map_or_else(|| "none".to_owned(), |link| link.pid.to_string());
        format!(
            "  template {}/template.{} id {} pid {pid} · {} · forked {} · asked for {} more · age {}",
            pool.name,
            template.generation,
            template.id,
            status::worker_state(template.state),
            template.forked,
            self.unborn_of(template.id),
            brief(template.age),
        )
    }

    fn worker_line(&self, pool: &PoolSnapshot, worker: &WorkerSnapshot) -> String {
        let name = format!("{}/{}.{}", pool.name, worker.slot, worker.generation);
        let state = status::worker_state(worker.state);
        let Some((id, link)) = worker.id.and_then(|id| Some((id, self.workers.get(&id)?))) else {
            return format!("  worker {name} · {state} · restarts {}", worker.restarts);
        };
        let depth = link.depth().min(worker.outstanding);
        let asked = match link.asked {
            Some(nonce) => format!("asked for a sign of life ({nonce})"),
            None => "not asked".to_owned(),
        };
        let heard = self.heartbeat_ago(link).map_or_else(|| "never".to_owned(), |ago| format!("{} ago", brief(ago)));
        format!(
            "  worker {name} id {id} pid {} · {state}, {:?} · claimed {} waiting {depth} of {} · done {} · age {} · \
             last heard of {heard} · {asked} · restarts {}",
            link.pid,
            link.manners,
            worker.outstanding - depth,
            worker.capacity,
            worker.done,
            brief(worker.age),
            worker.restarts,
        )
    }
}

fn until(now: Moment, at: Option<Moment>) -> String {
    at.map_or_else(|| "none".to_owned(), |at| format!("in {}", brief(at.since(now))))
}

/// To whole milliseconds.
fn brief(length: Duration) -> String {
    format_duration(Duration::from_millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
}
