//! Knows when the service manager has to hear that the loop is alive (sd_watchdog_enabled(3)).
//!
//! Nobody but the loop asks, once per turn, so that a loop that does not turn is not alive. The times are the kernel's and
//! not those of `clock.rs`: the manager does not leave our absences out.

use std::time::Duration;

use ostler_shared::sys::clock::monotonic_ns;

/// However short the manager's patience is, the loop has other things to do.
const EVERY_MIN: Duration = Duration::from_millis(1);

/// A clock for signs of life.
#[derive(Debug)]
pub(crate) struct Watchdog {
    every: Duration,
    due_ns: u64,
}

/// Whether a sign of life is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    In(Duration),
}

impl Watchdog {
    /// What `WATCHDOG_USEC` and `WATCHDOG_PID` ask for, if anything.
    pub(crate) fn asked_for() -> Option<Watchdog> {
        let text = |name| std::env::var(name).ok();
        let every = interval(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref(), std::process::id())?;
        Some(Watchdog { every, due_ns: monotonic_ns() })
    }

    pub(crate) fn due(&self) -> Due {
        match self.due_ns.saturating_sub(monotonic_ns()) {
            0 => Due::Now,
            left_ns => Due::In(Duration::from_nanos(left_ns)),
        }
    }

    /// The sign was given.
    pub(crate) fn rest(&mut self) {
        self.due_ns = monotonic_ns() + u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX / 2);
    }
}

/// Half of the manager's patience, as it recommends.
fn interval(usec: Option<&str>, pid: Option<&str>, own_pid: u32) -> Option<Duration> {
    let patience = usec?.parse().ok().filter(|usec| *usec > 0).map(Duration::from_micros)?;
    // Meant for a parent of ours, if it is not our number.
    let ours = pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
    ours.then(|| (patience / 2).max(EVERY_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_due_at_half_of_what_was_asked_of_this_process() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval(Some("2000000"), Some("7"), 7), second);
        assert_eq!(interval(Some("2000000"), None, 7), second);
        assert_eq!(interval(Some("2000000"), Some("8"), 7), None);
        assert_eq!(interval(Some("1"), None, 7), Some(EVERY_MIN));
        for none in [None, Some("0"), Some(""), Some("-1"), Some("soon")] {
            assert_eq!(interval(none, None, 7), None);
        }
    }

    #[test]
    fn after_a_sign_none_is_due_for_a_while() {
        let mut watchdog = Watchdog { every: Duration::from_secs(3600), due_ns: 0 };
        assert_eq!(watchdog.due(), Due::Now);
        watchdog.rest();
        assert!(matches!(watchdog.due(), Due::In(left) if left <= Duration::from_secs(3600)));
    }
}
