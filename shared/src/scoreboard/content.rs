//! Defines what is published: everything that `ostler status` says, and what a metrics page or a live view needs beyond that.
//!
//! Times ending in `_at_ns` are nanoseconds of `CLOCK_MONOTONIC`, the same in every process of the machine, so that whoever
//! reads computes ages himself. Counters count from the supervisor's start. What is not measured is `None`. How much memory a
//! worker occupies is not in here: who wants to know reads it at its pid, which costs the supervisor nothing.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::{DEATHS_MAX, REASON_BYTES_MAX, RELOADS_MAX, TEXT_BYTES_MAX};

/// A word of the contract, such as `ready`.
pub type Word = Cow<'static, str>;

/// One state of everything, at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The supervisor itself.
    pub supervisor: Supervisor,
    /// In the order of the configuration.
    pub pools: Vec<Pool>,
    /// The last reloads, oldest first, at most [`RELOADS_MAX`].
    pub reloads: Vec<Reload>,
    /// The last deaths, oldest first, at most [`DEATHS_MAX`].
    pub deaths: Vec<Death>,
}

/// The supervisor itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// ostler's version.
    pub version: Word,
    /// Its process, as it sees itself.
    pub pid: u32,
    /// When its process started, in clock ticks since the boot (field 22 of proc_pid_stat(5)): a pid alone may be another's.
    pub process_start: Option<u64>,
    /// `running`, `reloading`, `draining` or `stopping`.
    pub state: Word,
    /// When it began.
    pub started_at_ns: u64,
    /// When this was published.
    pub published_at_ns: u64,
    /// The same on the wall, in milliseconds since 1970: still true after a reboot.
    pub published_at_unix_ms: u64,
    /// How the loop fares.
    pub turns: Turns,
    /// Lines of the log that were dropped because nobody read them fast enough.
    pub log_lines_dropped: u64,
    /// Deaths of workers, however they came about.
    pub deaths: u64,
    /// Reloads that were completed.
    pub reloads_ok: u64,
    /// Reloads that were undone.
    pub reloads_undone: u64,
}

/// How the supervisor's loop fares: a turn is what it does between two waits, and nobody is served faster than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Turns {
    /// How many there were.
    pub count: u64,
    /// How long they took together, in nanoseconds.
    pub busy_ns: u64,
    /// How long the last one took, in nanoseconds.
    pub last_ns: u64,
    /// The longest since the state before this one was published, in nanoseconds.
    pub longest_ns: u64,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: Word,
    /// `starting`, `ready`, `degraded`, `failed`, `paused`, `draining` or `stopped`.
    pub state: Word,
    /// The generation that the last complete reload brought.
    pub generation: u32,
    /// How connections reach its workers.
    pub handoff: Word,
    /// As the configuration writes them.
    pub listeners: Vec<String>,
    /// How many workers it is to have.
    pub target: u32,
    /// Workers that were found stuck and are handed nothing for the time being.
    pub stuck: u32,
    /// What happened to its connections.
    pub books: Books,
    /// What happened to its workers.
    pub tally: Tally,
    /// Connections in the line; `None` where there is no line, since workers accept for themselves.
    pub in_line: Option<u64>,
    /// Most that may wait there.
    pub queue_limit: Option<u32>,
    /// Since when the first in the line waits.
    pub first_in_line_at_ns: Option<u64>,
    /// How long connections waited in the line, over the last minute.
    pub queue_delay: Option<Quantile>,
    /// How long workers held connections, over the last minute.
    pub service: Option<Quantile>,
    /// How long connections waited in the line before each handoff, since the start.
    pub waits: Histogram,
    /// How long workers held connections, since the start.
    pub services: Histogram,
    /// `ok`, `undone` or `none`.
    pub last_reload: Word,
    /// Why the last reload was undone.
    pub undone_because: Option<String>,
    /// By slot, an incumbent before its successor; slots that wait for one included.
    pub workers: Vec<Worker>,
    /// Those that fork workers, the oldest first.
    pub templates: Vec<Template>,
}

/// Where the connections of a pool are and went. `accepted` is the sum of `done`, `lost`, `shed`, those in the line and the
/// workers' `outstanding`; `failed` are those of `done` that did not go well. What workers accept for themselves nobody hands out, and
/// what programs without the library do with it nobody counts: `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the contract's words")]
pub struct Books {
    pub accepted: Option<u64>,
    pub done: Option<u64>,
    pub failed: Option<u64>,
    pub lost: Option<u64>,
    pub handed: Option<u64>,
    pub recalled: Option<u64>,
    pub redelivered: Option<u64>,
    pub shed: Shed,
}

/// Connections let go without being served, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the contract's words")]
pub struct Shed {
    pub queue_full: u64,
    pub queue_timeout: u64,
    pub client_gone: u64,
    pub per_uid: u64,
    pub stopping: u64,
}

/// What happened to the workers of a pool, how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Workers that were started.
    pub started: u64,
    /// Of these, how many because one had died unasked.
    pub restarts: u64,
    /// Deaths of workers that were asked to leave and did.
    pub died_asked: u64,
    /// Deaths, unasked, with exit code 0.
    pub died_clean: u64,
    /// Deaths, unasked, with another exit code.
    pub died_failing: u64,
    /// Deaths, unasked, by a signal.
    pub died_by_signal: u64,
    /// Workers that had to leave because they were not READY in time.
    pub never_ready: u64,
    /// Workers that had to leave because they broke the protocol.
    pub misbehaved: u64,
    /// Workers that had to leave because they did not beat.
    pub silent: u64,
    /// Workers that had to leave because a request took too long.
    pub overdue: u64,
    /// Reloads that gave this pool a new generation.
    pub reloads_ok: u64,
    /// Reloads of this pool that were undone.
    pub reloads_undone: u64,
}

/// Two quantiles, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantile {
    /// The median.
    pub p50_ns: u64,
    /// The 99th percentile.
    pub p99_ns: u64,
}

/// One worker, or a slot that waits for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its slot.
    pub slot: u32,
    /// Its generation, or that of the next one.
    pub generation: u32,
    /// Its identity; `None` while the slot waits.
    pub id: Option<u64>,
    /// Its process; `None` while the slot waits.
    pub pid: Option<i32>,
    /// `starting`, `ready`, `draining`, `leaving` or `backoff`.
    pub state: Word,
    /// Since when; for a slot that waits, since its last worker ended.
    pub state_since_ns: Option<u64>,
    /// Connections in its mailbox or hands; `None`, as the next two, where nobody counts them.
    pub outstanding: Option<u64>,
    /// Of these, those in its mailbox.
    pub in_mailbox: Option<u64>,
    /// Connections that it has served.
    pub done: Option<u64>,
    /// Connections that it serves at a time.
    pub capacity: u32,
    /// When it was spawned.
    pub spawned_at_ns: Option<u64>,
    /// How often the slot had to start another worker because one died unasked.
    pub restarts: u32,
    /// How the slot's last worker ended.
    pub last_exit: Option<LastExit>,
    /// When one of its serving threads was last heard of, by its own words.
    pub heartbeat_at_ns: Option<u64>,
    /// When the oldest connection that it holds was handed to it.
    pub oldest_handed_at_ns: Option<u64>,
    /// Since when it is at the request that it is at longest, where it marks them; its own words.
    pub busy_since_ns: Option<u64>,
    /// What it says of itself, for people.
    pub says: Option<String>,
    /// How its connections have got out of its library's sight, so that its figures are estimates; empty where they have not.
    pub estimated: Vec<Word>,
}

/// One template: a program that has loaded everything and forks workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Its identity.
    pub id: u64,
    /// The generation that it forks workers of.
    pub generation: u32,
    /// Its process.
    pub pid: Option<i32>,
    /// As a worker's; `ready` is who has loaded everything.
    pub state: Word,
    /// When it was spawned.
    pub spawned_at_ns: u64,
    /// Workers that it has forked.
    pub forked: u64,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// When.
    pub at_ns: u64,
}

/// A reload that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// When it was over.
    pub at_ns: u64,
    /// `ok` or `undone`.
    pub outcome: Word,
    /// What whoever asked for it was told.
    pub verdict: String,
}

/// A death that happened. `ostler deaths` knows more of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// When, on the wall, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// `pool/slot.generation`.
    pub worker: String,
    /// Its identity.
    pub id: u64,
    /// Its process.
    pub pid: i32,
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it was to leave, where it was.
    pub cause: Option<Word>,
    /// Connections that died with it.
    pub lost: u64,
    /// How old it was, in nanoseconds.
    pub age_ns: u64,
    /// The last thing it printed, cut.
    pub last_word: Option<String>,
}

/// What was read is no content of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its content is not what this version of the scoreboard has")]
pub struct BadContent;

impl Content {
    /// Makes everything as short as the limits say.
    pub fn cut(&mut self) {
        for text in self.pools.iter_mut().filter_map(|pool| pool.undone_because.as_mut()) {
            cut(text, TEXT_BYTES_MAX);
        }
        let workers = self.pools.iter_mut().flat_map(|pool| &mut pool.workers);
        workers.filter_map(|worker| worker.says.as_mut()).for_each(|says| cut(says, TEXT_BYTES_MAX));
        self.reloads.drain(..self.reloads.len().saturating_sub(RELOADS_MAX));
        self.deaths.drain(..self.deaths.len().saturating_sub(DEATHS_MAX));
        self.reloads.iter_mut().for_each(|reload| cut(&mut reload.verdict, TEXT_BYTES_MAX));
        self.deaths
            .iter_mut()
            .filter_map(|death| death.last_word.as_mut())
            .for_each(|word| cut(word, REASON_BYTES_MAX));
    }

    /// As bytes.
    ///
    /// # Panics
    /// Never: numbers and texts can be encoded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("numbers and texts can be encoded")
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`BadContent`].
    pub fn decode(bytes: &[u8]) -> Result<Content, BadContent> {
        match postcard::take_from_bytes(bytes) {
            Ok((content, [])) => Ok(content),
            Ok(_) | Err(_) => Err(BadContent),
        }
    }
}

/// Cuts a text at the last whole character within the limit, and shows that.
fn cut(text: &mut String, bytes_max: usize) {
    const MORE: &str = "…";
    if text.len() > bytes_max {
        let end = (0..=bytes_max - MORE.len()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(MORE);
    }
}

#[cfg(all(test, not(loom)))]
#[path = "content_tests.rs"]
mod tests;
