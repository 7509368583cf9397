//! Lets requests come at a rate that every side can take, whether it has answered or not, and measures how long each takes.
//!
//! Where clients ask again as soon as they are answered, a faster side gets more to do, and its times are those of a machine that is
//! full. Here all sides have the same to do. A request's time counts from the moment that it was due.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ostler_tests::Target;

use crate::arrivals::Arrivals;
use crate::load::{Client, Seen};
use crate::side::Running;
use crate::{Plan, WARM_UP};

/// All sides of all rounds see the same arrivals.
const SEED: u64 = 7;
/// How long the last ones may take.
const LAST_ONES: Duration = Duration::from_secs(2);

/// What one side did.
#[derive(Debug)]
pub(crate) struct Paced {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) failures: u64,
}

struct Asked {
    client: Client,
    due: Duration,
}

struct Requests<'a> {
    target: &'a Target,
    epoll: Epoll,
    open: HashMap<u64, Asked>,
    next: u64,
    failures: u64,
    took_us: Histogram<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^52")]
pub(crate) fn measure(running: &Running, plan: Plan) -> Paced {
    let mut requests = Requests {
        target: &running.target,
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("a descriptor"),
        open: HashMap::new(),
        next: 0,
        failures: 0,
        took_us: Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order"),
    };
    requests.run(f64::from(plan.rate), WARM_UP + plan.window).expect("it goes on");
    let at = |quantile: f64| requests.took_us.value_at_quantile(quantile) as f64 / 1000.0;
    let failures = requests.failures + requests.open.len() as u64;
    Paced { p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), failures }
}

impl Requests<'_> {
    fn run(&mut self, per_s: f64, length: Duration) -> io::Result<()> {
        let begun = Instant::now();
        let mut arrivals = Arrivals::new(SEED, per_s, 0.0).map(|arrival| arrival.at).peekable();
        let mut events = [EpollEvent::empty(); 64];
        while begun.elapsed() < length || (!self.open.is_empty() && begun.elapsed() < length + LAST_ONES) {
            while let Some(due) = arrivals.next_if(|at| *at <= begun.elapsed() && *at < length) {
                self.ask(due)?;
            }
            // A wait in milliseconds would make most of them late.
            let ready = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Ok(0) => {
                    let next = arrivals.peek().map_or(Duration::ZERO, |at| at.saturating_sub(begun.elapsed()));
                    std::thread::sleep(next.min(Duration::from_micros(100)));
                    0
                }
                Ok(ready) => ready,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            for event in &events[..ready] {
                self.look(event.data(), begun);
            }
        }
        Ok(())
    }

    fn ask(&mut self, due: Duration) -> io::Result<()> {
        let Target::Unix(path) = self.target else { unreachable!("all sides listen on a path") };
        let Ok(stream) = UnixStream::connect(path) else {
            self.failures += 1;
            return Ok(());
        };
        stream.set_nonblocking(true)?;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
        self.open.insert(self.next, Asked { client: Client::asking(stream, 1), due });
        self.next += 1;
        Ok(())
    }

    fn look(&mut self, number: u64, begun: Instant) {
        let Some(asked) = self.open.get_mut(&number) else { return };
        match asked.client.receive() {
            Seen::Nothing => return,
            Seen::Answer { .. } if asked.due >= WARM_UP => {
                let took = begun.elapsed().saturating_sub(asked.due);
                self.took_us.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            }
            Seen::Answer { .. } => {}
            Seen::End => self.failures += 1,
        }
        self.open.remove(&number);
    }
}
