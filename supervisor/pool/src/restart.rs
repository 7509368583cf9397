//! Decides when a slot that lost its worker gets the next one, and when a pool is given up.
//!
//! Only a death before READY, or within `start.settle` of it without one served connection, is a failure. Any other
//! death says nothing about the next start.

use std::collections::VecDeque;
use std::time::Duration;

use ostler_config::checked::Start;

use crate::Moment;

/// A slot's memory of failures in a row.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    failures_in_row: u32,
}

impl BackOff {
    pub(crate) fn forgive(&mut self) {
        self.failures_in_row = 0;
    }

    pub(crate) fn has_failures(&self) -> bool {
        self.failures_in_row > 0
    }

    /// How long to wait after one more failure: doubling, with the upper half of the wait left to chance so that
    /// slots which failed together don't come back together.
    pub(crate) fn wait(&mut self, start: &Start, rng: &mut fastrand::Rng) -> Duration {
        let doubled = start.backoff_min.saturating_mul(1u32 << self.failures_in_row.min(31));
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        let full = doubled.min(start.backoff_max);
        full.mul_f64(0.5 + 0.5 * rng.f64())
    }
}

/// Whether a pool may go on trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    Spent,
}

/// A pool's memory of failures in any slot.
#[derive(Debug, Default)]
pub(crate) struct Intensity {
    recent: VecDeque<Moment>,
}

impl Intensity {
    pub(crate) fn forgive(&mut self) {
        self.recent.clear();
    }

    /// Notes a failure; `Spent` when it was the last one allowed within `start.period`.
    pub(crate) fn note(&mut self, now: Moment, start: &Start) -> Verdict {
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|first| now.since(*first) > start.period) {
            self.recent.pop_front();
        }
        if self.recent.len() >= start.failures as usize { Verdict::Spent } else { Verdict::Holds }
    }
}

#[cfg(test)]
mod tests {
    use ostler_config::checked::Ready;

    use super::*;

    fn start() -> Start {
        Start {
            ready: Ready::Auto,
            ready_timeout: Duration::from_secs(30),
            settle: Duration::from_secs(1),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
            failures: 3,
            period: Duration::from_secs(60),
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_maximum_and_is_forgiven() {
        let (start, mut rng, mut slot) = (start(), fastrand::Rng::with_seed(1), BackOff::default());
        for full in [100, 200, 400, 800, 1600, 3000, 3000] {
            let wait = slot.wait(&start, &mut rng);
            let full = Duration::from_millis(full);
            assert!(full / 2 <= wait && wait <= full, "{wait:?} of {full:?}");
        }
        slot.forgive();
        assert!(slot.wait(&start, &mut rng) <= start.backoff_min);
    }

    #[test]
    fn slots_that_failed_together_come_back_apart() {
        let (start, mut rng) = (start(), fastrand::Rng::with_seed(7));
        let waits: std::collections::BTreeSet<Duration> =
            (0..16).map(|_| BackOff::default().wait(&start, &mut rng)).collect();
        assert!(waits.len() > 12, "{waits:?}");
    }

    #[test]
    fn the_intensity_counts_only_the_last_period() {
        let (start, mut pool) = (start(), Intensity::default());
        let at = |seconds: u64| Moment::from_ns(seconds * 1_000_000_000);
        assert_eq!(pool.note(at(0), &start), Verdict::Holds);
        assert_eq!(pool.note(at(50), &start), Verdict::Holds);
        assert_eq!(pool.note(at(70), &start), Verdict::Holds, "the first one is forgotten");
        assert_eq!(pool.note(at(71), &start), Verdict::Spent);
        pool.forgive();
        assert_eq!(pool.note(at(72), &start), Verdict::Holds);
    }
}
