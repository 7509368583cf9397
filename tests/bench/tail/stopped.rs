//! Stops one of four workers with SIGSTOP in the middle of a window, and shows what the others' requests feel of it.
//!
//! All requests are fast, and three workers suffice for them: whatever is slow was held up by the stop. The stopped worker
//! goes on when the window is over. What it had claimed by then is its own; everything else must have been taken back.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_shared::sys::clock::monotonic_ns;
use ostler_tests::status::Worker;

use crate::Plan;
use crate::arrivals::{Arrivals, SPIN};
use crate::open_loop::{Answered, OpenLoop};
use crate::quantiles::Times;
use crate::side::{PREFETCH_0, PREFETCH_1, Running, Side};
use crate::spread::Spread;

const WORKERS: u32 = 4;
/// Requests a second: each of the four is busy a tenth of the time.
const RATE: f64 = 4000.0;
/// How long the others get to answer the last requests before the stopped one goes on.
const OTHERS_FINISH: Duration = Duration::from_millis(200);
/// The longest that the last answers may take, once the worker goes on.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// Whether anybody is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    None,
    OneStopped,
}

const ROWS: [(Side, Disturbance); 6] = [
    (PREFETCH_0, Disturbance::None),
    (PREFETCH_0, Disturbance::OneStopped),
    (PREFETCH_0, Disturbance::None),
    (PREFETCH_1, Disturbance::None),
    (PREFETCH_1, Disturbance::OneStopped),
    (PREFETCH_1, Disturbance::None),
];

/// What the second half of one window brought.
struct Window {
    others: Times,
    /// Until somebody claimed them: all that the stopped worker had not claimed before it was stopped.
    longest_wait_us: f64,
    /// What it had claimed before, and answered after it went on.
    held: usize,
    /// What it claimed after it went on, though it was due before: nobody took that back.
    left_lying: usize,
    /// From `status --json`, while it was stopped.
    recalled: u64,
    still_waiting: u64,
    failures: u64,
}

pub(crate) fn compare(plan: Plan) {
    println!(
        "open loop over TCP, {RATE} requests a second, each spins {SPIN:?} of CPU; {WORKERS} blocking workers, concurrency \
         1, recall_after 5ms; {} rounds of {:?} per row, rows interleaved; where one is stopped, from the middle of the \
         window to its end. Only requests due in the second half count; seed {}",
        plan.rounds, plan.window, plan.seed
    );
    let mut rows: Vec<Vec<Window>> = ROWS.iter().map(|_| Vec::new()).collect();
    for round in 0..plan.rounds {
        for ((side, disturbance), row) in ROWS.iter().zip(&mut rows) {
            row.push(measure(*side, *disturbance, plan.window, plan.seed_of(round)));
        }
    }
    print(&rows);
}

fn measure(side: Side, disturbance: Disturbance, window: Duration, seed: u64) -> Window {
    let running = Running::start(side, WORKERS);
    let ostler = running.ostler().expect("every row has a supervisor");
    // Asked before the load: a command that runs meanwhile takes CPU from everybody.
    let victim = *ostler.status().only().pids().first().expect("a worker serves");
    let mut open_loop = OpenLoop::start(running.address).expect("the side listens");
    let half = window / 2;
    let mut arrivals = Arrivals::new(seed, RATE, 0.0).take_while(|arrival| arrival.at < window).peekable();
    let first_half = std::iter::from_fn(|| arrivals.next_if(|arrival| arrival.at < half));
    open_loop.send(first_half).expect("requests can be sent");
    let stopped = match disturbance {
        Disturbance::None => None,
        Disturbance::OneStopped => Some(Stopped::stop(victim)),
    };
    open_loop.send(arrivals).expect("requests can be sent");
    open_loop.wait(OTHERS_FINISH).expect("answers can be read");
    let status = ostler.status();
    let pool = status.only();
    let seen = stopped.as_ref().and_then(|stopped| pool.workers.iter().find(|one| one.pid == Some(stopped.pid)));
    let still_waiting = seen.map_or(0, |worker: &Worker| worker.waiting);
    let in_hands = seen.map_or(0, |worker: &Worker| worker.claimed);
    if let Some(stopped) = &stopped {
        send_signal(stopped.pid, Signal::SIGCONT);
    }
    open_loop.finish(LAST_ANSWERS).expect("answers can be read");
    let recalled = pool.recalled;
    let (half_ns, failures) = (open_loop.moment(half), open_loop.failures);
    running.end();
    let sorted = Sorted::of(&open_loop.answered, half_ns, stopped.as_ref(), in_hands);
    Window {
        others: Times::of(sorted.others.iter().map(|one| one.took_ns())),
        longest_wait_us: Times::of(sorted.unclaimed.iter().map(|one| one.waited_ns())).longest_us(),
        held: sorted.held,
        left_lying: sorted.left_lying,
        recalled,
        still_waiting,
        failures,
    }
}

/// A worker that was stopped.
struct Stopped {
    pid: i32,
    at_ns: u64,
}

impl Stopped {
    fn stop(pid: i32) -> Stopped {
        send_signal(pid, Signal::SIGSTOP);
        Stopped { pid, at_ns: monotonic_ns() }
    }
}

fn send_signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("cannot send {signal} to {pid}: {error}"));
}

/// Who answered what.
struct Sorted<'a> {
    /// Due in the second half, and answered by a worker that was not stopped.
    others: Vec<&'a Answered>,
    /// The same, and what the stopped one had not claimed when it was stopped.
    unclaimed: Vec<&'a Answered>,
    held: usize,
    left_lying: usize,
}

impl<'a> Sorted<'a> {
    /// `in_hands`: how many the stopped worker had taken out of its mailbox and not answered, by the supervisor's books.
    fn of(answered: &'a [Answered], half_ns: u64, stopped: Option<&Stopped>, in_hands: u64) -> Sorted<'a> {
        let mut sorted = Sorted { others: Vec::new(), unclaimed: Vec::new(), held: 0, left_lying: 0 };
        let mut claimed_late = Vec::new();
        for one in answered {
            let its_own = stopped.filter(|stopped| i32::try_from(one.pid) == Ok(stopped.pid));
            match its_own {
                Some(stopped) if one.claimed_ns > stopped.at_ns => claimed_late.push(one),
                Some(stopped) => sorted.held += usize::from(one.answered_ns > stopped.at_ns),
                None if one.due_ns >= half_ns => {
                    sorted.others.push(one);
                    sorted.unclaimed.push(one);
                }
                // It may have been in the stopped one's mailbox.
                None if one.claimed_ns >= half_ns => sorted.unclaimed.push(one),
                None => {}
            }
        }
        // A stop strikes at the end of the system call that takes a connection out, before its time is noted.
        claimed_late.sort_unstable_by_key(|one| one.claimed_ns);
        let unnoted = usize::try_from(in_hands).expect("a few").saturating_sub(sorted.held).min(claimed_late.len());
        sorted.held += unnoted;
        sorted.left_lying = claimed_late.len() - unnoted;
        sorted.unclaimed.extend(&claimed_late[unnoted..]);
        sorted
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn print(rows: &[Vec<Window>]) {
    println!(
        "\n{:<38} {:>22} {:>26} {:>28} {:>20} {:>28} {:>9} {:>6} {:>6} {:>8}",
        "the other workers, µs",
        "p50",
        "p99",
        "p99.9",
        "p99.9 ÷ undisturbed",
        "longest unclaimed wait",
        "recalled",
        "held",
        "left",
        "waiting"
    );
    for (number, ((side, disturbance), row)) in ROWS.iter().zip(rows).enumerate() {
        let reference = ROWS.iter().position(|(other, _)| other == side).expect("it is one of them");
        let shown = match disturbance {
            Disturbance::OneStopped => ", one stopped",
            Disturbance::None if number == reference => "",
            Disturbance::None => ", again (A/A)",
        };
        let at = |row: &[Window], quantile: f64| -> Vec<f64> {
            row.iter().map(|window| window.others.quantile_us(quantile)).collect()
        };
        let most = |of: fn(&Window) -> u64| row.iter().map(of).max().unwrap_or(0);
        println!(
            "{:<38} {:>22.0} {:>26.0} {:>28.0} {:>20} {:>28.0} {:>9.0} {:>6} {:>6} {:>8}",
            format!("{side}{shown}"),
            Spread::of(at(row, 0.5)),
            Spread::of(at(row, 0.99)),
            Spread::of(at(row, 0.999)),
            Spread::paired(&at(row, 0.999), &at(&rows[reference], 0.999)),
            Spread::of(row.iter().map(|window| window.longest_wait_us)),
            Spread::of(row.iter().map(|window| window.recalled as f64)).median,
            row.iter().map(|window| window.held).max().unwrap_or(0),
            row.iter().map(|window| window.left_lying).max().unwrap_or(0),
            most(|window| window.still_waiting),
        );
        let failures = row.iter().map(|window| window.failures).sum::<u64>();
        if failures > 0 {
            println!("  {failures} requests FAILED");
        }
    }
    println!(
        "longest unclaimed wait: from the scheduled arrival until a worker claimed it, of everything that the stopped worker \
         had not claimed when it was stopped\nrecalled: median over rounds, from `ostler status --json` during the stop; \
         held: claimed before the stop and answered after it, at most; left: claimed by the stopped worker after it went on, \
         though due before, at most; waiting: in its mailbox when the window was over, at most"
    );
}
