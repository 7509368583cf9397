//! Listens to the supervisor and to TERM while the other threads serve.
//!
//! One thread. It answers pings, notes a drain, turns TERM into leaving, and notices when the supervisor is gone.
//! From then on it keeps the drain deadline, at which the process ends whatever the handlers do.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ostler_shared::wire::{ToSupervisor, ToWorker};

use crate::control::{Heard, Sent};
use crate::signals;
use crate::stage::Stage;
use crate::station::Station;

/// The exit code of a worker that outlived its supervisor and had not finished at the drain deadline.
pub const EXIT_UNFINISHED: i32 = 75; // EX_TEMPFAIL of sysexits.h

/// The thread formats no text and recurses nowhere.
const STACK_BYTES: usize = 128 * 1024;

/// Starts the thread, which lives as long as the process.
///
/// # Errors
/// When there are no threads to be had.
pub(crate) fn start(station: Arc<Station>, term: UnixStream) -> io::Result<()> {
    let watch = Watch { station, term, supervisor: Supervisor::There, unanswered: None };
    let thread = thread::Builder::new().name("ostler-watch".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(move || watch.run())?;
    Ok(())
}

struct Watch {
    station: Arc<Station>,
    term: UnixStream,
    supervisor: Supervisor,
    /// The nonce of the last ping, while the channel has no room for its answer.
    unanswered: Option<u64>,
}

enum Supervisor {
    There,
    /// The deadline is `None` when it is too far away to be a time.
    Gone {
        deadline: Option<Instant>,
    },
}

impl Watch {
    fn run(mut self) {
        let _valid_set = signals::receive_term_here();
        loop {
            self.wait();
            self.look_for_term();
            match self.supervisor {
                Supervisor::There => self.listen(),
                Supervisor::Gone { deadline: Some(deadline) } if Instant::now() >= deadline => {
                    // Not process::exit: handlers of exit(3) may wait for what the hung threads hold.
                    signal_hook::low_level::exit(EXIT_UNFINISHED)
                }
                Supervisor::Gone { .. } => {}
            }
        }
    }

    /// Sleeps until there is something to do. Interrupted or without memory, it looks once more, which does no harm.
    fn wait(&self) {
        let term = PollFd::new(self.term.as_fd(), PollFlags::POLLIN);
        let _look_anyway = match self.supervisor {
            Supervisor::There => {
                let mut interest = PollFlags::POLLIN;
                interest.set(PollFlags::POLLOUT, self.unanswered.is_some());
                poll(&mut [term, PollFd::new(self.station.control.as_fd(), interest)], PollTimeout::NONE)
            }
            Supervisor::Gone { deadline } => poll(&mut [term], until(deadline)),
        };
    }

    fn look_for_term(&mut self) {
        let mut raised = false;
        while matches!((&self.term).read(&mut [0; 64]), Ok(1..)) {
            raised = true;
        }
        if raised {
            self.station.leave(Stage::Leaving);
        }
    }

    fn listen(&mut self) {
        self.answer();
        match self.station.control.hear() {
            Heard::Frame(ToWorker::Ping { nonce }) => {
                self.unanswered = Some(nonce);
                self.answer();
            }
            Heard::Frame(ToWorker::Drain) => {
                self.station.drain();
            }
            Heard::Frame(ToWorker::Welcome(_) | ToWorker::Fork(_)) | Heard::Unknown | Heard::Nothing => {}
            Heard::Gone => self.orphan(),
        }
    }

    /// A supervisor that asks more often than it listens gets an answer to its last question only.
    fn answer(&mut self) {
        self.unanswered = self
            .unanswered
            .filter(|nonce| self.station.control.try_send(&ToSupervisor::Pong { nonce: *nonce }) == Sent::Full);
    }

    fn orphan(&mut self) {
        self.station.reserve.silence_output(); // first, since a print into a broken pipe panics
        self.station.advance(Stage::Orphaned);
        self.supervisor = Supervisor::Gone { deadline: Instant::now().checked_add(self.station.drain_timeout) };
    }
}

/// Rounded up, so that the deadline has passed when poll returns.
fn until(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
    PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX)
}
