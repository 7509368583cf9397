//! `ostler top`: shows a supervisor as it goes on, and lets whoever watches steer it.
//!
//! What is shown comes from the scoreboard (`source.rs`), so that nobody is asked and a supervisor that is stopped, busy or
//! dead is shown as well. What is steered goes through the control socket, on a thread of its own each (`errands.rs`), so that the
//! screen never waits.
//!
//! ```text
//!  scoreboard ──► Source ──► History ──► rows ──┐
//!  keyboard ────► keys ────► Top ───────────────┴──► view ──► terminal
//!  control socket ◄── Errands ◄── Top
//! ```
//!
//! Everything but `source.rs`, `errands.rs`, `stage.rs` and the loop in here is pure.

mod arrange;
mod details;
mod errands;
mod history;
mod keys;
mod order;
mod rows;
#[cfg(test)]
mod sample;
mod source;
mod stage;
mod state;
mod view;
pub(crate) mod words;

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyEventKind};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exit::ExitCode;
use errands::Errands;
use source::Source;
use stage::Stage;
use state::{Effect, Top};

/// How often the scoreboard is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a signal or an answer may wait until it is noticed.
const NOTICE_WITHIN: Duration = Duration::from_millis(100);
/// How long leaving may take after a signal, before it is forced.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Why it ended, where nobody asked for that.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopError {
    /// The terminal can't be had, or is gone.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// Nobody would tell it to end.
    #[error("cannot prepare for Ctrl-C: {0}")]
    Signals(#[source] ctrlc::Error),
}

/// Shows the supervisor with this control socket until somebody has seen enough.
///
/// # Errors
/// [`TopError`]; the terminal is as it was before.
///
/// # Panics
/// When a thread of an errand has panicked: the terminal is its owner's again first.
pub(crate) fn run(control: PathBuf) -> Result<(), TopError> {
    // Keys come as keys, Ctrl-C too. This is for signals from elsewhere: TERM, and HUP when the terminal goes.
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    ctrlc::set_handler(move || leave_soon(&flag)).map_err(TopError::Signals)?;
    let flag = Arc::clone(&ended);
    let named = std::thread::Builder::new().name("terminal".to_owned());
    named.spawn(move || leave_at_hang_up(&flag)).map_err(TopError::Terminal)?;
    let mut stage = Stage::enter().map_err(TopError::Terminal)?;
    let watched = watch(control, &mut stage, &ended);
    let left = stage.leave();
    watched.and(left).map_err(TopError::Terminal)
}

/// Asks the loop to leave, and leaves without it when it does not: crossterm goes on reading from a terminal that has hung up, and never
/// comes back.
fn leave_soon(ended: &AtomicBool) {
    ended.store(true, Ordering::Relaxed);
    std::thread::sleep(LEAVE_WITHIN);
    let _restored = ratatui::try_restore();
    std::process::exit(i32::from(ExitCode::Failed as u8));
}

/// Waits until the terminal has hung up. Who has been started by something that ignores HUP is not told otherwise.
fn leave_at_hang_up(ended: &AtomicBool) {
    let stdin = io::stdin();
    loop {
        let mut terminal = [PollFd::new(stdin.as_fd(), PollFlags::empty())];
        match poll(&mut terminal, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            // Nothing else was asked for: it has hung up, or nothing is known of it any more.
            Ok(_) | Err(_) => return leave_soon(ended),
        }
    }
}

/// Looks, draws, and waits for a key, a change of size or the time to look again.
fn watch(control: PathBuf, stage: &mut Stage, ended: &AtomicBool) -> io::Result<()> {
    let mut source = Source::of(&control);
    let mut errands = Errands::to(control);
    let mut top = Top::default();
    let mut next_look = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        if Instant::now() >= next_look {
            top.look(source.look());
            if let Some(subject) = top.wants_details() {
                errands.ask_details(subject);
            }
            next_look = Instant::now() + LOOK_EVERY;
        }
        errands.news().into_iter().for_each(|news| top.hear(news));
        stage.draw(|frame| view::draw(frame, &mut top))?;
        let until_look = next_look.saturating_duration_since(Instant::now());
        if !event::poll(until_look.min(NOTICE_WITHIN))? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        let effect = if key.kind == KeyEventKind::Release { Effect::Nothing } else { top.key(key) };
        match effect {
            Effect::Nothing => {}
            Effect::Leave => return Ok(()),
            Effect::Run(order) => errands.run(order),
            Effect::LookNow => next_look = Instant::now(),
        }
    }
    Ok(())
}
