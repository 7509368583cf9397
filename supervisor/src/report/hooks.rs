//! Words what hooks do: the log's lines about them, and their own.

use std::io;

use tracing::{debug, info, warn};

use super::exit_words;
use crate::driver::{CallEnded, How, Title};

/// A hook printed a line.
pub(crate) fn line(title: &Title, line: &str) {
    let Title { pool, hook } = title;
    info!(target: "hook", %pool, %hook, "{line}");
}

/// A hook is over.
pub(crate) fn ended(ended: &CallEnded) {
    let Title { pool, hook } = &ended.title;
    if ended.unsaid > 0 {
        warn!(%pool, %hook, lines = ended.unsaid, "hook printed more than is logged of one call");
    }
    match &ended.how {
        How::Itself(end) if end.exit == ostler_pool::Exit::Code(0) => debug!(%pool, %hook, "hook done"),
        How::Itself(end) => warn!(%pool, %hook, "hook ended with {}", exit_words(end.exit)),
        How::Overdue => warn!(%pool, %hook, "hook took too long and was killed"),
        How::Exec(why) => warn!(%pool, %hook, "hook {why}"),
    }
}

/// No process could be made for a hook.
pub(crate) fn not_started(title: &Title, error: &io::Error) {
    let Title { pool, hook } = title;
    warn!(%pool, %hook, "hook not run: cannot start a process: {error}");
}

/// A hook that takes too long can't be killed.
pub(crate) fn not_killed(title: &Title, error: &io::Error) {
    let Title { pool, hook } = title;
    warn!(%pool, %hook, "hook takes too long and cannot be killed: {error}");
}

/// More calls than may wait. Said for the first of them; `dropped` says how many they were.
pub(crate) fn no_room(title: &Title, waiting: usize) {
    let Title { pool, hook } = title;
    warn!(%pool, %hook, waiting, "hook not run: too many wait already; make hooks quicker, or have fewer");
}

/// What `no_room` began is over.
pub(crate) fn dropped(calls: u64) {
    warn!(calls, "hooks that were not run, because too many waited");
}

/// A stop is over before all hooks were run.
pub(crate) fn not_run(calls: usize) {
    warn!(calls, "hooks that were not run, because the stop is over");
}
