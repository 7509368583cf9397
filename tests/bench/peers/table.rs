//! Prints the comparison.

use crate::faults::Faults;
use crate::load::Measured;
use crate::paced::Paced;
use crate::side::Side;
use crate::spread::Spread;

const NAME_WIDTH: usize = 36;

/// `rounds` has, of each round, a figure for each of `sides`. A side that stands there again is the A/A row.
pub(crate) fn print_loads(family: &str, per_connection: u32, sides: &[Side], rounds: &[Vec<Measured>]) {
    let kind =
        if per_connection == 1 { "one-shot".to_owned() } else { format!("{per_connection} requests per connection") };
    println!(
        "\n{:<NAME_WIDTH$}{:>24}{:>22}{:>24}{:>22}{:>24}{:>22}",
        format!("{family}, {kind}"),
        "requests/s",
        "÷ ostler's",
        "p99 ms",
        "÷ ostler's",
        "CPU µs per request",
        "÷ ostler's"
    );
    for (at, side) in sides.iter().enumerate() {
        let first = |wanted: Side| sides.iter().position(|side| *side == wanted);
        let again = first(*side) != Some(at);
        let reference = first(side.reference()).expect("ostler's side is loaded as well");
        let values =
            |of: fn(&Measured) -> f64, at: usize| -> Vec<f64> { rounds.iter().map(|round| of(&round[at])).collect() };
        let columns = |of: fn(&Measured) -> f64, digits: usize| {
            let (ours, theirs) = (values(of, at), values(of, reference));
            let ratio = if at == reference { "1".to_owned() } else { format!("{:.2}", Spread::paired(&ours, &theirs)) };
            format!("{:>24.digits$}{ratio:>22}", Spread::of(ours))
        };
        let name = if again { format!("  A/A: {side}") } else { side.to_string() };
        println!(
            "{name:<NAME_WIDTH$}{}{}{}",
            columns(|side| side.requests_per_s, 0),
            columns(|side| side.p99_ms, 2),
            columns(|side| side.cpu_us_per_request, 1)
        );
        let failures: u64 = rounds.iter().map(|round| round[at].failures).sum();
        if failures > 0 {
            println!("  {failures} requests FAILED without any fault");
        }
    }
}

pub(crate) fn print_paced(family: &str, rate: u32, rows: &[(Side, Vec<Paced>)]) {
    let kind = format!("{family}, {rate}/s, one-shot");
    println!("\n{kind:<NAME_WIDTH$}{:>24}{:>24}{:>24}", "p50 ms", "p99 ms", "p99.9 ms");
    for (side, rounds) in rows {
        let spread = |of: fn(&Paced) -> f64| Spread::of(rounds.iter().map(of));
        println!(
            "{side:<NAME_WIDTH$}{:>24.2}{:>24.2}{:>24.2}",
            spread(|round| round.p50_ms),
            spread(|round| round.p99_ms),
            spread(|round| round.p999_ms)
        );
        let failures: u64 = rounds.iter().map(|round| round.failures).sum();
        if failures > 0 {
            println!("  {failures} requests FAILED without any fault");
        }
    }
}

pub(crate) fn print_faults(rows: &[(Side, Vec<Faults>)]) {
    println!("\n{:<NAME_WIDTH$}{:>24}{:>24}", "", "failed per reload", "failed per kill");
    for (side, rounds) in rows {
        let spread = |of: fn(&Faults) -> f64| Spread::of(rounds.iter().map(of));
        println!(
            "{side:<NAME_WIDTH$}{:>24.2}{:>24.2}",
            spread(|round| round.failed_per_reload),
            spread(|round| round.failed_per_kill)
        );
    }
}
