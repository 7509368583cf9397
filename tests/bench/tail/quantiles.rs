//! Answers which time so many of all requests stayed below.

/// Times in ascending order, in nanoseconds.
pub(crate) struct Times(Vec<u64>);

impl Times {
    pub(crate) fn of(times: impl IntoIterator<Item = u64>) -> Times {
        let mut times: Vec<u64> = times.into_iter().collect();
        times.sort_unstable();
        Times(times)
    }

    /// In microseconds, exactly one of the times; NaN when there are none. With fewer than `1 / (1 - quantile)` times it is
    /// the longest.
    #[expect(clippy::cast_precision_loss, reason = "counts and times are far below 2^52")]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the count")]
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).map_or(f64::NAN, |ns| *ns as f64 / 1e3)
    }

    /// The longest, in microseconds.
    pub(crate) fn longest_us(&self) -> f64 {
        self.quantile_us(1.0)
    }
}
