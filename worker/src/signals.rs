//! Decides what a worker does with signals: TERM drains, the supervisor's other ones do nothing.
//!
//! They do nothing by handlers, not by SIG_IGN: handlers end at exec(2), so the programs that a handler starts
//! get the defaults back. Two of them are also blocked: a handler for TTIN or TTOU makes a read or write on a
//! terminal restart for ever, while the kernel lets a thread that blocks them through.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;

use nix::sys::prctl;
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

/// Takes back that the kernel sends TERM when the supervisor dies, which is meant for programs that would not notice it.
///
/// A worker sees it by its channels. TERM may come before they end, and would be taken for an order to leave at once to others
/// who waits. The kernel keeps this for each thread (PR_SET_PDEATHSIG(2const)) and what was executed has it in the first.
///
/// # Errors
/// None that the kernel documents.
pub(crate) fn survive_the_supervisor() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(None)?)
}

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
