//! Workers that stand still and requests that never end: who is replaced, and who is left alone?

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::{Ostler, programs};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(command: &str, watchdog: &str) -> String {
    format!(
        r#"
        [pool.web]
        listen = ["unix:web.sock"]
        {command}
        workers = 2
        concurrency = 8
        drain = {{ kill_after = "1s" }}
        watchdog = {{ {watchdog} }}
        "#
    )
}

fn start(watchdog: &str) -> Ostler {
    Ostler::builder().config(config("", watchdog)).start()
}

fn open(ostler: &Ostler) -> Connection {
    Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open")
}

/// The worker behind a connection, which stays open.
fn worker_behind(connection: &mut Connection) -> i32 {
    let answer = connection.get("/", Keep::Alive).expect("served");
    answer.worker().expect("a worker names itself").pid
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a process of ours");
}

/// Both slots have a READY worker, and this one is none of them.
fn wait_replaced(ostler: &Ostler, gone: i32) {
    ostler.wait_gone(gone);
    ostler.wait_status("it is replaced", |status| {
        let pool = status.only();
        (pool.ready().len() == 2 && !pool.pids().contains(&gone)).then_some(())
    });
}

#[test]
fn a_worker_whose_loop_stands_still_is_aborted_and_replaced_and_nobody_else_is_hurt() {
    let mut ostler = start(r#"heartbeat = "2s""#);
    let (mut wedged, mut other) = (open(&ostler), open(&ostler));
    let (stands_still, serves) = (worker_behind(&mut wedged), worker_behind(&mut other));
    assert_ne!(stands_still, serves);
    wedged.ask("/spin/10000000", Keep::Alive).expect("ask");
    ostler.wait_log(&["does not move", "ABRT"]);
    wait_replaced(&ostler, stands_still);
    assert!(wedged.answer().is_err());
    assert_eq!(worker_behind(&mut other), serves, "the other connection and its worker live on");
    let log = ostler.log();
    let portrait = log.find("what it is doing, before ABRT").unwrap_or_else(|| panic!("{log}"));
    assert!(log[portrait..].contains("| state R"), "{log}");
    assert!(log.find("ended with signal SIGABRT").is_some_and(|death| portrait < death), "{log}");
    let deaths = ostler.command(&["deaths", "--json"]).stdout;
    assert!(deaths.contains(r#""cause":"silent""#) && deaths.contains("resident"), "{deaths}");
    drop(other);
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!((pool.check_books(), pool.lost), (Ok(()), 1), "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn a_stopped_worker_is_replaced_though_it_can_not_even_take_a_signal() {
    let mut ostler = start(r#"heartbeat = "2s""#);
    let stopped = ostler.status().only().pids()[0];
    send(stopped, Signal::SIGSTOP);
    ostler.wait_log(&["does not move"]);
    wait_replaced(&ostler, stopped);
    assert!(ostler.log_contains("| state T"), "{}", ostler.log());
    get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!(pool.lost, 0, "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn a_worker_with_threads_that_holds_a_long_request_is_left_alone_and_so_is_one_that_waits() {
    let command = format!("command = {}", programs::toml(&programs::slow_start(0)));
    let mut ostler = Ostler::builder().config(config(&command, r#"heartbeat = "2s""#)).start();
    let before = ostler.status().only().pids();
    let mut held = open(&ostler);
    held.ask("/sleep/3000", Keep::Once).expect("ask");
    assert_eq!(held.answer().map(|answer| answer.status), Ok(200));
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!((pool.pids(), pool.lost), (before, 0), "{pool:?}");
    assert!(!ostler.log_contains("does not move"), "{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn an_overdue_request_ends_its_worker_and_an_idle_connection_does_not() {
    let mut ostler = start(r#"heartbeat = "0s", request = "1s", slow = "200ms""#);
    let (mut busy, mut idle) = (open(&ostler), open(&ostler));
    let (at_work, rests) = (worker_behind(&mut busy), worker_behind(&mut idle));
    assert_ne!(at_work, rests);
    busy.ask("/sleep/60000", Keep::Alive).expect("ask");
    ostler.wait_log(&["is at one request"]);
    wait_replaced(&ostler, at_work);
    assert!(busy.answer().is_err());
    // Idle for longer than a request may take.
    assert_eq!(worker_behind(&mut idle), rests);
    let log = ostler.log();
    assert_eq!(log.matches("slow: a request takes").count(), 1, "{log}");
    assert_eq!(log.matches("is at one request").count(), 1, "{log}");
    drop(idle);
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!((pool.check_books(), pool.lost), (Ok(()), 1), "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn a_supervisor_that_was_stopped_for_longer_than_every_watchdog_blames_nobody() {
    let mut ostler = start(r#"heartbeat = "2s", request = "2s""#);
    let before = ostler.status().only().pids();
    let (mut idle, mut busy) = (open(&ostler), open(&ostler));
    worker_behind(&mut idle);
    busy.ask("/sleep/500", Keep::Alive).expect("ask");
    send(ostler.pid(), Signal::SIGSTOP);
    let since = Instant::now();
    wait_until(SOON, "every watchdog would have bitten", || since.elapsed() > Duration::from_secs(3));
    send(ostler.pid(), Signal::SIGCONT);
    ostler.wait_log(&["deadlines move"]);
    assert_eq!(busy.answer().map(|answer| answer.status), Ok(200));
    assert_eq!(worker_behind(&mut idle), worker_behind(&mut idle));
    let pool = ostler.status().only().clone();
    assert_eq!((pool.pids(), pool.lost), (before, 0), "{pool:?}");
    let log = ostler.log();
    assert!(!log.contains("does not move") && !log.contains("is at one request"), "{log}");
    drop((idle, busy));
    ostler.stop_clean();
}

#[test]
fn a_client_that_takes_its_time_to_ask_is_no_overdue_request() {
    let mut ostler = start(r#"request = "1s", slow = "200ms""#);
    let before = ostler.status().only().pids();
    // Half of a head, for longer than a request may take: the hello server marks by hand.
    let mut slow = std::os::unix::net::UnixStream::connect(ostler.scratch().path("web.sock")).expect("connect");
    std::io::Write::write_all(&mut slow, b"GET / HTTP/1.1\r\n").expect("write");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    let since = Instant::now();
    wait_until(SOON, "a request would be overdue", || since.elapsed() > Duration::from_millis(2500));
    let pool = ostler.status().only().clone();
    assert_eq!((pool.pids(), pool.lost), (before, 0), "{pool:?}");
    assert!(!ostler.log_contains("slow:"), "{}", ostler.log());
    drop(slow);
    ostler.stop_clean();
}
