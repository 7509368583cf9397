//! Breaks the protocol of workers, each time in the way that its argument names.
//!
//! `hostile MODE PEACE`: while the file PEACE exists it behaves. It says what it is by the file PEACE.peaceful-PID or
//! PEACE.hostile-PID, and by the file PEACE.did that it has done what a supervisor need not notice. The control channel is on standard input and the
//! mailbox on standard output, where `programs::hostile` of the harness puts them; shared memory and doorbell are where the
//! supervisor puts them.

#[path = "hostile/books.rs"]
mod books;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "hostile/offspring.rs"]
mod offspring;
#[path = "hostile/sockets.rs"]
mod sockets;
#[path = "hostile/times.rs"]
mod times;

use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};
use nix::unistd::write;
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::env::{DOORBELL_FD, GAUGES_FD, REGION_FD};
use ostler_shared::packet::{Claim, Take, Wait, claim, send_frame};
use ostler_shared::region::WorkerSide;
use ostler_shared::ring::Bell;
use ostler_shared::sys::fd::adopt;
use ostler_shared::sys::memory::{OwnMemory, PeerMemory};
use ostler_shared::wire::{FRAME_MAX, Hello, PROTOCOL, ToSupervisor, encode};
use ostler_shared::{ConnId, Ticket};
use ostler_tests::tiny_http;

use books::Unclaimed;
use memory::Scrawl;
use offspring::Home;
use sockets::Then;

/// How much a flood is.
const FLOOD_BYTES: usize = 16 * 1024 * 1024;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(mode), Some(peace)) = (args.next(), args.next()) else {
        eprintln!("usage: hostile MODE PEACE");
        return ExitCode::from(2);
    };
    let worker = Raw::of_this_process(Peace(PathBuf::from(peace)));
    let mood = worker.peace.mood();
    match mode.as_str() {
        // Not workers themselves: what a hostile one leaves behind.
        offspring::STAYS => park(),
        offspring::MOVES_OUT => worker.outlive_the_parent(),
        _ if mood == Mood::Peaceful => worker.keep_the_peace(),
        "dies_before_hello" => return ExitCode::from(7),
        "never_says_hello" => park(),
        "says_ready_before_hello" => worker.say(&ToSupervisor::Ready),
        "says_hello_and_never_ready" => worker.hello(PROTOCOL),
        "speaks_another_protocol" => worker.hello(PROTOCOL + 1),
        "shuts_its_mailbox" => {
            worker.hello(PROTOCOL);
            shutdown(worker.mailbox().as_raw_fd(), Shutdown::Both).expect("a socket");
            worker.say(&ToSupervisor::Ready);
        }
        mode => {
            worker.hello(PROTOCOL);
            worker.say(&ToSupervisor::Ready);
            worker.break_the_peace(mode);
        }
    }
    park()
}

/// The file that says whether to behave, and the signs beside it.
#[derive(Debug, Clone)]
struct Peace(PathBuf);

/// How a process behaves, all its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Peaceful,
    Hostile,
}

impl Peace {
    /// Decides, and tells the test.
    fn mood(&self) -> Mood {
        let (mood, sign) = if self.0.exists() { (Mood::Peaceful, "peaceful") } else { (Mood::Hostile, "hostile") };
        self.leave_a_sign(&format!("{sign}-{}", std::process::id()));
        mood
    }

    /// Tells the test that the deed of this mode is done.
    fn was_broken(&self) {
        self.leave_a_sign("did");
    }

    fn leave_a_sign(&self, extension: &str) {
        fs::write(self.0.with_extension(extension), "").expect("the test's directory");
    }
}

/// What a worker has, without the library's manners.
struct Raw {
    peace: Peace,
    control: io::Stdin,
    mailbox: io::Stdout,
    side: RefCell<WorkerSide>,
    region_fd: OwnedFd,
    gauges_fd: OwnedFd,
    region: OwnMemory,
    gauges: PeerMemory,
    doorbell: OwnedFd,
}

impl Raw {
    fn of_this_process(peace: Peace) -> Raw {
        let [region_fd, gauges_fd, doorbell] = [REGION_FD, GAUGES_FD, DOORBELL_FD].map(inherited);
        let region = OwnMemory::map(&region_fd).expect("a region");
        let gauges = PeerMemory::map(&gauges_fd).expect("gauges");
        let side = WorkerSide::new(gauges.clone(), region.clone()).expect("a layout that both know");
        let side = RefCell::new(side);
        Raw { peace, control: io::stdin(), mailbox: io::stdout(), side, region_fd, gauges_fd, region, gauges, doorbell }
    }

    fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    fn mailbox(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }

    fn keep_the_peace(&self) {
        self.hello(PROTOCOL);
        self.say(&ToSupervisor::Ready);
        self.serve();
    }

    fn break_the_peace(&self, mode: &str) {
        match mode {
            "ignores_term" => self.serve(),
            "sends_garbage" => self.raw_frame(&[1, 99, 255, 0, 7]),
            "sends_an_empty_frame" => self.raw_frame(&[]),
            "sends_a_frame_that_is_too_long" => self.raw_frame(&vec![1; FRAME_MAX + 100]),
            "says_ready_twice" => {
                self.say(&ToSupervisor::Ready);
                self.serve();
            }
            "says_hello_twice" => self.hello(PROTOCOL),
            "claims_and_never_completes" => self.hoard(),
            "never_reads" => self.did_it(),
            "floods_its_log_with_lines" => self.flood(b"all work and no play makes a dull log\n"),
            "floods_its_log_without_lines" => self.flood(b"all work and no play makes a dull log "),
            "closes_its_descriptors" => close_all(),
            "floods_its_control" => self.flood_control(),
            "says_for_ever_that_it_leaves" => loop {
                self.say(&ToSupervisor::Draining);
            },

            "publishes_everything" => self.claim_to_have_published(u64::MAX),
            "lies_and_ignores_term" => self.lie_with_a_client_in_hand(),
            "publishes_one_more_than_fits" => self.claim_to_have_published(self.ring_capacity() + 1),
            "takes_back_what_it_published" => self.take_back_what_was_published(),
            "publishes_records_that_it_did_not_write" => self.drift(),
            "punches_holes_in_its_region" => self.punch_holes(),
            "scribbles_over_everything" => self.scribble(Scrawl::Everything),
            "scribbles_over_its_records" => self.scribble(Scrawl::Records),
            "scribbles_small_numbers" => self.scribble(Scrawl::SmallNumbers),
            "scribbles_over_the_gauges" => self.scribble_over_the_gauges(),
            "tries_what_memory_forbids" => self.try_what_memory_forbids(),
            "shows_absurd_gauges" => self.show_absurd_gauges(),
            "shows_absurd_gauges_and_never_claims" => {
                self.set_absurd_gauges();
                self.did_it();
            }
            "beats_in_the_future" => {
                self.promise_to_beat(u64::MAX);
                self.serve();
            }
            "beats_in_the_future_and_stands_still" => {
                self.promise_to_beat(u64::MAX);
                self.stand_still();
            }
            "beats_in_the_past" => {
                self.promise_to_beat(1);
                self.serve();
            }
            "beats_almost_too_late" => self.beat_almost_too_late(),
            "is_busy_since_long_ago" => self.hold_and_mark(times::long_ago),
            "is_busy_since_the_future" => self.hold_and_mark(times::in_the_future),
            "is_always_almost_slow" => self.hold_and_mark(times::almost_slow),
            "marks_what_others_hold" => self.mark_what_others_hold(),
            "scribbles_over_its_times" => self.scribble_over_times(),
            "rings_for_nothing" => self.ring_for_ever(),
            "fills_its_doorbell" => self.fill_the_doorbell(),
            "reads_its_doorbell" => self.read_the_doorbell(),

            "reports_an_outcome_that_does_not_exist" => self.report_no_outcome(),
            "completes_what_it_never_had" => self.complete(ConnId(u64::MAX)),
            "completes_the_first_connection_of_all" => self.complete(ConnId(0)),
            "completes_a_connection_of_the_neighbours" => self.complete_the_one_before(),
            "completes_twice" => self.complete_twice(),
            "completes_what_it_never_claimed" => self.report_unclaimed(Outcome::Done, Unclaimed::Leave),
            "truncates_what_it_never_claimed" => self.report_unclaimed(Outcome::Truncated, Unclaimed::Leave),
            "completes_what_it_never_claims" => self.report_unclaimed(Outcome::Done, Unclaimed::Stay),
            "completes_what_was_recalled" => self.complete_what_was_recalled(),

            "writes_into_its_mailbox" => self.write_into_the_mailbox(),
            "sends_descriptors" => self.send_descriptors(),
            "sets_options" => self.set_options(),
            "sets_options_for_ever" => self.set_options_for_ever(),
            "refuses_descriptors" => self.refuse_descriptors(),
            "stops_reading_its_mailbox" => self.shut(self.mailbox(), Shutdown::Read, Then::Nothing),
            "stops_writing_to_its_mailbox" => self.shut(self.mailbox(), Shutdown::Write, Then::Serves),
            "shuts_its_mailbox_with_a_client_in_hand" => self.shut(self.mailbox(), Shutdown::Both, Then::Nothing),
            "stops_reading_its_control" => self.shut(self.control(), Shutdown::Read, Then::Serves),
            "stops_writing_to_its_control" => self.shut(self.control(), Shutdown::Write, Then::Nothing),
            "shuts_its_control" => self.shut(self.control(), Shutdown::Both, Then::Nothing),
            "completes_after_its_control_is_shut" => self.complete_when_told(),

            "leaves_a_child_in_its_group" => self.die_of_childbirth(Home::Group),
            "leaves_a_child_in_a_session" => self.die_of_childbirth(Home::Session),
            other => panic!("no mode {other}"),
        }
    }

    // ── what honest workers do ─────────────────────────────────────────────────────────────────────────────

    fn hello(&self, protocol: u16) {
        self.say(&ToSupervisor::Hello(Hello { protocol, library: "hostile".to_owned() }));
    }

    fn say(&self, message: &ToSupervisor) {
        self.raw_frame(&encode(message).expect("short enough"));
    }

    /// The supervisor may have hung up on us at any time; a mode ends with `park` then, and a kill.
    fn raw_frame(&self, frame: &[u8]) {
        let _ = send_frame(self.control(), frame);
    }

    fn complete(&self, conn: ConnId) {
        self.report(&Completion { conn, outcome: Outcome::Done, claimed_at_ns: 1, done_at_ns: 2 });
    }

    fn report(&self, completion: &Completion) {
        if self.side.borrow_mut().completions.report(completion) == Ok(Bell::Ring) {
            self.ring();
        }
    }

    fn ring(&self) {
        let _ = write(&self.doorbell, &1u64.to_ne_bytes());
    }

    fn take(&self) -> Option<(OwnedFd, Ticket)> {
        self.look(Take::Message)
    }

    /// Waits for a connection in the mailbox and leaves it there.
    fn peek(&self) -> Ticket {
        self.look(Take::Peek).unwrap_or_else(|| std::process::exit(0)).1
    }

    fn look(&self, take: Take) -> Option<(OwnedFd, Ticket)> {
        match claim(self.mailbox(), Wait::Block, take) {
            Ok(Claim::Connection(connection, ticket)) => Some((connection, ticket)),
            _ => None,
        }
    }

    /// Answers every connection at once, whatever it asks.
    fn serve(&self) {
        self.serve_and(|conn| self.complete(conn));
    }

    fn serve_and(&self, mut served: impl FnMut(ConnId)) {
        while let Some((connection, ticket)) = self.take() {
            answer(connection);
            served(ticket.conn);
        }
        std::process::exit(0);
    }

    // ── what they don't ────────────────────────────────────────────────────────────────────────────────────

    fn did_it(&self) {
        self.peace.was_broken();
    }

    fn hoard(&self) {
        let mut hoard = Vec::new();
        while let Some(claimed) = self.take() {
            hoard.push(claimed);
            self.did_it();
        }
        park();
    }

    fn flood(&self, text: &[u8]) {
        let block = text.repeat(64 * 1024 / text.len());
        let mut written = 0;
        let mut log = io::stderr();
        self.did_it();
        while written < FLOOD_BYTES && log.write_all(&block).is_ok() {
            written += block.len();
        }
        self.serve();
    }

    /// Frames that are right, more than anybody would send.
    fn flood_control(&self) {
        let frame = encode(&ToSupervisor::Pong { nonce: 7 }).expect("short enough");
        for _ in 0..200_000 {
            let _ = send(self.control().as_raw_fd(), &frame, MsgFlags::MSG_NOSIGNAL);
        }
        self.serve();
    }
}

/// Says hello to a client and closes its connection.
fn answer(connection: OwnedFd) {
    let words = tiny_http::answer("hello from peace\n", true);
    let _ = send(connection.as_raw_fd(), &words, MsgFlags::MSG_NOSIGNAL);
}

fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: the supervisor put it there for this process, and each number is taken once, in `of_this_process`.
    #[allow(unsafe_code)]
    let taken = unsafe { adopt(fd) };
    taken.unwrap_or_else(|error| panic!("descriptor {fd}: {error}"))
}

fn close_all() {
    for fd in 0..64 {
        let _ = nix::unistd::close(fd);
    }
}

fn park() -> ! {
    loop {
        thread::park();
    }
}
