//! `ostler logs`: shows the lines that a supervisor keeps in memory, and those that come.

use std::io::{self, IsTerminal, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ask::{Show, explain, finish, whereabouts};
use super::say;
use crate::cli::Place;
use crate::control::client::Answers;
use crate::control::protocol::{Follow, Line, Request, Response, Target};
use crate::exit::ExitCode;
use crate::logging::format::{Look, render};

pub(crate) fn logs(place: Place, target: Option<Target>, lines: u32, follow: Follow, show: Show) -> ExitCode {
    let (pool, slot) = match target {
        Some(target) => (Some(target.pool.to_string()), target.slot.map(|slot| slot.0)),
        None => (None, None),
    };
    let answers = match whereabouts(place).ask(&Request::Logs { pool, slot, lines, follow }) {
        Ok(answers) => answers,
        Err(error) => return explain(&error),
    };
    let interrupted = match interruption(&answers) {
        Ok(interrupted) => interrupted,
        Err(why) => return say::failed(&why),
    };
    read(answers, look(show), follow, &interrupted)
}

fn look(show: Show) -> Look {
    match show {
        Show::Json => Look::Json,
        Show::Text if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() => Look::Coloured,
        Show::Text => Look::Plain,
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

fn read(mut answers: Answers, look: Look, follow: Follow, interrupted: &AtomicBool) -> ExitCode {
    loop {
        let response = match follow {
            Follow::On => answers.next(),
            Follow::No => answers.next_soon(),
        };
        let printed = match response {
            Ok(Response::Lines(lines)) => print(&lines, look),
            Ok(Response::Missed(count)) => {
                say::complain(&format!("{count} lines are missing here: they came faster than they were read"));
                Ok(())
            }
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
        };
        match printed {
            Ok(()) => {}
            // Nobody wanted the rest.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::Done,
            Err(error) => return say::failed(&format!("cannot write to standard output: {error}")),
        }
    }
}

fn print(lines: &[Line], look: Look) -> io::Result<()> {
    let mut out = Vec::new();
    lines.iter().for_each(|line| render(line, look, &mut out));
    let mut stdout = io::stdout().lock();
    stdout.write_all(&out)?;
    stdout.flush()
}
