//! Does a killed worker take anything with it but the connection that it held?

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{alone, every, long_run};
use ostler_tests::dice::Dice;
use ostler_tests::load::Load;
use ostler_tests::sampler::Sampler;
use ostler_tests::target::Target;
use ostler_tests::{Ostler, Scratch, programs};

const CLIENTS: usize = 64;
const WORKERS: usize = 8;
const KILL_EVERY: Duration = Duration::from_millis(50);

/// One storm, and how many snapshots it has to have at least: 1,000 when there is a minute for it.
fn length() -> (Duration, u64) {
    if long_run() { (Duration::from_secs(60), 1_000) } else { (Duration::from_secs(8), 100) }
}

/// Kills a READY worker now and then; answers with those that were killed.
fn kill_some(ostler: &Ostler, dice: &mut Dice) -> BTreeSet<i32> {
    let client = ostler.client();
    let mut killed = BTreeSet::new();
    every(KILL_EVERY, length().0, || {
        let status = client.status();
        let ready: Vec<i32> = status.only().ready().iter().filter_map(|worker| worker.pid).collect();
        if let Some(pid) = dice.pick(&ready)
            && kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()
        {
            killed.insert(*pid);
        }
    });
    killed
}

fn each_kill_fails_at_most_what_the_worker_had_claimed(target: &Target, worker: Vec<String>, concurrency: u32) {
    let _machine = alone();
    let mut dice = Dice::new();
    // On a busy machine many are killed before they served anybody, which says nothing about the program: without a
    // limit far away the pool would be given up in the middle of the storm.
    let config = format!(
        "[pool.main]\nlisten = [{:?}]\ncommand = {}\nworkers = {WORKERS}\nconcurrency = {concurrency}\n\
         start = {{ failures = 10000, backoff = [\"10ms\", \"100ms\"] }}\n",
        target.listen(),
        programs::toml(&worker),
    );
    let mut ostler = Ostler::builder().config(config).start();
    let before = ostler.descriptor_count();
    let sampler = Sampler::start(ostler.client());
    let load = Load::on(target).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(100);
    let killed = kill_some(&ostler, &mut dice);
    load.wait_for_more(100);
    let tally = load.stop();
    let seen = sampler.finish();

    let kills = u64::try_from(killed.len()).expect("a few");
    println!("{kills} kills, {} snapshots: {tally}", seen.snapshots);
    seen.assert_balanced();
    assert!(seen.snapshots >= length().1, "only {} snapshots", seen.snapshots);
    assert!(kills >= 20, "only {kills} kills");
    let status = ostler.wait_status("the books are idle", |status| status.only().is_idle().then(|| status.clone()));
    let pool = status.only();
    assert_eq!(status.check_books(), Ok(()));
    assert!(tally.failed() <= pool.lost, "failed requests that nobody had claimed: {tally}; {pool:?}");
    assert!(pool.lost <= kills * u64::from(concurrency), "{kills} kills, {tally}; {pool:?}");
    assert_eq!(pool.accepted, tally.connects, "{tally}");
    // Who was answered by a worker that died before it could report is lost in the books.
    let answered = pool.done..=pool.done + pool.lost;
    assert!(answered.contains(&tally.served), "{} answered: {tally}; {pool:?}", tally.served);
    assert_eq!(pool.shed_total(), 0);
    ostler.wait_status("all workers are back", |status| (status.only().ready().len() == WORKERS).then_some(()));
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn a_storm_of_kills_over_blocking_workers_on_unix_loses_only_what_was_claimed() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    each_kill_fails_at_most_what_the_worker_had_claimed(&target, programs::slow_start(0), 1);
}

#[test]
fn a_storm_of_kills_over_blocking_workers_on_tcp_loses_only_what_was_claimed() {
    each_kill_fails_at_most_what_the_worker_had_claimed(&Target::free_tcp(), programs::slow_start(0), 2);
}

#[test]
fn a_storm_of_kills_over_tokio_workers_on_unix_loses_only_what_was_claimed() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    each_kill_fails_at_most_what_the_worker_had_claimed(&target, programs::tokio_worker(0), 4);
}

#[test]
fn a_storm_of_kills_over_tokio_workers_on_tcp_loses_only_what_was_claimed() {
    each_kill_fails_at_most_what_the_worker_had_claimed(&Target::free_tcp(), programs::tokio_worker(0), 4);
}

#[test]
fn what_a_dead_worker_had_not_claimed_goes_to_another() {
    // Stopped workers claim nothing, and with so much patience nothing is recalled: what is handed to them stays in their
    // mailboxes until they die.
    let config = r#"
        [pool.main]
        listen = ["unix:web.sock"]
        workers = 2
        concurrency = 4
        recall_after = "60s"
    "#;
    let mut ostler = Ostler::builder().config(config).start();
    let stopped = ostler.status().only().pids();
    for pid in &stopped {
        kill(Pid::from_raw(*pid), Signal::SIGSTOP).expect("a worker");
    }
    let load = Load::on(&ostler.unix("web.sock")).clients(8).requests_each(1).start();
    ostler.wait_status("8 wait in mailboxes", |status| {
        let mailed: u64 = status.only().workers.iter().map(|worker| worker.waiting).sum();
        (mailed == 8).then_some(())
    });
    for pid in &stopped {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("a worker");
    }
    load.wait_for_more(8);
    load.stop().assert_no_failure();
    let pool = ostler.wait_status("idle again", |status| {
        (status.only().is_idle() && status.only().ready().len() == 2).then(|| status.only().clone())
    });
    assert_eq!((pool.lost, pool.redelivered, pool.done, pool.accepted), (0, 8, 8, 8), "{pool:?}");
    ostler.wait_log(&["handed to others"]);
    for pid in stopped {
        ostler.wait_gone(pid);
    }
    ostler.stop_clean();
}
