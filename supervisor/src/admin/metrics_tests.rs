//! The metrics of an example, as they are written down beside this file.

use std::time::Duration;

use ostler_shared::scoreboard::Histogram;
use ostler_shared::scoreboard::content::{Books, Shed, Supervisor, Tally, Turns};

use super::*;

const MS: u64 = 1_000_000;

fn histogram(lengths_ms: &[u64]) -> Histogram {
    let mut histogram = Histogram::default();
    lengths_ms.iter().for_each(|ms| histogram.record(Duration::from_millis(*ms)));
    histogram
}

fn worker(slot: u32, id: u64, state: &'static str) -> Worker {
    Worker {
        slot,
        generation: 3,
        id: Some(id),
        pid: Some(4711),
        state: state.into(),
        state_since_ns: Some(6_000 * MS),
        outstanding: Some(2),
        in_mailbox: Some(1),
        done: Some(20),
        capacity: 4,
        spawned_at_ns: Some(5_000 * MS),
        restarts: 1,
        last_exit: None,
        heartbeat_at_ns: None,
        oldest_handed_at_ns: Some(9_000 * MS),
        busy_since_ns: None,
        says: None,
        estimated: Vec::new(),
    }
}

fn pool(name: &'static str, workers: Vec<Worker>) -> Pool {
    Pool {
        name: name.into(),
        state: "ready".into(),
        generation: 3,
        handoff: "pass".into(),
        listeners: vec!["unix:web.sock".into()],
        target: 2,
        stuck: 0,
        books: Books {
            accepted: Some(60),
            done: Some(50),
            failed: Some(1),
            lost: Some(2),
            handed: Some(58),
            recalled: Some(3),
            redelivered: Some(1),
            shed: Shed { queue_timeout: 1, ..Shed::default() },
        },
        tally: Tally { started: 5, restarts: 1, died_by_signal: 1, reloads_ok: 2, silent: 1, ..Tally::default() },
        in_line: Some(1),
        queue_limit: Some(64),
        first_in_line_at_ns: Some(9_750 * MS),
        queue_delay: None,
        service: None,
        waits: histogram(&[0, 3, 40]),
        services: histogram(&[1, 20, 90_000]),
        last_reload: "ok".into(),
        undone_because: None,
        workers,
        templates: Vec::new(),
    }
}

/// A pool with a replacement under way in its first slot, and ours.
pub(crate) fn example() -> Content {
    let workers = vec![worker(0, 7, "ready"), worker(0, 9, "starting"), worker(1, 8, "ready")];
    let listens = Pool {
        books: Books::default(),
        in_line: None,
        queue_limit: None,
        first_in_line_at_ns: None,
        ..pool("admin", Vec::new())
    };
    Content {
        supervisor: Supervisor {
            version: "0.1.0".into(),
            pid: 1,
            process_start: None,
            state: "running".into(),
            started_at_ns: 1_000 * MS,
            published_at_ns: 9_900 * MS,
            published_at_unix_ms: 1_000_000_000_000,
            turns: Turns { count: 100, busy_ns: 250 * MS, last_ns: MS, longest_ns: 2 * MS },
            log_lines_dropped: 0,
            deaths: 1,
            reloads_ok: 2,
            reloads_undone: 0,
        },
        pools: vec![pool("web", workers), listens],
        reloads: Vec::new(),
        deaths: Vec::new(),
    }
}

#[test]
fn the_metrics_of_an_example_are_what_is_written_down() {
    assert_eq!(text(&example(), 10_000 * MS), include_str!("metrics_golden.txt"));
}

#[test]
fn incumbent_and_successor_are_one_series() {
    let text = text(&example(), 10_000 * MS);
    let lines: Vec<&str> = text.lines().collect();
    let mut names: Vec<&str> =
        lines.iter().filter(|l| !l.starts_with('#')).filter_map(|l| l.rsplit_once(' ')).map(|(n, _)| n).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "no series is there twice");
    assert!(lines.contains(&"ostler_worker_claimed{pool=\"web\",worker=\"0\"} 2"), "{text}");
}

fn template(id: u64, generation: u32, state: &'static str) -> Template {
    Template { id, generation, pid: Some(4712), state: state.into(), spawned_at_ns: 4_000 * MS, forked: 10 * id }
}

#[test]
fn of_several_templates_the_newest_one_that_is_ready_counts() {
    let lines = |templates: &[Template]| {
        let mut content = example();
        content.pools[0].templates = templates.to_vec();
        let text = text(&content, 10_000 * MS);
        text.lines()
            .filter(|line| line.contains("template") && !line.starts_with('#'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]), [""; 0]);
    let begun = lines(&[template(1, 3, "starting")]);
    assert_eq!(begun[0], "ostler_pool_templates{pool=\"web\",state=\"starting\"} 1");
    assert_eq!(begun.len(), 4, "of one that has not loaded there is no more to say: {begun:?}");
    let reloading = lines(&[template(1, 3, "draining"), template(4, 4, "ready"), template(2, 3, "ready")]);
    assert_eq!(
        reloading,
        [
            "ostler_pool_templates{pool=\"web\",state=\"starting\"} 0",
            "ostler_pool_templates{pool=\"web\",state=\"ready\"} 2",
            "ostler_pool_templates{pool=\"web\",state=\"draining\"} 1",
            "ostler_pool_templates{pool=\"web\",state=\"leaving\"} 0",
            "ostler_template_generation{pool=\"web\"} 4",
            "ostler_template_age_seconds{pool=\"web\"} 6",
            "ostler_template_forked{pool=\"web\"} 40",
        ]
    );
}

#[test]
fn books_balance_in_what_is_scraped() {
    let content = example();
    let (pool, books) = (&content.pools[0], content.pools[0].books);
    // 60 were accepted: 50 done, 2 lost, 1 shed, and the others are where they are said to be.
    assert_eq!(books.accepted, Some(50 + 2 + 1 + waiting(pool) + claimed(pool)));
}

#[test]
fn slots_beyond_the_limit_are_counted_and_not_listed() {
    let mut content = example();
    content.pools[0].workers = (0..1030).map(|slot| worker(slot, u64::from(slot), "ready")).collect();
    let text = text(&content, 10_000 * MS);
    assert!(text.contains("ostler_pool_slots_unlisted{pool=\"web\"} 6\n"));
    assert_eq!(text.lines().filter(|line| line.starts_with("ostler_worker_claimed{")).count(), SLOTS_LISTED_MAX);
}
