//! Finds the listeners of an address: those that a service manager gave us or kept for us, else one that is opened.
//!
//! A given socket is looked at before it is believed, and made non-blocking: another holder may take the connection that
//! woke us, and the loop never waits (I5). That flag belongs to the socket, so its other holders see it as well.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, UnixAddr, getsockname, getsockopt, sockopt,
};
use ostler_config::checked::{self, Address};
use ostler_shared::ticket::Family;

use super::listeners::{ListenError, Listener};
use super::notify::Manager;
use super::store::Left;
use crate::inherited::Given;

/// Where listeners come from.
#[derive(Debug)]
pub(crate) struct Entrances {
    given: Given,
    /// Given listeners that no pool has any more, by their names.
    returned: Vec<(String, Listener)>,
    left: Left,
}

impl Entrances {
    pub(crate) fn new(mut given: Given) -> Entrances {
        let left = Left::among(&mut given);
        Entrances { given, returned: Vec::new(), left }
    }

    /// All listeners of `address`: one, or as many as were given under its name.
    ///
    /// # Errors
    /// [`ListenError`]; what was opened is closed again.
    pub(crate) fn open(&mut self, address: &Address, options: &checked::Socket) -> Result<Vec<Listener>, ListenError> {
        match address {
            Address::Given(name) => self.take_given(address, name),
            Address::UnixPath { .. } | Address::UnixAbstract(_) | Address::Tcp(_) => {
                let left = self.take_left(address, options)?;
                Ok(vec![left.map_or_else(|| Listener::open(address, options), Ok)?])
            }
        }
    }

    /// As `open` for a reload: nothing is left from before, and what is bound does not listen yet.
    ///
    /// # Errors
    /// [`ListenError`]; what was bound is closed again.
    pub(crate) fn bind(&mut self, address: &Address, options: &checked::Socket) -> Result<Vec<Listener>, ListenError> {
        match address {
            Address::Given(name) => self.take_given(address, name),
            Address::UnixPath { .. } | Address::UnixAbstract(_) | Address::Tcp(_) => {
                Ok(vec![Listener::bind(address, options)?])
            }
        }
    }

    /// Takes a listener that no pool has any more: closes it, unless it was given, since nobody could give it again.
    pub(crate) fn give_back(&mut self, address: &Address, listener: Listener) {
        if let Address::Given(name) = address {
            self.returned.push((name.clone(), listener));
        }
    }

    /// What the service manager keeps for us and nobody has asked for is closed, here and there.
    pub(crate) fn discard_left(&mut self, manager: Option<&Manager>) {
        self.left.discard(manager);
    }

    /// A listener that our last process left with the service manager, if it is what `address` says.
    fn take_left(&mut self, address: &Address, options: &checked::Socket) -> Result<Option<Listener>, ListenError> {
        let Some(socket) = self.left.take(address) else { return Ok(None) };
        let listener = match fits(&socket, address) {
            Ok(bound) => Listener::resume(socket, address, bound.shown, bound.family, options)?,
            Err(why) => {
                tracing::warn!("what was stored for {address} is of no use: {why}; it is opened anew");
                None
            }
        };
        if listener.is_none() {
            self.left.reject(address);
        }
        Ok(listener)
    }

    /// What was given and no pool listens on, by its names. It is kept, so that a reload may ask for it.
    pub(crate) fn unused(&self) -> Vec<String> {
        self.given.names()
    }

    fn take_given(&mut self, address: &Address, name: &str) -> Result<Vec<Listener>, ListenError> {
        let refused = |why| ListenError::Given { address: address.to_string(), why };
        let returned: Vec<Listener> =
            self.returned.extract_if(.., |(given, _)| given == name).map(|(_, listener)| listener).collect();
        if !returned.is_empty() {
            return Ok(returned);
        }
        let sockets = self.given.take(name);
        if sockets.is_empty() {
            return Err(refused(format!("no descriptor of that name; {}", self.given.instead())));
        }
        // Looked at before they are taken: what is of no use now may be wanted under another address.
        if let Some(why) = sockets.iter().find_map(|socket| look_at(socket).err()) {
            self.given.put_back(name, sockets);
            return Err(refused(why));
        }
        sockets.into_iter().map(|socket| adopt(socket, address).map_err(refused)).collect()
    }
}

fn adopt(socket: OwnedFd, address: &Address) -> Result<Listener, String> {
    let bound = look_at(&socket)?;
    make_nonblocking(&socket)?;
    Ok(Listener::of_given(socket, format!("{address}({})", bound.shown), bound.family))
}

/// Sees that a socket is the listener of `address`.
fn fits(socket: &OwnedFd, address: &Address) -> Result<Bound, String> {
    let bound = look_at(socket)?;
    if !bound.is(address) {
        return Err(format!("it is bound to {}", bound.shown));
    }
    make_nonblocking(socket)?;
    Ok(bound)
}

/// What a socket is bound to.
#[derive(Debug)]
struct Bound {
    family: Family,
    address: SockaddrStorage,
    /// As an address of the configuration would say it.
    shown: String,
}

impl Bound {
    fn is(&self, address: &Address) -> bool {
        match address {
            Address::UnixPath { path, .. } => self.address.as_unix_addr().and_then(UnixAddr::path) == Some(path),
            Address::UnixAbstract(name) => {
                self.address.as_unix_addr().and_then(UnixAddr::as_abstract) == Some(name.as_bytes())
            }
            Address::Tcp(wanted) => self.tcp().is_some_and(|bound| {
                // Port 0 is any port: the one that the kernel chose then is as good now.
                bound.ip() == wanted.ip() && (wanted.port() == 0 || bound.port() == wanted.port())
            }),
            Address::Given(_) => false,
        }
    }

    fn tcp(&self) -> Option<SocketAddr> {
        let v4 = self.address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
        v4.or_else(|| self.address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
    }
}

/// Sees that a descriptor is something that connections can be accepted from.
fn look_at(socket: &OwnedFd) -> Result<Bound, String> {
    let kind = match getsockopt(socket, sockopt::SockType) {
        Ok(kind) => kind,
        Err(Errno::ENOTSOCK) => return Err(format!("what was given is not a socket: {REMEDY}")),
        Err(error) => return Err(format!("SO_TYPE: {error}")),
    };
    if kind != SockType::Stream {
        return Err(format!("what was given is not a stream socket: {REMEDY}"));
    }
    if !getsockopt(socket, sockopt::AcceptConn).map_err(|error| format!("SO_ACCEPTCONN: {error}"))? {
        return Err(format!("what was given does not listen: {REMEDY}"));
    }
    let address: SockaddrStorage = getsockname(socket.as_raw_fd()).map_err(|error| format!("getsockname: {error}"))?;
    let family = match address.family() {
        Some(AddressFamily::Unix) => Family::Unix,
        Some(AddressFamily::Inet) => Family::V4,
        Some(AddressFamily::Inet6) => Family::V6,
        other => return Err(format!("what was given is of the family {other:?}: only Unix and TCP will do")),
    };
    let shown = address.as_unix_addr().map_or_else(|| format!("tcp:{address}"), shown_unix);
    Ok(Bound { family, address, shown })
}

const REMEDY: &str = "the socket unit needs ListenStream= and Accept=no";

fn shown_unix(unix: &UnixAddr) -> String {
    match (unix.path(), unix.as_abstract()) {
        (Some(path), _) => format!("unix:{}", path.display()),
        (None, Some(name)) => format!("unix:@{}", String::from_utf8_lossy(name)),
        (None, None) => "unix:".to_owned(),
    }
}

fn make_nonblocking(socket: &OwnedFd) -> Result<(), String> {
    let flags = fcntl(socket, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    let set = flags.and_then(|flags| fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)));
    set.map(drop).map_err(|error| format!("O_NONBLOCK: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_listening_stream_socket_of_each_family_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let found = look_at(&UnixListener::bind(&path).unwrap().into()).unwrap();
        assert_eq!((found.family, found.shown), (Family::Unix, format!("unix:{}", path.display())));
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let shown = format!("tcp:{}", tcp.local_addr().unwrap());
        let found = look_at(&tcp.into()).unwrap();
        assert_eq!((found.family, found.shown), (Family::V4, shown));
    }

    #[test]
    fn a_stored_listener_fits_its_own_address_alone() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = Address::Tcp(tcp.local_addr().unwrap());
        let bound = look_at(&tcp.into()).unwrap();
        let other = |text: &str| Address::Tcp(text.parse().unwrap());
        for (address, fits) in [
            (own, true),
            (other("127.0.0.1:0"), true),
            (other("127.0.0.1:1"), false),
            (other("127.0.0.2:0"), false),
            (other("[::1]:0"), false),
            (Address::UnixAbstract("x".to_owned()), false),
            (Address::UnixPath { path: "/x".into(), shown: "/x".to_owned() }, false),
            (Address::Given("x".to_owned()), false),
        ] {
            assert_eq!(bound.is(&address), fits, "{address}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_remedy() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let (pipe, _writer) = std::io::pipe().unwrap();
        for (fd, word) in [
            (OwnedFd::from(stream), "does not listen"),
            (UnixDatagram::unbound().unwrap().into(), "not a stream socket"),
            (pipe.into(), "not a socket"),
        ] {
            let why = look_at(&fd).unwrap_err();
            assert!(why.contains(word) && why.contains("ListenStream="), "{why}");
        }
    }
}
