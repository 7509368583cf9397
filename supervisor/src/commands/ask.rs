//! The client commands: put one request to a running supervisor and show what it says.

use std::time::SystemTime;

use super::progress::Shown;
use super::say;
use super::terminal::{Canvas, Tone};
use crate::cli::Place;
use crate::control::client::{Answers, AskError, Whereabouts};
use crate::control::protocol::{Request, Response};
use crate::deaths;
use crate::exit::ExitCode;

/// How a report is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    Text,
    Json,
}

pub(crate) fn deaths(place: Place, show: Show) -> ExitCode {
    report(place, &Request::Deaths, show, |json| deaths::text(json, SystemTime::now()))
}

/// Asks for something that the supervisor knows at once, and shows it.
fn report(
    place: Place,
    request: &Request,
    show: Show,
    text: impl FnOnce(&str) -> Result<String, serde_json::Error>,
) -> ExitCode {
    let response = whereabouts(place).ask(request).and_then(|mut answers| answers.next_soon());
    match response {
        Ok(Response::Report(json)) => match show {
            Show::Json => say::answer_line(&json),
            Show::Text => match text(&json) {
                Ok(text) => say::answer(&text),
                Err(error) => say::failed(&format!("cannot read the supervisor's answer: {error}; try --json")),
            },
        },
        Ok(Response::Done { text, exit }) => finish(&text, exit),
        Ok(Response::Progress(_) | Response::Lines(_) | Response::Missed(_)) => {
            say::failed("the supervisor answered another question than the one that was put")
        }
        Err(error) => explain(&error),
    }
}

/// Puts a request whose verdict may take a while. On Ctrl-C `on_interrupt` is printed and the supervisor goes on.
pub(crate) fn ask(place: Place, request: &Request, on_interrupt: &'static str) -> ExitCode {
    let handler = ctrlc::set_handler(move || {
        if Canvas::of_stderr() != Canvas::Plain {
            say::complain_at_length("\r\x1b[K"); // over the `^C` that the terminal shows
        }
        say::complain(on_interrupt);
        std::process::exit(i32::from(ExitCode::Failed as u8));
    });
    if let Err(error) = handler {
        return say::failed(&format!("cannot prepare for Ctrl-C: {error}"));
    }
    match whereabouts(place).ask(request) {
        Ok(answers) => {
            if let Some(pid) = answers.stopped() {
                say::complain(&format!("the supervisor is stopped: it does this when it goes on (`kill -CONT {pid}`)"));
            }
            follow(answers)
        }
        Err(error) => explain(&error),
    }
}

fn follow(mut answers: Answers) -> ExitCode {
    let canvas = Canvas::of_stderr();
    let mut shown = Shown::on(canvas);
    loop {
        let response = answers.next_within(shown.tick());
        if !matches!(response, Ok(None | Some(Response::Progress(_)))) {
            shown.clear();
        }
        match response {
            Ok(None) => shown.draw(),
            // Beside the verdict, which is what a script reads.
            Ok(Some(Response::Progress(progress))) => shown.learn(progress),
            Ok(Some(Response::Done { text, exit })) => return finish(&text, exit),
            Ok(Some(Response::Report(_) | Response::Lines(_) | Response::Missed(_))) => {
                return say::failed("the supervisor answered another question than the one that was put");
            }
            Err(error) => return explain(&error),
        }
    }
}

pub(super) fn whereabouts(place: Place) -> Whereabouts {
    Whereabouts { control: place.control, config: place.config }
}

pub(super) fn finish(text: &str, exit: u8) -> ExitCode {
    let code = ExitCode::named(exit);
    // It may quote what a worker printed.
    let text = say::printable(text);
    if code == ExitCode::Done {
        return say::answer_line(&text);
    }
    let (verdict, details) = text.split_once('\n').map_or((&*text, None), |(first, rest)| (first, Some(rest)));
    say::complain(&Canvas::of_stderr().paint(Tone::Bad, verdict));
    if let Some(details) = details {
        say::complain_at_length(&format!("{details}\n"));
    }
    code
}

pub(super) fn explain(error: &AskError) -> ExitCode {
    say::complain(&error.to_string());
    match error {
        AskError::Nobody { .. } => ExitCode::Nobody,
        AskError::Late(_) => ExitCode::Incomplete,
        AskError::Several(_) | AskError::Config(..) => ExitCode::Usage,
        AskError::NotYours { .. } | AskError::Message(..) | AskError::Broken(..) | AskError::NoAnswer(_) => {
            ExitCode::Failed
        }
    }
}
