//! Finds the supervisors of this machine, to name them to whoever looked in the wrong place.
//!
//! What it reads anybody may read. Nothing is done on the strength of it: a command line can say anything.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::client::user_name;

/// Where Linux shows its processes.
pub(crate) const PROC: &str = "/proc";
/// As many are named.
const NAMED_MAX: usize = 5;
/// Longest command that is shown, in characters.
const COMMAND_MAX: usize = 60;

/// A process that was started as a supervisor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pid: u32,
    user: String,
    command: String,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} of {}: {}", self.pid, self.user, self.command)
    }
}

/// A list of them, of which each is on a line of its own; empty when there is none.
pub(crate) fn list(running: &[Running]) -> String {
    let mut lines: Vec<String> = running.iter().take(NAMED_MAX).map(|each| format!("\n  {each}")).collect();
    if let Some(more) = running.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        lines.push(format!("\n  and {more} more"));
    }
    lines.concat()
}

/// All of which this user may know.
pub(crate) fn running(proc: &Path) -> Vec<Running> {
    let Ok(entries) = std::fs::read_dir(proc) else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<Running> = pids.filter_map(|pid| supervisor(proc, pid)).collect();
    found.sort_by_key(|running| running.pid);
    found
}

/// The process of this number, if it is a supervisor.
pub(crate) fn supervisor(proc: &Path, pid: u32) -> Option<Running> {
    let dir = proc.join(pid.to_string());
    let bytes = std::fs::read(dir.join("cmdline")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut words = text.split_terminator('\0');
    let program = Path::new(words.next()?).file_name()?;
    if program != OsStr::new("ostler") || words.clone().next() != Some("run") {
        return None;
    }
    // What follows is the workers' command, which is long and tells nothing apart.
    let said: Vec<&str> = words.take_while(|word| *word != "--").collect();
    let command = format!("ostler {}", said.join(" "));
    let command = command.chars().filter(|letter| !letter.is_control()).take(COMMAND_MAX).collect();
    Some(Running { pid, user: user_name(std::fs::metadata(dir).ok()?.uid()), command })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc(processes: &[(u32, &str)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("self")).unwrap();
        for (pid, cmdline) in processes {
            let dir = proc.path().join(pid.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("cmdline"), cmdline).unwrap();
        }
        proc
    }

    #[test]
    fn supervisors_are_told_from_other_processes_of_ostler_and_of_others() {
        let proc = proc(&[
            (31, "/usr/bin/ostler\0run\0-c\0/etc/a\x1b[2J.toml\0--\0./app\0--password\0secret\0"),
            (7, "ostler\0run\0"),
            (8, "/proc/self/exe\0hello-worker\0"),
            (9, "ostler\0status\0"),
            (10, "vi\0run\0"),
            (11, ""),
        ]);
        let found = running(proc.path());
        let user = user_name(nix::unistd::geteuid().as_raw());
        let shown: Vec<String> = found.iter().map(Running::to_string).collect();
        let expected =
            [format!("pid 7 of {user}: ostler run"), format!("pid 31 of {user}: ostler run -c /etc/a[2J.toml")];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_few_are_named_and_the_others_counted() {
        let processes: Vec<(u32, &str)> = (1..=7).map(|pid| (pid, "ostler\0run\0")).collect();
        let proc = proc(&processes);
        let shown = list(&running(proc.path()));
        assert_eq!(shown.lines().count(), 1 + NAMED_MAX + 1, "{shown}");
        assert!(shown.ends_with("and 2 more"), "{shown}");
        assert_eq!(list(&[]), "");
    }
}
