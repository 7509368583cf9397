//! Compares ostler with bare prefork: the same worker code, with a supervisor that passes and without any.
//!
//! `bench_smoke [--rounds N] [--window-ms MS] [--only WORD]`. Within each round the sides run in turn, bare, ostler, bare
//! again, and ratios are paired per round: on a small, shared machine an absolute figure means nothing. The second bare run
//! is the A/A row: a difference that it shows too is noise. The figure to trust is CPU per request; requests per second are
//! bound by the load generator over TCP.

mod bells;
mod flags;
mod generator;
mod side;
mod spread;
mod table;

use std::time::Duration;

use flags::Flags;
use side::{Case, Kind, Wire};
use table::Round;

const USAGE: &str = "bench_smoke [--rounds N] [--window-ms MS] [--only WORD]";
/// Connections that the load generator keeps busy.
const CLIENTS: usize = 64;
/// Requests of a connection that is kept.
const KEPT: u32 = 100;

fn main() {
    let flags = Flags::read(USAGE, &["--rounds", "--window-ms", "--only"], &[]);
    let rounds = flags.number("--rounds", 5);
    let window = Duration::from_millis(flags.number("--window-ms", 1000).into());
    println!(
        "{CLIENTS} clients, closed loop, one generator thread; request 100 B, answer 200 B; {rounds} rounds of {window:?} \
         each, A B A interleaved; concurrency = clients ÷ workers, that many threads per worker; prefetch 0"
    );
    table::print_head();
    let mut resident = Vec::new();
    for case in cases().filter(|case| flags.word("--only").is_none_or(|word| case.to_string().contains(word))) {
        let rounds: Vec<Round> = (0..rounds).map(|_| round(&case, window)).collect();
        if case.workers == 8 {
            resident.extend(rounds.iter().filter_map(|round| round.ostler.supervisor.as_ref()?.resident));
        }
        table::print_case(&case, &rounds);
    }
    table::print_foot(&resident);
}

fn round(case: &Case, window: Duration) -> Round {
    let measure = |kind| side::measure(case, kind, window);
    Round { bare: measure(Kind::Bare), ostler: measure(Kind::Ostler), bare_again: measure(Kind::Bare) }
}

fn cases() -> impl Iterator<Item = Case> {
    [Wire::Unix, Wire::Tcp].into_iter().flat_map(|wire| {
        [1, KEPT].into_iter().flat_map(move |per_connection| {
            [2, 8].into_iter().map(move |workers| Case {
                wire,
                per_connection,
                workers,
                clients: CLIENTS,
                concurrency: CLIENTS.div_ceil(workers),
            })
        })
    })
}
