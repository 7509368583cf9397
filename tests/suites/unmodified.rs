//! What do programs that know nothing of ostler do to their listener, and what becomes of it? Real servers under load are the
//! suite `interop`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, alone, wait_until};
use ostler_tests::http::get_once;
use ostler_tests::load::Load;
use ostler_tests::target::Target;
use ostler_tests::{Ostler, Scratch, place, procs, programs};

const WORKERS: usize = 4;
/// Interpreters take their time, the more so when several start at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
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

/// An arbiter with a worker of its own, which is forked before there is anything to serve.
fn gunicorn() -> Vec<String> {
    let (program, app) = (shown(&place::unmodified_python("gunicorn")), place::unmodified("wsgi.py"));
    let dir = shown(app.parent().expect("it lies in a directory"));
    words(&[&program, "--workers", "1", "--chdir", &dir, "wsgi:app"])
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

fn node() -> Vec<String> {
    words(&["node", &shown(&place::unmodified("app.js"))])
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
    ostler.wait_log(&["is handed connections again"]);
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

#[test]
fn a_program_that_closes_its_listener_leaves_and_is_replaced() {
    let config = format!(
        "[pool.main]\nlisten = [\"unix:app.sock\"]\ncommand = {}\nworkers = 1\nhandoff = \"accept\"\n\
         drain = {{ timeout = \"300ms\", kill_after = \"1s\" }}\n",
        programs::toml(&python("closing.py")),
    );
    let mut ostler = Ostler::builder().config(config).ready_within(PATIENCE).start();
    let target = ostler.unix("app.sock");
    for _ in 0..3 {
        let before = ostler.status().only().pids();
        get_once(&target, "/", PATIENCE).expect("served by whoever still listens");
        // It stays for ever, and is told to go.
        before.iter().for_each(|pid| ostler.wait_gone(*pid));
        ostler.wait_status("another one listens", |status| (status.only().ready().len() == 1).then_some(()));
    }
    let pool = ostler.status().only().clone();
    assert_eq!((pool.lost, pool.shed_total(), pool.done), (0, 0, 3), "{pool:?}");
    ostler.stop_clean();
}
