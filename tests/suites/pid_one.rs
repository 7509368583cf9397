//! Does it do as process 1 what it does as any other, and what process 1 has to do besides?

use std::time::Duration;

use nix::sys::signal::Signal;
use ostler_tests::deadline::{SLACK, SOON, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::namespace::First;
use ostler_tests::status::PoolState;
use ostler_tests::{Builder, Ostler, place, programs};

const PATIENCE: Duration = Duration::from_secs(20);
const DEBUG: &str = "[supervisor]\nlog = { level = \"debug\" }\n";

fn start() -> First {
    First::start(Ostler::builder().args(["--listen", "unix:web.sock", "--workers", "2"]))
}

fn with_workers_of(script: &str) -> Builder {
    let command = programs::toml(&["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()]);
    Ostler::builder()
        .config(format!("{DEBUG}[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\ncommand = {command}\n"))
}

fn assert_serves(first: &First) {
    get_once(&first.ostler.unix("web.sock"), "/", PATIENCE).expect("it serves");
}

#[test]
fn process_1_serves_reloads_and_stops_like_any_other() {
    let mut first = start();
    assert_eq!(first.ostler.status().pid, 1);
    let load = Load::on(&first.ostler.unix("web.sock")).clients(4).path("/sleep/1").start();
    load.wait_for_more(20);
    assert_eq!(first.ostler.command(&["reload"]).code, 0);
    load.wait_for_more(20);
    load.stop().assert_no_failure();
    assert_eq!(first.ostler.command(&["stop"]).code, 0);
    assert_eq!(first.ostler.wait(SOON).code, 0, "{}", first.ostler.log());
    first.ostler.assert_no_process_left();
}

#[test]
fn an_orphaned_grandchild_that_exits_3_changes_nothing() {
    let script = format!("( ( exit 3 ) & ) ; exec {} hello-worker", place::ostler().display());
    let mut first = First::start(with_workers_of(&script));
    first.ostler.wait_log(&["reaped an orphan"]);
    let before = first.ostler.status();
    let inside = first.run_inside("for n in 1 2 3 4 5 6 7 8; do ( ( exit 3 ) & ) ; done");
    assert_eq!(inside.code, 0, "{inside:?}");
    wait_until(SOON, "all orphans are reaped", || {
        first.ostler.log().matches("reaped an orphan").count() >= 10 && !first.children().contains(&'Z')
    });
    assert_serves(&first);
    let after = first.ostler.status();
    assert_eq!(after.only().pids(), before.only().pids());
    assert_eq!((after.only().state, after.only().lost), (PoolState::Ready, 0));
    assert!(after.only().workers.iter().all(|worker| worker.restarts == 0), "{after:?}");
    stop(&mut first, Signal::SIGTERM, 0);
}

#[test]
fn a_worker_that_dies_is_replaced_while_orphans_come_and_go() {
    let mut first = start();
    let doomed = first.ostler.status().only().pids();
    // Its numbers are those of the namespace.
    let kills: Vec<String> = doomed.iter().map(|pid| format!("kill -KILL {pid}; ( ( exit 3 ) & ) ;")).collect();
    let inside = first.run_inside(&kills.join(" "));
    assert_eq!(inside.code, 0, "{inside:?}");
    first.ostler.wait_status("two others", |status| {
        let pids = status.only().pids();
        (status.only().ready().len() == 2 && pids.iter().all(|pid| !doomed.contains(pid))).then_some(())
    });
    assert_serves(&first);
    wait_until(SOON, "no zombie is left", || !first.children().contains(&'Z'));
    stop(&mut first, Signal::SIGTERM, 0);
}

#[test]
fn term_quit_and_int_stop_process_1() {
    for signal in [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGINT] {
        stop(&mut start(), signal, 0);
    }
}

#[test]
fn a_stop_serves_who_is_there() {
    let mut first = start();
    let mut slow = Connection::open(&first.ostler.unix("web.sock"), PATIENCE).expect("open");
    slow.ask("/sleep/300", Keep::Once).expect("ask");
    first.ostler.wait_status("it is being served", |status| (status.only().claimed == 1).then_some(()));
    first.signal(Signal::SIGTERM);
    assert_eq!(slow.answer().expect("served").status, 200);
    assert_eq!(first.ostler.wait(SOON).code, 0, "{}", first.ostler.log());
}

#[test]
fn hup_reloads_and_ttin_and_ttou_scale_process_1() {
    let mut first = start();
    first.signal(Signal::SIGHUP);
    first.ostler.wait_status("generation 2", |status| (status.only().generations() == [2]).then_some(()));
    for (signal, target) in [(Signal::SIGTTIN, 3), (Signal::SIGTTOU, 2)] {
        first.signal(signal);
        first.ostler.wait_status(&format!("{target} workers"), |status| (status.only().target == target).then_some(()));
    }
    stop(&mut first, Signal::SIGTERM, 0);
}

#[test]
fn a_signal_that_nobody_handles_does_not_reach_process_1() {
    let mut first = start();
    for signal in [Signal::SIGALRM, Signal::SIGVTALRM, Signal::SIGPROF] {
        first.signal(signal);
        let inside = first.run_inside(&format!("kill -{} 1", signal as i32));
        assert_eq!(inside.code, 0, "{inside:?}");
    }
    assert_serves(&first);
    stop(&mut first, Signal::SIGTERM, 0);
}

#[test]
fn abrt_ends_process_1_from_outside_and_from_inside() {
    let mut outside = start();
    outside.ostler.scratch().expect_disorder();
    outside.signal(Signal::SIGABRT);
    assert_aborted(&mut outside);
    let mut inside = start();
    inside.ostler.scratch().expect_disorder();
    // The shell may be gone before it can say how it fared.
    let _ = inside.run_inside("kill -ABRT 1");
    assert_aborted(&mut inside);
}

fn assert_aborted(first: &mut First) {
    assert_eq!(first.ostler.wait(SOON).code, 134, "{}", first.ostler.log());
    // With process 1 its whole namespace is gone.
    first.ostler.assert_no_process_left();
}

fn stop(first: &mut First, signal: Signal, code: i32) {
    first.signal(signal);
    let ended = first.ostler.wait(SOON + SLACK);
    assert_eq!(ended.code, code, "{}", ended.log);
    first.ostler.assert_no_process_left();
}
