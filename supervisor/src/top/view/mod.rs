//! Draws what is known, in whatever room there is.
//!
//! Pure but for the frame. From top to bottom: the supervisor, what is wrong, the pools, the workers (or all about one of them), what was
//! answered or is asked, the keys.

mod columns;
mod foot;
mod head;
mod tables;
mod worker;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::state::{Screen, Top};

/// Rows of the foot: the answer or the question, and the keys.
const FOOT_ROWS: u16 = 2;

/// Draws everything, and tells `top` how much of it fits.
pub(super) fn draw(frame: &mut Frame, top: &mut Top) {
    let head = head::lines(top);
    let rows = u16::try_from(head.len()).unwrap_or(u16::MAX);
    let areas = Layout::vertical([Constraint::Length(rows), Constraint::Min(1), Constraint::Length(FOOT_ROWS)]);
    let [above, middle, below] = areas.areas(frame.area());
    lines(frame, above, head);
    match top.screen {
        Screen::Tables => tables::draw(frame, middle, top),
        Screen::Worker { .. } => worker::draw(frame, middle, top),
        Screen::Help => lines(frame, middle, foot::help()),
    }
    let foot = foot::lines(top);
    lines(frame, below, foot);
}

fn lines(frame: &mut Frame, area: Rect, lines: Vec<Line<'static>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

/// What is chosen, where the keys are.
fn chosen() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

fn heading() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

/// The colour of a state of a supervisor, a pool or a worker.
fn of_state(state: &str) -> Style {
    match state {
        "ready" | "running" => Style::new().fg(Color::Green),
        "backoff" | "failed" | "degraded" => bad(),
        "paused" => Style::new().fg(Color::Cyan),
        // On the way from one to another.
        _ => Style::new().fg(Color::Yellow),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
