//! Keeps account of the connections that an unmodified program holds: a table in the worker's memory, an entry for each.
//!
//! Such a program is several processes and threads, none of which knows of the others, so that a ring with one producer
//! does not do. Two memories as in [`region`](crate::region), each written by one side:
//!
//! ```text
//! gauges (supervisor writes)                   region (the program's processes write)
//! line 0  layout, capacity of the table        line 0  heartbeat, ready, answered, entries in use
//! line 1  –, waiting                           line 1  changes
//! line 2  –, pressure, asked                   line 2… entries of 16 words
//! line 3… settled generation of each entry
//!
//! entry:  0 turn   1 connection   2 claimed at   3 done at   4 outcome   8…15 who holds it
//! turn:   generation × 4 + stage
//!
//!          reserve              hold             release, the last one
//!   Free ───────────▶ Claiming ──────▶ Held ──────────────────────────▶ Ended ── settled by the supervisor ──▶ reserve
//!     ▲ gives it back ──┘
//! ```
//! An entry is reserved with its connection before that is taken out of the mailbox, so that a process which dies in between
//! leaves a trace. It is used again when the supervisor has settled its generation, which it does once for each; only it
//! writes that word.
//!
//! | pair | says |
//! |---|---|
//! | T1 → T2 | the turn (release) after what an entry says; read (acquire) before it |
//! | T3 → T4 | the settled generation (release) after the entry was read; read (acquire) before it is written again |
//! | F1 ⇄ F2 | as in [`ring`](crate::ring): *count the change, then look who waits* against *say that I wait, then look for changes* |
//!
//! Nothing in here makes the supervisor panic, allocate or leave the memory, whatever the program writes (I6): a look costs at
//! most one pass over the table.

#[cfg(not(loom))]
use std::io;
#[cfg(not(loom))]
use std::os::fd::{AsFd, OwnedFd};

use crate::completion::{BadOutcome, COMPLETION_WORDS, Completion, Outcome};
use crate::ids::ConnId;
use crate::region::BadRegion;
use crate::ring::{Bell, Capacity};
use crate::sync::{Ordering, fence};
use crate::sys::memory::{OwnMemory, PeerMemory};
#[cfg(not(loom))]
use crate::sys::memory::{read_only, sealed};

/// Words of a cache line, times two, as in [`region`](crate::region).
const LINE: usize = 16;
/// Most processes that are known to hold one connection. Who is not known any more is not waited for.
pub const HOLDERS_MAX: usize = 8;
/// Says "ostler" and that this is a table.
const LAYOUT: u64 = 0x6f73_746c_6572_7401;

mod in_gauges {
    use super::LINE;
    pub(super) const LAYOUT: usize = 0;
    pub(super) const CAPACITY: usize = 1;
    pub(super) const WAITING: usize = LINE + 1;
    pub(super) const PRESSURE: usize = 2 * LINE + 1;
    pub(super) const ASKED: usize = 2 * LINE + 2;
    pub(super) const SETTLED: usize = 3 * LINE;
}

mod in_region {
    use super::LINE;
    pub(super) const HEARTBEAT: usize = 0;
    pub(super) const READY: usize = 1;
    pub(super) const ANSWERED: usize = 2;
    pub(super) const IN_USE: usize = 3;
    pub(super) const CHANGES: usize = LINE;
    pub(super) const ENTRIES: usize = 2 * LINE;
}

mod in_entry {
    use super::HOLDERS_MAX;
    pub(super) const TURN: usize = 0;
    /// A record of the completion ring, word by word.
    pub(super) const RECORD: usize = 1;
    pub(super) const HOLDERS: usize = 8;
    pub(super) const WORDS: usize = HOLDERS + HOLDERS_MAX;
}

const _: () = assert!(in_entry::WORDS == LINE && in_entry::RECORD + COMPLETION_WORDS <= in_entry::HOLDERS);

/// What an entry is at. The numbers are those of the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Free = 0,
    Claiming = 1,
    Held = 2,
    Ended = 3,
}

/// The generation of an entry, and what it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    generation: u64,
    stage: Stage,
}

impl Turn {
    fn of_word(word: u64) -> Turn {
        let stage = match word % 4 {
            0 => Stage::Free,
            1 => Stage::Claiming,
            2 => Stage::Held,
            _ => Stage::Ended,
        };
        Turn { generation: word / 4, stage }
    }

    fn word(self) -> u64 {
        self.generation.wrapping_mul(4) | self.stage as u64
    }

    fn at(self, stage: Stage) -> Turn {
        Turn { stage, ..self }
    }
}

/// A process that holds a connection: its number and the time of its start, since numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(u64);

const START_BITS: u32 = 39;
/// Of a process that is about to be forked by this one. Numbers of processes have 22 bits.
const UNBORN: u64 = 1 << 63;
/// The number of a process has so many bits at most.
const PID_BITS: u32 = u64::BITS - START_BITS - 1;

impl Holder {
    /// `started` is field 22 of `/proc/PID/stat`, in clock ticks; `None` for a number that no process has.
    #[must_use]
    pub fn new(pid: i32, started: u64) -> Option<Holder> {
        let pid = u64::try_from(pid).ok().filter(|pid| (1..1 << PID_BITS).contains(pid))?;
        Some(Holder(pid << START_BITS | started & ((1 << START_BITS) - 1)))
    }

    /// Its number.
    #[must_use]
    pub fn pid(self) -> i32 {
        i32::try_from((self.0 & !UNBORN) >> START_BITS).unwrap_or(0)
    }

    /// Its child that is about to be.
    #[must_use]
    pub fn unborn(self) -> Holder {
        Holder(self.0 ^ UNBORN)
    }

    fn is_unborn(self) -> bool {
        self.0 & UNBORN != 0
    }

    /// As it stands in an entry; never 0.
    #[must_use]
    pub fn word(self) -> u64 {
        self.0
    }

    /// What [`Holder::word`] made a word of; `None` for 0.
    #[must_use]
    pub fn of_word(word: u64) -> Option<Holder> {
        Some(Holder(word)).filter(|holder| holder.pid() > 0)
    }
}

fn entry(no: usize) -> usize {
    in_region::ENTRIES + no * in_entry::WORDS
}

/// Words of the gauges of a table.
#[must_use]
pub fn gauges_words(capacity: Capacity) -> usize {
    in_gauges::SETTLED + capacity.records() as usize
}

/// Words of a region with a table.
#[must_use]
pub fn region_words(capacity: Capacity) -> usize {
    entry(capacity.records() as usize)
}

// ── the supervisor's side ──────────────────────────────────────────────────────────────────────────────────────

/// The table as the supervisor sees it.
#[derive(Debug)]
pub struct Table {
    gauges: OwnMemory,
    region: PeerMemory,
    /// The settled generation of each entry.
    settled: Vec<u64>,
    /// The count of changes when it was last looked at.
    seen: u64,
}

/// New shared memory for a table, and what the program gets of it.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct SharedTable {
    /// Ours.
    pub table: Table,
    /// The program's memory.
    pub region: OwnedFd,
    /// Our memory, for reading.
    pub gauges: OwnedFd,
}

#[cfg(not(loom))]
impl SharedTable {
    /// Makes the memory for one worker, whose table has an entry for each connection that it may be handed.
    ///
    /// # Errors
    /// As memfd_create(2), mmap(2) and open(2): no descriptors, no memory, no `/proc`.
    pub fn create(capacity: Capacity) -> io::Result<SharedTable> {
        let region = sealed(c"ostler-region", region_words(capacity))?;
        let ours = sealed(c"ostler-gauges", gauges_words(capacity))?;
        let gauges = read_only(ours.as_fd())?;
        let table = Table::new(OwnMemory::map(&ours)?, PeerMemory::map(&region)?, capacity);
        Ok(SharedTable { table, region, gauges })
    }
}

impl Table {
    /// Begins with two new memories, and writes down what the program's side has to know.
    ///
    /// # Panics
    /// When they are too small.
    #[must_use]
    pub fn new(gauges: OwnMemory, region: PeerMemory, capacity: Capacity) -> Table {
        assert!(gauges.words() >= gauges_words(capacity) && region.words() >= region_words(capacity));
        gauges.store(in_gauges::CAPACITY, u64::from(capacity.records()), Ordering::Relaxed);
        gauges.store(in_gauges::WAITING, 1, Ordering::Relaxed);
        gauges.store(in_gauges::LAYOUT, LAYOUT, Ordering::Release);
        Table { gauges, region, settled: vec![0; capacity.records() as usize], seen: 0 }
    }

    /// From here on every change rings.
    pub fn arm(&self) {
        self.gauges.store(in_gauges::WAITING, 1, Ordering::Relaxed);
    }

    /// We look by ourselves.
    pub fn disarm(&self) {
        self.gauges.store(in_gauges::WAITING, 0, Ordering::Relaxed);
    }

    /// Whether something has changed since the last look.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.region.load(in_region::CHANGES, Ordering::Acquire) != self.seen
    }

    /// Collects the connections that have ended, each once, and settles them.
    ///
    /// # Errors
    /// [`BadOutcome`]: what came before it is in `completions` and holds.
    pub fn take(&mut self, completions: &mut Vec<Completion>) -> Result<(), BadOutcome> {
        self.seen = self.region.load(in_region::CHANGES, Ordering::Acquire);
        for no in 0..self.in_use() {
            let turn = Turn::of_word(self.region.load(entry(no) + in_entry::TURN, Ordering::Acquire)); // SYNC T2 ← T1
            if turn.stage != Stage::Ended || turn.generation <= self.settled[no] {
                continue;
            }
            let record = self.region.load_row::<COMPLETION_WORDS>(entry(no) + in_entry::RECORD);
            self.settle(no, turn.generation);
            completions.push(Completion::from_words(record)?);
        }
        Ok(())
    }

    fn in_use(&self) -> usize {
        let claimed = self.region.load(in_region::IN_USE, Ordering::Acquire);
        usize::try_from(claimed).unwrap_or(usize::MAX).min(self.settled.len())
    }

    fn settle(&mut self, no: usize, generation: u64) {
        self.settled[no] = generation;
        // SYNC T3 → T4: the entry may be written again.
        self.gauges.store(in_gauges::SETTLED + no, generation, Ordering::Release);
    }

    /// Whether the program says that it takes connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.region.load(in_region::READY, Ordering::Acquire) == 1
    }

    /// When the program was last seen to wait for connections or to take one, in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn heartbeat_ns(&self) -> Option<u64> {
        Some(self.region.load(in_region::HEARTBEAT, Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// Asks for a sign of life. It is given by the next call that the program makes.
    pub fn ask(&self, nonce: u64) {
        self.gauges.store(in_gauges::ASKED, nonce, Ordering::Release);
    }

    /// The question that was answered last; 0 before the first.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.region.load(in_region::ANSWERED, Ordering::Acquire)
    }

    /// Tells how full the waiting line is, in thousandths of its limit.
    pub fn set_pressure(&self, thousandths: u16) {
        self.gauges.store(in_gauges::PRESSURE, u64::from(thousandths), Ordering::Relaxed);
    }
}

// ── the program's side ─────────────────────────────────────────────────────────────────────────────────────────

/// The table as each process of the program sees it. May be used by any number of threads and processes; never waits, never
/// allocates.
#[derive(Debug)]
pub struct Claimant {
    region: OwnMemory,
    gauges: PeerMemory,
    capacity: usize,
}

/// A reserved entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    entry: usize,
    generation: u64,
}

impl Claim {
    /// Its place in the table.
    #[must_use]
    pub fn place(self) -> usize {
        self.entry
    }

    /// The whole of it as one word, which is never 0 or 1; `None` where it does not fit, after 2^39 uses of one place.
    #[must_use]
    pub fn to_word(self) -> Option<u64> {
        let place = self.entry as u64 + 2;
        (place < 1 << PLACE_BITS && self.generation < 1 << (u64::BITS - PLACE_BITS))
            .then_some(self.generation << PLACE_BITS | place)
    }

    /// What [`Claim::to_word`] made a word of; `None` for 0 and 1.
    #[must_use]
    pub fn of_word(word: u64) -> Option<Claim> {
        let place = word % (1 << PLACE_BITS);
        let entry = usize::try_from(place.checked_sub(2)?).ok()?;
        Some(Claim { entry, generation: word >> PLACE_BITS })
    }
}

/// Enough for [`CAPACITY_MAX`](crate::ring::CAPACITY_MAX) places and two words that are none.
const PLACE_BITS: u32 = 25;

impl Claimant {
    /// Begins with what the supervisor made.
    ///
    /// # Errors
    /// [`BadRegion`] when it is not of this layout.
    pub fn new(gauges: PeerMemory, region: OwnMemory) -> Result<Claimant, BadRegion> {
        if gauges.words() < in_gauges::SETTLED {
            return Err(BadRegion::Short { words: gauges.words() });
        }
        let layout = gauges.load(in_gauges::LAYOUT, Ordering::Acquire);
        if layout != LAYOUT {
            return Err(BadRegion::Layout(layout));
        }
        let claimed = gauges.load(in_gauges::CAPACITY, Ordering::Relaxed);
        let fits = |capacity: &Capacity| {
            gauges.words() >= gauges_words(*capacity) && region.words() >= region_words(*capacity)
        };
        let capacity = Capacity::claimed(claimed).filter(fits).ok_or(BadRegion::Capacity(claimed))?;
        Ok(Claimant { region, gauges, capacity: capacity.records() as usize })
    }

    /// How many connections there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Says that somebody is alive, and answers the supervisor if it asked.
    pub fn beat(&self, now_ns: u64) -> Bell {
        self.region.store(in_region::HEARTBEAT, now_ns, Ordering::Relaxed);
        let asked = self.gauges.load(in_gauges::ASKED, Ordering::Acquire);
        let answered = self.region.load(in_region::ANSWERED, Ordering::Relaxed);
        if asked != answered && self.region.exchange(in_region::ANSWERED, answered, asked) {
            // Not a record: it is heard at once, whether the supervisor looks by itself or not.
            return Bell::Ring;
        }
        Bell::Silent
    }

    /// Whether somebody has said that the program takes connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.region.load(in_region::READY, Ordering::Acquire) == 1
    }

    /// Says that the program takes connections. The first one rings.
    pub fn be_ready(&self) -> Bell {
        if self.region.exchange(in_region::READY, 0, 1) { Bell::Ring } else { Bell::Silent }
    }

    /// Takes an entry for a connection that is about to be claimed; `None` when there is none, which between honest sides
    /// does not happen. The lowest, so that a look is as short as it can be.
    #[must_use]
    pub fn reserve(&self, conn: ConnId, holder: Holder, now_ns: u64) -> Option<Claim> {
        for no in 0..self.capacity {
            let at = entry(no);
            let word = self.region.load(at + in_entry::TURN, Ordering::Acquire);
            let turn = Turn::of_word(word);
            // SYNC T4 ← T3: what the supervisor has settled it has read.
            let settled = self.gauges.load(in_gauges::SETTLED + no, Ordering::Acquire);
            let is_free = turn.stage == Stage::Free || turn.generation == settled;
            let next = Turn { generation: turn.generation + 1, stage: Stage::Claiming };
            if is_free && self.region.exchange(at + in_entry::TURN, word, next.word()) {
                for other in 0..HOLDERS_MAX {
                    let word = if other == 0 { holder.0 } else { 0 };
                    self.region.store(at + in_entry::HOLDERS + other, word, Ordering::SeqCst);
                }
                let open = Completion { conn, outcome: Outcome::Done, claimed_at_ns: now_ns, done_at_ns: now_ns };
                self.region.store_row(at + in_entry::RECORD, &open.to_words());
                self.region.raise(in_region::IN_USE, no as u64 + 1);
                return Some(Claim { entry: no, generation: next.generation });
            }
        }
        None
    }

    /// The connection that was reserved for is claimed; by now it may be another one.
    pub fn hold(&self, claim: Claim, conn: ConnId) {
        self.region.store(entry(claim.entry) + in_entry::RECORD, conn.0, Ordering::Relaxed);
        let turn = Turn { generation: claim.generation, stage: Stage::Held };
        // SYNC T1 → T2.
        self.region.store(entry(claim.entry) + in_entry::TURN, turn.word(), Ordering::Release);
    }

    /// The connection was not there any more.
    pub fn give_back(&self, claim: Claim) {
        let turn = Turn { generation: claim.generation, stage: Stage::Free };
        self.region.store(entry(claim.entry) + in_entry::TURN, turn.word(), Ordering::Release);
    }

    /// This holder has closed the connection. When it was the last one, the connection is over.
    pub fn release(&self, claim: Claim, holder: Holder, now_ns: u64, outcome: Outcome) -> Bell {
        let at = entry(claim.entry);
        let held = Turn { generation: claim.generation, stage: Stage::Held };
        if self.region.load(at + in_entry::TURN, Ordering::Acquire) != held.word() {
            return Bell::Silent; // the supervisor has given it up
        }
        self.remove(at, holder);
        self.end_if_unheld(claim, now_ns, outcome)
    }

    /// The connection is over when nobody holds it.
    pub fn end_if_unheld(&self, claim: Claim, now_ns: u64, outcome: Outcome) -> Bell {
        let at = entry(claim.entry);
        let held = Turn { generation: claim.generation, stage: Stage::Held };
        let is_held =
            (0..HOLDERS_MAX).any(|other| self.region.load(at + in_entry::HOLDERS + other, Ordering::SeqCst) != 0);
        if is_held {
            return Bell::Silent;
        }
        // Two that leave at the same time may both be the last; then both write nearly the same.
        let [_, _, done_at, word] =
            Completion { conn: ConnId(0), outcome, claimed_at_ns: 0, done_at_ns: now_ns }.to_words();
        self.region.store(at + in_entry::RECORD + 2, done_at, Ordering::Relaxed);
        self.region.store(at + in_entry::RECORD + 3, word, Ordering::Relaxed);
        // SYNC T1 → T2.
        if self.region.exchange(at + in_entry::TURN, held.word(), held.at(Stage::Ended).word()) {
            self.changed()
        } else {
            Bell::Silent
        }
    }

    /// Somebody else holds it as well, or is known to already. Where there are too many, it is not known and not waited for.
    pub fn join(&self, claim: Claim, holder: Holder) {
        let at = entry(claim.entry) + in_entry::HOLDERS;
        let is_known = |other| self.region.load(at + other, Ordering::SeqCst) == holder.0;
        if self.is_at(claim, Stage::Held) && !(0..HOLDERS_MAX).any(is_known) {
            let _now_known = (0..HOLDERS_MAX).any(|other| self.region.exchange(at + other, 0, holder.0));
        }
    }

    /// It does not hold it any more; whoever does says when it is over.
    pub fn leave(&self, claim: Claim, holder: Holder) {
        if self.is_at(claim, Stage::Held) {
            self.remove(entry(claim.entry), holder);
        }
    }

    /// One holder turns out to be another.
    pub fn replace(&self, claim: Claim, old: Holder, new: Holder) {
        let at = entry(claim.entry) + in_entry::HOLDERS;
        if self.is_at(claim, Stage::Held) {
            let was_there = (0..HOLDERS_MAX).any(|other| self.region.exchange(at + other, old.0, new.0));
            if !was_there {
                self.join(claim, new);
            }
        }
    }

    /// A holder ends, and has closed all that it held.
    pub fn release_all(&self, holder: Holder, now_ns: u64, ring: impl Fn(Bell)) {
        let in_use = usize::try_from(self.region.load(in_region::IN_USE, Ordering::Acquire)).unwrap_or(usize::MAX);
        for no in 0..in_use.min(self.capacity) {
            let turn = Turn::of_word(self.region.load(entry(no) + in_entry::TURN, Ordering::Acquire));
            let holds = |other| self.region.load(entry(no) + in_entry::HOLDERS + other, Ordering::SeqCst) == holder.0;
            if turn.stage == Stage::Held && (0..HOLDERS_MAX).any(holds) {
                ring(self.release(Claim { entry: no, generation: turn.generation }, holder, now_ns, Outcome::Done));
            }
        }
    }

    /// A process has died without having closed what it held.
    pub fn bury(&self, pid: i32, now_ns: u64, ring: impl Fn(Bell)) {
        let in_use = usize::try_from(self.region.load(in_region::IN_USE, Ordering::Acquire)).unwrap_or(usize::MAX);
        for no in 0..in_use.min(self.capacity) {
            let turn = Turn::of_word(self.region.load(entry(no) + in_entry::TURN, Ordering::Acquire));
            let at = entry(no) + in_entry::HOLDERS;
            let holder = |other| Holder::of_word(self.region.load(at + other, Ordering::SeqCst));
            let dead = (0..HOLDERS_MAX).filter_map(holder).find(|holder| holder.pid() == pid && !holder.is_unborn());
            if let Some(dead) = dead.filter(|_| turn.stage == Stage::Held) {
                ring(self.release(Claim { entry: no, generation: turn.generation }, dead, now_ns, Outcome::Dropped));
            }
        }
    }

    fn is_at(&self, claim: Claim, stage: Stage) -> bool {
        let turn = Turn { generation: claim.generation, stage };
        self.region.load(entry(claim.entry) + in_entry::TURN, Ordering::Acquire) == turn.word()
    }

    fn remove(&self, at: usize, holder: Holder) {
        for other in 0..HOLDERS_MAX {
            if self.region.exchange(at + in_entry::HOLDERS + other, holder.0, 0) {
                return;
            }
        }
    }

    fn changed(&self) -> Bell {
        self.region.count(in_region::CHANGES);
        // SYNC F1 ⇄ F2: first count, then look whether somebody waits.
        fence(Ordering::SeqCst);
        if self.gauges.load(in_gauges::WAITING, Ordering::Relaxed) == 0 { Bell::Silent } else { Bell::Ring }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "claims_tests.rs"]
mod tests;
