//! Reads the table of claims: the supervisor's side.

use std::collections::BTreeSet;
#[cfg(not(loom))]
use std::io;
use std::num::NonZeroU64;
#[cfg(not(loom))]
use std::os::fd::{AsFd, OwnedFd};

use super::{
    Escape, HOLDERS_MAX, Holder, LAYOUT, LEFT, LEFT_BITS, Stage, Turn, entry, gauges_words, in_entry, in_gauges,
    in_region, region_words,
};
use crate::completion::{BadOutcome, COMPLETION_WORDS, Completion, Outcome};
use crate::ring::Capacity;
use crate::sync::Ordering;
use crate::sys::memory::{OwnMemory, PeerMemory};
#[cfg(not(loom))]
use crate::sys::memory::{read_only, sealed};

/// The table as the supervisor sees it.
#[derive(Debug)]
pub struct Table {
    gauges: OwnMemory,
    region: PeerMemory,
    /// The settled generation of each entry.
    settled: Vec<u64>,
    /// The count of changes when it was last looked at.
    seen: u64,
    /// The count of newcomers when it was last looked at.
    welcomed: u64,
    /// Processes that are gone and that some entry still names.
    gone: BTreeSet<Holder>,
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
        Table {
            gauges,
            region,
            settled: vec![0; capacity.records() as usize],
            seen: 0,
            welcomed: 0,
            gone: BTreeSet::new(),
        }
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

    /// Who holds something now, each process once; nothing when nobody has come to them since the last call. A look costs one pass over the
    /// table.
    pub fn newcomers(&mut self) -> BTreeSet<Holder> {
        let count = self.region.load(in_region::NEWCOMERS, Ordering::Acquire);
        if std::mem::replace(&mut self.welcomed, count) == count { BTreeSet::new() } else { self.holders() }
    }

    /// Who holds something now, each process once.
    #[must_use]
    pub fn holders(&self) -> BTreeSet<Holder> {
        let held = (0..self.in_use()).filter(|no| self.held(*no).is_some());
        held.flat_map(|no| self.holders_of(no).into_iter().flatten()).map(Holder::process).collect()
    }

    /// A process is gone. Collects the connections that no process holds any more, each once, and settles them.
    ///
    /// An entry whose process died between its two steps, reserved and held, stays to the end of the worker: its connection may
    /// be in the mailbox still, and who holds it is written in neither.
    ///
    /// # Errors
    /// [`BadOutcome`]: what came before it is in `completions` and holds.
    pub fn bury(
        &mut self,
        gone: Holder,
        outcome: Outcome,
        now_ns: u64,
        completions: &mut Vec<Completion>,
    ) -> Result<(), BadOutcome> {
        self.gone.insert(gone);
        let mut named = BTreeSet::new();
        for no in 0..self.in_use() {
            let Some(turn) = self.held(no) else { continue };
            let holders = self.holders_of(no);
            // Who holds it may fork just now: two looks that find the same are one look (I6: whoever changes it all the time
            // deceives nobody but himself).
            if self.holders_of(no) != holders || self.held(no) != Some(turn) {
                named.extend(holders.into_iter().flatten().map(Holder::process));
                continue;
            }
            let known: BTreeSet<Holder> = holders.into_iter().flatten().map(Holder::process).collect();
            if known.is_empty() || !known.is_subset(&self.gone) {
                named.extend(known);
                continue;
            }
            let record = self.region.load_row::<COMPLETION_WORDS>(entry(no) + in_entry::RECORD);
            self.settle(no, turn.generation);
            completions.push(Completion { outcome, done_at_ns: now_ns, ..Completion::from_words(record)? });
        }
        self.gone.retain(|process| named.contains(process));
        Ok(())
    }

    /// The turn of an entry that is held and not settled.
    fn held(&self, no: usize) -> Option<Turn> {
        let turn = Turn::of_word(self.region.load(entry(no) + in_entry::TURN, Ordering::Acquire));
        (turn.stage == Stage::Held && turn.generation > self.settled[no]).then_some(turn)
    }

    fn holders_of(&self, no: usize) -> [Option<Holder>; HOLDERS_MAX] {
        let word = |other| self.region.load(entry(no) + in_entry::HOLDERS + other, Ordering::SeqCst);
        std::array::from_fn(|other| Holder::of_word(word(other)))
    }

    /// Ways in which connections of this program have got out of sight, if any.
    pub fn escapes(&self) -> impl Iterator<Item = Escape> + use<> {
        let noted = self.region.load(in_region::ESCAPES, Ordering::Relaxed);
        Escape::ALL.into_iter().filter(move |escape| noted & *escape as u64 != 0)
    }

    /// Whether the program says that it takes connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.region.load(in_region::READY, Ordering::Acquire) == 1
    }

    /// Whether it has ever taken a connection.
    #[must_use]
    pub fn has_claimed(&self) -> bool {
        // The lowest free entry is taken.
        self.region.load(entry(0) + in_entry::TURN, Ordering::Relaxed) != 0
    }

    /// The process that says that it takes no more connections, if one does.
    #[must_use]
    pub fn has_left(&self) -> Option<i32> {
        let word = self.region.load(in_region::READY, Ordering::Acquire);
        let is_said = word & ((1 << LEFT_BITS) - 1) == LEFT;
        is_said.then(|| i32::try_from(word >> LEFT_BITS).ok()).flatten()
    }

    /// When the program was last seen to wait for connections or to take one, in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn heartbeat_ns(&self) -> Option<u64> {
        Some(self.region.load(in_region::HEARTBEAT, Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// Asks for a sign of life. It is given by the next call that the program makes.
    pub fn ask(&self, nonce: NonZeroU64) {
        self.gauges.store(in_gauges::ASKED, nonce.get(), Ordering::Release);
    }

    /// The question that was answered last; `None` before the first.
    #[must_use]
    pub fn answered(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.region.load(in_region::ANSWERED, Ordering::Acquire))
    }

    /// Tells how full the waiting line is, in thousandths of its limit.
    pub fn set_pressure(&self, thousandths: u16) {
        self.gauges.store(in_gauges::PRESSURE, u64::from(thousandths), Ordering::Relaxed);
    }
}
