//! Draws when requests arrive and of which kind they are: a Poisson process, the same for the same seed.

use std::time::Duration;

/// What a request asks of its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// [`SPIN`] of CPU time.
    Fast,
    /// [`SLEEP`] without any.
    Slow,
}

/// What a fast request costs.
pub(crate) const SPIN: Duration = Duration::from_micros(100);
/// How long a slow one takes.
pub(crate) const SLEEP: Duration = Duration::from_millis(20);

/// A request to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// After the beginning.
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
}

/// Arrivals without end.
pub(crate) struct Arrivals {
    state: u64,
    mean_s: f64,
    slow_share: f64,
    at_s: f64,
}

impl Arrivals {
    /// So many a second on average, of which this share is slow.
    pub(crate) fn new(seed: u64, per_s: f64, slow_share: f64) -> Arrivals {
        Arrivals { state: seed, mean_s: 1.0 / per_s, slow_share, at_s: 0.0 }
    }

    /// Evenly between 0 and 1, both excluded: the finalizer of splitmix64 over a Weyl sequence.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exactly what an f64 holds")]
    fn chance(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((mixed ^ (mixed >> 31)) >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        // Gaps of a Poisson process are exponential.
        self.at_s += -self.chance().ln() * self.mean_s;
        let kind = if self.chance() < self.slow_share { Kind::Slow } else { Kind::Fast };
        Some(Arrival { at: Duration::from_secs_f64(self.at_s), kind })
    }
}
