//! A worker that is stopped while connections keep coming.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::Ostler;
use ostler_tests::deadline::{SLACK, alone};
use ostler_tests::http::get_once;
use ostler_tests::load::{Load, Tally};
use ostler_tests::sampler::Sampler;

const RECALL_AFTER: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(20);
const VISITS: usize = 200;

fn start(prefetch: u32) -> Ostler {
    let config = format!(
        r#"
        [pool.web]
        listen = ["unix:web.sock"]
        workers = 4
        concurrency = 1
        prefetch = {prefetch}
        recall_after = "{}ms"
        "#,
        RECALL_AFTER.as_millis()
    );
    Ostler::builder().config(config).start()
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a worker of ours");
}

/// A stopped worker claims nothing, so whoever is handed to it depends on the recall.
fn visitors_one_after_the_other(prefetch: u32) {
    let mut ostler = start(prefetch);
    let stopped = ostler.status().only().pids()[0];
    send(stopped, Signal::SIGSTOP);
    for _ in 0..VISITS {
        let since = Instant::now();
        get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("somebody is free");
        assert!(since.elapsed() < RECALL_AFTER + SLACK, "waited for the stopped worker: {:?}", since.elapsed());
    }
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!(pool.check_books(), Ok(()));
    assert!(pool.recalled > 0, "{pool:?}");
    let idle = pool.workers.iter().find(|worker| worker.pid == Some(stopped)).expect("still there");
    assert_eq!((idle.done, idle.claimed, pool.lost, pool.done), (0, 0, 0, VISITS as u64), "{pool:?}");
    send(stopped, Signal::SIGCONT);
    ostler.stop_clean();
}

#[test]
fn with_prefetch_0_nobody_waits_for_a_stopped_worker() {
    visitors_one_after_the_other(0);
}

#[test]
fn with_prefetch_1_nobody_waits_for_a_stopped_worker() {
    visitors_one_after_the_other(1);
}

/// The same under load, undisturbed and with a worker stopped in the middle of things: it holds at most its one.
fn under_load(prefetch: u32) {
    let _machine = alone();
    let mut ostler = start(prefetch);
    let sampler = Sampler::start(ostler.client());
    let undisturbed = measure(&ostler, |_| {});
    let stopped = ostler.status().only().pids()[0];
    let disturbed = measure(&ostler, |load| {
        send(stopped, Signal::SIGSTOP);
        // Seven of eight clients go on, however long this lasts.
        load.wait_for_more(2000);
        let pool = ostler.status().only().clone();
        let worker = pool.workers.iter().find(|worker| worker.pid == Some(stopped)).expect("still there");
        assert!(worker.claimed <= 1, "{pool:?}");
        send(stopped, Signal::SIGCONT);
    });
    sampler.finish().assert_balanced();
    println!("prefetch {prefetch}, undisturbed: {undisturbed}");
    println!("prefetch {prefetch}, one stopped:  {disturbed}");
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!(pool.check_books(), Ok(()));
    assert_eq!((pool.lost, pool.accepted), (0, undisturbed.connects + disturbed.connects), "{pool:?}");
    ostler.stop_clean();
}

fn measure(ostler: &Ostler, disturb: impl FnOnce(&ostler_tests::load::Running)) -> Tally {
    let load = Load::on(&ostler.unix("web.sock")).clients(8).path("/sleep/1").start();
    load.wait_for_more(1000);
    disturb(&load);
    load.wait_for_more(1000);
    let tally = load.stop();
    tally.assert_no_failure();
    tally
}

#[test]
fn with_prefetch_0_a_load_goes_on_around_a_stopped_worker() {
    under_load(0);
}

#[test]
fn with_prefetch_1_a_load_goes_on_around_a_stopped_worker() {
    under_load(1);
}
