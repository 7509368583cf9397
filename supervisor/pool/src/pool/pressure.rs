//! Tells workers how full the line is, so that a program can do less for each of many.
//!
//! In steps of [`PRESSURE_STEP`], and with a catch: it rises at once and falls when the line is a whole step shorter than
//! the step that was told, or empty. So a line that hovers between two steps is told once, not with every connection.

use super::Pool;
use crate::PRESSURE_STEP;
use crate::action::Action;
use crate::turn::Turn;

/// An empty line; a full one has a thousand.
pub(super) const CALM: u16 = 0;

impl Pool {
    /// Tells the pressure when it has changed enough.
    pub(super) fn tell_pressure(&mut self, turn: &mut Turn<'_>) {
        let now = pressure(self.line.len(), self.config().queue.limit);
        let told = self.pressure;
        let falls = now < told && (now + PRESSURE_STEP < told || self.line.is_empty());
        if now > told || falls {
            self.pressure = now;
            turn.act(Action::TellPressure { pool: self.no, thousandths: now });
        }
    }
}

/// Thousandths of the limit, rounded down to a step. What came back from workers may make a line longer than its limit.
fn pressure(waiting: usize, limit: u32) -> u16 {
    let full = u64::from(limit);
    let filled = (waiting as u64).min(full) * 1000 / full;
    let thousandths = u16::try_from(filled).expect("at most a thousand");
    thousandths - thousandths % PRESSURE_STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_is_calm_and_a_full_one_has_a_thousand_whatever_its_limit() {
        for limit in [1, 2, 3, 7, 4096, 1_048_576] {
            assert_eq!((pressure(0, limit), pressure(limit as usize, limit)), (CALM, 1000));
            assert_eq!(pressure(limit as usize + 9, limit), 1000, "what came back is too much for the limit");
        }
        assert_eq!((pressure(49, 1000), pressure(50, 1000), pressure(999, 1000)), (0, 50, 950));
    }
}
