//! Are hooks run and told what happened, and can none of them do any harm?

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use ostler_tests::deadline::{SLACK, SOON, wait_for, wait_until};
use ostler_tests::http::get_once;
use ostler_tests::{Ostler, bounded, place, programs};

/// The hooks' limits, as the reference says them.
const DEADLINE: Duration = Duration::from_secs(10);
const RUNNING_MAX: usize = 8;
const LINES_MAX: usize = 64;

/// Writes what it was told into a file of this name, which appears when it is complete.
const TELL: &str =
    r#"file="$OSTLER_HOOK-${OSTLER_WORKER:-$OSTLER_VERDICT}"; env > "$file.part" && mv "$file.part" "$file""#;

fn shell(script: &str) -> String {
    programs::toml(&["sh", "-c", script].map(str::to_owned))
}

/// `hooks` are names and scripts.
fn config(workers: u32, more: &str, hooks: &[(&str, &str)]) -> String {
    let hooks: Vec<String> = hooks.iter().map(|(name, script)| format!("{name} = {}", shell(script))).collect();
    let hooks = hooks.join(", ");
    format!("[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = {workers}\nhooks = {{ {hooks} }}\n{more}\n")
}

fn start(workers: u32, hooks: &[(&str, &str)]) -> Ostler {
    Ostler::builder().config(config(workers, "", hooks)).start()
}

/// What a hook was told, once it has written it down.
fn told(ostler: &Ostler, file: &str) -> Vec<String> {
    let path = ostler.scratch().path(file);
    let text = wait_for(SOON, &format!("{file}; the log:\n{}", ostler.log()), || fs::read_to_string(&path).ok());
    text.lines().filter(|line| line.starts_with("OSTLER_")).map(str::to_owned).collect()
}

#[track_caller]
fn assert_told(told: &[String], facts: &[&str]) {
    for fact in facts {
        assert!(told.iter().any(|line| line == fact), "{fact} is missing in {told:#?}");
    }
}

fn end_worker(ostler: &Ostler, signal: Signal) -> i32 {
    let pid = ostler.status().only().pids()[0];
    kill(Pid::from_raw(pid), signal).expect("a worker of ours");
    pid
}

fn assert_serves(ostler: &Ostler) {
    get_once(&ostler.unix("web.sock"), "/", SOON).expect("it serves on");
}

#[test]
fn a_worker_that_comes_and_goes_is_announced() {
    let mut ostler = start(1, &[("ready", TELL), ("exit", TELL)]);
    let pid = ostler.status().only().pids()[0].to_string();
    let pid = format!("OSTLER_PID={pid}");
    let ready = told(&ostler, "ready-0.1");
    assert_told(&ready, &["OSTLER_POOL=web", "OSTLER_HOOK=ready", "OSTLER_WORKER=0.1", "OSTLER_ID=1", &pid]);
    assert!(!ready.iter().any(|line| line.starts_with("OSTLER_FDS")), "a hook is no worker: {ready:#?}");
    end_worker(&ostler, Signal::SIGKILL);
    let exit = told(&ostler, "exit-0.1");
    assert_told(&exit, &["OSTLER_HOOK=exit", "OSTLER_EXIT=SIGKILL", "OSTLER_ROUTINE=no", "OSTLER_REASON=", &pid]);
    assert_serves(&ostler);
    ostler.stop_clean();
}

#[test]
fn a_reload_is_announced_with_its_verdict() {
    let mut ostler = start(1, &[("reload", TELL)]);
    assert_eq!(ostler.command(&["reload"]).code, 0);
    assert_told(&told(&ostler, "reload-ok"), &["OSTLER_GENERATION=2", "OSTLER_REASON="]);
    ostler.rewrite_config("[pool.web]\nnonsense = 3\n");
    assert_eq!(ostler.command(&["reload"]).code, 3);
    let undone = told(&ostler, "reload-undone");
    assert_told(&undone, &["OSTLER_GENERATION=", "OSTLER_POOL=web"]);
    assert!(undone.iter().any(|line| line.starts_with("OSTLER_REASON=") && line.len() > 20), "{undone:#?}");
    ostler.stop_clean();
}

#[test]
fn a_pool_that_is_given_up_is_announced() {
    let worker = format!("test -e broken && exit 3; exec {}", programs::slow_start(0).join(" "));
    let more = format!(
        "command = {}\nstart = {{ failures = 2, backoff = [\"10ms\", \"10ms\"], settle = \"0s\" }}",
        shell(&worker)
    );
    let hook = "env > failed.part && mv failed.part failed";
    let mut ostler = Ostler::builder().config(config(1, &more, &[("failed", hook)])).start();
    ostler.scratch().write("broken", "");
    end_worker(&ostler, Signal::SIGKILL);
    let failed = told(&ostler, "failed");
    assert_told(&failed, &["OSTLER_HOOK=failed", "OSTLER_SURVIVORS=0"]);
    assert!(
        failed.iter().any(|line| line.starts_with("OSTLER_REASON=") && line.contains("exit code 3")),
        "{failed:#?}"
    );
    ostler.stop();
}

#[test]
fn what_a_hook_prints_and_how_it_ends_is_in_the_log() {
    let mut ostler =
        start(1, &[("ready", "echo one; echo two >&2; exit 7"), ("exit", "echo last words; kill -KILL $$")]);
    ostler.wait_log(&["one", "pool=web", "ready"]);
    ostler.wait_log(&["two", "pool=web", "ready"]);
    ostler.wait_log(&["hook ended with exit code 7", "pool=web"]);
    end_worker(&ostler, Signal::SIGKILL);
    ostler.wait_log(&["last words", "pool=web", "exit"]);
    ostler.wait_log(&["hook ended with signal SIGKILL"]);
    assert_serves(&ostler);
    ostler.stop_clean();
}

#[test]
fn a_hook_that_cannot_be_executed_is_said_and_harms_nobody() {
    let toml = "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 1\nhooks = { ready = [\"./absent\"] }\n";
    let mut ostler = Ostler::builder().config(toml).start();
    ostler.wait_log(&["hook cannot execute", "absent", "pool=web"]);
    assert_serves(&ostler);
    let mut check = Command::new(place::ostler());
    check.args(["check", "-c", "ostler-0.toml"]).current_dir(ostler.scratch().dir());
    let check = bounded::run(&mut check, SOON);
    assert_eq!(check.code, 2, "{check:?}");
    assert!(check.stderr.contains("pool.web.hooks.ready") && check.stderr.contains("absent"), "{check:?}");
    ostler.stop_clean();
}

#[test]
fn hooks_that_hang_or_flood_are_killed_at_their_deadline_and_nobody_waits_for_them() {
    let mut ostler = start(1, &[("ready", "yes flood"), ("exit", "sleep 600 & echo $! > sleeper; sleep 600")]);
    end_worker(&ostler, Signal::SIGKILL);
    ostler.wait_status("replaced meanwhile", |status| (status.only().ready().len() == 1).then_some(()));
    assert_serves(&ostler);
    assert_eq!(ostler.command(&["reload"]).code, 0);
    wait_until(DEADLINE + SOON, "both were killed", || {
        let log = ostler.log();
        let killed = |hook: &str| {
            let of_hook = |line: &&str| line.contains("took too long and was killed") && line.contains(hook);
            log.lines().filter(of_hook).count() > 0
        };
        killed("ready") && killed("exit")
    });
    let sleeper = fs::read_to_string(ostler.scratch().path("sleeper")).expect("written").trim().parse().expect("a pid");
    ostler.wait_gone(sleeper);
    ostler.wait_log(&["printed more than is logged"]);
    // One flood for each of the three workers there have been.
    let flood = ostler.log().lines().filter(|line| line.contains("flood")).count();
    assert!((1..=3 * LINES_MAX).contains(&flood), "{flood} lines");
    assert_serves(&ostler);
    ostler.stop();
    ostler.assert_no_process_left();
}

#[test]
fn a_child_that_keeps_the_hooks_pipe_open_keeps_nothing_else() {
    let mut ostler = start(1, &[]);
    let before = ostler.descriptor_count();
    // The hook ends when its child has left the group: what is in it then is killed with it.
    let child = "echo $$ > sleeper.part; mv sleeper.part sleeper; echo > gone; exec sleep 600";
    let script = format!("mkfifo gone; setsid sh -c '{child}' & read -r _ < gone; echo started");
    ostler.rewrite_config(&config(1, "", &[("ready", &script)]));
    assert_eq!(ostler.command(&["reload"]).code, 0);
    ostler.wait_log(&["started", "pool=web", "ready"]);
    let path = ostler.scratch().path("sleeper");
    let sleeper: i32 = wait_for(SOON, "its pid", || fs::read_to_string(&path).ok()).trim().parse().expect("a pid");
    ostler.wait_descriptor_count(before);
    assert!(ostler.owns(sleeper), "who leaves the group may go on");
    kill(Pid::from_raw(sleeper), Signal::SIGKILL).expect("it is there");
    ostler.stop_clean();
}

#[test]
fn a_few_run_at_a_time_and_the_others_wait_for_their_turn() {
    let scratch = ostler_tests::Scratch::new();
    let gate = scratch.path("gate");
    nix::unistd::mkfifo(&gate, Mode::S_IRWXU).expect("ours");
    let workers = 12;
    // One process each: it waits until somebody opens the gate for a moment.
    let script = "echo begun > begun-$OSTLER_WORKER; read -r _ < gate; echo done > done-$OSTLER_WORKER";
    let mut ostler = ostler_tests::Builder::new(&scratch).config(config(workers, "", &[("ready", script)])).start();
    let count = |prefix: &str| {
        let entries = fs::read_dir(scratch.dir()).expect("ours").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).count()
    };
    wait_until(SOON, "as many as may", || count("begun-") == RUNNING_MAX);
    // Two round trips of the loop later it would have started more.
    let _ = (ostler.status(), ostler.status());
    assert_eq!((count("begun-"), count("done-")), (RUNNING_MAX, 0));
    wait_until(SOON, "all have had their turn", || {
        // Fails while nobody waits at the gate.
        drop(OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&gate));
        count("done-") == workers as usize
    });
    assert_serves(&ostler);
    ostler.stop_clean();
}

#[test]
fn a_stop_runs_the_hooks_of_the_workers_that_it_ends() {
    let mut ostler = start(3, &[("exit", TELL)]);
    ostler.stop_clean();
    for worker in ["exit-0.1", "exit-1.1", "exit-2.1"] {
        assert_told(&told(&ostler, worker), &["OSTLER_REASON=stopping", "OSTLER_EXIT=0", "OSTLER_ROUTINE=yes"]);
    }
}

#[test]
fn a_stop_waits_for_hooks_no_longer_than_its_own_deadline() {
    let toml = config(2, "drain = { kill_after = \"1s\" }", &[("exit", "sleep 600")]);
    let toml = format!("[supervisor]\nstop_timeout = \"2s\"\n{toml}");
    let mut ostler = Ostler::builder().config(toml).start();
    ostler.signal(Signal::SIGTERM);
    let ended = ostler.wait(Duration::from_secs(2) + SLACK);
    assert_eq!(ended.code, 0, "no hook makes a stop unclean: {}", ended.log);
    assert_eq!(ended.log.matches("took too long and was killed").count(), 2, "{}", ended.log);
    ostler.assert_no_process_left();
}

#[test]
fn a_fast_stop_leaves_hooks_a_second() {
    let mut ostler = start(2, &[("exit", "sleep 600")]);
    let output = ostler.command(&["stop", "--now"]);
    assert_eq!(output.code, 0, "{output:?}");
    ostler.wait(Duration::from_secs(3) + SLACK);
    ostler.assert_no_process_left();
}
