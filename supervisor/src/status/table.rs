//! Shows a status to people: what is wrong first, then everything, in 80 columns.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ExitStatus, PoolStatus, Status, TemplateStatus, WorkerStatus};
use crate::deaths::signal_name;

/// Longest line, in characters.
const COLUMNS: usize = 80;
/// From here on a request is worth a line.
const LONG_REQUEST_S: f64 = 10.0;

/// Whether what is wrong is in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// For a terminal.
    Coloured,
    /// For whatever else reads it.
    Plain,
}

impl Paint {
    fn alarm(self, line: &str) -> String {
        match self {
            Paint::Coloured => format!("\x1b[1;31m{line}\x1b[0m"),
            Paint::Plain => line.to_owned(),
        }
    }

    fn strong(self, line: &str) -> String {
        match self {
            Paint::Coloured => format!("\x1b[1m{line}\x1b[0m"),
            Paint::Plain => line.to_owned(),
        }
    }
}

/// The state as text of at most 80 columns; what is wrong comes first.
pub(crate) fn text(status: &Status, paint: Paint) -> String {
    let troubles = status.pools.iter().filter_map(trouble).map(|trouble| paint.alarm(&fitted(&trouble)));
    let mut lines: Vec<String> = troubles.collect();
    lines.push(fitted(&format!(
        "ostler {} pid {} · {} · up {}",
        status.version,
        status.pid,
        status.state,
        whole(status.uptime_s)
    )));
    for pool in &status.pools {
        lines.push(String::new());
        lines.push(paint.strong(&fitted(&heading(pool))));
        lines.extend(pool_lines(pool).iter().map(|line| fitted(line)));
    }
    lines.join("\n") + "\n"
}

/// What is wrong with a pool, in a line.
fn trouble(pool: &PoolStatus) -> Option<String> {
    let mut parts = Vec::new();
    parts.extend(missing_workers(pool));
    if pool.stuck > 0 {
        parts.push(format!("{} of {} workers stuck, and handed nothing", pool.stuck, pool.target));
    }
    parts.extend(line(pool));
    if pool.state == "paused" {
        parts.push(format!("{} wait for `ostler resume {}`", shown(pool.waiting), pool.name));
    }
    if let Some(reason) = &pool.reload.reason {
        let first = reason.lines().next().unwrap_or_default();
        parts.push(format!("the last reload was undone: {first}"));
    }
    parts.extend(estimated(pool));
    let is_well = parts.is_empty() && matches!(pool.state.as_str(), "ready" | "starting" | "draining" | "stopped");
    (!is_well)
        .then(|| format!("! {}: {}: {}", pool.name, pool.state, parts.join("; ")))
        .map(|line| line.trim_end_matches([':', ' ']).to_owned())
}

fn line(pool: &PoolStatus) -> Option<String> {
    let (length, limit) = (pool.queue.length?, u64::from(pool.queue.limit?));
    match length {
        0 => None,
        _ if length >= limit => Some(format!("the line is full, {length} of {limit}")),
        _ => Some(format!("line {length} of {limit}")),
    }
}

/// Which figures are estimates, and why.
fn estimated(pool: &PoolStatus) -> Option<String> {
    let ways = pool.workers.iter().flat_map(|worker| &worker.estimated).map(String::as_str);
    let ways: Vec<&str> = ways.collect::<BTreeSet<_>>().into_iter().collect();
    (!ways.is_empty()).then(|| format!("claimed, done and lost are estimated ({})", ways.join(", ")))
}

/// How many slots have no worker, and what became of the last one of the slot that fares worst.
fn missing_workers(pool: &PoolStatus) -> Option<String> {
    // Nobody is expected to be there.
    let is_meant = pool.state == "paused";
    let waiting: Vec<&WorkerStatus> = pool.workers.iter().filter(|worker| worker.state == "backoff").collect();
    // They wait for a template that loads.
    let is_loading = pool.templates.iter().any(|template| template.state == "starting");
    if is_loading && waiting.iter().all(|worker| worker.last_exit.is_none()) {
        return None;
    }
    let worst = waiting.iter().max_by_key(|worker| worker.restarts).filter(|_| !is_meant)?;
    let why = worst.last_exit.as_ref().map_or_else(String::new, |exit| {
        let times = if worst.restarts > 1 { format!(", {} times", worst.restarts) } else { String::new() };
        format!(" ({}{times})", how(exit))
    });
    // Nobody tries again by himself.
    let how_long = if pool.state == "failed" { "given up" } else { "in backoff" };
    Some(format!("{} of {} workers {how_long}{why}", waiting.len(), pool.target))
}

fn how(exit: &ExitStatus) -> String {
    match (exit.code, exit.signal) {
        (_, Some(signal)) => signal_name(signal),
        (Some(code), None) => format!("exit {code}"),
        (None, None) => "an end that is not known".to_owned(),
    }
}

fn heading(pool: &PoolStatus) -> String {
    format!("pool {} · {} · generation {} · {}", pool.name, pool.state, pool.generation, pool.listeners.join(" "))
}

fn pool_lines(pool: &PoolStatus) -> Vec<String> {
    let shed = &pool.shed;
    let sheds = [shed.queue_full, shed.queue_timeout, shed.client_gone, shed.per_uid, shed.stopping];
    let shed_total = sheds.into_iter().fold(0, u64::saturating_add);
    let failed = pool.failed.filter(|failed| *failed > 0).map_or(String::new(), |failed| format!(" ({failed} failed)"));
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}ms"));
    let mut lines = vec![
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
            "  {:<14} {:>8} {:<9} {:>9} {:>10} {:>8} {:>5} {:>8}",
            "worker", "pid", "state", "load", "done", "rss", "age", "restarts"
        ),
    ];
    for worker in &pool.workers {
        lines.push(worker_line(pool, worker));
        lines.extend(long_request(worker));
        lines.extend(worker.says.iter().map(|says| format!("    says: {says}")));
    }
    lines.extend(pool.templates.iter().map(template_line));
    lines
}

fn worker_line(pool: &PoolStatus, worker: &WorkerStatus) -> String {
    let dash = || "-".to_owned();
    let held = worker.claimed.zip(worker.waiting).map(|(claimed, waiting)| claimed.saturating_add(waiting));
    format!(
        "  {:<14} {:>8} {:<9} {:>9} {:>10} {:>8} {:>5} {:>8}",
        worker_name(&pool.name, worker),
        worker.pid.map_or_else(dash, |pid| pid.to_string()),
        worker.state,
        format!("{}/{}", shown(held), worker.capacity),
        shown(worker.done),
        worker.rss_bytes.map_or_else(dash, |bytes| format!("{:.1}M", bytes as f64 / 1024.0 / 1024.0)),
        worker.age_s.map_or_else(dash, brief),
        worker.restarts,
    )
}

fn long_request(worker: &WorkerStatus) -> Option<String> {
    let length_s = worker.request_s.filter(|length_s| *length_s >= LONG_REQUEST_S)?;
    Some(format!("    at one request for {}", whole(length_s)))
}

fn template_line(template: &TemplateStatus) -> String {
    let dash = || "-".to_owned();
    format!(
        "  {:<14} {:>8} {:<9} {:>9} {:>10} {:>8} {:>5}",
        format!("template.{}", template.generation),
        template.pid.map_or_else(dash, |pid| pid.to_string()),
        template.state,
        "",
        format!("{} forked", template.forked),
        template.rss_bytes.map_or_else(dash, |bytes| format!("{:.1}M", bytes as f64 / 1024.0 / 1024.0)),
        brief(template.age_s),
    )
}

/// A number, or a dash for what is not known.
fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Of a long name the end, which tells workers apart.
fn worker_name(pool: &str, worker: &WorkerStatus) -> String {
    const WIDTH: usize = 14;
    let name = format!("{pool}/{}.{}", worker.slot, worker.generation);
    let length = name.chars().count();
    if length <= WIDTH { name } else { format!("…{}", name.chars().skip(length - WIDTH + 1).collect::<String>()) }
}

/// An age in its largest unit.
fn brief(age_s: f64) -> String {
    let whole = age_s.max(0.0) as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m", whole / 60),
        3600..86_400 => format!("{}h", whole / 3600),
        _ => format!("{}d", whole / 86_400),
    }
}

fn whole(seconds: f64) -> String {
    ostler_config::format_duration(Duration::from_secs(seconds.max(0.0) as u64))
}

/// A line that does not wrap. What controls a terminal is not let through to one.
fn fitted(line: &str) -> String {
    let shown: String = line.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    if shown.chars().count() <= COLUMNS {
        return shown.trim_end().to_owned();
    }
    shown.chars().take(COLUMNS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{QuantileStatus, QueueStatus, ReloadStatus, ShedStatus};
    use super::*;

    fn worker(slot: u32, state: &str) -> WorkerStatus {
        WorkerStatus {
            slot,
            generation: 12,
            id: Some(3),
            pid: Some(4_194_304),
            state: state.into(),
            claimed: Some(1),
            waiting: Some(0),
            done: Some(u64::from(u32::MAX)),
            capacity: 256,
            age_s: Some(90_000.0),
            connection_s: Some(100.0),
            request_s: None,
            rss_bytes: Some(1 << 33),
            restarts: 5,
            last_exit: Some(ExitStatus { code: Some(3), signal: None, at_s: 1.0 }),
            says: None,
            estimated: Vec::new(),
        }
    }

    fn pool(name: &str, state: &str, workers: Vec<WorkerStatus>) -> PoolStatus {
        let none = || QuantileStatus { p50: None, p99: Some(1.25) };
        PoolStatus {
            name: name.into(),
            state: state.into(),
            generation: 12,
            handoff: "pass".into(),
            listeners: vec!["unix:/run/a/rather/long/path/that/somebody/has/chosen/for/his/web.sock".into()],
            target: u32::try_from(workers.len()).unwrap(),
            accepted: Some(0),
            done: Some(0),
            failed: Some(0),
            lost: Some(0),
            shed: ShedStatus { queue_full: 0, queue_timeout: 0, client_gone: 0, per_uid: 0, stopping: 0 },
            waiting: Some(0),
            claimed: Some(0),
            handed: Some(0),
            recalled: Some(0),
            redelivered: Some(0),
            stuck: 0,
            queue: QueueStatus { length: Some(0), limit: Some(4096), delay_ms: none() },
            service_ms: none(),
            reload: ReloadStatus { last: "none".into(), reason: None, generation: 12 },
            workers,
            templates: Vec::new(),
        }
    }

    fn status(pools: Vec<PoolStatus>) -> Status {
        let (version, state) = ("0.1.0".to_owned(), "running".to_owned());
        Status { version, pid: 77, uptime_s: 61.0, state, age_s: 0.0, pools }
    }

    #[test]
    fn what_is_wrong_comes_first() {
        let mut web = pool("web", "degraded", vec![worker(0, "ready"), worker(1, "backoff")]);
        web.queue.length = Some(37);
        let shown = text(&status(vec![pool("api", "ready", vec![worker(0, "ready")]), web]), Paint::Plain);
        let first = shown.lines().next().unwrap();
        assert_eq!(first, "! web: degraded: 1 of 2 workers in backoff (exit 3, 5 times); line 37 of 4096");
        assert!(shown.lines().nth(1).unwrap().starts_with("ostler 0.1.0 pid 77 · running · up 1m1s"), "{shown}");
    }

    #[test]
    fn each_trouble_has_its_words() {
        let mut pools = vec![pool("a", "failed", Vec::new()), pool("b", "paused", Vec::new())];
        pools[1].waiting = Some(8);
        pools.push(pool("c", "ready", vec![worker(0, "ready")]));
        pools[2].queue.length = Some(4096);
        pools.push(pool("d", "ready", vec![worker(0, "ready")]));
        pools[3].reload.reason = Some("worker d/0.2 ended\nmore".into());
        pools.push(pool("e", "ready", vec![worker(0, "ready"), worker(1, "ready")]));
        pools[4].workers[0].estimated = vec!["passed".into(), "executed".into()];
        pools[4].workers[1].estimated = vec!["passed".into()];
        pools.push(pool("f", "ready", vec![worker(0, "ready")]));
        pools.push(pool("g", "failed", vec![worker(0, "ready"), worker(1, "backoff")]));
        pools.push(pool("h", "ready", vec![worker(0, "ready"), worker(1, "ready")]));
        pools[7].stuck = 1;
        let shown = text(&status(pools), Paint::Plain);
        let troubles: Vec<&str> = shown.lines().take_while(|line| line.starts_with('!')).collect();
        let expected = [
            "! a: failed",
            "! b: paused: 8 wait for `ostler resume b`",
            "! c: ready: the line is full, 4096 of 4096",
            "! d: ready: the last reload was undone: worker d/0.2 ended",
            "! e: ready: claimed, done and lost are estimated (executed, passed)",
            "! g: failed: 1 of 2 workers given up (exit 3, 5 times)",
            "! h: ready: 1 of 2 workers stuck, and handed nothing",
        ];
        assert_eq!(troubles, expected);
    }

    #[test]
    fn who_is_long_at_one_request_is_named() {
        let mut web = pool("web", "ready", vec![worker(0, "ready"), worker(1, "ready"), worker(2, "ready")]);
        (web.workers[0].request_s, web.workers[1].request_s) = (Some(9.999), Some(61.5));
        let shown = text(&status(vec![web]), Paint::Plain);
        assert!(!shown.contains('!'), "that may be its task: {shown}");
        let row = shown.lines().position(|line| line.starts_with("  web/1.12 ")).expect("its row");
        assert_eq!(shown.lines().nth(row + 1), Some("    at one request for 1m1s"), "{shown}");
        assert_eq!(shown.matches("at one request").count(), 1, "{shown}");
    }

    #[test]
    fn what_nobody_counts_is_a_dash() {
        let mut row = worker(0, "ready");
        (row.claimed, row.waiting, row.done) = (None, None, None);
        let mut own = pool("own", "ready", vec![row]);
        (own.accepted, own.done, own.failed, own.lost, own.waiting, own.claimed) = (None, None, None, None, None, None);
        (own.queue.length, own.queue.limit) = (None, None);
        let shown = text(&status(vec![own]), Paint::Plain);
        assert!(!shown.contains('!'), "{shown}");
        assert!(shown.contains("  accepted - · done - · lost - · shed 0 · waiting - · claimed -\n"), "{shown}");
        assert!(shown.contains(" -/256          -  8192.0M"), "{shown}");
    }

    #[test]
    fn the_table_of_workers_has_room_for_its_last_column() {
        let shown = text(&status(vec![pool("web", "ready", vec![worker(4095, "starting")])]), Paint::Plain);
        let ends = |start: &str| shown.lines().find(|line| line.starts_with(start)).map(|line| &line[line.len() - 9..]);
        assert_eq!((ends("  worker "), ends("  web/4095.12 ")), (Some(" restarts"), Some("        5")), "{shown}");
    }

    #[test]
    fn no_line_is_longer_than_a_terminal_is_wide_and_none_controls_it() {
        let name = "a-pool-whose-name-is-at-its-limit";
        let mut long = pool(name, "degraded", vec![worker(4095, "starting"), worker(7, "backoff")]);
        long.reload.reason = Some(format!("\x1b[2J{}", "x".repeat(200)));
        long.workers[0].says = Some(format!("\x1b[2J{}", "x".repeat(200)));
        let shown = text(&status(vec![long]), Paint::Plain);
        for line in shown.lines() {
            assert!(line.chars().count() <= COLUMNS && !line.contains('\x1b'), "{line}");
        }
        assert!(shown.contains("…it/4095.12") || shown.contains("limit/4095.12"), "{shown}");
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        let status = status(vec![pool("web", "failed", Vec::new())]);
        assert!(!text(&status, Paint::Plain).contains('\x1b'));
        assert!(text(&status, Paint::Coloured).starts_with("\x1b[1;31m! web: failed\x1b[0m\n"));
    }
}
