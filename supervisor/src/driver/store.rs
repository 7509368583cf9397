//! Leaves listeners with the service manager, so that a restart refuses nobody (`FDSTORE=1`, sd_notify(3)).
//!
//! The manager hands them to our next process under names that begin with [`STORED_PREFIX`]. The name is made of the
//! address, so that a listener is recognised whatever became of the pools around it; what it is bound to is compared as well.

use std::os::fd::{AsFd, OwnedFd};

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

/// A name that the manager takes: ASCII without colons, at most 255 bytes. An address has at most 107 behind its scheme.
fn name_of(address: &Address) -> String {
    let address = match address {
        Address::UnixPath { path, .. } => format!("unix.{}", path.display()),
        Address::UnixAbstract(_) | Address::Tcp(_) | Address::Given(_) => address.to_string(),
    };
    let plain = |c: char| if c.is_ascii_graphic() && c != ':' { c } else { '_' };
    format!("{STORED_PREFIX}{}", address.replacen(':', ".", 1).chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(names: &[&str]) -> Given {
        Given::of(names.iter().map(|name| ((*name).to_owned(), std::io::pipe().unwrap().0.into())).collect())
    }

    #[test]
    fn a_name_is_one_that_the_manager_takes() {
        let path = Address::UnixPath { path: "/run/wéb x.sock".into(), shown: "web.sock".to_owned() };
        assert_eq!(name_of(&path), "ostler.unix./run/w_b_x.sock");
        assert_eq!(name_of(&Address::UnixAbstract("a:b".to_owned())), "ostler.unix.@a_b");
        assert_eq!(name_of(&Address::Tcp("[::1]:80".parse().unwrap())), "ostler.tcp.[__1]_80");
        let longest = Address::UnixAbstract("\u{e9}".repeat(53));
        assert!(name_of(&longest).len() <= 255);
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
