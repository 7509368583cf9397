//! Says what was typed: tables, keys and values, each with its place in the file.
//!
//! Refuses keys that nobody knows, keys that are not built yet, and values of the wrong type. What a value
//! means is the business of `check`.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::asked::{Asked, Typed};
use crate::keys::{self, Found};
use crate::mistakes::{Fault, Mistake, Nature, Span};
use crate::nearest::nearest;
use crate::value::{
    CountOrPercent, WordOrReply, YesOrNo, as_list, choose, duration_of, like, percent, within, wrong_type,
};
use crate::words::Words;

/// A table of the file, with nothing in it but known keys.
#[derive(Debug)]
pub(crate) struct RawTable<'t> {
    /// Its path in the table of keys, such as `pool.NAME.socket`.
    scope: String,
    /// Its path in the file, such as `pool.web.socket`.
    shown: String,
    /// Where its name stands; in a table that is not there, nowhere.
    place: Span,
    /// Keys that a misspelt one probably meant: nobody should also hear that they are missing.
    guessed: Vec<&'static str>,
    entries: Vec<Entry<'t>>,
}

/// What was typed for a key that takes a table or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing.
    Absent,
    /// A table.
    Table,
    /// Anything else.
    Value,
}

#[derive(Debug)]
struct Entry<'t> {
    name: &'t str,
    name_span: Span,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> RawTable<'t> {
    /// The file itself.
    pub(crate) fn root(table: &'t DeTable<'t>, mistakes: &mut Vec<Mistake>) -> RawTable<'t> {
        RawTable::open(String::new(), String::new(), 0..0, table, mistakes)
    }

    /// The table under `name`; empty when it is not there or not a table.
    pub(crate) fn table(&self, name: &str, mistakes: &mut Vec<Mistake>) -> RawTable<'t> {
        let (scope, shown) = (keys::join(&self.scope, name), keys::join(&self.shown, name));
        match self.entry(name) {
            Some(entry) => RawTable::of_value(scope, shown, entry, mistakes),
            None => RawTable { scope, shown, place: 0..0, guessed: Vec::new(), entries: Vec::new() },
        }
    }

    /// What was typed under `name`.
    pub(crate) fn shape(&self, name: &str) -> Shape {
        match self.entry(name).map(|entry| entry.value.get_ref()) {
            None => Shape::Absent,
            Some(DeValue::Table(_)) => Shape::Table,
            Some(_) => Shape::Value,
        }
    }

    /// The path of `name` as people write it.
    pub(crate) fn path_of(&self, name: &str) -> String {
        keys::join(&self.shown, name)
    }

    /// Reports that `name` must be said, unless somebody tried to.
    pub(crate) fn lacks(&self, name: &str, mistakes: &mut Vec<Mistake>) {
        if self.guessed.contains(&name) {
            return;
        }
        mistakes.push(Mistake {
            message: format!("{} has no `{name}`", self.shown),
            span: self.place.clone(),
            label: format!("`{name}` is missing"),
            remedy: format!("add {}", self.example(name)),
            also: None,
            nature: Nature::Absent,
        });
    }

    /// Reports something about the value of `name`, if one was typed.
    pub(crate) fn refuse(&self, name: &str, fault: Fault) -> Option<Mistake> {
        self.entry(name).map(|entry| fault.at(&self.path_of(name), entry.value.span()))
    }

    /// Reports that the file has no pool, unless somebody tried to write one.
    pub(crate) fn lacks_pool(&self, mistakes: &mut Vec<Mistake>) {
        if self.guessed.contains(&"pool") {
            return;
        }
        mistakes.push(Mistake {
            message: "there is no pool".to_owned(),
            span: 0..0,
            label: "a pool is missing".to_owned(),
            remedy: format!("add [pool.web] with {}", keys::known("pool.NAME.listen").example),
            also: None,
            nature: Nature::Absent,
        });
    }

    /// Each table under `name`, whose keys are names of the user's choice, in the order of the file.
    pub(crate) fn tables(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Vec<(Typed<&'t str>, RawTable<'t>)> {
        let scope = format!("{}.NAME", keys::join(&self.scope, name));
        let mut found = Vec::new();
        for entry in self.named(name, "[pool.web]", mistakes) {
            let shown = format!("{}.{}", keys::join(&self.shown, name), entry.name);
            let typed = Typed { value: entry.name, span: entry.name_span.clone(), path: shown.clone() };
            found.push((typed, RawTable::of_value(scope.clone(), shown, &entry, mistakes)));
        }
        found
    }

    /// Each text under `name`, whose keys are names of the user's choice.
    pub(crate) fn named_texts(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Vec<(Typed<&'t str>, Typed<&'t str>)> {
        let mut found = Vec::new();
        let example = self.example(name);
        for (key, typed) in self.named_values(name, mistakes) {
            match typed.value {
                DeValue::String(text) => found.push((key, typed.with(text.as_ref()))),
                other => mistakes.push(typed.refuse(wrong_type(other, "text", example))),
            }
        }
        found
    }

    /// Each value under `name`, whose keys are names of the user's choice.
    pub(crate) fn named_values(
        &self,
        name: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Vec<(Typed<&'t str>, Typed<&'t DeValue<'t>>)> {
        let example = self.example(name);
        let pair = |entry: Entry<'t>| {
            let path = format!("{}.{}", keys::join(&self.shown, name), entry.name);
            let key = Typed { value: entry.name, span: entry.name_span, path: path.clone() };
            (key, Typed { value: entry.value.get_ref(), span: entry.value.span(), path })
        };
        self.named(name, example, mistakes).into_iter().map(pair).collect()
    }

    /// A text.
    pub(crate) fn text(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Asked<&'t str> {
        self.read(name, mistakes, |value, example| match value {
            DeValue::String(text) => Ok(text.as_ref()),
            other => Err(wrong_type(other, "text", example)),
        })
    }

    /// A whole number within limits.
    pub(crate) fn whole(&self, name: &str, range: RangeInclusive<u32>, mistakes: &mut Vec<Mistake>) -> Asked<u32> {
        self.read(name, mistakes, |value, example| match value {
            DeValue::Integer(number) => within(number.as_str(), number.radix(), &range),
            other => Err(wrong_type(other, "a whole number", example)),
        })
    }

    /// A whole number within limits that may be below zero.
    pub(crate) fn signed(&self, name: &str, range: RangeInclusive<i32>, mistakes: &mut Vec<Mistake>) -> Asked<i32> {
        self.read(name, mistakes, |value, example| match value {
            DeValue::Integer(number) => within(number.as_str(), number.radix(), &range),
            other => Err(wrong_type(other, "a whole number", example)),
        })
    }

    /// Whatever `read` makes of it, given an example of a good one.
    pub(crate) fn value<T>(
        &self,
        name: &str,
        mistakes: &mut Vec<Mistake>,
        read: impl FnOnce(&'t DeValue<'t>, &'static str) -> Result<T, Fault>,
    ) -> Asked<T> {
        self.read(name, mistakes, read)
    }

    /// A duration of at least `least`.
    pub(crate) fn duration(&self, name: &str, least: Duration, mistakes: &mut Vec<Mistake>) -> Asked<Duration> {
        self.read(name, mistakes, |value, example| duration_of(value, least, example))
    }

    /// Two durations, each at least `least`.
    pub(crate) fn two_durations(
        &self,
        name: &str,
        least: Duration,
        mistakes: &mut Vec<Mistake>,
    ) -> Asked<(Duration, Duration)> {
        let example = self.example(name);
        let list = match self.list(name, mistakes) {
            Asked::Nothing => return Asked::Nothing,
            Asked::Wrong => return Asked::Wrong,
            Asked::For(list) => list,
        };
        let [first, second] = list.value.as_slice() else {
            let count = list.value.len();
            let fault = Fault::new(format!("has {count} durations, 2 are needed"), "expected two", like(example));
            mistakes.push(list.refuse(fault));
            return Asked::Wrong;
        };
        let mut read = |item: &Typed<&'t DeValue<'t>>| match duration_of(item.value, least, example) {
            Ok(duration) => Some(duration),
            Err(fault) => {
                mistakes.push(item.refuse(fault));
                None
            }
        };
        match (read(first), read(second)) {
            (Some(first), Some(second)) => Asked::For(list.with((first, second))),
            (_, _) => Asked::Wrong,
        }
    }

    /// A list of texts. Items of another type are reported and make the whole list wrong.
    pub(crate) fn texts(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Asked<Vec<Typed<&'t str>>> {
        self.list_of(name, mistakes, |value, example| match value {
            DeValue::String(text) => Ok(text.as_ref()),
            other => Err(wrong_type(other, "text", example)),
        })
    }

    /// Whether the value is a list that has lists in it.
    pub(crate) fn is_list_of_lists(&self, name: &str) -> bool {
        match self.entry(name).map(|entry| entry.value.get_ref()) {
            Some(DeValue::Array(items)) => items.iter().any(|item| matches!(item.get_ref(), DeValue::Array(_))),
            Some(_) | None => false,
        }
    }

    /// A list of lists of texts. Items of another type are reported and make all of it wrong.
    pub(crate) fn lists_of_texts(
        &self,
        name: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Asked<Vec<Typed<Vec<Typed<&'t str>>>>> {
        let before = mistakes.len();
        let lists = self.list_of(name, mistakes, |value, _| match value {
            DeValue::Array(items) => Ok(items),
            other => Err(wrong_type(other, "a list, as the others are", EXAMPLE_OF_PIPELINE)),
        });
        let Asked::For(lists) = lists else { return lists.understand(mistakes, |_| Ok(Vec::new())) };
        let mut read = |list: &Typed<&'t DeArray<'t>>| {
            let mut words = Vec::new();
            for item in list.value {
                let typed = Typed { value: item.get_ref(), span: item.span(), path: list.path.clone() };
                match typed.value {
                    DeValue::String(text) => words.push(typed.with(text.as_ref())),
                    other => mistakes.push(typed.refuse(wrong_type(other, "text", EXAMPLE_OF_PIPELINE))),
                }
            }
            list.with(words)
        };
        let found = lists.value.iter().map(&mut read).collect();
        if mistakes.len() == before { Asked::For(lists.with(found)) } else { Asked::Wrong }
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(&self, name: &str, words: Words<T>, mistakes: &mut Vec<Mistake>) -> Asked<T> {
        let later = keys::known(&keys::join(&self.scope, name)).later;
        self.text(name, mistakes).understand(mistakes, |typed| choose(typed, words, later))
    }

    /// A word, or `{ reply = "…" }`.
    pub(crate) fn word_or_reply(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Asked<WordOrReply<'t>> {
        self.read(name, mistakes, |value, example| match value {
            DeValue::String(text) => Ok(WordOrReply::Word(text)),
            DeValue::Table(table) => match entries_of(table).as_slice() {
                [Entry { name: "reply", value, .. }] => match value.get_ref() {
                    DeValue::String(text) => Ok(WordOrReply::Reply(text)),
                    other => Err(wrong_type(other, "text", example)),
                },
                _ => {
                    let wanted = "expected { reply = \"…\" }";
                    Err(Fault::new(format!("{wanted} and nothing else in it"), wanted, like(example)))
                }
            },
            other => Err(wrong_type(other, "a word or a reply", example)),
        })
    }

    /// Yes or no.
    pub(crate) fn yes_or_no(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Asked<YesOrNo> {
        self.read(name, mistakes, |value, example| match value {
            DeValue::Boolean(true) => Ok(YesOrNo::Yes),
            DeValue::Boolean(false) => Ok(YesOrNo::No),
            other => Err(wrong_type(other, "true or false", example)),
        })
    }

    /// A whole number within limits, or a percentage from 1 to 100.
    pub(crate) fn count_or_percent(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
        mistakes: &mut Vec<Mistake>,
    ) -> Asked<CountOrPercent> {
        self.read(name, mistakes, |value, example| match value {
            DeValue::Integer(number) => within(number.as_str(), number.radix(), &range).map(CountOrPercent::Count),
            DeValue::String(text) => percent(text, example).map(CountOrPercent::Percent),
            other => Err(wrong_type(other, "a whole number or a percentage", example)),
        })
    }

    /// A text, or a whole number that is taken for its digits.
    pub(crate) fn text_or_number(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Asked<String> {
        self.read(name, mistakes, name_or_number)
    }

    /// A list of names or numbers. Items of another type are reported and make the whole list wrong.
    pub(crate) fn texts_or_numbers(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Asked<Vec<Typed<String>>> {
        self.list_of(name, mistakes, name_or_number)
    }

    fn list_of<T>(
        &self,
        name: &str,
        mistakes: &mut Vec<Mistake>,
        read: impl Fn(&'t DeValue<'t>, &'static str) -> Result<T, Fault>,
    ) -> Asked<Vec<Typed<T>>> {
        let example = self.example(name);
        let list = match self.list(name, mistakes) {
            Asked::Nothing => return Asked::Nothing,
            Asked::Wrong => return Asked::Wrong,
            Asked::For(list) => list,
        };
        let mut found = Vec::new();
        for item in &list.value {
            match read(item.value, example) {
                Ok(value) => found.push(item.with(value)),
                Err(fault) => mistakes.push(item.refuse(fault)),
            }
        }
        if found.len() == list.value.len() { Asked::For(list.with(found)) } else { Asked::Wrong }
    }

    fn open(
        scope: String,
        shown: String,
        place: Span,
        table: &'t DeTable<'t>,
        mistakes: &mut Vec<Mistake>,
    ) -> RawTable<'t> {
        let (mut entries, mut guessed) = (Vec::new(), Vec::new());
        for entry in entries_of(table) {
            match keys::find(&scope, entry.name) {
                Found::Known => entries.push(entry),
                Found::Unknown => {
                    let guess = nearest(entry.name, keys::names_in(&scope));
                    guessed.extend(guess);
                    mistakes.push(unknown_key(&scope, &shown, &entry, guess));
                }
            }
        }
        RawTable { scope, shown, place, guessed, entries }
    }

    fn of_value(scope: String, shown: String, entry: &Entry<'t>, mistakes: &mut Vec<Mistake>) -> RawTable<'t> {
        let place = entry.name_span.clone();
        match entry.value.get_ref() {
            DeValue::Table(table) => RawTable::open(scope, shown, place, table, mistakes),
            other => {
                let remedy = format!("write [{shown}] and its keys below, or {} = {{ … }}", entry.name);
                let fault = wrong_type(other, "a table", "");
                mistakes.push(Fault { remedy, ..fault }.at(&shown, entry.value.span()));
                // What it was meant to say is unknown, so nothing of it is missing.
                let guessed = keys::names_in(&scope);
                RawTable { scope, shown, place, guessed, entries: Vec::new() }
            }
        }
    }

    fn named(&self, name: &str, example: &str, mistakes: &mut Vec<Mistake>) -> Vec<Entry<'t>> {
        let Some(entry) = self.entry(name) else { return Vec::new() };
        match entry.value.get_ref() {
            DeValue::Table(table) => entries_of(table),
            other => {
                let path = keys::join(&self.shown, name);
                mistakes.push(wrong_type(other, "a table", example).at(&path, entry.value.span()));
                Vec::new()
            }
        }
    }

    fn list(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Asked<Vec<Typed<&'t DeValue<'t>>>> {
        let path = keys::join(&self.shown, name);
        self.read(name, mistakes, |value, example| match value {
            DeValue::Array(items) => {
                let typed = |item: &'t Spanned<DeValue<'t>>| Typed {
                    value: item.get_ref(),
                    span: item.span(),
                    path: path.clone(),
                };
                Ok(items.iter().map(typed).collect())
            }
            DeValue::String(text) => Err(Fault {
                remedy: format!("write a list: {name} = {}", as_list(text)),
                ..wrong_type(value, "a list", example)
            }),
            other => Err(wrong_type(other, "a list", example)),
        })
    }

    fn read<T>(
        &self,
        name: &str,
        mistakes: &mut Vec<Mistake>,
        read: impl FnOnce(&'t DeValue<'t>, &'static str) -> Result<T, Fault>,
    ) -> Asked<T> {
        let example = self.example(name);
        match self.entry(name) {
            None => Asked::Nothing,
            Some(entry) => {
                let path = keys::join(&self.shown, name);
                let typed = Typed { value: entry.value.get_ref(), span: entry.value.span(), path };
                Asked::For(typed).understand(mistakes, |value| read(value, example))
            }
        }
    }

    fn entry(&self, name: &str) -> Option<&Entry<'t>> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    fn example(&self, name: &str) -> &'static str {
        keys::known(&keys::join(&self.scope, name)).example
    }
}

const EXAMPLE_OF_PIPELINE: &str = r#"command = [["./decode"], ["./app", "--flag"], ["./encode"]]"#;

fn name_or_number(value: &DeValue<'_>, example: &str) -> Result<String, Fault> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        other => Err(wrong_type(other, "a name or a number", example)),
    }
}

fn entries_of<'t>(table: &'t DeTable<'t>) -> Vec<Entry<'t>> {
    let mut entries: Vec<Entry<'t>> =
        table.iter().map(|(key, value)| Entry { name: key.get_ref().as_ref(), name_span: key.span(), value }).collect();
    // The map sorts by name; people read, and pools are ranked, in the order of the file.
    entries.sort_by_key(|entry| entry.name_span.start);
    entries
}

fn unknown_key(scope: &str, shown: &str, entry: &Entry<'_>, guess: Option<&str>) -> Mistake {
    let name = entry.name;
    let place = if shown.is_empty() { String::new() } else { format!(" in [{shown}]") };
    let remedy = match (guess, keys::elsewhere(name)) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(path)) => {
            let pool = shown.split('.').nth(1).unwrap_or("NAME");
            format!("there is `{}`; did you mean that?", path.replace("NAME", pool))
        }
        (None, None) => format!("here can stand: {}", keys::names_in(scope).join(", ")),
    };
    Mistake {
        message: format!("unknown key `{name}`{place}"),
        span: entry.name_span.clone(),
        label: "unknown key".to_owned(),
        remedy,
        also: None,
        nature: Nature::Typed,
    }
}
