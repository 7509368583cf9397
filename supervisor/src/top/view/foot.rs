//! Draws what is asked, typed or was answered, and the keys.

use ratatui::style::Style;
use ratatui::text::Line;

use super::super::keys::HELP;
use super::super::state::{Focus, Message, Prompt, Screen, Top};
use super::super::words::plain;
use super::{bad, chosen, heading};

pub(super) fn lines(top: &Top) -> Vec<Line<'static>> {
    vec![answer(top), Line::styled(keys(top), Style::new())]
}

fn answer(top: &Top) -> Line<'static> {
    match (&top.prompt, &top.message) {
        (Prompt::Confirm(order), _) => Line::styled(plain(&format!("{} (y/n)", order.question())), chosen()),
        (Prompt::Filter, _) => Line::styled(format!("with: {}▏", plain(&top.arrangement.filter)), chosen()),
        (Prompt::Count { pool, digits }, _) => {
            Line::styled(format!("how many workers for {}? {digits}▏", plain(pool)), chosen())
        }
        (Prompt::None, Some(Message::Plain(text))) => Line::styled(one_line(text), Style::new()),
        (Prompt::None, Some(Message::Bad(text))) => Line::styled(one_line(text), bad()),
        (Prompt::None, None) => Line::default(),
    }
}

/// An answer may have several.
fn one_line(text: &str) -> String {
    plain(&text.lines().map(str::trim).collect::<Vec<_>>().join("; "))
}

fn keys(top: &Top) -> &'static str {
    match (&top.prompt, &top.screen, top.focus) {
        (Prompt::Confirm(_), _, _) => "y yes · any other key no",
        (Prompt::Filter, _, _) => "Enter keep · Esc show all",
        (Prompt::Count { .. }, _, _) => "Enter go on · Esc leave it",
        (Prompt::None, Screen::Worker { .. }, _) => {
            "Esc back · ↑↓ scroll · r recycle · p pause · +-n scale · ? keys · q leave"
        }
        (Prompt::None, Screen::Help, _) => "Esc back · q leave",
        (Prompt::None, Screen::Tables, Focus::Workers) => {
            "Enter open · Tab pools · / find · s sort · r recycle · p pause · +-n scale · ? q"
        }
        (Prompt::None, Screen::Tables, Focus::Pools) => {
            "Enter open · Tab workers · r recycle · p pause · +-n scale · ? keys · q leave"
        }
    }
}

pub(super) fn help() -> Vec<Line<'static>> {
    let keys = HELP.iter().map(|(keys, what)| Line::from(format!("  {keys:<9} {what}")));
    std::iter::once(Line::styled("keys", heading())).chain(keys).collect()
}
