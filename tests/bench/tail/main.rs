//! Shows what a few long requests do to the short ones, and what a stopped worker does to the others.
//!
//! Open loop: requests arrive when they arrive, whether or not the last one was answered, and the time of each counts from
//! its scheduled arrival. `bench_tail` compares prefetch and recall with bare prefork under skewed service times;
//! `bench_tail --stopped` stops one of four workers in the middle of a window. All sides of a round get the same arrivals.

#[path = "../alarm.rs"]
mod alarm;
mod arrivals;
#[path = "../flags.rs"]
mod flags;
mod open_loop;
mod quantiles;
mod side;
mod skew;
#[path = "../spread.rs"]
mod spread;
mod stopped;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use flags::Flags;

const USAGE: &str = "bench_tail [--stopped] [--rounds N] [--window-ms MS] [--seed N]";

/// How much of it, and which.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: u32,
    window: Duration,
    seed: u64,
}

impl Plan {
    /// The seed of a round's arrivals.
    fn seed_of(&self, round: u32) -> u64 {
        self.seed + u64::from(round)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ended = match words[..] {
        ["worker", "ostler"] => worker::with_ostler(),
        ["worker", "bare"] => worker::bare(),
        _ => {
            let flags = Flags::read(USAGE, &["--rounds", "--window-ms", "--seed"], &["--stopped"]);
            let plan = Plan {
                rounds: flags.number("--rounds", 5),
                window: Duration::from_millis(flags.number("--window-ms", 2000).into()),
                seed: flags.number("--seed", 1).into(),
            };
            match flags.word("--stopped") {
                Some(_) => stopped::compare(plan),
                None => skew::compare(plan),
            }
            Ok(())
        }
    };
    ostler_tests::programs::edge(ended)
}
