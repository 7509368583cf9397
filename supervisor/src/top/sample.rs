//! A state of two pools to try things with.

use std::collections::HashMap;

use ostler_shared::scoreboard::content::{
    Books, Content, Death, LastExit, Pool, Quantile, Shed, Supervisor, Tally, Turns, Worker,
};
use ostler_shared::scoreboard::histogram::Histogram;

use super::source::{Found, Glance, Standing};

pub(super) const MS: u64 = 1_000_000;
pub(super) const S: u64 = 1000 * MS;

pub(super) fn glance(now_ns: u64, found: Found) -> Glance {
    Glance { now_ns, found }
}

/// At 1000 s, of a supervisor that runs.
pub(super) fn running(content: Content) -> Glance {
    let memory = HashMap::from([(101, 20 << 20), (102, 30 << 20), (201, 8 << 20)]);
    glance(1000 * S, Found::State { content: Box::new(content), standing: Standing::Running, memory })
}

/// `web` with two workers of which one is busy and a slot that waits, `api` with one worker.
pub(super) fn content() -> Content {
    let mut web = pool("web", vec![worker(0, 31, 101), worker(1, 32, 102), waiting(2)]);
    web.state = "degraded".into();
    web.target = 3;
    web.workers[1].outstanding = Some(1);
    web.workers[1].oldest_handed_at_ns = Some(985 * S);
    web.in_line = Some(7);
    let api = pool("api", vec![worker(0, 41, 201)]);
    Content { supervisor: supervisor(), pools: vec![web, api], reloads: Vec::new(), deaths: vec![death()] }
}

fn supervisor() -> Supervisor {
    Supervisor {
        version: "0.1.0".into(),
        pid: 77,
        process_start: Some(4711),
        state: "running".into(),
        started_at_ns: 900 * S,
        published_at_ns: 990 * S,
        published_at_unix_ms: 1_700_000_000_000,
        turns: Turns::default(),
        log_lines_dropped: 0,
        deaths: 1,
        reloads_ok: 0,
        reloads_undone: 0,
    }
}

fn pool(name: &'static str, workers: Vec<Worker>) -> Pool {
    let shed = Shed { queue_full: 2, queue_timeout: 1, client_gone: 0, per_uid: 0, stopping: 0 };
    Pool {
        name: name.into(),
        state: "ready".into(),
        generation: 3,
        handoff: "pass".into(),
        listeners: vec![format!("unix:/run/{name}.sock")],
        target: u32::try_from(workers.len()).unwrap(),
        stuck: 0,
        books: Books { accepted: Some(1011), done: Some(1000), lost: Some(1), shed, ..Books::default() },
        tally: Tally::default(),
        in_line: Some(0),
        queue_limit: Some(4096),
        first_in_line_at_ns: None,
        queue_delay: Some(Quantile { p50_ns: MS, p99_ns: 40 * MS }),
        service: Some(Quantile { p50_ns: 2 * MS, p99_ns: 80 * MS }),
        waits: Histogram::default(),
        services: Histogram::default(),
        last_reload: "none".into(),
        undone_because: None,
        workers,
        templates: Vec::new(),
    }
}

pub(super) fn worker(slot: u32, id: u64, pid: i32) -> Worker {
    Worker {
        slot,
        generation: 3,
        id: Some(id),
        pid: Some(pid),
        state: "ready".into(),
        state_since_ns: Some(910 * S),
        outstanding: Some(0),
        in_mailbox: Some(0),
        done: Some(500),
        capacity: 1,
        spawned_at_ns: Some(910 * S - u64::from(slot) * S),
        restarts: 0,
        last_exit: None,
        heartbeat_at_ns: Some(999 * S),
        oldest_handed_at_ns: None,
        busy_since_ns: None,
        says: None,
        estimated: Vec::new(),
    }
}

fn waiting(slot: u32) -> Worker {
    Worker {
        id: None,
        pid: None,
        state: "backoff".into(),
        done: None,
        outstanding: None,
        spawned_at_ns: None,
        restarts: 4,
        last_exit: Some(LastExit { code: Some(3), signal: None, at_ns: 980 * S }),
        ..worker(slot, 0, 0)
    }
}

fn death() -> Death {
    Death {
        at_unix_ms: 1_699_999_990_000,
        worker: "web/2.3".into(),
        id: 33,
        pid: 103,
        code: Some(3),
        signal: None,
        cause: None,
        lost: 1,
        age_ns: 4 * S,
        last_word: Some("cannot open the database".into()),
    }
}
