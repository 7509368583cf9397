//! Keeps many connections busy from one thread, at as little cost as can be.
//!
//! Closed loop: a connection sends its next request when its answer is there. Blocking sockets with MSG_DONTWAIT
//! where it matters, so that no system call is spent on flags.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrLike, UnixAddr, connect, recv, send, setsockopt,
    socket, sockopt,
};
use ostler_tests::Target;

const REQUEST_LEN: usize = 100;
const ANSWER_LEN: usize = 200;

/// Where to connect, in the kernel's form.
enum Address {
    Unix(UnixAddr),
    Tcp(SockaddrIn),
}

/// What a window of load brought.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Answers within the window.
    pub(crate) answers: u64,
    /// Answers of each worker.
    pub(crate) shares: BTreeMap<u16, u64>,
    /// Connections opened.
    pub(crate) connections: u64,
    /// Connections that failed: must be 0.
    pub(crate) failures: u64,
    /// How long the window really was.
    pub(crate) length: Duration,
}

/// A load at work.
pub(crate) struct Generator {
    address: Address,
    epoll: Epoll,
    clients: Vec<Client>,
    per_connection: u32,
    connections: u64,
    failures: u64,
}

struct Client {
    socket: OwnedFd,
    left: u32,
    received: usize,
    worker: [u8; 2],
}

impl Generator {
    pub(crate) fn start(target: &Target, clients: usize, per_connection: u32) -> nix::Result<Generator> {
        let address = match target {
            Target::Unix(path) => Address::Unix(UnixAddr::new(path)?),
            Target::Abstract(name) => Address::Unix(UnixAddr::new_abstract(name.as_bytes())?),
            Target::Tcp(std::net::SocketAddr::V4(address)) => Address::Tcp(SockaddrIn::from(*address)),
            Target::Tcp(std::net::SocketAddr::V6(_)) => return Err(Errno::EAFNOSUPPORT),
        };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut generator =
            Generator { address, epoll, clients: Vec::new(), per_connection, connections: 0, failures: 0 };
        for number in 0..clients {
            let client = generator.open(number)?;
            generator.clients.push(client);
        }
        Ok(generator)
    }

    /// Goes on for `length`; counts what is answered meanwhile.
    pub(crate) fn run(&mut self, length: Duration) -> nix::Result<Counted> {
        let mut counted = Counted::default();
        let mut events = [EpollEvent::empty(); 64];
        let begun = Instant::now();
        let (connections, failures) = (self.connections, self.failures);
        while begun.elapsed() < length {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::from(100_u16)) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error),
            };
            for event in &events[..ready] {
                let number = usize::try_from(event.data()).expect("a client's number");
                if let Some(worker) = self.receive(number)? {
                    counted.answers += 1;
                    *counted.shares.entry(worker).or_default() += 1;
                }
            }
        }
        counted.length = begun.elapsed();
        counted.connections = self.connections - connections;
        counted.failures = self.failures - failures;
        Ok(counted)
    }

    /// Reads what is there; the worker's number when that completes an answer.
    fn receive(&mut self, number: usize) -> nix::Result<Option<u16>> {
        let client = &mut self.clients[number];
        let mut buffer = [0; ANSWER_LEN];
        match recv(client.socket.as_raw_fd(), &mut buffer[..ANSWER_LEN - client.received], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => {
                self.failures += 1;
                self.clients[number] = self.open(number)?;
                return Ok(None);
            }
            Ok(count) => {
                if client.received == 0 && count >= 2 {
                    client.worker = [buffer[0], buffer[1]];
                }
                client.received += count;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(_) => {
                self.failures += 1;
                self.clients[number] = self.open(number)?;
                return Ok(None);
            }
        }
        if client.received < ANSWER_LEN {
            return Ok(None);
        }
        let worker = u16::from_le_bytes(client.worker);
        if client.left == 0 {
            self.clients[number] = self.open(number)?;
        } else {
            client.ask();
        }
        Ok(Some(worker))
    }

    /// A fresh connection with its first request sent.
    fn open(&mut self, number: usize) -> nix::Result<Client> {
        let socket = match &self.address {
            Address::Unix(address) => connected(AddressFamily::Unix, address)?,
            Address::Tcp(address) => {
                let socket = connected(AddressFamily::Inet, address)?;
                // Closing resets, so that no port is left in TIME_WAIT.
                setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
                if self.per_connection > 1 {
                    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
                }
                socket
            }
        };
        self.connections += 1;
        let data = u64::try_from(number).expect("a client's number");
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, data))?;
        let mut client = Client { socket, left: self.per_connection, received: 0, worker: [0; 2] };
        client.ask();
        Ok(client)
    }
}

fn connected(family: AddressFamily, address: &dyn SockaddrLike) -> nix::Result<OwnedFd> {
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), address)?;
    Ok(socket)
}

impl Client {
    /// Sends the next request; a failure shows when the answer is read.
    fn ask(&mut self) {
        self.left -= 1;
        self.received = 0;
        let mut request = [b'r'; REQUEST_LEN];
        request[0] = if self.left == 0 { b'L' } else { b'K' };
        let _ = send(self.socket.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL);
    }
}
