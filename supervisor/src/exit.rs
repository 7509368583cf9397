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

/// Each of them for people, in the help and in the man pages.
pub(crate) const MEANINGS: [(ExitCode, &str); 6] = [
    (ExitCode::Done, "done"),
    (ExitCode::Failed, "failed"),
    (ExitCode::Usage, "bad usage or configuration"),
    (ExitCode::Undone, "reload undone"),
    (ExitCode::Incomplete, "timed out, or something was shed, lost or killed during the stop"),
    (ExitCode::Nobody, "no supervisor there"),
];

/// All of them in a sentence.
pub(crate) fn in_a_sentence() -> String {
    let each: Vec<String> = MEANINGS.iter().map(|(code, meaning)| format!("{} {meaning}", *code as u8)).collect();
    format!("Exit codes: {}.", each.join(", "))
}

impl ExitCode {
    /// The code that a supervisor named; one that this build does not know is a failure.
    pub(crate) fn named(exit: u8) -> ExitCode {
        let known = MEANINGS.iter().map(|(code, _)| *code).find(|code| *code as u8 == exit);
        known.unwrap_or(ExitCode::Failed)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code as u8)
    }
}
