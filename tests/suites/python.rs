//! Does a worker in Python keep what the Rust library promises?

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, alone, every, long_run, wait_for, wait_until};
use ostler_tests::dice::Dice;
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::sampler::Sampler;
use ostler_tests::{Ostler, bounded, place, programs};

const WORKERS: usize = 4;
const CLIENTS: usize = 32;
const KILL_EVERY: Duration = Duration::from_millis(100);
/// The checks of the package itself: a cold type checker on a busy machine is slow.
const CHECK_LIMIT: Duration = Duration::from_secs(300);

/// A way to write a worker, and how many connections it holds.
#[derive(Debug, Clone, Copy)]
struct Kind {
    mode: &'static str,
    concurrency: u32,
}

const PULL: Kind = Kind { mode: "pull", concurrency: 1 };
const THREADS: Kind = Kind { mode: "serve", concurrency: 4 };
const ASYNCIO: Kind = Kind { mode: "asyncio", concurrency: 8 };
const KINDS: [Kind; 3] = [PULL, THREADS, ASYNCIO];

fn start_with(kind: Kind, workers: usize, more: &str) -> Ostler {
    let command = programs::toml(&programs::python_hello(kind.mode, 0));
    let config = format!(
        "[pool.web]\nlisten = [\"unix:web.sock\"]\ncommand = {command}\nworkers = {workers}\nconcurrency = {}\n{more}\n",
        kind.concurrency
    );
    Ostler::builder().config(config).start()
}

fn start(kind: Kind) -> Ostler {
    start_with(kind, WORKERS, "")
}

fn get(ostler: &Ostler, path: &str) -> String {
    get_once(&ostler.unix("web.sock"), path, SOON).expect("served").text()
}

fn open(ostler: &Ostler) -> Connection {
    Connection::open(&ostler.unix("web.sock"), SOON).expect("open")
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a process of ours");
}

#[test]
fn every_kind_of_worker_serves_everybody_evenly() {
    let _machine = alone();
    for kind in KINDS {
        let mut ostler = start_with(kind, WORKERS, "recall_after = \"60s\"");
        // More than there are places for: how many each serves is up to the machine, that everybody is served is not.
        let crowd = Load::on(&ostler.unix("web.sock")).clients(CLIENTS + 8).path("/sleep/1").requests_each(25).run();
        println!("{kind:?}: {crowd}");
        crowd.assert_no_failure();
        assert_eq!(crowd.workers.len(), WORKERS, "{kind:?}: {crowd}");
        // One after the other: the workers take turns, but for who is late to report on a busy machine.
        let few = Load::on(&ostler.unix("web.sock")).path("/sleep/1").requests_each(400).run();
        few.assert_no_failure();
        assert!(few.workers.len() == WORKERS && few.unfairness() < 2.0, "{kind:?}: {:?}", few.workers);
        let pool = ostler.wait_idle(WORKERS);
        let (connects, served) = (crowd.connects + few.connects, crowd.served + few.served);
        assert_eq!((pool.accepted, pool.done, pool.lost), (connects, served, 0), "{kind:?}: {pool:?}");
        ostler.stop_clean();
    }
}

#[test]
fn reloads_under_load_fail_no_request() {
    let _machine = alone();
    let rounds = if long_run() { 20 } else { 3 };
    for kind in KINDS {
        let mut ostler = start(kind);
        let before = ostler.descriptor_count();
        let sampler = Sampler::start(ostler.client());
        let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
        load.wait_for_more(100);
        for round in 1..=rounds {
            let output = ostler.command(&["reload"]);
            assert_eq!(output.code, 0, "{kind:?}, reload {round}: {output:?}\n{}", ostler.log());
        }
        load.wait_for_more(100);
        let tally = load.stop();
        println!("{kind:?}: {tally}");
        tally.assert_no_failure();
        sampler.finish().assert_balanced();
        let pool = ostler.wait_idle(WORKERS);
        assert_eq!((pool.generations(), pool.lost, pool.shed_total()), (vec![rounds + 1], 0, 0), "{kind:?}: {pool:?}");
        assert_eq!((pool.accepted, pool.done), (tally.connects, tally.served), "{kind:?}: {pool:?}");
        ostler.wait_descriptor_count(before);
        ostler.stop_clean();
    }
}

/// Kills a READY worker now and then; answers with those that were killed.
fn kill_some(ostler: &Ostler, length: Duration) -> BTreeSet<i32> {
    let (client, mut dice, mut killed) = (ostler.client(), Dice::new(), BTreeSet::new());
    every(KILL_EVERY, length, || {
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

#[test]
fn a_storm_of_kills_loses_only_what_was_claimed() {
    let _machine = alone();
    let length = Duration::from_secs(if long_run() { 60 } else { 3 });
    for kind in KINDS {
        // On a busy machine many are killed before they served anybody, which says nothing about the program.
        let patience = "start = { failures = 10000, backoff = [\"10ms\", \"100ms\"] }";
        let mut ostler = start_with(kind, WORKERS, patience);
        let sampler = Sampler::start(ostler.client());
        let load = Load::on(&ostler.unix("web.sock")).clients(CLIENTS).path("/sleep/1").start();
        load.wait_for_more(100);
        let killed = kill_some(&ostler, length);
        load.wait_for_more(100);
        let tally = load.stop();
        let kills = u64::try_from(killed.len()).expect("a few");
        let pool = ostler.wait_idle(WORKERS);
        println!("{kind:?}: {kills} kills, {} lost; {tally}", pool.lost);
        sampler.finish().assert_balanced();
        assert!(kills > 0, "{kind:?}: nobody was killed");
        assert!(tally.failed() <= pool.lost, "{kind:?}: failed requests that nobody had claimed: {tally}; {pool:?}");
        assert!(pool.lost <= kills * u64::from(kind.concurrency), "{kind:?}: {kills} kills, {tally}; {pool:?}");
        // Who was answered by a worker that died before it could report is lost in the books.
        assert!((pool.done..=pool.done + pool.lost).contains(&tally.served), "{kind:?}: {tally}; {pool:?}");
        assert_eq!((pool.accepted, pool.shed_total()), (tally.connects, 0), "{kind:?}: {tally}; {pool:?}");
        ostler.stop_clean();
    }
}

#[test]
fn a_stop_serves_what_is_held_and_what_waits() {
    for kind in KINDS {
        let mut ostler = start_with(kind, 1, "");
        let held = kind.concurrency as usize;
        let clients: Vec<Connection> = (0..held + 3).map(|_| open(&ostler)).collect();
        ostler.wait_status("all places are taken", |status| (status.only().claimed == held as u64).then_some(()));
        ostler.signal(Signal::SIGTERM);
        for mut client in clients {
            client.ask("/", Keep::Once).expect("ask");
            assert_eq!(client.answer().map(|answer| answer.status), Ok(200), "{kind:?}\n{}", ostler.log());
        }
        let ended = ostler.wait(SOON);
        assert_eq!(ended.code, 0, "{kind:?}: {}", ended.log);
        assert!(ended.log.contains(&format!("done={} lost=0 shed=0", held + 3)), "{kind:?}: {}", ended.log);
    }
}

#[test]
fn a_worker_that_gets_term_finishes_what_it_holds_and_is_replaced() {
    for kind in KINDS {
        let mut ostler = start_with(kind, 2, "");
        let mut client = open(&ostler);
        let holder = ostler.wait_status("somebody holds it", |status| {
            status.only().workers.iter().find(|worker| worker.claimed == 1).and_then(|worker| worker.pid)
        });
        // Several, as an impatient operator does.
        for _ in 0..3 {
            send(holder, Signal::SIGTERM);
        }
        ostler.wait_log(&["leaves by itself"]);
        let answer = client.get("/", Keep::Once).expect("finished");
        assert_eq!(answer.worker().expect("named").pid, holder, "{kind:?}");
        ostler.wait_gone(holder);
        let pool = ostler.wait_idle(2);
        assert_eq!((pool.lost, pool.done), (0, 1), "{kind:?}: {pool:?}");
        let log = ostler.log();
        assert_eq!(log.matches("leaves by itself").count(), 1, "{kind:?}:\n{log}");
        assert!(!log.contains("ended with"), "{kind:?}: it left with exit code 0:\n{log}");
        ostler.stop_clean();
    }
}

#[test]
fn signals_of_the_supervisor_do_nothing_to_a_worker() {
    use Signal::{SIGHUP, SIGINT, SIGPWR, SIGQUIT, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};
    let mut ostler = start_with(ASYNCIO, 1, "");
    let worker = ostler.status().only().pids()[0];
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU, SIGWINCH, SIGPWR] {
        send(worker, signal);
        assert!(get(&ostler, "/").contains(&format!("pid={worker}")), "after {signal}");
    }
    ostler.stop_clean();
}

#[test]
fn an_exception_is_an_outcome_and_not_a_death() {
    for kind in KINDS {
        let mut ostler = start_with(kind, 1, "");
        let worker = ostler.status().only().pids();
        assert!(get_once(&ostler.unix("web.sock"), "/raise", SOON).is_err());
        get(&ostler, "/");
        let pool = ostler.wait_idle(1);
        assert_eq!((pool.pids(), pool.done, pool.lost), (worker, 2, 0), "{kind:?}: {pool:?}");
        ostler.wait_log(&["the handler panicked; the worker goes on", "conn=c1"]);
        // In `pull` the loop is the program's own, and so is what it says.
        let said: &[&str] =
            if kind.mode == "pull" { &["raised it was asked to"] } else { &["OnPurpose: it was asked to"] };
        ostler.wait_log(said);
        ostler.stop_clean();
    }
}

#[test]
fn a_worker_knows_its_caller_and_how_long_he_waited() {
    let mut ostler = start_with(PULL, 1, "");
    let who = get(&ostler, "/who");
    let (uid, pid) = (nix::unistd::getuid(), std::process::id());
    assert!(who.contains(&format!("peer=Peer(uid={uid}, gid={}, pid={pid})", nix::unistd::getgid())), "{who}");
    assert!(who.contains("conn=c1 listener=0 waited=0."), "{who}");
    ostler.stop_clean();
}

#[test]
fn a_process_that_a_handler_forks_is_no_worker() {
    for kind in KINDS {
        let mut ostler = start_with(kind, 1, "");
        let worker = ostler.status().only().pids();
        assert!(get(&ostler, "/fork").contains("child=SIGTERM"), "{kind:?}");
        get(&ostler, "/");
        let pool = ostler.wait_idle(1);
        assert_eq!((pool.pids(), pool.done, pool.lost), (worker, 2, 0), "{kind:?}: {pool:?}\n{}", ostler.log());
        ostler.stop_clean();
    }
}

#[test]
fn a_loop_that_stands_still_is_replaced() {
    let quick = "watchdog = { heartbeat = \"2s\" }\ndrain = { kill_after = \"1s\" }";
    let mut ostler = start_with(ASYNCIO, 1, quick);
    let stands_still = ostler.status().only().pids()[0];
    let mut wedged = open(&ostler);
    wedged.ask("/spin/60000", Keep::Once).expect("ask");
    ostler.wait_log(&["does not move", "ABRT"]);
    ostler.wait_gone(stands_still);
    assert_eq!(ostler.wait_idle(1).lost, 1);
    ostler.stop_clean();
}

#[test]
fn a_thread_that_works_or_waits_for_longer_than_a_heartbeat_is_left_alone() {
    // As long as a busy machine may keep a process from its CPU.
    let mut ostler = start_with(THREADS, 1, "watchdog = { heartbeat = \"4s\" }");
    let before = ostler.status().only().pids();
    let since = Instant::now();
    get(&ostler, "/sleep/5500");
    wait_until(SOON, "it would be silent for too long", || since.elapsed() > Duration::from_secs(11));
    assert_eq!(ostler.wait_idle(1).pids(), before);
    assert!(!ostler.log_contains("does not move"), "{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn an_overdue_request_ends_its_worker_and_a_client_that_takes_its_time_does_not() {
    for kind in [THREADS, ASYNCIO] {
        // Nothing is recalled, so that one connection is not lost with the worker of the other.
        let quick = "watchdog = { request = \"1s\", slow = \"200ms\" }\ndrain = { kill_after = \"1s\" }\nrecall_after = \"60s\"";
        let mut ostler = start_with(kind, 2, quick);
        let (mut busy, mut silent) = (open(&ostler), open(&ostler));
        busy.ask("/sleep/60000", Keep::Once).expect("ask");
        ostler.wait_status("both are claimed", |status| (status.only().claimed == 2).then_some(()));
        ostler.wait_log(&["slow: a request takes"]);
        ostler.wait_log(&["is at one request"]);
        assert!(busy.answer().is_err());
        silent.ask("/", Keep::Once).expect("ask");
        assert_eq!(silent.answer().map(|answer| answer.status), Ok(200), "{kind:?}");
        assert_eq!(ostler.wait_idle(2).lost, 1);
        assert_eq!(ostler.log().matches("is at one request").count(), 1, "{}", ostler.log());
        ostler.stop_clean();
    }
}

#[test]
fn a_slow_worker_says_where_it_is_and_says_it_again_as_its_last_words() {
    let watchdog = "watchdog = { request = \"1s\", slow = \"200ms\" }\ndrain = { kill_after = \"1s\" }";
    let mut ostler = start_with(PULL, 1, watchdog);
    let mut client = open(&ostler);
    client.ask("/sleep/60000", Keep::Once).expect("ask");
    ostler.wait_log(&["slow: what the worker is doing"]);
    ostler.wait_log(&["hello.py", "in serve", "worker=web/0.1"]);
    assert!(client.answer().is_err());
    let deaths: serde_json::Value = wait_for(SOON, "it is dead", || {
        let deaths = serde_json::from_str(&ostler.command(&["deaths", "--json"]).stdout).ok()?;
        Some(deaths).filter(|deaths: &serde_json::Value| deaths["deaths"].as_array().is_some_and(|all| !all.is_empty()))
    });
    let words = deaths["deaths"][0]["last_words"].to_string();
    assert!(words.contains("Fatal Python error") && words.contains("in serve"), "{deaths:#}");
    assert_eq!(ostler.wait_idle(1).lost, 1);
    ostler.stop_clean();
}

#[test]
fn handlers_that_open_everything_cost_nobody_a_connection() {
    let _machine = alone();
    for kind in [PULL, THREADS] {
        let mut ostler = start_with(kind, 2, "process = { nofile = 32 }");
        let load = Load::on(&ostler.unix("web.sock")).clients(8).path("/glut").requests_each(25).run();
        load.assert_no_failure();
        let pool = ostler.wait_idle(2);
        assert_eq!((pool.lost, pool.done), (0, load.served), "{kind:?}: {pool:?}\n{}", ostler.log());
        ostler.stop_clean();
    }
}

#[test]
fn without_a_supervisor_what_was_handed_over_is_served_and_the_worker_is_gone() {
    for kind in KINDS {
        let ostler = start_with(kind, 1, "");
        let mut client = open(&ostler);
        ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
        ostler.signal(Signal::SIGKILL);
        assert_eq!(client.get("/", Keep::Once).map(|answer| answer.status), Ok(200), "{kind:?}");
        ostler.assert_no_process_left();
    }
}

#[test]
fn without_a_supervisor_a_hung_worker_is_gone_at_the_drain_deadline() {
    for kind in KINDS {
        let ostler = start_with(kind, 1, "drain = { timeout = \"300ms\" }");
        let mut client = open(&ostler);
        client.ask("/sleep/600000", Keep::Once).expect("ask");
        ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
        ostler.signal(Signal::SIGKILL);
        assert!(client.answer().is_err(), "{kind:?}");
        ostler.assert_no_process_left();
    }
}

#[test]
fn run_by_hand_a_worker_says_what_to_type() {
    for way in ["ostler_worker.serve(print)", "next(ostler_worker.connections())", "ostler_worker.connect()"] {
        let script = format!("import ostler_worker; {way}");
        let output = bounded::run(Command::new(place::python()).args(["-c", &script]), SOON);
        assert_eq!(output.code, 1, "{output:?}");
        let advice = "not started by ostler: try `ostler run --listen unix:app.sock -- ";
        assert!(output.stderr.contains(advice), "{output:?}");
        // Who asks for an error gets one; the others get one line.
        assert_eq!(output.stderr.contains("Traceback"), way.contains("connect("), "{output:?}");
    }
}

#[test]
fn the_package_passes_its_own_tests() {
    let mut command = Command::new(place::python());
    command.args(["-W", "error", "-m", "unittest", "discover", "-s", "tests"]);
    let output = bounded::run(command.current_dir(place::workspace().join("worker/python")), CHECK_LIMIT);
    assert_eq!(output.code, 0, "{}", output.text());
    assert!(!output.text().contains("Ran 0 tests"), "{}", output.text());
}

#[test]
fn the_package_and_its_tests_are_typed() {
    let package = place::workspace().join("worker/python");
    let programs = place::workspace().join("tests/programs/python");
    let mut command = Command::new(place::python());
    command.args(["-m", "mypy", "--strict", "--no-incremental", "src", "tests"]).arg(programs);
    let output = bounded::run(command.env("MYPYPATH", "src:tests").current_dir(package), CHECK_LIMIT);
    assert_eq!(output.code, 0, "{}", output.text());
}
