//! `ostler status`: asks the supervisor, and where it does not answer at once, reads its scoreboard.
//!
//! Asked, it says how it is at this instant. The scoreboard says how it was a moment ago, but also when the supervisor is
//! stopped, busy or dead. Whoever shows something that the supervisor has not said itself says so, and how old it is.

use std::io::{self, IsTerminal};
use std::time::Duration;

use ostler_config::format_duration;
use ostler_shared::scoreboard::Content;
use ostler_shared::scoreboard::file::{Board, BoardError, beside};

use super::ask::{Show, explain, finish, whereabouts};
use super::say;
use crate::cli::Place;
use crate::control::client::{AskError, ask_at};
use crate::control::protocol::{CROWDED, Request, Response};
use crate::exit::ExitCode;
use crate::presence::{self, Presence};
use crate::status::{Freshness, Paint, Status, text};

/// How long the supervisor may take before its scoreboard has to do. Half of what a person takes for at once.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);

/// Why it is the scoreboard that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Stopped,
    Busy,
    Crowded,
    Gone,
}

pub(crate) fn status(place: Place, show: Show) -> ExitCode {
    let control = match whereabouts(place).find() {
        Ok(control) => control,
        Err(error) => return explain(&error),
    };
    let board = Board::open(beside(&control)).and_then(|board| board.read());
    if let Ok(content) = &board
        && presence::of(&content.supervisor) == Presence::Stopped
    {
        return show_board(content, Silence::Stopped, show);
    }
    let mut answers = match (ask_at(control, &Request::Status), &board) {
        (Ok(answers), _) => answers,
        (Err(AskError::Nobody { .. }), Ok(content)) => return show_board(content, Silence::Gone, show),
        (Err(AskError::Late(_)), Ok(content)) => return show_board(content, late(content), show),
        (Err(error), board) => return explain_both(&error, board),
    };
    match (answers.next_within(Some(ANSWER_WITHIN)), board) {
        (Ok(Some(Response::Done { text, .. })), Ok(content)) if text.ends_with(CROWDED) => {
            show_board(&content, Silence::Crowded, show)
        }
        (Ok(Some(response)), _) => show_answer(response, show),
        (Ok(None), Ok(content)) => show_board(&content, late(&content), show),
        (Ok(None), board @ Err(_)) => match answers.next_soon() {
            Ok(response) => show_answer(response, show),
            Err(error) => explain_both(&error, &board),
        },
        (Err(error), _) => explain(&error),
    }
}

/// Why nobody has answered in time.
fn late(content: &Content) -> Silence {
    match presence::of(&content.supervisor) {
        Presence::Stopped | Presence::Traced => Silence::Stopped,
        Presence::Running | Presence::Ended | Presence::Unknown => Silence::Busy,
    }
}

/// Neither way led anywhere: that there is no scoreboard is no news where there is no supervisor.
fn explain_both(error: &AskError, board: &Result<Content, BoardError>) -> ExitCode {
    match board {
        Ok(_) | Err(BoardError::Missing(_)) => {}
        Err(why) => say::complain(&why.to_string()),
    }
    explain(error)
}

fn show_answer(response: Response, show: Show) -> ExitCode {
    match (response, show) {
        (Response::Report(json), Show::Json) => say::answer_line(&json),
        (Response::Report(json), Show::Text) => match Status::of_json(&json) {
            Ok(status) => say::answer(&text(&status, paint())),
            Err(error) => say::failed(&format!("cannot read the supervisor's answer: {error}; try --json")),
        },
        (Response::Done { text, exit }, _) => finish(&text, exit),
        (Response::Progress(_) | Response::Lines(_) | Response::Missed(_), _) => {
            say::failed("the supervisor answered another question than the one that was put")
        }
    }
}

/// Shows what was published last, and says on standard error that the supervisor did not say it.
fn show_board(content: &Content, silence: Silence, show: Show) -> ExitCode {
    let freshness = match silence {
        Silence::Stopped | Silence::Busy | Silence::Crowded => Freshness::Published,
        Silence::Gone => Freshness::Left,
    };
    let status = Status::of(content, freshness);
    say::complain(&notice(content.supervisor.pid, silence, status.age()));
    let code = match show {
        Show::Json => say::answer_line(&status.to_json()),
        Show::Text => say::answer(&text(&status, paint())),
    };
    match silence {
        Silence::Stopped | Silence::Busy | Silence::Crowded => code,
        Silence::Gone => ExitCode::Nobody,
    }
}

fn notice(pid: u32, silence: Silence, age: Duration) -> String {
    let age = format_duration(Duration::from_millis(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
    match silence {
        Silence::Stopped => format!(
            "the supervisor does not answer, it is stopped (`kill -CONT {pid}` lets it go on): what follows is {age} old"
        ),
        Silence::Busy => {
            format!("the supervisor does not answer within {ANSWER_WITHIN:?}, it is busy: what follows is {age} old")
        }
        Silence::Crowded => {
            format!("the supervisor serves as many clients as it takes at a time: what follows is {age} old")
        }
        Silence::Gone => format!(
            "the supervisor is gone without having stopped (its pid was {pid}; start it again with `ostler run`): \
             what follows is what it left, {age} old"
        ),
    }
}

/// Colour is for terminals whose owner did not ask for none.
fn paint() -> Paint {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !refused { Paint::Coloured } else { Paint::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_shows_what_was_published_says_why_and_how_old_it_is() {
        let age = Duration::from_millis(12_345);
        let stopped = notice(7, Silence::Stopped, age);
        assert!(
            stopped.contains("stopped") && stopped.contains("kill -CONT 7") && stopped.contains("12s345ms old"),
            "{stopped}"
        );
        assert!(notice(7, Silence::Busy, age).contains("busy"));
        assert!(notice(7, Silence::Gone, age).contains("gone"));
    }
}
