//! Remembers durations of the last minute, to tell their quantiles.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Moment;
use crate::snapshot::Quantile;

/// The window is this many parts …
const PARTS: usize = 6;
/// … of this length; the oldest part is forgotten as a whole.
const PART: Duration = Duration::from_secs(10);
/// Longest duration told apart, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// Durations of the last 50 to 60 seconds.
#[derive(Debug)]
pub(crate) struct Quantiles {
    parts: [Histogram<u32>; PARTS],
    /// The part that is being written, counted from the clock's zero.
    current: u64,
}

impl Quantiles {
    pub(crate) fn new() -> Quantiles {
        let empty = || Histogram::new_with_bounds(1, LONGEST_US, 2).expect("these bounds are legal");
        Quantiles { parts: std::array::from_fn(|_| empty()), current: 0 }
    }

    pub(crate) fn record(&mut self, now: Moment, length: Duration) {
        self.forget_before(now);
        let us = u64::try_from(length.as_micros()).unwrap_or(LONGEST_US);
        self.parts[self.current as usize % PARTS].saturating_record(us.max(1));
    }

    /// The median and the 99th percentile; `None` when nothing was recorded in the window.
    pub(crate) fn tell(&mut self, now: Moment) -> Option<Quantile> {
        self.forget_before(now);
        let mut all = self.parts[0].clone();
        for part in &self.parts[1..] {
            all.add(part).expect("all parts have the same bounds");
        }
        let at = |quantile| Duration::from_micros(all.value_at_quantile(quantile));
        (!all.is_empty()).then(|| Quantile { p50: at(0.5), p99: at(0.99) })
    }

    fn forget_before(&mut self, now: Moment) {
        let part = now.as_ns() / u64::try_from(PART.as_nanos()).expect("ten seconds fit");
        let steps = part.saturating_sub(self.current).min(PARTS as u64);
        for step in 0..steps {
            self.parts[(part - step) as usize % PARTS].reset();
        }
        self.current = self.current.max(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let at = |seconds: u64| Moment::from_ns(seconds * 1_000_000_000);
        let mut quantiles = Quantiles::new();
        assert_eq!(quantiles.tell(at(100)), None);
        quantiles.record(at(100), Duration::from_millis(8));
        let told = quantiles.tell(at(149)).unwrap();
        assert!((7.9..8.2).contains(&(told.p50.as_secs_f64() * 1e3)), "{told:?}");
        assert_eq!(quantiles.tell(at(161)), None);
        quantiles.record(at(1000), Duration::from_millis(1));
        assert!(quantiles.tell(at(1000)).is_some(), "after a gap longer than the window");
    }
}
