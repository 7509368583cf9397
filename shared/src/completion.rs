//! Says how a claimed connection ended, as a record of the completion ring.
//!
//! ```text
//! word 0  connection id      word 2  done at, ns of CLOCK_MONOTONIC
//! word 1  claimed at, ns     word 3  outcome: 0 done, 1 panicked, 2 truncated, 3 dropped, 4 failed
//! ```
//! A record from the other side is a claim: an outcome that does not exist is refused, and the times are bounded by
//! whoever believes them.

use crate::ids::ConnId;

/// Words of a record.
pub const COMPLETION_WORDS: usize = 4;

/// The end of a claimed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Which connection.
    pub conn: ConnId,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was claimed, in nanoseconds of `CLOCK_MONOTONIC`.
    pub claimed_at_ns: u64,
    /// When it ended, on the same clock.
    pub done_at_ns: u64,
}

/// How a claimed connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The handler returned and the connection is closed.
    Done,
    /// The handler panicked; the connection is closed.
    Panicked,
    /// The ticket arrived, its descriptor did not (the worker was at its `nofile` limit).
    Truncated,
    /// The process that held it has died; the worker lives on.
    Dropped,
    /// Who served it says that it did not go well; the connection is closed.
    Failed,
}

/// A record with an outcome that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a completion with the outcome {0}, which does not exist")]
pub struct BadOutcome(pub u64);

impl Completion {
    /// The record.
    #[must_use]
    pub fn to_words(&self) -> [u64; COMPLETION_WORDS] {
        let outcome = match self.outcome {
            Outcome::Done => 0,
            Outcome::Panicked => 1,
            Outcome::Truncated => 2,
            Outcome::Dropped => 3,
            Outcome::Failed => 4,
        };
        [self.conn.0, self.claimed_at_ns, self.done_at_ns, outcome]
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`BadOutcome`].
    pub fn from_words([conn, claimed_at_ns, done_at_ns, outcome]: [u64; COMPLETION_WORDS]) -> Result<Self, BadOutcome> {
        let outcome = match outcome {
            0 => Outcome::Done,
            1 => Outcome::Panicked,
            2 => Outcome::Truncated,
            3 => Outcome::Dropped,
            4 => Outcome::Failed,
            other => return Err(BadOutcome(other)),
        };
        Ok(Completion { conn: ConnId(conn), outcome, claimed_at_ns, done_at_ns })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// The format: a change here breaks every worker that was built before.
    #[test]
    fn the_records_are_these_words() {
        let outcomes = [
            (Outcome::Done, 0),
            (Outcome::Panicked, 1),
            (Outcome::Truncated, 2),
            (Outcome::Dropped, 3),
            (Outcome::Failed, 4),
        ];
        for (outcome, word) in outcomes {
            let completion = Completion { conn: ConnId(7), outcome, claimed_at_ns: 8, done_at_ns: 9 };
            assert_eq!(completion.to_words(), [7, 8, 9, word]);
            assert_eq!(Completion::from_words([7, 8, 9, word]), Ok(completion));
        }
        assert_eq!(Completion::from_words([7, 8, 9, 5]), Err(BadOutcome(5)));
    }
}
