//! `ostler logs`: shows the lines that a supervisor keeps in memory, and those that come.

use std::io::{self, IsTerminal};

use super::ask::Show;
use super::lines::read_lines;
use super::say;
use crate::cli::Place;
use crate::control::protocol::{Follow, Line, Request, Target};
use crate::exit::ExitCode;
use crate::logging::format::{Look, render};

pub(crate) fn logs(place: Place, target: Option<Target>, lines: u32, follow: Follow, show: Show) -> ExitCode {
    let (pool, slot) = match target {
        Some(target) => (Some(target.pool.to_string()), target.slot.map(|slot| slot.0)),
        None => (None, None),
    };
    let look = look(show);
    let request = Request::Logs { pool, slot, lines, follow };
    let missing = "lines are missing here: they came faster than they were read";
    read_lines(place, &request, follow, missing, |lines| print(lines, look))
}

fn look(show: Show) -> Look {
    match show {
        Show::Json => Look::Json,
        Show::Text if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() => Look::Coloured,
        Show::Text => Look::Plain,
    }
}

pub(super) fn print(lines: &[Line], look: Look) -> Result<(), ExitCode> {
    let mut out = Vec::new();
    lines.iter().for_each(|line| render(line, look, &mut out));
    say::piece(&out)
}
