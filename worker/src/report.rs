//! Words what a worker says on its standard error, which the supervisor records under the worker's name.

use std::fmt::Display;
use std::io::{self, Write};

/// Says one line. Never panics: a reader that is gone is not the handler's fault.
pub(crate) fn say(line: impl Display) {
    let _nobody_listens = writeln!(io::stderr(), "ostler-worker: {line}");
}
