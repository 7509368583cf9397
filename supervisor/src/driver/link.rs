//! Holds what the supervisor keeps of one worker: its mailbox, its channels, its process.

use std::io::{self, Read};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::eventfd::EventFd;
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use ostler_config::checked::Handoff;
use ostler_pool::{PoolNo, Settings, Step};
use ostler_shared::packet::{self, Claim, ClaimError, Take, Wait};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::sys::socket::reset_receive_options;
use ostler_shared::ticket::{BadTicket, TICKET_LEN};
use ostler_shared::wire::{ToWorker, Welcome};
use ostler_shared::{ConnId, WorkerName};

use super::child::{Ended, REPORT_LEN, Stage, read_report};
use super::output::{Allowance, LastWords, Pipe};
use super::parking::{Parked, Parking};
use super::rings::RingNo;
use super::standing_by::Look;
use super::unmodified::Goodbye;
use super::worker_notify::Notices;

/// How far a worker's introduction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    /// It has not said Hello.
    Stranger,
    /// It has.
    Introduced,
    /// It has said Ready; a template that it has loaded everything.
    Serving,
    /// It broke the protocol: nothing more is read from it.
    Ignored,
}

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It serves.
    Worker,
    /// It forks workers, and is never handed a connection.
    Template,
}

/// One worker or template, from before its spawn until its mailbox is empty.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) name: WorkerName,
    pub(crate) pool: PoolNo,
    pub(crate) settings: Arc<Settings>,
    pub(crate) role: Role,
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    /// Our end: connections go in here.
    pub(crate) mailbox: OwnedFd,
    /// The worker's end, kept so that the mailbox outlives it.
    pub(crate) mailbox_reader: OwnedFd,
    /// Where it is spoken with; an unmodified program does not speak.
    pub(crate) control: Option<OwnedFd>,
    /// Where it reports completions.
    pub(crate) ring: RingNo,
    /// What it rings while we wait.
    pub(crate) doorbell: EventFd,
    /// Where one that is not on the library speaks of itself.
    pub(crate) notices: Option<Notices>,
    /// The nonce of the question that it has not answered.
    pub(crate) asked: Option<NonZeroU64>,
    pub(crate) exec: Option<io::PipeReader>,
    pub(crate) output: Option<Pipe>,
    pub(crate) errors: Option<Pipe>,
    pub(crate) last_words: LastWords,
    /// How many of its lines are told.
    pub(crate) allowance: Allowance,
    pub(crate) manners: Manners,
    /// Whether it is looked at, to see that it waits for connections.
    pub(crate) look: Look,
    /// What its Welcome will say.
    pub(crate) welcome: Welcome,
    /// The last signal that we sent it.
    pub(crate) sent: Option<Step>,
    /// Whether it has closed its listener, where it is an unmodified program.
    pub(crate) has_left: bool,
    /// How far its farewell is, where it is an unmodified program.
    pub(crate) goodbye: Goodbye,
    /// What it was doing before it was aborted.
    pub(crate) portrait: Vec<String>,
    /// Whether somebody is about to see what it does, because it is slow.
    pub(crate) is_looked_at: bool,
    /// How it ended, once it is reaped; and what was taken out of its mailbox since.
    pub(crate) ended: Option<(Ended, Vec<ConnId>)>,
}

/// Whether a mailbox could be emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emptied {
    /// Nothing is left in it.
    Wholly,
    /// Nothing is left, and something in it was no connection: the worker has tampered with its socket.
    WithLosses,
    /// We have no descriptor for the next one, or the kernel no memory; it waits where it is.
    Starved,
}

impl Link {
    /// Connections that wait unclaimed.
    pub(crate) fn depth(&self) -> u64 {
        ostler_shared::sys::fd::unread_records(self.mailbox_reader.as_fd(), TICKET_LEN).unwrap_or(0) as u64
    }

    /// Takes what is unclaimed out of the mailbox and parks it. Nothing is lost when descriptors run out: each is
    /// looked at before it is taken. The worker shares the socket, so nothing that comes out of it is believed: what
    /// is no connection is dropped, and its ticket ends as lost with the worker.
    pub(crate) fn recall(&self, parking: &mut Parking, taken: &mut Vec<ConnId>) -> Emptied {
        reset_receive_options(self.mailbox_reader.as_fd());
        let mut emptied = Emptied::Wholly;
        loop {
            let peeked = match self.take_out(Take::Peek) {
                Ok(Claim::Connection(copy, ticket)) => Some((copy, ticket)),
                Ok(Claim::Truncated(_)) if no_descriptor_left() => return Emptied::Starved,
                Err(error) if self.is_knock(&error) => None,
                Ok(Claim::Truncated(_)) | Err(ClaimError::Ticket(_)) => None,
                Err(ClaimError::Io(error)) if is_out_of_memory(&error) => return Emptied::Starved,
                Ok(Claim::Empty | Claim::End) | Err(ClaimError::Io(_)) => return emptied,
            };
            let (connection, ticket) = match (self.take_out(Take::Message), peeked) {
                (Ok(Claim::Connection(connection, ticket)), _) => (connection, ticket),
                // A helper thread took the last descriptor between the two calls: the copy is the same connection,
                // unless the worker claimed that one meanwhile.
                (Ok(Claim::Truncated(ticket)), Some((copy, peeked))) if ticket == peeked => (copy, ticket),
                (Err(error), _) if self.is_knock(&error) => continue,
                (Ok(Claim::Truncated(_)) | Err(ClaimError::Ticket(_)), _) => {
                    emptied = Emptied::WithLosses;
                    continue;
                }
                (Err(ClaimError::Io(error)), _) if is_out_of_memory(&error) => return Emptied::Starved,
                (Ok(Claim::Empty | Claim::End) | Err(ClaimError::Io(_)), _) => return emptied,
            };
            taken.push(ticket.conn);
            parking.park(Parked { connection, ticket, pool: self.pool }, monotonic_ns());
        }
    }

    fn take_out(&self, take: Take) -> Result<Claim, ClaimError> {
        packet::claim(self.mailbox_reader.as_fd(), Wait::Not, take)
    }

    /// Whether this is what we put into the mailbox of an unmodified program to be given a sign of life. Nobody else can.
    fn is_knock(&self, error: &ClaimError) -> bool {
        let is_short = matches!(error, ClaimError::Ticket(BadTicket::Length(len)) if *len == KNOCK.len());
        is_short && self.settings.pool.handoff == Handoff::Accept
    }

    /// Tells the worker to finish and leave. The mailbox's end says it even to one that never reads its control.
    pub(crate) fn drain(&self) {
        if let (Ok(frame), Some(control)) = (ostler_shared::wire::encode(&ToWorker::Drain), &self.control) {
            let _told = packet::send_frame(control.as_fd(), &frame);
        }
        let _ended = shutdown(self.mailbox.as_raw_fd(), Shutdown::Write);
    }

    /// What the child reported on its way to exec; `None` while it says nothing, and once it has executed.
    pub(crate) fn exec_report(&mut self) -> Option<(Stage, io::Error)> {
        let mut report = [0; REPORT_LEN];
        let mut pipe = self.exec.take()?;
        // It is written at once into an empty pipe, so it is read at once.
        match pipe.read(&mut report) {
            Ok(REPORT_LEN) => Some(read_report(report)),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.exec = Some(pipe);
                None
            }
            Err(_) => None,
        }
    }
}

/// What makes the mailbox of an unmodified program readable without a connection. Shorter than a ticket, so that it does not
/// count in the depth.
pub(crate) const KNOCK: [u8; 1] = [0];

/// The kernel's, just now: nothing has left the mailbox.
fn is_out_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}

/// Tells a process at its limit from a worker that plays with its socket.
fn no_descriptor_left() -> bool {
    ostler_shared::sys::fd::duplicate(std::io::stderr().as_fd(), 0).is_err()
}
