//! Does a program that dies at every start cost next to nothing, spare whoever serves, and come back when it is mended?

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, alone, every, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::status::{PoolState, WorkerState};
use ostler_tests::{Builder, Ostler, Scratch, procs, programs};

const FAILURES: usize = 8;

/// Workers that exit 7 as long as a file `broken` lies beside the configuration. With no time to settle only deaths before READY
/// are failures, and not those by which the test begins.
fn start(scratch: &Scratch, supervisor: &str) -> Ostler {
    let broken = scratch.path("broken");
    let good = programs::slow_start(0).join(" ");
    let script = format!("[ ! -e {} ] || {{ echo the table is gone >&2; exit 7; }}; exec {good}", broken.display());
    let command = programs::toml(&["/bin/sh".to_owned(), "-c".to_owned(), script]);
    let config = format!(
        r#"
        [supervisor]
        {supervisor}
        [pool.web]
        listen = ["unix:web.sock"]
        command = {command}
        workers = 4
        start = {{ backoff = ["200ms", "800ms"], failures = {FAILURES}, period = "60s", settle = "0s" }}
        "#
    );
    Builder::new(scratch).config(config).start()
}

/// Ends two of four workers that hold nothing while no new one can start, and answers with those who are left.
fn break_half(ostler: &Ostler, scratch: &Scratch) -> Vec<i32> {
    scratch.write("broken", "");
    let mut workers = ostler.status().only().workers.clone();
    workers.sort_by_key(|worker| worker.claimed);
    let mut survivors: Vec<i32> = workers.iter().filter_map(|worker| worker.pid).collect();
    for pid in survivors.drain(..2) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it serves");
    }
    survivors.sort_unstable();
    survivors
}

fn wait_failed(ostler: &Ostler) {
    ostler.wait_status("the pool is given up", |status| (status.only().state == PoolState::Failed).then_some(()));
}

fn assert_serves(ostler: &Ostler) {
    assert_eq!(get_once(&ostler.unix("web.sock"), "/", SOON).expect("the survivors serve").status, 200);
}

fn wait_whole(ostler: &Ostler) {
    ostler.wait_status("four workers again", |status| {
        let pool = status.only();
        (pool.state == PoolState::Ready && pool.ready().len() == 4).then_some(())
    });
    assert_serves(ostler);
}

#[test]
fn a_pool_whose_workers_die_at_every_start_backs_off_is_given_up_and_comes_back_by_restart() {
    let _machine = alone();
    let scratch = Scratch::new();
    let mut ostler = start(&scratch, "");
    let cpu = || procs::cpu_time(ostler.pid()).expect("it runs");
    let (begun, before) = (std::time::Instant::now(), cpu());
    let survivors = break_half(&ostler, &scratch);
    ostler.wait_status("a slot waits for its next try", |status| {
        let pool = status.only();
        (pool.state == PoolState::Degraded && !pool.in_state(WorkerState::Backoff).is_empty()).then_some(())
    });
    assert_serves(&ostler);
    ostler.wait_log(&["given up", "exit code 7", "2 workers serve on"]);
    let (looping, spent) = (begun.elapsed(), cpu().saturating_sub(before));
    let waits = ostler.log().lines().filter(|line| line.contains("next try in")).count();
    println!("{FAILURES} failures of 2 slots in {looping:.1?}: the supervisor used {spent:?} of CPU time");
    assert_eq!(waits, FAILURES - 1, "each failure but the last is followed by a wait:\n{}", ostler.log());
    // One of the two slots failed four times, after waits of 200, 400 and 800 ms, of which chance takes up to a half.
    assert!(looping >= Duration::from_millis(700), "{looping:?} is no back-off");
    // Each try costs a fork and some lines of log; a loop that spins would use all of the time.
    assert!(spent < looping / 10, "{spent:?} of CPU time in {looping:?}");

    // Given up is given up: nothing is tried, nothing is used.
    wait_failed(&ostler);
    wait_until(SOON, "the last try is over", || workers(&ostler) == survivors);
    let (before, length) = (cpu(), Duration::from_secs(2));
    every(Duration::from_millis(50), length, || assert_eq!(workers(&ostler), survivors));
    let idle = cpu().saturating_sub(before);
    println!("given up, {length:?}: the supervisor used {idle:?} of CPU time");
    assert!(idle < length / 50, "{idle:?} of CPU time in {length:?} without anything to do");
    assert_serves(&ostler);

    fs::remove_file(scratch.path("broken")).expect("it is there");
    let restarted = ostler.command(&["restart", "web"]);
    assert_eq!(restarted.code, 0, "{restarted:?}\n{}", ostler.log());
    wait_whole(&ostler);
    ostler.stop_clean();
}

#[test]
fn a_reload_brings_back_a_pool_that_was_given_up() {
    let _machine = alone();
    let scratch = Scratch::new();
    let mut ostler = start(&scratch, "");
    let survivors = break_half(&ostler, &scratch);
    wait_failed(&ostler);
    // As long as it is not mended, a reload changes nothing and says so.
    let undone = ostler.command(&["reload"]);
    assert_eq!(undone.code, 3, "{undone:?}");
    assert!(undone.stderr.contains("the table is gone"), "the last words: {undone:?}");
    wait_until(SOON, "only the survivors are left", || workers(&ostler) == survivors);
    assert_serves(&ostler);
    fs::remove_file(scratch.path("broken")).expect("it is there");
    assert_eq!(ostler.command(&["reload"]).code, 0, "{}", ostler.log());
    wait_whole(&ostler);
    ostler.stop_clean();
}

#[test]
fn a_pool_that_is_given_up_ends_everything_gracefully_with_1_where_that_was_asked_for() {
    let _machine = alone();
    let scratch = Scratch::new();
    let mut ostler = start(&scratch, "on_pool_failed = \"exit\"");
    let mut slow = Connection::open(&ostler.unix("web.sock"), SOON).expect("open");
    slow.ask("/sleep/4000", Keep::Once).expect("ask");
    ostler.wait_status("it is being served", |status| (status.only().claimed == 1).then_some(()));
    break_half(&ostler, &scratch);
    ostler.wait_log(&["stopping: serving what waits"]);
    assert_eq!(slow.answer().expect("who is there is served").status, 200);
    let ended = ostler.wait(SOON);
    assert_eq!(ended.code, 1, "{}", ended.log);
    let reason = ["pool web was given up", "on_pool_failed", "exit code 7"];
    assert!(ended.log.lines().any(|line| reason.iter().all(|text| line.contains(text))), "{}", ended.log);
    assert!(ended.log.contains("| the table is gone"), "its last words:\n{}", ended.log);
    ostler.assert_no_process_left();
}

#[test]
fn a_stop_command_learns_that_a_pool_was_given_up() {
    let _machine = alone();
    let scratch = Scratch::new();
    let mut ostler = start(&scratch, "on_pool_failed = \"exit\"\nshutdown_delay = \"3s\"");
    break_half(&ostler, &scratch);
    ostler.wait_log(&["accepting for 3s more"]);
    assert_serves(&ostler);
    let stopped = ostler.command(&["stop"]);
    assert_eq!(stopped.code, 1, "{stopped:?}");
    assert_eq!(ostler.wait(SOON).code, 1, "{}", ostler.log());
}

/// The workers that run, ascending, without asking the supervisor.
fn workers(ostler: &Ostler) -> Vec<i32> {
    let mut pids: Vec<i32> = ostler.processes().into_iter().filter(|pid| *pid != ostler.pid()).collect();
    pids.sort_unstable();
    pids
}
