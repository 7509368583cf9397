//! Wraps a connection's descriptor as tokio's stream of its family.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection's bytes, by family, registered with a runtime.
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
    /// Registers a stream with the runtime that this is called in.
    ///
    /// # Errors
    /// As epoll_ctl(2): `ENOMEM`, `ENOSPC`. The stream is closed then.
    ///
    /// # Panics
    /// Outside of a runtime with I/O.
    pub fn from_std(stream: crate::Stream) -> io::Result<Stream> {
        stream.set_nonblocking(true)?;
        Ok(match stream {
            crate::Stream::Unix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
            crate::Stream::Tcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
        })
    }

    /// Takes a stream back from its runtime. It blocks again.
    ///
    /// # Errors
    /// As epoll_ctl(2); on an open stream, nothing.
    pub fn into_std(self) -> io::Result<crate::Stream> {
        let stream = self.deregister()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// As [`Stream::into_std`], for a stream that will be closed and needs to be nothing else.
    pub(super) fn deregister(self) -> io::Result<crate::Stream> {
        Ok(match self {
            Stream::Unix(stream) => crate::Stream::Unix(stream.into_std()?),
            Stream::Tcp(stream) => crate::Stream::Tcp(stream.into_std()?),
        })
    }

    /// Shuts one side down, or both, at once: what tokio's `shutdown` does for the write side alone. It ends that side
    /// for every copy of the descriptor. A client that has gone already is no error.
    ///
    /// # Errors
    /// As shutdown(2); on an open stream, nothing.
    pub fn shut(&self, how: Shutdown) -> io::Result<()> {
        crate::stream::shut(self.as_fd(), how)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, inner => inner.as_fd())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        either!(self, inner => inner.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), inner => Pin::new(inner).poll_shutdown(cx))
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
