//! Compares ostler with the servers that people use today, each with the same application behind a Unix socket or a TCP port.
//!
//! `bench_peers [--only wsgi|node] [--tcp] [--rounds N] [--window-ms MS] [--workers N] [--threads N] [--clients N] [--faults N]
//! [--rate N]`. Within each round every side is loaded in turn, and ostler once more, which is the A/A row; ratios are paired per round. Then each side
//! is reloaded, and its workers are killed, under load. The peers are installed from PyPI in the versions of `prepare.rs`, into
//! `peers` in the target directory; Node has to be there.

#[path = "../alarm.rs"]
mod alarm;
#[path = "../tail/arrivals.rs"]
#[expect(dead_code, reason = "all requests are of one kind here")]
mod arrivals;
mod faults;
#[path = "../flags.rs"]
mod flags;
mod load;
mod paced;
mod prepare;
mod side;
#[path = "../spread.rs"]
mod spread;
mod table;

use std::fmt;
use std::time::Duration;

use faults::Faults;
use flags::Flags;
use load::Measured;
use paced::Paced;
use side::{Running, Side};

const USAGE: &str = "bench_peers [--only wsgi|node] [--tcp] [--rounds N] [--window-ms MS] [--workers N] [--threads N] [--clients N] \
                     [--faults N] [--rate N]";
/// Requests of a connection that is kept.
const KEPT: u32 = 100;
/// How long a side is loaded before its window: Node is at full speed after some thousands of requests per process.
const WARM_UP: Duration = Duration::from_secs(3);

/// What the sides listen on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wire {
    Unix,
    Tcp,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Wire::Unix => "Unix socket",
            Wire::Tcp => "TCP",
        })
    }
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) wire: Wire,
    pub(crate) workers: u32,
    /// Of each worker, where it has several.
    pub(crate) threads: u32,
    pub(crate) clients: u32,
    rounds: u32,
    pub(crate) window: Duration,
    /// Requests per second where they come at a rate.
    pub(crate) rate: u32,
    /// Reloads in each round, and as many kills.
    pub(crate) faults: u32,
}

/// Sides that are compared with each other, the ones of ostler before those that are measured against them.
struct Family {
    name: &'static str,
    sides: &'static [Side],
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "wsgi",
        sides: &[
            Side::Ostler,
            Side::OstlerPrefetch,
            Side::OstlerListen,
            Side::GunicornSync,
            Side::OstlerThreads,
            Side::GunicornThreads,
            Side::Uwsgi,
            Side::UwsgiChain,
        ],
    },
    Family { name: "node", sides: &[Side::NodeAccept, Side::NodeListen, Side::NodePassing, Side::NodeShared] },
];

fn main() {
    let names = ["--only", "--rounds", "--window-ms", "--workers", "--threads", "--clients", "--faults", "--rate"];
    let flags = Flags::read(USAGE, &names, &["--tcp"]);
    let plan = Plan {
        wire: if flags.word("--tcp").is_some() { Wire::Tcp } else { Wire::Unix },
        workers: flags.number("--workers", 4),
        threads: flags.number("--threads", 8),
        clients: flags.number("--clients", 32),
        rounds: flags.number("--rounds", 3),
        window: Duration::from_millis(flags.number("--window-ms", 2000).into()),
        rate: flags.number("--rate", 5000),
        faults: flags.number("--faults", 3),
    };
    prepare::peers();
    println!(
        "{} clients, closed loop, {}; {} workers, {} threads each where a side has threads; {} rounds of {:?}, all \
         sides interleaved; {} reloads and as many kills in each round, 16 clients at /sleep/1",
        plan.clients, plan.wire, plan.workers, plan.threads, plan.rounds, plan.window, plan.faults
    );
    let chosen = |family: &&Family| flags.word("--only").is_none_or(|word| word == family.name);
    for family in FAMILIES.iter().filter(chosen) {
        for per_connection in [1, KEPT] {
            compare_loads(family, per_connection, plan);
        }
        compare_paced(family, plan);
        compare_faults(family, plan);
    }
}

fn compare_loads(family: &Family, per_connection: u32, plan: Plan) {
    let sides = |again: bool| {
        let fits = move |side: &Side| side.is_loaded() && (per_connection == 1 || side.keeps_connections());
        let ours = family.sides.iter().copied().filter(fits).find(|side| side.reference() == *side);
        family.sides.iter().copied().filter(fits).chain(ours.filter(|_| again))
    };
    let measure = |side: Side| -> Measured {
        let running = Running::start(side, plan);
        load::measure(&running, plan, per_connection)
    };
    let rounds: Vec<Vec<Measured>> = (0..plan.rounds).map(|_| sides(true).map(measure).collect()).collect();
    table::print_loads(family.name, per_connection, &sides(true).collect::<Vec<_>>(), &rounds);
}

fn compare_paced(family: &Family, plan: Plan) {
    let sides = || family.sides.iter().copied().filter(|side| side.is_loaded());
    let mut rows: Vec<(Side, Vec<Paced>)> = sides().map(|side| (side, Vec::new())).collect();
    for _ in 0..plan.rounds {
        for (side, found) in &mut rows {
            found.push(paced::measure(&Running::start(*side, plan), plan));
        }
    }
    table::print_paced(family.name, plan.rate, &rows);
}

fn compare_faults(family: &Family, plan: Plan) {
    let mut rows: Vec<(Side, Vec<Faults>)> = family.sides.iter().map(|side| (*side, Vec::new())).collect();
    for _ in 0..plan.rounds {
        for (side, found) in &mut rows {
            found.push(faults::provoke(&Running::start(*side, plan), plan));
        }
    }
    table::print_faults(&rows);
}
