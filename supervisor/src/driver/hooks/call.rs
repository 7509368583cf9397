//! Makes a process of one call of a hook, and tells what became of it.
//!
//! It runs as the pool's workers do: in their directory, with their environment and their limits, and with no more rights
//! than they have. Its standard input is `/dev/null`; what it prints goes to the log. It gets nothing else of the
//! supervisor's.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use ostler_config::checked::{Process, Program};
use ostler_pool::Moment;

use super::super::child::{self, Ended, Prepared, REPORT_LEN, Stage, read_report};
use super::super::failure;
use super::super::limits::Inherited;
use super::super::output::Pipe;
use super::super::spawn;
use crate::report;

/// Most lines of one call that are logged; the rest is read and counted.
const LINES_MAX: u64 = 64;

/// Which hook of which pool.
#[derive(Debug, Clone)]
pub(crate) struct Title {
    pub(crate) pool: String,
    pub(crate) hook: &'static str,
}

/// One call that is to be made.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) title: Title,
    /// The program and its arguments, never empty.
    pub(crate) command: Vec<OsString>,
    pub(crate) process: Process,
    /// What it is told: names of variables and their values.
    pub(crate) facts: Vec<(&'static str, String)>,
}

/// One call under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) call: Call,
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) output: Option<Pipe>,
    pub(crate) said: Said,
    /// When it is killed; `None` once it was.
    pub(crate) deadline: Option<Moment>,
    exec: io::PipeReader,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct CallEnded {
    pub(crate) title: Title,
    pub(crate) how: How,
    /// Lines that were not logged.
    pub(crate) unsaid: u64,
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum How {
    /// It ended by itself.
    Itself(Ended),
    /// It took too long.
    Overdue,
    /// Its program could not be executed.
    Exec(String),
}

/// Counts what a hook prints.
#[derive(Debug)]
pub(crate) struct Said {
    title: Title,
    lines: u64,
}

impl Said {
    pub(crate) fn line(&mut self, line: &str) {
        self.lines += 1;
        if self.lines <= LINES_MAX {
            report::hooks::line(&self.title, line);
        }
    }
}

impl Call {
    /// Makes the process.
    ///
    /// # Errors
    /// Whatever a system call on the way answered; nothing is left behind.
    pub(super) fn start(self, limits: Inherited, deadline: Moment) -> io::Result<Running> {
        let (exec, error_pipe) = io::pipe()?;
        let (output, output_hook) = io::pipe()?;
        if let Some(account) = &self.process.user {
            // Its own, or it could not open /dev/stderr. Who may not give it away loses only that.
            let _given = std::os::unix::fs::fchown(&output_hook, Some(account.uid), None);
        }
        let null = std::fs::File::open("/dev/null")?;
        let facts = self.facts.iter().map(|(key, value)| (OsString::from(key), OsString::from(value)));
        let prepared = Prepared {
            program: spawn::found(&self.command[0], &self.process)?,
            arguments: self.command.iter().map(|word| spawn::c_string(word)).collect::<io::Result<_>>()?,
            environment: spawn::environment(&self.process, facts)?,
            directory: spawn::directory(&self.process)?,
            limits: spawn::limits_of(&self.process, limits),
            nice: self.process.nice,
            umask: self.process.umask,
            identity: spawn::identity(&self.process),
            new_privileges: self.process.new_privileges,
            descriptors: vec![
                Some(child::source(null.as_fd())?),
                Some(child::source(output_hook.as_fd())?),
                Some(child::source(output_hook.as_fd())?),
            ],
            listen_pid: child::ListenPid::Untold,
            parent_death: None,
            parent: nix::unistd::getpid(),
            error_pipe: child::source(error_pipe.as_fd())?,
        };
        spawn::set_nonblocking(&exec)?;
        spawn::set_nonblocking(&output)?;
        let (pid, pidfd) = child::fork_exec(&prepared)?;
        let said = Said { title: self.title.clone(), lines: 0 };
        Ok(Running { call: self, pid, pidfd, output: Some(Pipe::new(output)), said, deadline: Some(deadline), exec })
    }
}

impl Running {
    /// Ends it and its group. It is gone when the kernel says so.
    pub(super) fn kill(&mut self) {
        if self.deadline.take().is_some()
            && let Err(error) = child::signal_group(self.pid, Signal::SIGKILL as i32)
        {
            report::hooks::not_killed(&self.call.title, &error);
        }
    }

    /// What is to be said of it, after its end.
    pub(super) fn end(mut self, ended: Ended) -> CallEnded {
        let mut report = [0; REPORT_LEN];
        // Written before its end, whole; its pipe is empty when the program was executed.
        let how = match (self.exec.read(&mut report), self.deadline) {
            (Ok(REPORT_LEN), _) => How::Exec(self.exec_failure(read_report(report))),
            (Ok(_) | Err(_), Some(_)) => How::Itself(ended),
            (Ok(_) | Err(_), None) => How::Overdue,
        };
        CallEnded { title: self.call.title, how, unsaid: self.said.lines.saturating_sub(LINES_MAX) }
    }

    fn exec_failure(&self, (stage, error): (Stage, io::Error)) -> String {
        let program = Program::Command(self.call.command.clone());
        failure::words(&self.call.process, &program, stage, &error)
    }
}
