//! Do unmodified programs serve as workers, and lose nothing over reloads and kills?

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, alone, every, long_run, wait_until};
use ostler_tests::dice::Dice;
use ostler_tests::http::get_once;
use ostler_tests::load::Load;
use ostler_tests::sampler::Sampler;
use ostler_tests::target::Target;
use ostler_tests::{Ostler, Scratch, place, procs, programs};

const WORKERS: usize = 4;
const CLIENTS: usize = 32;
/// Interpreters take their time, the more so when several start at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn uvicorn() -> Vec<String> {
    let (program, app) = (shown(&place::unmodified_python("uvicorn")), place::unmodified("app.py"));
    let dir = shown(app.parent().expect("it lies in a directory"));
    words(&[&program, "app:app", "--app-dir", &dir, "--fd", "3", "--no-access-log"])
}

fn node() -> Vec<String> {
    words(&["node", &shown(&place::unmodified("app.js"))])
}

fn start(target: &Target, command: &[String], more: &str) -> Ostler {
    let config = format!(
        "[pool.main]\nlisten = [{:?}]\ncommand = {}\nworkers = {WORKERS}\nhandoff = \"accept\"\n{more}\n",
        target.listen(),
        programs::toml(command),
    );
    Ostler::builder().config(config).ready_within(PATIENCE).start()
}

fn inode(target: &Target) -> Option<u64> {
    match target {
        Target::Unix(path) => Some(fs::symlink_metadata(path).expect("the listener's path").ino()),
        Target::Abstract(_) | Target::Tcp(_) => None,
    }
}

fn serves_evenly_and_reloads_without_a_loss(target: &Target, command: &[String]) {
    let _machine = alone();
    let mut ostler = start(target, command, "");
    let before = (ostler.descriptor_count(), inode(target));
    // Interpreters warm up, and not all at the same time.
    let warm = Load::on(target).clients(CLIENTS).requests_each(50).run();
    warm.assert_no_failure();
    // Requests that take time and no CPU: who is slower than the others on a busy machine rightly gets less.
    let even = Load::on(target).clients(CLIENTS).path("/sleep/200").requests_each(20).run();
    even.assert_no_failure();
    println!("{even}; most/least {:.2}", even.unfairness());
    assert_eq!(even.workers.len(), WORKERS);
    assert!(even.unfairness() < 1.5, "{:?}", even.workers);

    let sampler = Sampler::start(ostler.client());
    let load = Load::on(target).clients(CLIENTS).start();
    load.wait_for_more(100);
    let reloads = if long_run() { 20 } else { 5 };
    for _ in 0..reloads {
        let output = ostler.command(&["reload"]);
        assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
        load.wait_for_more(100);
    }
    let tally = load.stop();
    let seen = sampler.finish();
    println!("{reloads} reloads, {} snapshots: {tally}", seen.snapshots);
    tally.assert_no_failure();
    seen.assert_balanced();
    assert_eq!(inode(target), before.1, "the path is the same");
    let pool = ostler.wait_status("idle, and the old ones are gone", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.workers.len() == WORKERS).then(|| pool.clone())
    });
    assert_eq!((pool.lost, pool.shed_total(), pool.check_books()), (0, 0, Ok(())), "{pool:?}");
    assert_eq!(pool.done, warm.served + even.served + tally.served, "{pool:?}");
    ostler.wait_descriptor_count(before.0);
    assert!(!ostler.log_contains("broke the protocol"), "{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn uvicorn_serves_evenly_and_reloads_without_a_loss_on_unix() {
    let scratch = Scratch::new();
    serves_evenly_and_reloads_without_a_loss(&Target::Unix(scratch.path("app.sock")), &uvicorn());
}

#[test]
fn node_serves_evenly_and_reloads_without_a_loss_on_tcp() {
    serves_evenly_and_reloads_without_a_loss(&Target::free_tcp(), &node());
}

#[test]
fn node_serves_evenly_and_reloads_without_a_loss_on_unix() {
    let scratch = Scratch::new();
    serves_evenly_and_reloads_without_a_loss(&Target::Unix(scratch.path("app.sock")), &node());
}

/// An arbiter with a worker of its own, which is forked before there is anything to serve.
fn gunicorn() -> Vec<String> {
    let (program, app) = (shown(&place::unmodified_python("gunicorn")), place::unmodified("wsgi.py"));
    let dir = shown(app.parent().expect("it lies in a directory"));
    words(&[&program, "--workers", "1", "--chdir", &dir, "wsgi:app"])
}

#[test]
fn gunicorn_serves_from_a_forked_process_and_reloads_without_a_loss() {
    let _machine = alone();
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    // Its synchronous worker serves one at a time.
    let mut ostler = start(&target, &gunicorn(), "concurrency = 1");
    let before = (ostler.descriptor_count(), inode(&target));
    let load = Load::on(&target).clients(8).start();
    load.wait_for_more(100);
    for _ in 0..2 {
        let output = ostler.command(&["reload"]);
        assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
        load.wait_for_more(100);
    }
    let tally = load.stop();
    println!("{tally}");
    tally.assert_no_failure();
    let pool = ostler.wait_status("idle, and the old ones are gone", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.workers.len() == WORKERS).then(|| pool.clone())
    });
    assert_eq!((pool.lost, pool.shed_total(), pool.done), (0, 0, tally.served), "{pool:?}");
    assert_eq!(inode(&target), before.1, "it unlinks what it was given, to no effect");
    // Each arbiter has a child, and each child that has held something is watched.
    ostler.wait_descriptor_count(before.0 + WORKERS);
    ostler.stop_clean();
}

#[test]
fn what_a_killed_child_held_is_lost_and_its_worker_serves_on() {
    let _machine = alone();
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    let mut ostler = start(&target, &gunicorn(), "concurrency = 1");
    let workers = ostler.status().only().pids();
    for lost in 1..=3 {
        // The child is in the middle of a request, which is not complete.
        let mut cut = target.connect(PATIENCE).expect("connected");
        cut.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").expect("it is read by somebody");
        let held = ostler.wait_status("one is held", |status| {
            status.only().workers.iter().find(|worker| worker.claimed == 1).and_then(|worker| worker.pid)
        });
        let child =
            ostler.processes().into_iter().find(|pid| procs::stat(*pid).is_some_and(|stat| stat.parent == held));
        kill(Pid::from_raw(child.expect("an arbiter has a child")), Signal::SIGKILL).expect("it is there");
        let pool =
            ostler.wait_status("it is lost", |status| (status.only().lost == lost).then(|| status.only().clone()));
        assert_eq!((pool.claimed, pool.check_books()), (0, Ok(())), "{pool:?}");
    }
    Load::on(&target).clients(8).requests_each(10).run().assert_no_failure();
    assert_eq!(ostler.status().only().pids(), workers, "the arbiters live");
    ostler.wait_log(&["that held it has died"]);
    ostler.stop_clean();
}

#[test]
fn a_process_for_each_connection_holds_it_to_its_end() {
    let _machine = alone();
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    let command = words(&[&shown(&place::unmodified_python("python")), &shown(&place::unmodified("forking.py"))]);
    let mut ostler = start(&target, &command, "concurrency = 2");
    let tally = Load::on(&target).clients(8).requests_each(25).run();
    println!("{tally}");
    tally.assert_no_failure();
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!((pool.lost, pool.done, pool.check_books()), (0, tally.served, Ok(())), "{pool:?}");
    ostler.stop_clean();
}

fn kills_fail_at_most_what_was_claimed(target: &Target, command: &[String]) {
    let _machine = alone();
    let mut dice = Dice::new();
    let more = "start = { failures = 10000, backoff = [\"10ms\", \"100ms\"] }";
    let mut ostler = start(target, command, more);
    let sampler = Sampler::start(ostler.client());
    let load = Load::on(target).clients(CLIENTS).path("/sleep/1").start();
    load.wait_for_more(100);
    let (client, mut kills) = (ostler.client(), 0);
    every(Duration::from_millis(500), Duration::from_secs(if long_run() { 30 } else { 4 }), || {
        let status = client.status();
        let ready: Vec<i32> = status.only().ready().iter().filter_map(|worker| worker.pid).collect();
        if let Some(pid) = dice.pick(&ready) {
            kills += u64::from(kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok());
        }
    });
    load.wait_for_more(100);
    let tally = load.stop();
    let seen = sampler.finish();
    println!("{kills} kills, {} snapshots: {tally}", seen.snapshots);
    seen.assert_balanced();
    assert!(kills >= 4, "only {kills} kills");
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert!(tally.failed() <= pool.lost, "failed requests that nobody had claimed: {tally}; {pool:?}");
    assert_eq!((pool.accepted, pool.shed_total()), (tally.connects, 0), "{tally}; {pool:?}");
    ostler.wait_status("all workers are back", |status| (status.only().ready().len() == WORKERS).then_some(()));
    ostler.stop_clean();
}

#[test]
fn kills_of_uvicorn_fail_at_most_what_was_claimed() {
    let scratch = Scratch::new();
    kills_fail_at_most_what_was_claimed(&Target::Unix(scratch.path("app.sock")), &uvicorn());
}

#[test]
fn kills_of_node_fail_at_most_what_was_claimed() {
    kills_fail_at_most_what_was_claimed(&Target::free_tcp(), &node());
}

#[test]
fn the_end_of_the_supervisor_is_a_signal_and_not_a_readable_listener() {
    let command = words(&[&shown(&place::unmodified_python("python")), &shown(&place::unmodified("deaf.py")), "notes"]);
    let config = format!(
        "[pool.main]\nlisten = [\"unix:app.sock\"]\ncommand = {}\nworkers = {WORKERS}\nhandoff = \"accept\"\n",
        programs::toml(&command),
    );
    let mut ostler = Ostler::builder().config(config).ready_within(PATIENCE).start();
    let (target, notes) = (ostler.unix("app.sock"), ostler.scratch().path("notes"));
    get_once(&target, "/", SOON).expect("served");
    let pids = ostler.status().only().pids();
    let said = |what: &str| {
        let text = fs::read_to_string(&notes).unwrap_or_default();
        text.lines().filter(|line| *line == what).count()
    };
    let before = said("event");
    ostler.signal(Signal::SIGKILL);
    ostler.wait(SOON);
    wait_until(SOON, "each is asked to leave", || said("TERM") >= WORKERS);
    let quiet = said("quiet");
    wait_until(SOON, "they wait in silence", || said("quiet") >= quiet + 4 * WORKERS);
    // The end woke each of them once; whoever shows it to a loop wakes it for ever.
    assert!(said("event") <= before + 2 * WORKERS, "{}", said("event"));
    for pid in pids {
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is deaf to TERM");
        wait_until(SOON, "its end", || !procs::alive(pid));
    }
}

fn python(name: &str) -> Vec<String> {
    words(&[&shown(&place::unmodified_python("python")), &shown(&place::unmodified(name))])
}

#[test]
fn whatever_a_program_does_to_its_listener_it_serves_and_the_path_stays() {
    let config = format!(
        "[pool.main]\nlisten = [\"unix:app.sock\"]\ncommand = {}\nworkers = 2\nhandoff = \"accept\"\n\
         process = {{ env = {{ LD_PRELOAD = \"/no/such/library.so\" }} }}\n",
        programs::toml(&python("odd.py")),
    );
    let mut ostler = Ostler::builder().config(config).ready_within(PATIENCE).start();
    let target = ostler.unix("app.sock");
    let before = inode(&target);
    let tally = Load::on(&target).clients(8).requests_each(25).run();
    println!("{tally}");
    tally.assert_no_failure();
    assert_eq!(inode(&target), before);
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!((pool.lost, pool.done, pool.workers.len()), (0, tally.served, 2), "{pool:?}");
    assert!(pool.workers.iter().all(|worker| worker.restarts == 0), "{pool:?}\n{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn a_program_that_stood_still_is_trusted_again_when_it_goes_on() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    let mut ostler = start(&target, &node(), "");
    let stopped = Pid::from_raw(ostler.status().only().pids()[0]);
    kill(stopped, Signal::SIGSTOP).expect("it is there");
    // What it is handed others serve, and it is asked for a sign of life: the first question of this supervisor.
    Load::on(&target).clients(WORKERS).requests_each(5).run().assert_no_failure();
    ostler.wait_log(&["does not claim though it has places"]);
    kill(stopped, Signal::SIGCONT).expect("it is there");
    ostler.wait_log(&["claims again"]);
    ostler.stop_clean();
}

#[test]
fn a_program_that_never_accepts_fails_with_a_remedy() {
    let config = "[pool.main]\nlisten = [\"unix:app.sock\"]\ncommand = [\"sleep\", \"600\"]\nhandoff = \"accept\"\n\
                  start = { ready_timeout = \"300ms\", failures = 1 }\n";
    let ended = Ostler::builder().config(config).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains("it never waited for connections: tell it to listen on descriptor 3"), "{}", ended.log);
}

#[test]
fn a_program_that_lets_nobody_go_keeps_its_own_places_and_a_deadline_ends_it() {
    let config = format!(
        "[pool.main]\nlisten = [\"unix:app.sock\"]\ncommand = {}\nworkers = 1\nconcurrency = 2\nhandoff = \"accept\"\n\
         watchdog = {{ request = \"1s\" }}\ndrain = {{ kill_after = \"1s\" }}\n",
        programs::toml(&python("greedy.py")),
    );
    let mut ostler = Ostler::builder().config(config).ready_within(PATIENCE).start();
    let target = ostler.unix("app.sock");
    let clients: Vec<_> = (0..3).map(|_| target.connect(PATIENCE).expect("connected")).collect();
    let pool = ostler.wait_status("two are held and one waits", |status| {
        let pool = status.only();
        (pool.claimed == 2 && pool.queue.length == 1).then(|| pool.clone())
    });
    assert_eq!(pool.check_books(), Ok(()), "{pool:?}");
    ostler.wait_log(&["is at one request"]);
    ostler.wait_status("two are lost, and the third is held by the next worker", |status| {
        let pool = status.only();
        (pool.lost == 2 && pool.claimed == 1).then_some(())
    });
    drop(clients);
    // The watchdog ends this one as well, or the stop does.
    ostler.signal(Signal::SIGINT);
    ostler.wait(SOON);
    ostler.assert_no_process_left();
}
