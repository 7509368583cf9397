//! Holds a running supervisor, and ends it with everything that belongs to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bounded::{Output, exit_code};
use crate::builder::Builder;
use crate::client::Client;
use crate::deadline::{SLACK, SOON, pause, try_for, wait_for};
use crate::procs;
use crate::scratch::Scratch;
use crate::status::{Pool, Status};
use crate::target::Target;

/// How often descriptors are counted: what comes and goes is gone in one of these looks.
const LOOKS: usize = 30;

/// A supervisor that a test started. Dropping it ends it and looks for leaks.
#[derive(Debug)]
pub struct Ostler {
    parts: Parts,
    ended: Option<i32>,
}

/// What a supervisor consists of, for the test.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) child: Child,
    pub(crate) scratch: Scratch,
    pub(crate) mark: String,
    pub(crate) log: PathBuf,
    pub(crate) control: Option<PathBuf>,
    pub(crate) config: Option<PathBuf>,
}

/// How a supervisor ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Everything that it wrote to standard error.
    pub log: String,
}

impl Ostler {
    /// A supervisor in a directory of its own.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new(&Scratch::new())
    }

    pub(crate) fn of(parts: Parts) -> Ostler {
        Ostler { parts, ended: None }
    }

    /// Its process.
    ///
    /// # Panics
    /// Never: a pid fits.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.parts.child.id()).expect("a pid fits in an i32")
    }

    /// The directory that it runs in.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.parts.scratch
    }

    /// A Unix socket in that directory.
    #[must_use]
    pub fn unix(&self, name: &str) -> Target {
        Target::Unix(self.parts.scratch.path(name))
    }

    /// The mark by which its processes are known, also after its end.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.parts.mark
    }

    /// Its control socket, where one was given.
    #[must_use]
    pub fn control(&self) -> Option<&Path> {
        self.parts.control.as_deref()
    }

    /// Writes its configuration file anew; a reload reads it.
    ///
    /// # Panics
    /// When it was started without one.
    pub fn rewrite_config(&self, toml: &str) {
        let path = self.parts.config.as_ref().expect("this supervisor has no configuration file");
        fs::write(path, toml).expect("the directory is ours");
    }

    /// Who asks it things; usable from other threads.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.parts.control.clone(), self.parts.scratch.clone())
    }

    /// Runs a client command against it.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Output {
        self.client().command(args)
    }

    /// Its status now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.client().status()
    }

    /// Waits until its only pool holds no connection and has just so many workers, all of them READY.
    ///
    /// # Panics
    /// When that does not come in time, or its books do not balance then.
    #[must_use]
    pub fn wait_idle(&self, workers: usize) -> Pool {
        let pool = self.wait_status("idle, and all workers are ready", |status| {
            let pool = status.only();
            let whole = pool.workers.len() == workers && pool.ready().len() == workers;
            (pool.is_idle() && whole).then(|| pool.clone())
        });
        assert_eq!(pool.check_books(), Ok(()));
        pool
    }

    /// Waits for a status for which `fact` has a value.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn wait_status<T>(&self, what: &str, mut fact: impl FnMut(&Status) -> Option<T>) -> T {
        let client = self.client();
        let mut last = None;
        let found = try_for(SOON, || {
            // One that starts does not answer yet.
            let status = client.try_status().ok()?;
            let found = fact(&status);
            last = Some(status);
            found
        });
        found.unwrap_or_else(|| panic!("waited {SOON:?} in vain: {what}; the last status: {last:?}\n{}", self.log()))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn signal(&self, signal: Signal) {
        if signal == Signal::SIGKILL {
            self.parts.scratch.expect_disorder();
        }
        kill(Pid::from_raw(self.pid()), signal).unwrap_or_else(|error| panic!("cannot send {signal}: {error}"));
    }

    /// Stops it as a debugger does, and waits until it stands still; CONT lets it go on.
    ///
    /// # Panics
    /// When it is gone already, or does not stop.
    pub fn stop_still(&self) {
        self.signal(Signal::SIGSTOP);
        wait_for(SOON, "it stands still", || (procs::stat(self.pid())?.state == 'T').then_some(()));
    }

    /// Its exit code, when it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        if self.ended.is_none() {
            self.ended = self.parts.child.try_wait().expect("our own child").map(exit_code);
        }
        self.ended
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Ended {
        match try_for(limit, || self.ended()) {
            Some(code) => Ended { code, log: self.log() },
            None => panic!("still running after {limit:?}:\n{}", self.log()),
        }
    }

    /// TERM, and the end.
    ///
    /// # Panics
    /// When it does not end within its default `stop_timeout` and some slack.
    pub fn stop(&mut self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.wait(Duration::from_secs(30) + SLACK)
    }

    /// TERM, and the end, which has to be exit code 0 with nothing left behind.
    ///
    /// # Panics
    /// When it is not.
    pub fn stop_clean(&mut self) -> Ended {
        let ended = self.stop();
        assert_eq!(ended.code, 0, "{}", ended.log);
        self.assert_no_process_left();
        ended
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.parts.log).unwrap_or_default()).into_owned()
    }

    /// Whether its log has a text.
    #[must_use]
    pub fn log_contains(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// Waits for a line of the log that has all of these texts.
    ///
    /// # Panics
    /// When none comes in time.
    pub fn wait_log(&self, texts: &[&str]) -> String {
        let found = try_for(SOON, || {
            self.log().lines().find(|line| texts.iter().all(|text| line.contains(text))).map(str::to_owned)
        });
        found.unwrap_or_else(|| panic!("no line with {texts:?} in\n{}", self.log()))
    }

    /// How many descriptors it has open, those aside that come and go, such as the connection of a client that has its answer.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn descriptor_count(&self) -> usize {
        if let Some(control) = self.control() {
            // The scoreboard is opened a moment after everything is ready. Without one there is nothing to wait for.
            let board = PathBuf::from(format!("{}.board", control.display()));
            let _is_there = try_for(SLACK, || board.exists().then_some(()));
        }
        let looks = (0..LOOKS).map(|_| {
            pause();
            procs::descriptor_count(self.pid())
        });
        looks.min().expect("there is one at least")
    }

    /// Waits until it has exactly so many descriptors open.
    ///
    /// # Panics
    /// When it has another number in the end; they are listed.
    pub fn wait_descriptor_count(&self, count: usize) {
        let reached = try_for(SOON, || (procs::descriptor_count(self.pid()) == count).then_some(()));
        let open = procs::descriptors(self.pid());
        assert!(reached.is_some(), "{count} descriptors before, now {}: {open:#?}", open.len());
    }

    /// All of its processes, itself included while it runs.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        procs::marked(&self.parts.mark)
    }

    /// Whether this process is one of its own.
    #[must_use]
    pub fn owns(&self, pid: i32) -> bool {
        self.processes().contains(&pid)
    }

    /// Waits until none of its processes is left.
    ///
    /// # Panics
    /// When one stays.
    pub fn assert_no_process_left(&self) {
        let left = procs::marked_after(&self.parts.mark, SOON);
        let shown: Vec<String> = left.iter().map(|pid| procs::describe(*pid)).collect();
        assert!(left.is_empty(), "processes left behind: {shown:#?}\n{}", self.log());
    }

    /// Waits until a process has ended.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_gone(&self, pid: i32) {
        wait_for(SOON, &format!("the end of {pid}"), || (!procs::alive(pid)).then_some(()));
    }

    /// TERM, and KILL where that does not help; whether TERM was enough.
    fn end_it(&mut self) -> bool {
        if self.ended().is_some() {
            return true;
        }
        let pid = Pid::from_raw(self.pid());
        let _ = kill(pid, Signal::SIGTERM);
        if try_for(Duration::from_secs(30) + SLACK, || self.ended()).is_some() {
            return true;
        }
        let _ = kill(pid, Signal::SIGKILL);
        let _ = self.parts.child.wait();
        false
    }
}

impl Drop for Ostler {
    fn drop(&mut self) {
        let failed = thread::panicking();
        if failed {
            eprintln!("--- log of ostler {} ---\n{}---", self.pid(), self.log());
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGKILL);
            let _ = self.parts.child.wait();
            procs::kill_marked(&self.parts.mark);
            return;
        }
        let obedient = self.end_it();
        let killed_on_purpose = self.ended.is_some_and(|code| code > 128);
        let left = if killed_on_purpose { Vec::new() } else { procs::marked_after(&self.parts.mark, SLACK) };
        let shown: Vec<String> = left.iter().map(|pid| procs::describe(*pid)).collect();
        procs::kill_marked(&self.parts.mark);
        assert!(obedient, "it did not leave on TERM:\n{}", self.log());
        assert!(shown.is_empty(), "processes left behind: {shown:#?}\n{}", self.log());
        assert_eq!(shared_memory_left(&self.parts.mark), Vec::<String>::new());
    }
}

/// Files in /dev/shm that a process of ours would have named.
fn shared_memory_left(mark: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/dev/shm") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains("ostler") || name.contains(mark)).collect()
}
