//! Measures what it costs to be seen: ostler while nobody looks, and while `ostler top`, a scrape per second and `ostler trace` do.
//!
//! `bench_watched [--rounds N] [--window-ms MS] [--before PATH]`. Within each round the sides run in turn: alone, watched, alone again
//! (the A/A row), and, with `--before`, another build of ostler as well, such as one that publishes nothing yet. Ratios are
//! paired per round. CPU is that of the supervisor, its workers and its admin server; what those who look cost themselves stands
//! apart, and is in requests per second as well, since they share the machine.

mod flags;
mod generator;
mod spread;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use flags::Flags;
use generator::Generator;
use ostler_tests::http::get_once;
use ostler_tests::tmux::Terminal;
use ostler_tests::{Builder, Ostler, Scratch, Target, place, procs, programs};
use spread::Spread;

const USAGE: &str = "bench_watched [--rounds N] [--window-ms MS] [--before PATH]";
const CLIENTS: usize = 64;
const WORKERS: usize = 4;
const KEPT: u32 = 100;
/// How long a side is loaded, and looked at, before its window.
const WARM_UP: Duration = Duration::from_millis(1500);
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Alone,
    Watched,
    AloneAgain,
    Before,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Alone => "alone",
            Side::Watched => "watched",
            Side::AloneAgain => "  A/A: alone",
            Side::Before => "the other build, alone",
        })
    }
}

#[derive(Debug)]
struct Measured {
    requests_per_s: f64,
    cpu_us: f64,
    /// Of those who look.
    watchers_us: f64,
}

fn main() {
    let flags = Flags::read(USAGE, &["--rounds", "--window-ms", "--before"], &[]);
    let rounds = flags.number("--rounds", 7);
    let window = Duration::from_millis(flags.number("--window-ms", 3000).into());
    let before = flags.word("--before").map(PathBuf::from);
    let sides: Vec<Side> = [Side::Alone, Side::Watched, Side::AloneAgain]
        .into_iter()
        .chain(before.as_ref().map(|_| Side::Before))
        .collect();
    println!(
        "{CLIENTS} clients, closed loop, Unix socket, {WORKERS} workers; {rounds} rounds of {window:?}, sides interleaved; watched: \
         `ostler top`, a scrape of /metrics per second, `ostler trace`"
    );
    for per_connection in [1, KEPT] {
        let kind = if per_connection == 1 { "one-shot".to_owned() } else { format!("keep-{per_connection}") };
        println!(
            "\n{:26}{:>28}{:>20}{:>20}{:>24}",
            kind, "requests/s", "÷ alone", "CPU ÷ alone", "watchers, µs/request"
        );
        let measured: Vec<Vec<Measured>> = (0..rounds)
            .map(|_| sides.iter().map(|side| measure(*side, before.as_deref(), per_connection, window)).collect())
            .collect();
        for (at, side) in sides.iter().enumerate() {
            let column =
                |of: fn(&Measured) -> f64, at: usize| measured.iter().map(|round| of(&round[at])).collect::<Vec<_>>();
            let (rates, cpus) = (column(|side| side.requests_per_s, at), column(|side| side.cpu_us, at));
            println!(
                "{side:26}{:>28.0}{:>20.3}{:>20.3}{:>24.2}",
                Spread::of(rates.iter().copied()),
                Spread::paired(&rates, &column(|side| side.requests_per_s, 0)),
                Spread::paired(&cpus, &column(|side| side.cpu_us, 0)),
                Spread::of(column(|side| side.watchers_us, at)),
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn measure(side: Side, before: Option<&Path>, per_connection: u32, window: Duration) -> Measured {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("bench.sock"));
    let admin = match Target::free_tcp() {
        Target::Tcp(address) => address,
        Target::Unix(_) | Target::Abstract(_) => unreachable!("it was asked for"),
    };
    let ostler = start(side, before, &scratch, &target, admin);
    let watchers = (side == Side::Watched).then(|| Watchers::start(&ostler, &scratch, admin));
    let mut generator = Generator::start(&target, CLIENTS, per_connection).expect("it listens");
    generator.run(WARM_UP).expect("the load goes on");
    let (ours, theirs) = (ostler.processes(), watchers.as_ref().map(Watchers::processes).unwrap_or_default());
    let (ours_before, theirs_before) = (procs::cpu_time_of(&ours), procs::cpu_time_of(&theirs));
    let counted = generator.run(window).expect("the load goes on");
    assert_eq!(counted.failures, 0, "{side}");
    let per_request = |now: Duration, before: Duration| {
        now.saturating_sub(before).as_secs_f64() * 1e6 / counted.answers.max(1) as f64
    };
    let measured = Measured {
        requests_per_s: counted.answers as f64 / counted.length.as_secs_f64(),
        cpu_us: per_request(procs::cpu_time_of(&ours), ours_before),
        watchers_us: per_request(procs::cpu_time_of(&theirs), theirs_before),
    };
    drop(generator);
    drop(watchers);
    measured
}

fn start(side: Side, before: Option<&Path>, scratch: &Scratch, target: &Target, admin: SocketAddr) -> Ostler {
    let command = programs::toml(&[place::program("bench_worker").display().to_string(), "ostler".to_owned()]);
    let pool = format!(
        "[pool.bench]\nlisten = [\"{}\"]\ncommand = {command}\nworkers = {WORKERS}\nconcurrency = {}\n",
        target.listen(),
        CLIENTS.div_ceil(WORKERS)
    );
    match (side, before) {
        (Side::Before, Some(before)) => Builder::new(scratch).program(before).config(pool).start(),
        _ => Builder::new(scratch).config(format!("[admin]\nlisten = \"tcp:{admin}\"\n{pool}")).start(),
    }
}

/// Those who look. Dropping it ends them.
struct Watchers {
    top: Terminal,
    trace: Child,
    scraping: Arc<AtomicBool>,
    scraper: Option<JoinHandle<()>>,
}

impl Watchers {
    fn start(ostler: &Ostler, scratch: &Scratch, admin: SocketAddr) -> Watchers {
        let control = ostler.control().expect("given").display().to_string();
        let top = Terminal::start(&["top", "--control", &control], 100, 40);
        let mut trace = Command::new(place::ostler());
        trace.args(["trace", "--control", &control]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let trace = trace.current_dir(scratch.dir()).spawn().expect("ostler");
        let scraping = Arc::new(AtomicBool::new(true));
        let goes_on = Arc::clone(&scraping);
        let scraper = std::thread::spawn(move || {
            while goes_on.load(Ordering::Relaxed) {
                let metrics =
                    get_once(&Target::Tcp(admin), "/metrics", SCRAPE_TIMEOUT).expect("the admin server answers").text();
                assert!(metrics.contains("ostler_connections_accepted_total"), "{metrics}");
                std::thread::park_timeout(SCRAPE_EVERY);
            }
        });
        Watchers { top, trace, scraping, scraper: Some(scraper) }
    }

    /// The scraper is a thread of the load generator's process, and not counted.
    fn processes(&self) -> Vec<i32> {
        let trace = i32::try_from(self.trace.id()).expect("a pid");
        vec![trace, self.top.program()]
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.scraping.store(false, Ordering::Relaxed);
        if let Some(scraper) = self.scraper.take() {
            scraper.thread().unpark();
            let _ = scraper.join();
        }
        let _ = self.trace.kill();
        let _ = self.trace.wait();
    }
}
