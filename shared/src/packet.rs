//! Carries connections through mailboxes and frames through control channels.
//!
//! Both are SEQPACKET socketpairs: a message arrives whole or not at all. One message in a mailbox is exactly
//! one connection and its ticket, so that a recall can put a connection back without touching its neighbours.
//! Truncation is an outcome with a name here, never something that a caller can overlook.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};

use crate::sys::msg::{self, RawMessage};
use crate::ticket::{BadTicket, TICKET_LEN, Ticket};

/// Whether a receiver sleeps until something arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Sleep until a message or the end arrives.
    Block,
    /// Answer [`Claim::Empty`] at once.
    Not,
}

/// Whether a received message leaves the mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It leaves the mailbox and is the receiver's now.
    Message,
    /// It stays; the receiver gets a copy of the descriptor. A truncated peek loses nothing.
    Peek,
}

/// What came out of a mailbox.
#[derive(Debug)]
pub enum Claim {
    /// A connection and its ticket.
    Connection(OwnedFd, Ticket),
    /// The ticket came, its descriptor did not: this process has no free descriptor. After [`Take::Message`]
    /// the connection is gone; after [`Take::Peek`] it still waits.
    Truncated(Ticket),
    /// Nothing waits ([`Wait::Not`]).
    Empty,
    /// Nothing waits and nothing will come any more.
    End,
}

/// A message that can't be a connection with its ticket.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The message is no ticket, or has not exactly one descriptor.
    #[error("a mailbox held a message that is no connection: {0}")]
    Ticket(#[from] BadTicket),
    /// The kernel refused.
    #[error("cannot read the mailbox: {0}")]
    Io(#[from] io::Error),
}

/// Makes a connected pair of SEQPACKET sockets, close-on-exec. Both ends are blocking: `O_NONBLOCK` would be
/// shared by all holders of an end, so each call says for itself whether it waits.
///
/// # Errors
/// As socketpair(2): `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Puts a connection with its ticket into a mailbox. Never waits.
///
/// # Errors
/// `EAGAIN`, `ETOOMANYREFS`, `ENOBUFS`, `ENOMEM`: try again later. `EPIPE`, `ECONNRESET`: the worker shut its end down.
pub fn hand_off(mailbox: BorrowedFd<'_>, connection: BorrowedFd<'_>, ticket: &Ticket) -> io::Result<()> {
    retry_interrupted(|| msg::send_with_fd(mailbox, &ticket.to_bytes(), connection))
}

/// Takes (or peeks at) the next connection in a mailbox.
///
/// Surplus descriptors are closed. EINTR is retried, since signals reach a worker by other means.
///
/// # Errors
/// [`ClaimError::Ticket`] when the message is not one that a supervisor sends; [`ClaimError::Io`] when the kernel refuses.
pub fn claim(mailbox: BorrowedFd<'_>, wait: Wait, take: Take) -> Result<Claim, ClaimError> {
    let mut flags = MsgFlags::empty();
    flags.set(MsgFlags::MSG_DONTWAIT, wait == Wait::Not);
    flags.set(MsgFlags::MSG_PEEK, take == Take::Peek);
    // One byte more than a ticket, so that a longer message shows itself.
    let mut buffer = [0; TICKET_LEN + 1];
    let message = match retry_interrupted(|| msg::recv(mailbox, &mut buffer, flags.bits())) {
        Ok(message) => message,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Claim::Empty),
        Err(error) => return Err(error.into()),
    };
    let RawMessage { len, fds, fds_truncated, bytes_truncated: _ } = message;
    if len == 0 && fds.is_empty() {
        return Ok(Claim::End);
    }
    let ticket = Ticket::from_bytes(&buffer[..len])?;
    match fds.into_iter().next() {
        Some(connection) if !fds_truncated => Ok(Claim::Connection(connection, ticket)),
        _ => Ok(Claim::Truncated(ticket)),
    }
}

/// Sends one frame on a control channel. Never waits.
///
/// # Errors
/// `EAGAIN` when the other side does not read; `EPIPE` when it is gone.
pub fn send_frame(control: BorrowedFd<'_>, frame: &[u8]) -> io::Result<()> {
    retry_interrupted(|| {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        nix::sys::socket::send(control.as_raw_fd(), frame, flags).map_err(io::Error::from)
    })
    .map(|_sent| ()) // SEQPACKET: whole or not at all
}

/// Sends one frame with descriptors on a control channel. Never waits.
///
/// # Errors
/// As [`hand_off`].
pub fn send_frame_with(control: BorrowedFd<'_>, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    retry_interrupted(|| msg::send_with_fds(control, frame, fds))
}

/// What came out of a control channel that may carry descriptors.
#[derive(Debug)]
pub struct FrameWith {
    /// Bytes in the buffer; 0, without descriptors, is the end.
    pub len: usize,
    /// The descriptors that came along, in order.
    pub fds: Vec<OwnedFd>,
    /// Whether all of them arrived: this process may have had no number free.
    pub arrived: Arrived,
}

/// Whether all descriptors of a message arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// They did.
    All,
    /// Some were lost.
    Some,
}

/// Receives one frame and its descriptors from a control channel into `buffer`, as [`recv_frame`] does.
///
/// # Errors
/// As [`recv_frame`].
pub fn recv_frame_with(control: BorrowedFd<'_>, buffer: &mut [u8], wait: Wait) -> io::Result<FrameWith> {
    let flags = if wait == Wait::Not { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
    let message = retry_interrupted(|| msg::recv(control, buffer, flags.bits()))?;
    let arrived = if message.fds_truncated { Arrived::Some } else { Arrived::All };
    Ok(FrameWith { len: message.len, fds: message.fds, arrived })
}

/// Receives one frame from a control channel into `buffer`; descriptors that came along are closed by the kernel.
///
/// Returns the frame's length; 0 is the end. A frame longer than the buffer is reported with the buffer's full
/// length, so give one byte more than the longest legal frame.
///
/// # Errors
/// `EAGAIN` with [`Wait::Not`] when nothing is there.
pub fn recv_frame(control: BorrowedFd<'_>, buffer: &mut [u8], wait: Wait) -> io::Result<usize> {
    let flags = if wait == Wait::Not { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
    retry_interrupted(|| nix::sys::socket::recv(control.as_raw_fd(), buffer, flags).map_err(io::Error::from))
}

/// Repeats a system call while a signal interrupts it (signal(7)).
///
/// # Errors
/// Whatever the call answers other than `EINTR`.
pub fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
