//! Turns signals into data: who sent what.
//!
//! The handlers (signal-hook's) store the origin and write to a socketpair; everything else happens in the loop.
//! Whoever writes to a terminal blocks TTOU: a handler would make the interrupted write start again for ever. So the
//! loop's thread takes all signals but TTOU, and the helper thread, which writes to no terminal, takes TTOU alone.
//!
//! Process 1 of a PID namespace does not get a signal that it has no handler for: the kernel drops it, whatever its
//! default action is. That suits all but ABRT, by which a watchdog ends us and abort(3) ends itself.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::Signal;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::exfiltrator::origin::Origin;
use signal_hook::low_level::siginfo::Cause;

/// The signals that mean something to the supervisor.
const HANDLED: [Signal; 11] = [
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGWINCH,
    Signal::SIGPWR,
    Signal::SIGCHLD,
];

/// The exit code that a shell shows for a process that ABRT ended.
const ABORTED: i32 = 128 + Signal::SIGABRT as i32;

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The kernel: a terminal that closed, resized, or was typed on.
    Kernel,
    /// A process, by its pid.
    Process(i32),
    /// It can't be told.
    Unknown,
}

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) signal: Signal,
    pub(crate) sender: Sender,
}

/// The signals of this process from now on.
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        // This thread may have to say something on the terminal: a handler that interrupts that write for TTOU would
        // start it again for ever.
        let mut ttou = SigSet::empty();
        ttou.add(Signal::SIGTTOU);
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&ttou), None)?;
        let numbers = HANDLED.map(|signal| signal as i32);
        if std::process::id() == 1 {
            // It ends the process in the handler, however stuck the loop is. Elsewhere the default action does, and leaves a
            // core that shows why.
            register_conditional_shutdown(Signal::SIGABRT as i32, ABORTED, Arc::new(AtomicBool::new(true)))?;
        }
        Ok(Signals { delivery: SignalDelivery::with_pipe(read, write, WithOrigin::default(), numbers)? })
    }

    /// Becomes readable when a signal arrives.
    pub(crate) fn readable(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self.delivery.get_read())
    }

    /// What has arrived since the last call.
    pub(crate) fn take(&mut self) -> Vec<Arrived> {
        self.delivery.pending().filter_map(|origin| arrived(&origin)).collect()
    }
}

fn arrived(origin: &Origin) -> Option<Arrived> {
    let signal = Signal::try_from(origin.signal).ok()?;
    let sender = match (&origin.cause, &origin.process) {
        (Cause::Kernel, _) => Sender::Kernel,
        (_, Some(process)) => Sender::Process(process.pid),
        (_, None) => Sender::Unknown,
    };
    Some(Arrived { signal, sender })
}

/// Runs `start` with every signal blocked: threads that it starts inherit that, and handlers run on ours alone.
pub(crate) fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    with_mask(&SigSet::all(), start)
}

/// Runs `start` with every signal blocked but TTOU, for the one thread that takes it.
pub(crate) fn with_only_ttou<T>(start: impl FnOnce() -> T) -> T {
    let mut mask = SigSet::all();
    mask.remove(Signal::SIGTTOU);
    with_mask(&mask, start)
}

fn with_mask<T>(mask: &SigSet, start: impl FnOnce() -> T) -> T {
    let mut before = SigSet::empty();
    let blocked = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(mask), Some(&mut before));
    blocked.expect("a thread may always block signals");
    let started = start();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None).expect("the mask was ours a moment ago");
    started
}
