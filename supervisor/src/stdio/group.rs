//! Speaks for the processes of all connections: passes TERM on to them, and lets none of them outlive a lost supervisor.
//!
//! They are one process group with this worker, so that whatever they started is reached as well. The worker itself takes
//! no harm from `drain.signal`: our library has a handler for each of those (TERM has come before).

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{getpgrp, getpid, getppid};
use ostler_shared::packet::retry_interrupted;
use signal_hook::iterator::Signals;

use super::orders::Orders;
use crate::driver::child;

/// So long before the library ends this process, the group is ended.
const LEAD: Duration = Duration::from_millis(100);
/// The threads format no text and recurse nowhere.
const STACK_BYTES: usize = 128 * 1024;

/// Starts to speak for the group.
///
/// # Errors
/// When this process does not lead one, or has no threads and descriptors to be had.
pub(super) fn lead(orders: &Orders) -> io::Result<()> {
    if getpgrp() != getpid() {
        // A signal for the group would reach whoever started this by hand.
        return Err(io::Error::other("this process does not lead its group, which ostler sees to"));
    }
    let signal = orders.drain_signal;
    let mut terms = Signals::new([Signal::SIGTERM as i32])?;
    start("ostler-term", move || {
        for _term in terms.forever() {
            pass_on(signal);
        }
    })?;
    let supervisor = getppid();
    let alive = child::pidfd_open(supervisor.as_raw())?;
    let ask_after = orders.drain_timeout.saturating_sub(orders.kill_after);
    let kill_after = orders.drain_timeout.saturating_sub(ask_after).saturating_sub(LEAD);
    start("ostler-orphan", move || {
        if getppid() == supervisor {
            let mut end = [PollFd::new(alive.as_fd(), PollFlags::POLLIN)];
            let _ended = retry_interrupted(|| poll(&mut end, PollTimeout::NONE).map_err(io::Error::from));
        }
        pause(ask_after);
        pass_on(signal);
        pause(kill_after);
        // This process is one of them.
        let _none_left = child::signal_group(getpid(), Signal::SIGKILL as i32);
    })
}

/// Asks all of them to leave, once: to many programs a second TERM means "faster", and ours would come back to us.
fn pass_on(signal: i32) {
    static ASKED: AtomicBool = AtomicBool::new(false);
    if !ASKED.swap(true, Ordering::Relaxed) {
        let _none_left = child::signal_group(getpid(), signal);
    }
}

/// Waits for nothing but time: the end of this process is the only thing that comes between.
fn pause(length: Duration) {
    let since = Instant::now();
    while let Some(left) = length.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
        let left = left.saturating_add(Duration::from_millis(1));
        let _elapsed = poll(&mut [], PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(run)?;
    Ok(())
}
