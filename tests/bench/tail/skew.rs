//! Compares prefetch and recall with bare prefork when one request in twenty takes two hundred times as long.
//!
//! As in the prototypes: 8 blocking workers, 95 % of requests spin 100 µs, 5 % sleep 20 ms, so that a worker is busy for
//! 1.095 ms on average; loads of half and of 79 % of what 8 workers can take.

use std::time::Duration;

use crate::Plan;
use crate::arrivals::{Arrivals, Kind, SLEEP, SPIN};
use crate::open_loop::{Answered, OpenLoop};
use crate::quantiles::Times;
use crate::side::{PREFETCH_0, PREFETCH_1, Running, Side};
use crate::spread::Spread;

const WORKERS: u32 = 8;
const SLOW_SHARE: f64 = 0.05;
const LOADS: [f64; 2] = [0.5, 0.79];
/// What comes before the window counts for nothing.
const WARM_UP: Duration = Duration::from_millis(200);
/// The longest that the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

const SIDES: [Side; 6] = [
    PREFETCH_0,
    Side::Bare,
    PREFETCH_1,
    Side::Ostler { prefetch: 1, recall_after: "1ms" },
    Side::Ostler { prefetch: 1, recall_after: "60s" },
    PREFETCH_0,
];
/// What the others are compared with.
const REFERENCE: usize = 0;

/// What one side did in one window.
struct Window {
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    all_p99_us: f64,
    late_p99_us: f64,
    fast: usize,
    recalled_percent: Option<f64>,
    failures: u64,
}

pub(crate) fn compare(plan: Plan) {
    println!(
        "open loop over TCP, one connection per request, Poisson arrivals (the same for all sides of a round), times from \
         the scheduled arrival; {WORKERS} blocking workers, concurrency 1; {} % spin {SPIN:?} of CPU (the fast class), {} % \
         sleep {SLEEP:?}; {} rounds of {:?} per side, sides interleaved; seed {}",
        100.0 - 100.0 * SLOW_SHARE,
        100.0 * SLOW_SHARE,
        plan.rounds,
        plan.window,
        plan.seed
    );
    for load in LOADS {
        let mut rows: Vec<Vec<Window>> = SIDES.iter().map(|_| Vec::new()).collect();
        for round in 0..plan.rounds {
            for (side, row) in SIDES.iter().zip(&mut rows) {
                row.push(measure(*side, load, plan.window, plan.seed_of(round)));
            }
        }
        print(load, &rows);
    }
}

/// Arrivals a second at this load.
fn rate(load: f64) -> f64 {
    let mean_s = (1.0 - SLOW_SHARE) * SPIN.as_secs_f64() + SLOW_SHARE * SLEEP.as_secs_f64();
    load * f64::from(WORKERS) / mean_s
}

fn measure(side: Side, load: f64, window: Duration, seed: u64) -> Window {
    let running = Running::start(side, WORKERS);
    let mut open_loop = OpenLoop::start(running.address).expect("the side listens");
    let arrivals = Arrivals::new(seed, rate(load), SLOW_SHARE).take_while(|arrival| arrival.at < WARM_UP + window);
    open_loop.send(arrivals).expect("requests can be sent");
    open_loop.finish(LAST_ANSWERS).expect("answers can be read");
    let recalled_percent = running.ostler().map(|ostler| {
        let status = ostler.status();
        percent(status.only().recalled, status.only().accepted)
    });
    running.end();
    let begin_ns = open_loop.moment(WARM_UP);
    let counted: Vec<&Answered> = open_loop.answered.iter().filter(|one| one.due_ns >= begin_ns).collect();
    let fast = || counted.iter().filter(|one| one.kind == Kind::Fast);
    let times = Times::of(fast().map(|one| one.took_ns()));
    Window {
        p50_us: times.quantile_us(0.5),
        p99_us: times.quantile_us(0.99),
        p999_us: times.quantile_us(0.999),
        all_p99_us: Times::of(counted.iter().map(|one| one.took_ns())).quantile_us(0.99),
        late_p99_us: Times::of(open_loop.late_ns.iter().copied()).quantile_us(0.99),
        fast: fast().count(),
        recalled_percent,
        failures: open_loop.failures,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn print(load: f64, rows: &[Vec<Window>]) {
    println!("\nload {load}: {:.0} requests a second; fast class, µs", rate(load));
    println!(
        "{:<24} {:>24} {:>28} {:>28} {:>18} {:>18} {:>10} {:>10} {:>10}",
        "", "p50", "p99", "p99.9", "p99 ÷ prefetch 0", "p99.9 ÷ same", "p99 all", "sent late", "recalled"
    );
    for (number, (side, row)) in SIDES.iter().zip(rows).enumerate() {
        let again = if SIDES.iter().position(|first| first == side) == Some(number) { "" } else { ", again (A/A)" };
        let values = |of: fn(&Window) -> f64| -> Vec<f64> { row.iter().map(of).collect() };
        let paired = |of: fn(&Window) -> f64| {
            let reference: Vec<f64> = rows[REFERENCE].iter().map(of).collect();
            Spread::paired(&values(of), &reference)
        };
        println!(
            "{:<24} {:>24.0} {:>28.0} {:>28.0} {:>18} {:>18} {:>10.0} {:>10.0} {:>10}",
            format!("{side}{again}"),
            Spread::of(values(|window| window.p50_us)),
            Spread::of(values(|window| window.p99_us)),
            Spread::of(values(|window| window.p999_us)),
            paired(|window| window.p99_us),
            paired(|window| window.p999_us),
            Spread::of(values(|window| window.all_p99_us)).median,
            Spread::of(values(|window| window.late_p99_us)).median,
            recalled(row),
        );
        let failures: u64 = row.iter().map(|window| window.failures).sum();
        if failures > 0 {
            println!("  {failures} requests FAILED");
        }
    }
    let fast = rows.iter().flatten().map(|window| window.fast).min().unwrap_or(0);
    println!("at least {fast} fast requests per window, so p99.9 rests on {} of them; sent late: p99, µs", fast / 1000);
}

fn recalled(row: &[Window]) -> String {
    match row.iter().filter_map(|window| window.recalled_percent).collect::<Vec<f64>>() {
        none if none.is_empty() => "–".to_owned(),
        percents => format!("{:.2} %", Spread::of(percents).median),
    }
}
