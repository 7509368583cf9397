//! Gives an async handler one claimed connection and reports its end.
//!
//! What connection.rs promises holds here as well: first the descriptor is closed, then the end is reported, and what
//! an unwinding task drops is "panicked".

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ostler_shared::ticket::{Peer, Ticket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::drain::DrainWatch;
use super::stream::Stream;
use crate::connection::Completion;
use crate::marks::Marker;
use crate::station::Station;

/// A connection that this worker claimed, for an async handler. Dropping it closes it and frees the worker's place.
pub struct Connection {
    stream: Closing, // dropped first: fields drop in their order
    completion: Completion,
}

impl crate::Connection {
    /// Registers this connection with the runtime that this is called in.
    ///
    /// # Errors
    /// As epoll_ctl(2): `ENOMEM`, `ENOSPC`. The connection has ended then.
    ///
    /// # Panics
    /// Outside of a runtime with I/O.
    pub fn into_async(self) -> io::Result<Connection> {
        let (stream, completion) = self.take_apart();
        Ok(Connection::from_parts(Stream::from_std(stream)?, completion))
    }
}

impl Connection {
    /// What the supervisor knows about the connection: its id, listener, family, accept time and peer.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        self.completion.ticket()
    }

    /// Who connected; `None` over TCP.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.ticket().peer
    }

    /// How long the connection waited between being accepted and being claimed.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.completion.waited()
    }

    /// Whether the worker has been asked to leave. Then a server with keep-alive should answer what was asked, say
    /// that it closes, and not wait for another request.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.completion.is_draining()
    }

    /// As [`Worker::pressure`](crate::Worker::pressure), for a handler.
    #[must_use]
    pub fn pressure(&self) -> u16 {
        self.completion.pressure()
    }

    /// Resolves when the worker has been asked to leave; at once when it was before. It does not borrow the
    /// connection, so that a handler can wait for both.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.drain_watch().draining()
    }

    /// Knows the same when the connection has been given away, to the implementation of a protocol for example.
    #[must_use]
    pub fn drain_watch(&self) -> DrainWatch {
        DrainWatch::new(self.completion.station())
    }

    /// The stream, for its options and for tokio's methods that take it by reference.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        self.stream.get()
    }

    /// As [`crate::Connection::mark_by_hand`]. Take it before the connection is given to the implementation of a protocol.
    #[must_use]
    pub fn mark_by_hand(&self) -> Marker {
        self.completion.mark_by_hand()
    }

    /// Takes the connection apart. It counts as served when the completion is dropped: drop the stream first. What is read and
    /// written from now on is not seen, so all of it is one request, unless [`Completion::mark_by_hand`] says more.
    pub fn into_parts(self) -> (Stream, Completion) {
        self.completion.lose_sight();
        self.take_apart()
    }

    fn take_apart(self) -> (Stream, Completion) {
        let Connection { mut stream, completion } = self;
        (stream.stream.take().expect(HAS_ITS_STREAM), completion)
    }

    /// Takes a Unix connection apart.
    ///
    /// # Errors
    /// Gives the connection back when it came over TCP.
    #[allow(clippy::result_large_err, reason = "it is given back as it came; a box would cost an allocation")]
    pub fn into_unix(self) -> Result<(UnixStream, Completion), Connection> {
        match self.take_apart() {
            (Stream::Unix(stream), completion) => {
                completion.lose_sight();
                Ok((stream, completion))
            }
            (stream @ Stream::Tcp(_), completion) => Err(Connection::from_parts(stream, completion)),
        }
    }

    /// Takes a TCP connection apart.
    ///
    /// # Errors
    /// Gives the connection back when it came over a Unix socket.
    #[allow(clippy::result_large_err, reason = "it is given back as it came; a box would cost an allocation")]
    pub fn into_tcp(self) -> Result<(TcpStream, Completion), Connection> {
        match self.take_apart() {
            (Stream::Tcp(stream), completion) => {
                completion.lose_sight();
                Ok((stream, completion))
            }
            (stream @ Stream::Unix(_), completion) => Err(Connection::from_parts(stream, completion)),
        }
    }

    /// Takes the connection back from its runtime, for a thread that may block (`spawn_blocking`).
    ///
    /// # Errors
    /// As epoll_ctl(2); on an open connection, nothing. The connection has ended then.
    pub fn into_blocking(self) -> io::Result<crate::Connection> {
        let (stream, completion) = self.take_apart();
        Ok(crate::Connection::from_parts(stream.into_std()?, completion))
    }

    fn note_written(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Some(mark), Poll::Ready(Ok(bytes))) = (self.completion.mark(), &polled) {
            mark.has_written(*bytes);
        }
        polled
    }

    fn from_parts(stream: Stream, completion: Completion) -> Connection {
        let stream = Closing { stream: Some(stream), station: Arc::clone(completion.station()) };
        Connection { stream, completion }
    }
}

/// Closes its stream in a way that gives the descriptor's place to the reserve first.
struct Closing {
    /// `None` once it was taken out.
    stream: Option<Stream>,
    station: Arc<Station>,
}

const HAS_ITS_STREAM: &str = "a connection has its stream until it is dropped";

impl Closing {
    fn get(&self) -> &Stream {
        self.stream.as_ref().expect(HAS_ITS_STREAM)
    }

    fn pinned(&mut self) -> Pin<&mut Stream> {
        Pin::new(self.stream.as_mut().expect(HAS_ITS_STREAM))
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        // What can't be deregistered is closed all the same, and the completion fills the reserve.
        if let Some(Ok(stream)) = self.stream.take().map(Stream::deregister) {
            self.station.reserve.close(stream.into());
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream().as_fd()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mark) = self.completion.mark().cloned() else { return self.stream.pinned().poll_read(cx, buffer) };
        mark.reads();
        let before = buffer.filled().len();
        let polled = self.stream.pinned().poll_read(cx, buffer);
        mark.has_read(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.stream.pinned().poll_write(cx, bytes);
        self.note_written(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream.pinned().poll_write_vectored(cx, slices);
        self.note_written(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.pinned().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.pinned().poll_shutdown(cx)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("ticket", self.ticket()).field("stream", self.stream()).finish()
    }
}
