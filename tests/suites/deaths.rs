//! Is a record of each death kept, and does it say what happened?

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::Ostler;
use ostler_tests::deadline::{SOON, try_for};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::procs::cpu_time;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

fn start(workers: u32) -> Ostler {
    Ostler::builder().args(["--listen", "unix:web.sock", "--workers", &workers.to_string()]).start()
}

fn deaths(ostler: &Ostler) -> Vec<Value> {
    let output = ostler.command(&["deaths", "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
    answer["deaths"].as_array().expect("a list").clone()
}

/// Waits until there are so many records.
fn wait_deaths(ostler: &Ostler, count: usize) -> Vec<Value> {
    let found = try_for(SOON, || Some(deaths(ostler)).filter(|deaths| deaths.len() == count));
    found.unwrap_or_else(|| panic!("not {count} deaths but {:#?}", deaths(ostler)))
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a worker of ours");
}

#[test]
fn when_nobody_has_died_it_says_so() {
    let mut ostler = start(1);
    let output = ostler.command(&["deaths"]);
    assert_eq!((output.code, output.stdout.lines().count()), (0, 1), "{output:?}");
    assert!(output.stdout.contains("no worker has died"), "{output:?}");
    assert!(deaths(&ostler).is_empty());
    ostler.stop_clean();
}

#[test]
fn a_worker_that_somebody_kills_leaves_a_record_of_what_it_held_and_used() {
    let mut ostler = start(1);
    let pid = ostler.status().only().pids()[0];
    get_once(&ostler.unix("web.sock"), "/spin/200000", PATIENCE).expect("served");
    let mut held = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
    held.ask("/sleep/60000", Keep::Once).expect("ask");
    ostler.wait_status("the second is claimed", |status| {
        let pool = status.only();
        // An answer arrives before its connection is done: until then the first may be the one that is claimed.
        (pool.done == 1 && pool.claimed == 1 && pool.waiting == 0).then_some(())
    });
    let burnt_s = cpu_time(pid).expect("it lives").as_secs_f64();
    signal(pid, Signal::SIGKILL);
    let death = wait_deaths(&ostler, 1).remove(0);
    assert_eq!(death["pid"], pid);
    assert_eq!((&death["signal"], &death["signal_name"]), (&Value::from(9), &Value::from("SIGKILL")), "{death}");
    assert!(death["code"].is_null() && death["cause"].is_null() && death["sent"].is_null(), "{death}");
    assert_eq!((&death["asked"], &death["routine"]), (&Value::from(false), &Value::from(false)), "{death}");
    assert_eq!((death["lost"].as_u64(), death["done"].as_u64()), (Some(1), Some(1)), "{death}");
    // Nobody ran out of memory; a machine that has no group for us, and did elsewhere, can't say so.
    assert_ne!(death["oom_killed"], true, "{death}");
    let usage = &death["usage"];
    let busy_s = usage["user_s"].as_f64().unwrap_or_default() + usage["system_s"].as_f64().unwrap_or_default();
    // Each of the two is rounded to a millisecond.
    assert!(burnt_s > 0.002 && busy_s + 0.002 > burnt_s, "it had burnt {burnt_s} s: {death}");
    assert!(usage["rss_max_bytes"].as_u64().is_some_and(|bytes| bytes > 4096), "{death}");
    assert!(death["heartbeat_ago_s"].is_number(), "{death}");
    assert!(death["age_s"].as_f64().is_some_and(|age| age >= busy_s), "{death}");
    let shown = ostler.command(&["deaths"]).stdout;
    assert!(shown.contains("web/0.1") || shown.contains("main/0.1"), "{shown}");
    assert!(shown.contains("SIGKILL") && shown.contains(&pid.to_string()), "{shown}");
    ostler.wait_log(&["ended with signal SIGKILL", "1 connections lost", "age=", "rss_max="]);
    ostler.stop_clean();
}

#[test]
fn a_program_that_ends_by_itself_leaves_its_code_and_its_last_words() {
    let words = ["sh", "-c", "echo out; for n in $(seq 20); do echo line $n >&2; done; exit 7"];
    let mut ostler = Ostler::builder()
        .config(format!(
            "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 1\ncommand = {}\n\
             start = {{ failures = 1000, backoff = [\"30s\", \"30s\"] }}\n",
            serde_json::to_string(&words).expect("texts")
        ))
        .start_unready();
    ostler.wait_log(&["ended with exit code 7"]);
    let death = wait_deaths(&ostler, 1).remove(0);
    assert_eq!(death["code"], 7, "{death}");
    assert!(death["signal"].is_null() && death["heartbeat_ago_s"].is_null(), "{death}");
    assert_eq!(death["oom_killed"], false, "{death}");
    let last: Vec<&str> = death["last_words"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let lines: Vec<String> = (1..=20).map(|number| format!("line {number}")).collect();
    assert_eq!(last, lines, "and not what it printed before");
    assert!(ostler.command(&["deaths"]).stdout.contains("  | line 20"));
    ostler.stop();
}

#[test]
fn records_survive_a_reload_and_say_who_was_asked_to_go() {
    let mut ostler = start(2);
    let first = ostler.status().only().pids()[0];
    signal(first, Signal::SIGKILL);
    wait_deaths(&ostler, 1);
    ostler.wait_status("two again", |status| (status.only().ready().len() == 2).then_some(()));
    assert_eq!(ostler.command(&["reload"]).code, 0);
    let records = wait_deaths(&ostler, 3);
    assert_eq!(records[0]["pid"], first, "oldest first");
    for death in &records[1..] {
        assert_eq!((&death["cause"], &death["asked"]), (&Value::from("replaced"), &Value::from(true)), "{death}");
        assert_eq!((&death["routine"], &death["code"]), (&Value::from(true), &Value::from(0)), "{death}");
    }
    ostler.stop_clean();
}

#[test]
fn a_worker_that_had_to_be_killed_shows_what_it_was_sent_and_that_it_was_us() {
    let config = "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 1\n\
                  drain = { timeout = \"100ms\", kill_after = \"200ms\" }\n";
    let mut ostler = Ostler::builder().config(config).start();
    let pid = ostler.status().only().pids()[0];
    signal(pid, Signal::SIGSTOP);
    assert_eq!(ostler.command(&["restart", "web/0"]).code, 0);
    let death = wait_deaths(&ostler, 1).remove(0);
    assert_eq!((&death["sent"], &death["signal"]), (&Value::from("SIGKILL"), &Value::from(9)), "{death}");
    assert_eq!((&death["oom_killed"], &death["asked"]), (&Value::from(false), &Value::from(true)), "{death}");
    assert_eq!(death["routine"], false, "{death}");
    ostler.stop();
}

/// Whether a process that aborts in this test's world leaves a dump depends on the machine: so both are asked.
#[test]
fn a_core_dump_is_recorded_exactly_where_the_kernel_makes_one() {
    for limit in ["0", "unlimited"] {
        let mut ostler = Ostler::builder()
            .args(["--listen", "unix:web.sock", "--workers", "1"])
            .prologue(&format!("ulimit -S -c {limit} 2> /dev/null;"))
            .start();
        let mut abort = Command::new("/bin/sh");
        abort
            .args(["-c", &format!("ulimit -S -c {limit} 2> /dev/null; kill -ABRT $$")])
            .current_dir(ostler.scratch().dir());
        let elsewhere = abort.process_group(0).stderr(Stdio::null()).status().expect("a shell");
        get_once(&ostler.unix("web.sock"), "/abort", PATIENCE).expect_err("nobody answers");
        let death = wait_deaths(&ostler, 1).remove(0);
        assert_eq!(death["signal_name"], "SIGABRT", "{death}");
        assert_eq!(death["core_dumped"], elsewhere.core_dumped(), "ulimit -c {limit}: {death}");
        ostler.stop_clean();
    }
}
