//! Time that passes without the supervisor, or without anybody.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::{Ostler, place, programs};

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than every timer in the configurations below.
const ABSENCE: Duration = Duration::from_millis(2500);

fn send(pids: &[i32], signal: Signal) {
    for pid in pids {
        // One that drains may have ended by now.
        let sent = kill(Pid::from_raw(*pid), signal);
        assert!(matches!(sent, Ok(()) | Err(Errno::ESRCH)), "{pid}: {sent:?}");
    }
}

/// Stops processes for longer than any timer runs.
fn freeze(pids: &[i32]) {
    send(pids, Signal::SIGSTOP);
    let since = Instant::now();
    wait_until(SOON, "every timer has run out", || since.elapsed() > ABSENCE);
    send(pids, Signal::SIGCONT);
}

#[test]
fn workers_that_become_ready_while_the_supervisor_is_away_are_not_late() {
    // More of them than the loop takes in at a time, and none that is ready at once.
    let command = programs::toml(&programs::slow_start(500));
    let config = format!(
        r#"
        [pool.web]
        listen = ["unix:web.sock"]
        command = {command}
        workers = 40
        start = {{ ready_timeout = "1500ms" }}
        "#
    );
    let mut ostler = Ostler::builder().config(config).start_unready();
    wait_until(SOON, "its first workers run", || ostler.processes().len() > 5);
    freeze(&[ostler.pid()]);
    let pool = ostler
        .wait_status("all are ready", |status| (status.only().ready().len() == 40).then(|| status.only().clone()));
    let log = ostler.log();
    assert!(!log.contains("not ready in time"), "{log}");
    ostler.wait_log(&["stopped", "deadlines"]);
    assert!(pool.workers.iter().all(|worker| worker.restarts == 0), "{pool:?}");
    ostler.stop_clean();
}

const DRAINS: &str = r#"
    [pool.web]
    listen = ["unix:web.sock"]
    workers = 2
    concurrency = 2
    drain = { timeout = "1s", kill_after = "1s" }
    queue = { timeout = "1s" }
"#;

#[test]
fn a_worker_that_finishes_while_the_supervisor_is_away_is_not_killed() {
    let mut ostler = Ostler::builder().config(DRAINS).start();
    let mut held = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
    held.ask("/sleep/700", Keep::Once).expect("ask");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    assert_eq!(ostler.command(&["reload"]).code, 0);
    freeze(&[ostler.pid()]);
    assert_eq!(held.answer().map(|answer| answer.status), Ok(200));
    let pool = ostler.wait_status("the old ones are gone", |status| {
        let pool = status.only();
        (pool.workers.len() == 2 && pool.ready().len() == 2 && pool.is_idle()).then(|| pool.clone())
    });
    assert_eq!((pool.lost, pool.done), (0, 1), "{pool:?}");
    assert!(!ostler.log_contains("gets KILL"), "{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn after_a_time_that_nobody_lived_everybody_goes_on() {
    let mut ostler = Ostler::builder().config(DRAINS).start();
    let before = ostler.status().only().pids();
    let mut held: Vec<Connection> = (0..4)
        .map(|_| {
            let mut connection = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
            connection.ask("/sleep/100", Keep::Alive).expect("ask");
            connection
        })
        .collect();
    ostler.wait_status("all are claimed", |status| (status.only().claimed == 4).then_some(()));
    freeze(&ostler.processes());
    for connection in &mut held {
        assert_eq!(connection.answer().map(|answer| answer.status), Ok(200));
        // Idle since then, they still belong to their workers, who live on.
        assert_eq!(connection.get("/", Keep::Once).map(|answer| answer.status), Ok(200));
    }
    get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!((pool.lost, pool.done, pool.pids()), (0, 5, before), "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn a_worker_that_drains_across_a_time_that_nobody_lived_keeps_its_time_to_finish() {
    let mut ostler = Ostler::builder().config(DRAINS).start();
    let mut held = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
    held.ask("/sleep/200", Keep::Once).expect("ask");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    assert_eq!(ostler.command(&["reload"]).code, 0);
    freeze(&ostler.processes());
    ostler.wait_status("the old ones are gone", |status| {
        let pool = status.only();
        (pool.workers.len() == 2 && pool.ready().len() == 2 && pool.is_idle()).then_some(())
    });
    let log = ostler.log();
    assert!(!log.contains("gets KILL") && !log.contains("gets ABRT"), "{log}");
    assert_eq!(held.answer().map(|answer| answer.status), Ok(200));
    ostler.stop_clean();
}

/// A jump of the wall clock can't be had on a machine with other work to do. What can be shown is that nothing reads it.
#[test]
fn no_decision_depends_on_the_wall_clock() {
    let mut hits = Vec::new();
    for dir in ["supervisor", "worker", "shared", "config"] {
        look_for_wall_clocks(place::workspace().join(dir), &mut hits);
    }
    assert!(hits.is_empty(), "{hits:#?}");
}

/// When a death was, when something was said, and how old what was published is, is shown to people, who read it off a wall.
const SHOWN: [&str; 11] = [
    "src/deaths.rs",
    "src/deaths/shown.rs",
    "src/deaths/programs.rs",
    "src/driver/noting.rs",
    "src/driver/publishing.rs",
    "src/commands/ask.rs",
    "src/logging/line.rs",
    "src/status.rs",
    "src/top/details.rs",
    "src/top/view/worker.rs",
    "examples/template.rs",
];

fn look_for_wall_clocks(dir: PathBuf, hits: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory of ours").flatten() {
        let path = entry.path();
        if path.is_dir() {
            look_for_wall_clocks(path, hits);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !SHOWN.iter().any(|shown| path.ends_with(shown))
        {
            let text = std::fs::read_to_string(&path).expect("readable");
            let reads =
                |line: &&str| ["SystemTime", "CLOCK_REALTIME", "gettimeofday"].iter().any(|word| line.contains(word));
            hits.extend(text.lines().filter(reads).map(|line| format!("{}: {}", path.display(), line.trim())));
        }
    }
}
