//! Keeps lines for the thread that writes them, and drops what there is no room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Stuck;
use super::thread::Order;
use crate::control::protocol::Line;

/// Lines that wait for a slow reader or a slow disk …
const LINES_WAITING_MAX: usize = 4096;
/// … and their bytes. What is more is dropped and counted, so that a log nobody reads stops nobody.
const BYTES_WAITING_MAX: usize = 8 * 1024 * 1024;
/// Orders that wait among them, for which there is room of their own.
const ORDERS_MAX: usize = 16;
/// How long the end waits for room among them.
const ROOM_AT_THE_END: Duration = Duration::from_millis(100);

/// What the thread is given.
pub(super) enum Entry {
    /// A line.
    Line(Arc<Line>),
    /// Something to do behind the lines before it.
    Order(Order),
    /// Nothing follows.
    End,
}

/// There was no room for the end, and nobody made any.
pub(super) struct NoRoom;

/// What both ends count. Relaxed: nothing is published by these numbers.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    /// Of which nobody has been told.
    dropped: AtomicU64,
    /// Since the start.
    ever_dropped: AtomicU64,
}

/// Takes lines without waiting.
#[derive(Clone)]
pub(super) struct Pen {
    entries: Sender<Entry>,
    counts: Arc<Counts>,
}

/// Gives them to the thread.
pub(super) struct Inkwell {
    entries: Receiver<Entry>,
    counts: Arc<Counts>,
}

/// A queue.
pub(super) fn queue() -> (Pen, Inkwell) {
    let (entries, taken) = bounded(LINES_WAITING_MAX + ORDERS_MAX);
    let counts = Arc::new(Counts::default());
    (Pen { entries, counts: Arc::clone(&counts) }, Inkwell { entries: taken, counts })
}

impl Pen {
    /// Queues a line, or drops it where there is no room.
    pub(super) fn write(&self, line: Arc<Line>) {
        let bytes = size(&line);
        let before = self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        // The first one always fits, however long it is.
        let fits = before == 0 || before + bytes <= BYTES_WAITING_MAX;
        if !fits || self.entries.len() >= LINES_WAITING_MAX || self.entries.try_send(Entry::Line(line)).is_err() {
            self.counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            self.counts.ever_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped since the start.
    pub(super) fn ever_dropped(&self) -> u64 {
        self.counts.ever_dropped.load(Ordering::Relaxed)
    }

    /// Queues an order behind the lines that were written before it.
    ///
    /// # Errors
    /// [`Stuck`]: the thread has not followed earlier ones for long.
    pub(super) fn order(&self, order: Order) -> Result<(), Stuck> {
        self.entries.try_send(Entry::Order(order)).map_err(|_| Stuck)
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// When there is no room for that either.
    pub(super) fn end(&self) -> Result<(), NoRoom> {
        self.entries.send_timeout(Entry::End, ROOM_AT_THE_END).map_err(|_| NoRoom)
    }
}

impl Inkwell {
    /// Where entries come from.
    pub(super) fn entries(&self) -> &Receiver<Entry> {
        &self.entries
    }

    /// A line was taken out.
    pub(super) fn taken(&self, line: &Line) {
        self.counts.bytes.fetch_sub(size(line), Ordering::Relaxed);
    }

    /// How many lines were dropped since this was last asked, once there is room again.
    pub(super) fn dropped(&self) -> u64 {
        if self.entries.is_empty() { self.counts.dropped.swap(0, Ordering::Relaxed) } else { 0 }
    }

    /// Nobody could be told of those; they count for the next time.
    pub(super) fn not_told(&self, lines: u64) {
        self.counts.dropped.fetch_add(lines, Ordering::Relaxed);
    }
}

/// What a line occupies in memory, about.
pub(super) fn size(line: &Line) -> usize {
    use crate::control::protocol::Value;
    let of = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Count(_) | Value::Number(_) => 0,
    };
    size_of::<Line>() + line.text.len() + line.fields.iter().map(|(_, value)| 64 + of(value)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{Origin, Severity};

    fn line(bytes: usize) -> Arc<Line> {
        let (level, origin) = (Severity::Info, Origin::Supervisor);
        Arc::new(Line { at_us: 0, level, origin, text: vec![b'x'; bytes], fields: Vec::new() })
    }

    /// Takes everything out; says how many lines it was.
    fn empty(inkwell: &Inkwell) -> usize {
        let taken = inkwell.entries().try_iter().map(|entry| match entry {
            Entry::Line(line) => inkwell.taken(&line),
            Entry::Order(_) | Entry::End => panic!("nobody said so"),
        });
        taken.count()
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_told_when_there_is_room() {
        let (pen, inkwell) = queue();
        for _ in 0..LINES_WAITING_MAX + 7 {
            pen.write(line(1));
        }
        assert_eq!(inkwell.dropped(), 0, "not while it is full");
        assert_eq!(empty(&inkwell), LINES_WAITING_MAX);
        assert_eq!((inkwell.dropped(), inkwell.dropped()), (7, 0));
        assert_eq!(pen.ever_dropped(), 7);
    }

    #[test]
    fn bytes_are_bounded_as_well_and_given_back() {
        let (pen, inkwell) = queue();
        for _ in 0..2 {
            for _ in 0..20 {
                pen.write(line(BYTES_WAITING_MAX / 16));
            }
            let kept = empty(&inkwell);
            assert!((14..=16).contains(&kept), "{kept}");
            assert_eq!(inkwell.dropped(), 20 - kept as u64);
        }
        pen.write(line(BYTES_WAITING_MAX * 2));
        assert_eq!(empty(&inkwell), 1, "one alone always fits");
    }
}
