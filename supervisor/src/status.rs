//! Shows the state of everything: as JSON for programs, as a table for people.

use std::collections::BTreeSet;
use std::time::Duration;

use ostler_config::checked::Handoff;
use ostler_pool::{
    Exit, Moment, PoolNo, PoolSnapshot, PoolState, Quantile, ReloadOutcome, Tells, TemplateSnapshot, WorkerSnapshot,
    WorkerState,
};
use ostler_shared::WorkerId;
use serde::{Deserialize, Serialize};

/// What the driver knows besides the pools' snapshot.
pub(crate) struct Facts<'a> {
    pub(crate) uptime: Duration,
    pub(crate) now: Moment,
    pub(crate) state: &'static str,
    pub(crate) pools: &'a [PoolSnapshot],
    pub(crate) listeners: &'a dyn Fn(PoolNo) -> Vec<String>,
    pub(crate) process: &'a dyn Fn(WorkerId) -> Option<Process>,
}

/// A worker's process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Connections in its mailbox, unclaimed.
    pub(crate) depth: u64,
    /// What it says of itself.
    pub(crate) says: Option<String>,
    /// How its connections have got out of its library's sight, in words; empty where they have not.
    pub(crate) escapes: Vec<&'static str>,
}

/// `ostler status --json`; what is not measured is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    version: String,
    pid: u32,
    uptime_s: f64,
    state: String,
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

/// The state as JSON.
pub(crate) fn json(facts: &Facts<'_>) -> String {
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: seconds(facts.uptime),
        state: facts.state.to_owned(),
        pools: facts.pools.iter().map(|pool| pool_status(facts, pool)).collect(),
    };
    serde_json::to_string(&status).expect("numbers and strings are JSON")
}

fn handoff(handoff: Handoff) -> &'static str {
    match handoff {
        Handoff::Pass => "pass",
        Handoff::Accept => "accept",
        Handoff::Listen => "listen",
        Handoff::Stdio => "stdio",
    }
}

fn pool_status(facts: &Facts<'_>, pool: &PoolSnapshot) -> PoolStatus {
    let workers: Vec<WorkerStatus> = pool.workers.iter().map(|worker| worker_status(facts, worker)).collect();
    let depths: u64 = workers.iter().filter_map(|worker| worker.waiting).sum();
    let known = |number: u64| known(pool.tells, number);
    // Where workers accept for themselves, nothing passes through our hands.
    let passed = |number: u64| (pool.handoff != Handoff::Listen).then_some(number);
    let (last, reason) = match &pool.reload {
        ReloadOutcome::None => ("none", None),
        ReloadOutcome::Ok => ("ok", None),
        ReloadOutcome::Undone(setback) => ("undone", Some(crate::report::reason(setback))),
    };
    PoolStatus {
        name: pool.name.to_string(),
        state: pool_state(pool.state).to_owned(),
        generation: pool.generation.0,
        handoff: handoff(pool.handoff).to_owned(),
        listeners: (facts.listeners)(pool.no),
        target: pool.target,
        accepted: known(pool.accepted),
        done: known(pool.done),
        failed: known(pool.failed),
        lost: known(pool.lost),
        shed: ShedStatus {
            queue_full: pool.shed.queue_full,
            queue_timeout: pool.shed.queue_timeout,
            client_gone: pool.shed.client_gone,
            per_uid: pool.shed.per_uid,
            stopping: pool.shed.stopping,
        },
        waiting: known(pool.in_line + depths),
        claimed: known(pool.outstanding - depths),
        handed: passed(pool.handed),
        recalled: passed(pool.recalled),
        redelivered: passed(pool.redelivered),
        queue: QueueStatus {
            length: passed(pool.in_line),
            limit: passed(pool.queue_limit.into()).map(|_| pool.queue_limit),
            delay_ms: quantiles(pool.queue_delay),
        },
        service_ms: quantiles(pool.service),
        reload: ReloadStatus { last: last.to_owned(), reason, generation: pool.generation.0 },
        workers,
        templates: pool.templates.iter().map(|template| template_status(facts, template)).collect(),
    }
}

fn template_status(facts: &Facts<'_>, template: &TemplateSnapshot) -> TemplateStatus {
    let pid = (facts.process)(template.id).map(|process| process.pid);
    TemplateStatus {
        generation: template.generation.0,
        id: template.id.0,
        pid,
        state: worker_state(template.state).to_owned(),
        forked: template.forked,
        age_s: seconds(template.age),
        rss_bytes: pid.and_then(resident_bytes),
    }
}

fn worker_status(facts: &Facts<'_>, worker: &WorkerSnapshot) -> WorkerStatus {
    let process = worker.id.and_then(|id| (facts.process)(id));
    // A mailbox never holds more than was handed; if it seems to, the worker is telling tales of its own.
    let waiting = process.as_ref().map_or(0, |process| process.depth).min(worker.outstanding);
    WorkerStatus {
        slot: worker.slot.0,
        generation: worker.generation.0,
        id: worker.id.map(|id| id.0),
        pid: process.as_ref().map(|process| process.pid),
        state: worker_state(worker.state).to_owned(),
        claimed: known(worker.tells, worker.outstanding - waiting),
        waiting: known(worker.tells, waiting),
        done: known(worker.tells, worker.done),
        capacity: worker.capacity,
        age_s: worker.id.map(|_| seconds(worker.age)),
        rss_bytes: process.as_ref().and_then(|process| resident_bytes(process.pid)),
        restarts: worker.restarts,
        last_exit: worker.last_exit.map(|(exit, at)| {
            let (code, signal) = match exit {
                Exit::Code(code) => (Some(code), None),
                Exit::Signal(signal) => (None, Some(signal)),
            };
            let at_s = seconds(facts.uptime) - seconds(facts.now.since(at));
            ExitStatus { code, signal, at_s: round3(at_s) }
        }),
        estimated: process.iter().flat_map(|process| &process.escapes).map(|word| (*word).to_owned()).collect(),
        says: process.and_then(|process| process.says),
    }
}

/// What nobody counts is null, never 0.
fn known(tells: Tells, number: u64) -> Option<u64> {
    match tells {
        Tells::Everything => Some(number),
        Tells::Nothing => None,
    }
}

/// Second field of /proc/PID/statm, in pages (proc(5)); counters only, so reading it does not wait.
fn resident_bytes(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * page.unsigned_abs())
}

fn quantiles(told: Option<Quantile>) -> QuantileStatus {
    let ms = |length: Duration| round3(length.as_secs_f64() * 1e3);
    QuantileStatus { p50: told.map(|quantile| ms(quantile.p50)), p99: told.map(|quantile| ms(quantile.p99)) }
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

// ── for people ─────────────────────────────────────────────────────────────────────────────────────────────

/// The state as text of at most 80 columns; what is wrong comes first.
///
/// # Errors
/// When `json` is not a status of this release.
pub(crate) fn text(json: &str) -> Result<String, serde_json::Error> {
    let status: Status = serde_json::from_str(json)?;
    let mut lines = vec![format!(
        "ostler {} pid {} · {} · up {}",
        status.version,
        status.pid,
        status.state,
        ostler_config::format_duration(Duration::from_secs(status.uptime_s.max(0.0) as u64))
    )];
    for pool in &status.pools {
        lines.extend(troubles(pool));
    }
    for pool in &status.pools {
        lines.push(String::new());
        lines.extend(pool_lines(pool));
    }
    Ok(lines.join("\n") + "\n")
}

fn troubles(pool: &PoolStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if matches!(pool.state.as_str(), "degraded" | "failed") {
        lines.push(format!("! pool {} is {}: see `worker` lines and the log", pool.name, pool.state));
    }
    if pool.state == "paused" {
        lines.push(format!("! pool {0} is paused, {1} wait: `ostler resume {0}`", pool.name, shown(pool.waiting)));
    }
    if let Some(reason) = &pool.reload.reason {
        let first = reason.lines().next().unwrap_or_default();
        lines.push(format!("! pool {}: the last reload was undone: {first}", pool.name));
    }
    let estimated: BTreeSet<&str> =
        pool.workers.iter().flat_map(|worker| &worker.estimated).map(String::as_str).collect();
    if !estimated.is_empty() {
        let how = estimated.into_iter().collect::<Vec<_>>().join(", ");
        lines.push(format!("! pool {}: claimed, done and lost are estimated ({how})", pool.name));
    }
    if let (Some(length), Some(limit)) = (pool.queue.length, pool.queue.limit)
        && length >= u64::from(limit)
    {
        lines.push(format!("! pool {}: the waiting line is full ({limit})", pool.name));
    }
    lines
}

/// A number, or a dash for what is not known.
fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn pool_lines(pool: &PoolStatus) -> Vec<String> {
    let shed = &pool.shed;
    let shed_total = shed.queue_full + shed.queue_timeout + shed.client_gone + shed.per_uid + shed.stopping;
    let failed = pool.failed.filter(|failed| *failed > 0).map_or(String::new(), |failed| format!(" ({failed} failed)"));
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}ms"));
    let mut lines = vec![
        format!("pool {} · {} · generation {} · {}", pool.name, pool.state, pool.generation, pool.listeners.join(" ")),
        format!(
            "  accepted {} · done {}{failed} · lost {} · shed {shed_total} · waiting {} · claimed {}",
            shown(pool.accepted),
            shown(pool.done),
            shown(pool.lost),
            shown(pool.waiting),
            shown(pool.claimed)
        ),
        format!(
            "  line p50 {} p99 {} · service p50 {} p99 {} (last minute)",
            ms(pool.queue.delay_ms.p50),
            ms(pool.queue.delay_ms.p99),
            ms(pool.service_ms.p50),
            ms(pool.service_ms.p99)
        ),
        format!(
            "  {:<14} {:>8} {:<9} {:>9} {:>10} {:>8} {:>8}",
            "worker", "pid", "state", "load", "done", "rss", "restarts"
        ),
    ];
    for worker in &pool.workers {
        lines.push(worker_line(pool, worker));
        lines.extend(worker.says.iter().map(|says| clipped(&format!("    says: {says}"))));
    }
    lines.extend(pool.templates.iter().map(template_line));
    lines
}

fn worker_line(pool: &PoolStatus, worker: &WorkerStatus) -> String {
    let dash = || "-".to_owned();
    format!(
        "  {:<14} {:>8} {:<9} {:>9} {:>10} {:>8} {:>8}",
        format!("{}/{}.{}", pool.name, worker.slot, worker.generation),
        worker.pid.map_or_else(dash, |pid| pid.to_string()),
        worker.state,
        format!("{}/{}", shown(worker.claimed.zip(worker.waiting).map(|(held, lie)| held + lie)), worker.capacity),
        shown(worker.done),
        worker.rss_bytes.map_or_else(dash, |bytes| format!("{:.1}M", bytes as f64 / 1024.0 / 1024.0)),
        worker.restarts,
    )
}

fn template_line(template: &TemplateStatus) -> String {
    let dash = || "-".to_owned();
    format!(
        "  {:<14} {:>8} {:<9} {:>9} {:>10} {:>8}",
        format!("template.{}", template.generation),
        template.pid.map_or_else(dash, |pid| pid.to_string()),
        template.state,
        "",
        format!("{} forked", template.forked),
        template.rss_bytes.map_or_else(dash, |bytes| format!("{:.1}M", bytes as f64 / 1024.0 / 1024.0)),
    )
}

/// To the width of a terminal.
fn clipped(line: &str) -> String {
    if line.chars().count() <= COLUMNS {
        line.to_owned()
    } else {
        line.chars().take(COLUMNS - 1).chain(['…']).collect()
    }
}

const COLUMNS: usize = 80;
