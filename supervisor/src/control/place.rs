//! Knows where the control socket is: the supervisor makes it there, clients look for it there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Names the control socket for client commands.
pub(crate) const CONTROL_VARIABLE: &str = "OSTLER_CONTROL";

/// Why there is no place for control sockets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// It can't be made or looked at.
    #[error("cannot use {path} for control sockets: {1}; set `control` in [supervisor], or --control PATH", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// Somebody else could put things there.
    #[error("{path} is not a directory that only this user may enter (mode 0700, owned by uid {1}): mend or remove it, or use --control PATH", path = .0.display())]
    NotPrivate(PathBuf, u32),
}

/// `$XDG_RUNTIME_DIR/ostler`, for root `/run/ostler`, else `ostler-UID` in the temporary directory.
pub(crate) fn default_directory() -> PathBuf {
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute()) {
        return Path::new(&runtime).join("ostler");
    }
    if geteuid().is_root() {
        return PathBuf::from("/run/ostler");
    }
    std::env::temp_dir().join(format!("ostler-{}", geteuid()))
}

/// Makes the default directory if need be, and refuses one that somebody else could write into.
pub(crate) fn private_directory() -> Result<PathBuf, PlaceError> {
    let dir = default_directory();
    match DirBuilder::new().mode(0o700).create(&dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(PlaceError::Io(dir, error)),
    }
    let found = fs::symlink_metadata(&dir).map_err(|error| PlaceError::Io(dir.clone(), error))?;
    if is_private(&found) { Ok(dir) } else { Err(PlaceError::NotPrivate(dir, geteuid().as_raw())) }
}

fn is_private(found: &fs::Metadata) -> bool {
    found.is_dir() && found.uid() == geteuid().as_raw() && found.permissions().mode() & 0o077 == 0
}

/// The control sockets in the default directory; none when somebody else could have put them there.
pub(crate) fn sockets_in_default_directory() -> Vec<PathBuf> {
    if !fs::symlink_metadata(default_directory()).is_ok_and(|found| is_private(&found)) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(default_directory()) else { return Vec::new() };
    let mut sockets: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .collect();
    sockets.sort();
    sockets
}
