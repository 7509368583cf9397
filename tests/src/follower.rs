//! Runs a client that shows lines as they come.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bounded::exit_code;
use crate::deadline::{SOON, wait_for};
use crate::ostler::Ostler;

/// A client that follows; dropping it ends it.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    output: ChildStdout,
    unread: Vec<u8>,
}

impl Follower {
    /// Starts `ostler` with these arguments.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(ostler: &Ostler, args: &[&str]) -> Follower {
        let mut command = ostler.client().prepare(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("ostler");
        let output = child.stdout.take().expect("piped");
        Follower { child, output, unread: Vec::new() }
    }

    /// The next line.
    ///
    /// # Panics
    /// When none comes.
    pub fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return String::from_utf8(line).expect("text");
            }
            let timeout = PollTimeout::try_from(SOON).expect("it fits");
            let ready = poll(&mut [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)], timeout).expect("a pipe");
            assert!(ready > 0, "no line within {SOON:?}");
            let mut chunk = [0; 64 * 1024];
            let count = self.output.read(&mut chunk).expect("readable");
            assert!(count > 0, "it ended");
            self.unread.extend_from_slice(&chunk[..count]);
        }
    }

    /// Reads until there is a line with this text.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Ends it like Ctrl-C; its exit code, and what it said on standard error.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    pub fn interrupt(mut self) -> (i32, String) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).expect("fits")), Signal::SIGINT).expect("it runs");
        self.end()
    }

    /// Waits until it ends by itself; its exit code, and what it said on standard error.
    ///
    /// # Panics
    /// When it does not end.
    pub fn end(&mut self) -> (i32, String) {
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).expect("readable");
        let code = wait_for(SOON, "its end", || self.child.try_wait().expect("our child").map(exit_code));
        let mut said = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (code, said)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
