//! Looks at processes through /proc.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::deadline::try_for;

/// The environment variable by which a test knows its processes again. Not `OSTLER_…`: those are ostler's own, and
/// workers don't inherit them.
pub const MARK: &str = "TEST_MARK_OF_OSTLER";

/// What /proc/PID/stat says, as far as tests ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z` …
    pub state: char,
    /// The parent.
    pub parent: i32,
    /// The process group.
    pub group: i32,
}

/// Reads a process's entry; `None` when there is none.
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, a parenthesis too.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

/// Whether a process still runs; a zombie does not.
#[must_use]
pub fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// How many descriptors a process has open.
///
/// # Panics
/// When it is gone, or is not ours to look at.
#[must_use]
pub fn descriptor_count(pid: i32) -> usize {
    descriptors(pid).len()
}

/// What a process has open, for a message.
///
/// # Panics
/// When it is gone, or is not ours to look at.
#[must_use]
pub fn descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap_or_else(|error| panic!("pid {pid}: {error}"));
    let mut open: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some(format!("{} -> {}", entry.file_name().to_string_lossy(), target.display()))
        })
        .collect();
    open.sort();
    open
}

/// How many pieces of memory a process shares with others by memfds.
///
/// # Panics
/// When it is gone, or is not ours to look at.
#[must_use]
pub fn shared_mappings(pid: i32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_else(|error| panic!("pid {pid}: {error}"));
    maps.lines().filter(|line| line.contains("/memfd:")).count()
}

/// Resident memory of a process in bytes.
#[must_use]
pub fn resident_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// CPU time that a process has used, all threads together, the ended ones included.
#[must_use]
pub fn cpu_time(pid: i32) -> Option<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    clock_gettime(clock).ok().map(Duration::from)
}

/// The same of several processes together, those left out that are gone.
#[must_use]
pub fn cpu_time_of(pids: &[i32]) -> Duration {
    pids.iter().filter_map(|pid| cpu_time(*pid)).sum()
}

/// The name of a process, which is that of its first thread.
#[must_use]
pub fn name(pid: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// A field of /proc/PID/status, as it stands there.
///
/// # Panics
/// When there is no such process or field.
#[must_use]
pub fn status_field(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_else(|error| panic!("pid {pid}: {error}"));
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in\n{text}")).trim().to_owned()
}

/// Whether a signal is pending for a process.
///
/// # Panics
/// When there is no such process.
#[must_use]
pub fn is_pending(pid: i32, signal: Signal) -> bool {
    let pending = u64::from_str_radix(&status_field(pid, "ShdPnd"), 16).expect("a mask in hexadecimal");
    pending >> (signal as u32 - 1) & 1 == 1
}

/// The soft and the hard limit of this name in /proc/PID/limits.
///
/// # Panics
/// When there is no such process or limit.
#[must_use]
pub fn limit(pid: i32, name: &str) -> [String; 2] {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_else(|error| panic!("pid {pid}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let mut values = line.unwrap_or_else(|| panic!("no {name} in\n{text}")).split_whitespace().map(str::to_owned);
    [(); 2].map(|()| values.next().expect("a soft and a hard limit"))
}

/// The niceness of a process.
#[must_use]
pub fn niceness(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
}

/// The environment that a process was started with.
///
/// # Panics
/// When it is gone, or is not ours to look at.
#[must_use]
pub fn environment(pid: i32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_else(|error| panic!("pid {pid}: {error}"));
    let text = String::from_utf8_lossy(&bytes);
    text.split('\0').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
}

/// All running processes whose environment has this mark.
#[must_use]
pub fn marked(mark: &str) -> Vec<i32> {
    let wanted = format!("{MARK}={mark}").into_bytes();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|pair| pair == wanted))
        })
        .filter(|pid| alive(*pid))
        .collect()
}

/// Waits until no process has this mark, and answers with those that are left at the end.
#[must_use]
pub fn marked_after(mark: &str, limit: Duration) -> Vec<i32> {
    match try_for(limit, || marked(mark).is_empty().then_some(())) {
        Some(()) => Vec::new(),
        None => marked(mark),
    }
}

/// Kills processes of this mark with their groups, until none is left.
pub fn kill_marked(mark: &str) {
    let own_group = nix::unistd::getpgrp().as_raw();
    let _ = try_for(Duration::from_secs(5), || {
        let left = marked(mark);
        for pid in &left {
            if let Some(stat) = stat(*pid).filter(|stat| stat.group != own_group) {
                let _ = killpg(Pid::from_raw(stat.group), Signal::SIGKILL);
            }
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        left.is_empty().then_some(())
    });
}

/// A line about a process, for a message.
#[must_use]
pub fn describe(pid: i32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let shown = String::from_utf8_lossy(&command).replace('\0', " ");
    format!("{pid} ({shown}) {:?}", stat(pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_marked_process_is_found_and_killed() {
        let mark = format!("procs-{}", std::process::id());
        let mut child = Command::new("sleep").arg("600").env(MARK, &mark).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        crate::deadline::wait_until(crate::deadline::SOON, "the mark shows", || marked(&mark) == [pid]);
        assert!(alive(pid));
        kill_marked(&mark);
        assert!(marked(&mark).is_empty());
        child.wait().unwrap();
        assert!(!alive(pid));
    }

    #[test]
    fn this_process_has_an_entry() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(stat(own).is_some());
        assert!(descriptor_count(own) > 2);
        assert!(resident_bytes(own).unwrap() > 4096);
        assert!(cpu_time(own).unwrap() > Duration::ZERO);
    }
}
