//! Facts about pools with a range of workers under loads that go on for minutes, on a clock of their own.
//!
//! Each worker takes one connection at a time, and the same time for each. Prints how long a burst is felt.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use ostler_config::checked::{Range, Workers};
use ostler_pool::{Action, Event, Moment, Note};
use ostler_shared::{ConnId, WorkerId};

use crate::S;
use crate::script::{MS, Script, config};

const SERVICE: Duration = Duration::from_millis(10);
const START: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(20);
const TARGET_DELAY: Duration = Duration::from_millis(5);

/// What comes of what was asked for, in its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Arrival,
    Ready(WorkerId),
    Done(WorkerId, ConnId),
    Gone(WorkerId),
}

/// A pool of 2 to 16 workers and its clients.
struct Town {
    script: Script,
    begun: Moment,
    due: BinaryHeap<Reverse<(Moment, Due)>>,
    arrived: Vec<Moment>,
    /// When each was handed out, and how long it had waited.
    waits: Vec<(Duration, Duration)>,
    /// When the number of workers changed, and to what.
    targets: Vec<(Duration, u32)>,
}

impl Town {
    fn new() -> Town {
        let mut config = config(1, 1);
        let range = Range { min: 2, max: 16, idle: IDLE, target_delay: TARGET_DELAY };
        config.pools[0].workers = Workers::Between(range);
        config.pools[0].queue.limit = 100_000;
        config.pools[0].queue.timeout = 60 * S;
        let script = Script::ready(config);
        let (begun, due) = (script.now, BinaryHeap::new());
        Town { script, begun, due, arrived: Vec::new(), waits: Vec::new(), targets: vec![(Duration::ZERO, 2)] }
    }

    /// Clients come at even intervals, as many per second as `rate` says of that time.
    fn live(&mut self, length: Duration, rate: impl Fn(Duration) -> u32) {
        let end = self.begun + length;
        self.due.push(Reverse((self.begun, Due::Arrival)));
        while let Some(at) = self.next().filter(|at| *at < end) {
            self.script.now = at;
            match self.due.peek() {
                Some(Reverse((due, _))) if *due == at => {
                    let Reverse((_, due)) = self.due.pop().expect("seen a moment ago");
                    self.comes_due(due, &rate);
                }
                Some(_) | None => drop(self.script.event(Event::Tick)),
            }
            self.take_in();
        }
    }

    fn next(&self) -> Option<Moment> {
        let due = self.due.peek().map(|Reverse((at, _))| *at);
        [due, self.script.pools.next_deadline()].into_iter().flatten().min()
    }

    fn comes_due(&mut self, due: Due, rate: &impl Fn(Duration) -> u32) {
        let now = self.script.now;
        match due {
            Due::Arrival => {
                self.arrived.push(now);
                self.script.client();
                let next = now + S / rate(now.since(self.begun));
                self.due.push(Reverse((next, Due::Arrival)));
            }
            Due::Ready(worker) => drop(self.script.event(Event::Ready { worker })),
            Due::Done(worker, conn) => drop(self.script.complete(worker, conn)),
            Due::Gone(worker) => drop(self.script.die(worker, &[])),
        }
    }

    fn take_in(&mut self) {
        let now = self.script.now;
        for action in std::mem::take(&mut self.script.actions) {
            match action {
                Action::Spawn { worker, .. } => self.due.push(Reverse((now + START, Due::Ready(worker)))),
                Action::HandOff { worker, conn } => {
                    let waited = now.since(self.arrived[usize::try_from(conn.0).unwrap() - 1]);
                    self.waits.push((now.since(self.begun), waited));
                    self.due.push(Reverse((now + SERVICE, Due::Done(worker, conn))));
                }
                Action::Drain { worker } => self.due.push(Reverse((now + SERVICE + MS, Due::Gone(worker)))),
                Action::Note(Note::Scaled { to, .. }) => self.targets.push((now.since(self.begun), to)),
                Action::Shed { conn, .. } => panic!("{conn} was not served"),
                _ => {}
            }
        }
    }

    /// The last time that anybody had waited longer than the target.
    fn felt_until(&self) -> Duration {
        self.waits.iter().filter(|(_, waited)| *waited > TARGET_DELAY).map(|(at, _)| *at).max().unwrap_or_default()
    }

    fn most(&self) -> u32 {
        self.targets.iter().map(|(_, target)| *target).max().unwrap_or_default()
    }

    /// How often it went the other way than before.
    fn turns(&self) -> usize {
        let ways: Vec<bool> = self.targets.windows(2).map(|pair| pair[1].1 > pair[0].1).collect();
        ways.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

#[test]
fn a_burst_of_ten_times_the_load_is_absorbed_in_a_second_and_its_workers_go_when_it_is_over() {
    let mut town = Town::new();
    let burst = 10 * S..25 * S;
    town.live(150 * S, |at| if burst.contains(&at) { 1000 } else { 100 });
    let felt = town.felt_until() - burst.start;
    let worst = town.waits.iter().map(|(_, waited)| *waited).max().unwrap();
    println!("a burst from 100 to 1000 per second is felt for {felt:?}, the longest wait is {worst:?}");
    println!("workers: {:?}", town.targets);
    assert!(felt < S, "{felt:?}: {:?}", town.targets);
    assert!((10..=16).contains(&town.most()), "{:?}", town.targets);
    assert_eq!((town.targets.last().unwrap().1, town.turns()), (2, 1), "up once and down once: {:?}", town.targets);
}

#[test]
fn a_load_that_goes_up_and_down_faster_than_idle_starts_nobody_again_once_its_height_is_known() {
    let mut town = Town::new();
    let high = |at: Duration| at.as_secs().is_multiple_of(10);
    town.live(120 * S, |at| if high(at) { 900 } else { 50 });
    assert_eq!(town.turns(), 1, "flapping: {:?}", town.targets);
    assert!(town.felt_until() < S, "{:?}", town.felt_until());
}

#[test]
fn a_load_that_swells_and_ebbs_like_a_day_is_followed_up_and_down() {
    let mut town = Town::new();
    // From 50 to 1000 per second in 100 s, and back.
    town.live(240 * S, |at| 50 + u32::try_from(at.as_secs().min(200 - at.as_secs().min(200))).unwrap() * 950 / 100);
    println!("workers over a tide: {:?}", town.targets);
    assert!((10..=16).contains(&town.most()), "{:?}", town.targets);
    // Each doubling may overshoot, and takes back what it did not need.
    assert!(town.turns() <= 7, "flapping: {:?}", town.targets);
    let longest = town.waits.iter().map(|(_, waited)| *waited).max().unwrap();
    assert!(longest < S, "{longest:?}");
}
