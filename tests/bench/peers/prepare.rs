//! Installs the peers, in the versions that the figures are of, and our own package beside them.

use std::path::PathBuf;
use std::process::Command;

use ostler_tests::place;

/// uWSGI is compiled when it is installed: it needs a C compiler and the headers of Python.
const PEERS: [&str; 2] = ["gunicorn==27.0.1", "uwsgi==2.0.31"];

/// A program of the peers' environment, all of which run in the same interpreter.
pub(crate) fn program(name: &str) -> String {
    environment().join("bin").join(name).display().to_string()
}

/// Makes the environment, or brings it up to date.
///
/// # Panics
/// When that is not possible; pip has said why.
pub(crate) fn peers() {
    if !environment().join("bin/python").is_file() {
        must(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment()));
    }
    let ours = format!("{}[http]", place::workspace().join("worker/python").display());
    let mut pip = Command::new(program("python"));
    must(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &ours]).args(PEERS));
    must(Command::new("node").args(["-e", "0"]));
}

fn must(command: &mut Command) {
    let ended = command.status().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(ended.success(), "{command:?} failed");
}

/// Beside the profiles of the target directory.
fn environment() -> PathBuf {
    let running = std::env::current_exe().expect("a running program has a path");
    running.ancestors().nth(2).expect("a benchmark lies in a target directory").join("peers")
}
