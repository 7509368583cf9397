//! Knows what may be drawn where: colour and moving lines belong on a terminal, and nowhere else.

use std::io::{self, IsTerminal};

use terminal_size::{Height, Width};

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Lines.
    pub(crate) rows: usize,
    /// Characters in a line.
    pub(crate) columns: usize,
}

/// What is assumed of a terminal that does not tell.
const USUAL_SIZE: Size = Size { rows: 24, columns: 80 };

/// What a stream that people may read from can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Canvas {
    /// Lines, one after the other: a pipe, a file, or a terminal that can do no more.
    Plain,
    /// Lines that can be drawn anew.
    Terminal(Ink),
}

/// Whether a terminal shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    Colours,
    /// `NO_COLOR` is set, and not to nothing (<https://no-color.org>).
    None,
}

/// What a colour means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It went, or goes, as it should.
    Good,
    /// It is under way.
    Busy,
    /// It failed.
    Bad,
}

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Terminal,
    Other,
}

fn canvas(kind: Kind, env: &dyn Fn(&str) -> Option<String>) -> Canvas {
    // Without a name nobody knows what it understands.
    if kind == Kind::Other || env("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        return Canvas::Plain;
    }
    let wants_none = env("NO_COLOR").is_some_and(|value| !value.is_empty());
    Canvas::Terminal(if wants_none { Ink::None } else { Ink::Colours })
}

impl Canvas {
    /// What standard error is.
    pub(crate) fn of_stderr() -> Canvas {
        Canvas::of(io::stderr().is_terminal())
    }

    /// What standard output is.
    pub(crate) fn of_stdout() -> Canvas {
        Canvas::of(io::stdout().is_terminal())
    }

    fn of(is_terminal: bool) -> Canvas {
        let kind = if is_terminal { Kind::Terminal } else { Kind::Other };
        canvas(kind, &|key| std::env::var_os(key).map(|value| value.to_string_lossy().into_owned()))
    }

    /// The text in the colour of its tone, where there are colours.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Busy => 33,
            Tone::Bad => 31,
        };
        match self {
            Canvas::Terminal(Ink::Colours) => format!("\x1b[{code}m{text}\x1b[0m"),
            Canvas::Terminal(Ink::None) | Canvas::Plain => text.to_owned(),
        }
    }
}

/// How large the terminal at standard error is now.
pub(crate) fn size_of_stderr() -> Size {
    match terminal_size::terminal_size_of(io::stderr()) {
        Some((Width(columns), Height(rows))) if columns > 0 && rows > 0 => {
            Size { rows: usize::from(rows), columns: usize::from(columns) }
        }
        Some(_) | None => USUAL_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let on = |term: Option<&str>, no_color: Option<&str>| {
            canvas(Kind::Terminal, &|key| match key {
                "TERM" => term.map(str::to_owned),
                "NO_COLOR" => no_color.map(str::to_owned),
                other => panic!("{other} does not matter"),
            })
        };
        assert_eq!(on(Some("xterm"), None), Canvas::Terminal(Ink::Colours));
        assert_eq!(on(Some("xterm"), Some("")), Canvas::Terminal(Ink::Colours), "set to nothing it does not count");
        assert_eq!(on(Some("xterm"), Some("1")), Canvas::Terminal(Ink::None));
        assert_eq!(on(Some("dumb"), None), Canvas::Plain);
        assert_eq!(on(None, None), Canvas::Plain);
        assert_eq!(canvas(Kind::Other, &|_| Some("xterm".to_owned())), Canvas::Plain);
    }

    #[test]
    fn only_colours_paint() {
        assert_eq!(Canvas::Terminal(Ink::Colours).paint(Tone::Bad, "undone"), "\x1b[31mundone\x1b[0m");
        assert_eq!(Canvas::Terminal(Ink::None).paint(Tone::Bad, "undone"), "undone");
        assert_eq!(Canvas::Plain.paint(Tone::Bad, "undone"), "undone");
    }
}
