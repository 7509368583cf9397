//! Sets the log up: formatted on the loop's thread, written on a thread of its own, never waited for (I5).

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use ostler_config::checked::{Log, LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;

use crate::driver::without_signals;

/// Lines that wait for a slow reader; more are dropped, so that a log nobody reads stops nobody.
const LINES_WAITING_MAX: usize = 4096;
/// How long the end waits for room among them, and then for the last of them to be written.
const ROOM_AT_THE_END: Duration = Duration::from_millis(100);
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);
/// The thread formats nothing and holds one line at a time.
const STACK_BYTES: usize = 128 * 1024;

/// Lines that were dropped. The subscriber is the process's, and so is this.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines were dropped since the start because nobody read them fast enough.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Starts logging to stderr. What is returned writes the last lines when it is dropped.
///
/// # Errors
/// When there can be no thread for it.
pub(crate) fn start(log: &Log) -> io::Result<Writing> {
    let (pen, writing) = Writing::begin(io::stderr())?;
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let common =
        tracing_subscriber::fmt().with_max_level(level(log.level)).with_writer(move || pen.clone()).with_target(false);
    match log.format {
        LogFormat::Json => common.json().flatten_event(true).init(),
        LogFormat::Auto | LogFormat::Pretty => common.with_ansi(colour).init(),
    }
    Ok(writing)
}

/// What the thread is given.
enum Entry {
    /// A whole line, or several that belong together.
    Lines(Vec<u8>),
    /// Nothing follows.
    End,
}

/// Takes lines without waiting.
#[derive(Clone)]
struct Pen(Sender<Entry>);

impl Write for Pen {
    /// The formatter writes each event at once, so that what is dropped is dropped whole.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Entry::Lines(lines.to_vec())).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes. Dropped, it waits a moment for the last lines.
pub(crate) struct Writing {
    entries: Sender<Entry>,
    ended: Receiver<()>,
}

impl Writing {
    fn begin(to: impl Write + Send + 'static) -> io::Result<(Pen, Writing)> {
        let (entries, written) = bounded(LINES_WAITING_MAX);
        let (end, ended) = bounded(0);
        let thread = std::thread::Builder::new().name("log".into()).stack_size(STACK_BYTES);
        without_signals(|| {
            thread.spawn(move || {
                let _ends_with_us: Sender<()> = end;
                write_all(to, &written);
            })
        })?;
        Ok((Pen(entries.clone()), Writing { entries, ended }))
    }
}

fn write_all(mut to: impl Write, entries: &Receiver<Entry>) {
    while let Ok(Entry::Lines(lines)) = entries.recv() {
        // A full disk loses this line and may have room for the next.
        let _written = to.write_all(&lines).and_then(|()| to.flush());
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.entries.send_timeout(Entry::End, ROOM_AT_THE_END).is_ok() {
            // An error is what it waits for: the thread has ended, and its sender with it.
            let _ended = self.ended.recv_timeout(LAST_LINES_WITHIN);
        }
    }
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_last_line_is_written_before_the_end() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let (mut pen, writing) = Writing::begin(writer).unwrap();
        for number in 0..LINES_WAITING_MAX / 2 {
            // At once, as the formatter does.
            pen.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        drop(writing);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().last().unwrap(), format!("line {}", LINES_WAITING_MAX / 2 - 1));
    }

    #[test]
    fn a_line_that_cannot_be_written_is_dropped_and_the_next_one_is_tried() {
        struct Odd(UnixStream, usize);
        impl Write for Odd {
            fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                if self.1 % 2 == 1 { Err(io::ErrorKind::StorageFull.into()) } else { self.0.write(lines) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let (mut pen, writing) = Writing::begin(Odd(writer, 0)).unwrap();
        for line in [b"one\n", b"two\n", b"3rd\n", b"4th\n"] {
            pen.write_all(line).unwrap();
        }
        drop(writing);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "two\n4th\n");
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (_reader, writer) = UnixStream::pair().unwrap();
        let (mut pen, writing) = Writing::begin(writer).unwrap();
        for _ in 0..LINES_WAITING_MAX * 2 {
            pen.write_all(&[b'x'; 1024]).unwrap();
        }
        drop(writing);
        assert!(dropped() > 0);
    }
}
