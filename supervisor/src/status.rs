//! Shows the state of everything: as JSON for programs, as a table for people.
//!
//! There is one source, what is published ([`Content`]), whether the supervisor says it itself or the scoreboard does, and so
//! one schema.

use std::time::Duration;

use ostler_pool::{PoolState, WorkerState};
use ostler_shared::scoreboard::Content;
use ostler_shared::scoreboard::content::{LastExit, Pool, Quantile, Template, Worker};
use ostler_shared::sys::clock::monotonic_ns;
use serde::{Deserialize, Serialize};

use crate::driver::unix_ms;

mod table;

pub(crate) use table::{Paint, text};

/// How long quantiles look back. What was published that long ago says nothing about the last minute.
const QUANTILES_WINDOW: Duration = Duration::from_secs(60);

/// Where a state comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The supervisor says it now.
    Fresh,
    /// It was published some time ago by a supervisor whose processes are still there.
    Published,
    /// It was published by a supervisor that has ended.
    Left,
}

/// `ostler status --json`; what is not measured is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    version: String,
    pid: u32,
    uptime_s: f64,
    state: String,
    /// How old all of this is: 0 where the supervisor said it itself, and else since it was published.
    age_s: f64,
    pools: Vec<PoolStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PoolStatus {
    name: String,
    state: String,
    generation: u32,
    handoff: String,
    listeners: Vec<String>,
    target: u32,
    accepted: Option<u64>,
    done: Option<u64>,
    failed: Option<u64>,
    lost: Option<u64>,
    shed: ShedStatus,
    waiting: Option<u64>,
    claimed: Option<u64>,
    handed: Option<u64>,
    recalled: Option<u64>,
    redelivered: Option<u64>,
    stuck: u32,
    queue: QueueStatus,
    service_ms: QuantileStatus,
    reload: ReloadStatus,
    workers: Vec<WorkerStatus>,
    templates: Vec<TemplateStatus>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ShedStatus {
    queue_full: u64,
    queue_timeout: u64,
    client_gone: u64,
    per_uid: u64,
    stopping: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct QueueStatus {
    length: Option<u64>,
    limit: Option<u32>,
    delay_ms: QuantileStatus,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct QuantileStatus {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ReloadStatus {
    last: String,
    reason: Option<String>,
    generation: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct WorkerStatus {
    slot: u32,
    generation: u32,
    id: Option<u64>,
    pid: Option<i32>,
    state: String,
    claimed: Option<u64>,
    waiting: Option<u64>,
    done: Option<u64>,
    capacity: u32,
    age_s: Option<f64>,
    connection_s: Option<f64>,
    request_s: Option<f64>,
    rss_bytes: Option<u64>,
    restarts: u32,
    last_exit: Option<ExitStatus>,
    says: Option<String>,
    estimated: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct TemplateStatus {
    generation: u32,
    id: u64,
    pid: Option<i32>,
    state: String,
    forked: u64,
    age_s: f64,
    rss_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ExitStatus {
    code: Option<i32>,
    signal: Option<i32>,
    at_s: f64,
}

/// The instant at which a state is looked at.
#[derive(Debug, Clone, Copy)]
struct Instant {
    now_ns: u64,
    started_at_ns: u64,
    age: Duration,
    freshness: Freshness,
}

impl Instant {
    fn of(content: &Content, freshness: Freshness) -> Instant {
        let supervisor = &content.supervisor;
        let (published, started_at_ns) = (supervisor.published_at_ns, supervisor.started_at_ns);
        let now_ns = monotonic_ns();
        match freshness {
            Freshness::Fresh => Instant { now_ns: published, started_at_ns, age: Duration::ZERO, freshness },
            Freshness::Published => {
                let age = Duration::from_nanos(now_ns.saturating_sub(published));
                Instant { now_ns: now_ns.max(published), started_at_ns, age, freshness }
            }
            // Nothing grows older any more; and the machine may have been started anew since.
            Freshness::Left => {
                let wall = unix_ms(std::time::SystemTime::now()).saturating_sub(supervisor.published_at_unix_ms);
                Instant { now_ns: published, started_at_ns, age: Duration::from_millis(wall), freshness }
            }
        }
    }

    fn since(self, at_ns: u64) -> f64 {
        seconds(Duration::from_nanos(self.now_ns.saturating_sub(at_ns)))
    }

    /// Its number may be another's when nobody is there to reap it.
    fn resident_bytes(self, pid: Option<i32>) -> Option<u64> {
        pid.filter(|_| self.freshness != Freshness::Left).and_then(resident_bytes)
    }

    fn quantiles(self, told: Option<Quantile>) -> QuantileStatus {
        let ms = |ns: u64| round3(Duration::from_nanos(ns).as_secs_f64() * 1e3);
        let told = told.filter(|_| self.age < QUANTILES_WINDOW);
        QuantileStatus { p50: told.map(|told| ms(told.p50_ns)), p99: told.map(|told| ms(told.p99_ns)) }
    }
}

impl Status {
    /// The state as it is to be shown.
    pub(crate) fn of(content: &Content, freshness: Freshness) -> Status {
        let instant = Instant::of(content, freshness);
        let supervisor = &content.supervisor;
        Status {
            version: supervisor.version.to_string(),
            pid: supervisor.pid,
            uptime_s: instant.since(supervisor.started_at_ns),
            state: supervisor.state.to_string(),
            age_s: seconds(instant.age),
            pools: content.pools.iter().map(|pool| pool_status(instant, pool)).collect(),
        }
    }

    /// As JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are JSON")
    }

    /// From JSON.
    ///
    /// # Errors
    /// When it is not a status of this release.
    pub(crate) fn of_json(json: &str) -> Result<Status, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// How old it is.
    pub(crate) fn age(&self) -> Duration {
        Duration::try_from_secs_f64(self.age_s).unwrap_or_default()
    }
}

fn pool_status(instant: Instant, pool: &Pool) -> PoolStatus {
    let workers: Vec<WorkerStatus> = pool.workers.iter().map(|worker| worker_status(instant, worker)).collect();
    // Saturating: a scoreboard can say anything.
    let depths = workers.iter().filter_map(|worker| worker.waiting).fold(0, u64::saturating_add);
    let claimed = workers.iter().filter_map(|worker| worker.claimed).fold(0, u64::saturating_add);
    let (books, shed) = (pool.books, pool.books.shed);
    // What nobody counts is null, never 0.
    let known = |number: u64| books.accepted.map(|_| number);
    PoolStatus {
        name: pool.name.to_string(),
        state: pool.state.to_string(),
        generation: pool.generation,
        handoff: pool.handoff.to_string(),
        listeners: pool.listeners.clone(),
        target: pool.target,
        accepted: books.accepted,
        done: books.done,
        failed: books.failed,
        lost: books.lost,
        shed: ShedStatus {
            queue_full: shed.queue_full,
            queue_timeout: shed.queue_timeout,
            client_gone: shed.client_gone,
            per_uid: shed.per_uid,
            stopping: shed.stopping,
        },
        waiting: known(pool.in_line.unwrap_or(0).saturating_add(depths)),
        claimed: known(claimed),
        handed: books.handed,
        recalled: books.recalled,
        redelivered: books.redelivered,
        stuck: pool.stuck,
        queue: QueueStatus {
            length: pool.in_line,
            limit: pool.queue_limit,
            delay_ms: instant.quantiles(pool.queue_delay),
        },
        service_ms: instant.quantiles(pool.service),
        reload: ReloadStatus {
            last: pool.last_reload.to_string(),
            reason: pool.undone_because.clone(),
            generation: pool.generation,
        },
        workers,
        templates: pool.templates.iter().map(|template| template_status(instant, template)).collect(),
    }
}

fn worker_status(instant: Instant, worker: &Worker) -> WorkerStatus {
    let waiting = worker.in_mailbox.min(worker.outstanding);
    let claimed = worker.outstanding.zip(waiting).map(|(outstanding, waiting)| outstanding - waiting);
    WorkerStatus {
        slot: worker.slot,
        generation: worker.generation,
        id: worker.id,
        pid: worker.pid,
        state: worker.state.to_string(),
        claimed,
        waiting,
        done: worker.done,
        capacity: worker.capacity,
        age_s: worker.spawned_at_ns.map(|at| instant.since(at)),
        connection_s: worker.oldest_handed_at_ns.map(|at| instant.since(at)),
        request_s: worker.busy_since_ns.map(|at| instant.since(at)),
        rss_bytes: instant.resident_bytes(worker.pid),
        restarts: worker.restarts,
        last_exit: worker.last_exit.map(|exit| exit_status(instant, exit)),
        says: worker.says.clone(),
        estimated: worker.estimated.iter().map(ToString::to_string).collect(),
    }
}

fn template_status(instant: Instant, template: &Template) -> TemplateStatus {
    TemplateStatus {
        generation: template.generation,
        id: template.id,
        pid: template.pid,
        state: template.state.to_string(),
        forked: template.forked,
        age_s: instant.since(template.spawned_at_ns),
        rss_bytes: instant.resident_bytes(template.pid),
    }
}

fn exit_status(instant: Instant, exit: LastExit) -> ExitStatus {
    let since_start = Duration::from_nanos(exit.at_ns.saturating_sub(instant.started_at_ns));
    ExitStatus { code: exit.code, signal: exit.signal, at_s: seconds(since_start) }
}

/// Second field of /proc/PID/statm, in pages (proc(5)); counters only, so reading it does not wait.
pub(crate) fn resident_bytes(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * page.unsigned_abs())
}

fn seconds(length: Duration) -> f64 {
    round3(length.as_secs_f64())
}

fn round3(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

pub(crate) fn pool_state(state: PoolState) -> &'static str {
    match state {
        PoolState::Starting => "starting",
        PoolState::Ready => "ready",
        PoolState::Degraded => "degraded",
        PoolState::Failed => "failed",
        PoolState::Paused => "paused",
        PoolState::Draining => "draining",
        PoolState::Stopped => "stopped",
    }
}

pub(crate) fn worker_state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Ready => "ready",
        WorkerState::Draining => "draining",
        WorkerState::Leaving => "leaving",
        WorkerState::BackOff => "backoff",
    }
}
