//! Decides which addresses cannot both be listened on.

use std::path::{Path, PathBuf};

use crate::checked::Address;

/// Why two addresses cannot both be listened on, if they cannot.
pub(crate) fn clash(left: &Address, right: &Address, apart: Apart) -> Option<&'static str> {
    match (left, right) {
        (Address::UnixPath { path: a, .. }, Address::UnixPath { path: b, .. }) => {
            let (a, b) = (real_path(a), real_path(b));
            if a == b {
                Some("the same path")
            } else if lock_of(&a) == b || lock_of(&b) == a {
                Some("one is the lock file of the other")
            } else {
                None
            }
        }
        (Address::UnixAbstract(a), Address::UnixAbstract(b)) => (a == b).then_some("the same name"),
        (Address::Tcp(a), Address::Tcp(b)) if a.port() == 0 || b.port() == 0 => {
            // The kernel chooses a free port for each, so only a repetition in one pool is a slip.
            (a == b && apart == Apart::SamePool).then_some("the same address")
        }
        (Address::Tcp(a), Address::Tcp(b)) if a.port() != b.port() || a.is_ipv4() != b.is_ipv4() => None,
        (Address::Tcp(a), Address::Tcp(b)) if a.ip() == b.ip() => Some("the same address"),
        (Address::Tcp(a), Address::Tcp(b)) => (a.ip().is_unspecified() || b.ip().is_unspecified())
            .then_some("one of them is every address of this machine, so it includes the other"),
        (Address::Given(a), Address::Given(b)) => (a == b).then_some("the same descriptors"),
        (Address::UnixPath { .. } | Address::UnixAbstract(_) | Address::Tcp(_) | Address::Given(_), _) => None,
    }
}

/// Whether two addresses belong to the same pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apart {
    /// Both are in one list.
    SamePool,
    /// Each is in a list of its own.
    OtherPool,
}

/// The path with its directory's links followed, as far as the directory exists.
pub(crate) fn real_path(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        (_, _) => path.to_owned(),
    }
}

fn lock_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use super::*;
    use crate::address::parse_address;

    fn lookup(_: &str, port: u16) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn parse(typed: &str) -> Result<Address, crate::mistakes::Fault> {
        parse_address(typed, Path::new("/srv/app"), lookup)
    }

    #[test]
    fn addresses_that_cannot_be_bound_together_are_known() {
        let clashes = |a: &str, b: &str, apart| clash(&parse(a).unwrap(), &parse(b).unwrap(), apart).is_some();
        for (a, b) in [
            ("unix:a.sock", "unix:/srv/app/./a.sock"),
            ("unix:a.sock", "unix:a.sock.lock"),
            ("unix:@a", "unix:@a"),
            ("tcp:127.0.0.1:80", "tcp:localhost:80"),
            ("tcp:0.0.0.0:80", "tcp:127.0.0.1:80"),
            ("tcp:[::1]:80", "tcp:[::]:80"),
            ("fd:a", "fd:a"),
        ] {
            assert!(clashes(a, b, Apart::OtherPool) && clashes(b, a, Apart::OtherPool), "{a} {b}");
        }
        for (a, b) in [
            ("unix:a.sock", "unix:b.sock"),
            ("unix:@a", "unix:a"),
            ("tcp:127.0.0.1:80", "tcp:127.0.0.2:80"),
            ("tcp:127.0.0.1:80", "tcp:127.0.0.1:81"),
            ("tcp:127.0.0.1:0", "tcp:127.0.0.1:0"),
            ("tcp:[::1]:80", "tcp:127.0.0.1:80"),
            ("fd:a", "fd:b"),
            ("fd:a", "unix:a"),
        ] {
            assert!(!clashes(a, b, Apart::OtherPool), "{a} {b}");
        }
        assert!(clashes("tcp:127.0.0.1:0", "tcp:127.0.0.1:0", Apart::SamePool));
    }

    #[test]
    fn two_ways_through_a_link_to_one_path_are_the_same_path() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let parse = |typed: &str| parse_address(typed, dir.path(), lookup).unwrap();
        assert_eq!(
            clash(&parse("unix:real/a.sock"), &parse("unix:link/a.sock"), Apart::OtherPool),
            Some("the same path")
        );
    }
}
