//! Keeps accepted connections that are in nobody else's hands, and sees their clients hang up.
//!
//! The pool knows them by identity only. A connection has exactly one owner: this, a mailbox, or a worker. Whatever is
//! here when the loop waits stands in the waiting line of its pool.
//!
//! # Who hangs up
//! Most of those who wait do so for less than a millisecond. Only who is still here after [`WATCH_AFTER`] is registered
//! with epoll, edge-triggered, and for nothing but the end of the conversation: a request that arrives wakes nobody,
//! and nothing is polled. Looking is not reading: the bytes of a client stay where they are, for a worker.
//!
//! What can be known of a client that does not wait any more:
//!
//! | it has | kernel says | ostler |
//! |---|---|---|
//! | closed a Unix socket | HUP | gone: nobody could be answered, whatever had been asked |
//! | reset a TCP connection | ERR, HUP | gone, likewise |
//! | shut its side down (Unix) | RDHUP | stays: it waits for the answer |
//! | sent FIN over TCP, behind unread bytes | RDHUP | stays: it may have closed, or wait for the answer; who can tell? |
//! | sent FIN over TCP, and nothing before it | RDHUP | gone: nothing was asked |

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use ostler_pool::{Event, PoolNo};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::ticket::Family;
use ostler_shared::{ConnId, Ticket};

use super::Driver;
use super::sources::{Source, Sources};

/// Who has waited this long is watched, at the next multiple of it.
pub(crate) const WATCH_AFTER: Duration = Duration::from_millis(10);

/// An accepted connection and its ticket.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) connection: OwnedFd,
    pub(crate) ticket: Ticket,
    pub(crate) pool: PoolNo,
}

/// Whether the loop hears of a client's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    On,
    Off,
}

/// The connections in the supervisor's hands.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    parked: HashMap<ConnId, (Parked, Watch)>,
    /// Parked and not watched, in the order in which they came; some have left again.
    young: VecDeque<Young>,
}

#[derive(Debug, Clone, Copy)]
struct Young {
    conn: ConnId,
    parked_at_ns: u64,
}

impl Parking {
    pub(crate) fn len(&self) -> usize {
        self.parked.len()
    }

    /// # Panics
    /// When the connection is here already (I1).
    pub(crate) fn park(&mut self, parked: Parked, now_ns: u64) {
        let conn = parked.ticket.conn;
        let doubled = self.parked.insert(conn, (parked, Watch::Off));
        assert!(doubled.is_none(), "I1: {conn} is parked twice");
        self.forget_those_who_left();
        self.young.push_back(Young { conn, parked_at_ns: now_ns });
    }

    /// # Panics
    /// When the connection is not here (I1).
    pub(crate) fn take(&mut self, conn: ConnId, sources: &Sources) -> Parked {
        let taken = self.parked.remove(&conn);
        let (parked, watch) = taken.unwrap_or_else(|| panic!("I1: {conn} is not in our hands"));
        if watch == Watch::On {
            // Else a worker's end of it would go on waking us: the registration is the socket's, not our descriptor's.
            sources.remove(&parked.connection);
        }
        parked
    }

    /// How long until somebody has to be watched.
    pub(crate) fn next_look(&mut self, now_ns: u64) -> Option<Duration> {
        self.forget_those_who_left();
        let due = self.young.front()?.due_ns();
        Some(Duration::from_nanos(due.saturating_sub(now_ns)))
    }

    /// Begins to watch those who have waited long enough.
    pub(crate) fn watch_the_patient(&mut self, now_ns: u64, sources: &Sources) {
        while self.young.front().is_some_and(|young| young.due_ns() <= now_ns) {
            let Some(Young { conn, .. }) = self.young.pop_front() else { return };
            let Some((parked, watch @ Watch::Off)) = self.parked.get_mut(&conn) else { continue };
            match sources.add_waiting(&parked.connection, Source::Waiting(conn)) {
                Ok(()) => *watch = Watch::On,
                // Its client's end will show when a worker serves it, as it would without us.
                Err(error) => tracing::debug!(%conn, "cannot watch for its client's end: {error}"),
            }
        }
    }

    /// The connection, when its client has gone.
    fn given_up(&self, conn: ConnId) -> Option<&Parked> {
        self.parked.get(&conn).map(|(parked, _)| parked).filter(|parked| has_gone(parked))
    }

    /// Keeps the queue as short as it would be if those who leave left it too.
    fn forget_those_who_left(&mut self) {
        while self.young.front().is_some_and(|young| !self.parked.contains_key(&young.conn)) {
            self.young.pop_front();
        }
    }
}

impl Young {
    fn due_ns(self) -> u64 {
        // Those of the same 10 ms are due together, else each of them would wake the loop on its own.
        let after = u64::try_from(WATCH_AFTER.as_nanos()).expect("a short while");
        (self.parked_at_ns + after).next_multiple_of(after)
    }
}

impl Driver {
    /// Begins to watch those who have waited long enough.
    pub(super) fn watch_the_patient(&mut self) {
        self.parking.watch_the_patient(monotonic_ns(), &self.sources);
    }

    /// Something has happened to the client of a connection that waits.
    pub(super) fn look_after(&mut self, conn: ConnId) {
        // In this very turn a worker may have been handed it.
        if let Some(pool) = self.parking.given_up(conn).map(|parked| parked.pool) {
            self.step(Event::ClientGone { pool, conn });
        }
    }
}

/// Whether nobody can be answered any more, or nothing was asked: the table at the top.
fn has_gone(parked: &Parked) -> bool {
    // HUP and ERR are told without being asked for.
    let mut fds = [PollFd::new(parked.connection.as_fd(), PollFlags::empty())];
    // Interrupted or without memory it says nothing, and a worker serves whoever it is.
    let has_ended = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|told| told > 0);
    has_ended
        || match parked.ticket.family {
            Family::Unix => false,
            Family::V4 | Family::V6 => has_ended_without_a_word(&parked.connection),
        }
}

/// Looks at the first byte that was sent, and leaves it where it is.
fn has_ended_without_a_word(connection: &OwnedFd) -> bool {
    let looked = recv(connection.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
    looked.is_ok_and(|bytes| bytes == 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn parked(connection: impl Into<OwnedFd>, family: Family) -> Parked {
        let ticket = Ticket { conn: ConnId(1), listener: 0, family, accepted_at_ns: 0, peer: None };
        Parked { connection: connection.into(), ticket, pool: PoolNo(0) }
    }

    fn unix() -> (UnixStream, Parked) {
        let (client, ours) = UnixStream::pair().unwrap();
        (client, parked(ours, Family::Unix))
    }

    fn tcp() -> (TcpStream, Parked) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, parked(listener.accept().unwrap().0, Family::V4))
    }

    /// Waits until the end of the conversation has arrived over the loopback.
    fn until_told(parked: &Parked) {
        // The other side will send nothing more; nix has no name for it (poll(2)).
        let no_more = PollFlags::from_bits_retain(libc::POLLRDHUP);
        let told = poll(&mut [PollFd::new(parked.connection.as_fd(), no_more)], PollTimeout::from(10_000u16));
        assert_eq!(told, Ok(1));
    }

    #[test]
    fn who_closes_a_unix_socket_is_gone_and_who_shuts_its_side_down_waits() {
        let (mut client, parked) = unix();
        assert!(!has_gone(&parked));
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(!has_gone(&parked));
        drop(client);
        assert!(has_gone(&parked), "whatever it had asked, nobody is there for the answer");
    }

    #[test]
    fn who_shuts_its_side_of_a_unix_socket_down_without_a_word_waits_for_one_of_ours() {
        let (client, parked) = unix();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(!has_gone(&parked));
    }

    #[test]
    fn a_fin_is_a_hang_up_only_when_nothing_was_asked() {
        let (client, silent) = tcp();
        drop(client);
        until_told(&silent);
        assert!(has_gone(&silent));

        let (mut client, asking) = tcp();
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        until_told(&asking);
        assert!(!has_gone(&asking));
    }

    #[test]
    fn a_reset_is_a_hang_up_whatever_was_asked() {
        let (mut client, asking) = tcp();
        client.write_all(b"request").unwrap();
        let mut server = std::fs::File::from(asking.connection.try_clone().unwrap());
        server.write_all(b"unread").unwrap();
        // A socket that is closed with unread bytes in it resets its connection.
        poll(&mut [PollFd::new(client.as_fd(), PollFlags::POLLIN)], PollTimeout::from(10_000u16)).unwrap();
        drop(client);
        until_told(&asking);
        assert!(has_gone(&asking));
    }

    #[test]
    fn an_end_wakes_the_loop_once_and_a_request_never() {
        let sources = Sources::new().unwrap();
        let mut parking = Parking::default();
        let (mut client, parked) = unix();
        parking.park(parked, 0);
        assert_eq!(parking.next_look(0), Some(WATCH_AFTER));
        parking.watch_the_patient(0, &sources);
        let after = u64::try_from(WATCH_AFTER.as_nanos()).unwrap();
        parking.watch_the_patient(after, &sources);
        assert_eq!(parking.next_look(after), None);
        client.write_all(b"request").unwrap();
        assert_eq!(sources.wait(Some(Duration::ZERO)), []);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(sources.wait(Some(Duration::ZERO)), [Source::Waiting(ConnId(1))]);
        assert!(parking.given_up(ConnId(1)).is_none());
        drop(client);
        assert_eq!(sources.wait(Some(Duration::ZERO)), [Source::Waiting(ConnId(1))]);
        assert!(parking.given_up(ConnId(1)).is_some());
        assert_eq!(sources.wait(Some(Duration::ZERO)), []);
    }

    #[test]
    fn who_was_handed_out_wakes_nobody_though_a_worker_holds_its_socket() {
        let sources = Sources::new().unwrap();
        let mut parking = Parking::default();
        let (client, parked) = unix();
        let held_by_a_worker = parked.connection.try_clone().unwrap();
        parking.park(parked, 0);
        parking.watch_the_patient(u64::MAX, &sources);
        drop(parking.take(ConnId(1), &sources));
        drop(client);
        assert_eq!(sources.wait(Some(Duration::ZERO)), []);
        drop(held_by_a_worker);
    }

    #[test]
    fn whoever_leaves_soon_is_not_watched_and_leaves_nothing_behind() {
        let sources = Sources::new().unwrap();
        let mut parking = Parking::default();
        let _clients: Vec<UnixStream> = (1..100)
            .map(|number| {
                let (client, mut parked) = unix();
                parked.ticket.conn = ConnId(number);
                parking.park(parked, 0);
                parking.take(ConnId(number), &sources);
                client
            })
            .collect();
        assert_eq!((parking.young.len(), parking.next_look(0)), (1, None));
    }
}
