//! Tells the time that this process has lived: an absence counts for no deadline.
//!
//! Who is stopped (SIGSTOP, a frozen group, a paused machine) hears nothing of what others do in time, and those who are
//! stopped with it can't do it. The kernel's clock goes on all the same. So a gap that the loop has no reason for is
//! taken out of the time that the pools see, and every deadline moves with it.

use std::time::Duration;

use ostler_pool::Moment;
use ostler_shared::sys::clock::monotonic_ns;

/// A gap that is so much longer than it should be is an absence. Shorter ones are a loop that is merely late, on a machine with
/// too much to do: if those counted, a deadline could be put off for ever.
const ABSENCE_MIN: Duration = Duration::from_millis(500);

/// The kernel's monotonic clock without our absences.
#[derive(Debug)]
pub(crate) struct Clock {
    looked_at_ns: u64,
    absent_ns: u64,
    /// The end of the last absence.
    back_at_ns: u64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { looked_at_ns: monotonic_ns(), absent_ns: 0, back_at_ns: 0 }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::from_ns(monotonic_ns() - self.absent_ns)
    }

    /// When something happened that a worker has read off the kernel's clock. It may claim any time: nothing is later than
    /// now, and nothing before the end of our last absence, in which others may have been absent as well.
    pub(crate) fn lived_at(&self, kernel_ns: u64) -> Moment {
        self.lived_by(kernel_ns, monotonic_ns())
    }

    fn lived_by(&self, kernel_ns: u64, now_ns: u64) -> Moment {
        Moment::from_ns(kernel_ns.max(self.back_at_ns).min(now_ns).saturating_sub(self.absent_ns))
    }

    /// To be called before and after everything that takes time, with the time that it may have taken (`None`: any).
    /// Answers the time, and the absence if there was one.
    pub(crate) fn account(&mut self, expected: Option<Duration>) -> (Moment, Option<Duration>) {
        let now_ns = monotonic_ns();
        let absence = self.account_at(now_ns, expected);
        (Moment::from_ns(now_ns - self.absent_ns), absence)
    }

    fn account_at(&mut self, now_ns: u64, expected: Option<Duration>) -> Option<Duration> {
        let gap_ns = now_ns - std::mem::replace(&mut self.looked_at_ns, now_ns);
        let gap = Duration::from_nanos(gap_ns);
        if gap <= expected?.saturating_add(ABSENCE_MIN) {
            return None;
        }
        // All of the gap: nobody knows when in it the absence began, and a deadline at its end must not have passed.
        self.absent_ns += gap_ns;
        self.back_at_ns = now_ns;
        Some(gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn clock() -> Clock {
        Clock { looked_at_ns: 10 * SECOND, absent_ns: 0, back_at_ns: 0 }
    }

    #[test]
    fn a_wait_that_ends_when_it_should_is_no_absence() {
        let mut clock = clock();
        assert_eq!(clock.account_at(12 * SECOND, Some(Duration::from_secs(2))), None);
        assert_eq!(clock.account_at(12 * SECOND + 499_000_000, Some(Duration::ZERO)), None);
        assert_eq!(clock.absent_ns, 0);
    }

    #[test]
    fn a_wait_without_an_end_may_take_as_long_as_it_likes() {
        let mut clock = clock();
        assert_eq!(clock.account_at(1000 * SECOND, None), None);
        assert_eq!(clock.account_at(1000 * SECOND, Some(Duration::ZERO)), None);
    }

    #[test]
    fn an_absence_is_taken_out_of_the_time() {
        let mut clock = clock();
        assert_eq!(clock.account_at(15 * SECOND, Some(Duration::from_secs(1))), Some(Duration::from_secs(5)));
        assert_eq!(clock.account_at(17 * SECOND, Some(Duration::ZERO)), Some(Duration::from_secs(2)));
        assert_eq!(clock.absent_ns, 7 * SECOND);
    }

    #[test]
    fn what_others_did_before_an_absence_happened_at_its_end() {
        let mut clock = clock();
        assert_eq!(clock.lived_by(9 * SECOND, 12 * SECOND), Moment::from_ns(9 * SECOND));
        clock.account_at(15 * SECOND, Some(Duration::from_secs(1)));
        assert_eq!(
            clock.lived_by(9 * SECOND, 17 * SECOND),
            Moment::from_ns(10 * SECOND),
            "it can't be blamed for that"
        );
        assert_eq!(clock.lived_by(16 * SECOND, 17 * SECOND), Moment::from_ns(11 * SECOND));
        assert_eq!(clock.lived_by(u64::MAX, 17 * SECOND), Moment::from_ns(12 * SECOND), "nobody knows the future");
    }
}
