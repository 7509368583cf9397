//! Starts the processes of one connection, joined by pipes.
//!
//! Each has its standard input and output, the log as standard error, and no other descriptor. They belong to the process group
//! of this worker, and the kernel kills them when the thread ends that started them, which it does with the process.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use ostler_config::checked::{NewPrivileges, Process};
use ostler_config::find_program;

use super::environment::of_stage;
use super::orders::Orders;
use crate::driver::child::{self, Group, Identity, ListenPid, Prepared, REPORT_LEN, Stage, read_report};
use crate::driver::why_not_started;

/// The programs of the commands, found.
#[derive(Debug)]
pub(super) struct Programs {
    stages: Vec<Found>,
}

#[derive(Debug)]
struct Found {
    program: CString,
    arguments: Vec<CString>,
    /// For the log.
    shown: String,
}

/// A process that was started.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: Pid,
    /// Readable when it has ended.
    pub(super) pidfd: OwnedFd,
}

/// What came between.
#[derive(Debug)]
enum Trouble {
    /// This process could not make another.
    Here(io::Error),
    /// That one could not become the program.
    There(Stage, io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Here(error)
    }
}

/// Not all of them could be started.
#[derive(Debug)]
pub(super) struct Cut {
    /// Those that were.
    pub(super) running: Vec<Running>,
    /// Of how many.
    pub(super) of: usize,
    why: String,
    /// What the system said about the next one.
    pub(super) errno: i32,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start stage {} of {}, and so closed: {}", self.running.len() + 1, self.of, self.why)
    }
}

impl Programs {
    /// Finds the program of each command: by the `PATH` and with the rights of this process, which are those that the pool says.
    ///
    /// # Errors
    /// In words, when one of them can't be executed.
    pub(super) fn find(orders: &Orders) -> Result<Programs, String> {
        let found = orders.stages.iter().map(|words| {
            let own = Process::inherited();
            let shown = words[0].display().to_string();
            let Some(program) = find_program(&words[0], &own) else { return Err(not_found(words)) };
            let texts = |text: &OsStr| CString::new(text.as_bytes()).map_err(|error| format!("{shown}: {error}"));
            let arguments = words.iter().map(|word| texts(word)).collect::<Result<_, _>>()?;
            Ok(Found { program: texts(program.as_os_str())?, arguments, shown })
        });
        Ok(Programs { stages: found.collect::<Result<_, _>>()? })
    }

    /// Starts all of them, the first one first.
    ///
    /// # Errors
    /// Those that were started, when one could not be.
    pub(super) fn start(&self, connection: impl AsFd, variables: &[OsString]) -> Result<Vec<Running>, Cut> {
        let mut running = Vec::with_capacity(self.stages.len());
        let mut from: Option<PipeReader> = None;
        for (place, found) in self.stages.iter().enumerate() {
            let is_last = place + 1 == self.stages.len();
            let started: Result<(Running, Option<PipeReader>), Trouble> = (|| {
                let (next, to) = if is_last { (None, None) } else { io::pipe().map(|(r, w)| (Some(r), Some(w)))? };
                let input = from.as_ref().map_or(connection.as_fd(), AsFd::as_fd);
                let output = to.as_ref().map_or(connection.as_fd(), AsFd::as_fd);
                let variables = of_stage(variables, place + 1, self.stages.len())?;
                Ok((found.start(input, output, variables)?, next))
            })();
            match started {
                // Our ends of the pipes are closed here: who reads one shall see the end of who writes it.
                Ok((started, next)) => {
                    running.push(started);
                    from = next;
                }
                Err(trouble) => {
                    let (why, errno) = found.why_not(&trouble);
                    return Err(Cut { running, of: self.stages.len(), why, errno });
                }
            }
        }
        Ok(running)
    }
}

impl Found {
    fn start(
        &self,
        input: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
        environment: Vec<CString>,
    ) -> Result<Running, Trouble> {
        let (mut exec, error_pipe) = io::pipe()?;
        let prepared = Prepared {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            environment,
            // All of what the pool says this process has, and they inherit it.
            limits: Vec::new(),
            nice: None,
            umask: None,
            identity: Identity { uid: None, gid: None, groups: None },
            directory: None,
            new_privileges: NewPrivileges::AsInherited,
            descriptors: vec![
                Some(child::source(input)?),
                Some(child::source(output)?),
                Some(child::source(io::stderr().as_fd())?),
            ],
            listen_pid: ListenPid::Untold,
            parent_death: Some(Signal::SIGKILL),
            parent: nix::unistd::getpid(),
            error_pipe: child::source(error_pipe.as_fd())?,
        };
        drop(error_pipe);
        let (pid, pidfd) = child::fork_exec_in(&prepared, Group::Shared)?;
        drop(prepared);
        let mut report = [0; REPORT_LEN];
        // It ends with the exec, or is six bytes.
        match exec.read(&mut report) {
            Ok(REPORT_LEN) => {
                let (stage, error) = read_report(report);
                let _reaped = nix::sys::wait::waitpid(pid, None);
                Err(Trouble::There(stage, error))
            }
            Ok(_) | Err(_) => Ok(Running { pid, pidfd }),
        }
    }

    fn why_not(&self, trouble: &Trouble) -> (String, i32) {
        match trouble {
            Trouble::Here(error) => {
                let remedy = match error.raw_os_error() {
                    Some(libc::EAGAIN) => " (no more processes for this user: raise `ulimit -u`, process.limits.nproc)",
                    Some(libc::EMFILE) => " (no more descriptors: raise process.nofile)",
                    Some(_) | None => "",
                };
                (format!("{error}{remedy}"), error.raw_os_error().unwrap_or(0))
            }
            Trouble::There(stage, error) => {
                let why = why_not_started(&Process::inherited(), &self.shown, *stage, error);
                (why, error.raw_os_error().unwrap_or(0))
            }
        }
    }
}

/// Why the program of a command is not one.
fn not_found(words: &[OsString]) -> String {
    let path = PathBuf::from(&words[0]);
    let name = path.display();
    match std::fs::metadata(&path) {
        _ if !words[0].as_encoded_bytes().contains(&b'/') => {
            format!("cannot execute {name}: there is no such program in PATH (install it, or write its path)")
        }
        Ok(_) => format!("cannot execute {name}: it is not executable by this user (chmod +x)"),
        Err(error) => format!("cannot execute {name}: {error} (check the path)"),
    }
}
