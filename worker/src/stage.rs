//! Keeps where a worker stands between serving and gone.
//!
//! ```text
//! Serving ──told to drain──► Draining ──TERM──► Leaving
//!    │                          │                  │
//!    └── TERM ► Leaving, no descriptor ► Starved ──┴── supervisor gone ► Orphaned (from anywhere)
//! ```
//! Stages only advance, so a reader that sees an old one is late by a moment and never wrong for long.

use std::sync::atomic::{AtomicU8, Ordering};

/// How a worker treats its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Claim.
    Serving,
    /// Claim to the mailbox's end: the supervisor sends nothing more.
    Draining,
    /// Claim nothing more; the supervisor takes back what waits.
    Leaving,
    /// As Leaving, because this process has no descriptor left to receive with.
    Starved,
    /// Claim to the mailbox's end: nobody is there to take anything back.
    Orphaned,
}

/// The current [`Stage`], shared by all threads.
#[derive(Debug)]
pub(crate) struct StageCell {
    stage: AtomicU8,
    /// Wakes the tasks that wait for a worker to leave.
    #[cfg(feature = "tokio")]
    advanced: ::tokio::sync::Notify,
}

/// Whether a step changed the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It did: the caller carries out what follows.
    Taken,
    /// It had been taken before, or the worker is already further.
    Late,
}

impl StageCell {
    pub(crate) fn new() -> StageCell {
        StageCell {
            stage: AtomicU8::new(Stage::Serving as u8),
            #[cfg(feature = "tokio")]
            advanced: ::tokio::sync::Notify::new(),
        }
    }

    pub(crate) fn get(&self) -> Stage {
        stage_of(self.stage.load(Ordering::SeqCst))
    }

    /// Advances to `to`, unless the worker is already there or beyond.
    pub(crate) fn advance(&self, to: Stage) -> Step {
        let before = self.stage.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |at| {
            let allowed = match to {
                Stage::Serving => false,
                Stage::Draining => stage_of(at) == Stage::Serving,
                Stage::Leaving | Stage::Starved => matches!(stage_of(at), Stage::Serving | Stage::Draining),
                Stage::Orphaned => stage_of(at) != Stage::Orphaned,
            };
            allowed.then_some(to as u8)
        });
        if before.is_err() {
            return Step::Late;
        }
        #[cfg(feature = "tokio")]
        self.advanced.notify_waiters();
        Step::Taken
    }

    /// Waits until the worker does not just serve any more. Any number of tasks may wait.
    #[cfg(feature = "tokio")]
    pub(crate) async fn left_serving(&self) {
        let mut advanced = std::pin::pin!(self.advanced.notified());
        // In line first, then the look: an advance in between would wake nobody else.
        advanced.as_mut().enable();
        if self.get() == Stage::Serving {
            advanced.await;
        }
    }
}

fn stage_of(number: u8) -> Stage {
    [Stage::Serving, Stage::Draining, Stage::Leaving, Stage::Starved, Stage::Orphaned][usize::from(number)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_stage_that_was_stored() {
        for stage in [Stage::Serving, Stage::Draining, Stage::Leaving, Stage::Starved, Stage::Orphaned] {
            assert_eq!(stage_of(stage as u8), stage);
        }
    }

    #[test]
    fn term_is_taken_once_and_not_after_the_supervisor_is_gone() {
        let stage = StageCell::new();
        assert_eq!(stage.advance(Stage::Draining), Step::Taken);
        assert_eq!(stage.advance(Stage::Leaving), Step::Taken);
        assert_eq!(stage.advance(Stage::Leaving), Step::Late);
        assert_eq!(stage.advance(Stage::Draining), Step::Late);
        assert_eq!(stage.advance(Stage::Orphaned), Step::Taken);
        assert_eq!(stage.advance(Stage::Leaving), Step::Late, "nobody would take back what waits");
        assert_eq!(stage.get(), Stage::Orphaned);
    }
}
