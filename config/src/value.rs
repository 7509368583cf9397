//! Reads single values: numbers within limits, durations, words; and words the refusal of a wrong type.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use crate::duration::{format_duration, parse_duration, without_unit};
use crate::mistakes::Fault;
use crate::nearest::nearest;
use crate::words::Words;

/// What `on_timeout` and `overflow` take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WordOrReply<'t> {
    /// A word.
    Word(&'t str),
    /// The text of `{ reply = "…" }`.
    Reply(&'t str),
}

/// What `canary` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum YesOrNo {
    /// `true`.
    Yes,
    /// `false`.
    No,
}

/// What `surge` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountOrPercent {
    /// A number.
    Count(u32),
    /// A text such as `"25%"`.
    Percent(u32),
}

/// Picks the meaning of a word; `later` are the words that are not built yet.
pub(crate) fn choose<T: Copy>(typed: &str, words: Words<T>, later: &[&str]) -> Result<T, Fault> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == typed) {
        return Ok(*meaning);
    }
    let known = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    if later.contains(&typed) {
        return Err(Fault { remedy: format!("write {known}, or remove it"), ..Fault::not_yet(&format!("{typed:?}")) });
    }
    let remedy = match nearest(typed, words.iter().map(|(word, _)| *word)) {
        Some(word) => format!("did you mean {word:?}?"),
        None => format!("write one of {known}"),
    };
    Err(Fault::new(format!("{typed:?} is none of {known}"), "unknown word", remedy))
}

pub(crate) fn duration_of(value: &DeValue<'_>, least: Duration, example: &str) -> Result<Duration, Fault> {
    match value {
        DeValue::String(text) => {
            let duration = parse_duration(text)?;
            if duration < least {
                let least = format_duration(least);
                let message = format!("{text:?} is too short, the least is {least}");
                return Err(Fault::new(message, "too short", format!("write at least \"{least}\"")));
            }
            Ok(duration)
        }
        DeValue::Integer(number) => Err(without_unit(&number.to_string())),
        other => Err(wrong_type(other, "a duration", example)),
    }
}

pub(crate) fn within<T>(digits: &str, radix: u32, range: &RangeInclusive<T>) -> Result<T, Fault>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    let (least, most) = (range.start(), range.end());
    match i128::from_str_radix(digits, radix).ok().and_then(|number| T::try_from(number).ok()) {
        Some(number) if range.contains(&number) => Ok(number),
        Some(_) | None => Err(Fault::new(
            format!("{digits} is outside its limits, which are {least} and {most}"),
            "outside its limits",
            format!("write a number from {least} to {most}"),
        )),
    }
}

/// A percentage from 1 to 100.
pub(crate) fn percent(text: &str, example: &str) -> Result<u32, Fault> {
    match text.strip_suffix('%').map(str::trim_end) {
        Some(digits) => within(digits, 10, &(1..=100)),
        None => Err(Fault::new(format!("{text:?} is no percentage"), "expected a percentage", like(example))),
    }
}

pub(crate) fn wrong_type(value: &DeValue<'_>, wanted: &str, example: &str) -> Fault {
    let is = match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Fault::new(format!("expected {wanted}, found {is}"), format!("expected {wanted}"), like(example))
}

pub(crate) fn like(example: &str) -> String {
    format!("write it like this: {example}")
}

/// A command or an address that was typed as one text, as the list that it should be.
pub(crate) fn as_list(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(", "))
}
