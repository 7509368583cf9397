//! Looks whether a supervisor is there, without asking it: by its process.

use ostler_shared::scoreboard::content::Supervisor;

/// What the kernel says of a supervisor's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It runs, or could.
    Running,
    /// It was stopped (SIGSTOP).
    Stopped,
    /// A debugger holds it, for good or, as strace does at each call, for a moment.
    Traced,
    /// It has ended.
    Ended,
    /// There is no telling from here: no such process, which may be one of another PID namespace, or a mere number.
    Unknown,
}

/// How the process is that published this.
pub(crate) fn of(supervisor: &Supervisor) -> Presence {
    match stat(supervisor.pid) {
        Some((state, start)) if Some(start) == supervisor.process_start => match state {
            'T' => Presence::Stopped,
            't' => Presence::Traced,
            'Z' | 'X' | 'x' => Presence::Ended,
            _ => Presence::Running,
        },
        // Somebody else's number by now, or of another namespace.
        Some(_) | None => Presence::Unknown,
    }
}

/// Whether a process of this PID namespace is stopped.
pub(crate) fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == 'T')
}

/// When a process started, in clock ticks since the boot.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    stat(pid).map(|(_, start)| start)
}

/// State and start of a process: fields 3 and 22 of proc_pid_stat(5). The second is a name that may contain anything.
fn stat(pid: u32) -> Option<(char, u64)> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_start_are_found_behind_any_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        for name in ["ostler", "a) T 1 (b", "x y"] {
            assert_eq!(parse(&format!("77 ({name}) {rest}")), Some(('S', 4711)), "{name}");
        }
        assert_eq!(parse("77 (ostler) S 1 2"), None);
    }

    #[test]
    fn this_process_is_there_and_started_some_time() {
        assert!(process_start(std::process::id()).is_some_and(|start| start > 0));
        assert_eq!(process_start(u32::MAX), None);
    }
}
