//! Serves the control socket without ever waiting for a client (I5).
//!
//! Each client has one request, a deadline to send it, and a deadline to read the answer. Who waits for a verdict
//! may wait as long as the verdict takes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::unistd::geteuid;
use ostler_config::checked::{Address, Socket};
use ostler_pool::Moment;
use ostler_shared::stream::{Flushed, FrameReader, FrameWriter, Next};
use ostler_shared::ticket::Peer;

use super::client::user_name;
use super::protocol::{CROWDED, Follow, REQUEST_MAX, Request, Response, decode, encode};
use crate::driver::listeners::{Accept, ListenError, Listener};
use crate::exit::ExitCode;

/// Most clients at a time; a further one is turned away.
const CLIENTS_MAX: usize = 64;
/// How long a client may take to say what it wants, or to read what it gets.
const CLIENT_DEADLINE: Duration = Duration::from_secs(5);

/// A client that has so many bytes unread hears no more of how it goes, only the verdict.
const PROGRESS_BACKLOG_MAX: usize = 64 * 1024;

/// A client of the control socket.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    reader: FrameReader,
    writer: FrameWriter,
    stage: Stage,
    deadline: Option<Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its request is not here yet.
    Asking,
    /// It waits for a verdict.
    Waiting,
    /// It reads the log.
    Reading,
    /// It was told everything; what is left is to write it.
    Leaving,
}

/// What the driver has to do for a client.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Nothing yet.
    Nothing,
    /// Answer this request.
    Request(Request),
    /// Wait until it can be written to.
    WriteLater,
    /// It reads the log, and has taken what it got.
    Feed,
    /// It is gone, or has to go.
    Drop,
}

/// What became of a portion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fed {
    /// It is written.
    All,
    /// Some of it waits until the client reads.
    Blocked,
    /// There is no such client, or it has gone.
    Gone,
}

/// Whether a client was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// This one.
    Client(u64),
    /// Nobody waits, or it was turned away.
    Nobody,
    /// There is no descriptor for whoever waits.
    Later,
}

/// The control socket and its clients.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Listener,
    /// Who we are, for those whom we turn away.
    owner: String,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
}

impl Server {
    /// Opens the control socket: 0600 before anybody can connect.
    ///
    /// # Errors
    /// As [`Listener::open`].
    pub(crate) fn open(path: &std::path::Path) -> Result<Server, ListenError> {
        let address = Address::UnixPath { path: path.to_owned(), shown: path.display().to_string() };
        let options = Socket { mode: Some(0o600), owner: None, group: None, backlog: 64 };
        let listener = Listener::open(&address, &options)?;
        Ok(Server { listener, owner: user_name(geteuid().as_raw()), clients: BTreeMap::new(), next_client: 0 })
    }

    pub(crate) fn readable(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes one client in.
    pub(crate) fn accept(&mut self, now: Moment) -> Admission {
        let (connection, caller) = match self.listener.accept() {
            Accept::Connection(connection, caller) => (connection, caller),
            Accept::Starved(_) => return Admission::Later,
            Accept::TryNext | Accept::Empty | Accept::Ended => return Admission::Nobody,
        };
        let stream = UnixStream::from(connection);
        if stream.set_nonblocking(true).is_err() {
            return Admission::Nobody;
        }
        self.next_client += 1;
        let mut client = Client {
            stream,
            reader: FrameReader::new(REQUEST_MAX),
            writer: FrameWriter::default(),
            stage: Stage::Asking,
            deadline: Some(now + CLIENT_DEADLINE),
        };
        if let Some(why) = self.objection(caller.peer()) {
            // A small frame into an empty socket goes out at once or never.
            client.writer.push(&encode(&Response::Done { text: why, exit: ExitCode::Failed as u8 }));
            let _said = client.writer.flush(&mut client.stream);
            return Admission::Nobody;
        }
        self.clients.insert(self.next_client, client);
        Admission::Client(self.next_client)
    }

    /// Gives the socket back, and then says the last word to those who waited for it: what they do next will find
    /// the path free. Those who read the log hear that nothing follows.
    pub(crate) fn close(mut self, waiting: &[u64], response: &Response, readers: &[u64], nothing_follows: &Response) {
        drop(self.listener);
        let told = waiting.iter().map(|number| (number, response));
        for (number, response) in told.chain(readers.iter().map(|number| (number, nothing_follows))) {
            if let Some(client) = self.clients.get_mut(number) {
                client.writer.push(&encode(response));
                let _said = client.writer.flush(&mut client.stream);
            }
        }
    }

    fn objection(&self, peer: Option<Peer>) -> Option<String> {
        let own = geteuid().as_raw();
        match peer {
            Some(peer) if peer.uid == own || peer.uid == 0 => {}
            Some(_) | None => return Some(format!("this supervisor belongs to {}", self.owner)),
        }
        (self.clients.len() >= CLIENTS_MAX).then(|| format!("{CLIENTS_MAX} {CROWDED}"))
    }

    /// The descriptor of a client, while there is one.
    pub(crate) fn client_fd(&self, client: u64) -> Option<BorrowedFd<'_>> {
        self.clients.get(&client).map(|client| client.stream.as_fd())
    }

    /// A client can be read from, or written to.
    pub(crate) fn attend(&mut self, number: u64) -> Wish {
        let Some(client) = self.clients.get_mut(&number) else { return Wish::Nothing };
        match client.stage {
            Stage::Asking => match client.reader.next(&mut client.stream) {
                Ok(Next::Later) => Wish::Nothing,
                Ok(Next::Frame(frame)) => match decode(&frame) {
                    Ok(request) => {
                        client.stage = Stage::Waiting;
                        client.deadline = None;
                        Wish::Request(request)
                    }
                    Err(bad) => {
                        let text = format!("cannot understand you: {bad}");
                        client.writer.push(&encode(&Response::Done { text, exit: ExitCode::Failed as u8 }));
                        let _said = client.writer.flush(&mut client.stream);
                        Wish::Drop
                    }
                },
                Ok(Next::End) | Err(_) => Wish::Drop,
            },
            // It has nothing more to say; what makes it readable is its end.
            Stage::Waiting => match client.reader.next(&mut client.stream) {
                Ok(Next::Later) => Wish::Nothing,
                Ok(Next::Frame(_) | Next::End) | Err(_) => Wish::Drop,
            },
            Stage::Reading => match client.reader.next(&mut client.stream) {
                Ok(Next::Later) => match client.writer.flush(&mut client.stream) {
                    Ok(Flushed::All) => Wish::Feed,
                    Ok(Flushed::Blocked) => Wish::Nothing,
                    Err(_) => Wish::Drop,
                },
                Ok(Next::Frame(_) | Next::End) | Err(_) => Wish::Drop,
            },
            Stage::Leaving => Server::flush(client),
        }
    }

    /// Says to a client that waits how it goes.
    pub(crate) fn inform(&mut self, number: u64, response: &Response) -> Wish {
        let Some(client) = self.clients.get_mut(&number) else { return Wish::Nothing };
        if client.stage != Stage::Waiting || client.writer.backlog() > PROGRESS_BACKLOG_MAX {
            return Wish::Nothing;
        }
        client.writer.push(&encode(response));
        match client.writer.flush(&mut client.stream) {
            // What does not fit now goes out with what comes next, with the verdict at the latest.
            Ok(Flushed::All | Flushed::Blocked) => Wish::Nothing,
            Err(_) => Wish::Drop,
        }
    }

    /// Whether a client has taken what it was given.
    pub(crate) fn takes_more(&self, number: u64) -> bool {
        self.clients.get(&number).is_some_and(|client| client.writer.backlog() == 0)
    }

    /// Gives a client the next portion of what it reads. Who does not follow has the deadline of all clients for each portion.
    pub(crate) fn feed(&mut self, number: u64, now: Moment, response: &Response, follow: Follow) -> Fed {
        let Some(client) = self.clients.get_mut(&number) else { return Fed::Gone };
        client.stage = Stage::Reading;
        client.deadline = match follow {
            Follow::No => Some(now + CLIENT_DEADLINE),
            // It may be stopped by a pager for hours; then it misses lines, and hears how many.
            Follow::On => None,
        };
        client.writer.push(&encode(response));
        match client.writer.flush(&mut client.stream) {
            Ok(Flushed::All) => Fed::All,
            Ok(Flushed::Blocked) => Fed::Blocked,
            Err(_) => Fed::Gone,
        }
    }

    /// Says to a client what it waits for; that is all it gets.
    pub(crate) fn tell(&mut self, number: u64, now: Moment, response: &Response) -> Wish {
        let Some(client) = self.clients.get_mut(&number) else { return Wish::Nothing };
        client.writer.push(&encode(response));
        client.stage = Stage::Leaving;
        client.deadline = Some(now + CLIENT_DEADLINE);
        Server::flush(client)
    }

    fn flush(client: &mut Client) -> Wish {
        match (client.writer.flush(&mut client.stream), client.stage) {
            (Ok(Flushed::Blocked), _) => Wish::WriteLater,
            (Ok(Flushed::All), Stage::Leaving) | (Err(_), _) => Wish::Drop,
            (Ok(Flushed::All), Stage::Asking | Stage::Waiting | Stage::Reading) => Wish::Nothing,
        }
    }

    pub(crate) fn client_count(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn forget(&mut self, client: u64) {
        self.clients.remove(&client);
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.clients.values().filter_map(|client| client.deadline).min()
    }

    /// Clients whose deadline has passed.
    pub(crate) fn overdue(&self, now: Moment) -> Vec<u64> {
        let late = |client: &Client| client.deadline.is_some_and(|at| at <= now);
        self.clients.iter().filter(|(_, client)| late(client)).map(|(number, _)| *number).collect()
    }
}
