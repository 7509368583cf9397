//! Knows how to connect to a listener, by whatever address, within a time.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// A listener as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A Unix path.
    Unix(PathBuf),
    /// An abstract Unix name, without the `@`.
    Abstract(String),
    /// A TCP address.
    Tcp(SocketAddr),
}

/// A client's end of a connection.
#[derive(Debug)]
pub enum Stream {
    /// Unix, by path or abstract.
    Unix(UnixStream),
    /// TCP.
    Tcp(TcpStream),
}

impl Target {
    /// The address as ostler's configuration writes it.
    #[must_use]
    pub fn listen(&self) -> String {
        match self {
            Target::Unix(path) => format!("unix:{}", path.display()),
            Target::Abstract(name) => format!("unix:@{name}"),
            Target::Tcp(address) => format!("tcp:{address}"),
        }
    }

    /// A TCP address of this machine where nobody listens just now.
    ///
    /// # Panics
    /// When the machine has no port to spare.
    #[must_use]
    pub fn free_tcp() -> Target {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        Target::Tcp(probe.local_addr().expect("a bound socket has an address"))
    }

    /// Connects; each later read and write takes at most `timeout` too.
    ///
    /// # Errors
    /// Whatever connect(2) answers; `EAGAIN` when the queue of a Unix listener stayed full for that long.
    pub fn connect(&self, timeout: Duration) -> io::Result<Stream> {
        let family = match self {
            Target::Unix(_) | Target::Abstract(_) => AddressFamily::Unix,
            Target::Tcp(SocketAddr::V4(_)) => AddressFamily::Inet,
            Target::Tcp(SocketAddr::V6(_)) => AddressFamily::Inet6,
        };
        let made = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // The send timeout bounds connect(2) as well: unix(7), tcp(7).
        let limit =
            TimeVal::new(i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX), i64::from(timeout.subsec_micros()));
        setsockopt(&made, sockopt::SendTimeout, &limit)?;
        setsockopt(&made, sockopt::ReceiveTimeout, &limit)?;
        self.connect_socket(made)
    }

    fn connect_socket(&self, made: OwnedFd) -> io::Result<Stream> {
        let fd = made.as_raw_fd();
        match self {
            Target::Unix(path) => connect(fd, &UnixAddr::new(path)?)?,
            Target::Abstract(name) => connect(fd, &UnixAddr::new_abstract(name.as_bytes())?)?,
            Target::Tcp(SocketAddr::V4(address)) => connect(fd, &SockaddrIn::from(*address))?,
            Target::Tcp(SocketAddr::V6(address)) => connect(fd, &SockaddrIn6::from(*address))?,
        }
        Ok(match self {
            Target::Unix(_) | Target::Abstract(_) => Stream::Unix(made.into()),
            Target::Tcp(_) => {
                let stream = TcpStream::from(made);
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
        })
    }
}

impl Stream {
    /// Changes how long a read waits.
    ///
    /// # Errors
    /// When the time is zero.
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Stream::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write_vectored(parts),
            Stream::Tcp(stream) => stream.write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
