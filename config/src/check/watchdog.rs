//! Checks `watchdog = { … }`.

use std::time::Duration;

use crate::checked::{Handoff, Watchdog};
use crate::combine;
use crate::duration::format_duration;
use crate::limits::{SLOW_MIN, WATCHDOG_MIN};
use crate::mistakes::{Fault, Mistake};
use crate::raw::RawTable;

/// What watches the workers of a pool that says nothing about it.
pub(super) fn default_watchdog() -> Watchdog {
    Watchdog { heartbeat: HEARTBEAT, request: Duration::ZERO, slow: Duration::ZERO }
}

pub(super) fn watchdog(table: &RawTable<'_>, handoff: Handoff, mistakes: &mut Vec<Mistake>) -> Watchdog {
    let heartbeat = table.duration("heartbeat", Duration::ZERO, mistakes).understand(mistakes, off_or_patient);
    let request = table.duration("request", Duration::ZERO, mistakes).understand(mistakes, off_or_patient);
    let slow = table.duration("slow", Duration::ZERO, mistakes).understand(mistakes, off_or_seldom);
    if let (Some(typed), Some(request)) = (slow.typed(), request.in_force(Duration::ZERO))
        && let Some(fault) = combine::slow_before_overdue(typed.value, request)
    {
        mistakes.push(typed.refuse(fault));
    }
    for asked in [&request, &slow] {
        if let Some(typed) = asked.typed().filter(|typed| !typed.value.is_zero()) {
            mistakes.extend(combine::requests_are_seen(handoff).map(|fault| typed.refuse(fault)));
        }
    }
    Watchdog {
        heartbeat: heartbeat.value().unwrap_or(HEARTBEAT),
        request: request.value().unwrap_or_default(),
        slow: slow.value().unwrap_or_default(),
    }
}

/// Zero, or long enough that a machine with too much to do is not taken for a worker that stands still.
fn off_or_patient(asked: Duration) -> Result<Duration, Fault> {
    off_or(asked, WATCHDOG_MIN)
}

/// Zero, or long enough that looking so often costs nothing to speak of.
fn off_or_seldom(asked: Duration) -> Result<Duration, Fault> {
    off_or(asked, SLOW_MIN)
}

fn off_or(asked: Duration, least: Duration) -> Result<Duration, Fault> {
    if asked.is_zero() || asked >= least {
        return Ok(asked);
    }
    let (asked, least) = (format_duration(asked), format_duration(least));
    let message = format!("{asked} is too short, the least is {least}");
    Err(Fault::new(message, "too short", format!("write at least \"{least}\", or \"0s\" to watch nothing")))
}

const HEARTBEAT: Duration = Duration::from_secs(30);
