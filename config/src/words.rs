//! Pairs each word that a key takes with what it means, for reading and for writing.

use crate::checked::{Dispatch, DrainSignal, Handoff, LogFormat, LogLevel, OnPoolFailed, Output, Ready};

pub(crate) type Words<T> = &'static [(&'static str, T)];

pub(crate) const LOG_LEVELS: Words<LogLevel> = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

pub(crate) const LOG_FORMATS: Words<LogFormat> = &[
    ("auto", LogFormat::Auto),
    ("pretty", LogFormat::Pretty),
    ("json", LogFormat::Json),
    ("logfmt", LogFormat::Logfmt),
];

pub(crate) const ON_POOL_FAILED: Words<OnPoolFailed> = &[("keep", OnPoolFailed::Keep), ("exit", OnPoolFailed::Exit)];

pub(crate) const HANDOFFS: Words<Handoff> =
    &[("pass", Handoff::Pass), ("accept", Handoff::Accept), ("listen", Handoff::Listen), ("stdio", Handoff::Stdio)];

pub(crate) const DISPATCHES: Words<Dispatch> =
    &[("least-loaded", Dispatch::LeastLoaded), ("round-robin", Dispatch::RoundRobin)];

pub(crate) const OUTPUTS: Words<Output> =
    &[("capture", Output::Capture), ("inherit", Output::Inherit), ("discard", Output::Discard)];

pub(crate) const READY: Words<Ready> =
    &[("auto", Ready::Auto), ("hello", Ready::Hello), ("accept", Ready::Accept), ("notify", Ready::Notify)];

pub(crate) const DRAIN_SIGNALS: Words<DrainSignal> = &[
    ("TERM", DrainSignal::Term),
    ("INT", DrainSignal::Int),
    ("QUIT", DrainSignal::Quit),
    ("HUP", DrainSignal::Hup),
    ("USR1", DrainSignal::Usr1),
    ("USR2", DrainSignal::Usr2),
    ("WINCH", DrainSignal::Winch),
];

/// The word for a value.
///
/// # Panics
/// When the value has no word: each table above names every variant.
pub(crate) fn word_for<T: PartialEq + std::fmt::Debug>(words: Words<T>, value: &T) -> &'static str {
    let found = words.iter().find(|(_, candidate)| candidate == value);
    found.map(|(word, _)| *word).unwrap_or_else(|| unreachable!("{value:?} has no word"))
}
