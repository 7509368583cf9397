//! Writes lines on a thread of its own, one outlet each, so that nobody else waits for a disk or a reader (I5).
//!
//! It says nothing itself: what goes wrong it reports to the loop, which words it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nix::sys::eventfd::EventFd;

use super::outlet::{Failed, OpenError, Outlet};
use super::queue::{Entry, Inkwell, Pen, queue};
use crate::control::protocol::Line;
use crate::driver::without_signals;

/// How long the end waits for the last lines to be written.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);
/// The thread renders a batch and holds nothing else.
const STACK_BYTES: usize = 256 * 1024;
/// Most lines that are written at a time, and about so many bytes of them.
const BATCH_LINES_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The log itself.
    Log,
    /// The access log.
    Access,
}

/// What the loop asks of the thread.
pub(super) enum Order {
    /// Open the file anew, and report with this number.
    Reopen(u64),
    /// Write elsewhere from now on.
    Become(Box<Outlet>),
}

/// What the thread reports.
#[derive(Debug)]
pub(crate) enum Told {
    /// Lines can't be written; said once.
    Failed(Which, io::Error),
    /// They can again.
    Recovered { which: Which, lost: u64 },
    /// There was no room for so many, and is again.
    Dropped { which: Which, lines: u64 },
    /// The order of this number was followed, or not.
    Reopened { number: u64, result: Result<(), OpenError> },
}

/// The loop has no room for a report.
struct Unheard;

/// Where reports go.
#[derive(Clone)]
pub(super) struct Report {
    pub(super) told: Sender<Told>,
    pub(super) bell: Arc<EventFd>,
}

impl Report {
    /// # Errors
    /// When too many reports wait for the loop.
    fn tell(&self, told: Told) -> Result<(), Unheard> {
        let fits = self.told.try_send(told).map_err(|_| Unheard);
        // Interrupted it has not rung (write(2)). Anything else is a counter at its limit, which rings already.
        while self.bell.write(1) == Err(nix::errno::Errno::EINTR) {}
        fits
    }
}

/// The thread, as others see it. Dropped, with all copies of its pen, it ends when it has written what it has.
pub(super) struct Scribe {
    pub(super) pen: Pen,
    ended: Receiver<()>,
}

impl Scribe {
    /// Starts a thread that writes to `outlet`.
    ///
    /// # Errors
    /// When there can be none.
    pub(super) fn start(which: Which, outlet: Outlet, report: Report) -> io::Result<Scribe> {
        let (pen, inkwell) = queue();
        let (end, ended) = bounded(0);
        let name = match which {
            Which::Log => "log",
            Which::Access => "access-log",
        };
        let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
        without_signals(|| {
            thread.spawn(move || {
                let _ends_with_us: Sender<()> = end;
                Desk { which, outlet, report, failing: None }.work(&inkwell);
            })
        })?;
        Ok(Scribe { pen, ended })
    }

    /// Lets it write the last lines, as long as that takes a moment only.
    pub(super) fn finish(&self) {
        if self.pen.end().is_ok() {
            // A broken channel is what it waits for: the thread has ended, and its sender with it.
            let (Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) =
                self.ended.recv_timeout(LAST_LINES_WITHIN);
        }
    }
}

/// The thread itself.
struct Desk {
    which: Which,
    outlet: Outlet,
    report: Report,
    /// Lines lost since writing failed.
    failing: Option<u64>,
}

impl Desk {
    /// Until nobody can write any more, or says that nothing follows.
    fn work(mut self, inkwell: &Inkwell) {
        let mut batch = Vec::new();
        while let Ok(mut entry) = inkwell.entries().recv() {
            loop {
                let next = match entry {
                    Entry::Line(line) => {
                        let next = collect(line, inkwell, &mut batch);
                        self.write(&mut batch);
                        self.count_dropped(inkwell);
                        next
                    }
                    Entry::Order(order) => {
                        self.follow(order);
                        None
                    }
                    Entry::End => return,
                };
                let Some(next) = next else { break };
                entry = next;
            }
        }
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Reopen(number) => {
                let result = self.outlet.reopen();
                // Unheard, who asked is told at its deadline.
                let _told = self.report.tell(Told::Reopened { number, result });
            }
            Order::Become(outlet) => self.outlet = *outlet,
        }
    }

    fn write(&mut self, batch: &mut Vec<Arc<Line>>) {
        match self.outlet.write(batch) {
            Ok(()) => {
                if let Some(lost) = self.failing.take()
                    && self.report.tell(Told::Recovered { which: self.which, lost }).is_err()
                {
                    self.failing = Some(lost);
                }
            }
            Err(Failed { lost, error }) => match &mut self.failing {
                Some(before) => *before += lost,
                None => {
                    self.failing = Some(lost);
                    // Unheard, the loop is so busy with reports that this one would be lost among them.
                    let _told = self.report.tell(Told::Failed(self.which, error));
                }
            },
        }
        batch.clear();
    }

    fn count_dropped(&self, inkwell: &Inkwell) {
        let lines = inkwell.dropped();
        if lines > 0 && self.report.tell(Told::Dropped { which: self.which, lines }).is_err() {
            inkwell.not_told(lines);
        }
    }
}

/// Takes out the lines that are there, up to the limits of a batch. Answers what came out that is none.
fn collect(first: Arc<Line>, inkwell: &Inkwell, batch: &mut Vec<Arc<Line>>) -> Option<Entry> {
    let (mut bytes, mut next) = (0, Some(Entry::Line(first)));
    loop {
        let line = match next? {
            Entry::Line(line) => line,
            other @ (Entry::Order(_) | Entry::End) => return Some(other),
        };
        inkwell.taken(&line);
        bytes += line.text.len();
        batch.push(line);
        if bytes >= BATCH_BYTES_MAX || batch.len() >= BATCH_LINES_MAX {
            return None;
        }
        next = inkwell.entries().try_recv().ok();
    }
}
