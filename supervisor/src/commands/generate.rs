//! `ostler completions` and `ostler man`: prints what is generated from the definitions of the command line.
//!
//! Shown is what people type: commands that only ostler itself starts are in neither.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::say;
use crate::cli::Cli;
use crate::exit::{ExitCode, MEANINGS};

/// Man pages of commands, also of those that an administrator types, are in section 1.
const SECTION: &str = "1";
const MANUAL: &str = "ostler manual";

/// Prints the script that makes a shell complete `ostler`.
pub(crate) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut published(), "ostler", &mut script);
    say::answer(&String::from_utf8_lossy(&script))
}

/// Prints one page: of the whole program, or of one of its commands.
pub(crate) fn man(about: Option<&str>) -> ExitCode {
    let mut pages = pages();
    let page = match about {
        None => pages.swap_remove(0),
        Some(name) => match pages.iter().position(|page| page.command.get_name() == name) {
            Some(at) => pages.swap_remove(at),
            None => return unknown(name, &pages[1..]),
        },
    };
    match page.render() {
        Ok(text) => say::answer(&text),
        Err(error) => say::failed(&format!("cannot make the page: {error}")),
    }
}

/// Writes every page into a directory.
pub(crate) fn man_pages_into(dir: &Path) -> ExitCode {
    let pages = pages();
    for page in &pages {
        if let Err((path, error)) = page.write_into(dir) {
            return say::failed(&format!("cannot write {}: {error}", path.display()));
        }
    }
    say::answer_line(&format!("wrote {} pages into {}: read one with `man -l FILE`", pages.len(), dir.display()))
}

fn unknown(name: &str, pages: &[Page]) -> ExitCode {
    let known: Vec<&str> = pages.iter().map(|page| page.command.get_name()).collect();
    say::complain(&format!("there is no command {name:?}: name one of {}", known.join(", ")));
    ExitCode::Usage
}

/// The definitions without what ostler starts by itself, which the generators would show otherwise.
fn published() -> Command {
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut published = Command::new("ostler").version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    if let Some(about) = whole.get_about() {
        published = published.about(about.clone());
    }
    // `ostler help` says the same as --help, and would have a tree of pages of its own.
    published.disable_help_subcommand(true)
}

/// The page of the program, and then one for each command.
fn pages() -> Vec<Page> {
    let mut program = published();
    program.build();
    let commands: Vec<Command> = program.get_subcommands().cloned().collect();
    std::iter::once(program).chain(commands).map(|command| Page { command }).collect()
}

/// A man page before it is written.
struct Page {
    command: Command,
}

impl Page {
    /// As `man` looks for it, without the section: `ostler` or `ostler-reload`.
    fn name(&self) -> String {
        self.command.get_display_name().unwrap_or_else(|| self.command.get_name()).to_owned()
    }

    fn is_of_the_program(&self) -> bool {
        self.command.has_subcommands()
    }

    fn render(&self) -> io::Result<String> {
        let page = Man::new(self.command.clone())
            .title(self.name().to_uppercase())
            .section(SECTION)
            // An empty one would be left out, and what follows take its place.
            .date(" ")
            .source(concat!("ostler ", env!("CARGO_PKG_VERSION")))
            .manual(MANUAL);
        let mut out = Vec::new();
        page.render_title(&mut out)?;
        page.render_name_section(&mut out)?;
        self.synopsis().to_writer(&mut out)?;
        page.render_description_section(&mut out)?;
        page.render_options_section(&mut out)?;
        if self.is_of_the_program() {
            page.render_subcommands_section(&mut out)?;
        }
        self.ending().to_writer(&mut out)?;
        // Each section comes with the lines that a page has at its top.
        let top = Roff::new().render();
        Ok(top.clone() + &String::from_utf8_lossy(&out).replace(&top, ""))
    }

    /// The usage as the help has it, which tells what options take.
    fn synopsis(&self) -> Roff {
        let usage = self.command.clone().render_usage().to_string();
        let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).trim_end().to_owned();
        let mut roff = Roff::new();
        roff.control("SH", ["SYNOPSIS"]);
        roff.text([roman(usage)]);
        roff
    }

    /// What is the same for all commands: how they end, and where to read on.
    fn ending(&self) -> Roff {
        let mut roff = Roff::new();
        roff.control("SH", ["EXIT STATUS"]);
        for (code, meaning) in MEANINGS {
            roff.control("TP", []);
            roff.text([bold((code as u8).to_string())]);
            roff.text([roman(meaning)]);
        }
        roff.control("SH", ["SEE ALSO"]);
        if self.is_of_the_program() {
            let named =
                self.command.get_subcommands().map(|command| format!("ostler-{}({SECTION})", command.get_name()));
            roff.text([roman(named.collect::<Vec<_>>().join(", "))]);
        } else {
            roff.text([bold("ostler"), roman(format!("({SECTION})"))]);
        }
        roff
    }

    fn write_into(&self, dir: &Path) -> Result<(), (PathBuf, io::Error)> {
        let path = dir.join(format!("{}.{SECTION}", self.name()));
        self.render().and_then(|text| std::fs::write(&path, text)).map_err(|error| (path, error))
    }
}
