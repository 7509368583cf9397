//! Do the commands steer a running supervisor, each with its answer?

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::bounded;
use ostler_tests::builder::{Builder, Control};
use ostler_tests::deadline::{SLACK, SOON, alone};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::{Ostler, Scratch, programs};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(workers: u32) -> String {
    format!("[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = {workers}\nconcurrency = 2\n")
}

fn wait_workers(ostler: &Ostler, count: usize) {
    ostler.wait_status(&format!("{count} ready workers and no other"), |status| {
        let pool = status.only();
        (pool.ready().len() == count && pool.workers.len() == count).then_some(())
    });
}

#[test]
fn scale_takes_a_number_and_a_change() {
    let mut ostler = Ostler::builder().config(config(2)).start();
    let before = ostler.descriptor_count();
    for (change, target) in [("5", 5), ("+2", 7), ("-4", 3), ("1", 1)] {
        let output = ostler.command(&["scale", "web", change]);
        assert_eq!(output.code, 0, "{change}: {output:?}");
        assert_eq!(ostler.status().only().target, target);
        wait_workers(&ostler, target as usize);
    }
    for refused in ["0", "100000"] {
        let output = ostler.command(&["scale", "web", refused]);
        assert_ne!(output.code, 0, "{refused}: {output:?}");
        assert_eq!(ostler.status().only().target, 1);
    }
    let output = ostler.command(&["scale", "nowhere", "2"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("nowhere"), "{output:?}");
    assert_eq!(ostler.command(&["scale", "web", "2"]).code, 0);
    wait_workers(&ostler, 2);
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn a_scaled_target_survives_reloads_until_the_file_says_otherwise() {
    let mut ostler = Ostler::builder().config(config(2)).start();
    assert_eq!(ostler.command(&["scale", "web", "4"]).code, 0);
    wait_workers(&ostler, 4);
    assert_eq!(ostler.command(&["reload"]).code, 0);
    assert_eq!(ostler.status().only().target, 4);
    ostler.rewrite_config(&config(3));
    assert_eq!(ostler.command(&["reload"]).code, 0);
    assert_eq!(ostler.status().only().target, 3);
    wait_workers(&ostler, 3);
    ostler.stop_clean();
}

#[test]
fn scaling_down_under_load_fails_no_request() {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(config(6)).start();
    let load = Load::on(&ostler.unix("web.sock")).clients(32).path("/sleep/1").start();
    for target in ["1", "6", "2", "5", "1"] {
        load.wait_for_more(100);
        assert_eq!(ostler.command(&["scale", "web", target]).code, 0);
    }
    load.wait_for_more(100);
    load.stop().assert_no_failure();
    wait_workers(&ostler, 1);
    assert_eq!(ostler.status().only().lost, 0);
    ostler.stop_clean();
}

#[test]
fn restart_replaces_a_pool_or_one_slot_under_load_without_a_failure() {
    let _machine = alone();
    let mut ostler = Ostler::builder().config(config(3)).start();
    let load = Load::on(&ostler.unix("web.sock")).clients(16).path("/sleep/1").start();
    load.wait_for_more(100);
    let ids = |ostler: &Ostler| -> Vec<u64> {
        wait_workers(ostler, 3);
        let mut workers = ostler.status().only().workers.clone();
        workers.sort_by_key(|worker| worker.slot);
        workers.iter().filter_map(|worker| worker.id).collect()
    };
    let first = ids(&ostler);
    let output = ostler.command(&["restart", "web/1"]);
    assert_eq!(output.code, 0, "{output:?}");
    let second = ids(&ostler);
    assert_eq!((second[0], second[2]), (first[0], first[2]), "the others stay");
    assert_ne!(second[1], first[1]);
    assert_eq!(ostler.command(&["restart", "web"]).code, 0);
    let third = ids(&ostler);
    assert!(third.iter().all(|id| !second.contains(id)), "{second:?} → {third:?}");
    load.wait_for_more(100);
    load.stop().assert_no_failure();
    let pool = ostler.status().only().clone();
    assert_eq!((pool.generation, pool.lost), (1, 0), "a restart is no new generation");
    for nonsense in ["nowhere", "web/77"] {
        let output = ostler.command(&["restart", nonsense]);
        assert_eq!(output.code, 1, "{nonsense}: {output:?}");
    }
    ostler.stop_clean();
}

#[test]
fn stop_waits_for_the_end_and_ends_with_the_same_code() {
    let mut ostler = Ostler::builder().config(config(2)).start();
    let mut slow = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
    slow.ask("/sleep/700", Keep::Once).expect("ask");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    let output = ostler.command(&["stop"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(slow.answer().expect("served").status, 200);
    assert_eq!(ostler.wait(SOON).code, 0);
}

#[test]
fn stop_now_is_fast_and_says_4_when_something_was_lost() {
    let mut ostler = Ostler::builder().config(config(1)).start();
    let mut slow = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
    slow.ask("/spin/10000000", Keep::Once).expect("ask");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    let output = ostler.command(&["stop", "--now"]);
    assert_eq!(output.code, 4, "{output:?}");
    assert_eq!(ostler.wait(Duration::from_secs(2) + SLACK).code, 4);
}

#[test]
fn two_stops_get_the_same_answer() {
    let mut ostler = Ostler::builder().config(config(1)).start();
    let mut slow = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
    slow.ask("/sleep/1500", Keep::Once).expect("ask");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    let client = ostler.client();
    let other = std::thread::spawn(move || client.command(&["stop"]));
    assert_eq!(ostler.command(&["stop"]).code, 0);
    assert_eq!(other.join().expect("no panic").code, 0);
    assert_eq!(ostler.wait(SOON).code, 0);
}

#[test]
fn a_reload_that_a_stop_overtakes_is_undone() {
    let command = programs::toml(&programs::slow_start(1000));
    let mut ostler = Ostler::builder().config(config(1)).start();
    ostler.rewrite_config(&format!("{}command = {command}\n", config(1)));
    let client = ostler.client();
    let reload = std::thread::spawn(move || client.command(&["reload"]));
    ostler.wait_status("the reload has begun", |status| (status.only().workers.len() == 2).then_some(()));
    ostler.signal(Signal::SIGTERM);
    assert_eq!(reload.join().expect("no panic").code, 3);
    let ended = ostler.wait(Duration::from_secs(30) + SLACK);
    assert_eq!(ended.code, 0, "{}", ended.log);
}

#[test]
fn status_shows_people_the_same_things() {
    let mut ostler = Ostler::builder().config(config(2)).start();
    get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
    ostler.wait_status("done", |status| (status.only().done == 1).then_some(()));
    let output = ostler.command(&["status"]);
    assert_eq!(output.code, 0, "{output:?}");
    let pid = ostler.status().only().pids()[0].to_string();
    for fact in ["web", "ready", "unix:web.sock", pid.as_str()] {
        assert!(output.stdout.contains(fact), "{fact} is missing in\n{}", output.stdout);
    }
    ostler.stop_clean();
}

#[test]
fn dump_writes_the_state_into_the_log_when_every_worker_is_stuck() {
    let toml = format!("[supervisor]\nlog = {{ level = \"error\" }}\n{}", config(2));
    let mut ostler = Ostler::builder().config(toml).start();
    let workers = ostler.status().only().pids();
    for pid in &workers {
        kill(Pid::from_raw(*pid), Signal::SIGSTOP).expect("a worker of ours");
    }
    let mut waiting = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
    waiting.ask("/", Keep::Once).expect("ask");
    ostler.wait_status("it waits", |status| (status.only().waiting == 1).then_some(()));
    let output = ostler.command(&["dump"]);
    assert_eq!(output.code, 0, "{output:?}");
    let log = ostler.scratch().path("stderr-0.log").display().to_string();
    assert!(output.stdout.contains(&log) && output.stdout.contains(&ostler.pid().to_string()), "{output:?}");
    ostler.wait_log(&["state of ostler", "running"]);
    ostler.wait_log(&["pool web · ready", "unix:web.sock"]);
    ostler.wait_log(&["descriptors", "parked connections"]);
    for pid in &workers {
        ostler.wait_log(&["worker web/", &format!("pid {pid}"), "ready"]);
        kill(Pid::from_raw(*pid), Signal::SIGCONT).expect("a worker of ours");
    }
    assert_eq!(waiting.answer().expect("served").status, 200);
    ostler.stop_clean();
}

#[test]
fn the_control_socket_is_private_and_goes_with_the_supervisor() {
    let mut ostler = Ostler::builder().config(config(1)).start();
    let control = ostler.control().expect("given").to_owned();
    let mode = std::fs::metadata(&control).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    ostler.stop_clean();
    assert!(!control.exists());
}

#[test]
fn of_several_supervisors_one_has_to_be_named() {
    let scratch = Scratch::new();
    let builder = |listen: &str| Builder::new(&scratch).control(Control::Default).args(["--listen", listen]);
    let mut one = builder("unix:one.sock").start();
    assert_eq!(one.status().pid, one.pid(), "the only one is found");
    let mut two = builder("unix:two.sock").start();
    let output = one.command(&["status"]);
    assert_ne!(output.code, 0, "{output:?}");
    for word in ["--control", &format!("{}.sock", one.pid()), &format!("{}.sock", two.pid())] {
        assert!(output.stderr.contains(word), "{word} is missing in {output:?}");
    }
    let path = scratch.path(&format!("runtime/ostler/{}.sock", two.pid())).display().to_string();
    assert_eq!(one.command(&["status", "--control", &path]).code, 0);
    let mut by_variable = one.client().prepare(&["stop"]);
    by_variable.env("OSTLER_CONTROL", &path);
    assert_eq!(bounded::run(&mut by_variable, PATIENCE * 2).code, 0);
    assert_eq!(two.wait(SOON).code, 0);
    assert_eq!(one.status().pid, one.pid(), "the only one again");
    one.stop_clean();
}

#[test]
fn a_socket_that_a_killed_supervisor_left_confuses_nobody() {
    let scratch = Scratch::new();
    let builder = |listen: &str| Builder::new(&scratch).control(Control::Default).args(["--listen", listen]);
    let mut killed = builder("unix:one.sock").start();
    killed.signal(Signal::SIGKILL);
    killed.wait(SOON);
    assert_eq!(killed.command(&["status"]).code, 5);
    let mut next = builder("unix:one.sock").start();
    assert_eq!(next.status().pid, next.pid());
    next.stop_clean();
}

#[test]
fn ctrl_c_in_reload_leaves_the_rollout_running() {
    let command = programs::toml(&programs::slow_start(1000));
    let mut ostler = Ostler::builder().config(config(1)).start();
    ostler.rewrite_config(&format!("{}command = {command}\n", config(1)));
    let mut reload = ostler.client().prepare(&["reload"]);
    reload.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let child = reload.spawn().expect("it starts");
    ostler.wait_status("the reload has begun", |status| (status.only().workers.len() == 2).then_some(()));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGINT).expect("it runs");
    let output = child.wait_with_output().expect("our child");
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stderr.is_empty(), "it says that the rollout goes on");
    ostler.wait_status("the reload is over", |status| (status.only().reload.last == "ok").then_some(()));
    ostler.stop_clean();
}
