//! `ostler trace`: shows connections as they end, and where their time was spent.

use std::time::Duration;

use ostler_shared::PoolName;

use super::ask::Show;
use super::lines::read_lines;
use super::terminal::{Canvas, Tone};
use super::{logs, say};
use crate::cli::Place;
use crate::control::protocol::{Follow, Line, Request, TRACED_PER_SECOND, Value, Which};
use crate::exit::ExitCode;
use crate::logging::format::{Look, time_of_day};
use crate::top::words::length;

/// Which connections, and how many of those that have ended already.
pub(crate) struct Wanted {
    pub(crate) pool: Option<PoolName>,
    pub(crate) slow: Duration,
    pub(crate) which: Which,
    pub(crate) lines: u32,
    pub(crate) follow: Follow,
}

const HEADING: &str = "ACCEPTED      CONN      WORKER           LINE CLAIMED  SERVED  ENDED\n";

pub(crate) fn trace(place: Place, wanted: Wanted, show: Show) -> ExitCode {
    let Wanted { pool, slow, which, lines, follow } = wanted;
    let slow_us = u64::try_from(slow.as_micros()).unwrap_or(u64::MAX);
    let request = Request::Trace { pool: pool.map(|pool| pool.to_string()), slow_us, which, lines, follow };
    let canvas = Canvas::of_stdout();
    let mut has_heading = false;
    let missing = format!(
        "connections are left out here: at most {TRACED_PER_SECOND} per second are shown, or as many as are read; \
         --errors and --slow leave out the usual ones"
    );
    read_lines(place, &request, follow, &missing, |lines| match show {
        Show::Json => logs::print(lines, Look::Json),
        Show::Text => {
            let mut out = String::new();
            if !std::mem::replace(&mut has_heading, true) {
                out.push_str(HEADING);
            }
            lines.iter().for_each(|line| out.push_str(&row(line, canvas)));
            say::piece(out.as_bytes())
        }
    })
}

/// A connection in a line: the columns of the heading, and who it was.
fn row(line: &Line, canvas: Canvas) -> String {
    let text = |name: &str| match value(line, name) {
        Some(Value::Text(text)) => text.as_str(),
        Some(Value::Count(_) | Value::Number(_)) | None => "-",
    };
    let count = |name: &str| match value(line, name) {
        Some(Value::Count(count)) => Some(*count),
        Some(Value::Text(_) | Value::Number(_)) | None => None,
    };
    let time = |name: &str| count(name).map_or("-".to_owned(), |us| length(us.saturating_mul(1000)));
    let accepted_us = line.at_us.saturating_sub(count("took_us").unwrap_or(0));
    let times = |name: &str, what: &str| {
        count(name).filter(|count| *count > 0).map(|count| match count {
            1 => what.to_owned(),
            _ => format!("{what} {count} times"),
        })
    };
    let (outcome, reason) = (text("outcome"), value(line, "reason").map(|_| text("reason")));
    let ended = reason.map_or(outcome.to_owned(), |reason| format!("{outcome} ({})", reason.replace('_', " ")));
    let tone = match reason {
        Some(_) => Tone::Bad,
        None => Tone::Good,
    };
    let came_back = [times("recalled", "recalled"), times("redelivered", "redelivered")];
    let ended: Vec<String> = [canvas.paint(tone, &ended)].into_iter().chain(came_back.into_iter().flatten()).collect();
    let listener = value(line, "listener").map_or(String::new(), |_| format!(" at {}", text("listener")));
    let from = value(line, "peer").map_or(String::new(), |_| format!(" · {}{listener}", text("peer")));
    let worker = match value(line, "worker") {
        Some(_) => text("worker"),
        None => text("pool"),
    };
    format!(
        "{}  {:<8}  {:<14} {:>6}  {:>6}  {:>6}  {}{from}\n",
        time_of_day(accepted_us),
        text("conn"),
        worker,
        time("queued_us"),
        time("claimed_us"),
        time("served_us"),
        ended.join(", "),
    )
}

fn value<'a>(line: &'a Line, name: &str) -> Option<&'a Value> {
    line.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::control::protocol::{Origin, Severity};

    fn line(fields: &[(&'static str, &str)]) -> Line {
        let value = |text: &str| text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Count);
        let fields = fields.iter().map(|(name, text)| (Cow::Borrowed(*name), value(text))).collect();
        let at_us = 1_780_000_000_000_000;
        Line { at_us, level: Severity::Info, origin: Origin::Access, text: Vec::new(), fields }
    }

    #[test]
    fn a_row_stands_under_its_heading() {
        let done = line(&[
            ("conn", "c812"),
            ("pool", "web"),
            ("listener", "unix:/run/web.sock"),
            ("peer", "uid:1000,pid:4711"),
            ("took_us", "5350"),
            ("queued_us", "38"),
            ("claimed_us", "12"),
            ("served_us", "5300"),
            ("recalled", "0"),
            ("redelivered", "2"),
            ("worker", "web/0.1"),
            ("outcome", "done"),
        ]);
        let row = row(&done, Canvas::Plain);
        let expected = "20:26:39.994  c812      web/0.1          38µs    12µs   5.3ms  done, redelivered 2 times";
        assert_eq!(row.trim_end(), format!("{expected} · uid:1000,pid:4711 at unix:/run/web.sock"));
        let ends = |text: &str, word: &str| text.find(word).map(|at| text[..at + word.len()].chars().count());
        assert_eq!(ends(HEADING, "LINE"), ends(&row, "38µs"));
        assert_eq!(ends(HEADING, "SERVED"), ends(&row, "5.3ms"));
        assert_eq!(
            ends(HEADING, "ENDED").map(|end| end - "ENDED".len()),
            ends(&row, "done").map(|end| end - "done".len())
        );
    }

    #[test]
    fn what_nobody_served_has_no_worker_and_no_times_of_one() {
        let shed = line(&[
            ("conn", "c9"),
            ("pool", "web"),
            ("took_us", "10000000"),
            ("queued_us", "10000000"),
            ("outcome", "shed"),
            ("reason", "queue_timeout"),
        ]);
        assert_eq!(
            row(&shed, Canvas::Plain),
            "20:26:30.000  c9        web               10s       -       -  shed (queue timeout)\n"
        );
    }
}
