//! Says how the test programs are started.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use crate::place;

/// The edge of a test program: an error is said in words, not in Rust.
#[must_use]
pub fn edge(ended: Result<(), Box<dyn Error>>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The command of a worker that takes `ms` to become ready.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn slow_start(ms: u64) -> Vec<String> {
    vec![path("slow_start"), ms.to_string()]
}

/// The command of a worker that ends with exit code 3 so many milliseconds after it was READY; `how` is `serving` or `idle`.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn short_lived(how: &str, ms: u64) -> Vec<String> {
    vec![path("short_lived"), how.to_owned(), ms.to_string()]
}

/// The command of a worker that keeps `each` bytes of every connection, up to `most`.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn leaky(each: u64, most: u64) -> Vec<String> {
    vec![path("leaky"), each.to_string(), most.to_string()]
}

/// The command of a program that is built to be a template: where it writes down that it loads, and what else it is told.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn templated(journal: &Path, more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|word| (*word).to_owned());
    [path("templated"), journal.display().to_string()].into_iter().chain(more).collect()
}

/// The command of a template that breaks the protocol in one way.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn hostile_template(mode: &str) -> Vec<String> {
    let script = format!("exec {} {mode} <&4", path("hostile_template"));
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
}

/// The same as `slow_start` with async handlers, on two threads.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn tokio_worker(ms: u64) -> Vec<String> {
    vec![path("tokio_worker"), ms.to_string()]
}

/// The command of a worker that opens all descriptors it can get; `how` is `return` or `leak`.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn fd_glutton(how: &str) -> Vec<String> {
    vec![path("fd_glutton"), how.to_owned()]
}

/// The command of a worker in Python; `mode` is `pull`, `serve` or `asyncio`, and it takes `ms` to become ready.
///
/// # Panics
/// When there is no interpreter that has the package.
#[must_use]
pub fn python_hello(mode: &str, ms: u64) -> Vec<String> {
    let program = place::workspace().join("tests/programs/python/hello.py");
    [place::python(), program]
        .map(|path| path.display().to_string())
        .into_iter()
        .chain([mode.to_owned(), ms.to_string()])
        .collect()
}

/// The same, loaded in a template: where it writes down that it loads, and what else it is told.
///
/// # Panics
/// When there is no interpreter that has the package.
#[must_use]
pub fn python_templated(mode: &str, journal: &Path, more: &[&str]) -> Vec<String> {
    let program = place::workspace().join("tests/programs/python/templated.py");
    [place::python(), program, mode.into(), journal.to_owned()]
        .map(|path| path.display().to_string())
        .into_iter()
        .chain(more.iter().map(|word| (*word).to_owned()))
        .collect()
}

/// The command of the WSGI server in Python.
///
/// # Panics
/// When there is no interpreter that has the package.
#[must_use]
pub fn python_wsgi(application: &str, options: &[&str]) -> Vec<String> {
    python_server("ostler_worker.wsgi", application, options)
}

/// The command of the ASGI server in Python.
///
/// # Panics
/// When there is no interpreter that has the package.
#[must_use]
pub fn python_asgi(application: &str, options: &[&str]) -> Vec<String> {
    python_server("ostler_worker.asgi", application, options)
}

fn python_server(module: &str, application: &str, options: &[&str]) -> Vec<String> {
    let python = place::python().display().to_string();
    let words = ["-m", module, application].into_iter().chain(options.iter().copied());
    std::iter::once(python).chain(words.map(str::to_owned)).collect()
}

/// The command of a worker that breaks the protocol in this way as long as the file `peace` does not exist.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn hostile(mode: &str, peace: &Path) -> Vec<String> {
    // An ignored signal stays ignored across exec; it is set for the hostile time only.
    let trap = match mode {
        "ignores_term" => r#"[ -e "$2" ] || trap "" TERM; "#,
        "lies_and_ignores_term" | "completes_after_its_control_is_shut" => r#"[ -e "$2" ] || trap "" TERM ABRT; "#,
        _ => "",
    };
    // 3 is the mailbox, 4 the control channel (ostler_shared::env).
    let script = format!(r#"{trap}exec "$0" "$1" "$2" 0<&4 1<&3"#);
    let sh = ["/bin/sh".to_owned(), "-c".to_owned(), script];
    sh.into_iter().chain([path("hostile"), mode.to_owned(), peace.display().to_string()]).collect()
}

/// A command as TOML writes it.
///
/// # Panics
/// Never: texts can be written as JSON, which is TOML here.
#[must_use]
pub fn toml(command: &[String]) -> String {
    serde_json::to_string(command).expect("texts can be written")
}

fn path(name: &str) -> String {
    place::program(name).display().to_string()
}
