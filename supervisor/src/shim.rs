//! Finds the library that is preloaded into unmodified programs.

use std::path::{Path, PathBuf};

/// Its name, as cargo builds it.
const NAME: &str = "libostler_shim.so";

/// What `--shim` says, else the one beside this program.
///
/// # Errors
/// Why it can't be used, with the remedy.
pub(crate) fn find(said: Option<&Path>, directory: &Path) -> Result<PathBuf, String> {
    let path = match said {
        Some(path) => directory.join(path),
        None => beside_us()?,
    };
    if !path.is_file() {
        return Err(format!("cannot host unmodified programs: {} is no file ({REMEDY})", path.display()));
    }
    // The dynamic linker separates what it preloads by both, and knows no way to write them (ld.so(8)).
    if path.to_string_lossy().contains([' ', ':']) {
        let shown = path.display();
        return Err(format!(
            "cannot host unmodified programs: no library can be preloaded from {shown}, whose path has a space or a colon (copy it elsewhere, and name it by --shim)"
        ));
    }
    Ok(path)
}

/// Where a package puts it, or where cargo does: what `cargo run` builds lies in `deps`, and is never older than the other.
fn beside_us() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot tell where ostler itself is: {error}"))?;
    let dir = own.parent().unwrap_or(Path::new("/"));
    let places = [dir.join("deps").join(NAME), dir.join(NAME)];
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| format!("cannot host unmodified programs: there is no {NAME} in {} ({REMEDY})", dir.display()))
}

const REMEDY: &str =
    "build it with cargo build --release --workspace, and name it by --shim PATH or put it beside ostler";
