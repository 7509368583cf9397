//! Reads a configuration file.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::address::{Lookup, system_lookup};
use crate::caller::Caller;
use crate::check;
use crate::checked::Config;
use crate::limits::FILE_BYTES_MAX;
use crate::mistakes::{Mistake, Mistakes, Nature};
use crate::syntax;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read {}: {io}{}", .path.display(), next_step(.io))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        io: io::Error,
    },
    /// The file was read, and this is wrong with it.
    #[error("{0}")]
    Mistakes(Mistakes),
}

/// Whether a command's program has to be there when the configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    /// A missing one is a mistake, with a caret: for `ostler check`.
    MustExist,
    /// Only executing it tells: for `run` and reloads, where that has a verdict of its own.
    MayCome,
}

/// Reads and checks the file at `path`; relative paths in it are relative to its directory.
///
/// # Errors
/// When it cannot be read, or with everything that is wrong with it.
pub fn load(path: &Path, programs: Programs) -> Result<Config, LoadError> {
    let unreadable = |io| LoadError::Unreadable { path: path.to_owned(), io };
    let bytes = read_bounded(path).map_err(unreadable)?;
    let full = std::path::absolute(path).map_err(unreadable)?;
    let dir = full.parent().unwrap_or(Path::new("/"));
    match String::from_utf8(bytes) {
        Ok(text) => parse_with(&text, path, dir, system_lookup, programs).map_err(LoadError::Mistakes),
        Err(error) => Err(LoadError::Mistakes(not_text(path, error.as_bytes(), error.utf8_error().valid_up_to()))),
    }
}

/// Where a configuration puts the control socket, as far as that can be read in spite of its mistakes.
///
/// # Errors
/// When the file cannot be read at all.
pub fn control_path(path: &Path) -> io::Result<Option<PathBuf>> {
    let text = String::from_utf8_lossy(&read_bounded(path)?).into_owned();
    let full = std::path::absolute(path)?;
    let dir = full.parent().unwrap_or(Path::new("/"));
    let (root, _mistakes) = DeTable::parse_recoverable(&text);
    let supervisor = root.get_ref().get("supervisor").and_then(|value| value.get_ref().as_table());
    let typed = supervisor.and_then(|table| table.get("control")).and_then(|value| value.get_ref().as_str());
    Ok(typed.map(|typed| dir.join(typed)))
}

/// Checks a text; `file` is what messages call it, `dir` is what relative paths in it are relative to.
///
/// # Errors
/// With everything that is wrong with it.
pub fn parse(text: &str, file: &Path, dir: &Path) -> Result<Config, Mistakes> {
    parse_with(text, file, dir, system_lookup, Programs::MustExist)
}

/// [`parse`] with a resolver of host names of one's own, for who must not ask the network.
///
/// # Errors
/// With everything that is wrong with it.
pub fn parse_with(text: &str, file: &Path, dir: &Path, lookup: Lookup, programs: Programs) -> Result<Config, Mistakes> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    parse_at(text, file, &check::Site { dir: &dir, lookup, programs, caller: &Caller::of_this_process() })
}

/// Checks a text for a place and a process.
pub(crate) fn parse_at(text: &str, file: &Path, site: &check::Site<'_>) -> Result<Config, Mistakes> {
    let (root, broken) = DeTable::parse_recoverable(text);
    let mut mistakes = Vec::new();
    let config = check::check(root.get_ref(), site, &mut mistakes);
    if !broken.is_empty() {
        mistakes = syntax::beside_others(text, &broken, mistakes);
    }
    match config {
        Some(config) if mistakes.is_empty() => Ok(config),
        Some(_) | None => Err(Mistakes::new(file, text, mistakes)),
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it has more than {FILE_BYTES_MAX} bytes, the limit; is it a configuration?");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

fn not_text(path: &Path, bytes: &[u8], good: usize) -> Mistakes {
    let mistake = Mistake {
        message: "the file is not UTF-8 text".to_owned(),
        // Up to here the lossy text is the same as the bytes.
        span: good..good + 1,
        label: format!("byte 0x{:02x}", bytes.get(good).copied().unwrap_or_default()),
        remedy: "save the file as UTF-8".to_owned(),
        also: None,
        nature: Nature::Syntax,
    };
    Mistakes::new(path, &String::from_utf8_lossy(bytes), vec![mistake])
}

fn next_step(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; `ostler init` writes a commented ostler.toml, `-c FILE` names another file",
        io::ErrorKind::PermissionDenied => "; run as a user who may read it",
        io::ErrorKind::IsADirectory => "; `-c FILE` takes the file in it",
        _ => "",
    }
}
