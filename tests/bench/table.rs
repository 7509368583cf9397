//! Prints the comparison.

use crate::side::{Case, Measured, Supervisor};
use crate::spread::Spread;

/// One round of a case: bare, ostler, and bare once more.
pub(crate) struct Round {
    pub(crate) bare: Measured,
    pub(crate) ostler: Measured,
    pub(crate) bare_again: Measured,
}

pub(crate) fn print_head() {
    println!();
    println!(
        "{:<24} {:>22} {:>22} {:>11} {:>11} {:>11} {:>11} {:>22} {:>11}",
        "ostler ÷ bare",
        "requests/s",
        "CPU per request",
        "bare req/s",
        "bare µs/req",
        "bare share",
        "our share",
        "supervisor µs/conn",
        "bells/conn"
    );
}

pub(crate) fn print_case(case: &Case, rounds: &[Round]) {
    let values = |of: fn(&Measured) -> f64, side: fn(&Round) -> &Measured| -> Vec<f64> {
        rounds.iter().map(side).map(of).collect()
    };
    let paired = |of, side| Spread::paired(&values(of, side), &values(of, |round| &round.bare));
    let median = |of, side| Spread::of(values(of, side)).median;
    let supervisor = |of: fn(&Supervisor) -> f64| -> Spread {
        Spread::of(rounds.iter().filter_map(|round| round.ostler.supervisor.as_ref()).map(of))
    };
    let requests = |side: &Measured| side.requests_per_s;
    let cpu = |side: &Measured| side.cpu_us_per_request;
    let share = |side: &Measured| side.share;
    println!(
        "{:<24} {:>22} {:>22} {:>11.0} {:>11.2} {:>11.2} {:>11.2} {:>22} {:>11.2}",
        case.to_string(),
        paired(requests, |round| &round.ostler),
        paired(cpu, |round| &round.ostler),
        median(requests, |round| &round.bare),
        median(cpu, |round| &round.bare),
        median(share, |round| &round.bare),
        median(share, |round| &round.ostler),
        supervisor(|supervisor| supervisor.cpu_us_per_connection),
        supervisor(|supervisor| supervisor.bells_per_connection).median,
    );
    println!(
        "{:<24} {:>22} {:>22}",
        "  A/A: bare ÷ bare",
        paired(requests, |round| &round.bare_again),
        paired(cpu, |round| &round.bare_again),
    );
    let sides = rounds.iter().flat_map(|round| [&round.bare, &round.ostler, &round.bare_again]);
    let failures: u64 = sides.map(|side| side.failures).sum();
    if failures > 0 {
        println!("  {failures} connections FAILED");
    }
}

pub(crate) fn print_foot(resident: &[u64]) {
    let most = resident.iter().max().copied().unwrap_or(0);
    println!("\nsupervisor resident with 8 workers, under load, at most: {} KiB", most / 1024);
    println!("CPU: supervisor and workers; kernel threads (such as the AF_UNIX garbage collector) are not in it");
    println!(
        "supervisor µs/conn: CPU of the supervisor alone ÷ connections it accepted; the bare prototype took 3.5–6.5"
    );
    println!(
        "bells/conn: how often a worker had to wake it ÷ connections; the loop finds the other completions by itself"
    );
}
