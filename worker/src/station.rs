//! Holds what the threads of one worker share: mailbox, control channel, completions, reserve and stage.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::region::Beats;
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::wire::{Marks, ToSupervisor, Welcome};
use ostler_shared::{ConnId, WorkerName};

use crate::completions::Completions;
use crate::control::{Control, Sent};
use crate::listeners::Listeners;
use crate::marks::MarkBook;
use crate::report::say;
use crate::reserve::Reserve;
use crate::stage::{Stage, StageCell, Step};
use crate::title::{self, Doing};

/// Readiness of a mailbox into which nothing more will be put; nix has no name for it (poll(2)).
pub(crate) const NO_MORE: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);

/// How often a worker beats in the time after which its silence is noticed: one beat may be late, and another one.
const BEATS_PER_HEARTBEAT: u32 = 4;

/// Longest wait for a beat that the kernel is asked for: a day, in seconds.
const BEAT_EVERY_MAX_S: i64 = 86_400;

/// A worker's post: one per process in real life.
#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) name: WorkerName,
    pub(crate) concurrency: u32,
    pub(crate) drain_timeout: Duration,
    /// How often it has to beat; `None` when nobody looks.
    pub(crate) beat_every: Option<Duration>,
    /// Its description is shared with the supervisor: never set O_NONBLOCK on it.
    pub(crate) mailbox: OwnedFd,
    /// Where connections come from instead, in a pool whose workers accept for themselves: then the mailbox only ends.
    pub(crate) listeners: Option<Listeners>,
    pub(crate) control: Control,
    pub(crate) completions: Completions,
    /// Where connections are marked; `None` when nobody reads it.
    pub(crate) marks: Option<Arc<MarkBook>>,
    pub(crate) reserve: Reserve,
    pub(crate) stage: StageCell,
    /// Whose turn it is to claim; since when claims have found no descriptor.
    pub(crate) turn: Mutex<Option<Instant>>,
    ready: Once,
}

impl Station {
    pub(crate) fn new(
        name: WorkerName,
        mailbox: OwnedFd,
        listeners: Option<Listeners>,
        control: Control,
        completions: Completions,
        reserve: Reserve,
        welcome: &Welcome,
    ) -> Station {
        let marks = match welcome.marks {
            Marks::Unread => None,
            Marks::Read => Some(MarkBook::open(completions.dials().clone())),
        };
        Station {
            name,
            concurrency: welcome.concurrency,
            drain_timeout: Duration::from_millis(welcome.drain_timeout_ms),
            beat_every: beat_every(welcome.heartbeat_ms),
            mailbox,
            listeners,
            control,
            completions,
            marks,
            reserve,
            stage: StageCell::new(),
            turn: Mutex::new(None),
            ready: Once::new(),
        }
    }

    /// Tells the supervisor, once, that connections may come.
    pub(crate) fn tell_ready(&self) {
        self.ready.call_once(|| {
            self.completions.offer(self.concurrency);
            // Before the word, so that whoever was told finds it.
            if self.stage.get() == Stage::Serving {
                title::show(&self.name, Doing::Ready);
            }
            self.control.send(&ToSupervisor::Ready);
        });
    }

    /// A wait at the mailbox ends at the next beat. The option is the socket's, which the supervisor reads through another
    /// descriptor, but never waits at; and it costs a connection no system call, as poll(2) before each claim would.
    ///
    /// # Errors
    /// As setsockopt(2); on an open socket, nothing.
    pub(crate) fn wake_to_beat(&self) -> io::Result<()> {
        let Some(every) = self.beat_every else { return Ok(()) };
        let most = TimeVal::seconds(BEAT_EVERY_MAX_S);
        let seconds = i64::try_from(every.as_secs()).unwrap_or(BEAT_EVERY_MAX_S);
        let every = TimeVal::new(seconds, i64::from(every.subsec_micros())).min(most);
        Ok(setsockopt(&self.mailbox, sockopt::ReceiveTimeout, &every)?)
    }

    /// Says that this worker waits for connections with a thread, and beats meanwhile.
    pub(crate) fn beat_while_idle(&self) {
        if self.beat_every.is_some() {
            self.completions.promise(Beats::WhileIdle);
        }
    }

    /// Claims to the mailbox's end, since nothing more will be put into it.
    pub(crate) fn drain(&self) {
        self.advance(Stage::Draining);
    }

    /// Goes on to a stage on the way out, and shows that it is on that way.
    pub(crate) fn advance(&self, stage: Stage) -> Step {
        let step = self.stage.advance(stage);
        if step == Step::Taken {
            title::show(&self.name, Doing::Draining);
        }
        step
    }

    /// Claims nothing more, lets the supervisor take back what waits, and wakes whoever sleeps at the mailbox.
    pub(crate) fn leave(&self, stage: Stage) -> Step {
        let step = self.advance(stage);
        if step == Step::Taken {
            // First the word, so that a supervisor that listens is not surprised by EPIPE; but a full channel must
            // not keep the claimers from waking.
            let told = self.control.try_send(&ToSupervisor::Draining);
            let _cannot_fail_on_a_socketpair = shutdown(self.mailbox.as_raw_fd(), Shutdown::Read);
            if told == Sent::Full {
                self.control.send(&ToSupervisor::Draining);
            }
        }
        step
    }

    /// Whether the worker is on its way out, even if the word has not been read yet.
    pub(crate) fn is_draining(&self) -> bool {
        if self.stage.get() != Stage::Serving {
            return true;
        }
        let mut mailbox = [PollFd::new(self.mailbox.as_fd(), NO_MORE)];
        let ended = poll(&mut mailbox, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        if ended {
            self.drain();
        }
        ended
    }

    /// Gives a connection's credit back to the supervisor. The descriptor is closed by now.
    pub(crate) fn report_end(&self, conn: ConnId, claimed_at_ns: u64, outcome: Outcome) {
        let completion = Completion { conn, outcome, claimed_at_ns, done_at_ns: monotonic_ns() };
        if let Err(full) = self.completions.report(&completion) {
            say(format_args!(
                "cannot report the end of conn={conn}: {full}, so the supervisor has lost count; leaving"
            ));
            self.leave(Stage::Leaving);
        }
    }
}

/// At least a millisecond, so that a beat is never a spin.
fn beat_every(heartbeat_ms: u64) -> Option<Duration> {
    let every = Duration::from_millis(heartbeat_ms) / BEATS_PER_HEARTBEAT;
    (heartbeat_ms > 0).then(|| every.max(Duration::from_millis(1)))
}
