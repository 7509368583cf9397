//! Says how a supervisor is to be started, and starts it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::deadline::SOON;
use crate::ostler::{Ended, Ostler, Parts};
use crate::place;
use crate::procs::MARK;
use crate::scratch::Scratch;

/// Where the control socket is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// `--control` with a path in the test's directory.
    Given,
    /// Nothing is said: the default directory below the test's `XDG_RUNTIME_DIR`.
    Default,
}

/// How a supervisor is to be started.
#[derive(Debug)]
pub struct Builder {
    scratch: Scratch,
    program: PathBuf,
    config: Option<String>,
    args: Vec<String>,
    command: Vec<String>,
    env: Vec<(String, String)>,
    control: Control,
    ready_within: Duration,
    prologue: String,
}

/// The descriptor that the supervisor writes to when it is ready.
const READY_FD: &str = "9";

/// Makes the pipe on standard input descriptor 9 and becomes the program: no code between fork and exec here.
const LAUNCH: &str = r#"exec 9>&0 0</dev/null; PROLOGUE exec "$@""#;

impl Builder {
    /// A supervisor in this directory, without arguments.
    #[must_use]
    pub fn new(scratch: &Scratch) -> Builder {
        Builder {
            scratch: scratch.clone(),
            program: place::ostler(),
            config: None,
            args: Vec::new(),
            command: Vec::new(),
            env: Vec::new(),
            control: Control::Given,
            ready_within: SOON,
            prologue: String::new(),
        }
    }

    /// Another `ostler` than the one that was built along.
    #[must_use]
    pub fn program(mut self, path: &Path) -> Builder {
        path.clone_into(&mut self.program);
        self
    }

    /// Writes this configuration and starts with `-c`.
    #[must_use]
    pub fn config(mut self, toml: impl Into<String>) -> Builder {
        self.config = Some(toml.into());
        self
    }

    /// Arguments of `ostler run`.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Builder {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// What stands behind `--`.
    #[must_use]
    pub fn worker<S: Into<String>>(mut self, command: impl IntoIterator<Item = S>) -> Builder {
        self.command.extend(command.into_iter().map(Into::into));
        self
    }

    /// An environment variable of the supervisor.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Builder {
        self.env.push((key.to_owned(), value.into()));
        self
    }

    /// Where the control socket is to be.
    #[must_use]
    pub fn control(mut self, control: Control) -> Builder {
        self.control = control;
        self
    }

    /// How long it may take until it is ready.
    #[must_use]
    pub fn ready_within(mut self, limit: Duration) -> Builder {
        self.ready_within = limit;
        self
    }

    /// Shell commands to run in the process before it becomes ostler, such as `ulimit -n 64;`.
    #[must_use]
    pub fn prologue(mut self, commands: &str) -> Builder {
        commands.clone_into(&mut self.prologue);
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it ends or is not ready in time; its log is in the message.
    #[must_use]
    pub fn start(self) -> Ostler {
        let limit = self.ready_within;
        let (mut ostler, ready) = self.launch();
        if let Err(why) = wait_ready(ready, limit) {
            // Where it has ended already, the code tells more than the closed pipe.
            let ended = ostler.ended().map(|code| format!("it ended with {code}"));
            panic!("not ready: {}\n{}", ended.unwrap_or(why), ostler.log());
        }
        ostler
    }

    /// Starts it and does not wait for anything.
    #[must_use]
    pub fn start_unready(self) -> Ostler {
        self.launch().0
    }

    /// Starts one that is expected to end by itself before it is ready, and waits for that end.
    ///
    /// # Panics
    /// When it becomes ready, or does not end in time.
    #[must_use]
    pub fn start_failing(self) -> Ended {
        let limit = self.ready_within;
        let (mut ostler, ready) = self.launch();
        let ended = ostler.wait(limit);
        assert!(wait_ready(ready, Duration::ZERO).is_err(), "it said that it was ready:\n{}", ended.log);
        ended
    }

    fn launch(self) -> (Ostler, OwnedFd) {
        let number = self.scratch.next_number();
        let mark = format!("{}-{number}-{}", std::process::id(), self.scratch.dir().display());
        let log = self.scratch.path(&format!("stderr-{number}.log"));
        let control = match self.control {
            Control::Given => Some(self.scratch.path(&format!("control-{number}.sock"))),
            Control::Default => None,
        };
        let (ready, ready_for_it) = nix::unistd::pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(LAUNCH.replace("PROLOGUE", &self.prologue)).arg("sh");
        command.arg(&self.program).args(["run", "--ready-fd", READY_FD]);
        if let Some(config) = &self.config {
            command.arg("-c").arg(self.scratch.write(&format!("ostler-{number}.toml"), config));
        }
        if let Some(path) = &control {
            command.arg("--control").arg(path);
        }
        command.args(&self.args);
        if !self.command.is_empty() {
            command.arg("--").args(&self.command);
        }
        clean_environment(&mut command, &self.scratch.path("runtime"));
        command.env(MARK, &mark).envs(self.env.iter().map(|(key, value)| (key, value)));
        command.current_dir(self.scratch.dir()).stdin(Stdio::from(ready_for_it)).stdout(Stdio::null());
        let stderr = File::create(&log).unwrap_or_else(|error| panic!("cannot make {}: {error}", log.display()));
        command.stderr(stderr);
        let child = command.spawn().expect("cannot start /bin/sh");
        drop(command); // it holds the pipe's other end
        let config = self.config.map(|_| self.scratch.path(&format!("ostler-{number}.toml")));
        (Ostler::of(Parts { child, scratch: self.scratch, mark, log, control, config }), ready)
    }
}

/// Takes everything out of a command's environment that could lead ostler elsewhere than the test means.
pub(crate) fn clean_environment(command: &mut Command, runtime: &PathBuf) {
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("OSTLER_") || name.starts_with("LISTEN_") || ["NOTIFY_SOCKET", "FDSTORE"].contains(&&*name)
        {
            command.env_remove(&key);
        }
    }
    command.env("XDG_RUNTIME_DIR", runtime).env("NO_COLOR", "1");
}

/// Waits for the newline and the end behind it; an end without a newline means that it will never come.
fn wait_ready(ready: OwnedFd, limit: Duration) -> Result<(), String> {
    let end = Instant::now() + limit;
    let mut pipe = File::from(ready);
    let mut said = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(format!("{said:?} and no end of the pipe within {limit:?}")),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.to_string()),
            Ok(_) => {}
        }
        let mut byte = [0];
        match pipe.read(&mut byte) {
            // Not before it is closed: whoever counts descriptors next would count this one.
            Ok(0) if said == b"\n" => return Ok(()),
            Ok(0) => return Err(format!("the pipe ended with {said:?} instead of a newline")),
            Ok(_) => said.extend(byte),
            Err(error) => return Err(error.to_string()),
        }
    }
}
