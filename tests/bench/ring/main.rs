//! Compares the ring with what the kernel offers for the same: a pipe, and socketpairs of both kinds.
//!
//! Three tables, each with its A/A rows: records per second from one process to another, the way there and back when both
//! sides sleep, and what publishing a record costs the publisher. The other process is this program once more, which gets
//! its descriptors over its standard input. Nothing is pinned to a CPU: the two must have one each, so run it on a machine
//! that has at least two to spare.

#[path = "../flags.rs"]
mod flags;
mod memory;
mod other;
mod publishing;
mod record;
#[path = "../spread.rs"]
mod spread;
mod streaming;
mod trip;

use std::process::ExitCode;
use std::time::Duration;

use flags::Flags;
use spread::Spread;

const USAGE: &str = "bench_ring [--rounds N] [--window-ms MS]";

/// One way of doing it, and what a record took in each round, in nanoseconds.
struct Row<W> {
    way: W,
    ns: Vec<f64>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ended = match words[..] {
        ["drain", way] => streaming::drain(way),
        ["echo", way] => trip::echo(way),
        _ => {
            compare(&Flags::read(USAGE, &["--rounds", "--window-ms"], &[]));
            Ok(())
        }
    };
    ostler_tests::programs::edge(ended)
}

fn compare(flags: &Flags) {
    let rounds = flags.number("--rounds", 7);
    let window = Duration::from_millis(flags.number("--window-ms", 300).into());
    println!(
        "records of {} bytes, ring and pipe of {} records; {rounds} rounds of {window:?} per row, rows interleaved; \
         median (least–most) over rounds, ratios paired per round",
        record::LEN,
        memory::CAPACITY
    );
    stream_records(rounds, window);
    go_there_and_back(rounds, window);
    publish_alone(rounds, window);
}

fn stream_records(rounds: u32, window: Duration) {
    let mut rows: Vec<Row<streaming::Way>> =
        streaming::ROWS.iter().map(|way| Row { way: *way, ns: Vec::new() }).collect();
    for _ in 0..rounds {
        for row in &mut rows {
            row.ns.push(streaming::measure(row.way, window));
        }
    }
    let reference = rows[streaming::REFERENCE].ns.clone();
    println!(
        "\n{:<44} {:>24} {:>10} {:>26}",
        "from one process to another", "ns per record", "million/s", "times SEQPACKET"
    );
    for (number, row) in rows.iter().enumerate() {
        let ns = Spread::of(row.ns.iter().copied());
        let rate = Spread::paired(&reference, &row.ns);
        let again = again(number, streaming::ROWS.iter().position(|way| *way == row.way));
        println!("{:<44} {:>24.1} {:>10.2} {:>26}", format!("{}{again}", row.way), ns, 1e3 / ns.median, rate);
    }
    print_noise(rows.iter().map(|row| (row.way, &row.ns)));
}

fn go_there_and_back(rounds: u32, window: Duration) {
    let mut rows: Vec<(Row<trip::Way>, Vec<f64>, Vec<f64>)> =
        trip::ROWS.iter().map(|way| (Row { way: *way, ns: Vec::new() }, Vec::new(), Vec::new())).collect();
    for _ in 0..rounds {
        for (row, says, rung) in &mut rows {
            let measured = trip::measure(row.way, window);
            row.ns.push(measured.trip_ns);
            says.push(measured.say_ns);
            rung.push(measured.woken_percent);
        }
    }
    let reference = rows[trip::REFERENCE].0.ns.clone();
    println!(
        "\n{:<44} {:>26} {:>20} {:>26} {:>8}",
        "there and back, both sides sleep",
        "ns (median of a window)",
        "times pipe",
        "ns of the call that wakes",
        "% rung"
    );
    for (number, (row, says, rung)) in rows.iter().enumerate() {
        let again = again(number, trip::ROWS.iter().position(|way| *way == row.way));
        println!(
            "{:<44} {:>26.0} {:>20} {:>26.0} {:>8.1}",
            format!("{}{again}", row.way),
            Spread::of(row.ns.iter().copied()),
            Spread::paired(&row.ns, &reference),
            Spread::of(says.iter().copied()),
            Spread::of(rung.iter().copied()).median
        );
    }
    println!("% rung: how often the asker had to wake the other side (100 for what is always a system call)");
    print_noise(rows.iter().map(|(row, ..)| (row.way, &row.ns)));
}

fn publish_alone(rounds: u32, window: Duration) {
    let mut rows: Vec<Row<publishing::Way>> =
        publishing::ROWS.iter().map(|way| Row { way: *way, ns: Vec::new() }).collect();
    for _ in 0..rounds {
        for row in &mut rows {
            row.ns.push(publishing::measure(row.way, window));
        }
    }
    let reference = rows[publishing::REFERENCE].ns.clone();
    println!("\n{:<44} {:>24} {:>26}", "publishing one record, nobody reads meanwhile", "ns", "times without a fence");
    for (number, row) in rows.iter().enumerate() {
        let again = again(number, publishing::ROWS.iter().position(|way| *way == row.way));
        let (ns, ratio) = (Spread::of(row.ns.iter().copied()), Spread::paired(&row.ns, &reference));
        println!("{:<44} {:>24.1} {:>26}", format!("{}{again}", row.way), ns, ratio);
    }
    print_noise(rows.iter().map(|row| (row.way, &row.ns)));
}

fn again(number: usize, first: Option<usize>) -> &'static str {
    if first == Some(number) { "" } else { ", again" }
}

/// The A/A ratios: what the same thing differs by in the same run means nothing between different things.
fn print_noise<'a, W: PartialEq + std::fmt::Display>(rows: impl Iterator<Item = (W, &'a Vec<f64>)>) {
    let mut seen: Vec<(W, &Vec<f64>)> = Vec::new();
    for (way, ns) in rows {
        match seen.iter().find(|(first, _)| *first == way) {
            Some((_, first)) => println!("A/A, {way} ÷ itself: {}", Spread::paired(ns, first)),
            None => seen.push((way, ns)),
        }
    }
}
