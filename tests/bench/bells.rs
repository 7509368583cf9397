//! Counts from outside how often workers rang for a supervisor.
//!
//! The supervisor never reads the counters of its doorbells, and each ring adds one: what /proc/PID/fdinfo shows of an
//! eventfd is how often it was rung since its worker began (proc(5)). Only the helper thread's own bell is read, and is
//! rung by reloads alone.

use std::fs;

/// Rings so far, over the workers that live.
///
/// # Panics
/// When the process is gone, or is not ours to look at.
pub(crate) fn rung(pid: i32) -> u64 {
    let dir = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir}: {error}"));
    entries.flatten().filter_map(|entry| count_of(&fs::read_to_string(entry.path()).ok()?)).sum()
}

/// The counter, where the descriptor is an eventfd: in hexadecimal.
fn count_of(fdinfo: &str) -> Option<u64> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix("eventfd-count:"))?;
    Some(u64::from_str_radix(value.trim(), 16).expect("the kernel writes hexadecimal"))
}
