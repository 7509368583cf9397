//! Starts a supervisor as process 1 of a PID namespace of its own.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bounded::{self, Output};
use crate::builder::Builder;
use crate::deadline::{SOON, wait_for};
use crate::ostler::Ostler;
use crate::procs;

/// How long a command in the namespace may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// A supervisor that is process 1, seen from outside.
#[derive(Debug)]
pub struct First {
    /// The supervisor; its process is the one that waits for the namespace to end.
    pub ostler: Ostler,
    pid: i32,
}

impl First {
    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it is not ready in time, or the machine gives no namespaces.
    #[must_use]
    pub fn start(builder: Builder) -> First {
        let user = if nix::unistd::geteuid().is_root() { "" } else { "--map-root-user" };
        let prologue = format!(r#"exec unshare {user} --pid --fork --mount-proc --kill-child "$@";"#);
        // Whoever waits for the namespace to end holds the pipe for readiness as well, so its end says nothing.
        let ostler = builder.prologue(&prologue).start_unready();
        ostler.wait_log(&["all workers are ready"]);
        let waiting = ostler.pid();
        let pid = wait_for(SOON, "process 1 of the namespace", || {
            let is_child = |pid: &i32| procs::stat(*pid).is_some_and(|stat| stat.parent == waiting);
            ostler.processes().into_iter().find(is_child)
        });
        First { ostler, pid }
    }

    /// Its number outside of the namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends process 1 a signal from outside.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).unwrap_or_else(|error| panic!("cannot send {signal}: {error}"));
    }

    /// Runs a shell command inside of the namespace.
    #[must_use]
    pub fn run_inside(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--pid", "--mount", "/bin/sh", "-c", script]);
        bounded::run(&mut command, COMMAND_LIMIT)
    }

    /// The states of process 1's children, as /proc says them.
    ///
    /// # Panics
    /// When /proc can't be read.
    #[must_use]
    pub fn children(&self) -> Vec<char> {
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(procs::stat).filter(|stat| stat.parent == self.pid).map(|stat| stat.state).collect()
    }
}
