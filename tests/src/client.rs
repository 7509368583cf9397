//! Asks a running supervisor through the real client commands.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::bounded::{self, Output};
use crate::builder::clean_environment;
use crate::deadline::{SOON, try_for};
use crate::place;
use crate::scratch::Scratch;
use crate::status::Status;

/// Longer than any reload or stop of the suites.
const COMMAND_LIMIT: Duration = Duration::from_secs(90);

/// Runs `ostler` commands in a test's directory; clones may be used in other threads.
#[derive(Debug, Clone)]
pub struct Client {
    control: Option<PathBuf>,
    scratch: Scratch,
}

impl Client {
    /// A client for the supervisor at `control`, or for whatever the commands find by themselves.
    #[must_use]
    pub fn new(control: Option<PathBuf>, scratch: Scratch) -> Client {
        Client { control, scratch }
    }

    /// Runs one command to its end.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Output {
        bounded::run(&mut self.prepare(args), COMMAND_LIMIT)
    }

    /// The command, not started.
    #[must_use]
    pub fn prepare(&self, args: &[&str]) -> Command {
        let mut command = Command::new(place::ostler());
        clean_environment(&mut command, &self.scratch.path("runtime"));
        command.current_dir(self.scratch.dir()).args(args);
        if let Some(path) = &self.control {
            command.arg("--control").arg(path);
        }
        command
    }

    /// The status.
    ///
    /// # Panics
    /// When there is none, or it is not what the contract says.
    #[must_use]
    pub fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|output| panic!("no status: {output:?}"))
    }

    /// The status as the supervisor itself says it, or what the command said instead. On a machine with other work to do the
    /// supervisor may be late, and then the command shows what was published last: too old for a test.
    ///
    /// # Errors
    /// The whole output when the exit code is not 0.
    ///
    /// # Panics
    /// When the answer is not what the contract says.
    pub fn try_status(&self) -> Result<Status, Output> {
        let said = try_for(SOON, || match self.any_status() {
            Ok(status) if status.age_s > 0.0 => None,
            said => Some(said),
        });
        said.expect("the supervisor did not answer, its scoreboard alone")
    }

    /// The status, however old it is, or what the command said instead.
    ///
    /// # Errors
    /// The whole output when the exit code is not 0.
    ///
    /// # Panics
    /// When the answer is not what the contract says.
    pub fn any_status(&self) -> Result<Status, Output> {
        let output = self.command(&["status", "--json"]);
        if output.code != 0 {
            return Err(output);
        }
        match serde_json::from_str(&output.stdout) {
            Ok(status) => Ok(status),
            Err(error) => panic!("status is not as the contract says: {error}\n{}", output.stdout),
        }
    }
}
