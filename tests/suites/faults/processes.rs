//! Processes that are killed in turn, and a supervisor whose descriptors are taken away.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SLACK, SOON, alone, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::sampler::Sampler;
use ostler_tests::{Builder, Ostler, Scratch, Target, bounded, procs};

const PATIENCE: Duration = Duration::from_secs(20);
const WORKERS: usize = 3;
const CONCURRENCY: u64 = 2;

fn config(tcp: &Target) -> String {
    format!(
        r#"
        [pool.web]
        listen = ["unix:web.sock", "{}"]
        workers = {WORKERS}
        concurrency = {CONCURRENCY}
        recall_after = "60s"
        start = {{ failures = 10000, backoff = ["20ms", "50ms"] }}
        drain = {{ timeout = "5s", kill_after = "1s" }}
        "#,
        tcp.listen()
    )
}

/// Kills the worker of each slot, each time waiting until it is replaced.
fn kill_each(ostler: &Ostler) {
    for slot in 0..WORKERS {
        let worker = ostler.wait_status("all are ready", |status| {
            let pool = status.only();
            let worker = pool.workers.iter().find(|worker| worker.slot as usize == slot)?;
            (pool.ready().len() == WORKERS).then_some((worker.id, worker.pid?))
        });
        kill(Pid::from_raw(worker.1), Signal::SIGKILL).expect("a worker of ours");
        ostler.wait_status("it is replaced", |status| {
            let ready = status.only().ready();
            let successor = ready.iter().find(|ready| ready.slot as usize == slot)?;
            (successor.id > worker.0).then_some(())
        });
    }
}

#[test]
fn each_process_in_turn_is_killed_and_costs_what_it_held_and_no_more() {
    let _machine = alone();
    let (scratch, tcp) = (Scratch::new(), Target::free_tcp());
    let mut ostler = Builder::new(&scratch).config(config(&tcp)).start();
    let before = ostler.descriptor_count();
    let sampler = Sampler::start(ostler.client());
    let loads = [ostler.unix("web.sock"), tcp.clone()].map(|target| {
        let load = Load::on(&target).clients(4).path("/sleep/1").start();
        load.wait_for_more(20);
        load
    });
    kill_each(&ostler);
    let failed: u64 = loads
        .map(|load| {
            load.wait_for_more(20);
            load.stop().failed()
        })
        .iter()
        .sum();
    sampler.finish().assert_balanced();
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!(pool.check_books(), Ok(()));
    assert!(failed <= pool.lost && pool.lost <= WORKERS as u64 * CONCURRENCY, "{failed} failed; {pool:?}");
    ostler.wait_descriptor_count(before);

    // The supervisor's turn: what its workers hold is served to the end, and the next one finds the place free.
    let mut held = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
    held.ask("/sleep/300", Keep::Once).expect("ask");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    ostler.signal(Signal::SIGKILL);
    ostler.wait(SOON);
    assert_eq!(held.answer().map(|answer| answer.status), Ok(200));
    let mut next = Builder::new(&scratch).config(config(&tcp)).start();
    for target in [next.unix("web.sock"), tcp] {
        get_once(&target, "/", PATIENCE).expect("the next one serves");
    }
    let left = procs::marked_after(ostler.mark(), Duration::from_secs(5) + SLACK);
    assert!(left.is_empty(), "workers of the killed one: {left:?}");
    next.stop_clean();
}

/// Sets the limit of descriptors of a running process.
fn limit_descriptors(pid: i32, soft: usize) {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")]);
    let output = bounded::run(&mut command, SOON);
    assert_eq!(output.code, 0, "{}", output.text());
}

/// The soft limit of descriptors that a process has now.
fn soft_limit(pid: i32) -> usize {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("ours");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("always there");
    line.split_whitespace().nth(3).and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn a_supervisor_with_one_free_descriptor_serves_everybody_one_after_the_other() {
    let mut ostler = Ostler::builder().config(config(&Target::free_tcp())).start();
    let (open, limit) = (ostler.descriptor_count(), soft_limit(ostler.pid()));
    let load = Load::on(&ostler.unix("web.sock")).clients(8).start();
    load.wait_for_more(20);
    limit_descriptors(ostler.pid(), open + 1);
    load.wait_for_more(200);
    limit_descriptors(ostler.pid(), limit);
    load.stop().assert_no_failure();
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!((pool.lost, pool.shed_total()), (0, 0), "{pool:?}");
    ostler.wait_descriptor_count(open);
    ostler.stop_clean();
}

#[test]
fn without_a_free_descriptor_clients_wait_and_even_a_death_costs_only_what_was_claimed() {
    let mut ostler = Ostler::builder().config(config(&Target::free_tcp())).start();
    let (open, limit) = (ostler.descriptor_count(), soft_limit(ostler.pid()));
    let victims = ostler.status().only().pids();
    // Stopped workers claim nothing: what they are handed stays in their mailboxes.
    for pid in &victims {
        kill(Pid::from_raw(*pid), Signal::SIGSTOP).expect("a worker of ours");
    }
    let mailed = CONCURRENCY * WORKERS as u64;
    let load = Load::on(&ostler.unix("web.sock")).clients(8).requests_each(10).start();
    ostler.wait_status("the mailboxes are full", |status| {
        let found: u64 = status.only().workers.iter().map(|worker| worker.waiting).sum();
        (found == mailed).then_some(())
    });
    limit_descriptors(ostler.pid(), open);
    for pid in &victims {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("a worker of ours");
    }
    // More than the descriptors of the dead give room for.
    let newcomers = Load::on(&ostler.unix("web.sock")).clients(40).requests_each(2).start();
    ostler.wait_log(&["cannot accept", "raise the limit of descriptors"]);
    limit_descriptors(ostler.pid(), limit);
    for load in [load, newcomers] {
        wait_until(SOON, "all of them are served", || load.served() + load.failed() == 80);
        load.stop().assert_no_failure();
    }
    let pool = ostler.wait_status("idle and complete", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.ready().len() == WORKERS).then(|| pool.clone())
    });
    assert_eq!(pool.check_books(), Ok(()));
    assert_eq!((pool.lost, pool.done, pool.redelivered), (0, 160, mailed), "{pool:?}");
    ostler.wait_descriptor_count(open);
    ostler.stop_clean();
}
