//! Looks at what is published, at the process that published it, and at the memory of its workers.
//!
//! Nothing in here waits for the supervisor or a worker: it opens a file, and reads entries of /proc that are mere counters.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ostler_shared::scoreboard::Content;
use ostler_shared::scoreboard::file::{Board, BoardError, beside};
use ostler_shared::sys::clock::monotonic_ns;

use crate::control::client::somebody_listens;
use crate::presence::{self, Presence};
use crate::status::resident_bytes;

/// What was there at one look.
#[derive(Debug)]
pub(super) struct Glance {
    /// When, by `CLOCK_MONOTONIC`.
    pub(super) now_ns: u64,
    pub(super) found: Found,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// A state, and how its supervisor is; resident memory of its workers by pid.
    State { content: Box<Content>, standing: Standing, memory: HashMap<i32, u64> },
    /// No scoreboard: nobody is there, or nobody who can publish.
    Nothing(Standing),
    /// One that is not to be read, and why.
    Unreadable(String),
}

/// How the supervisor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Running,
    Stopped,
    Gone,
}

/// Where to look.
#[derive(Debug)]
pub(super) struct Source {
    control: PathBuf,
    board: PathBuf,
}

impl Source {
    /// The supervisor with this control socket.
    pub(super) fn of(control: &Path) -> Source {
        Source { control: control.to_owned(), board: beside(control) }
    }

    /// Looks once.
    pub(super) fn look(&mut self) -> Glance {
        let read = Board::open(&self.board).and_then(|board| board.read());
        let found = match read {
            Ok(content) => {
                let standing = self.standing(presence::of(&content.supervisor));
                let memory = match standing {
                    Standing::Running | Standing::Stopped => memory_of(&content),
                    // Their numbers may be others' by now.
                    Standing::Gone => HashMap::new(),
                };
                Found::State { content: Box::new(content), standing, memory }
            }
            Err(BoardError::Missing(_)) => Found::Nothing(self.standing(Presence::Unknown)),
            Err(error) => Found::Unreadable(error.to_string()),
        };
        Glance { now_ns: monotonic_ns(), found }
    }

    /// Where its process does not tell, its control socket does.
    fn standing(&self, presence: Presence) -> Standing {
        match presence {
            Presence::Running => Standing::Running,
            Presence::Stopped | Presence::Traced => Standing::Stopped,
            Presence::Ended => Standing::Gone,
            Presence::Unknown if somebody_listens(&self.control) => Standing::Running,
            Presence::Unknown => Standing::Gone,
        }
    }
}

fn memory_of(content: &Content) -> HashMap<i32, u64> {
    let pids = content.pools.iter().flat_map(|pool| &pool.workers).filter_map(|worker| worker.pid);
    pids.filter_map(|pid| Some((pid, resident_bytes(pid)?))).collect()
}
