//! Finds out all about one worker: what it is doing as /proc shows it, the deaths of its slot, and its last lines of the log.
//!
//! Runs on a thread of an errand: reading /proc can wait for the machine's memory, and the supervisor can be stopped. Nobody is
//! waited for longer than [`ANSWER_WITHIN`].

use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::unistd::Pid;

use crate::control::client::ask_at;
use crate::control::protocol::{Follow, Request, Response};
use crate::deaths;
use crate::driver::portrait;
use crate::logging::format::{Look, render};

/// How many lines of the log are shown.
const LINES: u32 = 50;
/// How long the supervisor may take for the next thing that it tells.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Whom to find out about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) pool: String,
    pub(super) slot: u32,
    pub(super) id: Option<u64>,
    /// Its process, as long as the number is surely its own.
    pub(super) pid: Option<i32>,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Details {
    pub(super) subject: Subject,
    /// The deaths of its slot, latest last, as `ostler deaths` shows them; `None` when the supervisor did not tell.
    pub(super) deaths: Option<Vec<String>>,
    /// State, threads, where each waits, and stacks where they may be read.
    pub(super) doing: Vec<String>,
    /// What was printed in its slot and said about it, latest last; `None` when the supervisor did not tell.
    pub(super) lines: Option<Vec<String>>,
}

/// Finds it out.
pub(super) fn find_out(control: &Path, subject: Subject) -> Details {
    let doing = subject.pid.map(|pid| portrait::of(Pid::from_raw(pid))).unwrap_or_default();
    let deaths = deaths_of(control, &subject);
    // Who does not tell the one does not tell the other, and is not waited for twice.
    let lines = deaths.as_ref().and_then(|_| lines_of(control, &subject));
    Details { deaths, doing, lines, subject }
}

fn deaths_of(control: &Path, subject: &Subject) -> Option<Vec<String>> {
    let mut answers = ask_at(control.to_owned(), &Request::Deaths).ok()?;
    let Ok(Some(Response::Report(json))) = answers.next_within(Some(ANSWER_WITHIN)) else { return None };
    deaths::of_slot(&json, &subject.pool, subject.slot, SystemTime::now()).ok()
}

fn lines_of(control: &Path, subject: &Subject) -> Option<Vec<String>> {
    let (pool, slot) = (Some(subject.pool.clone()), Some(subject.slot));
    let request = Request::Logs { pool, slot, lines: LINES, follow: Follow::No };
    let mut answers = ask_at(control.to_owned(), &request).ok()?;
    let mut text = Vec::new();
    loop {
        match answers.next_within(Some(ANSWER_WITHIN)).ok()?? {
            Response::Lines(lines) => lines.iter().for_each(|line| render(line, Look::Plain, &mut text)),
            Response::Missed(_) => {}
            Response::Done { .. } => break,
            Response::Progress(_) | Response::Report(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}
