//! Prints what a command has to say, and survives those who do not listen.
//!
//! `println!` panics when it cannot write. A reader who has gone away (`ostler status | head -1`) is no failure: nobody
//! wanted the rest, and the exit code goes on telling what became of the command itself. Any other error is one: who asked for
//! something and got half of it must not take it for the whole.

use std::io::{self, Write};

use crate::exit::ExitCode;

/// Prints the answer of a command that has done what it was asked.
pub(crate) fn answer(text: &str) -> ExitCode {
    match piece(text.as_bytes()) {
        Ok(()) => ExitCode::Done,
        Err(end) => end,
    }
}

/// Prints a piece of an answer that goes on.
///
/// # Errors
/// With which code to end instead.
pub(crate) fn piece(bytes: &[u8]) -> Result<(), ExitCode> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => ExitCode::Done,
        _ => failed(&format!("cannot write to standard output: {error}")),
    })
}

/// The same, on a line of its own.
pub(crate) fn answer_line(text: &str) -> ExitCode {
    answer(&format!("{text}\n"))
}

/// Says on standard error what went wrong.
pub(crate) fn complain(why: &str) {
    complain_at_length(&format!("ostler: {why}\n"));
}

/// The same in more than a line, as it is.
pub(crate) fn complain_at_length(text: &str) {
    // There is nobody left to tell that this was not heard; the exit code says it too.
    let _said = io::stderr().lock().write_all(text.as_bytes());
}

/// Complains and fails.
pub(crate) fn failed(why: &str) -> ExitCode {
    complain(why);
    ExitCode::Failed
}

/// Text that does nothing to a terminal but fill lines: of what others wrote, letters are shown and commands are not obeyed.
pub(crate) fn printable(text: &str) -> String {
    let shown = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
    text.chars().map(|letter| if shown(letter) { letter } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_others_wrote_commands_no_terminal() {
        assert_eq!(printable("no\x1b[2J license\r\n\tüß\u{9b}2J"), "no?[2J license?\n\tüß?2J");
    }
}
