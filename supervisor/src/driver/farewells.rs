//! Lets connections go, and sees to it that a last word arrives.
//!
//! A socket that is closed with unread bytes in it, or that gets more of them afterwards, answers with a reset: a client
//! that still sends its request then sees its write fail and never looks for the reply (tcp(7), unix(7)). So a
//! connection that gets a reply *lingers*: our side is shut down behind the reply, and what the client sends is thrown
//! away until it has ended too. Nobody lingers longer than [`LINGER`], sends more than [`DISCARDED_MAX`], or has to
//! compete with more than [`LINGERING_MAX`] others: then the socket is closed as it is.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ostler_config::checked::Farewell;
use ostler_pool::Moment;
use ostler_shared::ConnId;

use super::Driver;
use super::sources::{Source, Sources};

/// How long a client may go on sending after it got its reply.
const LINGER: Duration = Duration::from_secs(5);
/// Most connections that linger at a time; one more, and the one that has done so longest is closed.
pub(crate) const LINGERING_MAX: usize = 256;
/// Most bytes that are taken from one client after its reply …
const DISCARDED_MAX: usize = 1024 * 1024;
/// … and most of them in one turn of the loop.
const DISCARDED_AT_ONCE_MAX: usize = 64 * 1024;

/// A connection that has its reply.
#[derive(Debug)]
struct Lingering {
    /// Whatever its family: read(2), write(2) and shutdown(2) are the same.
    stream: UnixStream,
    discarded: usize,
}

/// Whether a client may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversation {
    Open,
    Over,
}

/// The connections that have their reply and are not over yet.
#[derive(Debug, Default)]
pub(crate) struct Farewells {
    lingering: BTreeMap<ConnId, Lingering>,
    /// Until when each may linger, the first first; some are over already.
    until: VecDeque<(Moment, ConnId)>,
}

impl Farewells {
    /// Sends the last word, and closes the connection as soon as that does no harm.
    pub(crate) fn say(&mut self, now: Moment, conn: ConnId, connection: OwnedFd, text: &str, sources: &Sources) {
        let stream = UnixStream::from(connection);
        // Nothing was ever written to it: a reply, which has a few KiB at most, is taken at once or not at all.
        let said = stream.set_nonblocking(true).and_then(|()| (&stream).write_all(text.as_bytes()));
        let said = said.and_then(|()| stream.shutdown(Shutdown::Write));
        let mut lingering = Lingering { stream, discarded: 0 };
        if said.is_err() || lingering.discard() == Conversation::Over {
            return;
        }
        if self.lingering.len() == LINGERING_MAX {
            self.close_oldest(sources);
        }
        // Unwatched it would linger to its deadline for nothing; closed it may still be lucky.
        if sources.add(&lingering.stream, Source::Lingering(conn)).is_ok() {
            self.lingering.insert(conn, lingering);
            self.until.push_back((now + LINGER, conn));
        }
    }

    /// Throws away what a client has sent, and closes the connection when it is over.
    pub(crate) fn attend(&mut self, conn: ConnId, sources: &Sources) {
        let Some(lingering) = self.lingering.get_mut(&conn) else { return };
        if lingering.discard() == Conversation::Over {
            self.close(conn, sources);
        }
    }

    /// Closes those whose time is over.
    pub(crate) fn close_overdue(&mut self, now: Moment, sources: &Sources) {
        while self.next_deadline().is_some_and(|until| until <= now) {
            self.close_oldest(sources);
        }
    }

    pub(crate) fn next_deadline(&mut self) -> Option<Moment> {
        while self.until.front().is_some_and(|(_, conn)| !self.lingering.contains_key(conn)) {
            self.until.pop_front();
        }
        self.until.front().map(|(until, _)| *until)
    }

    fn close_oldest(&mut self, sources: &Sources) {
        if self.next_deadline().is_some()
            && let Some((_, conn)) = self.until.pop_front()
        {
            self.close(conn, sources);
        }
    }

    fn close(&mut self, conn: ConnId, sources: &Sources) {
        if let Some(lingering) = self.lingering.remove(&conn) {
            sources.remove(&lingering.stream);
        }
    }
}

impl Lingering {
    fn discard(&mut self) -> Conversation {
        let mut buffer = [0; 4096];
        let mut taken = 0;
        while taken < DISCARDED_AT_ONCE_MAX {
            match (&self.stream).read(&mut buffer) {
                Ok(0) => return Conversation::Over,
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_reset) => return Conversation::Over,
            }
        }
        self.discarded += taken;
        if self.discarded > DISCARDED_MAX { Conversation::Over } else { Conversation::Open }
    }
}

impl Driver {
    pub(super) fn let_go(&mut self, conn: ConnId, farewell: &Farewell) {
        let connection = self.parking.take(conn, &self.sources).connection;
        match farewell {
            Farewell::Close => {}
            Farewell::Reply(text) => self.farewells.say(self.clock.now(), conn, connection, text, &self.sources),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

    fn now() -> Moment {
        Moment::from_ns(1)
    }

    fn say(farewells: &mut Farewells, sources: &Sources, number: u64) -> UnixStream {
        let (client, ours) = UnixStream::pair().unwrap();
        farewells.say(now(), ConnId(number), ours.into(), REPLY, sources);
        client
    }

    fn heard(client: &mut UnixStream) -> io::Result<String> {
        let mut text = String::new();
        client.set_nonblocking(true)?;
        client.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_client_that_still_sends_reads_its_reply_and_an_orderly_end() {
        let (sources, mut farewells) = (Sources::new().unwrap(), Farewells::default());
        let mut client = say(&mut farewells, &sources, 1);
        for _ in 0..3 {
            client.write_all(&[b'x'; 10_000]).unwrap();
            assert_eq!(sources.wait(Some(Duration::ZERO)), [Source::Lingering(ConnId(1))]);
            farewells.attend(ConnId(1), &sources);
        }
        assert_eq!(heard(&mut client).unwrap(), REPLY);
        drop(client);
        farewells.attend(ConnId(1), &sources);
        assert_eq!((farewells.lingering.len(), farewells.next_deadline()), (0, None));
        assert_eq!(sources.wait(Some(Duration::ZERO)), []);
    }

    #[test]
    fn a_client_that_has_ended_does_not_linger() {
        let (sources, mut farewells) = (Sources::new().unwrap(), Farewells::default());
        let (mut client, ours) = UnixStream::pair().unwrap();
        client.write_all(b"request").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        farewells.say(now(), ConnId(1), ours.into(), REPLY, &sources);
        assert_eq!((heard(&mut client).unwrap().as_str(), farewells.lingering.len()), (REPLY, 0));
    }

    #[test]
    fn nobody_lingers_beyond_the_deadline_or_sends_for_ever() {
        let (sources, mut farewells) = (Sources::new().unwrap(), Farewells::default());
        let _silent = say(&mut farewells, &sources, 1);
        assert_eq!(farewells.next_deadline(), Some(now() + LINGER));
        farewells.close_overdue(now() + LINGER / 2, &sources);
        assert_eq!(farewells.lingering.len(), 1);
        farewells.close_overdue(now() + LINGER, &sources);
        assert_eq!((farewells.lingering.len(), farewells.next_deadline()), (0, None));

        let mut endless = say(&mut farewells, &sources, 2);
        let mut sent = 0;
        while farewells.lingering.len() == 1 {
            assert!(sent <= DISCARDED_MAX + DISCARDED_AT_ONCE_MAX, "{sent} bytes and still no end");
            endless.write_all(&[b'x'; 32 * 1024]).unwrap();
            sent += 32 * 1024;
            farewells.attend(ConnId(2), &sources);
        }
        assert!(sent > DISCARDED_MAX);
    }

    #[test]
    fn one_too_many_ends_the_one_that_has_lingered_longest() {
        let (sources, mut farewells) = (Sources::new().unwrap(), Farewells::default());
        let mut clients: Vec<UnixStream> =
            (0..=LINGERING_MAX as u64).map(|number| say(&mut farewells, &sources, number)).collect();
        assert_eq!(farewells.lingering.len(), LINGERING_MAX);
        assert!(!farewells.lingering.contains_key(&ConnId(0)));
        assert_eq!(heard(&mut clients[0]).unwrap(), REPLY, "it had sent nothing, so nothing is reset");
    }
}
