//! Turns what happens into lines of the log: events of ours, prints of workers.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::time::SystemTime;

use ostler_shared::WorkerName;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::control::protocol::{Line, Origin, Severity, Stream, Value};

/// The time as lines carry it: microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A line about something that we did or saw.
pub(super) fn of_event(event: &Event<'_>) -> Line {
    let mut reader = Reader { text: String::new(), fields: Vec::new() };
    event.record(&mut reader);
    Line {
        at_us: now_us(),
        level: severity(event.metadata().level()),
        origin: Origin::Supervisor,
        text: reader.text.into_bytes(),
        fields: reader.fields,
    }
}

/// What a worker printed. `piece` counts the parts of a line that was too long for one.
pub(super) fn of_worker(worker: &WorkerName, stream: Stream, text: &[u8], piece: Option<u64>) -> Line {
    let mut fields = vec![(Cow::Borrowed("worker"), Value::Text(worker.to_string()))];
    fields.extend(piece.map(|piece| (Cow::Borrowed("piece"), Value::Count(piece))));
    Line { at_us: now_us(), level: Severity::Info, origin: Origin::Worker(stream), text: text.to_vec(), fields }
}

fn severity(level: &Level) -> Severity {
    match *level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warn,
        Level::INFO => Severity::Info,
        Level::DEBUG => Severity::Debug,
        Level::TRACE => Severity::Trace,
    }
}

/// Reads the fields of an event.
struct Reader {
    text: String,
    fields: Vec<(Cow<'static, str>, Value)>,
}

impl Reader {
    fn push(&mut self, field: &Field, value: Value) {
        self.fields.push((Cow::Borrowed(field.name()), value));
    }
}

impl Visit for Reader {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Count(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Number(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Text(value.to_string()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.text.push_str(value);
        } else {
            self.push(field, Value::Text(value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // A String takes everything.
            let _written = write!(self.text, "{value:?}");
        } else {
            self.push(field, Value::Text(format!("{value:?}")));
        }
    }
}
