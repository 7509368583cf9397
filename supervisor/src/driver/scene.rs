//! Puts together what is published of a pool: what the pool knows, and what only the driver does.

use std::time::Duration;

use ostler_config::checked::Handoff;
use ostler_pool::{Exit, Moment, PoolSnapshot, Quantile, ReloadOutcome, Tells, TemplateSnapshot, WorkerSnapshot};
use ostler_shared::marks::Sign;
use ostler_shared::scoreboard::content::{self, LastExit, Pool, Template, Word, Worker};

use super::Driver;
use super::link::Link;
use super::publishing::ns;
use crate::{report, status};

/// One instant, by the pools' clock and by the kernel's, which has no absences taken out.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) now: Moment,
    pub(super) kernel_ns: u64,
}

impl View {
    /// When that was by the kernel's clock, as far from now as the pools saw it.
    pub(super) fn at(self, moment: Moment) -> u64 {
        self.kernel_ns.saturating_sub(ns(self.now.since(moment)))
    }
}

impl Driver {
    pub(super) fn pool_scene(&self, view: View, pool: &PoolSnapshot) -> Pool {
        let (last_reload, undone_because) = match &pool.reload {
            ReloadOutcome::None => ("none", None),
            ReloadOutcome::Ok => ("ok", None),
            ReloadOutcome::Undone(setback) => ("undone", Some(report::reason(setback))),
        };
        Pool {
            name: pool.name.to_string().into(),
            state: status::pool_state(pool.state).into(),
            generation: pool.generation.0,
            handoff: handoff(pool.handoff).into(),
            listeners: self.doors.of(pool.no).map(|(_, door)| door.listener.shown.clone()).collect(),
            target: pool.target,
            stuck: u32::try_from(pool.stuck).unwrap_or(u32::MAX),
            books: books(pool),
            tally: pool.tally,
            in_line: handed_out(pool, pool.in_line),
            queue_limit: handed_out(pool, pool.queue_limit),
            first_in_line_at_ns: pool.first_in_line.map(|at| view.at(at)),
            queue_delay: pool.queue_delay.map(quantile),
            service: pool.service.map(quantile),
            waits: pool.waits,
            services: pool.services,
            last_reload: last_reload.into(),
            undone_because,
            workers: pool.workers.iter().map(|worker| self.worker_scene(view, worker)).collect(),
            templates: pool.templates.iter().map(|template| self.template_scene(view, template)).collect(),
        }
    }

    fn template_scene(&self, view: View, template: &TemplateSnapshot) -> Template {
        Template {
            id: template.id.0,
            generation: template.generation.0,
            pid: self.workers.get(&template.id).map(|link| link.pid.as_raw()),
            state: status::worker_state(template.state).into(),
            spawned_at_ns: view.kernel_ns.saturating_sub(ns(template.age)),
            forked: template.forked,
        }
    }

    fn worker_scene(&self, view: View, worker: &WorkerSnapshot) -> Worker {
        let link = worker.id.and_then(|id| self.workers.get(&id));
        // What is empty is not asked: a system call for each idle worker adds up.
        let depth = link.filter(|_| worker.outstanding > 0).map_or(0, Link::depth);
        Worker {
            slot: worker.slot.0,
            generation: worker.generation.0,
            id: worker.id.map(|id| id.0),
            pid: link.map(|link| link.pid.as_raw()),
            state: status::worker_state(worker.state).into(),
            state_since_ns: worker.since.map(|since| view.at(since)),
            outstanding: known(worker.tells, worker.outstanding),
            // A mailbox never holds more than was handed; if it seems to, the worker is telling tales of its own.
            in_mailbox: known(worker.tells, depth.min(worker.outstanding)),
            done: known(worker.tells, worker.done),
            capacity: worker.capacity,
            spawned_at_ns: worker.id.map(|_| view.kernel_ns.saturating_sub(ns(worker.age))),
            restarts: worker.restarts,
            last_exit: worker.last_exit.map(|(exit, at)| last_exit(exit, view.at(at))),
            heartbeat_at_ns: link.and_then(|link| self.heartbeat_at_ns(link)),
            oldest_handed_at_ns: worker.oldest_handed.map(|at| view.at(at)),
            busy_since_ns: link.filter(|_| worker.outstanding > 0).and_then(|link| self.busy_since(link)),
            says: link.and_then(|link| link.notices.as_ref()?.status()).map(str::to_owned),
            estimated: link.map(|link| self.escapes(link)).unwrap_or_default(),
        }
    }

    /// How a worker's connections have got out of its library's sight, in words.
    fn escapes(&self, link: &Link) -> Vec<Word> {
        let table = self.rings.table(link.ring);
        table.map(|table| table.escapes().map(|escape| escape.word().into()).collect()).unwrap_or_default()
    }

    /// Since when a worker is at its longest request, by its own words.
    fn busy_since(&self, link: &Link) -> Option<u64> {
        let busy = self.rings.marks(link.ring).filter_map(|(_, sign)| match sign {
            Sign::Busy { since_ns } => Some(since_ns),
            Sign::Idle | Sign::Unmarked => None,
        });
        busy.min()
    }
}

fn handoff(handoff: Handoff) -> &'static str {
    match handoff {
        Handoff::Pass => "pass",
        Handoff::Accept => "accept",
        Handoff::Listen => "listen",
        Handoff::Stdio => "stdio",
    }
}

fn books(pool: &PoolSnapshot) -> content::Books {
    content::Books {
        accepted: known(pool.tells, pool.accepted),
        done: known(pool.tells, pool.done),
        failed: known(pool.tells, pool.failed),
        lost: known(pool.tells, pool.lost),
        handed: handed_out(pool, pool.handed),
        recalled: handed_out(pool, pool.recalled),
        redelivered: handed_out(pool, pool.redelivered),
        shed: content::Shed {
            queue_full: pool.shed.queue_full,
            queue_timeout: pool.shed.queue_timeout,
            client_gone: pool.shed.client_gone,
            per_uid: pool.shed.per_uid,
            stopping: pool.shed.stopping,
        },
    }
}

/// What nobody counts is `None`, never 0.
fn known(tells: Tells, number: u64) -> Option<u64> {
    match tells {
        Tells::Everything => Some(number),
        Tells::Nothing => None,
    }
}

/// A number about what passes through our hands: nothing does where workers accept for themselves.
fn handed_out<T>(pool: &PoolSnapshot, number: T) -> Option<T> {
    match pool.handoff {
        Handoff::Pass | Handoff::Accept | Handoff::Stdio => Some(number),
        Handoff::Listen => None,
    }
}

fn last_exit(exit: Exit, at_ns: u64) -> LastExit {
    let (code, signal) = match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    LastExit { code, signal, at_ns }
}

fn quantile(told: Quantile) -> content::Quantile {
    let whole = |length: Duration| ns(length);
    content::Quantile { p50_ns: whole(told.p50), p99_ns: whole(told.p99) }
}
