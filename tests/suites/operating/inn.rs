//! A supervisor in a situation, and somebody who looks at it with the commands of a page.

use std::collections::VecDeque;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SLACK, SOON, try_for};
use ostler_tests::http::{Connection, Keep};
use ostler_tests::status::{Pool, Status};
use ostler_tests::tmux::Terminal;
use ostler_tests::{Ostler, Scratch, bounded, place};

use crate::page::Shown;
use crate::varying;

/// Longer than any command of a page.
const PATIENCE: Duration = Duration::from_secs(60);
/// The terminal in which `ostler top` runs.
const SIZE: (u16, u16) = (100, 24);
/// Longer than any test.
const FOREVER: &str = "/sleep/3600000";
/// Where the pages say that all of it lies.
const HOME: &str = "/srv/web";
/// The program of the pool in three versions, to which `app` is a link.
const VERSIONS: [(&str, &str); 3] = [
    ("app-1", "echo 'cache loaded: 4211 entries'; exec SLOW_START 0"),
    ("app-2", "echo 'cannot reach the database: connection refused'; exit 3"),
    ("app-3", "echo 'cache loaded: 4388 entries'; exec SLOW_START 0"),
];

/// What `ostler top` is looked at for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Pressed when it shows the tables.
    pub(crate) keys: &'static [&'static str],
    /// On the screen that is meant.
    pub(crate) shows: &'static [&'static str],
}

pub(crate) struct Inn {
    pub(crate) ostler: Ostler,
    clients: Vec<Connection>,
    looks: VecDeque<Look>,
    /// The exit code of the command before.
    code: i32,
}

impl Inn {
    /// A supervisor with the configuration of the pages and some more lines.
    pub(crate) fn open(config: &str, looks: &[Look]) -> Inn {
        let scratch = Scratch::new();
        let slow_start = place::program("slow_start").display().to_string();
        for (name, script) in VERSIONS {
            let path = scratch.write(name, &format!("#!/bin/sh\n{}\n", script.replace("SLOW_START", &slow_start)));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("ours");
        }
        symlink("app-1", scratch.path("app")).expect("a new name");
        symlink("ostler-0.toml", scratch.path("ostler.toml")).expect("a new name");
        let ostler = ostler_tests::builder::Builder::new(&scratch).config(config).start();
        Inn { ostler, clients: Vec::new(), looks: looks.iter().copied().collect(), code: 0 }
    }

    /// Waits until what a command would say of the pool is so.
    pub(crate) fn wait_web(&self, what: &str, fact: impl Fn(&Pool) -> bool) {
        self.ostler.wait_status(what, |status: &Status| fact(status.pool("web")).then_some(()));
    }

    /// The process in a slot.
    pub(crate) fn pid_of(&self, slot: u32) -> i32 {
        let status = self.ostler.status();
        let worker = status.pool("web").workers.iter().find(|worker| worker.slot == slot);
        worker.and_then(|worker| worker.pid).expect("a worker in the slot")
    }

    pub(crate) fn kill(&self, slot: u32) {
        kill(Pid::from_raw(self.pid_of(slot)), Signal::SIGKILL).expect("a process of ours");
    }

    /// Each worker that is free answers one client; those of these slots have a second request of theirs for ever.
    pub(crate) fn serve(&mut self, held: &[u32]) {
        let pool = self.ostler.status().pool("web").clone();
        let free = pool.workers.iter().filter(|worker| worker.claimed < worker.capacity).count();
        let mut guests: Vec<(u32, Connection)> = (0..free)
            .map(|_| {
                let mut guest = self.connect();
                let answer = guest.get("/", Keep::Alive).expect("a free worker answers");
                (answer.worker().and_then(|worker| worker.slot()).expect("it says who it is"), guest)
            })
            .collect();
        guests.sort_by_key(|(slot, _)| *slot);
        let (mut done, mut claimed) = (pool.done, pool.claimed + free as u64);
        for (slot, mut guest) in guests {
            if held.contains(&slot) {
                guest.ask(FOREVER, Keep::Alive).expect("sent");
                self.clients.push(guest);
            } else {
                drop(guest);
                (done, claimed) = (done + 1, claimed - 1);
                self.wait_web("one is done", |pool| pool.done == done && pool.claimed == claimed);
            }
        }
    }

    /// Clients for whom no worker is free.
    pub(crate) fn crowd(&mut self, clients: usize) {
        for _ in 0..clients {
            let mut client = self.connect();
            client.ask(FOREVER, Keep::Once).expect("sent");
            self.clients.push(client);
        }
    }

    fn connect(&self) -> Connection {
        Connection::open(&self.ostler.unix("web.sock"), PATIENCE).expect("connected")
    }

    /// Runs a command of a page, and answers with what it prints.
    pub(crate) fn run(&mut self, shown: &Shown) -> String {
        if shown.command == "ostler top" {
            return self.look(shown);
        }
        let said = self.say(&shown.command);
        let wanted = varying::plain(&shown.output);
        if !only_looks(&shown.command) || varying::plain(&said) == wanted {
            return said;
        }
        // What the command before has set off may take a moment.
        let fits = try_for(SLACK, || Some(self.say(&shown.command)).filter(|said| varying::plain(said) == wanted));
        fits.unwrap_or_else(|| self.say(&shown.command))
    }

    /// What a command prints, at home where the pages say.
    fn say(&mut self, words: &str) -> String {
        let said = self.shell(words).replace(&self.ostler.scratch().dir().display().to_string(), HOME);
        said.replace("ostler-0.toml", "ostler.toml")
    }

    /// Runs a command that no page shows.
    pub(crate) fn run_quietly(&mut self, words: &str) {
        let said = self.shell(words);
        assert_eq!(self.code, 0, "{words}: {said}");
    }

    fn shell(&mut self, words: &str) -> String {
        let control = self.ostler.control().expect("given").to_owned();
        let programs = place::ostler().parent().expect("it lies somewhere").to_owned();
        let path = env::join_paths(
            std::iter::once(programs).chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
        );
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("exec 2>&1\n(exit {})\n{words}", self.code))
            .current_dir(self.ostler.scratch().dir());
        command.env("OSTLER_CONTROL", control).env("PATH", path.expect("paths")).stdin(Stdio::null());
        let output = bounded::run(&mut command, PATIENCE);
        self.code = output.code;
        output.stdout
    }

    fn look(&mut self, shown: &Shown) -> String {
        let look = self.looks.pop_front().expect("the scene says what `ostler top` is looked at for");
        let control = self.ostler.control().expect("given").to_str().expect("UTF-8");
        let top = Terminal::start(&["top", "--control", control], SIZE.0, SIZE.1);
        top.wait_line(&["web/2."]);
        top.press(look.keys);
        let has_all = |screen: &str| look.shows.iter().all(|words| screen.contains(words));
        let wanted = varying::plain(&shown.output);
        // Rates come a moment later than the rest.
        let fits = try_for(SOON, || Some(compact(&top.screen())).filter(|screen| varying::plain(screen) == wanted));
        let screen = fits.unwrap_or_else(|| compact(&top.screen()));
        assert!(has_all(&screen), "not shown: {:?} in\n{screen}", look.shows);
        top.press(&["q"]);
        let (code, _modes) = top.ended();
        assert_eq!(code, 0);
        screen
    }
}

/// Whether a command may be run again, since it changes nothing.
fn only_looks(command: &str) -> bool {
    let looks = ["ostler status", "ostler deaths", "ostler logs", "ostler trace", "curl "];
    looks.iter().any(|look| command.starts_with(look))
}

impl Drop for Inn {
    fn drop(&mut self) {
        if self.ostler.ended().is_some() || std::thread::panicking() {
            return;
        }
        // Whoever is held is given up.
        self.ostler.signal(Signal::SIGCONT);
        self.ostler.signal(Signal::SIGINT);
        self.ostler.wait(PATIENCE);
    }
}

/// A screen without the empty lines at its end, and with one of several within.
fn compact(screen: &str) -> String {
    let mut lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    lines.dedup_by(|line, before| line.is_empty() && before.is_empty());
    lines.join("\n").trim_end().to_owned() + "\n"
}
