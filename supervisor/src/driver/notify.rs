//! Speaks to the service manager over its datagram socket (sd_notify(3)).
//!
//! Never waits: a manager that does not read is not told. The decision is docs/decisions/0007.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use ostler_shared::sys::msg::send_with_fd;

/// The service manager's socket.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
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
        Ok(Some(Manager { socket, address }))
    }

    /// Sends assignments, one per line.
    pub(crate) fn tell(&self, text: &str) {
        if let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.address) {
            tracing::warn!("cannot tell the service manager {text:?}: {error}");
        }
    }

    /// Sends assignments and a descriptor that they speak of.
    ///
    /// # Errors
    /// As sendmsg(2); then the manager has neither.
    pub(crate) fn tell_with(&self, text: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        // A socket of its own: a connected one would not find a manager again that opens its socket anew.
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&self.address)?;
        send_with_fd(socket.as_fd(), text.as_bytes(), fd)
    }
}
