//! Checks `workers`: a number, or a range with its rules.

use std::time::Duration;

use super::pool::LEAST;
use crate::asked::Asked;
use crate::checked::{Range, Workers};
use crate::combine;
use crate::limits::{SCALE_IDLE_MIN, WORKERS_DEFAULT_MIN, WORKERS_MAX};
use crate::mistakes::Mistake;
use crate::raw::{RawTable, Shape};

/// How many workers the pool of `table` has; what its clients' patience in the line is matters to a range.
pub(super) fn workers(table: &RawTable<'_>, patience: Duration, mistakes: &mut Vec<Mistake>) -> Workers {
    match table.shape("workers") {
        Shape::Table => Workers::Between(range(table, patience, mistakes)),
        Shape::Absent | Shape::Value => {
            let fixed = table.whole("workers", 1..=WORKERS_MAX, mistakes).value();
            fixed.map_or_else(default_workers, Workers::Fixed)
        }
    }
}

/// The usable CPUs.
pub(super) fn default_workers() -> Workers {
    let usable = std::thread::available_parallelism().map_or(1, |count| count.get());
    Workers::Fixed(u32::try_from(usable).unwrap_or(WORKERS_MAX).clamp(WORKERS_DEFAULT_MIN, WORKERS_MAX))
}

fn range(pool: &RawTable<'_>, patience: Duration, mistakes: &mut Vec<Mistake>) -> Range {
    let table = pool.table("workers", mistakes);
    let min = table.whole("min", 0..=WORKERS_MAX, mistakes);
    let max = table.whole("max", 1..=WORKERS_MAX, mistakes);
    let idle = table.duration("idle", SCALE_IDLE_MIN, mistakes).value().unwrap_or(IDLE);
    let target_delay = table.duration("target_delay", LEAST, mistakes);
    if matches!(max, Asked::Nothing) {
        table.lacks("max", mistakes);
    }
    let upside_down = match (min.in_force(MIN), max.typed()) {
        (Some(min), Some(max)) => combine::range_order(min, max.value).map(|fault| max.refuse(fault)),
        (_, _) => None,
    };
    mistakes.extend(upside_down);
    // If nobody typed the one, somebody typed the other: the defaults fit each other.
    let blunt = target_delay.in_force(TARGET_DELAY).and_then(|asked| combine::scaled_in_time(asked, patience));
    mistakes.extend(blunt.and_then(|fault| match target_delay.typed() {
        Some(typed) => Some(typed.refuse(fault)),
        None => pool.refuse("workers", fault),
    }));
    Range {
        min: min.value().unwrap_or(MIN),
        max: max.value().unwrap_or(WORKERS_MAX),
        idle,
        target_delay: target_delay.value().unwrap_or(TARGET_DELAY),
    }
}

const MIN: u32 = 1;
const IDLE: Duration = Duration::from_secs(30);
const TARGET_DELAY: Duration = Duration::from_millis(5);
