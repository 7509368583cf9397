//! Says how many workers a pool has: a number, or a range that the load decides within.

use std::time::Duration;

use crate::limits::WORKERS_MAX;

/// `workers = …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// So many, at least 1, until an operator says otherwise.
    Fixed(u32),
    /// As many as the load needs.
    Between(Range),
}

/// `workers = { … }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Never fewer; may be 0.
    pub min: u32,
    /// Never more; at least 1 and at least `min`.
    pub max: u32,
    /// Workers that were not needed for so long are taken away.
    pub idle: Duration,
    /// A pool in whose line everybody waits longer than this gets more workers.
    pub target_delay: Duration,
}

impl Workers {
    /// How many there are at the start.
    #[must_use]
    pub fn initial(self) -> u32 {
        match self {
            Workers::Fixed(count) => count,
            Workers::Between(range) => range.min,
        }
    }

    /// How many there may be without anybody asking for more.
    #[must_use]
    pub fn most(self) -> u32 {
        match self {
            Workers::Fixed(count) => count,
            Workers::Between(range) => range.max,
        }
    }

    /// What an operator may ask for: fewest and most.
    #[must_use]
    pub fn bounds(self) -> (u32, u32) {
        match self {
            Workers::Fixed(_) => (1, WORKERS_MAX),
            Workers::Between(range) => (range.min, range.max),
        }
    }

    /// The range that the load decides within, where there is one.
    #[must_use]
    pub fn range(self) -> Option<Range> {
        match self {
            Workers::Fixed(_) => None,
            Workers::Between(range) => Some(range),
        }
    }

    /// The number that comes closest to what there is: a fixed one is meant, a range is only kept to.
    #[must_use]
    pub fn nearest_to(self, count: u32) -> u32 {
        match self {
            Workers::Fixed(fixed) => fixed,
            Workers::Between(range) => count.clamp(range.min, range.max),
        }
    }
}
