//! Names the exit codes of the contract.

/// How `ostler` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitCode {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Bad usage, or a bad configuration of `run` and `check`.
    Usage = 2,
    /// A reload was undone, for whatever reason.
    Undone = 3,
    /// Timed out; for `run` and `stop`: something was shed, lost or killed during the stop.
    Incomplete = 4,
    /// No supervisor there.
    Nobody = 5,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code as u8)
    }
}
