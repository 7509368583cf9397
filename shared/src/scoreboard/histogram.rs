//! Counts durations in buckets with fixed bounds, for ever: what a metrics system takes differences of.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets, in microseconds, each included; a last bucket has no bound. They are part of the
/// scoreboard's version: whoever adds counts of two supervisors relies on them.
pub const BOUNDS_US: [u64; BOUNDS] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How many bounds there are.
pub const BOUNDS: usize = 18;

/// How many durations fell into each bucket since the supervisor started, and their sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// By bucket, not cumulative over buckets; the last one is what is beyond all bounds.
    pub counts: [u64; BOUNDS + 1],
    /// The sum of all durations, in microseconds; it stops at its end instead of beginning anew.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, length: Duration) {
        // Without 128 bits: this is done for every connection.
        let whole = length.as_secs().saturating_mul(1_000_000);
        let us = whole.saturating_add(u64::from(length.subsec_micros()));
        // Rounded up, so that nothing is in a bucket whose bound it exceeds.
        let up = whole.saturating_add(u64::from(length.subsec_nanos().div_ceil(1000)));
        self.counts[BOUNDS_US.partition_point(|bound| *bound < up)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many were no longer than each bound, which is what Prometheus calls `le`; the last one is all of them.
    #[must_use]
    pub fn cumulative(&self) -> [u64; BOUNDS + 1] {
        let mut sum = 0;
        self.counts.map(|count| {
            sum += count;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend() {
        assert!(BOUNDS_US.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for (ns, bucket) in
            [(0, 0), (100_000, 0), (100_001, 1), (250_000, 1), (60_000_000_000, 17), (60_000_000_001, 18)]
        {
            let mut histogram = Histogram::default();
            histogram.record(Duration::from_nanos(ns));
            assert_eq!(histogram.counts[bucket], 1, "{ns} ns: {histogram:?}");
            assert_eq!((histogram.count(), histogram.sum_us), (1, ns / 1000));
        }
    }

    #[test]
    fn cumulative_counts_end_with_all() {
        let mut histogram = Histogram::default();
        for ms in [1, 1, 40, 100_000] {
            histogram.record(Duration::from_millis(ms));
        }
        let cumulative = histogram.cumulative();
        assert_eq!((cumulative[3], cumulative[8], cumulative[BOUNDS]), (2, 3, 4));
    }

    #[test]
    fn a_sum_at_its_end_stays_there() {
        let mut histogram = Histogram { sum_us: u64::MAX - 1, ..Histogram::default() };
        histogram.record(Duration::MAX);
        assert_eq!(histogram.sum_us, u64::MAX);
    }
}
