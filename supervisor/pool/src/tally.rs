//! Counts what happens to a pool's workers, for whoever draws curves of it.

use ostler_shared::scoreboard::content::Tally;

use crate::event::Exit;
use crate::reason::Cause;

/// Counts a death by how it came about. Who was asked to leave for no fault of its own went as it should, however it ended; who
/// had to leave because of a fault is counted under that as well.
pub(crate) fn died(tally: &mut Tally, asked: Option<Cause>, exit: Exit) {
    match asked {
        Some(Cause::NeverReady) => tally.never_ready += 1,
        Some(Cause::Misbehaved) => tally.misbehaved += 1,
        Some(Cause::Silent) => tally.silent += 1,
        Some(Cause::Overdue) => tally.overdue += 1,
        Some(
            Cause::Replaced
            | Cause::ScaledDown
            | Cause::Paused
            | Cause::Stopping
            | Cause::PoolRemoved
            | Cause::Undone
            | Cause::Recycled { .. }
            | Cause::NotNeeded
            | Cause::Leaves
            | Cause::HungUp
            // A template has these; it is no worker.
            | Cause::NoAnswer
            | Cause::Unfit,
        )
        | None => {}
    }
    match exit {
        _ if asked.is_some_and(Cause::is_ours) => tally.died_asked += 1,
        Exit::Code(0) => tally.died_clean += 1,
        Exit::Code(_) => tally.died_failing += 1,
        Exit::Signal(_) => tally.died_by_signal += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_death_is_counted_once_by_its_end_and_once_more_by_its_fault() {
        let mut tally = Tally::default();
        died(&mut tally, None, Exit::Code(0));
        died(&mut tally, Some(Cause::Leaves), Exit::Code(3));
        died(&mut tally, Some(Cause::Silent), Exit::Signal(6));
        died(&mut tally, Some(Cause::Overdue), Exit::Signal(6));
        died(&mut tally, Some(Cause::NeverReady), Exit::Code(1));
        died(&mut tally, Some(Cause::Misbehaved), Exit::Signal(15));
        died(&mut tally, Some(Cause::Replaced), Exit::Signal(15));
        let expected = Tally {
            died_asked: 1,
            died_clean: 1,
            died_failing: 2,
            died_by_signal: 3,
            never_ready: 1,
            misbehaved: 1,
            silent: 1,
            overdue: 1,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
    }
}
