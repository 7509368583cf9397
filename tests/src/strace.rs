//! Makes system calls of a running process fail, by strace(1), without a change to the program.
//!
//! A failed call is not executed at all: what the process sees is the error alone, as from a kernel that refused.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::deadline::{SOON, try_for, wait_until};
use crate::scratch::Scratch;

/// What is to fail.
#[derive(Debug, Clone, Copy)]
pub struct Fault<'a> {
    /// System calls as strace names them, separated by commas; `?` in front of one that some machines lack.
    pub calls: &'a str,
    /// The errno by name.
    pub errno: &'a str,
    /// Which of the calls, counted from the beginning of the tracing: `1`, `1..3`, `2+`.
    pub when: &'a str,
}

/// Whose calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The process's first thread alone.
    Main,
    /// Its thread of this name.
    Thread(&'static str),
    /// Its children, from their fork on; and itself, where it makes such calls.
    Children,
}

/// strace at work on a process. Dropping it lets the process go.
#[derive(Debug)]
pub struct Injection {
    strace: Child,
    report: PathBuf,
    planned: usize,
}

impl Injection {
    /// Attaches to `pid`. Every call that it makes from now on is counted, those of each fault by themselves.
    ///
    /// # Panics
    /// When strace is missing or may not attach.
    #[must_use]
    pub fn attach(scratch: &Scratch, pid: i32, reach: Reach, faults: &[Fault<'_>]) -> Injection {
        let number = scratch.next_number();
        let report = scratch.path(&format!("strace-{number}.txt"));
        let said = scratch.path(&format!("strace-{number}.err"));
        let mut command = Command::new("strace");
        if reach == Reach::Children {
            command.arg("-f");
        }
        let target = match reach {
            Reach::Main | Reach::Children => pid,
            Reach::Thread(name) => thread_named(pid, name),
        };
        command.args(arguments(faults, &report)).arg("-p").arg(target.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said).expect("the directory is ours"));
        let strace = command.spawn().unwrap_or_else(|error| panic!("cannot start strace: {error}: run tests/run"));
        let mut injection = Injection { strace, report, planned: faults.iter().map(|fault| planned(fault.when)).sum() };
        injection.wait_attached(&said);
        injection
    }

    /// It says so after it has told the process to stop, which comes before the process's next call.
    fn wait_attached(&mut self, said: &Path) {
        let text = try_for(SOON, || {
            let ended = self.strace.try_wait().expect("our own child").is_some();
            let text = fs::read_to_string(said).unwrap_or_default();
            (ended || text.contains("attached")).then_some(text)
        });
        let text = text.unwrap_or_else(|| panic!("strace did not attach within {SOON:?}"));
        // Attached, it may have ended already: with a process that its first failed call has ended.
        assert!(text.contains("attached"), "strace cannot attach (not root? set kernel.yama.ptrace_scope=0): {text}");
    }

    /// How many calls have failed so far.
    #[must_use]
    pub fn hits(&self) -> usize {
        hits(&self.report)
    }

    /// Waits until every call has failed that was to fail; of an endless row, the first.
    ///
    /// Only then is it safe to let the process go: one that is left in the middle of such a call sees `ENOSYS`, which no
    /// kernel would answer.
    ///
    /// # Panics
    /// When they do not in time: the process does not make that call.
    pub fn wait_done(&self) {
        let planned = self.planned;
        wait_until(SOON, &format!("{planned} failed calls in {}", self.report.display()), || self.hits() >= planned);
    }

    /// Lets the process go, and waits until it is.
    pub fn detach(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if matches!(self.strace.try_wait(), Ok(Some(_))) {
            return; // the process has ended, and strace with it
        }
        let pid = Pid::from_raw(i32::try_from(self.strace.id()).expect("a pid fits in an i32"));
        // On TERM it detaches; killed, it leaves that to the kernel.
        let _ = kill(pid, Signal::SIGTERM);
        if try_for(SOON, || self.strace.try_wait().ok().flatten()).is_none() {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = self.strace.wait();
        }
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.end();
    }
}

/// Shell words for [`crate::Builder::prologue`]: ostler is started under strace, and keeps its process id. The second
/// half is where [`hits`] looks.
#[must_use]
pub fn prologue(scratch: &Scratch, fault: &Fault<'_>) -> (String, PathBuf) {
    let report = scratch.path(&format!("strace-{}.txt", scratch.next_number()));
    let words: Vec<String> =
        arguments(std::slice::from_ref(fault), &report).iter().map(|word| format!("'{word}'")).collect();
    (format!(r#"set -- strace -D {} -- "$@";"#, words.join(" ")), report)
}

/// How many failed calls a report has.
#[must_use]
pub fn hits(report: &Path) -> usize {
    fs::read_to_string(report).unwrap_or_default().matches("(INJECTED)").count()
}

fn arguments(faults: &[Fault<'_>], report: &Path) -> Vec<String> {
    let traced: Vec<&str> = faults.iter().map(|fault| fault.calls).collect();
    let mut words =
        vec!["-e".to_owned(), "signal=none".to_owned(), "-e".to_owned(), format!("trace={}", traced.join(","))];
    for Fault { calls, errno, when } in faults {
        words.extend(["-e".to_owned(), format!("inject={calls}:error={errno}:when={when}")]);
    }
    words.extend(["-o".to_owned(), report.display().to_string()]);
    words
}

/// How many calls `1`, `2..4` or `3+` stand for; at least.
fn planned(when: &str) -> usize {
    let number = |text: &str| text.parse::<usize>().unwrap_or_else(|_| panic!("{when:?} says nothing about calls"));
    match when.split_once("..") {
        Some((first, last)) => number(last) - number(first) + 1,
        None => number(when.trim_end_matches('+')).min(1),
    }
}

fn thread_named(pid: i32, name: &str) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|error| panic!("pid {pid}: {error}"));
    let mut threads = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse::<i32>().ok());
    let found = threads.find(|thread| {
        fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    found.unwrap_or_else(|| panic!("process {pid} has no thread {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_calls_has_a_length() {
        assert_eq!(["1", "7", "2..4", "3+"].map(planned), [1, 1, 3, 1]);
    }

    #[test]
    fn a_call_that_is_told_to_fail_fails_and_the_next_one_does_not() {
        let scratch = Scratch::new();
        let script = "while read -r line; do true > x || echo refused; done";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(scratch.dir());
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = shell.spawn().unwrap();
        let fault = Fault { calls: "openat", errno: "ENOSPC", when: "1" };
        let injection = Injection::attach(&scratch, i32::try_from(shell.id()).unwrap(), Reach::Main, &[fault]);
        let mut input = shell.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"one\ntwo\n").unwrap();
        injection.wait_done();
        drop(input);
        let output = shell.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "refused\n");
        assert_eq!(injection.hits(), 1);
        injection.detach();
    }
}
