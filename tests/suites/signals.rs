//! Does every signal of the table do what it says, and is its sender in the log?

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::Ostler;
use ostler_tests::deadline::SOON;
use ostler_tests::http::get_once;

fn start() -> Ostler {
    Ostler::builder().args(["--listen", "unix:web.sock", "--workers", "2"]).start()
}

fn assert_serves(ostler: &Ostler) {
    get_once(&ostler.unix("web.sock"), "/", Duration::from_secs(20)).expect("it serves on");
}

#[test]
fn ttin_is_one_worker_more_and_ttou_one_fewer() {
    let mut ostler = start();
    for (signal, target) in
        [(Signal::SIGTTIN, 3), (Signal::SIGTTIN, 4), (Signal::SIGTTOU, 3), (Signal::SIGTTOU, 2), (Signal::SIGTTOU, 1)]
    {
        ostler.signal(signal);
        ostler.wait_status(&format!("{target} workers after {signal}"), |status| {
            let pool = status.only();
            (pool.target == target && pool.ready().len() == target as usize).then_some(())
        });
    }
    ostler.signal(Signal::SIGTTOU);
    assert_serves(&ostler);
    assert_eq!(ostler.status().only().target, 1, "one is the least");
    ostler.stop_clean();
}

#[test]
fn hup_reloads() {
    let mut ostler = start();
    ostler.signal(Signal::SIGHUP);
    ostler.wait_status("generation 2", |status| {
        (status.only().reload.last == "ok" && status.only().generations() == [2]).then_some(())
    });
    assert_serves(&ostler);
    ostler.stop_clean();
}

#[test]
fn what_is_not_built_yet_answers_not_yet_and_changes_nothing() {
    let mut ostler = start();
    let workers = ostler.status().only().pids();
    ostler.signal(Signal::SIGUSR2);
    ostler.wait_log(&["SIGUSR2"]);
    ostler.wait_log(&["not yet supported"]);
    assert_serves(&ostler);
    assert_eq!(ostler.status().only().pids(), workers);
    ostler.stop_clean();
}

#[test]
fn pwr_writes_the_state_into_the_log() {
    let mut ostler = start();
    ostler.signal(Signal::SIGPWR);
    for text in ["state of ostler", "pool main · ready", "worker main/1.1"] {
        ostler.wait_log(&[text]);
    }
    assert_serves(&ostler);
    ostler.stop_clean();
}

#[test]
fn usr1_disturbs_nobody() {
    let mut ostler = start();
    ostler.signal(Signal::SIGUSR1);
    ostler.wait_log(&["USR1"]);
    assert_serves(&ostler);
    ostler.stop_clean();
}

#[test]
fn the_sender_of_a_signal_is_in_the_log() {
    let mut ostler = start();
    ostler.signal(Signal::SIGTERM);
    ostler.wait_log(&["SIGTERM", &std::process::id().to_string()]);
    assert_eq!(ostler.wait(SOON).code, 0);
}

#[test]
fn a_worker_that_gets_signals_of_a_terminal_serves_on() {
    let mut ostler = start();
    let workers = ostler.status().only().pids();
    let harmless = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGWINCH,
        Signal::SIGPWR,
    ];
    for pid in &workers {
        for signal in harmless {
            kill(Pid::from_raw(*pid), signal).expect("a worker");
        }
    }
    for _ in 0..4 {
        assert_serves(&ostler);
    }
    assert_eq!(ostler.status().only().pids(), workers);
    ostler.stop_clean();
}

#[test]
fn a_worker_that_gets_term_leaves_and_is_replaced_without_a_loss() {
    let mut ostler = start();
    let load = ostler_tests::load::Load::on(&ostler.unix("web.sock")).clients(8).path("/sleep/1").start();
    load.wait_for_more(20);
    let first = ostler.status().only().pids();
    for pid in &first {
        kill(Pid::from_raw(*pid), Signal::SIGTERM).expect("a worker");
    }
    ostler.wait_status("two others", |status| {
        let ready = status.only().ready();
        let others = ready.iter().all(|worker| worker.pid.is_some_and(|pid| !first.contains(&pid)));
        (ready.len() == 2 && others).then_some(())
    });
    load.wait_for_more(20);
    load.stop().assert_no_failure();
    assert_eq!(ostler.status().only().lost, 0);
    ostler.stop_clean();
}
