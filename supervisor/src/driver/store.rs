//! Leaves listeners with the service manager, so that a restart refuses nobody (`FDSTORE=1`, sd_notify(3)).
//!
//! The manager hands them to our next process under names that begin with [`STORED_PREFIX`]. The name is made of the
//! address, so that a listener is recognised whatever became of the pools around it; what it is bound to is compared as well.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use ostler_config::STORED_PREFIX;
use ostler_config::checked::Address;

use super::listeners::{Listener, Tenure};
use super::notify::Manager;
use crate::inherited::Given;

/// What the last process left for this one.
#[derive(Debug)]
pub(crate) struct Left {
    listeners: Vec<(String, OwnedFd)>,
    /// Names under which something is stored that nobody wants any more.
    stale: Vec<String>,
}

impl Left {
    /// Takes what was stored out of what was given.
    pub(crate) fn among(given: &mut Given) -> Left {
        let names = given.names().into_iter().filter(|name| name.starts_with(STORED_PREFIX));
        let listeners = names.flat_map(|name| given.take(&name).into_iter().map(move |fd| (name.clone(), fd)));
        Left { listeners: listeners.collect(), stale: Vec::new() }
    }

    /// One that was stored for this address.
    pub(crate) fn take(&mut self, address: &Address) -> Option<OwnedFd> {
        let name = name_of(address);
        let at = self.listeners.iter().position(|(stored, _)| *stored == name)?;
        Some(self.listeners.remove(at).1)
    }

    /// What was stored for this address is of no use.
    pub(crate) fn reject(&mut self, address: &Address) {
        self.stale.push(name_of(address));
    }

    /// Closes what nobody took, and has the manager do the same.
    pub(crate) fn discard(&mut self, manager: Option<&Manager>) {
        let unused = std::mem::take(&mut self.listeners).into_iter().map(|(name, _)| name);
        let mut stale: Vec<String> = std::mem::take(&mut self.stale).into_iter().chain(unused).collect();
        stale.sort_unstable();
        stale.dedup();
        for name in stale {
            tracing::info!("no pool listens any more on what was stored as {name}");
            if let Some(manager) = manager {
                manager.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
            }
        }
    }
}

/// How many descriptors the manager keeps for us (`FDSTORE`); 0 when it keeps none, or does not say.
pub(crate) fn room() -> usize {
    std::env::var("FDSTORE").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Gives a copy of a listener to the manager, which makes it a shared one.
pub(crate) fn store(manager: &Manager, address: &Address, listener: &mut Listener) {
    match manager.tell_with(&format!("FDSTORE=1\nFDNAME={}", name_of(address)), listener.as_fd()) {
        Ok(()) => listener.tenure = Tenure::Shared,
        // Whatever the manager had of it before, it has still.
        Err(error) => tracing::warn!(
            "cannot leave {} with the service manager: {error}; who connects during a restart may be refused",
            listener.shown
        ),
    }
}

/// Has the manager close its copy of a listener that a reload takes away.
pub(crate) fn remove(manager: Option<&Manager>, address: &Address) {
    if let Some(manager) = manager {
        manager.tell(&format!("FDSTOREREMOVE=1\nFDNAME={}", name_of(address)));
    }
}

/// A name that the manager takes, and that no other address has: the manager forgets by name whatever is kept under it.
fn name_of(address: &Address) -> String {
    let name = match address {
        // Colons are all that needs another form, and no address has an underscore. This can be read.
        Address::Tcp(tcp) => format!("{STORED_PREFIX}tcp.{}", tcp.to_string().replace(':', "_")),
        Address::UnixPath { path, .. } => format!("{STORED_PREFIX}unix.{}", escaped(path.as_os_str().as_bytes())),
        Address::UnixAbstract(name) => format!("{STORED_PREFIX}unix.@{}", escaped(name.as_bytes())),
        Address::Given(name) => format!("{STORED_PREFIX}fd.{}", escaped(name.as_bytes())),
    };
    shortened(name)
}

/// Printable ASCII without colons, as in a URL.
fn escaped(bytes: &[u8]) -> String {
    let mut plain = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b':' | b'%' => plain.push_str(&format!("%{byte:02X}")),
            byte if byte.is_ascii_graphic() => plain.push(char::from(*byte)),
            byte => plain.push_str(&format!("%{byte:02X}")),
        }
    }
    plain
}

/// What does not fit ends in a hash of the whole. It has to be the same in the next release, so it is our own: FNV-1a.
fn shortened(mut name: String) -> String {
    if name.len() > NAME_MAX {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        name.truncate(NAME_MAX - 17);
        name.push_str(&format!("~{hash:016x}"));
    }
    name
}

/// Longest name of a stored descriptor, sd_notify(3).
const NAME_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn given(names: &[&str]) -> Given {
        Given::of(names.iter().map(|name| ((*name).to_owned(), std::io::pipe().unwrap().0.into())).collect())
    }

    fn path(path: &str) -> Address {
        Address::UnixPath { path: path.into(), shown: path.to_owned() }
    }

    #[test]
    fn a_name_is_one_that_the_manager_takes() {
        assert_eq!(name_of(&path("/run/wéb x.sock")), "ostler.unix./run/w%C3%A9b%20x.sock");
        assert_eq!(name_of(&Address::UnixAbstract("a:b".to_owned())), "ostler.unix.@a%3Ab");
        assert_eq!(name_of(&Address::Tcp("[::1]:80".parse().unwrap())), "ostler.tcp.[__1]_80");
        let longest = Address::UnixAbstract("\u{e9}".repeat(53));
        assert_eq!(name_of(&longest).len(), 255);
    }

    #[test]
    fn addresses_that_look_alike_have_names_of_their_own() {
        let paths = ["/a b", "/a_b", "/a:b", "/a%b", "/a%3Ab", "/\u{e9}", "/\u{ea}"].map(path);
        let long = ["a", "b"].map(|end| Address::UnixAbstract(format!("{}{end}", "\u{e9}".repeat(53))));
        let names: Vec<String> = paths.iter().chain(&long).map(name_of).collect();
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }

    #[test]
    fn what_was_stored_is_found_by_its_address_and_what_was_given_is_left_alone() {
        let tcp = Address::Tcp("127.0.0.1:80".parse().unwrap());
        let mut given = given(&["web", &name_of(&tcp), "ostler.tcp.127.0.0.1_81"]);
        let mut left = Left::among(&mut given);
        assert_eq!(given.names(), ["web"]);
        assert!(left.take(&tcp).is_some());
        assert!(left.take(&tcp).is_none());
        assert_eq!(left.listeners.len(), 1);
        left.discard(None);
        assert_eq!(left.listeners.len(), 0);
    }
}
