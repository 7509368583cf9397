//! `ostler check`: validates a configuration and prints what it means.

use std::path::{Path, PathBuf};

use ostler_config::{Colour, Config, LoadError, Programs};

use super::say;
use super::terminal::{Canvas, Ink};
use crate::cli::Check;
use crate::exit::ExitCode;

/// The configuration that is read when none is named.
pub(crate) const DEFAULT_FILE: &str = "ostler.toml";

pub(crate) fn check(options: Check) -> ExitCode {
    let file = options.config.unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    match load(&file, Programs::MustExist) {
        Ok(config) => say::answer(&config.to_toml()),
        Err(code) => code,
    }
}

/// Reads a configuration, or prints everything that is wrong with it.
pub(crate) fn load(file: &Path, programs: Programs) -> Result<Config, ExitCode> {
    ostler_config::load(file, programs).map_err(|error| {
        match error {
            LoadError::Mistakes(mistakes) => {
                let colour = match Canvas::of_stderr() {
                    Canvas::Terminal(Ink::Colours) => Colour::Ansi,
                    Canvas::Terminal(Ink::None) | Canvas::Plain => Colour::Plain,
                };
                say::complain_at_length(&mistakes.render(colour));
            }
            unreadable @ LoadError::Unreadable { .. } => say::complain(unreadable.to_string().trim_end()),
        }
        ExitCode::Usage
    })
}
