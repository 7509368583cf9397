//! Runs a command to its end, but not for ever.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Both streams, for a message.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Lines of JSON, a value each.
///
/// # Panics
/// When one is none.
#[must_use]
pub fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Runs `command` with nothing on its standard input.
///
/// # Panics
/// When it can't be started, or is not done within `limit` (it is then killed).
pub fn run(command: &mut Command, limit: Duration) -> Output {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid fits in an i32"));
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // Nobody listens any more when the limit has passed.
        let _ = sender.send(child.wait_with_output());
    });
    let Ok(answer) = receiver.recv_timeout(limit) else {
        let _ = kill(pid, Signal::SIGKILL);
        panic!("{shown} was not done within {limit:?}");
    };
    let output = answer.unwrap_or_else(|error| panic!("cannot wait for {shown}: {error}"));
    Output {
        code: exit_code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The exit code as a shell counts: 128 + signal when a signal ended it.
#[must_use]
pub fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}
