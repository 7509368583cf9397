//! Says what each key means.
//!
//! Pure. The list that `?` shows is made of the same table.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for while nothing is typed and nothing is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Leave,
    Back,
    Move(Step),
    SwitchFocus,
    Open,
    NextOrder,
    LastOrder,
    Turn,
    Filter,
    Recycle,
    PauseOrResume,
    More,
    Fewer,
    Count,
    LookNow,
    Help,
}

/// How far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// The keys, as the help lists them: which, and what they do.
pub(super) const HELP: [(&str, &str); 15] = [
    ("↑ ↓ j k", "one row up or down; PgUp, PgDn, Home, End as well"),
    ("Tab", "between pools and workers"),
    ("Enter", "of a pool its workers alone, of a worker all about it"),
    ("Esc", "back: out of a worker, a pool, a filter"),
    ("/", "show only rows with these words: name, state, pid"),
    ("s S", "sort by the next column, or the one before"),
    ("o", "sort the other way round"),
    ("r", "recycle: replace the worker, or all of the pool"),
    ("p", "pause: drain the pool's workers, let clients wait; or resume"),
    ("+ -", "one worker more, or fewer, for the pool"),
    ("n", "as many workers as you type"),
    ("y", "yes, when you are asked; any other key is no"),
    ("Space", "look again at once"),
    ("?", "this"),
    ("q Ctrl-C", "leave"),
];

/// Whether Ctrl-C was pressed, which ends it wherever one is.
pub(super) fn is_interrupt(key: KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'C'))
}

/// What this key asks for, if it has a meaning.
pub(super) fn command(key: KeyEvent) -> Option<Command> {
    if is_interrupt(key) {
        return Some(Command::Leave);
    }
    if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
        return None;
    }
    // The codes are crossterm's, and there will be more of them.
    match key.code {
        KeyCode::Char('q') => Some(Command::Leave),
        KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => Some(Command::Back),
        KeyCode::Up | KeyCode::Char('k') => Some(Command::Move(Step::Up)),
        KeyCode::Down | KeyCode::Char('j') => Some(Command::Move(Step::Down)),
        KeyCode::PageUp => Some(Command::Move(Step::PageUp)),
        KeyCode::PageDown => Some(Command::Move(Step::PageDown)),
        KeyCode::Home | KeyCode::Char('g') => Some(Command::Move(Step::First)),
        KeyCode::End | KeyCode::Char('G') => Some(Command::Move(Step::Last)),
        KeyCode::Tab | KeyCode::BackTab => Some(Command::SwitchFocus),
        KeyCode::Enter | KeyCode::Right => Some(Command::Open),
        KeyCode::Char('s') => Some(Command::NextOrder),
        KeyCode::Char('S') => Some(Command::LastOrder),
        KeyCode::Char('o') => Some(Command::Turn),
        KeyCode::Char('/') => Some(Command::Filter),
        KeyCode::Char('r') => Some(Command::Recycle),
        KeyCode::Char('p') => Some(Command::PauseOrResume),
        KeyCode::Char('+') => Some(Command::More),
        KeyCode::Char('-') => Some(Command::Fewer),
        KeyCode::Char('n') => Some(Command::Count),
        KeyCode::Char(' ') => Some(Command::LookNow),
        KeyCode::Char('?' | 'h') => Some(Command::Help),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_help_has_a_meaning() {
        let single = HELP.iter().flat_map(|(keys, _)| keys.split(' ')).filter(|key| key.chars().count() == 1);
        for key in single.filter(|key| !["↑", "↓", "y"].contains(key)) {
            let letter = key.chars().next().unwrap();
            assert!(command(KeyEvent::from(KeyCode::Char(letter))).is_some(), "{key}");
        }
    }

    #[test]
    fn ctrl_c_leaves_and_other_chords_do_nothing() {
        let chord = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        assert_eq!(command(chord('c')), Some(Command::Leave));
        assert_eq!(command(chord('r')), None, "nobody recycles by Ctrl-R");
    }
}
