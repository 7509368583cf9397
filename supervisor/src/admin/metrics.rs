//! Turns what is published into metrics. Pure: the same state and instant in, the same text out.
//!
//! Names and meanings are a promise, written down in `docs/metrics.md`. Workers are told apart by their slot, which is the same
//! after any number of replacements, so that the number of series stays what it is.

use std::collections::BTreeMap;

use ostler_shared::scoreboard::Content;
use ostler_shared::scoreboard::content::{Pool, Template, Worker};

use super::exposition::{Exposition, Kind, seconds};
use Kind::{Counter, Gauge};

/// Slots of one pool that have series of their own; `ostler_pool_slots_unlisted` says how many have not.
const SLOTS_LISTED_MAX: usize = 1024;

const POOL_STATES: [&str; 7] = ["starting", "ready", "degraded", "failed", "paused", "draining", "stopped"];
const WORKER_STATES: [&str; 5] = ["starting", "ready", "draining", "leaving", "backoff"];
const TEMPLATE_STATES: [&str; 4] = ["starting", "ready", "draining", "leaving"];
const SUPERVISOR_STATES: [&str; 4] = ["running", "reloading", "draining", "stopping"];

/// Whether this is the pool that answers here.
pub(super) fn is_own(pool: &Pool) -> bool {
    pool.name == "admin"
}

/// The metrics of a state, at an instant of `CLOCK_MONOTONIC`.
pub(super) fn text(content: &Content, now_ns: u64) -> String {
    let mut out = Exposition::default();
    supervisor(&mut out, content, now_ns);
    pools(&mut out, content);
    connections(&mut out, content, now_ns);
    workers(&mut out, content);
    templates(&mut out, content, now_ns);
    let slots = content.pools.iter().map(|pool| (pool.name.as_ref(), Slot::all_of(pool))).collect::<Vec<_>>();
    each_slot(&mut out, &slots, now_ns);
    out.into_text()
}

fn supervisor(out: &mut Exposition, content: &Content, now_ns: u64) {
    let all = &content.supervisor;
    let build = [("version", all.version.as_ref())];
    out.family(Gauge, "ostler_build_info", "The version that runs; always 1.").sample(&build, 1);
    let since_start = seconds(all.published_at_ns.saturating_sub(all.started_at_ns));
    let started = seconds(all.published_at_unix_ms.saturating_mul(1_000_000)) - since_start;
    out.family(Gauge, "ostler_start_time_seconds", "When the supervisor started, since 1970.")
        .sample(&[], (started * 1e3).round() / 1e3);
    let age = seconds(now_ns.saturating_sub(all.published_at_ns));
    out.family(
        Gauge,
        "ostler_published_age_seconds",
        "How old all of this is; it is published when something changes.",
    )
    .sample(&[], age);
    let mut state = out.family(Gauge, "ostler_state", "1 for the state that the supervisor is in.");
    SUPERVISOR_STATES.iter().for_each(|one| state.sample(&[("state", one)], u8::from(all.state == *one)));
    out.family(Counter, "ostler_turns_total", "Turns of the supervisor's loop.").sample(&[], all.turns.count);
    out.family(Counter, "ostler_turns_busy_seconds_total", "How long these turns took together.")
        .sample(&[], seconds(all.turns.busy_ns));
    out.family(Gauge, "ostler_turns_longest_seconds", "The longest turn between the last two publications.")
        .sample(&[], seconds(all.turns.longest_ns));
    out.family(Counter, "ostler_log_lines_dropped_total", "Lines of the log that nobody read fast enough.")
        .sample(&[], all.log_lines_dropped);
    let mut reloads = out.family(Counter, "ostler_reloads_total", "Reloads that are over.");
    reloads.sample(&[("outcome", "ok")], all.reloads_ok);
    reloads.sample(&[("outcome", "undone")], all.reloads_undone);
}

/// One family with a number for each pool that has it.
fn each_pool<T: std::fmt::Display>(
    out: &mut Exposition,
    content: &Content,
    (kind, name, help): (Kind, &'static str, &'static str),
    number: impl Fn(&Pool) -> Option<T>,
) {
    let mut family = out.family(kind, name, help);
    for pool in &content.pools {
        family.known(&[("pool", &pool.name)], number(pool));
    }
}

fn pools(out: &mut Exposition, content: &Content) {
    let mut state = out.family(Gauge, "ostler_pool_state", "1 for the state that a pool is in.");
    for pool in &content.pools {
        for one in POOL_STATES {
            state.sample(&[("pool", &pool.name), ("state", one)], u8::from(pool.state == one));
        }
    }
    let family = (Gauge, "ostler_pool_generation", "The generation that the last complete reload brought.");
    each_pool(out, content, family, |pool| Some(pool.generation));
    let mut reloads = out.family(Counter, "ostler_pool_reloads_total", "Reloads of a pool that are over.");
    for pool in &content.pools {
        reloads.sample(&[("pool", &pool.name), ("outcome", "ok")], pool.tally.reloads_ok);
        reloads.sample(&[("pool", &pool.name), ("outcome", "undone")], pool.tally.reloads_undone);
    }
    let family = (Gauge, "ostler_pool_workers_target", "Workers that a pool is to have.");
    each_pool(out, content, family, |pool| Some(pool.target));
    let mut count =
        out.family(Gauge, "ostler_pool_workers", "Workers by state; slots that wait for one are in backoff.");
    for pool in &content.pools {
        for one in WORKER_STATES {
            let workers = pool.workers.iter().filter(|worker| worker.state == one).count();
            count.sample(&[("pool", &pool.name), ("state", one)], workers);
        }
    }
    let family = (Gauge, "ostler_pool_workers_stuck", "Workers that are found stuck and handed nothing.");
    each_pool(out, content, family, |pool| Some(pool.stuck));
    let family = (Gauge, "ostler_pool_slots_unlisted", "Slots without series of their own, where there are too many.");
    each_pool(out, content, family, |pool| {
        let unlisted = Slot::count(pool).saturating_sub(SLOTS_LISTED_MAX);
        (unlisted > 0).then_some(unlisted)
    });
}

fn connections(out: &mut Exposition, content: &Content, now_ns: u64) {
    let family = (Counter, "ostler_connections_accepted_total", "Connections that were accepted.");
    each_pool(out, content, family, |pool| pool.books.accepted);
    let family = (Counter, "ostler_connections_done_total", "Connections that were served, with any outcome.");
    each_pool(out, content, family, |pool| pool.books.done);
    let family = (Counter, "ostler_connections_failed_total", "Of those that are done, those that did not go well.");
    each_pool(out, content, family, |pool| pool.books.failed);
    let family = (Counter, "ostler_connections_lost_total", "Connections that died with the worker that held them.");
    each_pool(out, content, family, |pool| pool.books.lost);
    let mut shed = out.family(Counter, "ostler_connections_shed_total", "Connections let go without being served.");
    for pool in &content.pools {
        let counts = pool.books.shed;
        for (reason, count) in [
            ("queue_full", counts.queue_full),
            ("queue_timeout", counts.queue_timeout),
            ("client_gone", counts.client_gone),
            ("per_uid", counts.per_uid),
            ("stopping", counts.stopping),
        ] {
            let known = pool.books.accepted.map(|_| count);
            shed.known(&[("pool", &pool.name), ("reason", reason)], known);
        }
    }
    let family = (Counter, "ostler_connections_handed_total", "Handoffs to workers, repeated ones included.");
    each_pool(out, content, family, |pool| pool.books.handed);
    let family = (Counter, "ostler_connections_recalled_total", "Connections taken back from workers that live.");
    each_pool(out, content, family, |pool| pool.books.recalled);
    let family = (Counter, "ostler_connections_redelivered_total", "Unclaimed connections that outlived their worker.");
    each_pool(out, content, family, |pool| pool.books.redelivered);
    let family = (Gauge, "ostler_connections_waiting", "Connections in the line and in mailboxes.");
    each_pool(out, content, family, |pool| pool.books.accepted.map(|_| waiting(pool)));
    let family = (Gauge, "ostler_connections_claimed", "Connections in the hands of workers.");
    each_pool(out, content, family, |pool| pool.books.accepted.map(|_| claimed(pool)));
    let family = (Gauge, "ostler_queue_length", "Connections in the line.");
    each_pool(out, content, family, |pool| pool.in_line);
    let family = (Gauge, "ostler_queue_limit", "Most connections that may wait in the line.");
    each_pool(out, content, family, |pool| pool.queue_limit);
    let family =
        (Gauge, "ostler_queue_oldest_seconds", "How long the first in the line has waited; 0 when it is empty.");
    each_pool(out, content, family, |pool| {
        pool.in_line.map(|_| pool.first_in_line_at_ns.map_or(0.0, |at| seconds(now_ns.saturating_sub(at))))
    });
    let mut waits =
        out.family(Kind::Histogram, "ostler_waiting_seconds", "How long connections waited before each handoff.");
    for pool in content.pools.iter().filter(|pool| pool.in_line.is_some()) {
        waits.histogram(&[("pool", &pool.name)], &pool.waits);
    }
    let mut services = out.family(Kind::Histogram, "ostler_service_seconds", "How long workers held connections.");
    for pool in content.pools.iter().filter(|pool| pool.books.done.is_some()) {
        services.histogram(&[("pool", &pool.name)], &pool.services);
    }
}

fn in_mailbox(worker: &Worker) -> u64 {
    worker.in_mailbox.min(worker.outstanding).unwrap_or(0)
}

fn waiting(pool: &Pool) -> u64 {
    pool.workers.iter().map(in_mailbox).fold(pool.in_line.unwrap_or(0), u64::saturating_add)
}

fn claimed(pool: &Pool) -> u64 {
    let held = |worker: &Worker| worker.outstanding.unwrap_or(0) - in_mailbox(worker);
    pool.workers.iter().map(held).fold(0, u64::saturating_add)
}

fn workers(out: &mut Exposition, content: &Content) {
    let family = (Counter, "ostler_workers_started_total", "Workers that were started.");
    each_pool(out, content, family, |pool| Some(pool.tally.started));
    let family = (Counter, "ostler_workers_restarted_total", "Workers that were started because one died unasked.");
    each_pool(out, content, family, |pool| Some(pool.tally.restarts));
    let mut deaths = out.family(Counter, "ostler_worker_deaths_total", "Deaths of workers, and how they died.");
    for pool in &content.pools {
        let tally = pool.tally;
        for (reason, count) in [
            ("asked", tally.died_asked),
            ("clean", tally.died_clean),
            ("failing", tally.died_failing),
            ("signal", tally.died_by_signal),
        ] {
            deaths.sample(&[("pool", &pool.name), ("reason", reason)], count);
        }
    }
    let mut dismissed = out.family(Counter, "ostler_workers_dismissed_total", "Workers that had to leave, and why.");
    for pool in &content.pools {
        let tally = pool.tally;
        for (reason, count) in [
            ("never_ready", tally.never_ready),
            ("misbehaved", tally.misbehaved),
            ("silent", tally.silent),
            ("overdue", tally.overdue),
        ] {
            dismissed.sample(&[("pool", &pool.name), ("reason", reason)], count);
        }
    }
}

fn templates(out: &mut Exposition, content: &Content, now_ns: u64) {
    let mut count = out.family(Gauge, "ostler_pool_templates", "Templates by state; during a reload there are two.");
    for pool in content.pools.iter().filter(|pool| !pool.templates.is_empty()) {
        for one in TEMPLATE_STATES {
            let templates = pool.templates.iter().filter(|template| template.state == one).count();
            count.sample(&[("pool", &pool.name), ("state", one)], templates);
        }
    }
    let family =
        (Gauge, "ostler_template_generation", "The generation that the newest ready template forks workers of.");
    each_pool(out, content, family, |pool| newest_ready(pool).map(|template| template.generation));
    let family = (Gauge, "ostler_template_age_seconds", "How long ago it was started.");
    each_pool(out, content, family, |pool| {
        newest_ready(pool).map(|template| seconds(now_ns.saturating_sub(template.spawned_at_ns)))
    });
    let family = (Gauge, "ostler_template_forked", "Workers that it has forked; another template begins with 0.");
    each_pool(out, content, family, |pool| newest_ready(pool).map(|template| template.forked));
}

fn newest_ready(pool: &Pool) -> Option<&Template> {
    let ready = pool.templates.iter().filter(|template| template.state == "ready");
    ready.max_by_key(|template| (template.generation, template.id))
}

/// An incumbent and its successor in one.
#[derive(Debug, Default)]
struct Slot {
    claimed: Option<u64>,
    waiting: Option<u64>,
    capacity: u64,
    restarts: u32,
    spawned_at_ns: Option<u64>,
    oldest_at_ns: Option<u64>,
    busy_since_ns: Option<u64>,
}

impl Slot {
    fn count(pool: &Pool) -> usize {
        let mut slots: Vec<u32> = pool.workers.iter().map(|worker| worker.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        slots.len()
    }

    /// By number, as many as are listed.
    fn all_of(pool: &Pool) -> BTreeMap<u32, Slot> {
        let mut slots: BTreeMap<u32, Slot> = BTreeMap::new();
        for worker in &pool.workers {
            if slots.len() < SLOTS_LISTED_MAX || slots.contains_key(&worker.slot) {
                slots.entry(worker.slot).or_default().add(worker);
            }
        }
        slots
    }

    fn add(&mut self, worker: &Worker) {
        let earlier = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        if let Some(outstanding) = worker.outstanding {
            let waits = in_mailbox(worker);
            self.claimed = Some(self.claimed.unwrap_or(0).saturating_add(outstanding - waits));
            self.waiting = Some(self.waiting.unwrap_or(0).saturating_add(waits));
        }
        self.capacity += u64::from(worker.capacity);
        self.restarts = self.restarts.max(worker.restarts);
        self.spawned_at_ns = earlier(self.spawned_at_ns, worker.spawned_at_ns);
        self.oldest_at_ns = earlier(self.oldest_at_ns, worker.oldest_handed_at_ns);
        self.busy_since_ns = earlier(self.busy_since_ns, worker.busy_since_ns);
    }
}

fn each_slot(out: &mut Exposition, pools: &[(&str, BTreeMap<u32, Slot>)], now_ns: u64) {
    let mut family = |(kind, name, help), number: &dyn Fn(&Slot) -> Option<f64>| {
        let mut family = out.family(kind, name, help);
        for (pool, slots) in pools {
            for (slot, about) in slots {
                family.known(&[("pool", pool), ("worker", &slot.to_string())], number(about));
            }
        }
    };
    #[expect(clippy::cast_precision_loss, reason = "whoever reads it has 53 bits as well")]
    let number = |count: u64| count as f64;
    let since = |at: Option<u64>| at.map(|at| seconds(now_ns.saturating_sub(at)));
    let about = (Gauge, "ostler_worker_claimed", "Connections in the hands of the worker in this slot.");
    family(about, &|slot| slot.claimed.map(number));
    let about = (Gauge, "ostler_worker_waiting", "Connections in its mailbox.");
    family(about, &|slot| slot.waiting.map(number));
    let about = (Gauge, "ostler_worker_capacity", "Connections that it serves at a time.");
    family(about, &|slot| Some(number(slot.capacity)));
    let about = (Gauge, "ostler_worker_age_seconds", "How long ago it was started.");
    family(about, &|slot| since(slot.spawned_at_ns));
    let about =
        (Gauge, "ostler_worker_oldest_connection_seconds", "How long it has held the one that it holds longest.");
    family(about, &|slot| since(slot.oldest_at_ns));
    let about =
        (Gauge, "ostler_worker_busy_seconds", "How long it has been at its longest request, where it marks them.");
    family(about, &|slot| since(slot.busy_since_ns));
    let about = (Counter, "ostler_worker_restarts_total", "How often the slot got another worker because one died.");
    family(about, &|slot| Some(f64::from(slot.restarts)));
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
pub(super) mod tests;
