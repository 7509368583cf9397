//! Gives a handler one claimed connection and reports its end.
//!
//! The order at the end is a promise: first the descriptor is closed, then the completion is sent, so whoever reads
//! the completion finds the connection gone. A completion that is dropped by an unwinding thread is "panicked".

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ostler_shared::completion::Outcome;
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::ticket::{Peer, Ticket};
use ostler_shared::wire::{PROGRAMS_MAX, ProgramEnd, Programs, ToSupervisor};

use crate::marks::{Mark, Marker};
use crate::station::Station;
use crate::stream::Stream;

/// A connection that this worker claimed. Reads and writes through it, and through references to it, go to the
/// client. Dropping it closes it and frees the worker's place.
pub struct Connection {
    stream: Closing, // dropped first: fields drop in their order
    completion: Completion,
}

/// Reports, when it is dropped, that its connection has ended. Drop the stream first.
///
/// Leaking it leaks one place of the worker's `concurrency`.
#[must_use = "dropping it tells the supervisor that the connection has ended"]
pub struct Completion {
    station: Arc<Station>,
    ticket: Ticket,
    claimed_at_ns: u64,
    /// What is reported, unless a panic is.
    outcome: Outcome,
    /// `None` when nobody reads marks.
    mark: Option<Mark>,
    /// Let go after the end was reported: what counts the connections of an event loop.
    #[cfg(feature = "tokio")]
    place: Option<crate::tokio::Place>,
}

impl Connection {
    pub(crate) fn new(fd: OwnedFd, ticket: Ticket, station: Arc<Station>) -> Connection {
        let stream = Some(Stream::new(fd, ticket.family));
        let stream = Closing { stream, station: Arc::clone(&station) };
        let claimed_at_ns = monotonic_ns();
        station.completions.note_claim(claimed_at_ns);
        let mark = station.marks.as_ref().and_then(|marks| marks.begin(ticket.conn));
        let completion = Completion {
            mark,
            station,
            ticket,
            claimed_at_ns,
            outcome: Outcome::Done,
            #[cfg(feature = "tokio")]
            place: None,
        };
        Connection { stream, completion }
    }

    /// What the supervisor knows about the connection: its id, listener, family, accept time and peer.
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.completion.ticket
    }

    /// Who connected; `None` over TCP.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.completion.ticket.peer
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

    /// The stream, for its options.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        self.stream.get()
    }

    /// From now on the connection counts as busy only while the handler says so, beginning idle. It is what a server does that
    /// knows where a request begins and ends: a client that takes long to ask is then not taken for a handler that takes
    /// long to answer.
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

    pub(crate) fn take_apart(self) -> (Stream, Completion) {
        let Connection { mut stream, completion } = self;
        (stream.stream.take().expect("a connection has its stream until it is dropped"), completion)
    }

    /// Takes a Unix connection apart.
    ///
    /// # Errors
    /// Gives the connection back when it came over TCP.
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
    pub fn into_tcp(self) -> Result<(TcpStream, Completion), Connection> {
        match self.take_apart() {
            (Stream::Tcp(stream), completion) => {
                completion.lose_sight();
                Ok((stream, completion))
            }
            (stream @ Stream::Unix(_), completion) => Err(Connection::from_parts(stream, completion)),
        }
    }

    /// Keeps a place until the end of the connection was reported.
    #[cfg(feature = "tokio")]
    pub(crate) fn occupy(&mut self, place: crate::tokio::Place) {
        self.completion.place = Some(place);
    }

    /// Puts a connection together again.
    pub(crate) fn from_parts(stream: Stream, completion: Completion) -> Connection {
        let stream = Closing { stream: Some(stream), station: Arc::clone(&completion.station) };
        Connection { stream, completion }
    }
}

impl Completion {
    /// As [`Connection::ticket`].
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// As [`Connection::waited`].
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.claimed_at_ns.saturating_sub(self.ticket.accepted_at_ns))
    }

    /// As [`Connection::is_draining`].
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.station.is_draining()
    }

    /// As [`Connection::mark_by_hand`].
    #[must_use]
    pub fn mark_by_hand(&self) -> Marker {
        Marker::new(self.mark.as_ref())
    }

    /// Reports the end of the connection as one that did not go well: the supervisor counts it among those that failed.
    pub fn fail(mut self) {
        self.outcome = Outcome::Failed;
    }

    /// Tells the supervisor how the programs ended that served this connection, in their order; those beyond
    /// [`PROGRAMS_MAX`] are left out. They are logged, and those that did not end well are kept for `ostler deaths`.
    pub fn tell_programs(&self, ends: &[ProgramEnd]) {
        let ends = ends.iter().take(PROGRAMS_MAX).copied().collect();
        self.station.control.send(&ToSupervisor::Programs(Programs { conn: self.ticket.conn.0, ends }));
    }

    pub(crate) fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    pub(crate) fn lose_sight(&self) {
        if let Some(mark) = &self.mark {
            mark.lose_sight();
        }
    }

    fn reading(&self, read: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let Some(mark) = &self.mark else { return read() };
        mark.reads();
        read().inspect(|bytes| mark.has_read(*bytes))
    }

    fn writing(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let Some(mark) = &self.mark else { return write() };
        write().inspect(|bytes| mark.has_written(*bytes))
    }

    /// As [`Worker::pressure`](crate::Worker::pressure).
    #[must_use]
    pub fn pressure(&self) -> u16 {
        self.station.completions.pressure()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn station(&self) -> &Arc<Station> {
        &self.station
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        // The stream may have been closed by somebody who knows nothing of the reserve.
        self.station.reserve.refill();
        self.station.reserve.ring();
        if let Some(mark) = &self.mark {
            mark.end(); // its place is free before another connection can need it
        }
        let outcome = if thread::panicking() { Outcome::Panicked } else { self.outcome };
        self.station.report_end(self.ticket.conn, self.claimed_at_ns, outcome);
    }
}

/// Closes its stream in a way that gives the descriptor's place to the reserve first.
struct Closing {
    /// `None` once it was taken out.
    stream: Option<Stream>,
    station: Arc<Station>,
}

impl Closing {
    fn get(&self) -> &Stream {
        self.stream.as_ref().expect("a connection has its stream until it is dropped")
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.station.reserve.close(stream.into());
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream().as_fd()
    }
}

impl Read for &Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.completion.reading(|| self.stream().read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.completion.reading(|| self.stream().read_vectored(buffers))
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.completion.writing(|| self.stream().write(bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.completion.writing(|| self.stream().write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream().flush()
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("ticket", self.ticket()).field("stream", self.stream()).finish()
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
