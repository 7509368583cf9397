//! Reads lines of the supervisor, as it has them or as they come, until they end, nobody wants them, or Ctrl-C.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ask::{explain, finish, whereabouts};
use super::say;
use crate::cli::Place;
use crate::control::client::Answers;
use crate::control::protocol::{Follow, Line, Request, Response};
use crate::exit::ExitCode;

/// Puts a request that is answered by lines, and gives them to `print` as they come. `missing` says what it means that some are
/// not there, behind their number.
pub(super) fn read_lines(
    place: Place,
    request: &Request,
    follow: Follow,
    missing: &str,
    print: impl FnMut(&[Line]) -> Result<(), ExitCode>,
) -> ExitCode {
    let answers = match whereabouts(place).ask(request) {
        Ok(answers) => answers,
        Err(error) => return explain(&error),
    };
    match interruption(&answers) {
        Ok(interrupted) => read(answers, follow, missing, &interrupted, print),
        Err(why) => say::failed(&why),
    }
}

/// Becomes true at Ctrl-C, which ends the conversation, so that whole lines are printed. A second one, for who waits to
/// print, ends at once.
fn interruption(answers: &Answers) -> Result<Arc<AtomicBool>, String> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (flag, connection) = (Arc::clone(&interrupted), answers.handle().map_err(|error| error.to_string())?);
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(ExitCode::Done as u8));
        }
        let _ended = connection.shutdown(Shutdown::Both);
    };
    ctrlc::set_handler(handler).map_err(|error| format!("cannot prepare for Ctrl-C: {error}"))?;
    Ok(interrupted)
}

fn read(
    mut answers: Answers,
    follow: Follow,
    missing: &str,
    interrupted: &AtomicBool,
    mut print: impl FnMut(&[Line]) -> Result<(), ExitCode>,
) -> ExitCode {
    loop {
        let response = match follow {
            Follow::On => answers.next(),
            Follow::No => answers.next_soon(),
        };
        match response {
            Ok(Response::Lines(lines)) => {
                if let Err(end) = print(&lines) {
                    return end;
                }
            }
            Ok(Response::Missed(count)) => say::complain(&format!("{count} {missing}")),
            Ok(Response::Done { text, exit }) if exit == ExitCode::Done as u8 => {
                if !text.is_empty() {
                    say::complain(&text);
                }
                return ExitCode::Done;
            }
            Ok(Response::Done { text, exit }) => return finish(&text, exit),
            Ok(Response::Progress(_) | Response::Report(_)) => {
                return say::failed("the supervisor answered another question than the one that was put");
            }
            Err(_) if interrupted.load(Ordering::Relaxed) => return ExitCode::Done,
            Err(error) => return explain(&error),
        }
    }
}
