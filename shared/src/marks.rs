//! Says which connections of a worker are busy: an entry per place, beside the ring in the worker's memory.
//!
//! ```text
//! word 0  connection id      word 1  0 nobody has this place, 1 idle, 2 not marked, else busy since then,
//!                                    ns of CLOCK_MONOTONIC
//! ```
//! Each entry has one writer at a time, who gives its place to a connection before he marks it. A reader finds an entry that
//! changes under its eyes by the id, which no two connections share, and leaves it out.

use crate::ids::ConnId;
use crate::sync::Ordering;
use crate::sys::memory::{OwnMemory, PeerMemory};

/// Words of an entry.
pub const MARK_WORDS: usize = 2;

/// What a worker says of one connection. A claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Nobody waits for an answer.
    Idle,
    /// The worker can't tell.
    Unmarked,
    /// A request came in at this time, in nanoseconds of `CLOCK_MONOTONIC`, and is not answered.
    Busy {
        /// When.
        since_ns: u64,
    },
}

const FREE: u64 = 0;
const IDLE: u64 = 1;
const UNMARKED: u64 = 2;

impl Sign {
    fn word(self) -> u64 {
        match self {
            Sign::Idle => IDLE,
            Sign::Unmarked => UNMARKED,
            Sign::Busy { since_ns } => since_ns.max(UNMARKED + 1),
        }
    }

    fn of_word(word: u64) -> Option<Sign> {
        match word {
            FREE => None,
            IDLE => Some(Sign::Idle),
            UNMARKED => Some(Sign::Unmarked),
            since_ns => Some(Sign::Busy { since_ns }),
        }
    }
}

/// Where a memory has its entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entries {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Entries {
    fn at(self, place: usize) -> usize {
        assert!(place < self.count, "place {place} of {}", self.count);
        self.first + place * MARK_WORDS
    }

    /// Gives a place to a connection.
    pub(crate) fn occupy(self, memory: &OwnMemory, place: usize, conn: ConnId, sign: Sign) {
        // SYNC W5 → R5: whoever reads this id sees that the one before has left.
        memory.store(self.at(place), conn.0, Ordering::Release);
        self.mark(memory, place, sign);
    }

    pub(crate) fn mark(self, memory: &OwnMemory, place: usize, sign: Sign) {
        // SYNC W6 → R6: whoever reads this sign finds its connection's id behind it.
        memory.store(self.at(place) + 1, sign.word(), Ordering::Release);
    }

    pub(crate) fn vacate(self, memory: &OwnMemory, place: usize) {
        memory.store(self.at(place) + 1, FREE, Ordering::Release);
    }

    /// What one place says, unless it changes meanwhile.
    fn read(self, memory: &PeerMemory, place: usize) -> Option<(ConnId, Sign)> {
        let at = self.at(place);
        let before = memory.load(at, Ordering::Acquire); // SYNC R5 ← W5
        let sign = Sign::of_word(memory.load(at + 1, Ordering::Acquire))?; // SYNC R6 ← W6
        let after = memory.load(at, Ordering::Acquire);
        (before == after).then_some((ConnId(before), sign))
    }

    pub(crate) fn read_all(self, memory: &PeerMemory) -> impl Iterator<Item = (ConnId, Sign)> {
        (0..self.count).filter_map(move |place| self.read(memory, place))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::memory::on_the_heap;

    const ENTRIES: Entries = Entries { first: 3, count: 2 };

    #[test]
    fn a_place_says_what_its_connection_does_until_it_is_vacated() {
        let (own, peer) = on_the_heap(7);
        let read = || ENTRIES.read_all(&peer).collect::<Vec<_>>();
        assert_eq!(read(), []);
        ENTRIES.occupy(&own, 1, ConnId(7), Sign::Idle);
        for sign in [Sign::Idle, Sign::Unmarked, Sign::Busy { since_ns: 99 }] {
            ENTRIES.mark(&own, 1, sign);
            assert_eq!(read(), [(ConnId(7), sign)]);
        }
        ENTRIES.vacate(&own, 1);
        assert_eq!(read(), []);
    }

    #[test]
    fn the_entries_are_these_words() {
        let (own, peer) = on_the_heap(7);
        ENTRIES.occupy(&own, 0, ConnId(5), Sign::Busy { since_ns: 9 });
        ENTRIES.occupy(&own, 1, ConnId(6), Sign::Busy { since_ns: 0 });
        assert_eq!(peer.load_row::<7>(0), [0, 0, 0, 5, 9, 6, 3], "a time that means something else is moved a little");
    }

    #[test]
    #[should_panic(expected = "place 2 of 2")]
    fn a_place_that_there_is_not_is_our_bug() {
        ENTRIES.vacate(&on_the_heap(9).0, 2);
    }
}
