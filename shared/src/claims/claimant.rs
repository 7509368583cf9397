//! Writes the table of claims: the side of the program's processes.

use super::{
    Escape, HOLDERS_MAX, Holder, LAYOUT, LEFT, LEFT_BITS, Stage, Turn, entry, gauges_words, in_entry, in_gauges,
    in_region, region_words,
};
use crate::completion::{Completion, Outcome};
use crate::ids::ConnId;
use crate::region::BadRegion;
use crate::ring::{Bell, Capacity};
use crate::sync::{Ordering, fence};
use crate::sys::memory::{OwnMemory, PeerMemory};

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
    pub(super) entry: usize,
    pub(super) generation: u64,
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

    /// Says that this process takes no more connections. Only the first one that says so is heard.
    pub fn stop_taking(&self, pid: i32) -> Bell {
        let word = u64::from(pid.unsigned_abs()) << LEFT_BITS | LEFT;
        if self.region.exchange(in_region::READY, 1, word) { Bell::Ring } else { Bell::Silent }
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

    /// A process holds something for the first time; to be called when an entry names it.
    pub fn introduce(&self) -> Bell {
        self.region.count(in_region::NEWCOMERS);
        self.changed()
    }

    /// A connection has got out of our sight.
    pub fn note_escape(&self, escape: Escape) {
        loop {
            let noted = self.region.load(in_region::ESCAPES, Ordering::Relaxed);
            let more = noted | escape as u64;
            if noted == more || self.region.exchange(in_region::ESCAPES, noted, more) {
                return;
            }
        }
    }

    /// Somebody else holds it as well, or is known to already. Where there are too many, it is not known and not waited for.
    pub fn join(&self, claim: Claim, holder: Holder) {
        let at = entry(claim.entry) + in_entry::HOLDERS;
        let is_known = |other| self.region.load(at + other, Ordering::SeqCst) == holder.0;
        if self.is_at(claim, Stage::Held) && !(0..HOLDERS_MAX).any(is_known) {
            let is_known_now = (0..HOLDERS_MAX).any(|other| self.region.exchange(at + other, 0, holder.0));
            if !is_known_now {
                self.note_escape(Escape::Crowded);
            }
        }
    }

    /// It does not hold it any more; whoever does says when it is over.
    pub fn leave(&self, claim: Claim, holder: Holder) {
        if self.is_at(claim, Stage::Held) {
            self.remove(entry(claim.entry), holder);
        }
    }

    /// One holder turns out to be another, unless it has said so itself already.
    pub fn rename(&self, claim: Claim, old: Holder, new: Holder) {
        let at = entry(claim.entry) + in_entry::HOLDERS;
        if self.is_at(claim, Stage::Held) {
            let _was_there = (0..HOLDERS_MAX).any(|other| self.region.exchange(at + other, old.0, new.0));
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

    /// Whether somebody holds anything.
    #[must_use]
    pub fn holds(&self, holder: Holder) -> bool {
        self.held_by(holder).next().is_some()
    }

    /// A holder has closed all that it held, mostly by ending.
    pub fn release_all(&self, holder: Holder, now_ns: u64, ring: impl Fn(Bell)) {
        self.held_by(holder).for_each(|claim| ring(self.release(claim, holder, now_ns, Outcome::Done)));
    }

    fn held_by(&self, holder: Holder) -> impl Iterator<Item = Claim> {
        (0..self.in_use()).filter_map(move |no| {
            let turn = Turn::of_word(self.region.load(entry(no) + in_entry::TURN, Ordering::Acquire));
            let holds = |other| self.region.load(entry(no) + in_entry::HOLDERS + other, Ordering::SeqCst) == holder.0;
            let is_held = turn.stage == Stage::Held && (0..HOLDERS_MAX).any(holds);
            is_held.then_some(Claim { entry: no, generation: turn.generation })
        })
    }

    /// As many entries as were ever in use at a time.
    fn in_use(&self) -> usize {
        let in_use = self.region.load(in_region::IN_USE, Ordering::Acquire);
        usize::try_from(in_use).unwrap_or(usize::MAX).min(self.capacity)
    }

    /// A process has ended without having let go of what it held.
    pub fn bury(&self, pid: i32, outcome: Outcome, now_ns: u64, ring: impl Fn(Bell)) {
        for no in 0..self.in_use() {
            let turn = Turn::of_word(self.region.load(entry(no) + in_entry::TURN, Ordering::Acquire));
            let at = entry(no) + in_entry::HOLDERS;
            let holder = |other| Holder::of_word(self.region.load(at + other, Ordering::SeqCst));
            let dead = (0..HOLDERS_MAX).filter_map(holder).find(|holder| holder.pid() == pid && !holder.is_unborn());
            if let Some(dead) = dead.filter(|_| turn.stage == Stage::Held) {
                ring(self.release(Claim { entry: no, generation: turn.generation }, dead, now_ns, outcome));
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
