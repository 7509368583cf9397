//! Turns what is known into rows: one per pool, one per worker.
//!
//! Pure. What nobody counts stays `None`, and is never 0.

use ostler_shared::scoreboard::content::{LastExit, Pool, Quantile, Template, Worker};

use super::history::History;

/// A pool, as a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PoolRow {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) generation: u32,
    pub(super) ready: usize,
    pub(super) target: u32,
    /// Connections that its workers hold, and how many they may hold together.
    pub(super) held: Option<u64>,
    pub(super) capacity: u64,
    pub(super) in_line: Option<u64>,
    /// How long the first in the line has waited.
    pub(super) first_waits_ns: Option<u64>,
    pub(super) rate: Option<f64>,
    /// Over the last minute; `None` as well when nobody has counted since.
    pub(super) wait: Option<Quantile>,
    pub(super) service: Option<Quantile>,
    pub(super) lost: Option<u64>,
    pub(super) shed: u64,
    pub(super) stuck: u32,
    pub(super) undone_because: Option<String>,
    /// Who forks its workers; none where they are started one by one.
    pub(super) templates: Vec<TemplateRow>,
}

/// A process that has loaded everything and forks workers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TemplateRow {
    pub(super) generation: u32,
    pub(super) state: String,
    pub(super) forked: u64,
}

/// A worker, or a slot that waits for one, as a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WorkerRow {
    pub(super) pool: String,
    pub(super) slot: u32,
    pub(super) generation: u32,
    pub(super) id: Option<u64>,
    pub(super) pid: Option<i32>,
    pub(super) state: String,
    pub(super) state_for_ns: Option<u64>,
    pub(super) held: Option<u64>,
    pub(super) in_mailbox: Option<u64>,
    pub(super) capacity: u32,
    pub(super) rate: Option<f64>,
    pub(super) done: Option<u64>,
    pub(super) memory: Option<u64>,
    pub(super) age_ns: Option<u64>,
    pub(super) restarts: u32,
    /// How long ago the oldest connection that it holds was handed to it.
    pub(super) connection_ns: Option<u64>,
    /// How long it has been at its longest request, by its own words.
    pub(super) busy_ns: Option<u64>,
    pub(super) heartbeat_ns: Option<u64>,
    /// How the slot's last worker ended, and how long ago.
    pub(super) last_exit: Option<(LastExit, u64)>,
    pub(super) says: Option<String>,
    pub(super) estimated: Vec<String>,
}

impl WorkerRow {
    /// `pool/slot.generation`, as in every log.
    pub(super) fn name(&self) -> String {
        format!("{}/{}.{}", self.pool, self.slot, self.generation)
    }
}

/// How old quantiles of the last minute may be.
const QUANTILES_WINDOW_NS: u64 = 60_000_000_000;

/// All pools, in the order of the configuration.
pub(super) fn pools(history: &History) -> Vec<PoolRow> {
    let pools = history.content.iter().flat_map(|content| &content.pools);
    pools.map(|pool| pool_row(history, pool)).collect()
}

/// All workers, by pool and slot.
pub(super) fn workers(history: &History) -> Vec<WorkerRow> {
    let pools = history.content.iter().flat_map(|content| &content.pools);
    pools.flat_map(|pool| pool.workers.iter().map(|worker| worker_row(history, pool, worker))).collect()
}

fn pool_row(history: &History, pool: &Pool) -> PoolRow {
    let (now_ns, shed) = (history.instant_ns(), pool.books.shed);
    let published_ns = history.content.as_ref().map_or(0, |content| content.supervisor.published_at_ns);
    let is_recent = now_ns.saturating_sub(published_ns) < QUANTILES_WINDOW_NS;
    // Saturating: a scoreboard can say anything.
    let sum = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0, u64::saturating_add);
    let held = pool.workers.iter().filter(|worker| worker.id.is_some()).map(|worker| worker.outstanding);
    PoolRow {
        name: pool.name.to_string(),
        state: pool.state.to_string(),
        generation: pool.generation,
        ready: pool.workers.iter().filter(|worker| worker.state == "ready").count(),
        target: pool.target,
        held: held.collect::<Option<Vec<u64>>>().map(|held| sum(&mut held.into_iter())),
        capacity: sum(&mut pool
            .workers
            .iter()
            .filter(|worker| worker.state == "ready")
            .map(|worker| u64::from(worker.capacity))),
        in_line: pool.in_line,
        first_waits_ns: pool.first_in_line_at_ns.map(|at| now_ns.saturating_sub(at)),
        rate: history.rate_of_pool(&pool.name, pool.books.done),
        wait: pool.queue_delay.filter(|_| is_recent),
        service: pool.service.filter(|_| is_recent),
        lost: pool.books.lost,
        shed: sum(&mut [shed.queue_full, shed.queue_timeout, shed.client_gone, shed.per_uid, shed.stopping].into_iter()),
        stuck: pool.stuck,
        undone_because: pool.undone_because.clone(),
        templates: pool.templates.iter().map(template_row).collect(),
    }
}

fn template_row(template: &Template) -> TemplateRow {
    TemplateRow { generation: template.generation, state: template.state.to_string(), forked: template.forked }
}

fn worker_row(history: &History, pool: &Pool, worker: &Worker) -> WorkerRow {
    let now_ns = history.instant_ns();
    let since = |at: Option<u64>| at.map(|at| now_ns.saturating_sub(at));
    WorkerRow {
        pool: pool.name.to_string(),
        slot: worker.slot,
        generation: worker.generation,
        id: worker.id,
        pid: worker.pid,
        state: worker.state.to_string(),
        state_for_ns: since(worker.state_since_ns),
        held: worker.outstanding,
        in_mailbox: worker.in_mailbox,
        capacity: worker.capacity,
        rate: history.rate_of_worker(worker),
        done: worker.done,
        memory: worker.pid.and_then(|pid| history.memory.get(&pid).copied()),
        age_ns: since(worker.spawned_at_ns),
        restarts: worker.restarts,
        connection_ns: since(worker.oldest_handed_at_ns),
        busy_ns: since(worker.busy_since_ns),
        heartbeat_ns: since(worker.heartbeat_at_ns),
        last_exit: worker.last_exit.map(|exit| (exit, now_ns.saturating_sub(exit.at_ns))),
        says: worker.says.clone(),
        estimated: worker.estimated.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{S, content, glance, running};
    use super::super::source::{Found, Standing};
    use super::*;

    #[test]
    fn a_pool_is_the_sum_of_its_workers_and_has_its_line() {
        let mut history = History::default();
        history.take(running(content()));
        let web = &pools(&history)[0];
        assert_eq!((web.ready, web.target, web.held, web.capacity), (2, 3, Some(1), 2));
        assert_eq!((web.in_line, web.shed, web.lost), (Some(7), 3, Some(1)));
        assert!(web.service.is_some() && web.wait.is_some());
    }

    #[test]
    fn a_worker_has_ages_and_memory_and_a_slot_that_waits_has_neither() {
        let mut history = History::default();
        history.take(running(content()));
        let rows = workers(&history);
        let names: Vec<String> = rows.iter().map(WorkerRow::name).collect();
        assert_eq!(names, ["web/0.3", "web/1.3", "web/2.3", "api/0.3"]);
        assert_eq!((rows[0].age_ns, rows[0].memory, rows[0].connection_ns), (Some(90 * S), Some(20 << 20), None));
        assert_eq!((rows[1].held, rows[1].connection_ns), (Some(1), Some(15 * S)));
        assert_eq!((rows[2].age_ns, rows[2].memory, rows[2].restarts), (None, None, 4));
        assert_eq!(rows[2].last_exit.map(|(exit, ago)| (exit.code, ago)), Some((Some(3), 20 * S)));
    }

    #[test]
    fn what_nobody_counts_is_unknown_and_old_quantiles_are_not_shown() {
        let mut own = content();
        own.pools[0].workers[0].outstanding = None;
        own.pools[0].in_line = None;
        let mut history = History::default();
        let state = Found::State { content: Box::new(own), standing: Standing::Stopped, memory: Default::default() };
        history.take(glance(1051 * S, state));
        let web = &pools(&history)[0];
        assert_eq!((web.held, web.in_line), (None, None));
        assert_eq!((web.service, web.wait), (None, None), "61 s after they were published");
    }
}
