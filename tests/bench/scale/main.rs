//! Shows what many workers cost: to start, to replace, to stop, to keep, and for each connection.
//!
//! Within each round a fleet of 8 workers and one of N live side by side, so that what is compared is measured seconds apart.
//! The load goes over both in turn, with a fleet of 64 beside them (then no connection waits in the line, and the rest of the
//! difference is the number of workers), and over the small one twice, which is the A/A row.

#[path = "../bells.rs"]
mod bells;
#[path = "../flags.rs"]
mod flags;
mod fleet;
#[path = "../generator.rs"]
mod generator;
mod load;
mod memory;
#[path = "../spread.rs"]
mod spread;

use std::process::ExitCode;
use std::time::Duration;

use flags::Flags;
use fleet::{Fleet, Idle, Life};
use load::Loaded;
use spread::Spread;

const USAGE: &str = "bench_scale [--workers N] [--rounds N] [--window-ms MS] [--idle-s S]";

/// What the large fleet is compared with.
const SMALL: u32 = 8;
/// As many as there are clients.
const MIDDLE: u32 = 64;

/// How much of it.
#[derive(Debug, Clone, Copy)]
struct Plan {
    workers: u32,
    rounds: u32,
    window: Duration,
    idle: Duration,
}

/// What one round brought.
struct Round {
    small: Life,
    large: Life,
    /// In the order of [`ROWS`].
    loaded: Vec<Loaded>,
}

/// The fleets that are loaded, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    Small,
    Middle,
    Large,
    SmallAgain,
}

const ROWS: [Row; 4] = [Row::Small, Row::Middle, Row::Large, Row::SmallAgain];

fn main() -> ExitCode {
    let flags = Flags::read(USAGE, &["--workers", "--rounds", "--window-ms", "--idle-s"], &[]);
    let plan = Plan {
        workers: flags.number("--workers", 1000),
        rounds: flags.number("--rounds", 5),
        window: Duration::from_millis(flags.number("--window-ms", 1000).into()),
        idle: Duration::from_secs(flags.number("--idle-s", 10).into()),
    };
    let has_room = match plan.workers {
        0..=SMALL => Err(format!("--workers {}: more than {SMALL}, with which they are compared", plan.workers)),
        workers => fleet::make_room(workers),
    };
    if let Err(why) = has_room {
        eprintln!("bench_scale: {why}");
        return ExitCode::FAILURE;
    }
    compare(plan);
    ExitCode::SUCCESS
}

fn compare(plan: Plan) {
    println!(
        "{SMALL} and {} workers of the same program, concurrency 1, side by side; {} rounds; median (least–most) over rounds",
        plan.workers, plan.rounds
    );
    let mut idle = None;
    let rounds: Vec<Round> = (0..plan.rounds)
        .map(|_| {
            let (small, large) = (Fleet::start(SMALL), Fleet::start(plan.workers));
            if idle.is_none() {
                idle = Some((fleet::idle([&small, &large], plan.idle), plan.idle));
            }
            round(small, large, plan.window)
        })
        .collect();
    print_lives(plan, &rounds);
    if let Some(([small, large], length)) = idle {
        print_idle(plan, &small, &large, length);
    }
    print_memory(plan, &rounds);
    print_loaded(plan, &rounds);
}

fn round(mut small: Fleet, mut large: Fleet, window: Duration) -> Round {
    for fleet in [&mut small, &mut large] {
        fleet.ask_for_status();
    }
    let middle = Fleet::start(MIDDLE);
    let loaded = ROWS
        .iter()
        .map(|row| match row {
            Row::Small | Row::SmallAgain => load::measure(&small, window),
            Row::Middle => load::measure(&middle, window),
            Row::Large => load::measure(&large, window),
        })
        .collect();
    middle.stop();
    for fleet in [&mut small, &mut large] {
        fleet.reload();
    }
    Round { small: small.stop(), large: large.stop(), loaded }
}

fn print_lives(plan: Plan, rounds: &[Round]) {
    println!(
        "\n{:<44} {:>30} {:>30} {:>24}",
        "",
        "8 workers",
        format!("{} workers", plan.workers),
        "each of the many, µs"
    );
    let row = |name: &str, of: fn(&Life) -> Duration| {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let small = Spread::of(rounds.iter().map(|round| ms(of(&round.small))));
        let large = Spread::of(rounds.iter().map(|round| ms(of(&round.large))));
        let each = large.median * 1e3 / f64::from(plan.workers);
        println!("{name:<44} {small:>30.1} {large:>30.1} {each:>24.0}");
    };
    row("from the start until all are READY, ms", |life| life.start);
    row("… of that, CPU of the supervisor, ms", |life| life.start_cpu);
    row("a reload of all, one slot at a time, ms", |life| life.reload);
    row("… of that, CPU of the supervisor, ms", |life| life.reload_cpu);
    row("a stop, ms", |life| life.stop);
    row("`ostler status --json`, ms", |life| life.status);
    row("… of that, CPU of the supervisor, ms", |life| life.status_cpu);
}

fn print_idle(plan: Plan, small: &Idle, large: &Idle, length: Duration) {
    println!(
        "\n{:<44} {:>30} {:>30}",
        format!("idle for {length:?}"),
        "8 workers",
        format!("{} workers", plan.workers)
    );
    let share = |cpu: Duration| cpu.as_secs_f64() * 100.0 / length.as_secs_f64();
    let shares = |name: &str, of: fn(&Idle) -> Duration| {
        println!("{name:<44} {:>30.4} {:>30.4}", share(of(small)), share(of(large)));
    };
    shares("CPU of the supervisor, % of a core", |idle| idle.supervisor_cpu);
    shares("CPU of all workers together, % of a core", |idle| idle.workers_cpu);
    println!("{:<44} {:>30} {:>30}", "how often the supervisor slept", small.supervisor_naps, large.supervisor_naps);
    println!("{:<44} {:>30} {:>30}", "how often workers slept, together", small.workers_naps, large.workers_naps);
}

#[expect(clippy::cast_precision_loss, reason = "bytes are far below 2^52")]
fn print_memory(plan: Plan, rounds: &[Round]) {
    println!(
        "\n{:<44} {:>30} {:>30} {:>24}",
        "memory, KiB",
        "8 workers",
        format!("{} workers", plan.workers),
        "per worker"
    );
    let row = |name: &str, of: fn(&Life) -> u64| {
        let kib = |life: &Life| of(life) as f64 / 1024.0;
        let small = Spread::of(rounds.iter().map(|round| kib(&round.small)));
        let large = Spread::of(rounds.iter().map(|round| kib(&round.large)));
        let more = Spread::of(rounds.iter().map(|round| kib(&round.large) - kib(&round.small)));
        let each = more.median / (f64::from(plan.workers) - f64::from(SMALL));
        println!("{name:<44} {small:>30.0} {large:>30.0} {each:>24.2}");
    };
    row("supervisor resident, after the start", |life| life.resident);
    row("… after load and a reload", |life| life.resident_at_end);
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    let workers = Spread::of(rounds.iter().map(|round| kib(round.large.private_dirty)));
    println!("private dirty of one worker process, median of {}: {workers:.0}", memory::SAMPLE);
    println!("the same of the worker program without ostler: {:.0}", kib(memory::of_a_bare_worker()));
    let descriptors = |life: &Life| life.descriptors as f64;
    let small = Spread::of(rounds.iter().map(|round| descriptors(&round.small)));
    let large = Spread::of(rounds.iter().map(|round| descriptors(&round.large)));
    println!("descriptors of the supervisor: {:.0} with 8, {:.0} with {}", small.median, large.median, plan.workers);
}

fn print_loaded(plan: Plan, rounds: &[Round]) {
    println!(
        "\n{:<24} {:>26} {:>22} {:>24} {:>22} {:>12} {:>14}",
        format!("{} clients, one-shot", load::CLIENTS),
        "requests/s",
        "÷ 8 workers",
        "supervisor µs/conn",
        "÷ 8 workers",
        "bells/conn",
        "workers used"
    );
    let values = |number: usize, of: fn(&Loaded) -> f64| -> Vec<f64> {
        rounds.iter().map(|round| of(&round.loaded[number])).collect()
    };
    for (number, row) in ROWS.iter().enumerate() {
        let name = match row {
            Row::Small => format!("{SMALL} workers"),
            Row::Middle => format!("{MIDDLE} workers"),
            Row::Large => format!("{} workers", plan.workers),
            Row::SmallAgain => format!("{SMALL} workers, again (A/A)"),
        };
        let paired = |of: fn(&Loaded) -> f64| Spread::paired(&values(number, of), &values(0, of));
        println!(
            "{name:<24} {:>26.0} {:>22} {:>24} {:>22} {:>12.2} {:>14}",
            Spread::of(values(number, |loaded| loaded.requests_per_s)),
            paired(|loaded| loaded.requests_per_s),
            Spread::of(values(number, |loaded| loaded.supervisor_us_per_connection)),
            paired(|loaded| loaded.supervisor_us_per_connection),
            Spread::of(values(number, |loaded| loaded.bells_per_connection)).median,
            rounds.iter().map(|round| round.loaded[number].workers_used).min().unwrap_or(0),
        );
        let failures: u64 = rounds.iter().map(|round| round.loaded[number].failures).sum();
        if failures > 0 {
            println!("  {failures} connections FAILED");
        }
    }
}
