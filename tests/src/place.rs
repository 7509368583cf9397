//! Finds the programs under test: the ones of the same target directory and profile as the running test.

use std::path::PathBuf;

/// The `ostler` binary; `OSTLER_BIN` overrides it.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn ostler() -> PathBuf {
    std::env::var_os("OSTLER_BIN").map_or_else(|| program("ostler"), PathBuf::from)
}

/// A program of this workspace by name.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let running = std::env::current_exe().expect("a running program has a path");
    let mut dir = running.parent().expect("a program lies in a directory");
    // Tests lie in `deps`, programs one above.
    if dir.ends_with("deps") {
        dir = dir.parent().expect("deps lies in the profile's directory");
    }
    let path = dir.join(name);
    assert!(path.is_file(), "{} is missing: run tests/run, or cargo build --workspace --release first", path.display());
    path
}

/// The interpreter of the virtual environment that has the Python package.
///
/// # Panics
/// When it was not made.
#[must_use]
pub fn python() -> PathBuf {
    in_environment("python", "python")
}

/// A program of the Python environment that has the servers which know nothing of ostler.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn unmodified_python(name: &str) -> PathBuf {
    in_environment("unmodified/venv", name)
}

/// A program of a Python environment that `tests/run` makes beside the profiles of the target directory.
fn in_environment(environment: &str, name: &str) -> PathBuf {
    let running = std::env::current_exe().expect("a running program has a path");
    // target/PROFILE/deps/TEST, target/PROFILE/PROGRAM
    let is_test = running.parent().is_some_and(|dir| dir.ends_with("deps"));
    let target = running.ancestors().nth(if is_test { 3 } else { 2 }).expect("it lies in a target directory");
    let path = target.join(environment).join("bin").join(name);
    assert!(path.is_file(), "{} is missing: run tests/run, which makes it", path.display());
    path
}

/// An unmodified program of the tests.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn unmodified(name: &str) -> PathBuf {
    let path = workspace().join("tests/programs/unmodified").join(name);
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

/// The root of the workspace.
///
/// # Panics
/// When this crate does not lie in it.
#[must_use]
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}
