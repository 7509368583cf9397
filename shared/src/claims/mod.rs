//! Keeps account of the connections that an unmodified program holds: a table in the worker's memory, an entry for each.
//!
//! Such a program is several processes and threads, none of which knows of the others, so that a ring with one producer
//! does not do. Two memories as in [`region`](crate::region), each written by one side:
//!
//! ```text
//! gauges (supervisor writes)                   region (the program's processes write)
//! line 0  layout, capacity of the table        line 0  heartbeat, ready, answered, entries in use, newcomers, escapes
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
//! A process that dies without a word is known to the supervisor by its own descriptor: a newcomer among those who hold something
//! says so once, and when the supervisor finds it gone it settles what no living process holds ([`Table::bury`]).
//!
//! Nothing in here makes the supervisor panic, allocate or leave the memory, whatever the program writes (I6): a look costs at
//! most one pass over the table.

mod claimant;
mod table;

use crate::completion::COMPLETION_WORDS;
use crate::ring::Capacity;

pub use claimant::{Claim, Claimant};
#[cfg(not(loom))]
pub use table::SharedTable;
pub use table::Table;

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

/// In the lowest bits of the word of readiness, behind the number of the process that takes no more connections.
const LEFT: u64 = 2;
/// Bits in front of that number.
const LEFT_BITS: u32 = 2;

mod in_region {
    use super::LINE;
    pub(super) const HEARTBEAT: usize = 0;
    /// 0, then 1 while the program takes connections, then [`LEFT`] and who said so.
    pub(super) const READY: usize = 1;
    pub(super) const ANSWERED: usize = 2;
    pub(super) const IN_USE: usize = 3;
    pub(super) const NEWCOMERS: usize = 4;
    pub(super) const ESCAPES: usize = 5;
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

/// A way in which a connection gets out of the sight of those who write the table, so that the figures are estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// A program that was executed keeps it.
    Executed = 1,
    /// It was sent to another process (SCM_RIGHTS).
    Passed = 2,
    /// A child has it that was made in another way than by fork.
    Cloned = 4,
    /// Its number was closed or taken over in a way that nobody saw.
    Unseen = 8,
    /// More processes hold it than are known.
    Crowded = 16,
}

impl Escape {
    /// All of them.
    pub const ALL: [Escape; 5] = [Escape::Executed, Escape::Passed, Escape::Cloned, Escape::Unseen, Escape::Crowded];

    /// As an operator reads it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Escape::Executed => "executed",
            Escape::Passed => "passed",
            Escape::Cloned => "cloned",
            Escape::Unseen => "unseen",
            Escape::Crowded => "crowded",
        }
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

    /// The process itself; of a child that is about to be, its parent.
    #[must_use]
    pub fn process(self) -> Holder {
        Holder(self.0 & !UNBORN)
    }

    /// Whether it is the process of its number that started then, in clock ticks.
    #[must_use]
    pub fn has_started_at(self, ticks: u64) -> bool {
        (self.0 ^ ticks) & ((1 << START_BITS) - 1) == 0
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

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
