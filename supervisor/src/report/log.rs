//! Words what becomes of the log itself.

use std::io;

use tracing::{error, info, warn};

use crate::exit::ExitCode;
use crate::logging::Which;

fn name(which: Which) -> &'static str {
    match which {
        Which::Log => "the log",
        Which::Access => "the access log",
    }
}

/// Lines can't be written. Where the log itself fails, those see this who read it in memory.
pub(crate) fn failed(which: Which, error: &io::Error) {
    error!("cannot write {}: {error}; its lines are lost until that works again", name(which));
}

/// They can again.
pub(crate) fn recovered(which: Which, lost: u64) {
    warn!(lost, "{} is written again; these lines of it were lost", name(which));
}

/// Nobody took them fast enough.
pub(crate) fn dropped(which: Which, lines: u64) {
    warn!(lines, "lines of {} were dropped: its disk or its reader was too slow", name(which));
}

/// There is nothing to open anew.
pub(crate) fn no_files(place: &str) -> String {
    format!("no log files to open again: the log goes to {place}")
}

/// How opening files anew ended; `missing` were not heard of.
pub(crate) fn reopened(opened: u32, failures: &[String], missing: u32) -> (String, ExitCode) {
    if !failures.is_empty() {
        let text = format!("log files not opened anew: {}; lines go on to the old file", failures.join("; "));
        return (text, ExitCode::Failed);
    }
    if missing > 0 {
        let text = "log files not opened anew in time: a disk or a reader does not answer; it is done when it does";
        return (text.to_owned(), ExitCode::Incomplete);
    }
    (format!("log files opened anew: {opened}"), ExitCode::Done)
}

/// The file with the pid can't be removed.
pub(crate) fn pid_file_left(path: &std::path::Path, error: &io::Error) {
    warn!("cannot remove {}: {error}", path.display());
}

/// It is not ours any more.
pub(crate) fn pid_file_of_another(path: &std::path::Path) {
    info!("{} is another file now and stays", path.display());
}
