//! Starts a supervisor with so many workers, and measures its life: start, status, reload, stop.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ostler_tests::status::WorkerState;
use ostler_tests::{Builder, Ostler, Scratch, Target, place, procs, programs};

use crate::memory;

/// The longest line of waiting connections: more than there are clients, and no more descriptors than that.
const LINE_MAX: u32 = 512;
/// Descriptors that a supervisor may need per worker, the successor of a reload included.
const PER_WORKER: u64 = 16;
/// Descriptors beside those: the supervisor's own, its line, this program's.
const OTHERS: u64 = 1024;
/// How long a large fleet may take to start.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How often the status is asked for; the median counts.
const QUESTIONS: u32 = 9;

/// What was measured of a fleet.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) start: Duration,
    pub(crate) start_cpu: Duration,
    pub(crate) status: Duration,
    pub(crate) status_cpu: Duration,
    pub(crate) reload: Duration,
    pub(crate) reload_cpu: Duration,
    pub(crate) stop: Duration,
    pub(crate) resident: u64,
    pub(crate) resident_at_end: u64,
    pub(crate) private_dirty: u64,
    pub(crate) descriptors: usize,
}

/// A supervisor with its workers.
pub(crate) struct Fleet {
    pub(crate) ostler: Ostler,
    pub(crate) target: Target,
    life: Life,
}

/// Makes sure that so many workers can be started at all.
///
/// # Errors
/// What is missing, and how to get it.
pub(crate) fn make_room(workers: u32) -> Result<(), String> {
    let need = u64::from(workers) * PER_WORKER + OTHERS;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("cannot read the limits: {error}"))?;
    let wanted = need.max(hard);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).map_err(|error| {
        format!(
            "{workers} workers need up to {need} descriptors, and the hard limit is {hard} ({error}): raise it \
             (ulimit -Hn {need}, or LimitNOFILE= of the service that this shell runs in), or ask for fewer --workers"
        )
    })
}

impl Fleet {
    /// Starts it and waits until all are READY.
    ///
    /// # Panics
    /// When they do not become READY; the supervisor's log is in the message.
    pub(crate) fn start(workers: u32) -> Fleet {
        let scratch = Scratch::new();
        let target = Target::Unix(scratch.path("bench.sock"));
        let command = programs::toml(&[place::program("bench_worker").display().to_string(), "ostler".to_owned()]);
        let config = format!(
            "[supervisor]\nlog = {{ level = \"error\" }}\n[pool.bench]\nlisten = [\"{}\"]\ncommand = {command}\n\
             workers = {workers}\nconcurrency = 1\nqueue = {{ limit = {LINE_MAX} }}\n",
            target.listen()
        );
        let begun = Instant::now();
        let ostler = Builder::new(&scratch).config(config).ready_within(READY_WITHIN).start();
        let start = begun.elapsed();
        let start_cpu = cpu(&ostler);
        let status = ostler.status();
        let ready = status.only().in_state(WorkerState::Ready).len();
        assert_eq!(u32::try_from(ready), Ok(workers), "it said that all were READY");
        let life = Life {
            start,
            start_cpu,
            resident: resident(&ostler),
            private_dirty: memory::private_dirty(&status.only().pids()),
            descriptors: ostler.descriptor_count(),
            ..Life::default()
        };
        Fleet { ostler, target, life }
    }

    /// Asks for the status several times.
    pub(crate) fn ask_for_status(&mut self) {
        let mut times = Vec::new();
        let before = cpu(&self.ostler);
        for _ in 0..QUESTIONS {
            let asked = Instant::now();
            let output = self.ostler.command(&["status", "--json"]);
            times.push(asked.elapsed());
            assert_eq!(output.code, 0, "{}", output.stderr);
        }
        times.sort_unstable();
        self.life.status = times[times.len() / 2];
        self.life.status_cpu = (cpu(&self.ostler) - before) / QUESTIONS;
    }

    /// Replaces all workers.
    pub(crate) fn reload(&mut self) {
        let (begun, before) = (Instant::now(), cpu(&self.ostler));
        let output = self.ostler.command(&["reload"]);
        assert_eq!(output.code, 0, "{}", output.text());
        self.life.reload = begun.elapsed();
        self.life.reload_cpu = cpu(&self.ostler) - before;
        self.life.resident_at_end = resident(&self.ostler);
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Life {
        let begun = Instant::now();
        let ended = self.ostler.stop();
        self.life.stop = begun.elapsed();
        assert_eq!(ended.code, 0, "{}", ended.log);
        self.life
    }
}

fn cpu(ostler: &Ostler) -> Duration {
    procs::cpu_time(ostler.pid()).expect("the supervisor runs")
}

fn resident(ostler: &Ostler) -> u64 {
    procs::resident_bytes(ostler.pid()).expect("the supervisor runs")
}

// ── idle ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// What a fleet did while nobody asked it for anything.
pub(crate) struct Idle {
    pub(crate) supervisor_cpu: Duration,
    pub(crate) supervisor_naps: u64,
    pub(crate) workers_cpu: Duration,
    pub(crate) workers_naps: u64,
}

/// CPU time and voluntary context switches so far.
struct Used {
    cpu: Duration,
    naps: u64,
}

impl Used {
    fn by(pids: &[i32]) -> Used {
        Used {
            cpu: pids.iter().map(|pid| procs::cpu_time(*pid).expect("an idle process lives")).sum(),
            naps: pids.iter().map(|pid| naps(*pid)).sum(),
        }
    }
}

/// Leaves fleets alone for so long.
pub(crate) fn idle(fleets: [&Fleet; 2], length: Duration) -> [Idle; 2] {
    let processes = fleets.map(|fleet| (fleet.ostler.pid(), fleet.ostler.status().only().pids()));
    let used = || processes.each_ref().map(|(supervisor, workers)| (Used::by(&[*supervisor]), Used::by(workers)));
    // The answer to the question above is still being put away.
    thread::sleep(Duration::from_millis(200));
    let before = used();
    thread::sleep(length);
    let after = used();
    let mut pairs = before.into_iter().zip(after).map(|(before, after)| Idle {
        supervisor_cpu: after.0.cpu.saturating_sub(before.0.cpu),
        supervisor_naps: after.0.naps - before.0.naps,
        workers_cpu: after.1.cpu.saturating_sub(before.1.cpu),
        workers_naps: after.1.naps - before.1.naps,
    });
    [(); 2].map(|()| pairs.next().expect("as many as there are fleets"))
}

/// How often the threads of a process gave the CPU up by themselves: one that is woken and sleeps again does once more.
fn naps(pid: i32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("an idle process lives");
    let of = |path: std::path::PathBuf| -> Option<u64> {
        let status = fs::read_to_string(path.join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
    };
    threads.flatten().map(|thread| of(thread.path()).expect("an idle process keeps its threads")).sum()
}
