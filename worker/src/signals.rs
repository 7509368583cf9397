//! Decides what a worker does with signals: TERM drains, the supervisor's other ones do nothing.
//!
//! They do nothing by handlers, not by SIG_IGN: handlers end at exec(2), so the programs that a handler starts
//! get the defaults back. Two of them are also blocked: a handler for TTIN or TTOU makes a read or write on a
//! terminal restart for ever, while the kernel lets a thread that blocks them through.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::{SigSet, Signal};
use signal_hook::{flag, low_level};

/// WINCH is not among them: it is ignored by default.
const DONE_NOTHING_ABOUT: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGPWR,
];

/// What the handlers write to, and nobody reads.
static SEEN: AtomicBool = AtomicBool::new(false);

/// Installs all handlers. The stream becomes readable when TERM came.
///
/// # Errors
/// When a handler can't be installed, or there is no descriptor for the stream.
pub(crate) fn install() -> io::Result<UnixStream> {
    for signal in DONE_NOTHING_ABOUT {
        flag::register(signal as i32, &SEEN)?;
    }
    SigSet::from_iter([Signal::SIGTTIN, Signal::SIGTTOU]).thread_block()?;
    let (term, raised) = UnixStream::pair()?;
    term.set_nonblocking(true)?;
    low_level::pipe::register(Signal::SIGTERM as i32, raised)?;
    Ok(term)
}

/// Makes sure that TERM finds a thread, whatever the others block.
///
/// # Errors
/// None on Linux: the set is valid.
pub(crate) fn receive_term_here() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGTERM).thread_unblock()?)
}
