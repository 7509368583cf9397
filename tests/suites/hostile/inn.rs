//! Houses a hostile pool beside a good one, and checks what holds whatever the hostile one does.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::builder::Builder;
use ostler_tests::deadline::{SLACK, SOON, wait_until};
use ostler_tests::http::{Connection, Keep};
use ostler_tests::load::{Load, Running};
use ostler_tests::status::Pool;
use ostler_tests::{Ostler, Scratch, programs};

/// How many connections of the neighbours are done at least while the other pool is hostile.
const DONE_MEANWHILE: u64 = 200;
/// How many clients a hostile pool has: more than its worker may hold.
const VISITORS: usize = 4;

/// Whom a hostile worker may harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Nobody: it claims nothing that it does not answer, so that everybody is served, by it or by its successor.
    Nobody,
    /// Those whom it has claimed, which is what `lost` says; everybody else is served.
    Claimed,
}

/// A supervisor with a pool that behaves, and one whose only worker does as long as `peace` exists.
pub(crate) struct Inn {
    pub(crate) ostler: Ostler,
    pub(crate) neighbours: Running,
    peace: PathBuf,
    descriptors: usize,
    /// What the neighbours' pool had done when the peace ended.
    done_in_peace: u64,
    visitors: Vec<Connection>,
}

impl Inn {
    pub(crate) fn open(mode: &str) -> Inn {
        Inn::open_with(mode, "400ms", "")
    }

    /// `kill_after`: how long a worker that has to go may take.
    pub(crate) fn open_with_patience(mode: &str, kill_after: &str) -> Inn {
        Inn::open_with(mode, kill_after, "")
    }

    /// Its workers are watched by `watchdog`.
    pub(crate) fn open_watched(mode: &str, watchdog: &str) -> Inn {
        Inn::open_with(mode, "400ms", watchdog)
    }

    fn open_with(mode: &str, kill_after: &str, watchdog: &str) -> Inn {
        let scratch = Scratch::new();
        let peace = scratch.write("peace", "");
        let command = programs::toml(&programs::hostile(mode, &peace));
        let config = format!(
            r#"
            [supervisor]
            stop_timeout = "5s"
            [pool.good]
            listen = ["unix:good.sock"]
            workers = 2
            [pool.bad]
            listen = ["unix:bad.sock"]
            command = {command}
            workers = 1
            concurrency = 2
            queue = {{ timeout = "60s" }}
            start = {{ ready_timeout = "1s", failures = 10000, backoff = ["20ms", "50ms"] }}
            drain = {{ timeout = "300ms", kill_after = "{kill_after}" }}
            watchdog = {{ {watchdog} }}
            "#
        );
        let ostler = Builder::new(&scratch).config(config).start();
        let descriptors = ostler.descriptor_count();
        let neighbours = Load::on(&ostler.unix("good.sock")).clients(4).path("/sleep/1").start();
        neighbours.wait_for_more(20);
        Inn { ostler, neighbours, peace, descriptors, done_in_peace: 0, visitors: Vec::new() }
    }

    /// Ends the peace for one worker: the next one is hostile, and this one makes room for it. Answers with the hostile one's id.
    pub(crate) fn provoke(&mut self) -> u64 {
        self.done_in_peace = self.ostler.status().pool("good").done;
        fs::remove_file(&self.peace).expect("ours");
        // Ids ascend, and nobody else starts meanwhile. It may be gone before a status shows it.
        let ids = |pool: &Pool| pool.workers.iter().filter_map(|worker| worker.id).max();
        let hostile = 1 + self.ostler.status().pools.iter().filter_map(ids).max().expect("workers");
        self.kill("peaceful");
        wait_until(SOON, "the hostile worker says what it is", || self.has_sign("peace.hostile-"));
        // Whoever follows behaves: another hostile one would have to be killed at the end, perhaps with a client in hand.
        fs::write(&self.peace, "").expect("ours");
        hostile
    }

    /// Clients for the hostile worker; they are asked what became of them when the inn closes.
    pub(crate) fn invite(&mut self) {
        let target = self.ostler.unix("bad.sock");
        for _ in 0..VISITORS {
            let mut visitor = Connection::open(&target, SOON).expect("the supervisor accepts");
            visitor.ask("/", Keep::Once).expect("a request is short");
            self.visitors.push(visitor);
        }
    }

    /// The hostile worker itself answers all of its clients.
    pub(crate) fn assert_all_served(&mut self) {
        assert_eq!(self.unserved(), 0, "{}", self.ostler.log());
    }

    fn unserved(&mut self) -> u64 {
        let answers = self.visitors.drain(..).map(|mut visitor| visitor.answer());
        answers.filter(Result::is_err).count() as u64
    }

    // ── what becomes of the hostile worker ─────────────────────────────────────────────────────────────────

    pub(crate) fn bad_id(&self) -> u64 {
        self.ostler.status().pool("bad").workers.iter().filter_map(|worker| worker.id).max().unwrap_or(0)
    }

    pub(crate) fn bad_pid(&self) -> i32 {
        self.ostler.wait_status("a worker is ready", |status| status.pool("bad").ready().first()?.pid)
    }

    /// The process of this worker, on its way out.
    pub(crate) fn pid_of(&self, id: u64) -> i32 {
        self.ostler.wait_status("it has a process", |status| {
            status.pool("bad").workers.iter().find(|worker| worker.id == Some(id))?.pid
        })
    }

    pub(crate) fn wait_replaced(&self, hostile: u64) {
        self.ostler.wait_status("the hostile worker is replaced", |status| {
            let ids = status.pool("bad").workers.iter().filter_map(|worker| worker.id);
            ids.max().is_some_and(|id| id > hostile).then_some(())
        });
    }

    /// The program says that it has done what its mode is about.
    pub(crate) fn wait_deed(&self) {
        let sign = self.peace.with_extension("did");
        wait_until(SOON, "the hostile worker does its deed", || sign.exists());
    }

    /// The word for which some modes wait.
    pub(crate) fn tell(&self) {
        fs::write(self.peace.with_extension("told"), "").expect("ours");
    }

    // ── peace ──────────────────────────────────────────────────────────────────────────────────────────────

    /// Peace returns: one good worker again, nobody was hurt who could not be, nothing has leaked.
    pub(crate) fn close(mut self, harm: Harm) {
        self.assert_neighbours_unharmed();
        self.wait_peaceful();
        self.end_children();
        let unserved = self.unserved();
        self.neighbours.wait_for_more(20);
        let tally = self.neighbours.stop();
        tally.assert_no_failure();
        let status = self
            .ostler
            .wait_status("all books are idle", |status| status.pools.iter().all(Pool::is_idle).then(|| status.clone()));
        assert_eq!(status.check_books(), Ok(()));
        let (good, bad) = (status.pool("good"), status.pool("bad"));
        assert_eq!((good.lost, good.shed_total(), good.accepted), (0, 0, tally.connects));
        assert_handoffs_balance(good);
        assert_handoffs_balance(bad);
        assert_eq!(bad.shed_total(), 0, "{bad:?}");
        match harm {
            Harm::Nobody => assert_eq!((unserved, bad.lost), (0, 0), "{bad:?}\n{}", self.ostler.log()),
            Harm::Claimed => assert!(unserved <= bad.lost, "{unserved} unserved: {bad:?}\n{}", self.ostler.log()),
        }
        assert!(!self.ostler.log_contains("panicked at"), "{}", self.ostler.log());
        self.ostler.wait_descriptor_count(self.descriptors);
        let ended = self.ostler.stop();
        assert_eq!(ended.code, 0, "{}", ended.log);
        self.ostler.assert_no_process_left();
    }

    fn assert_neighbours_unharmed(&self) {
        let wanted = self.done_in_peace + DONE_MEANWHILE;
        self.ostler.wait_status("the neighbours are served meanwhile", |status| {
            let good = status.pool("good");
            assert_eq!((good.lost, good.shed_total(), self.neighbours.failed()), (0, 0, 0), "{good:?}");
            (good.done >= wanted).then_some(())
        });
    }

    fn wait_peaceful(&self) {
        self.ostler.wait_status("a peaceful worker", |status| {
            let pool = status.pool("bad");
            let ready = pool.ready();
            if ready.len() == 1 && pool.workers.len() == 1 && ready[0].pid.is_some_and(|pid| self.is(pid, "peaceful")) {
                return Some(());
            }
            self.kill("hostile");
            None
        });
    }

    /// A worker says what it is before it says Hello.
    fn is(&self, pid: i32, mood: &str) -> bool {
        self.peace.with_extension(format!("{mood}-{pid}")).exists()
    }

    /// Whether there is a file whose name begins like this.
    fn has_sign(&self, prefix: &str) -> bool {
        self.files().any(|name| name.starts_with(prefix))
    }

    fn files(&self) -> impl Iterator<Item = String> {
        let beside = fs::read_dir(self.ostler.scratch().dir()).expect("ours").flatten();
        beside.map(|entry| entry.file_name().to_string_lossy().into_owned())
    }

    /// Kills the workers of this mood. One that has not said what it is may be waited for.
    fn kill(&self, mood: &str) {
        for pid in self.ostler.status().pool("bad").pids().into_iter().filter(|pid| self.is(*pid, mood)) {
            // It may have been replaced in between.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Ends the children that live in a session of their own: nobody but the test knows of them.
    fn end_children(&self) {
        for pid in self.files().filter_map(|name| name.strip_prefix("peace.child-")?.parse().ok()) {
            if self.ostler.owns(pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// TERM to the supervisor, with everything as it is.
    pub(crate) fn stop_in_war(mut self) {
        self.ostler.signal(Signal::SIGTERM);
        let ended = self.ostler.wait(Duration::from_secs(30) + SLACK);
        assert!([0, 4].contains(&ended.code), "{}", ended.log);
        self.ostler.assert_no_process_left();
    }
}

/// With nothing under way, every handoff has ended in a worker's report, with its death, or back in the line.
fn assert_handoffs_balance(pool: &Pool) {
    assert_eq!(pool.handed, pool.done + pool.lost + pool.recalled + pool.redelivered, "{pool:?}");
}
