//! `ostler top`: looks whether there is a terminal and a supervisor, before the screen is taken.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use ostler_shared::scoreboard::file::{Board, BoardError, beside};

use super::ask::{explain, whereabouts};
use super::say;
use crate::cli::Place;
use crate::control::client::{AskError, ask_at, nobody, somebody_listens};
use crate::control::protocol::Request;
use crate::exit::ExitCode;

pub(crate) fn top(place: Place) -> ExitCode {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        say::complain("`ostler top` needs a terminal for its keys and its screen; `ostler status` goes anywhere");
        return ExitCode::Usage;
    }
    let control = match whereabouts(place).find() {
        Ok(control) => control,
        Err(error) => return explain(&error),
    };
    match Board::open(beside(&control)) {
        Ok(_) => {}
        Err(BoardError::Missing(_)) if somebody_listens(&control) => {}
        Err(BoardError::Missing(_)) => return explain(&nobody(format!("at {}", control.display()))),
        Err(error) => return refuse(control, &error),
    }
    match crate::top::run(control) {
        Ok(()) => ExitCode::Done,
        Err(error) => say::failed(&error.to_string()),
    }
}

/// What belongs to somebody else is better explained by whose it is than by what the kernel says of a file.
fn refuse(control: PathBuf, why: &BoardError) -> ExitCode {
    match ask_at(control, &Request::Status) {
        Err(error @ AskError::NotYours { .. }) => explain(&error),
        Ok(_) | Err(_) => say::failed(&why.to_string()),
    }
}
