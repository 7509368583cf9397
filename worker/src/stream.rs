//! Wraps a connection's descriptor as the standard stream of its family.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket;
use ostler_shared::ticket::Family;

/// A connection's bytes, by family. Blocking until somebody changes that.
#[derive(Debug)]
pub enum Stream {
    /// From a Unix socket.
    Unix(UnixStream),
    /// From a TCP socket, v4 or v6.
    Tcp(TcpStream),
}

/// Runs one expression on whichever stream it is.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Unix($inner) => $call,
            Stream::Tcp($inner) => $call,
        }
    };
}

impl Stream {
    pub(crate) fn new(fd: OwnedFd, family: Family) -> Stream {
        match family {
            Family::Unix => Stream::Unix(fd.into()),
            Family::V4 | Family::V6 => Stream::Tcp(fd.into()),
        }
    }

    /// Limits how long a read waits; `None` is for ever.
    ///
    /// # Errors
    /// When the duration is zero.
    pub fn set_read_timeout(&self, longest: Option<Duration>) -> io::Result<()> {
        either!(self, inner => inner.set_read_timeout(longest))
    }

    /// Limits how long a write waits; `None` is for ever.
    ///
    /// # Errors
    /// When the duration is zero.
    pub fn set_write_timeout(&self, longest: Option<Duration>) -> io::Result<()> {
        either!(self, inner => inner.set_write_timeout(longest))
    }

    /// Shuts one side down, or both. It ends that side for every copy of the descriptor: clones, and what children
    /// inherited. A client that has gone already is no error.
    ///
    /// # Errors
    /// As shutdown(2); on an open stream, nothing.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        shut(self.as_fd(), how)
    }

    /// Another owner of the same stream. The client sees the end when all of them are dropped, or when one of them
    /// shuts it down. A clone that outlives its connection is not counted: the worker's place is free before.
    ///
    /// # Errors
    /// As fcntl(2): `EMFILE`.
    pub fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
        })
    }

    /// Makes reads and writes answer `WouldBlock` instead of waiting, for event loops.
    ///
    /// # Errors
    /// Whatever ioctl(FIONBIO) answers; on an open socket, nothing.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        either!(self, inner => inner.set_nonblocking(nonblocking))
    }
}

/// Shuts a stream's sides down, whoever it belongs to.
pub(crate) fn shut(stream: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => socket::Shutdown::Read,
        Shutdown::Write => socket::Shutdown::Write,
        Shutdown::Both => socket::Shutdown::Both,
    };
    match socket::shutdown(stream.as_raw_fd(), how) {
        // A TCP client that has reset the connection left nothing to shut down.
        Ok(()) | Err(Errno::ENOTCONN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> OwnedFd {
        either!(stream, inner => inner.into())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, inner => inner.as_fd())
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, inner => { let mut inner = inner; inner.read(buffer) })
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        either!(self, inner => { let mut inner = inner; inner.read_vectored(buffers) })
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, inner => { let mut inner = inner; inner.write(bytes) })
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, inner => { let mut inner = inner; inner.write_vectored(slices) })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is buffered
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
