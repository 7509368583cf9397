//! `ostler init`: writes a commented configuration, and never over one that is there.

use std::fs::OpenOptions;
use std::io::{self, Write};

use super::check::DEFAULT_FILE;
use super::say;
use crate::exit::ExitCode;

pub(crate) fn init() -> ExitCode {
    match write_new() {
        Ok(()) => say::answer_line(&format!("wrote {DEFAULT_FILE}: edit it, `ostler check` it, then `ostler run`")),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            say::failed(&format!("{DEFAULT_FILE} is there already: move it away first, or go to another directory"))
        }
        Err(error) => say::failed(&format!("cannot write {DEFAULT_FILE}: {error}")),
    }
}

fn write_new() -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(DEFAULT_FILE)?;
    let written = file.write_all(ostler_config::COMMENTED_EXAMPLE.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a file would be taken for a configuration.
        let _removed = std::fs::remove_file(DEFAULT_FILE);
    }
    written
}
