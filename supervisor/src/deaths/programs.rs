//! Keeps how the programs of connections ended that did not go well.
//!
//! They have a place of their own beside the workers: a program that fails for each client must not wash away the crash of a
//! worker. Beyond [`FAILURES_MAX`] the oldest goes.

use std::path::Path;
use std::time::SystemTime;

use ostler_config::checked::Program;
use ostler_shared::wire::{End, ProgramEnd, Programs};
use ostler_shared::{ConnId, WorkerName};

/// How many connections are kept.
pub(crate) const FAILURES_MAX: usize = 256;

/// The ends of the programs that served one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgramsEnded {
    pub(crate) at: SystemTime,
    pub(crate) worker: WorkerName,
    pub(crate) conn: ConnId,
    pub(crate) ends: Vec<Ended>,
}

/// The end of one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The name of its file; `None` where the pool has no such command.
    pub(crate) name: Option<String>,
    pub(crate) pid: u32,
    pub(crate) end: End,
}

impl ProgramsEnded {
    /// What a worker says of a connection, with the names that its pool has for the programs.
    pub(crate) fn of(worker: &WorkerName, program: &Program, programs: &Programs) -> ProgramsEnded {
        let stages: &[_] = match program {
            Program::Pipeline(stages) => stages,
            // A library may host programs of its own.
            Program::Hello | Program::Admin | Program::Command(_) => &[],
        };
        let name = |place: usize| {
            let path = Path::new(stages.get(place)?.first()?);
            Some(path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned())
        };
        let ends = programs.ends.iter().enumerate();
        let ends = ends.map(|(place, ProgramEnd { pid, end })| Ended { name: name(place), pid: *pid, end: *end });
        ProgramsEnded {
            at: SystemTime::now(),
            worker: worker.clone(),
            conn: ConnId(programs.conn),
            ends: ends.collect(),
        }
    }

    /// Whether nothing went wrong.
    pub(crate) fn is_well(&self) -> bool {
        self.ends.iter().all(|ended| ProgramEnd { pid: ended.pid, end: ended.end }.is_well())
    }

    /// Such as `sed exit 0, tr SIGKILL`.
    pub(crate) fn words(&self) -> String {
        let words = self.ends.iter().enumerate().map(|(place, ended)| {
            let name = ended.name.clone().unwrap_or_else(|| format!("program {}", place + 1));
            format!("{name} {}", end_words(ended.end))
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Such as `exit 1`.
pub(crate) fn end_words(end: End) -> String {
    match end {
        End::Code(code) => format!("exit {code}"),
        End::Signal(signal) => super::signal_name(signal),
        End::NotStarted(_) => "not started".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_by_the_names_of_the_pool_s_commands() {
        let worker = super::super::tests::death(1, ostler_pool::Exit::Code(0), None).worker;
        let pipeline = Program::Pipeline(vec![vec!["/usr/bin/sed".into(), "-u".into()], vec!["tr".into()]]);
        let end = |end| ProgramEnd { pid: 1, end };
        let programs =
            Programs { conn: 7, ends: vec![end(End::Code(0)), end(End::Signal(9)), end(End::NotStarted(2))] };
        let ended = ProgramsEnded::of(&worker, &pipeline, &programs);
        assert_eq!(ended.words(), "sed exit 0, tr SIGKILL, program 3 not started");
        assert!(!ended.is_well());
        let piped = Programs { conn: 7, ends: vec![end(End::Signal(13)), end(End::Code(0))] };
        assert!(ProgramsEnded::of(&worker, &pipeline, &piped).is_well(), "nobody listened any more");
    }
}
