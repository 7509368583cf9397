//! Compares workers that a template forks with workers that load for themselves: how fast they start, what memory each has alone.
//!
//! `bench_templates [--rounds N] [--workers N] [--megabytes N]`. Four sides in turn within each round: a program in Rust and a Flask
//! application on the WSGI server, each with and without a template, and as much loaded data. Started is when every worker is READY:
//! counted from when the template has loaded, or without one from the start of ostler, by the times in its log. Memory is what
//! `smaps_rollup` says of each worker after every one has answered.

mod flags;
mod spread;

use std::fmt;
use std::time::Duration;

use flags::Flags;
use ostler_tests::builder::Builder;
use ostler_tests::http::get_once;
use ostler_tests::{Ostler, Scratch, place, programs};
use spread::Spread;

const USAGE: &str = "bench_templates [--rounds N] [--workers N] [--megabytes N]";
/// A worker that loads for itself on a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(120);
/// What each worker answers before its memory is looked at.
const REQUESTS_PER_WORKER: u32 = 4;

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Rust,
    Flask,
}

/// What makes the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Template,
    Exec,
}

/// One side of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side {
    program: Program,
    origin: Origin,
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
struct Size {
    workers: u32,
    megabytes: u32,
}

/// What was seen of one start, in milliseconds and MiB.
#[derive(Debug, Clone, Copy)]
struct Seen {
    start_ms: f64,
    private_mib: f64,
    pss_mib: f64,
}

const SIDES: [Side; 4] = [
    Side { program: Program::Rust, origin: Origin::Template },
    Side { program: Program::Rust, origin: Origin::Exec },
    Side { program: Program::Flask, origin: Origin::Template },
    Side { program: Program::Flask, origin: Origin::Exec },
];

fn main() {
    let flags = Flags::read(USAGE, &["--rounds", "--workers", "--megabytes"], &[]);
    let rounds = flags.number("--rounds", 5);
    let size = Size { workers: flags.number("--workers", 8), megabytes: flags.number("--megabytes", 100) };
    println!(
        "{} workers, {} MB of loaded data, {rounds} rounds, sides in turn; median [min … max]\n",
        size.workers, size.megabytes
    );
    let rounds: Vec<[Seen; 4]> = (0..rounds).map(|_| SIDES.map(|side| measure(side, size))).collect();
    println!("| side | all READY after, ms | private dirty per worker, MiB | PSS per worker, MiB |");
    println!("|---|---|---|---|");
    for (place, side) in SIDES.iter().enumerate() {
        let of = |figure: fn(&Seen) -> f64| Spread::of(rounds.iter().map(|round| figure(&round[place])));
        println!(
            "| {side} | {} | {} | {} |",
            of(|seen| seen.start_ms),
            of(|seen| seen.private_mib),
            of(|seen| seen.pss_mib)
        );
    }
    for place in [0, 2] {
        let ratio = |figure: fn(&Seen) -> f64| {
            let [forked, executed] =
                [place, place + 1].map(|at| rounds.iter().map(|round| figure(&round[at])).collect::<Vec<_>>());
            Spread::paired(&forked, &executed)
        };
        let (start, private) = (ratio(|seen| seen.start_ms), ratio(|seen| seen.private_mib));
        println!("\n{} ÷ executed: start {start:.4}, private memory {private:.3}", SIDES[place]);
    }
}

fn measure(side: Side, size: Size) -> Seen {
    let scratch = Scratch::new();
    let mut ostler = Builder::new(&scratch).config(config(&scratch, side, size)).ready_within(PATIENCE).start();
    let target = ostler.unix("web.sock");
    for _ in 0..size.workers * REQUESTS_PER_WORKER {
        get_once(&target, "/", PATIENCE).expect("it serves");
    }
    let _said = ostler.wait_log(&["all workers are ready"]);
    let log = ostler.log();
    let begin = match side.origin {
        Origin::Template => "has loaded, and forks workers",
        Origin::Exec => " starts pid=",
    };
    let [begun, ended] = [begin, "all workers are ready"].map(|text| moment_of(&log, text));
    let (private, pss) = memory(&ostler);
    ostler.stop();
    Seen { start_ms: (ended - begun) * 1e3, private_mib: private, pss_mib: pss }
}

fn config(scratch: &Scratch, side: Side, size: Size) -> String {
    let megabytes = size.megabytes.to_string();
    let command = match side.program {
        Program::Rust => programs::templated(&scratch.path("journal"), &[&megabytes]),
        Program::Flask => programs::python_wsgi("loaded:app", &[]),
    };
    format!(
        "[pool.web]\nlisten = [\"unix:web.sock\"]\ncommand = {}\nworkers = {}\nstart.ready_timeout = \"2m\"\n\
         process = {{ cwd = {:?}, env = {{ MEGABYTES = {megabytes:?} }} }}\nreload.template = {}\n",
        programs::toml(&command),
        size.workers,
        place::workspace().join("tests/programs/python"),
        side.origin == Origin::Template,
    )
}

/// When the log says something for the first time, in seconds of its day.
fn moment_of(log: &str, text: &str) -> f64 {
    let line = log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text:?} in {log}"));
    let time =
        line.split('T').nth(1).and_then(|rest| rest.split('Z').next()).unwrap_or_else(|| panic!("no time in {line}"));
    time.split(':').map(|part| part.parse::<f64>().expect("digits")).fold(0.0, |sum, part| sum * 60.0 + part)
}

/// What a worker has for itself, and what its share of everything is: the mean over all of them, in MiB.
fn memory(ostler: &Ostler) -> (f64, f64) {
    let pids = ostler.status().only().pids();
    let of = |field: &str| {
        let sizes = pids.iter().map(|pid| {
            let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it lives");
            let line = rollup.lines().find(|line| line.starts_with(field)).expect("the kernel says it");
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
        });
        sizes.sum::<f64>() / pids.len() as f64
    };
    (of("Private_Dirty:"), of("Pss:"))
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = match self.program {
            Program::Rust => "Rust",
            Program::Flask => "Flask on the WSGI server",
        };
        let origin = match self.origin {
            Origin::Template => "forked from a template",
            Origin::Exec => "each executed",
        };
        write!(f, "{program}, {origin}")
    }
}
