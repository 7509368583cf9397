//! Shows mistakes where they were made: file, line, column, caret and remedy.
//!
//! Rendering never panics, whatever the spans: they are cut to the text, to characters and to one line.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::limits::MISTAKES_SHOWN_MAX;

/// Where something stands in the text, in bytes.
pub type Span = Range<usize>;

/// Everything that is wrong with one configuration file. Its `Display` is the plain rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    file: PathBuf,
    text: String,
    list: Vec<Mistake>,
}

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong, beginning with the key.
    pub message: String,
    /// Where the caret goes.
    pub span: Span,
    /// What stands beside the caret.
    pub label: String,
    /// What to do.
    pub remedy: String,
    /// A second place that belongs to it, and what to say there.
    pub also: Option<(Span, String)>,
    pub(crate) nature: Nature,
}

/// What kind of mistake it is: decides what is worth saying in a file that is not even TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// It is not TOML.
    Syntax,
    /// Something was typed that is wrong.
    Typed,
    /// Something was not typed that is needed.
    Absent,
}

/// A mistake that does not know its place yet: a rule found it, a file or a flag will say where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What is wrong, as a fragment that follows the name of the key.
    pub(crate) message: String,
    /// What stands beside the caret.
    pub(crate) label: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// Whether a rendering carries terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// ANSI escapes, for a terminal.
    Ansi,
    /// Nothing but text.
    Plain,
}

impl Mistakes {
    pub(crate) fn new(file: &Path, text: &str, mut list: Vec<Mistake>) -> Mistakes {
        assert!(!list.is_empty(), "a file was refused and nobody said why");
        // Mistakes come from several passes; people read a file from top to bottom.
        list.sort_by_key(|mistake| mistake.span.start);
        Mistakes { file: file.to_owned(), text: text.to_owned(), list }
    }

    /// Each of them, from the top of the file to its end.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// The file as it is called in messages.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// All of them in the form of a compiler's errors, with a closing line that counts them.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        let mut out = String::new();
        for mistake in self.list.iter().take(MISTAKES_SHOWN_MAX) {
            out.push_str(&self.render_one(mistake, colour));
            out.push_str("\n\n");
        }
        if let Some(hidden) = self.list.len().checked_sub(MISTAKES_SHOWN_MAX).filter(|&hidden| hidden > 0) {
            out.push_str(&format!("… and {hidden} more, not shown\n\n"));
        }
        let noun = if self.list.len() == 1 { "mistake" } else { "mistakes" };
        out.push_str(&format!("{}: {} {noun}\n", self.shown_file(), self.list.len()));
        out
    }

    fn render_one(&self, mistake: &Mistake, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Ansi => Renderer::styled(),
            Colour::Plain => Renderer::plain(),
        };
        let title = Level::ERROR.primary_title(visible(&mistake.message));
        let span = self.on_one_line(&mistake.span);
        let also = mistake.also.as_ref().map(|(place, label)| (self.on_one_line(place), label));
        let shown = self.lines_of(&span, also.as_ref().map(|(place, _)| place));
        let mut snippet = Snippet::source(&self.text[shown.clone()])
            .line_start(self.line_number(shown.start))
            .path(self.shown_file())
            .annotation(
                AnnotationKind::Primary.span(within(&span, &shown)).label(visible(&mistake.label).into_owned()),
            );
        if let Some((place, label)) = also {
            let mark = AnnotationKind::Context.span(within(&place, &shown));
            snippet = snippet.annotation(mark.label(visible(label).into_owned()));
        }
        renderer.render(&[title.element(snippet).element(Level::HELP.message(visible(&mistake.remedy)))])
    }

    /// Cuts a span to the text, to whole characters and to the line that it begins on.
    fn on_one_line(&self, span: &Span) -> Span {
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let line_end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let line_end = if self.text[start..line_end].ends_with('\r') { line_end - 1 } else { line_end };
        let end = self.text.ceil_char_boundary(span.end.min(self.text.len()));
        start..end.clamp(start, line_end)
    }

    /// The whole lines from the first to the last of the places: the renderer's cost must not grow with the file.
    fn lines_of(&self, span: &Span, also: Option<&Span>) -> Span {
        let first = also.map_or(span.start, |also| also.start.min(span.start));
        let last = also.map_or(span.end, |also| also.end.max(span.end));
        let start = self.text[..first].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[last..].find('\n').map_or(self.text.len(), |at| last + at);
        start..end
    }

    fn line_number(&self, offset: usize) -> usize {
        1 + self.text[..offset].bytes().filter(|&byte| byte == b'\n').count()
    }

    fn shown_file(&self) -> String {
        visible(&self.file.to_string_lossy()).into_owned()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Colour::Plain))
    }
}

impl std::error::Error for Mistakes {}

impl Fault {
    pub(crate) fn new(message: impl Into<String>, label: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { message: message.into(), label: label.into(), remedy: remedy.into() }
    }

    /// A value of the contract that this release has no code for.
    pub(crate) fn not_yet(what: &str) -> Fault {
        Fault::new(format!("{what} is not yet supported"), "not yet supported", "remove it")
    }

    /// Puts it where `key` was typed.
    pub(crate) fn at(self, key: &str, span: Span) -> Mistake {
        Mistake {
            message: format!("{key}: {}", self.message),
            span,
            label: self.label,
            remedy: self.remedy,
            also: None,
            nature: Nature::Typed,
        }
    }
}

fn within(span: &Span, shown: &Span) -> Span {
    span.start - shown.start..span.end - shown.start
}

/// Control characters, which a message may quote from the file, must not reach the terminal.
fn visible(text: &str) -> std::borrow::Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}
