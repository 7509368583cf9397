//! The log: what happens becomes a line, lines are kept for who asks, and written by a thread, never waited for (I5).
//!
//! ```text
//! tracing events ─┐            ┌─▶ tail: the last lines, and who reads along (`ostler logs`)
//! prints ─────────┴─▶ a Line ──┴─▶ queue ──▶ thread ──▶ standard error, a file, or the journal
//! ends of connections ──────────▶ queue ──▶ thread ──▶ the access log
//! ```
//! Lines are made by the loop, rendered by who shows them. Files for a new configuration are opened aside, by the helper thread,
//! before a reload begins; what is in force changes when it commits, so that an undone reload changes nothing (I4).

pub(crate) mod format;
mod journal;
mod line;
mod outlet;
mod queue;
pub(crate) mod tail;
mod thread;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, bounded};
use nix::sys::eventfd::{EfdFlags, EventFd};
use ostler_config::checked::{AccessTo, Log, LogLevel};
use ostler_shared::WorkerName;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::control::protocol::{Line, Stream};
use outlet::Outlet;
use queue::Pen;
use tail::Tail;
use thread::{Order, Report, Scribe};

pub(crate) use line::now_us;
pub(crate) use outlet::OpenError;
pub(crate) use thread::{Told, Which};

/// Reports of the threads that wait for the loop.
const TOLD_MAX: usize = 64;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system refuses a thread, or a descriptor.
    #[error("cannot start the log: {0}")]
    Io(#[from] io::Error),
}

/// What makes lines: the subscriber of events, and the loop.
#[derive(Clone)]
struct Writer {
    tail: Arc<Mutex<Tail>>,
    pen: Pen,
}

impl Writer {
    fn write(&self, line: Line) {
        let line = Arc::new(line);
        lock(&self.tail).add(&line, None);
        self.pen.write(line);
    }
}

impl<S: Subscriber> Layer<S> for Writer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.write(line::of_event(event));
    }
}

/// The log of this process.
pub(crate) struct Logging {
    settings: Log,
    writer: Writer,
    level: reload::Handle<LevelFilter, tracing_subscriber::Registry>,
    scribe: Scribe,
    access: Option<Scribe>,
    report: Report,
    told: Receiver<Told>,
    /// What the next order to reopen is numbered.
    next_order: u64,
}

/// Outlets for a configuration that is not in force yet.
pub(crate) struct Aside {
    settings: Log,
    /// `None`: as it is.
    log: Option<Outlet>,
    access: Option<Outlet>,
}

/// Opens what a new configuration asks for and the one in force does not.
///
/// # Errors
/// [`OpenError`]; nothing has changed then.
pub(crate) fn prepare(in_force: &Log, new: &Log) -> Result<Aside, OpenError> {
    let same_format = in_force.format == new.format;
    let log = (in_force.file != new.file || !same_format).then(|| Outlet::of_log(new)).transpose()?;
    let access = match &new.access {
        Some(to) if in_force.access != new.access || !same_format => Some(Outlet::of_access(to, new.format)?),
        Some(_) | None => None,
    };
    Ok(Aside { settings: new.clone(), log, access })
}

/// An order to reopen that was given, and how many threads will report on it.
pub(crate) struct Reopening {
    pub(crate) number: u64,
    pub(crate) files: u32,
}

/// The log is stuck.
#[derive(Debug, thiserror::Error)]
#[error("the log is not written at present: its disk or its reader does not answer")]
pub(crate) struct Stuck;

impl Logging {
    /// Starts to log.
    ///
    /// # Errors
    /// [`LogError`]
    pub(crate) fn start(log: &Log) -> Result<Logging, LogError> {
        let (report, told) = bounded(TOLD_MAX);
        let bell =
            Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(io::Error::from)?);
        let report = Report { told: report, bell };
        let outlet = Outlet::of_log(log)?;
        let access = log.access.as_ref().map(|to| Outlet::of_access(to, log.format)).transpose()?;
        let scribe = Scribe::start(Which::Log, outlet, report.clone())?;
        let access = access.map(|outlet| Scribe::start(Which::Access, outlet, report.clone())).transpose()?;
        let writer = Writer { tail: Arc::default(), pen: scribe.pen.clone() };
        let (filter, level) = reload::Layer::new(filter(log.level));
        tracing_subscriber::registry().with(filter).with(writer.clone()).init();
        Ok(Logging { settings: log.clone(), writer, level, scribe, access, report, told, next_order: 0 })
    }

    /// Where the log goes, for people.
    pub(crate) fn place(&self) -> String {
        let path = match &self.settings.file {
            Some(path) => Ok(path.clone()),
            None => std::fs::read_link("/proc/self/fd/2"),
        };
        path.map_or_else(|_| "?".to_owned(), |path| path.display().to_string())
    }

    /// Readable when a thread has something to report.
    pub(crate) fn readable(&self) -> BorrowedFd<'_> {
        self.report.bell.as_fd()
    }

    /// What the threads reported.
    pub(crate) fn take(&self) -> Vec<Told> {
        let _count = self.report.bell.read(); // EAGAIN: somebody rang between two reads, and was heard
        self.told.try_iter().collect()
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> MutexGuard<'_, Tail> {
        lock(&self.writer.tail)
    }

    /// A worker printed a line, or the given piece of one.
    pub(crate) fn printed(&self, worker: &WorkerName, stream: Stream, text: &[u8], piece: Option<u64>) {
        let line = Arc::new(line::of_worker(worker, stream, text, piece));
        self.tail().add(&line, Some((&worker.pool, worker.slot)));
        // In memory it is kept all the same: `ostler logs` is asked by who wants to see it.
        if filter(self.settings.level) >= LevelFilter::INFO {
            self.writer.pen.write(line);
        }
    }

    /// How many lines were dropped since the start because they were not written fast enough.
    pub(crate) fn dropped(&self) -> u64 {
        self.scribe.pen.ever_dropped()
    }

    /// Whether each connection gets a line.
    pub(crate) fn keeps_access(&self) -> bool {
        self.access.is_some()
    }

    /// A connection has ended.
    pub(crate) fn access(&self, line: Line) {
        if let Some(access) = &self.access {
            access.pen.write(Arc::new(line));
        }
    }

    /// Opens the files anew that lines are written to.
    ///
    /// # Errors
    /// [`Stuck`]
    pub(crate) fn reopen(&mut self) -> Result<Reopening, Stuck> {
        let number = self.next_order;
        self.next_order += 1;
        let log = self.settings.file.as_ref().map(|_| &self.scribe);
        let access = self.access.as_ref().filter(|_| matches!(self.settings.access, Some(AccessTo::File(_))));
        let mut files = 0;
        for scribe in [log, access].into_iter().flatten() {
            scribe.pen.order(Order::Reopen(number))?;
            files += 1;
        }
        Ok(Reopening { number, files })
    }

    /// Puts a configuration into force.
    ///
    /// # Errors
    /// [`LogError`]: what could not be changed stays as it was, and the rest has changed.
    pub(crate) fn adopt(&mut self, aside: Aside) -> Result<(), LogError> {
        let Aside { settings, log, access } = aside;
        self.level
            .modify(|level| *level = filter(settings.level))
            .expect("the subscriber lives as long as the process");
        let wanted = settings.access.is_some();
        self.settings = settings;
        if let Some(outlet) = log {
            self.scribe.pen.order(Order::Become(Box::new(outlet))).map_err(io::Error::other)?;
        }
        match (access, &self.access) {
            (Some(outlet), Some(scribe)) => {
                scribe.pen.order(Order::Become(Box::new(outlet))).map_err(io::Error::other)?;
            }
            (Some(outlet), None) => self.access = Some(Scribe::start(Which::Access, outlet, self.report.clone())?),
            // Its thread ends when it has written what it has; nobody waits for that.
            (None, Some(_)) if !wanted => self.access = None,
            (None, _) => {}
        }
        Ok(())
    }
}

/// Lets the threads write the last lines, as long as that takes a moment only.
impl Drop for Logging {
    fn drop(&mut self) {
        self.scribe.finish();
        self.access.iter().for_each(Scribe::finish);
    }
}

/// Held for moments, and by the loop alone but for what other threads say.
fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
