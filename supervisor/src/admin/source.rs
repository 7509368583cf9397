//! Reads what the supervisor publishes, from the descriptor that came with this process.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ostler_shared::env::{BOARD, FDS, fd_named};
use ostler_shared::scoreboard::Content;
use ostler_shared::scoreboard::banks::{Unreadable, read};
use ostler_shared::scoreboard::content::BadContent;

/// A state is good for so long, so that a flood of requests does not decode megabytes for each. Something new is published ten
/// times per second at most.
const READ_EVERY: Duration = Duration::from_millis(20);

/// Where states are read.
#[derive(Debug)]
pub(super) struct Source {
    board: File,
    last: Mutex<Option<(Instant, Arc<Content>)>>,
}

/// This process was not given a scoreboard.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoBoard {
    #[error("there is no scoreboard among its descriptors: ostler starts it where the configuration has [admin]")]
    NotGiven,
    #[error("cannot open the scoreboard that it was given: {0}")]
    Io(#[from] io::Error),
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoState {
    #[error("cannot read what the supervisor publishes: {0}")]
    Unreadable(#[from] Unreadable),
    #[error("cannot read what the supervisor publishes: {0}")]
    Bad(#[from] BadContent),
}

impl Source {
    /// The one that the supervisor gave to this process.
    pub(super) fn inherited() -> Result<Source, NoBoard> {
        let fds = std::env::var(FDS).unwrap_or_default();
        let fd = fd_named(&fds, BOARD).ok_or(NoBoard::NotGiven)?;
        // Opened once more instead of taken over, which would need another unsafe door.
        Ok(Source::of(File::open(format!("/proc/self/fd/{fd}"))?))
    }

    fn of(board: File) -> Source {
        Source { board, last: Mutex::new(None) }
    }

    /// The state that was published last.
    pub(super) fn read(&self) -> Result<Arc<Content>, NoState> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, content)) = last.as_ref()
            && at.elapsed() < READ_EVERY
        {
            return Ok(Arc::clone(content));
        }
        let content = Arc::new(Content::decode(&read(&self.board)?)?);
        *last = Some((Instant::now(), Arc::clone(&content)));
        Ok(content)
    }
}
