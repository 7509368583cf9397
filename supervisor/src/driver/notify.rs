//! Speaks to the service manager over its datagram socket (sd_notify(3)).
//!
//! Never waits: what a manager that does not read has no room for is kept, and sent when it has. The decision is
//! docs/decisions/0007.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use ostler_shared::sys::msg::send_with_fd;

/// Most messages that wait for the manager to read. What comes on top of them is left out, with a warning.
const UNSENT_MAX: usize = 64;

/// The service manager's socket.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// What it had no room for, oldest first.
    unsent: RefCell<VecDeque<String>>,
}

impl Manager {
    /// The manager that `NOTIFY_SOCKET` leads to, if any: a path, or an abstract name behind `@`.
    ///
    /// # Errors
    /// When it is no address, or there is no socket to be had.
    pub(crate) fn find() -> io::Result<Option<Manager>> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Some(Manager { socket, address, unsent: RefCell::default() }))
    }

    /// Sends assignments, one per line, behind what still waits.
    pub(crate) fn tell(&self, text: &str) {
        let mut unsent = self.unsent.borrow_mut();
        if unsent.len() == UNSENT_MAX {
            return tracing::warn!(
                "cannot tell the service manager {text:?}: it reads nothing, and {UNSENT_MAX} messages wait"
            );
        }
        unsent.push_back(text.to_owned());
        drop(unsent);
        if self.catch_up() == Unsent::Some {
            tracing::debug!("the service manager has no room for {text:?} yet");
        }
    }

    /// Sends a sign of life, which is worth nothing later.
    pub(crate) fn tell_alive(&self) {
        if self.catch_up() == Unsent::None {
            // A manager that has no room has something unread to see that we live.
            let _sent = self.send("WATCHDOG=1");
        }
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn catch_up(&self) -> Unsent {
        let mut unsent = self.unsent.borrow_mut();
        while let Some(text) = unsent.front() {
            match self.send(text) {
                Err(error) if passes(&error) => return Unsent::Some,
                Err(error) => tracing::warn!("cannot tell the service manager {text:?}: {error}"),
                Ok(()) => {}
            }
            unsent.pop_front();
        }
        Unsent::None
    }

    /// Whether something waits.
    pub(crate) fn unsent(&self) -> Unsent {
        if self.unsent.borrow().is_empty() { Unsent::None } else { Unsent::Some }
    }

    fn send(&self, text: &str) -> io::Result<()> {
        self.socket.send_to_addr(text.as_bytes(), &self.address).map(drop)
    }

    /// Sends assignments and a descriptor that they speak of.
    ///
    /// # Errors
    /// As sendmsg(2), and EAGAIN when something else waits before it; then the manager has neither.
    pub(crate) fn tell_with(&self, text: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        if self.catch_up() == Unsent::Some {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A socket of its own: a connected one would not find a manager again that opens its socket anew.
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&self.address)?;
        send_with_fd(socket.as_fd(), text.as_bytes(), fd)
    }
}

/// Whether the manager had room for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// No.
    Some,
    /// Yes.
    None,
}

/// The manager's queue is full, the kernel has no memory for a message just now, or somebody interrupted us.
fn passes(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager that has not read anything, and us.
    fn manager() -> (tempfile::TempDir, UnixDatagram, Manager) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let theirs = UnixDatagram::bind(&path).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = SocketAddr::from_pathname(&path).unwrap();
        (dir, theirs, Manager { socket, address, unsent: RefCell::default() })
    }

    fn read(theirs: &UnixDatagram) -> Option<String> {
        let mut text = [0; 256];
        let len = theirs.recv(&mut text).ok()?;
        Some(String::from_utf8(text[..len].to_vec()).unwrap())
    }

    #[test]
    fn what_a_manager_has_no_room_for_arrives_when_it_reads_and_in_order() {
        let (_dir, theirs, manager) = manager();
        let mut told = 0;
        while manager.unsent() == Unsent::None {
            manager.tell(&told.to_string());
            told += 1;
        }
        manager.tell("READY=1");
        manager.tell_alive();
        assert!(manager.tell_with("FDSTORE=1", theirs.as_fd()).is_err(), "nothing overtakes what waits");
        let mut read_so_far = Vec::new();
        while let Some(text) = read(&theirs) {
            read_so_far.push(text);
            manager.catch_up();
        }
        let wanted: Vec<String> = (0..told).map(|number| number.to_string()).chain(["READY=1".to_owned()]).collect();
        assert_eq!(read_so_far, wanted);
        assert_eq!(manager.unsent(), Unsent::None);
        manager.tell_alive();
        assert_eq!(read(&theirs).as_deref(), Some("WATCHDOG=1"));
    }

    #[test]
    fn what_waits_is_bounded_and_the_first_stays() {
        let (_dir, theirs, manager) = manager();
        let mut told = 0;
        while manager.unsent.borrow().len() < UNSENT_MAX {
            manager.tell(&told.to_string());
            told += 1;
        }
        manager.tell("too much");
        let mut last = None;
        while let Some(text) = read(&theirs) {
            last = Some(text);
            manager.catch_up();
        }
        assert_eq!(last, Some((told - 1).to_string()));
    }
}
