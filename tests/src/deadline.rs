//! Waits for facts under a deadline.
//!
//! The one place in the harness that pauses between two looks; suites never sleep.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Enough for anything that ostler does at once, on a machine with other work to do.
pub const SOON: Duration = Duration::from_secs(20);
/// What is added to a deadline of ostler's own before a test calls it broken.
pub const SLACK: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(3);

/// Waits until `fact` holds.
///
/// # Panics
/// When it does not within `limit`; `what` says what was waited for.
pub fn wait_until(limit: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    wait_for(limit, what, || fact().then_some(()));
}

/// Waits until `fact` has a value.
///
/// # Panics
/// When it has none within `limit`; `what` says what was waited for.
pub fn wait_for<T>(limit: Duration, what: &str, fact: impl FnMut() -> Option<T>) -> T {
    try_for(limit, fact).unwrap_or_else(|| panic!("waited {limit:?} in vain: {what}"))
}

/// Waits until `fact` has a value, and answers `None` when it has none within `limit`.
pub fn try_for<T>(limit: Duration, mut fact: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = fact() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        pause();
    }
}

/// Calls `act` every `period` until `length` has passed, beginning after the first period.
///
/// Not a wait for anything: it is how a test paces what it does to ostler.
pub fn every(period: Duration, length: Duration, mut act: impl FnMut()) {
    let start = Instant::now();
    let mut next = start + period;
    while next <= start + length {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        act();
        next += period;
    }
}

/// A moment's rest between two looks at the same thing.
pub fn pause() {
    thread::sleep(PAUSE);
}

/// Keeps other tests of the same suite from running meanwhile; for tests that load the machine.
///
/// Cargo runs the suites one after another, so a test that holds this has the machine to itself when all tests
/// of its suite ask for it.
#[must_use = "the machine is yours until this is dropped"]
pub fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the long variants were asked for (`tests/run --long`).
#[must_use]
pub fn long_run() -> bool {
    std::env::var_os("OSTLER_LONG").is_some_and(|value| value == "1")
}
