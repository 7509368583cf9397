//! `docs/configuration.md` says what the code does.

use crate::keys::{Default, KEYS};
use crate::limits;

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// The cells of each row of a table whose first cell is a key.
fn rows() -> Vec<Vec<&'static str>> {
    let rows = REFERENCE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What stands in backticks.
fn quoted(line: &'static str) -> impl Iterator<Item = &'static str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn the_reference_has_a_row_for_every_key_with_its_default_and_no_other() {
    let written: Vec<(String, String)> =
        rows().iter().map(|cells| (cells[0].trim_matches('`').to_owned(), cells[2].to_owned())).collect();
    let real: Vec<(String, String)> = KEYS
        .iter()
        .map(|key| match key.default {
            Default::Toml(text) => (key.path.to_owned(), format!("`{text}`")),
            Default::Words(text) => (key.path.to_owned(), text.to_owned()),
        })
        .collect();
    assert_eq!(written, real);
}

#[test]
fn the_reference_lists_every_value_that_is_not_yet_built_and_no_other() {
    let (_, list) = REFERENCE.split_once("## Not yet supported").unwrap();
    let mut written: Vec<Vec<&str>> =
        list.lines().filter(|line| line.starts_with("- `")).map(|line| quoted(line).collect()).collect();
    let unbuilt = KEYS.iter().filter(|key| !key.later.is_empty());
    let mut real: Vec<Vec<&str>> = unbuilt.map(|key| [&[key.path], key.later].concat()).collect();
    written.sort_unstable();
    real.sort_unstable();
    assert_eq!(written, real);
}

#[test]
fn the_reference_says_the_real_limits() {
    let rows = rows();
    for (path, limit) in [
        ("supervisor.control", limits::UNIX_BYTES_MAX as u64),
        ("pool.NAME.command", limits::COMMAND_WORDS_MAX as u64),
        ("pool.NAME.command", limits::WORD_BYTES_MAX as u64),
        ("pool.NAME.command", limits::STAGES_MAX as u64),
        ("pool.NAME.listen", limits::LISTEN_MAX as u64),
        ("pool.NAME.workers", u64::from(limits::WORKERS_MAX)),
        ("pool.NAME.workers", u64::from(limits::WORKERS_DEFAULT_MIN)),
        ("pool.NAME.workers.min", u64::from(limits::WORKERS_MAX)),
        ("pool.NAME.workers.max", u64::from(limits::WORKERS_MAX)),
        ("pool.NAME.workers.idle", limits::SCALE_IDLE_MIN.as_secs()),
        ("pool.NAME.concurrency", u64::from(limits::CONCURRENCY_MAX)),
        ("pool.NAME.prefetch", u64::from(limits::PREFETCH_MAX)),
        ("pool.NAME.recall_after", limits::RECALL_AFTER_MAX.as_secs()),
        ("pool.NAME.socket.backlog", u64::from(limits::BACKLOG_MAX)),
        ("pool.NAME.queue.limit", u64::from(limits::QUEUE_LIMIT_MAX)),
        ("pool.NAME.queue.on_timeout", limits::REPLY_BYTES_MAX as u64),
        ("pool.NAME.start.failures", u64::from(limits::FAILURES_MAX)),
        ("pool.NAME.watchdog.heartbeat", limits::WATCHDOG_MIN.as_secs()),
        ("pool.NAME.recycle.requests", u64::from(limits::RECYCLE_REQUESTS_MAX)),
        ("pool.NAME.recycle.jitter", u64::from(limits::RECYCLE_JITTER_MAX / 100)),
        ("pool.NAME.recycle.age", limits::RECYCLE_AGE_MIN.as_secs()),
        ("pool.NAME.recycle.rss", limits::RECYCLE_RSS_MIN >> 20),
        ("pool.NAME.process.env", limits::ENV_MAX as u64),
        ("pool.NAME.process.env_keep", limits::ENV_MAX as u64),
        ("pool.NAME.process.groups", limits::GROUPS_MAX as u64),
        ("pool.NAME.process.limits", limits::LIMIT_MAX),
        ("pool.NAME.process.nice", u64::from(limits::NICE_MIN.unsigned_abs())),
        ("pool.NAME.process.nice", u64::from(limits::NICE_MAX.unsigned_abs())),
        ("pool.NAME.process.nofile", u64::from(limits::NOFILE_MIN)),
        ("pool.NAME.process.nofile", u64::from(limits::NOFILE_MAX)),
        ("pool.NAME.process.nofile", u64::from(limits::WORKER_DESCRIPTORS)),
    ] {
        let row = rows.iter().find(|cells| cells[0].trim_matches('`') == path).unwrap();
        let said =
            row[1..].iter().any(|cell| cell.split(|c: char| !c.is_ascii_digit()).any(|n| n == limit.to_string()));
        assert!(said, "{path} does not say {limit}");
    }
    assert!(REFERENCE.contains(&format!("1 to {} pools", limits::POOLS_MAX)));
    assert_eq!(limits::FILE_BYTES_MAX, 1024 * 1024, "the reference says 1 MiB");
    assert_eq!(limits::DURATION_MAX.as_secs(), 365 * 86_400, "the reference says 365d");
    assert_eq!(limits::HELLO_CONCURRENCY, 64, "the reference says 64");
}
