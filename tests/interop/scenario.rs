//! The one scenario: start, share evenly, reload under load, kill under load, stop under load.
//!
//! What is written into the table is counted here. What can't be said in a cell is asserted: books that balance, descriptors,
//! processes left behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SLACK, SOON, every, long_run, wait_until};
use ostler_tests::dice::Dice;
use ostler_tests::http::Failure;
use ostler_tests::load::{Load, Running, Tally};
use ostler_tests::sampler::Sampler;
use ostler_tests::status::Pool;
use ostler_tests::{Ostler, Scratch, Target, bounded, place, programs};

use crate::page::{self, Line};
use crate::programs::{Counts, From, KEPT, Listens, Row, Shares, Speaks};

/// Interpreters take their time, the more so when several start at once on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const KILL_EVERY: Duration = Duration::from_millis(500);
/// Most answers of one worker ÷ least.
const UNFAIRNESS_MAX: f64 = 1.5;
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How many, one after another.
pub(crate) fn reloads() -> usize {
    if long_run() { 20 } else { 3 }
}

/// Rows run side by side, but for the moments in which a share is measured.
static MACHINE: RwLock<()> = RwLock::new(());

/// How long.
fn kills_for() -> Duration {
    if long_run() { Duration::from_secs(30) } else { Duration::from_secs(2) }
}

/// Runs a program through everything, and compares what came of it with its line in the README.
pub(crate) fn run(row: &Row) {
    let scratch = Scratch::new();
    let mut inn = Inn::open(row, &scratch);
    let evenly = inn.share();
    let reloads = inn.reload();
    let kills = inn.kill();
    let stop = inn.stop();
    let socket = inn.socket();
    // What a program keeps for itself, and leaves there when it is killed, is not ostler's.
    let _kept = fs::remove_dir_all(scratch.path(KEPT));
    let none = match row.counts() {
        Counts::Ostler => page::NONE_FAILED,
        Counts::Nobody => page::CUT,
    };
    let good =
        [(&evenly, page::EVENLY), (&reloads, none), (&kills, page::CLAIMED), (&stop, none), (&socket, page::SAME)]
            .iter()
            .all(|(cell, wanted)| [*wanted, page::DOES_NOT_APPLY].contains(&cell.as_str()));
    let cells = vec![evenly, reloads, kills, stop, socket];
    let line = Line { program: row.program, version: version(row), handoff: row.handoff, cells, good };
    page::compare(&page::PROGRAMS, &line);
}

/// The version that is installed. `None` where that depends on the machine.
fn version(row: &Row) -> Option<String> {
    let package = match row.from {
        From::System => return None,
        From::PyPi(package) => package,
    };
    let mut python = Command::new(place::unmodified_python("python"));
    python.args(["-c", "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))", package]);
    let output = bounded::run(&mut python, PATIENCE);
    assert_eq!(output.code, 0, "{}", output.stderr);
    Some(output.stdout.trim().to_owned())
}

/// ostler with a program, and what has to be the same at the end.
struct Inn<'a> {
    row: &'a Row,
    target: Target,
    ostler: Ostler,
    inode: Option<u64>,
    /// What else was found under the path after a reload or a kill.
    inode_found: Option<u64>,
    descriptors: usize,
}

/// Clients that connect for each request, and clients that keep their connections.
struct Clients {
    parts: Vec<Running>,
}

impl Inn<'_> {
    fn open<'a>(row: &'a Row, scratch: &Scratch) -> Inn<'a> {
        let target = match row.listens {
            Listens::Unix => Target::Unix(scratch.path("app.sock")),
            Listens::Tcp => Target::free_tcp(),
        };
        let config = format!(
            "[pool.main]\nlisten = [{:?}]\ncommand = {}\nworkers = {}\nhandoff = {:?}\n\
             start = {{ failures = 10000, backoff = [\"10ms\", \"100ms\"] }}\n{}\n",
            target.listen(),
            programs::toml(&(row.command)(scratch)),
            row.workers,
            row.handoff,
            row.more,
        );
        let ostler = ostler_tests::Builder::new(scratch).config(config).ready_within(PATIENCE).start();
        let inode = inode(&target);
        let descriptors = ostler.descriptor_count();
        Inn { row, target, ostler, inode, inode_found: inode, descriptors }
    }

    fn load(&self) -> Load {
        let load = Load::on(&self.target).clients(self.row.clients);
        match self.row.speaks {
            Speaks::Http { .. } => load,
            Speaks::FastCgi(script) => load.fastcgi(Path::new(&crate::programs::file(script))),
        }
    }

    /// Half of the clients keep their connections, where the program lets them.
    fn clients(&self, path: &str) -> Clients {
        let load = self.load().path(path);
        let kept = match self.row.speaks {
            Speaks::Http { kept: 1 } | Speaks::FastCgi(_) => return Clients { parts: vec![load.start()] },
            Speaks::Http { kept } => kept,
        };
        let half = self.row.clients / 2;
        let parts = vec![load.clone().clients(half).start(), load.clients(half).per_connection(kept).start()];
        Clients { parts }
    }

    /// How evenly a load of requests that take time and no CPU is shared.
    fn share(&mut self) -> String {
        // Interpreters warm up, and not all at the same time.
        self.load().requests_each(25).run().assert_no_failure();
        match self.row.shares {
            Shares::Freely => return page::DOES_NOT_APPLY.to_owned(),
            Shares::Evenly => {}
        }
        let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        let tally = self.load().path("/sleep/200").requests_each(10).run();
        tally.assert_no_failure();
        assert_eq!(tally.workers.len(), self.row.workers, "{tally}");
        let unfairness = tally.unfairness();
        println!("{}: {tally}; most/least {unfairness:.2}", self.row.program);
        if unfairness < UNFAIRNESS_MAX { page::EVENLY.to_owned() } else { format!("{unfairness:.2}") }
    }

    fn reload(&mut self) -> String {
        let _among_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        let sampler = Sampler::start(self.ostler.client());
        let before = self.pool();
        let clients = self.clients("/");
        clients.wait_for_more(100);
        for _ in 0..reloads() {
            let output = self.ostler.command(&["reload"]);
            assert_eq!(output.code, 0, "{}\n{}", output.text(), self.ostler.log());
            clients.wait_for_more(50);
            self.look_at_socket();
        }
        let tally = clients.stop();
        let seen = sampler.finish();
        println!("{}: {} reloads, {} snapshots: {tally}", self.row.program, reloads(), seen.snapshots);
        assert!(tally.served > 0, "{tally}");
        seen.assert_balanced();
        let pool = self.wait_idle();
        assert_eq!((pool.lost, pool.shed_total(), pool.check_books()), (before.lost, 0, Ok(())), "{tally}; {pool:?}");
        self.check_accepted(&before, &pool, &tally);
        self.wait_descriptors();
        assert!(!self.ostler.log_contains("broke the protocol"), "{}", self.ostler.log());
        self.failed(&tally, 0)
    }

    /// As many as at the start, and one for each process of a program that holds connections and is not its worker.
    fn wait_descriptors(&self) {
        wait_until(SOON, "no descriptor is left behind", || {
            let others = self.ostler.processes().len().saturating_sub(self.row.workers + 1);
            (self.descriptors..=self.descriptors + others).contains(&self.ostler.descriptor_count())
        });
    }

    fn kill(&mut self) -> String {
        let _among_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        let mut dice = Dice::new();
        let sampler = Sampler::start(self.ostler.client());
        let before = self.pool();
        // Whoever is killed shall hold something.
        let clients = self.clients("/sleep/2");
        clients.wait_for_more(100);
        let mut kills = 0;
        every(KILL_EVERY, kills_for(), || {
            // Whatever belongs to it: a process that was forked by a worker too.
            let mut processes = self.ostler.processes();
            processes.retain(|pid| *pid != self.ostler.pid());
            if let Some(pid) = dice.pick(&processes) {
                kills += u64::from(kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok());
            }
        });
        clients.wait_for_more(100);
        let tally = clients.stop();
        let seen = sampler.finish();
        println!("{}: {kills} kills, {} snapshots: {tally}", self.row.program, seen.snapshots);
        assert!(kills >= 2, "only {kills} kills");
        seen.assert_balanced();
        let pool = self.wait_idle();
        self.check_accepted(&before, &pool, &tally);
        self.look_at_socket();
        let claimed = match self.row.counts() {
            // With `stdio` a process that is killed is the program of one connection, which has then failed.
            Counts::Ostler => pool.lost - before.lost + pool.failed - before.failed,
            // One request of each client is under way.
            Counts::Nobody => kills * u64::try_from(self.row.clients).expect("a few"),
        };
        if tally.failed() <= claimed {
            page::CLAIMED.to_owned()
        } else {
            format!("{} failed, {claimed} claimed", tally.failed())
        }
    }

    /// A stop while clients go on asking: whoever is not refused is served.
    fn stop(&mut self) -> String {
        let _among_others = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        let clients = self.clients("/");
        clients.wait_for_more(100);
        self.ostler.signal(Signal::SIGTERM);
        let ended = self.ostler.wait(STOP_TIMEOUT + SLACK);
        let tally = clients.stop();
        println!("{}: a stop: {tally}", self.row.program);
        assert_eq!(ended.code, 0, "{}", ended.log);
        self.ostler.assert_no_process_left();
        self.failed(&tally, tally.count(Failure::Refused))
    }

    /// How many failed, but for so many. A program that accepts for itself may cut what it accepted a moment before it leaves; nobody
    /// but it does.
    fn failed(&self, tally: &Tally, but: u64) -> String {
        let failed = tally.failed() - but;
        match self.row.counts() {
            Counts::Nobody if failed == tally.count(Failure::CutFresh) => page::CUT.to_owned(),
            Counts::Nobody | Counts::Ostler => page::failed(failed),
        }
    }

    /// Whether the path leads to the same socket as at the start.
    fn socket(&self) -> String {
        let cell = match self.inode {
            None => page::DOES_NOT_APPLY,
            first if self.inode_found == first => page::SAME,
            Some(_) => "another",
        };
        cell.to_owned()
    }

    fn look_at_socket(&mut self) {
        let found = inode(&self.target);
        if found != self.inode {
            self.inode_found = found;
        }
    }

    fn pool(&self) -> Pool {
        self.ostler.status().only().clone()
    }

    fn wait_idle(&self) -> Pool {
        self.ostler.wait_status("idle, and as many workers as at the start", |status| {
            let pool = status.only();
            let settled =
                pool.is_idle() && pool.workers.len() == self.row.workers && pool.ready().len() == self.row.workers;
            settled.then(|| pool.clone())
        })
    }

    /// Every connection that a client made is in the books, and nobody else's.
    fn check_accepted(&self, before: &Pool, after: &Pool, tally: &Tally) {
        let accepted = match self.row.counts() {
            Counts::Ostler => tally.connects,
            Counts::Nobody => 0,
        };
        assert_eq!(after.accepted - before.accepted, accepted, "{tally}; {after:?}\n{}", self.ostler.log());
        assert_eq!(after.shed_total(), before.shed_total(), "{tally}; {after:?}");
    }
}

impl Clients {
    fn wait_for_more(&self, count: u64) {
        let share = count / u64::try_from(self.parts.len()).expect("a few");
        self.parts.iter().for_each(|part| part.wait_for_more(share));
    }

    fn stop(self) -> Tally {
        let mut total = Tally::default();
        self.parts.into_iter().for_each(|part| total.add(&part.stop()));
        total
    }
}

/// `None` where there is no path.
fn inode(target: &Target) -> Option<u64> {
    match target {
        Target::Unix(path) => Some(fs::symlink_metadata(path).expect("the listener's path").ino()),
        Target::Abstract(_) | Target::Tcp(_) => None,
    }
}
