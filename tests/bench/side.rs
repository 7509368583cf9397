//! Starts one side of the comparison, loads it for a window, and reads what that cost.

use std::fmt;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::socket::{Backlog, listen};
use ostler_tests::{Builder, Ostler, Scratch, Target, place, procs, programs};

use crate::bells;
use crate::generator::Generator;

/// How long both sides are loaded before the window.
const WARM_UP: Duration = Duration::from_millis(200);

/// A kind of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Unix,
    Tcp,
}

/// With or without a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bare,
    Ostler,
}

/// One comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) wire: Wire,
    pub(crate) per_connection: u32,
    pub(crate) workers: usize,
    pub(crate) clients: usize,
    pub(crate) concurrency: usize,
}

/// What one side did in one window.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) requests_per_s: f64,
    /// CPU time of the supervisor and all workers ÷ requests, in microseconds.
    pub(crate) cpu_us_per_request: f64,
    /// The busiest worker's answers ÷ its fair share.
    pub(crate) share: f64,
    pub(crate) failures: u64,
    /// Of the supervisor; a bare side has none.
    pub(crate) supervisor: Option<Supervisor>,
}

/// What the supervisor did in one window.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// CPU time of the supervisor alone ÷ connections, in microseconds.
    pub(crate) cpu_us_per_connection: f64,
    /// How often workers had to ring for it ÷ connections.
    pub(crate) bells_per_connection: f64,
    pub(crate) resident: Option<u64>,
}

/// What is read of the supervisor before and after a window.
struct Gauge {
    cpu: Duration,
    bells: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = if self.wire == Wire::Unix { "unix" } else { "tcp" };
        let kind =
            if self.per_connection == 1 { "one-shot".to_owned() } else { format!("keep-{}", self.per_connection) };
        write!(f, "{wire} {kind} N={} c={}", self.workers, self.concurrency)
    }
}

/// A running side; dropping it ends it.
enum Running {
    Bare(Vec<Child>),
    Ostler(Box<Ostler>),
}

pub(crate) fn measure(case: &Case, kind: Kind, window: Duration) -> Measured {
    let scratch = Scratch::new();
    let target = match case.wire {
        Wire::Unix => Target::Unix(scratch.path("bench.sock")),
        Wire::Tcp => Target::free_tcp(),
    };
    let running = match kind {
        Kind::Bare => start_bare(case, &target),
        Kind::Ostler => start_ostler(case, &target, &scratch),
    };
    let mut generator = Generator::start(&target, case.clients, case.per_connection).expect("the side listens");
    generator.run(WARM_UP).expect("the load goes on");
    let processes = running.processes();
    let (before, gauge_before) = (procs::cpu_time_of(&processes), running.gauge());
    let counted = generator.run(window).expect("the load goes on");
    let cpu = procs::cpu_time_of(&processes).saturating_sub(before);
    let supervisor = gauge_before.map(|before| running.supervisor(&before, counted.connections));
    drop(generator);
    running.end();
    if let Target::Unix(path) = &target {
        let _ = std::fs::remove_file(path); // the bare side's
    }
    let answers = exact(counted.answers.max(1));
    let most = exact(counted.shares.values().max().copied().unwrap_or(0));
    Measured {
        requests_per_s: answers / counted.length.as_secs_f64(),
        cpu_us_per_request: cpu.as_secs_f64() * 1e6 / answers,
        share: most * exact(u64::try_from(case.workers).unwrap_or(1)) / answers,
        failures: counted.failures,
        supervisor,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn exact(count: u64) -> f64 {
    count as f64
}

fn start_bare(case: &Case, target: &Target) -> Running {
    let (listener, mode): (OwnedFd, &str) = match target {
        Target::Unix(path) => (UnixListener::bind(path).expect("a free path").into(), "bare-unix"),
        Target::Tcp(address) => (TcpListener::bind(address).expect("a free port").into(), "bare-tcp"),
        Target::Abstract(_) => unreachable!("no case has one"),
    };
    listen(&listener, Backlog::new(4096).expect("a backlog")).expect("it is bound");
    let children = (0..case.workers)
        .map(|number| {
            let input = listener.try_clone().expect("a descriptor");
            let mut command = Command::new(place::program("bench_worker"));
            command.args([mode, &case.concurrency.to_string(), &number.to_string()]).stdin(Stdio::from(input));
            command.spawn().expect("bench_worker starts")
        })
        .collect();
    Running::Bare(children)
}

fn start_ostler(case: &Case, target: &Target, scratch: &Scratch) -> Running {
    let command = programs::toml(&[place::program("bench_worker").display().to_string(), "ostler".to_owned()]);
    let config = format!(
        "[pool.bench]\nlisten = [\"{}\"]\ncommand = {command}\nworkers = {}\nconcurrency = {}\n",
        target.listen(),
        case.workers,
        case.concurrency
    );
    Running::Ostler(Box::new(Builder::new(scratch).config(config).start()))
}

impl Running {
    /// Everybody whose CPU time the side costs.
    fn processes(&self) -> Vec<i32> {
        match self {
            Running::Bare(children) => children.iter().filter_map(|child| i32::try_from(child.id()).ok()).collect(),
            Running::Ostler(ostler) => ostler.processes(),
        }
    }

    fn gauge(&self) -> Option<Gauge> {
        match self {
            Running::Bare(_) => None,
            Running::Ostler(ostler) => {
                let cpu = procs::cpu_time(ostler.pid()).expect("the supervisor runs");
                Some(Gauge { cpu, bells: bells::rung(ostler.pid()) })
            }
        }
    }

    fn supervisor(&self, before: &Gauge, connections: u64) -> Supervisor {
        let (Running::Ostler(ostler), Some(after)) = (self, self.gauge()) else {
            unreachable!("only a supervisor has a gauge");
        };
        let connections = exact(connections.max(1));
        Supervisor {
            cpu_us_per_connection: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / connections,
            bells_per_connection: exact(after.bells - before.bells) / connections,
            resident: procs::resident_bytes(ostler.pid()),
        }
    }

    fn end(self) {
        match self {
            Running::Bare(children) => {
                for mut child in children {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
            Running::Ostler(mut ostler) => {
                ostler.stop();
            }
        }
    }
}
