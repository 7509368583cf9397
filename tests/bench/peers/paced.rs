//! Lets requests come at a rate that every side can take, whether it has answered or not, and measures how long each takes.
//!
//! Where clients ask again as soon as they are answered, a faster side gets more to do, and its times are those of a machine that is
//! full. Here all sides have the same to do. A request's time counts from the moment that it was due.

use std::collections::HashMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use ostler_shared::sys::clock::monotonic_ns;
use ostler_tests::Target;

use crate::alarm::Alarm;
use crate::arrivals::Arrivals;
use crate::load::{Client, Seen, connected};
use crate::side::Running;
use crate::{Plan, WARM_UP};

/// The timer among the connections, which are numbered from 0.
const TIMER: u64 = u64::MAX;
/// All sides of all rounds see the same arrivals.
const SEED: u64 = 7;
/// How long the last ones may take.
const LAST_ONES: Duration = Duration::from_secs(2);

const LONGEST_WAIT_MS: u16 = 100;

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
    due_ns: u64,
}

struct Requests<'a> {
    target: &'a Target,
    epoll: Epoll,
    alarm: Alarm,
    begun_ns: u64,
    /// The side is warm from then on.
    counted_from_ns: u64,
    open: HashMap<u64, Asked>,
    next: u64,
    failures: u64,
    took_us: Histogram<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^52")]
pub(crate) fn measure(running: &Running, plan: Plan) -> Paced {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("a descriptor");
    let alarm = Alarm::among(&epoll, TIMER).expect("another one");
    let mut requests = Requests {
        target: &running.target,
        epoll,
        alarm,
        begun_ns: monotonic_ns(),
        counted_from_ns: 0,
        open: HashMap::new(),
        next: 0,
        failures: 0,
        took_us: Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order"),
    };
    requests.counted_from_ns = requests.moment(WARM_UP);
    requests.run(f64::from(plan.rate), WARM_UP + plan.window).expect("it goes on");
    let at = |quantile: f64| requests.took_us.value_at_quantile(quantile) as f64 / 1000.0;
    let failures = requests.failures + requests.open.len() as u64;
    Paced { p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), failures }
}

impl Requests<'_> {
    fn run(&mut self, per_s: f64, length: Duration) -> nix::Result<()> {
        let arrivals = Arrivals::new(SEED, per_s, 0.0).map(|arrival| arrival.at);
        for due in arrivals.take_while(|at| *at < length) {
            let due_ns = self.moment(due);
            while monotonic_ns() < due_ns {
                self.alarm.set(due_ns)?;
                self.look(LONGEST_WAIT_MS)?;
            }
            // Also where it is late: who never reads finds everybody slow.
            self.look(0)?;
            self.ask(due_ns)?;
        }
        let end_ns = self.moment(length + LAST_ONES);
        while !self.open.is_empty() && monotonic_ns() < end_ns {
            self.look(LONGEST_WAIT_MS)?;
        }
        Ok(())
    }

    /// The moment that is so long after the beginning.
    fn moment(&self, after: Duration) -> u64 {
        self.begun_ns + u64::try_from(after.as_nanos()).expect("a window is short")
    }

    fn look(&mut self, longest_ms: u16) -> nix::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let ready = match self.epoll.wait(&mut events, EpollTimeout::from(longest_ms)) {
            Err(Errno::EINTR) => 0,
            ready => ready?,
        };
        for event in &events[..ready] {
            match event.data() {
                TIMER => {}
                number => self.receive(number),
            }
        }
        Ok(())
    }

    fn ask(&mut self, due_ns: u64) -> nix::Result<()> {
        let Ok(stream) = connected(self.target) else {
            self.failures += 1;
            return Ok(());
        };
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
        self.open.insert(self.next, Asked { client: Client::asking(stream, 1), due_ns });
        self.next += 1;
        Ok(())
    }

    fn receive(&mut self, number: u64) {
        let Some(asked) = self.open.get_mut(&number) else { return };
        match asked.client.receive() {
            Seen::Nothing => return,
            Seen::Answer { .. } if asked.due_ns >= self.counted_from_ns => {
                let took_ns = monotonic_ns().saturating_sub(asked.due_ns);
                self.took_us.saturating_record(took_ns / 1000);
            }
            Seen::Answer { .. } => {}
            Seen::End => self.failures += 1,
        }
        self.open.remove(&number);
    }
}
