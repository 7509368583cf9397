//! Holds a proxy that a test started, and ends it.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SLACK, try_for, wait_until};
use ostler_tests::{Scratch, Target};

/// Where clients connect, in the test's directory.
pub(super) const FRONT: &str = "front.sock";
/// Where a proxy tells what it counts, if it does.
pub(super) const STATISTICS: &str = "stats.sock";

/// A running proxy.
pub(super) struct Front {
    child: Child,
    scratch: Scratch,
}

impl Front {
    /// Starts it and waits until it listens on [`FRONT`].
    ///
    /// # Panics
    /// When it does not.
    pub(super) fn start(scratch: &Scratch, command: &mut Command) -> Front {
        let output = File::create(scratch.path("front.log")).expect("the directory is ours");
        command.stdin(Stdio::null()).stdout(output.try_clone().expect("a descriptor")).stderr(output);
        command.current_dir(scratch.dir());
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let front = Front { child, scratch: scratch.clone() };
        let target = Target::Unix(scratch.path(FRONT));
        wait_until(SLACK, "the proxy listens", || target.connect(SLACK).is_ok());
        front
    }

    /// A file of its directory, which is the test's.
    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.scratch.path(name)).unwrap_or_default()
    }

    pub(super) fn scratch(&self) -> &Scratch {
        &self.scratch
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits in an i32"));
        let _gone_already = kill(pid, Signal::SIGTERM);
        if try_for(SLACK, || self.child.try_wait().ok().flatten()).is_none() {
            let _gone_already = self.child.kill();
            let _reaped = self.child.wait();
        }
        // Its sockets, unless it has taken them away itself.
        for socket in [FRONT, STATISTICS] {
            let _gone_already = std::fs::remove_file(self.scratch.path(socket));
        }
    }
}
