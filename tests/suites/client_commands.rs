//! Do the client commands say what happened, to people and to scripts, and end with the exit code of the contract?

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, User, geteuid, mkfifo};
use ostler_tests::bounded::{self, Output};
use ostler_tests::builder::{Builder, Control};
use ostler_tests::client::Client;
use ostler_tests::deadline::{SOON, wait_for, wait_until};
use ostler_tests::terminal::Terminal;
use ostler_tests::{Ostler, Scratch, place, programs};

/// Every client command with an argument that fits a pool `web`.
const COMMANDS: [&[&str]; 12] = [
    &["status"],
    &["deaths"],
    &["logs", "web"],
    &["reopen-logs"],
    &["dump"],
    &["reload"],
    &["restart", "web"],
    &["recycle", "web"],
    &["scale", "web", "2"],
    &["pause"],
    &["resume"],
    &["stop"],
];

fn config(command: &[String]) -> String {
    let command = programs::toml(command);
    format!(
        "[pool.web]\nlisten = [\"unix:web.sock\"]\ncommand = {command}\nworkers = 2\nstart = {{ ready_timeout = \"10s\" }}\n"
    )
}

fn good() -> String {
    config(&programs::slow_start(0))
}

/// Says more than is quoted, tries to command the terminal, and dies.
fn broken() -> String {
    let script = "exec >&2; for line in 1 2 3 4 5 6 7 8 9; do echo chatter $line; done; \
                  printf 'no license: \\033[2Jask sales\\n'; exit 7";
    config(&["/bin/sh", "-c", script].map(str::to_owned))
}

/// More workers than ever stand at a gate.
const WAITING_MAX: usize = 8;

/// Holds workers of a new configuration up before they are ready.
struct Gate<'a> {
    scratch: &'a Scratch,
    /// Both ends of the pipe that they read: opening it waits for nobody, and what is written stays for who comes late.
    fifo: File,
}

impl Gate<'_> {
    fn before_the_next_generation(ostler: &Ostler) -> Gate<'_> {
        let (scratch, worker) = (ostler.scratch(), &programs::slow_start(0)[0]);
        let (open, fifo) = (scratch.path("open"), scratch.path("fifo"));
        mkfifo(&fifo, Mode::S_IRWXU).expect("the directory is ours");
        let script = format!("[ -e {} ] || read line < {}; exec {worker} 0", open.display(), fifo.display());
        ostler.rewrite_config(&config(&["/bin/sh".to_owned(), "-c".to_owned(), script]));
        let fifo = File::options().read(true).write(true).open(&fifo).expect("it was just made");
        Gate { scratch, fifo }
    }

    /// Lets the one that waits go on, and those that come later.
    fn open(&self) {
        self.scratch.write("open", "");
        (&self.fifo).write_all("go on\n".repeat(WAITING_MAX).as_bytes()).expect("there is room");
    }
}

/// Whether a terminal is told to change colours: the command for that ends in `m`.
fn is_coloured(bytes: &str) -> bool {
    let mut commands = bytes.split("\x1b[").skip(1);
    commands.any(|command| command.trim_start_matches(|letter: char| !letter.is_ascii_alphabetic()).starts_with('m'))
}

fn on_a_terminal(ostler: &Ostler, args: &[&str]) -> Terminal {
    let mut command = ostler.client().prepare(args);
    command.env_remove("NO_COLOR");
    Terminal::start(command)
}

// ── a reload, as people and scripts see it ─────────────────────────────────────────────────────────────────

#[test]
fn on_a_terminal_a_reload_has_a_line_for_each_slot_and_leaves_its_verdict() {
    let mut ostler = Ostler::builder().config(good()).start();
    let gate = Gate::before_the_next_generation(&ostler);
    let reload = on_a_terminal(&ostler, &["reload"]);
    reload.wait_screen(&["web: generation 2, 0 of 2 serve", "  web/0.2  starts", "  web/1  waits for its turn"]);
    // Drawn anew in the same lines, while nothing happens too.
    let screen = reload.wait_screen(&["0 of 2 serve, 2s"]);
    assert_eq!(screen.trim_end().lines().count(), 3, "{screen}");
    gate.open();
    let left = reload.wait();
    assert_eq!((left.code, left.lines()), (0, vec!["reloaded: web generation 2"]), "{left:?}");
    assert!(is_coloured(&left.bytes), "{left:?}");
    ostler.stop_clean();
}

#[test]
fn no_color_leaves_the_lines_and_takes_the_colours() {
    let mut ostler = Ostler::builder().config(good()).start();
    ostler.rewrite_config(&broken());
    let mut command = ostler.client().prepare(&["reload"]);
    command.env("NO_COLOR", "1");
    let left = Terminal::start(command).wait();
    assert_eq!(left.code, 3, "{left:?}");
    assert!(left.bytes.contains("\x1b[J"), "it is drawn: {left:?}");
    assert!(!is_coloured(&left.bytes), "{left:?}");
    ostler.stop_clean();
}

#[test]
fn a_reload_of_a_broken_program_says_in_under_ten_lines_what_failed_and_who_serves() {
    let mut ostler = Ostler::builder().config(good()).start();
    let serving = ostler.status().only().pids();
    ostler.rewrite_config(&broken());
    let left = on_a_terminal(&ostler, &["reload"]).wait();
    let piped = ostler.command(&["reload"]);
    assert_eq!((left.code, piped.code), (3, 3), "{left:?}\n{piped:?}");
    for said in [left.screen.trim_end(), piped.stderr.trim_end()] {
        assert!(said.lines().count() < 10, "{said}");
        // A line of the screen may be broken in two.
        let said = said.replace('\n', " ");
        for fact in ["reload undone at its first worker", "worker web/", "exit code 7", "no license: ?[2Jask sales"] {
            assert!(said.contains(fact), "{fact} is missing in {said}");
        }
        assert!(said.ends_with("the previous generation serves on"), "{said}");
    }
    assert!(left.bytes.contains("\x1b[31m"), "the verdict is red: {left:?}");
    assert!(!piped.text().contains('\x1b'), "{piped:?}");
    assert_eq!(ostler.status().only().pids(), serving);
    ostler.stop_clean();
}

#[test]
fn ctrl_c_on_a_terminal_leaves_the_reload_running_and_says_so() {
    let mut ostler = Ostler::builder().config(good()).start();
    let gate = Gate::before_the_next_generation(&ostler);
    let reload = on_a_terminal(&ostler, &["reload"]);
    reload.wait_screen(&["web/0.2  starts"]);
    kill(Pid::from_raw(reload.pid()), Signal::SIGINT).expect("it runs");
    let left = reload.wait();
    assert_eq!(left.code, 1, "{left:?}");
    let last = left.lines().pop().map(str::to_owned);
    assert_eq!(last.as_deref(), Some("ostler: stopped waiting; the reload goes on (see `ostler status`)"), "{left:?}");
    gate.open();
    ostler.wait_status("the reload is over", |status| (status.only().reload.last == "ok").then_some(()));
    ostler.stop_clean();
}

// ── exit codes ─────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn each_command_that_does_what_it_is_asked_is_0_and_says_it_on_standard_output_without_colours() {
    let mut ostler = Ostler::builder().config(good()).start();
    for args in COMMANDS {
        let output = ostler.command(args);
        assert_eq!(output.code, 0, "{args:?}: {output:?}");
        assert!(!output.stdout.is_empty(), "{args:?}: {output:?}");
        assert!(!output.text().contains('\x1b'), "{args:?}: {output:?}");
    }
    assert_eq!(ostler.wait(SOON).code, 0);
}

#[test]
fn a_pool_that_is_not_there_is_1_and_those_that_are_there_are_named() {
    let mut ostler = Ostler::builder().config(good()).start();
    for args in COMMANDS.into_iter().filter(|args| args.get(1) == Some(&"web")) {
        let mut args = args.to_vec();
        args[1] = "wbe";
        let output = ostler.command(&args);
        assert!(output.code == 1 && output.stderr.contains("the pools are: web"), "{args:?}: {output:?}");
    }
    for command in ["pause", "resume"] {
        let output = ostler.command(&[command, "wbe"]);
        assert!(output.code == 1 && output.stderr.contains("the pools are: web"), "{command}: {output:?}");
    }
    ostler.stop_clean();
}

#[test]
fn a_replacement_that_fails_is_1_and_the_old_worker_serves_on() {
    let scratch = Scratch::new();
    let works = scratch.write("works", "");
    let script = format!(
        "[ -e {} ] || {{ echo no license >&2; exit 7; }}; exec {} 0",
        works.display(),
        programs::slow_start(0)[0]
    );
    let mut ostler = Builder::new(&scratch).config(config(&["/bin/sh".to_owned(), "-c".to_owned(), script])).start();
    std::fs::remove_file(works).expect("ours");
    for command in ["restart", "recycle"] {
        let output = ostler.command(&[command, "web"]);
        assert_eq!(output.code, 1, "{output:?}");
        for fact in ["exit code 7", "| no license", "serve"] {
            assert!(output.stderr.contains(fact), "{command}: {fact} is missing in {output:?}");
        }
    }
    assert_eq!(ostler.status().only().ready().len(), 2);
    ostler.stop();
}

#[test]
fn each_command_that_is_typed_wrongly_is_2() {
    let scratch = Scratch::new();
    for args in COMMANDS {
        let output = bounded::run(command(&scratch, None, args).arg("--gallop"), SOON);
        assert!(output.code == 2 && output.stderr.contains("--gallop"), "{args:?}: {output:?}");
    }
}

#[test]
fn a_choice_of_several_supervisors_is_2_and_each_is_told_with_its_command() {
    let scratch = Scratch::new();
    let builder = |listen: &str| Builder::new(&scratch).control(Control::Default).args(["--listen", listen]);
    let mut running = [builder("unix:one.sock").start(), builder("unix:two.sock").start()];
    for args in COMMANDS {
        let output = bounded::run(&mut command(&scratch, None, args), SOON);
        assert_eq!(output.code, 2, "{args:?}: {output:?}");
        for (ostler, listener) in running.iter().zip(["unix:one.sock", "unix:two.sock"]) {
            let line = output.stderr.lines().find(|line| line.contains(&format!("ostler/{}.sock", ostler.pid())));
            assert!(line.is_some_and(|line| line.contains(listener)), "{args:?}: {output:?}");
        }
    }
    for ostler in &mut running {
        ostler.signal(Signal::SIGTERM);
        assert_eq!(ostler.wait(SOON).code, 0);
    }
}

#[test]
fn a_supervisor_that_stands_still_is_4() {
    let mut ostler = Ostler::builder().config(good()).start();
    ostler.signal(Signal::SIGSTOP);
    let output = ostler.command(&["deaths"]);
    ostler.signal(Signal::SIGCONT);
    assert!(output.code == 4 && output.stderr.contains("is it stopped"), "{output:?}");
    ostler.stop_clean();
}

#[test]
fn a_reload_asked_of_a_supervisor_that_is_stopped_says_so_at_once_and_is_done_when_it_goes_on() {
    let mut ostler = Ostler::builder().config(good()).start();
    ostler.stop_still();
    let mut command = Command::new(place::program("ostler"));
    command.arg("reload").arg("--control").arg(ostler.control().expect("given"));
    let said = ostler.scratch().path("said");
    command.stderr(File::create(&said).expect("the directory is ours")).stdout(Stdio::null());
    let mut asking = command.spawn().expect("it starts");
    let words = format!("is stopped: it does this when it goes on (`kill -CONT {}`)", ostler.pid());
    wait_until(SOON, "it says so", || std::fs::read_to_string(&said).is_ok_and(|said| said.contains(&words)));
    ostler.signal(Signal::SIGCONT);
    let code = wait_for(SOON, "it is done", || asking.try_wait().expect("our own child"));
    assert_eq!((code.code(), ostler.status().only().generation), (Some(0), 2), "{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn a_reload_of_a_pool_that_is_not_there_is_refused_and_no_pool_bears_its_mark() {
    let mut ostler = Ostler::builder().config(good()).start();
    let output = ostler.command(&["reload", "wbe"]);
    assert!(output.code == 3 && output.stderr.contains("there is no pool wbe"), "{output:?}");
    let status = ostler.command(&["status"]).stdout;
    assert!(!status.contains("undone"), "{status}");
    ostler.stop_clean();
}

#[test]
fn a_pool_that_takes_too_long_to_come_back_is_4_and_goes_on_trying() {
    let scratch = Scratch::new();
    let quick = scratch.write("quick", "");
    let worker = &programs::slow_start(0)[0];
    let script = format!("[ -e {} ] || exec sleep 600; exec {worker} 0", quick.display());
    let toml = config(&["/bin/sh".to_owned(), "-c".to_owned(), script])
        .replace("start = { ready_timeout = \"10s\" }", "start = { ready_timeout = \"1s\", failures = 1000 }");
    let mut ostler = Builder::new(&scratch).config(toml).start();
    assert_eq!(ostler.command(&["pause"]).code, 0);
    std::fs::remove_file(&quick).expect("ours");
    let output = ostler.command(&["resume"]);
    assert!(output.code == 4 && output.stderr.contains("0 of 2 workers are ready"), "{output:?}");
    scratch.write("quick", "");
    ostler.wait_status("it is back", |status| (status.only().ready().len() == 2).then_some(()));
    ostler.stop_clean();
}

#[test]
fn nobody_there_is_5_and_who_runs_elsewhere_is_told() {
    let mut elsewhere = Ostler::builder().config(good()).start();
    let scratch = Scratch::new();
    for args in COMMANDS {
        for control in [None, Some(scratch.path("control.sock"))] {
            let output = bounded::run(&mut command(&scratch, control.as_deref(), args), SOON);
            assert_eq!(output.code, 5, "{args:?}: {output:?}");
            for words in ["no supervisor ", "is it running as another user", "pid ", "--control PATH", "`ostler run`"] {
                assert!(output.stderr.contains(words), "{args:?}: {words} is missing in {output:?}");
            }
        }
    }
    elsewhere.stop_clean();
}

#[test]
fn somebody_elses_supervisor_is_1_and_its_owner_is_named() {
    let mut ostler = Ostler::builder().config(good()).start();
    let control = ostler.control().expect("given").to_owned();
    let ours = User::from_uid(geteuid()).expect("a database").expect("us");
    let nobody = User::from_name("nobody").expect("a database").expect("nobody");
    let reachable = ostler.scratch().path("ostler");
    std::fs::copy(place::ostler(), &reachable).expect("room for a copy");
    std::fs::set_permissions(&reachable, Permissions::from_mode(0o755)).expect("ours");
    if !geteuid().is_root() {
        // Who may not become somebody else is locked out of what is his.
        std::fs::set_permissions(&control, Permissions::from_mode(0o000)).expect("ours");
    }
    for args in COMMANDS {
        let mut command = Command::new(&reachable);
        command.args(args).arg("--control").arg(&control).current_dir("/");
        if geteuid().is_root() {
            command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
        }
        let output = bounded::run(&mut command, SOON);
        let others = if ours.uid.is_root() { "" } else { " or as root" };
        let words = format!("belongs to {0}: run this as {0}{others}\n", ours.name);
        assert!(output.code == 1 && output.stderr.contains(&words), "{args:?}: {output:?}");
    }
    std::fs::set_permissions(&control, Permissions::from_mode(0o600)).expect("ours");
    ostler.stop_clean();
}

// ── strangers at the control socket ────────────────────────────────────────────────────────────────────────

/// Puts each command to a server that answers with these bytes.
fn answered_with(bytes: &'static [u8]) -> Vec<Output> {
    let scratch = Scratch::new();
    let control = scratch.path("control.sock");
    let listener = UnixListener::bind(&control).expect("a socket");
    let server = thread::spawn(move || {
        for _ in COMMANDS {
            let (mut client, _) = listener.accept().expect("a client");
            let _asked = client.read(&mut [0; 4096]).expect("a request");
            client.write_all(bytes).expect("it reads");
        }
    });
    let ask = |args: &&[&str]| bounded::run(&mut command(&scratch, Some(&control), args), SOON);
    let outputs = COMMANDS.iter().map(ask).collect();
    server.join().expect("no panic");
    std::fs::remove_file(control).expect("ours");
    outputs
}

#[test]
fn a_supervisor_of_another_version_is_1_and_both_are_named() {
    for output in answered_with(b"\x03\0\0\0\x63\0\0") {
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains("version 99") && output.stderr.contains("this ostler speaks"), "{output:?}");
    }
}

#[test]
fn an_end_without_an_answer_and_garbage_are_1() {
    for (bytes, words) in [(&b""[..], "without an answer"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "control.sock")] {
        for output in answered_with(bytes) {
            assert!(output.code == 1 && output.stderr.contains(words), "{words}: {output:?}");
        }
    }
}

fn command(scratch: &Scratch, control: Option<&Path>, args: &[&str]) -> Command {
    Client::new(control.map(Path::to_owned), scratch.clone()).prepare(args)
}
