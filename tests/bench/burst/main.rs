//! Shows how a pool with a range of workers takes a burst of ten times its load: the delay over time, and the workers.
//!
//! Open loop: requests are due at even intervals whether or not earlier ones were answered, and each delay counts from then.
//! The built-in server sleeps in each request, so that the curve is that of the queue and not of the machine's CPUs.

#[path = "../flags.rs"]
mod flags;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flags::Flags;
use ostler_tests::Ostler;
use ostler_tests::client::Client;
use ostler_tests::http::get_once;
use ostler_tests::target::Target;

const USAGE: &str = "bench_burst [--service-ms MS]";
const PATIENCE: Duration = Duration::from_secs(20);
/// Requests in flight at most; more would be due later than they should.
const SENDERS: usize = 400;
/// Load before and after the burst, in hundredths of what two workers can take.
const BASE_PERCENT: u32 = 50;
const BURST_FACTOR: u32 = 10;
const BURST: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));
const END: Duration = Duration::from_secs(13);
const ROW: Duration = Duration::from_millis(100);
/// Behind this the rows are ten times as long.
const FINE: (Duration, Duration) = (Duration::from_millis(1800), Duration::from_millis(3200));

/// One request: when it was due, and how long its answer took from there.
type Answered = (Duration, Duration);

fn main() {
    let service_ms = Flags::read(USAGE, &["--service-ms"], &[]).number("--service-ms", 10);
    let config = "[pool.web]\nlisten = [\"unix:web.sock\"]\n\
                  workers = { min = 2, max = 16, idle = \"1s\", target_delay = \"5ms\" }\n";
    let mut ostler = Ostler::builder().config(config).start();
    let due = schedule(2 * 1000 / service_ms * BASE_PERCENT / 100);
    let (over, begun) = (AtomicBool::new(false), Instant::now());
    let (answers, workers) = thread::scope(|scope| {
        let sampling = scope.spawn(|| sample(&ostler.client(), begun, &over));
        let answers = send(&ostler.unix("web.sock"), &format!("/sleep/{service_ms}"), &due, begun);
        over.store(true, Ordering::Release);
        (answers, sampling.join().expect("the sampler does not panic"))
    });
    println!("service {service_ms} ms, {} requests, burst ×{BURST_FACTOR} from 2 s to 5 s, idle 1 s", due.len());
    println!("{:>8} {:>9} {:>8} {:>8} {:>8}", "at s", "requests", "p50 ms", "p99 ms", "workers");
    let mut at = Duration::ZERO;
    while at < END {
        let row = if (FINE.0..FINE.1).contains(&at) { ROW } else { ROW * if at < FINE.0 { 18 } else { 7 } };
        print_row(at, at + row, &answers, &workers);
        at += row;
    }
    let last = workers.last().map_or(0, |(_, count)| *count);
    println!("most workers {}, at the end {last}", workers.iter().map(|(_, count)| *count).max().unwrap_or(0));
    ostler.stop_clean();
}

/// When each request is due, at so many per second beside the burst.
fn schedule(per_second: u32) -> Vec<Duration> {
    let mut due = Vec::new();
    let mut at = Duration::ZERO;
    while at < END {
        due.push(at);
        let rate = if (BURST.0..BURST.1).contains(&at) { per_second * BURST_FACTOR } else { per_second };
        at += Duration::from_secs(1) / rate;
    }
    due
}

/// Sends each request when it is due, or as soon after as a sender is free.
fn send(target: &Target, path: &str, due: &[Duration], begun: Instant) -> Vec<Answered> {
    let (next, answers) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(due) = due.get(next.fetch_add(1, Ordering::Relaxed)) {
            thread::sleep(due.saturating_sub(begun.elapsed()));
            let answer = get_once(target, path, PATIENCE);
            assert!(answer.is_ok(), "the request that was due at {due:?} failed: {answer:?}");
            answers.lock().expect("nobody panics with it").push((*due, begun.elapsed() - *due));
        }
    };
    thread::scope(|scope| (0..SENDERS).for_each(|_| drop(scope.spawn(work))));
    answers.into_inner().expect("nobody panics with it")
}

/// How many workers are READY, again and again.
fn sample(client: &Client, begun: Instant, over: &AtomicBool) -> Vec<(Duration, usize)> {
    let mut seen = Vec::new();
    while !over.load(Ordering::Acquire) {
        seen.push((begun.elapsed(), client.status().only().ready().len()));
        thread::sleep(ROW / 4);
    }
    seen
}

fn print_row(from: Duration, to: Duration, answers: &[Answered], workers: &[(Duration, usize)]) {
    let mut delays: Vec<Duration> =
        answers.iter().filter(|(due, _)| (from..to).contains(due)).map(|(_, delay)| *delay).collect();
    delays.sort_unstable();
    let quantile = |of_100: usize| match delays.len() {
        0 => "-".to_owned(),
        count => format!("{:.1}", delays[(count * of_100 / 100).min(count - 1)].as_secs_f64() * 1000.0),
    };
    let ready = workers.iter().take_while(|(at, _)| *at < to).last().map_or(0, |(_, count)| *count);
    let (p50, p99) = (quantile(50), quantile(99));
    println!("{:>8.1} {:>9} {p50:>8} {p99:>8} {ready:>8}", from.as_secs_f64(), delays.len());
}
