//! Words the places where a file is not TOML, and keeps what the parser then guessed from being reported.

use crate::mistakes::{Mistake, Nature, Span};

/// The mistakes of syntax, and of the others those that were surely typed.
///
/// The parser recovers by guessing. A line with broken syntax says nothing that can be relied upon; behind a
/// broken list or a broken `[table]` line, nothing does up to the next table.
pub(crate) fn beside_others(text: &str, errors: &[toml::de::Error], others: Vec<Mistake>) -> Vec<Mistake> {
    let lines = Lines::of(text);
    let mut trust = vec![Trust::Sure; lines.texts.len()];
    let mut all: Vec<Mistake> = Vec::new();
    for error in errors {
        let mistake = of_syntax(error);
        let line = lines.at(&mistake.span);
        // One slip makes the parser stumble over the rest of its line, or of its list.
        if trust[line] == Trust::Sure {
            trust[line..lines.doubt_end(line, error.message())].fill(Trust::Doubtful);
            all.push(mistake);
        }
    }
    all.extend(others.into_iter().filter(|mistake| match mistake.nature {
        Nature::Typed => trust[lines.at(&mistake.span)] == Trust::Sure,
        Nature::Syntax | Nature::Absent => false,
    }));
    all
}

/// Whether what the parser read on a line can be relied upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Sure,
    Doubtful,
}

struct Lines<'t> {
    starts: Vec<usize>,
    texts: Vec<&'t str>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Lines<'t> {
        let texts: Vec<&str> = text.split('\n').collect();
        let mut start = 0;
        let mut starts = Vec::new();
        for line in &texts {
            starts.push(start);
            start += line.len() + 1;
        }
        Lines { starts, texts }
    }

    /// The line, from 0, that a span begins on.
    fn at(&self, span: &Span) -> usize {
        self.starts.partition_point(|&start| start <= span.start).saturating_sub(1)
    }

    /// The first line behind `line` that an error does not make doubtful.
    fn doubt_end(&self, line: usize, message: &str) -> usize {
        let begins_table = |text: &&str| text.trim_start().starts_with('[');
        let spreads = message.contains("array") || self.texts.get(line).is_some_and(begins_table);
        if !spreads || message.contains("duplicate key") {
            return line + 1;
        }
        let behind = self.texts.iter().skip(line + 1).position(begins_table);
        behind.map_or(self.texts.len(), |lines| line + 1 + lines)
    }
}

fn of_syntax(error: &toml::de::Error) -> Mistake {
    let message = error.message();
    let known = ADVICE.iter().find(|(part, _, _)| message.contains(part));
    let (_, label, remedy) = known.unwrap_or(&ANY_ADVICE);
    Mistake {
        message: format!("not TOML: {message}"),
        span: error.span().unwrap_or(0..0),
        label: (*label).to_owned(),
        remedy: (*remedy).to_owned(),
        also: None,
        nature: Nature::Syntax,
    }
}

/// What helps against the parser's messages: a part of the message, the label, the remedy. Only the advice
/// depends on it: should the parser change its words, the general one is given.
const ADVICE: &[(&str, &str, &str)] = &[
    ("duplicate key", "said before", "keep one of them"),
    ("array", "the list goes wrong here", "put commas between the items of a list, and close it with ]"),
    ("unquoted key", "not part of a key", "write keys with letters, digits, _ and -"),
    ("table", "the table goes wrong here", "write tables as [name], or { key = value, … } on one line"),
    ("string", "not understood", "put texts into double quotes: \"…\""),
];
const ANY_ADVICE: (&str, &str, &str) = (
    "",
    "not understood",
    "write key = value, with texts in double quotes, lists in [ ] and tables in { } or below [name]",
);
