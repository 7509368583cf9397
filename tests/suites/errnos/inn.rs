//! Runs one case: a supervisor under load, a call that fails, and what has to hold afterwards.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SLACK, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::notify::Manager;
use ostler_tests::procs::{shared_mappings, stat};
use ostler_tests::status::Pool;
use ostler_tests::strace::{self, Fault, Injection, Reach};
use ostler_tests::{Builder, Ostler, Scratch, Target};

use crate::house::{House, Managed, NEW, WEB};
use crate::rows::{Ending, Provocation, Row, Start, Then, Wire};

const WORKERS: usize = 2;
const CONCURRENCY: u64 = 4;
const CLIENTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(20);

/// Clients who wait in the line.
const PATIENT: usize = 4;

/// A supervisor that suffers one fault after another.
pub(crate) struct Inn {
    /// Here to be talked to. Before the supervisor, whose directory its socket is in and which looks for what is left there.
    manager: Option<Manager>,
    ostler: Ostler,
    house: House,
    tcp: Target,
    /// With every worker ready and no client.
    descriptors: usize,
    mappings: usize,
}

impl Inn {
    pub(crate) fn open(house: House) -> Inn {
        let (scratch, tcp) = (Scratch::new(), Target::free_tcp());
        let manager = (house.manager == Managed::Yes).then(|| Manager::at(scratch.path("manager.sock")));
        let mut builder = Builder::new(&scratch).config(house.config(&house.listen(&tcp)));
        if let Some(manager) = &manager {
            builder = builder.env("NOTIFY_SOCKET", manager.path().display().to_string());
        }
        let ostler = builder.start();
        let (descriptors, mappings) = (ostler.descriptor_count(), shared_mappings(ostler.pid()));
        Inn { manager, descriptors, mappings, ostler, house, tcp }
    }

    /// Lets a call fail, and checks that it cost nothing but what the row says.
    pub(crate) fn suffer(&mut self, row: &Row, errno: &str, when: &str) {
        let before = self.ostler.status().only().clone();
        let log_before = self.ostler.log().len();
        let told_before = self.told().len();
        let mut faults = vec![Fault { calls: row.calls, errno, when }];
        if let Provocation::SlowCommand(_) = row.provocation {
            faults.push(Fault { calls: "sendto", errno: "EAGAIN", when: "1" });
        }
        let attach = |inn: &Inn| Injection::attach(inn.ostler.scratch(), inn.ostler.pid(), row.reach, &faults);
        match row.provocation {
            Provocation::KillWithMail => self.kill_with_mail(attach),
            Provocation::Wait => self.while_paused(|waiting| self.come(waiting, attach)),
            Provocation::HangUp(wire) => self.while_paused(|waiting| self.leave(waiting, wire, attach)),
            Provocation::Refuse => self.while_paused(|waiting| self.be_refused(waiting, row.then, attach)),
            Provocation::Command(_) | Provocation::SlowCommand(_) => self.in_peace(row, &before, attach),
            Provocation::FailReload => {
                self.ostler.rewrite_config("nonsense");
                self.in_peace(row, &before, attach);
            }
            Provocation::AddListener => {
                self.listen_on(&[WEB, NEW]);
                self.in_peace(row, &before, attach);
            }
            Provocation::TakeListenerAway => {
                self.listen_on(&[WEB, NEW]);
                assert_eq!(self.ostler.command(&["reload"]).code, 0);
                self.wait_quiet();
                self.listen_on(&[WEB]);
                self.in_peace(row, &before, attach);
            }
            Provocation::Visit | Provocation::Grow | Provocation::Kill | Provocation::Restart | Provocation::Stall => {
                self.under_load(row, &before, attach);
            }
        }
        self.undo(row.provocation);
        let pool = self.wait_quiet();
        assert!(pool.lost - before.lost <= lost_max(row.provocation), "{before:?} became {pool:?}");
        let refused = u64::from(row.provocation == Provocation::Refuse);
        assert_eq!(pool.shed_total(), before.shed_total() + refused, "{pool:?}");
        self.ostler.wait_descriptor_count(self.descriptors);
        assert_eq!(shared_mappings(self.ostler.pid()), self.mappings, "shared memory stays behind");
        match row.then {
            Then::Says(texts) => {
                wait_until(SLACK, &format!("a line with {texts:?}"), || {
                    has_line(&self.ostler.log()[log_before..], texts)
                });
            }
            Then::Told(wanted) => {
                wait_until(SLACK, &format!("the manager hears {wanted:?}"), || {
                    let mut told = self.told()[told_before..].iter();
                    wanted.iter().all(|wanted| told.any(|told| told == wanted))
                });
            }
            Then::Served | Then::Answers(..) | Then::Replied | Then::Ended => {}
        }
    }

    /// What the service manager has heard so far; nothing where there is none.
    fn told(&mut self) -> &[String] {
        self.manager.as_mut().map_or(&[], |manager| manager.said())
    }

    pub(crate) fn close(mut self) {
        self.ostler.stop_clean();
    }

    fn under_load(&self, row: &Row, before: &Pool, attach: impl FnOnce(&Inn) -> Injection) {
        let load = Load::on(&self.ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
        load.wait_for_more(10);
        let injection = attach(self);
        self.provoke(row, before);
        injection.wait_done();
        load.wait_for_more(10);
        injection.detach();
        load.wait_for_more(10);
        let tally = load.stop();
        // A client sees the death of its worker before the supervisor does.
        self.ostler.wait_status(&format!("every failure is of somebody claimed and lost: {tally}"), |status| {
            (tally.failed() <= status.only().lost - before.lost).then_some(())
        });
    }

    /// Nothing else goes on.
    fn in_peace(&self, row: &Row, before: &Pool, attach: impl FnOnce(&Inn) -> Injection) {
        self.settle();
        let injection = attach(self);
        self.provoke(row, before);
        injection.wait_done();
        injection.detach();
    }

    /// The loop has seen the end of every client command so far, so that none of its calls is about one of them.
    fn settle(&self) {
        // Whoever closes a socket wakes the loop before he goes on, so once it waits again it has seen that.
        wait_until(SLACK, "the loop waits", || stat(self.ostler.pid()).is_some_and(|stat| stat.state == 'S'));
    }

    /// What a reload will read. The permissions change with the second listener.
    fn listen_on(&self, listeners: &[&str]) {
        let listen = format!("{}, {:?}", listeners.join(", "), self.tcp.listen());
        let mode = if listeners.len() > 1 { "socket = { mode = \"0660\" }\n" } else { "" };
        self.ostler.rewrite_config(&(self.house.config(&listen) + mode));
    }

    fn provoke(&self, row: &Row, before: &Pool) {
        match row.provocation {
            Provocation::Visit
            | Provocation::KillWithMail
            | Provocation::Wait
            | Provocation::HangUp(_)
            | Provocation::Refuse => {}
            Provocation::Stall => {
                kill(Pid::from_raw(before.pids()[0]), Signal::SIGSTOP).expect("a worker of ours");
            }
            Provocation::FailReload => assert_eq!(self.ostler.command(&["reload"]).code, 3),
            Provocation::AddListener | Provocation::TakeListenerAway => self.command(row, &["reload"]),
            Provocation::Grow => assert_eq!(self.ostler.command(&["scale", "web", "+1"]).code, 0),
            Provocation::Kill => self.kill(before.pids()[0]),
            Provocation::Restart => assert_eq!(self.ostler.command(&["restart", "web/0"]).code, 0),
            Provocation::Command(words) | Provocation::SlowCommand(words) => self.command(row, words),
        }
    }

    fn command(&self, row: &Row, words: &[&str]) {
        let output = self.ostler.command(words);
        let (code, text) = match row.then {
            Then::Answers(code, text) => (code, text),
            // What the log says is looked at later.
            Then::Says(_) | Then::Told(_) => (0, ""),
            Then::Served | Then::Replied | Then::Ended => panic!("say what {words:?} answers"),
        };
        assert_eq!(output.code, code, "{}", output.text());
        assert!(output.text().contains(text), "{text:?} is not in {:?}", output.text());
    }

    /// Nobody serves, so whoever comes waits in the line until the fault is over.
    fn while_paused(&self, act: impl FnOnce(&mut Vec<Connection>)) {
        assert_eq!(self.ostler.command(&["pause"]).code, 0);
        // Until they have left, there are calls that are about them.
        self.ostler.wait_status("the workers are gone", |status| status.only().pids().is_empty().then_some(()));
        let mut waiting = Vec::new();
        act(&mut waiting);
        assert_eq!(self.ostler.command(&["resume"]).code, 0);
        for connection in &mut waiting {
            assert_eq!(connection.answer().map(|answer| answer.status), Ok(200));
        }
    }

    fn come(&self, waiting: &mut Vec<Connection>, attach: impl FnOnce(&Inn) -> Injection) {
        self.settle();
        let injection = attach(self);
        waiting.extend((0..PATIENT).map(|_| ask(&self.ostler.unix("web.sock"))));
        injection.wait_done();
        injection.detach();
    }

    fn leave(&self, waiting: &mut Vec<Connection>, wire: Wire, attach: impl FnOnce(&Inn) -> Injection) {
        let web = self.ostler.unix("web.sock");
        waiting.extend((0..PATIENT).map(|_| ask(&web)));
        let leaver = match wire {
            Wire::Unix => web.connect(PATIENCE),
            Wire::Tcp => self.tcp.connect(PATIENCE),
        };
        self.wait_in_line(PATIENT as u64 + 1);
        self.settle();
        let injection = attach(self);
        drop(leaver.expect("a place in the queue"));
        injection.wait_done();
        injection.detach();
    }

    fn be_refused(&self, waiting: &mut Vec<Connection>, then: Then, attach: impl FnOnce(&Inn) -> Injection) {
        let web = self.ostler.unix("web.sock");
        waiting.push(ask(&web));
        self.wait_in_line(1);
        self.settle();
        let injection = attach(self);
        // He stays until it is over: of one who has left already nothing more is asked.
        let mut refused = ask(&web);
        let answer = refused.answer().map(|answer| answer.status);
        injection.wait_done();
        drop(refused);
        injection.detach();
        match then {
            Then::Replied => assert_eq!(answer, Ok(503)),
            // With the reply or without.
            Then::Ended => assert_ne!(answer, Ok(200)),
            Then::Served | Then::Says(_) | Then::Told(_) | Then::Answers(..) => {
                panic!("say what becomes of who is refused")
            }
        }
    }

    fn wait_in_line(&self, count: u64) {
        self.ostler.wait_status("they wait", |status| (status.only().queue.length == count).then_some(()));
    }

    fn undo(&self, provocation: Provocation) {
        if provocation == Provocation::Grow {
            self.ostler
                .wait_status("one worker more", |status| (status.only().ready().len() == WORKERS + 1).then_some(()));
            assert_eq!(self.ostler.command(&["scale", "web", &WORKERS.to_string()]).code, 0);
        }
        if let Provocation::FailReload | Provocation::AddListener | Provocation::TakeListenerAway = provocation {
            self.listen_on(&[WEB]);
            self.look_for_the_new_path(provocation);
        }
    }

    /// What could not be unlinked stays; what was never adopted does not, but for a lock file that could not be locked.
    fn look_for_the_new_path(&self, provocation: Provocation) {
        let path = self.ostler.scratch().path("new.sock");
        if provocation == Provocation::AddListener {
            assert!(!path.exists(), "left behind by a reload that was undone");
        }
        if provocation == Provocation::TakeListenerAway {
            // If that was undone, now it succeeds.
            assert_eq!(self.ostler.command(&["reload"]).code, 0);
            self.ostler.wait_status("the listener is gone", |status| {
                (!status.only().listeners.iter().any(|shown| shown.contains("new.sock"))).then_some(())
            });
            let _gone = std::fs::remove_file(path);
        }
        let _gone = std::fs::remove_file(self.ostler.scratch().path("new.sock.lock"));
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
        let mut waiting: Vec<Connection> = (0..WORKERS * CLIENTS).map(|_| ask(&target)).collect();
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

/// A client that waits for an answer.
fn ask(target: &Target) -> Connection {
    let mut connection = Connection::open(target, PATIENCE).expect("a place in the queue");
    connection.ask("/", Keep::Once).expect("room for a request");
    connection
}

fn has_line(log: &str, texts: &[&str]) -> bool {
    log.lines().any(|line| texts.iter().all(|text| line.contains(text)))
}

/// What a provocation costs by itself.
fn lost_max(provocation: Provocation) -> u64 {
    match provocation {
        Provocation::Kill | Provocation::Stall => CONCURRENCY,
        Provocation::Visit
        | Provocation::Grow
        | Provocation::KillWithMail
        | Provocation::Restart
        | Provocation::Wait
        | Provocation::HangUp(_)
        | Provocation::Refuse
        | Provocation::FailReload
        | Provocation::AddListener
        | Provocation::TakeListenerAway
        | Provocation::SlowCommand(_)
        | Provocation::Command(_) => 0,
    }
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
    let injection = Injection::attach(&scratch, ostler.pid(), Reach::Main, &[fault]);
    ostler.signal(Signal::SIGTERM);
    let ended = ostler.wait(Duration::from_secs(30) + SLACK);
    assert!(injection.hits() > 0, "{} was never called:\n{}", row.calls, ended.log);
    assert_eq!(ended.code, code, "{}", ended.log);
    assert!(has_line(&ended.log, texts), "no line with {texts:?} in\n{}", ended.log);
    ostler.assert_no_process_left();
    excuse(row, &scratch);
}
