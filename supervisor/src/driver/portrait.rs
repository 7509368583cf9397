//! Records what a process is doing, as /proc shows it, without stopping it.
//!
//! It is read before ABRT, of a worker that does not move: the kernel's word for where each thread waits is what its author
//! wants to know first. Reading can block, on a machine without memory for example, so this runs on the helper thread, and
//! nobody waits for it longer than [`SITTING_MAX`]. What may not be read (a stack is root's to see) is left out.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;

/// How long ABRT waits for the record.
pub(super) const SITTING_MAX: Duration = Duration::from_millis(250);
/// Most threads that are described.
const THREADS_MAX: usize = 16;
/// Most bytes that are read of one file.
const FILE_MAX: u64 = 4096;
/// Most frames of one stack that are shown.
const FRAMES_MAX: usize = 8;

/// What a process was doing: lines for people.
pub(crate) fn of(pid: Pid) -> Vec<String> {
    of_entry(&Path::new("/proc").join(pid.to_string()))
}

fn of_entry(process: &Path) -> Vec<String> {
    let status = read(&process.join("status"));
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("unknown", str::trim).to_owned()
    };
    let mut lines =
        vec![format!("state {}, {} resident, {} threads", field("State"), field("VmRSS"), field("Threads"))];
    let threads = threads(process);
    for thread in threads.iter().take(THREADS_MAX) {
        describe(&process.join("task").join(thread.to_string()), *thread, &mut lines);
    }
    if threads.len() > THREADS_MAX {
        lines.push(format!("and {} threads more", threads.len() - THREADS_MAX));
    }
    lines
}

/// In the order of their numbers, which begins with the first thread.
fn threads(process: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let mut threads: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    threads.sort_unstable();
    threads
}

fn describe(thread: &Path, number: i32, lines: &mut Vec<String>) {
    let mut line = format!("thread {number} {}", read(&thread.join("comm")).trim_end());
    let waits_in = read(&thread.join("wchan"));
    // A thread that runs waits in "0".
    if !matches!(waits_in.trim(), "" | "0") {
        let _fits = write!(line, ", waits in {}", waits_in.trim());
    }
    let syscall = read(&thread.join("syscall"));
    match syscall.split_whitespace().next() {
        None => {}
        Some("running") => line.push_str(", runs"),
        Some("-1") => line.push_str(", in no system call"),
        Some(number) => {
            let _fits = write!(line, ", system call {number}");
        }
    }
    lines.push(line);
    let stack = read(&thread.join("stack"));
    lines.extend(stack.lines().take(FRAMES_MAX).map(|frame| format!("  {}", frame.trim())));
}

/// The beginning of a file; nothing where it can't be read.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let opened = File::open(path);
    // What was read before an error counts.
    let _ended = opened.map(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    // A thread names itself, and the log is not its to write into.
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described_with_its_threads() {
        let lines = of(Pid::this());
        assert!(lines[0].starts_with("state "), "{lines:#?}");
        assert!(lines[0].contains("kB resident"), "{lines:#?}");
        let threads: Vec<&String> = lines.iter().filter(|line| line.starts_with("thread ")).collect();
        assert!(!threads.is_empty() && threads.len() <= THREADS_MAX, "{lines:#?}");
    }

    #[test]
    fn what_a_process_may_write_is_bounded_and_can_not_break_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("status", "Name:\tx\nState:\tD (disk sleep)\nVmRSS:\t  12 kB\nThreads:\t20\n");
        for number in 1..=20 {
            write(&format!("task/{number}/comm"), "evil\x1b[2J\r\n");
            write(&format!("task/{number}/wchan"), "pipe_read");
            write(&format!("task/{number}/syscall"), "0 0x3 0x7ffe 0x1000\n");
            write(&format!("task/{number}/stack"), &"[<0>] frame\n".repeat(1000));
        }
        let lines = of_entry(dir.path());
        assert_eq!(lines[0], "state D (disk sleep), 12 kB resident, 20 threads");
        assert_eq!(lines[1], "thread 1 evil?[2J?, waits in pipe_read, system call 0");
        assert_eq!(lines.len(), 1 + THREADS_MAX * (1 + FRAMES_MAX) + 1);
        assert_eq!(lines.last().unwrap(), "and 4 threads more");
        assert!(lines.iter().all(|line| !line.contains(['\n', '\x1b', '\r'])));
    }

    #[test]
    fn one_that_is_gone_is_described_by_what_there_is() {
        assert_eq!(of_entry(Path::new("/nonexistent")), ["state unknown, unknown resident, unknown threads"]);
    }
}
