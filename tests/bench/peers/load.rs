//! Keeps many HTTP connections busy from one thread, and measures what came of it.
//!
//! Closed loop: a client asks again when its answer is there. Where the server closes, the client connects again; an end before
//! the answer is whole is a failure.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{setsockopt, sockopt};
use ostler_tests::procs;
use ostler_tests::target::{Stream, Target};

use crate::side::Running;
use crate::{Plan, WARM_UP};

/// No answer of these servers is longer.
const ANSWER_MAX: usize = 4096;

/// What one side did in one window.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) requests_per_s: f64,
    pub(crate) p99_ms: f64,
    /// Of all processes of the side ÷ answers.
    pub(crate) cpu_us_per_request: f64,
    pub(crate) failures: u64,
}

pub(crate) struct Client {
    stream: Stream,
    left: u32,
    asked_at: Instant,
    received: Vec<u8>,
}

struct Clients<'a> {
    target: &'a Target,
    per_connection: u32,
    epoll: Epoll,
    clients: Vec<Client>,
    answers: u64,
    failures: u64,
    took_us: Histogram<u64>,
}

/// What a look at a connection showed.
pub(crate) enum Seen {
    Nothing,
    Answer { closes: bool },
    End,
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn measure(running: &Running, plan: Plan, per_connection: u32) -> Measured {
    let mut clients = Clients::start(&running.target, plan.clients, per_connection).expect("the side listens");
    clients.run(WARM_UP).expect("the load goes on");
    let processes = running.processes();
    let cpu = || procs::cpu_time_of(&processes);
    let (cpu_before, begun) = (cpu(), Instant::now());
    clients.forget();
    clients.run(plan.window).expect("the load goes on");
    let (length, spent) = (begun.elapsed(), cpu().saturating_sub(cpu_before));
    let answers = clients.answers.max(1) as f64;
    Measured {
        requests_per_s: answers / length.as_secs_f64(),
        p99_ms: clients.took_us.value_at_quantile(0.99) as f64 / 1000.0,
        cpu_us_per_request: spent.as_secs_f64() * 1e6 / answers,
        failures: clients.failures,
    }
}

impl Clients<'_> {
    fn start(target: &Target, count: u32, per_connection: u32) -> io::Result<Clients<'_>> {
        let took_us = Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let clients = Vec::new();
        let mut all = Clients { target, per_connection, epoll, clients, answers: 0, failures: 0, took_us };
        for number in 0..u64::from(count) {
            let client = all.open(number)?;
            all.clients.push(client);
        }
        Ok(all)
    }

    fn forget(&mut self) {
        (self.answers, self.failures) = (0, 0);
        self.took_us.reset();
    }

    fn run(&mut self, length: Duration) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let begun = Instant::now();
        while begun.elapsed() < length {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::from(100_u16)) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..ready] {
                self.look(event.data())?;
            }
        }
        Ok(())
    }

    fn look(&mut self, number: u64) -> io::Result<()> {
        let client = &mut self.clients[usize::try_from(number).expect("a client's number")];
        let closes = match client.receive() {
            Seen::Nothing => return Ok(()),
            Seen::Answer { closes } => {
                self.answers += 1;
                self.took_us
                    .saturating_record(u64::try_from(client.asked_at.elapsed().as_micros()).unwrap_or(u64::MAX));
                closes || client.left == 0
            }
            Seen::End => {
                self.failures += 1;
                true
            }
        };
        if closes {
            let fresh = self.open(number)?;
            self.clients[usize::try_from(number).expect("a client's number")] = fresh;
        } else {
            client.ask();
        }
        Ok(())
    }

    /// A fresh connection with its first request sent. Its time counts from before the connect.
    fn open(&mut self, number: u64) -> io::Result<Client> {
        let asked_at = Instant::now();
        let stream = connected(self.target)?;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
        let mut client = Client::asking(stream, self.per_connection);
        client.asked_at = asked_at;
        Ok(client)
    }
}

/// A connection that does not block.
pub(crate) fn connected(target: &Target) -> io::Result<Stream> {
    Ok(match target {
        Target::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_nonblocking(true)?;
            Stream::Unix(stream)
        }
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address)?;
            stream.set_nonblocking(true)?;
            // Closing resets, so that no port is left in TIME_WAIT.
            setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
            Stream::Tcp(stream)
        }
        Target::Abstract(_) => unreachable!("no side has one"),
    })
}

impl Client {
    /// One that has just asked for the first of so many answers.
    pub(crate) fn asking(stream: Stream, count: u32) -> Client {
        let mut client = Client { stream, left: count, asked_at: Instant::now(), received: Vec::new() };
        client.ask();
        client
    }

    /// Sends the next request; a failure shows when the answer is read.
    fn ask(&mut self) {
        self.left -= 1;
        self.received.clear();
        self.asked_at = Instant::now();
        let last = if self.left == 0 { "Connection: close\r\n" } else { "" };
        let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n{last}\r\n");
        let _ = self.stream.write_all(request.as_bytes());
    }

    pub(crate) fn receive(&mut self) -> Seen {
        let mut bytes = [0; ANSWER_MAX];
        match self.stream.read(&mut bytes) {
            Ok(0) => Seen::End,
            Ok(count) => {
                self.received.extend_from_slice(&bytes[..count]);
                self.whole().map_or(Seen::Nothing, |closes| Seen::Answer { closes })
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Seen::Nothing
            }
            Err(_) => Seen::End,
        }
    }

    /// Whether the server closes, when the answer is whole.
    fn whole(&self) -> Option<bool> {
        let end = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.received[..end]).ok()?.to_ascii_lowercase();
        let length: usize = head.split("content-length:").nth(1)?.split_whitespace().next()?.parse().ok()?;
        (self.received.len() >= end + length).then(|| head.contains("connection: close"))
    }
}
