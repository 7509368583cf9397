//! Runs one case: a supervisor under load, a call that fails, and what has to hold afterwards.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SLACK, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::procs::shared_mappings;
use ostler_tests::status::Pool;
use ostler_tests::strace::{self, Fault, Injection, Reach};
use ostler_tests::{Builder, Ostler, Scratch, Target};

use crate::rows::{Ending, Provocation, Row, Start, Then};

const WORKERS: usize = 2;
const CONCURRENCY: u64 = 4;
const CLIENTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(20);

/// `failures` is out of reach: what is shown here is one failure, not a pool that is given up. Nothing is recalled from a
/// worker that is merely slow: those are calls that would count.
const CONFIG: &str = r#"
[pool.web]
listen = ["unix:web.sock"]
workers = 2
concurrency = 4
recall_after = "60s"
start = { failures = 10000, backoff = ["20ms", "50ms"] }
drain = { timeout = "1s", kill_after = "1s" }
process = { cwd = ".", PROCESS }
"#;

/// What the rows of children that become another user are about. Only root can try it.
pub(crate) const SOMEBODY_ELSE: &str = r#"user = "nobody", groups = [1, 7], nice = 5, limits = { core = 0 }"#;

/// A supervisor that suffers one fault after another.
pub(crate) struct Inn {
    ostler: Ostler,
    /// With every worker ready and no client.
    descriptors: usize,
    mappings: usize,
}

impl Inn {
    /// `process` is what its workers are given, beside a directory.
    pub(crate) fn open(process: &str) -> Inn {
        let ostler = Ostler::builder().config(CONFIG.replace("PROCESS", process)).start();
        Inn { descriptors: ostler.descriptor_count(), mappings: shared_mappings(ostler.pid()), ostler }
    }

    /// Lets a call fail, and checks that it cost nothing but what the row says.
    pub(crate) fn suffer(&mut self, row: &Row, errno: &str, when: &str) {
        let before = self.ostler.status().only().clone();
        let log_before = self.ostler.log().len();
        let fault = Fault { calls: row.calls, errno, when };
        let attach = |inn: &Inn| Injection::attach(inn.ostler.scratch(), inn.ostler.pid(), row.reach, &fault);
        if row.provocation == Provocation::KillWithMail {
            self.kill_with_mail(attach);
        } else if let Provocation::Command(_) = row.provocation {
            let injection = attach(self);
            self.provoke(row, &before);
            injection.wait_done();
            injection.detach();
        } else {
            let load = Load::on(&self.ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
            load.wait_for_more(10);
            let injection = attach(self);
            self.provoke(row, &before);
            injection.wait_done();
            load.wait_for_more(10);
            injection.detach();
            load.wait_for_more(10);
            let tally = load.stop();
            let lost = self.ostler.status().only().lost - before.lost;
            assert!(tally.failed() <= lost, "failures that nobody had claimed: {tally}; {lost} lost");
        }
        self.undo(row.provocation);
        let pool = self.wait_quiet();
        assert!(pool.lost - before.lost <= lost_max(row.provocation), "{before:?} became {pool:?}");
        assert_eq!(pool.shed_total(), before.shed_total(), "{pool:?}");
        self.ostler.wait_descriptor_count(self.descriptors);
        assert_eq!(shared_mappings(self.ostler.pid()), self.mappings, "shared memory stays behind");
        if let Then::Says(texts) = row.then {
            wait_until(SLACK, &format!("a line with {texts:?}"), || has_line(&self.ostler.log()[log_before..], texts));
        }
    }

    pub(crate) fn close(mut self) {
        self.ostler.stop_clean();
    }

    fn provoke(&self, row: &Row, before: &Pool) {
        match row.provocation {
            Provocation::Visit | Provocation::KillWithMail => {}
            Provocation::Grow => assert_eq!(self.ostler.command(&["scale", "web", "+1"]).code, 0),
            Provocation::Kill => self.kill(before.pids()[0]),
            Provocation::Restart => assert_eq!(self.ostler.command(&["restart", "web/0"]).code, 0),
            Provocation::Command(words) => {
                let output = self.ostler.command(words);
                let Then::Answers(code, text) = row.then else { panic!("say what {words:?} answers") };
                assert_eq!(output.code, code, "{}", output.text());
                assert!(output.text().contains(text), "{text:?} is not in {:?}", output.text());
            }
        }
    }

    fn undo(&self, provocation: Provocation) {
        if provocation == Provocation::Grow {
            self.ostler
                .wait_status("one worker more", |status| (status.only().ready().len() == WORKERS + 1).then_some(()));
            assert_eq!(self.ostler.command(&["scale", "web", &WORKERS.to_string()]).code, 0);
        }
    }

    fn kill(&self, pid: i32) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a worker of ours");
    }

    /// Stopped workers claim nothing, so all that is handed to them lies in their mailboxes when they are killed.
    fn kill_with_mail(&self, attach: impl FnOnce(&Inn) -> Injection) {
        let workers = self.ostler.status().only().pids();
        for pid in &workers {
            kill(Pid::from_raw(*pid), Signal::SIGSTOP).expect("a worker of ours");
        }
        let target = self.ostler.unix("web.sock");
        let mut waiting: Vec<Connection> = (0..WORKERS * CLIENTS)
            .map(|_| {
                let mut connection = Connection::open(&target, PATIENCE).expect("a place in the queue");
                connection.ask("/", Keep::Once).expect("room for a request");
                connection
            })
            .collect();
        self.ostler.wait_status("their mailboxes are full", |status| {
            let mailed: u64 = status.only().workers.iter().map(|worker| worker.waiting).sum();
            (mailed == WORKERS as u64 * CONCURRENCY).then_some(())
        });
        let injection = attach(self);
        workers.iter().for_each(|pid| self.kill(*pid));
        injection.wait_done();
        injection.detach();
        for connection in &mut waiting {
            assert_eq!(connection.answer().map(|answer| answer.status), Ok(200));
        }
    }

    /// Everything is as in the beginning, and the books say so.
    fn wait_quiet(&self) -> Pool {
        self.ostler.wait_status("all workers ready and nothing to do", |status| {
            let pool = status.only();
            assert_eq!(status.check_books(), Ok(()));
            (pool.is_idle() && pool.ready().len() == WORKERS && pool.workers.len() == WORKERS).then(|| pool.clone())
        })
    }
}

fn has_line(log: &str, texts: &[&str]) -> bool {
    log.lines().any(|line| texts.iter().all(|text| line.contains(text)))
}

/// What a provocation costs by itself.
fn lost_max(provocation: Provocation) -> u64 {
    match provocation {
        Provocation::Kill => CONCURRENCY,
        Provocation::Visit
        | Provocation::Grow
        | Provocation::KillWithMail
        | Provocation::Restart
        | Provocation::Command(_) => 0,
    }
}

/// Sees that a supervisor without root does not start with this.
pub(crate) fn is_refused(process: &str) {
    let ended = Ostler::builder().config(CONFIG.replace("PROCESS", process)).start_failing();
    assert_eq!(ended.code, 2, "{}", ended.log);
    assert!(ended.log.contains("only root may"), "{}", ended.log);
}

/// Starts a supervisor one of whose first calls fails.
pub(crate) fn start(row: &Start, errno: &str) {
    let scratch = Scratch::new();
    let fault = Fault { calls: row.calls, errno, when: row.when };
    let (prologue, report) = strace::prologue(&scratch, &fault);
    let config = format!("[pool.web]\nlisten = [{}]\nworkers = 1\n", row.listen);
    let builder = Builder::new(&scratch).config(config).prologue(&prologue);
    match row.then {
        Ending::Exits(code, texts) => {
            let ended = builder.start_failing();
            assert_eq!(ended.code, code, "{}", ended.log);
            assert!(has_line(&ended.log, texts), "no line with {texts:?} in\n{}", ended.log);
        }
        Ending::Goes(texts) => {
            let mut ostler = builder.start_unready();
            // Not by its status: a client would make calls that count.
            ostler.wait_log(&["all workers are ready"]);
            get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
            if !texts.is_empty() {
                ostler.wait_log(texts);
            }
            ostler.stop_clean();
        }
    }
    assert!(strace::hits(&report) > 0, "{} was never called", row.calls);
    excuse(row, &scratch);
}

/// A path that can't be unlinked stays, and so does the lock file of who can't have the lock.
fn excuse(row: &Start, scratch: &Scratch) {
    if row.calls.contains("unlink") || row.calls == "flock" {
        scratch.expect_disorder();
    }
}

/// Ends a supervisor one of whose last calls fails, or that such a call ends.
pub(crate) fn end(row: &Start, errno: &str) {
    let scratch = Scratch::new();
    let tcp = Target::free_tcp();
    let listen = format!("\"unix:web.sock\", \"{}\"", tcp.listen());
    let config = format!("[pool.web]\nlisten = [{listen}]\nworkers = 1\n");
    let mut ostler = Builder::new(&scratch).config(config).start();
    for target in [ostler.unix("web.sock"), tcp] {
        get_once(&target, "/", PATIENCE).expect("served");
    }
    let fault = Fault { calls: row.calls, errno, when: row.when };
    let (code, texts) = match row.then {
        Ending::Exits(code, texts) => (code, texts),
        Ending::Goes(texts) => (0, texts),
    };
    let injection = Injection::attach(&scratch, ostler.pid(), Reach::Main, &fault);
    ostler.signal(Signal::SIGTERM);
    let ended = ostler.wait(Duration::from_secs(30) + SLACK);
    assert!(injection.hits() > 0, "{} was never called:\n{}", row.calls, ended.log);
    assert_eq!(ended.code, code, "{}", ended.log);
    assert!(has_line(&ended.log, texts), "no line with {texts:?} in\n{}", ended.log);
    ostler.assert_no_process_left();
    excuse(row, &scratch);
}
