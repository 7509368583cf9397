//! Misuses the shared memory and the doorbell.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::Ordering;
use std::thread;

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ftruncate, read, write};
use ostler_shared::completion::{COMPLETION_WORDS, Completion, Outcome};
use ostler_shared::marks::MARK_WORDS;
use ostler_shared::sys::memory::{OwnMemory, WORD};
use ostler_tests::deadline::{SOON, wait_until};

use super::{Raw, answer, park};

/// Where `ostler_shared::region` has the count of published records and the records. Had they moved, these lies would be
/// about something else and not be found out.
const PUBLISHED: usize = 16;
const RECORDS: usize = 32;
/// Where it has the count of consumed records, in the gauges.
const CONSUMED: usize = 16;
/// Every so many connections one record too many is published.
const DRIFT: u64 = 3;
/// How many words are a good deal: each of a small region several hundred times.
const SCRIBBLED: u64 = 10_000;

/// What is written where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scrawl {
    /// Anything, anywhere.
    Everything,
    /// Anything, behind the header: as many records as there should be, and nothing in them is true.
    Records,
    /// What looks like a count, an identity or an outcome, anywhere.
    SmallNumbers,
}

impl Raw {
    // ── the ring's header ──────────────────────────────────────────────────────────────────────────────────

    pub(super) fn ring_capacity(&self) -> u64 {
        ((self.region.words() - RECORDS) / (COMPLETION_WORDS + MARK_WORDS)) as u64
    }

    /// Its heartbeat and what it promises of it, and whether it keeps marks.
    pub(super) fn hint_words(&self) -> Range<usize> {
        0..PUBLISHED
    }

    /// The marks, which follow the records.
    pub(super) fn mark_words(&self) -> Range<usize> {
        let first = RECORDS + usize::try_from(self.ring_capacity()).expect("a small ring") * COMPLETION_WORDS;
        first..self.region.words()
    }

    pub(super) fn claim_to_have_published(&self, records: u64) {
        self.region.store(PUBLISHED, records, Ordering::Release);
        self.ring();
    }

    /// Says no more of this client, so that its completion goes on being expected.
    pub(super) fn lie_with_a_client_in_hand(&self) -> ! {
        let _client = self.take();
        self.claim_to_have_published(u64::MAX);
        park()
    }

    pub(super) fn take_back_what_was_published(&self) {
        self.have_one_consumed();
        self.claim_to_have_published(0);
    }

    /// A hole reads as zeroes, the count of published records among them.
    pub(super) fn punch_holes(&self) {
        self.have_one_consumed();
        let bytes = i64::try_from(self.region.words() * WORD).expect("a region is small");
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.region_fd, flags, 0, bytes).expect("a region is not sealed against writing");
        self.ring();
    }

    fn have_one_consumed(&self) {
        let Some((connection, ticket)) = self.take() else { return };
        answer(connection);
        self.complete(ticket.conn);
        wait_until(SOON, "the record is consumed", || self.gauges.load(CONSUMED, Ordering::Acquire) == 1);
    }

    /// Honest but for a count that grows by one too many now and then.
    pub(super) fn drift(&self) {
        let mut served = 0;
        self.serve_and(|conn| {
            self.complete(conn);
            served += 1;
            self.claim_to_have_published(served + served / DRIFT);
        });
    }

    // ── scribbling ─────────────────────────────────────────────────────────────────────────────────────────

    /// Serves meanwhile, and rings, so that what is written is looked at.
    pub(super) fn scribble(&self, scrawl: Scrawl) {
        let region = self.region.clone();
        let doorbell = self.doorbell.try_clone().expect("room for a descriptor");
        let (words, below) = match scrawl {
            Scrawl::Everything => (0..region.words(), u64::MAX),
            Scrawl::Records => (RECORDS..region.words(), u64::MAX),
            Scrawl::SmallNumbers => (0..region.words(), 8),
        };
        thread::spawn(move || {
            scribble_for_ever(&region, &words, below, || {
                let _ = write(&doorbell, &1u64.to_ne_bytes());
            });
        });
        match scrawl {
            Scrawl::Everything | Scrawl::SmallNumbers => self.serve(),
            Scrawl::Records => self.publish_what_is_there(),
        }
    }

    fn publish_what_is_there(&self) {
        let mut served = 0;
        self.serve_and(|_| {
            served += 1;
            self.claim_to_have_published(served);
        });
    }

    /// A worker of the same user can open the supervisor's memory anew by /proc: the supervisor does not read it.
    pub(super) fn scribble_over_the_gauges(&self) {
        let gauges = OwnMemory::map(self.reopen_gauges()).expect("a memfd");
        let peace = self.peace.clone();
        thread::spawn(move || {
            scribble_for_ever(&gauges, &(0..gauges.words()), u64::MAX, || peace.was_broken());
        });
        self.serve();
    }

    fn reopen_gauges(&self) -> File {
        let path = format!("/proc/self/fd/{}", self.gauges_fd.as_raw_fd());
        File::options().read(true).write(true).open(path).expect("a file of this user")
    }

    // ── what must not be possible ──────────────────────────────────────────────────────────────────────────

    pub(super) fn try_what_memory_forbids(&self) {
        let reopened = self.reopen_gauges();
        attempt("map the gauges for writing", OwnMemory::map(&self.gauges_fd).map(drop));
        for (name, fd) in [("region", self.region_fd.as_fd()), ("gauges", reopened.as_fd())] {
            attempt(&format!("shrink the {name}"), ftruncate(fd, 8).map_err(io::Error::from));
            attempt(&format!("grow the {name}"), ftruncate(fd, 1 << 20).map_err(io::Error::from));
            let sealed = fcntl(fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).map(drop);
            attempt(&format!("seal the {name}"), sealed.map_err(io::Error::from));
        }
        self.did_it();
        self.serve();
    }

    // ── gauges ─────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn set_absurd_gauges(&self) {
        let side = self.side.borrow();
        side.dials.beat(u64::MAX);
        side.dials.set_capacity(u64::MAX);
        side.dials.set_held(u64::MAX);
    }

    /// Serves meanwhile, in no time or for ever, as its records tell.
    pub(super) fn show_absurd_gauges(&self) {
        self.set_absurd_gauges();
        self.did_it();
        let mut times = [(0, u64::MAX), (u64::MAX, 0)].into_iter().cycle();
        self.serve_and(|conn| {
            let (claimed_at_ns, done_at_ns) = times.next().expect("a cycle does not end");
            self.report(&Completion { conn, outcome: Outcome::Done, claimed_at_ns, done_at_ns });
        });
    }

    // ── the doorbell ───────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn ring_for_ever(&self) {
        loop {
            self.ring();
        }
    }

    /// From here on no ring of ours is heard: the counter has no room for it (eventfd(2)).
    pub(super) fn fill_the_doorbell(&self) {
        write(&self.doorbell, &(u64::MAX - 1).to_ne_bytes()).expect("an empty counter has room");
        self.did_it();
        self.serve();
    }

    /// Serves, and takes every ring away from the supervisor that it can get.
    pub(super) fn read_the_doorbell(&self) {
        // A supervisor that happens never to wait is never rung for: this ring at least is there to be taken.
        self.ring();
        let (doorbell, peace) = (self.doorbell.try_clone().expect("room for a descriptor"), self.peace.clone());
        thread::spawn(move || {
            loop {
                let mut rung = [PollFd::new(doorbell.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut rung, PollTimeout::NONE);
                let _ = read(&doorbell, &mut [0; 8]);
                peace.was_broken();
            }
        });
        self.serve();
    }
}

/// Says in the log what came of it.
pub(super) fn attempt(what: &str, came_of_it: io::Result<()>) {
    match came_of_it {
        Ok(()) => eprintln!("managed to {what}"),
        Err(error) => eprintln!("cannot {what}: {error}"),
    }
}

/// Calls `now_and_then` each time when a good deal is written.
fn scribble_for_ever(memory: &OwnMemory, words: &Range<usize>, below: u64, now_and_then: impl Fn()) -> ! {
    let seed = u64::from(std::process::id());
    eprintln!("scribbles with seed {seed}");
    let mut random = seed;
    loop {
        for _ in 0..SCRIBBLED {
            random = xorshift(random);
            let at = words.start + usize::try_from(random % words.len() as u64).expect("an index");
            random = xorshift(random);
            memory.store(at, random % below, Ordering::Relaxed);
        }
        now_and_then();
    }
}

pub(super) fn xorshift(mut word: u64) -> u64 {
    word ^= word << 13;
    word ^= word >> 7;
    word ^ (word << 17)
}
