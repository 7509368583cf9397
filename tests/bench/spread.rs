//! Sums rounds up: a median with its range, and ratios that are paired per round.

use std::fmt;

/// A median with its range.
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of no values, everything is NaN, and is shown so.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Spread { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }

    /// Of the ratios of the values of the same round. What two sides share in a round, such as a busy machine, cancels.
    pub(crate) fn paired(ours: &[f64], reference: &[f64]) -> Spread {
        Spread::of(ours.iter().zip(reference).map(|(ours, reference)| ours / reference))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let text = format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.least, self.most);
        // Not `pad`, which takes the precision for a length.
        write!(f, "{text:>width$}", width = f.width().unwrap_or(0))
    }
}
