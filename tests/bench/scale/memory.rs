//! Reads how much memory a worker has for itself alone.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use ostler_tests::{deadline, place, procs};

/// How many workers are looked at: reading smaps of a thousand takes longer than starting them.
pub(crate) const SAMPLE: usize = 16;

/// Bytes that a process has written and shares with nobody; the median of some of these processes.
///
/// # Panics
/// When none of them can be looked at.
pub(crate) fn private_dirty(pids: &[i32]) -> u64 {
    let step = pids.len().div_ceil(SAMPLE).max(1);
    let mut bytes: Vec<u64> = pids.iter().step_by(step).filter_map(|pid| private_dirty_of(*pid)).collect();
    bytes.sort_unstable();
    *bytes.get(bytes.len() / 2).expect("a worker's memory can be read")
}

fn private_dirty_of(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let value = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:"))?;
    value.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The same of the benchmark's worker without ostler, with one thread that accepts.
///
/// # Panics
/// When it can't be started.
pub(crate) fn of_a_bare_worker() -> u64 {
    let listener: OwnedFd = TcpListener::bind("127.0.0.1:0").expect("a free port").into();
    let mut command = Command::new(place::program("bench_worker"));
    let mut child = command.args(["bare-tcp", "1", "0"]).stdin(Stdio::from(listener)).spawn().expect("it starts");
    let pid = i32::try_from(child.id()).expect("a pid fits in an i32");
    // Two threads, both asleep: it is as far as it gets.
    deadline::wait_until(deadline::SOON, "a worker that accepts", || has_settled(pid));
    let bytes = private_dirty_of(pid).expect("our own child");
    child.kill().expect("our own child");
    child.wait().expect("our own child");
    bytes
}

fn has_settled(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let used = procs::cpu_time(pid);
    threads == 2 && procs::stat(pid).is_some_and(|stat| stat.state == 'S') && used > Some(Duration::ZERO)
}
