//! Is everybody who waits at a stop served, or told so in the books, in time?

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ostler_tests::builder::Builder;
use ostler_tests::deadline::{SLACK, SOON, alone};
use ostler_tests::http::{Connection, Failure, Keep, get_once};
use ostler_tests::status::{PoolState, SupervisorState};
use ostler_tests::{Ostler, Scratch, Target};

const WAITING: usize = 300;
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

fn targets(scratch: &Scratch, test: &str) -> [Target; 3] {
    let name = format!("ostler-{test}-{}", std::process::id());
    [Target::Unix(scratch.path("web.sock")), Target::Abstract(name), Target::free_tcp()]
}

fn start(scratch: &Scratch, target: &Target, queue: &str) -> Ostler {
    let config = format!(
        r#"
        [supervisor]
        stop_timeout = "4s"
        [pool.web]
        listen = ["{}"]
        workers = 2
        queue = {queue}
        drain = {{ timeout = "2s", kill_after = "1s" }}
        "#,
        target.listen()
    );
    Builder::new(scratch).config(config).start()
}

/// Connects so many clients, each with its request sent.
fn ask_all(target: &Target, path: &str) -> Vec<Connection> {
    (0..WAITING)
        .map(|_| {
            let mut connection = Connection::open(target, PATIENCE).expect("a place in a queue");
            connection.ask(path, Keep::Once).expect("room for a request");
            connection
        })
        .collect()
}

/// How many were served; all others were let go before any byte of an answer.
fn served(connections: Vec<Connection>) -> usize {
    let mut served = 0;
    for mut connection in connections {
        match connection.answer() {
            Ok(answer) => {
                assert_eq!(answer.status, 200);
                served += 1;
            }
            Err(failure) => assert_eq!(failure, Failure::CutFresh),
        }
    }
    served
}

#[test]
fn three_hundred_who_wait_are_all_served_when_there_is_time() {
    let _machine = alone();
    let scratch = Scratch::new();
    for target in targets(&scratch, "served") {
        let mut ostler = start(&scratch, &target, r#"{ timeout = "60s" }"#);
        let waiting = ask_all(&target, "/sleep/2");
        ostler.signal(Signal::SIGTERM);
        assert_eq!(served(waiting), WAITING, "{target:?}\n{}", ostler.log());
        let ended = ostler.wait(STOP_TIMEOUT + SLACK);
        assert_eq!(ended.code, 0, "{target:?}\n{}", ended.log);
        assert!(ended.log.contains("done=300"), "the last line has the totals:\n{}", ended.log);
        ostler.assert_no_process_left();
    }
}

#[test]
fn those_for_whom_there_is_no_time_are_shed_with_their_reason() {
    let _machine = alone();
    let scratch = Scratch::new();
    for target in targets(&scratch, "shed") {
        let mut ostler = start(&scratch, &target, r#"{ timeout = "60s" }"#);
        let waiting = ask_all(&target, "/sleep/100");
        let begun = Instant::now();
        ostler.signal(Signal::SIGTERM);
        let ended = ostler.wait(STOP_TIMEOUT + SLACK);
        assert!(begun.elapsed() < STOP_TIMEOUT + SLACK, "{target:?}");
        let served = served(waiting);
        assert_eq!(ended.code, 4, "{target:?}\n{}", ended.log);
        assert!(served > 0 && served < WAITING, "{target:?}: {served} served");
        let shed = WAITING - served;
        assert!(ended.log.contains("reason=\"stopping\"") || ended.log.contains("stopping"), "{}", ended.log);
        let totals = [format!("done={served}"), format!("shed={shed}"), "lost=0".to_owned()];
        let has_all = |line: &str| totals.iter().all(|total| line.contains(total));
        assert!(ended.log.lines().any(has_all), "{totals:?} in one line of\n{}", ended.log);
        ostler.assert_no_process_left();
    }
}

#[test]
fn what_is_in_the_kernels_queue_at_term_is_served_too() {
    let _machine = alone();
    let scratch = Scratch::new();
    for target in targets(&scratch, "kernel") {
        let mut ostler = start(&scratch, &target, r#"{ limit = 8, overflow = "wait", timeout = "60s" }"#);
        let waiting = ask_all(&target, "/sleep/5");
        let accepted = ostler.status().only().accepted;
        assert!(accepted < 250, "{accepted} are accepted already: the test shows nothing");
        ostler.signal(Signal::SIGTERM);
        assert_eq!(served(waiting), WAITING, "{target:?}\n{}", ostler.log());
        let ended = ostler.wait(STOP_TIMEOUT + SLACK);
        assert_eq!(ended.code, 0, "{target:?}\n{}", ended.log);
    }
}

#[test]
fn a_new_client_is_refused_during_a_stop() {
    let scratch = Scratch::new();
    let [unix, name, _tcp] = targets(&scratch, "refused");
    for target in [unix, name] {
        let mut ostler = start(&scratch, &target, "{}");
        let mut slow = Connection::open(&target, PATIENCE).expect("open");
        slow.ask("/sleep/1500", Keep::Once).expect("ask");
        ostler.wait_status("it is being served", |status| (status.only().claimed == 1).then_some(()));
        ostler.signal(Signal::SIGTERM);
        ostler.wait_log(&["stopping"]);
        ostler_tests::deadline::wait_until(SOON, "new clients are refused", || {
            get_once(&target, "/", PATIENCE) == Err(Failure::Refused)
        });
        assert_eq!(slow.answer().expect("who was there before is served").status, 200);
        assert_eq!(ostler.wait(STOP_TIMEOUT + SLACK).code, 0, "{}", ostler.log());
    }
}

#[test]
fn int_stops_fast_and_sheds_what_waits() {
    let _machine = alone();
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let mut ostler = start(&scratch, &target, r#"{ timeout = "60s" }"#);
    let waiting = ask_all(&target, "/sleep/300");
    ostler.wait_status("all wait", |status| (status.only().accepted == 300).then_some(()));
    ostler.signal(Signal::SIGINT);
    // TERM, two seconds, KILL.
    let ended = ostler.wait(Duration::from_secs(2) + SLACK);
    assert_eq!(ended.code, 4, "{}", ended.log);
    assert!(served(waiting) < WAITING);
    ostler.assert_no_process_left();
}

#[test]
fn int_during_a_graceful_stop_makes_it_fast() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let config = format!("[pool.web]\nlisten = [\"{}\"]\nworkers = 1\n", target.listen());
    let mut ostler = Builder::new(&scratch).config(config).start();
    let mut slow = Connection::open(&target, PATIENCE).expect("open");
    slow.ask("/sleep/60000", Keep::Once).expect("ask");
    ostler.wait_status("it is being served", |status| (status.only().claimed == 1).then_some(()));
    ostler.signal(Signal::SIGTERM);
    ostler.wait_log(&["stopping: "]);
    ostler.signal(Signal::SIGINT);
    // The graceful stop would take 30 seconds.
    let ended = ostler.wait(Duration::from_secs(2) + SLACK);
    assert_eq!(ended.code, 4, "{}", ended.log);
    assert_eq!(slow.answer(), Err(Failure::CutFresh));
}

#[test]
fn a_second_term_changes_nothing() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let mut ostler = start(&scratch, &target, "{}");
    let mut slow = Connection::open(&target, PATIENCE).expect("open");
    slow.ask("/sleep/1000", Keep::Once).expect("ask");
    ostler.wait_status("it is being served", |status| (status.only().claimed == 1).then_some(()));
    ostler.signal(Signal::SIGTERM);
    ostler.wait_log(&["stopping"]);
    ostler.signal(Signal::SIGTERM);
    ostler.signal(Signal::SIGQUIT);
    assert_eq!(slow.answer().expect("served all the same").status, 200);
    assert_eq!(ostler.wait(STOP_TIMEOUT + SLACK).code, 0, "{}", ostler.log());
}

fn start_delayed(scratch: &Scratch, target: &Target, delay: &str) -> Ostler {
    let config = format!(
        "[supervisor]\nshutdown_delay = \"{delay}\"\n[pool.web]\nlisten = [\"{}\"]\nworkers = 2\n",
        target.listen()
    );
    Builder::new(scratch).config(config).start()
}

#[test]
fn a_delayed_stop_says_so_at_once_and_serves_new_clients_until_the_delay_is_over() {
    let _machine = alone();
    let scratch = Scratch::new();
    for target in targets(&scratch, "delayed") {
        let mut ostler = start_delayed(&scratch, &target, "4s");
        let begun = Instant::now();
        ostler.signal(Signal::SIGTERM);
        ostler.wait_log(&["accepting for 4s more"]);
        let status = ostler.status();
        assert_eq!((status.state, status.only().state), (SupervisorState::Stopping, PoolState::Ready));
        assert_eq!(get_once(&target, "/", PATIENCE).expect("served as before").status, 200);
        let refused = ostler.command(&["reload"]);
        assert!(refused.code != 0 && refused.stderr.contains("stop"), "{refused:?}");
        ostler.signal(Signal::SIGTERM);
        let ended = ostler.wait(Duration::from_secs(4) + SLACK);
        assert!(begun.elapsed() >= Duration::from_secs(4), "{target:?}: it did not wait");
        assert_eq!(ended.code, 0, "{target:?}\n{}", ended.log);
        assert!(ended.log.contains("done=1"), "{}", ended.log);
        ostler.assert_no_process_left();
    }
}

#[test]
fn int_during_the_delay_of_a_stop_makes_it_fast() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let mut ostler = start_delayed(&scratch, &target, "20s");
    ostler.signal(Signal::SIGTERM);
    ostler.wait_log(&["accepting for 20s more"]);
    ostler.signal(Signal::SIGINT);
    assert_eq!(ostler.wait(Duration::from_secs(2) + SLACK).code, 0, "{}", ostler.log());
}

#[test]
fn nobody_scales_a_pool_during_the_delay_of_a_stop_neither_by_command_nor_by_signal() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let mut ostler = start_delayed(&scratch, &target, "20s");
    let workers = ostler.status().only().pids();
    ostler.signal(Signal::SIGTERM);
    ostler.wait_log(&["accepting for 20s more"]);
    for change in ["4", "+1", "-1", "2"] {
        let refused = ostler.command(&["scale", "web", change]);
        assert!(refused.code == 1 && refused.stderr.contains("the supervisor is stopping"), "{change}: {refused:?}");
    }
    for signal in [Signal::SIGTTIN, Signal::SIGTTOU] {
        ostler.signal(signal);
        ostler.wait_log(&[signal.as_str()]);
        let status = ostler.status();
        let pool = status.only();
        assert_eq!(
            (status.state, pool.state, pool.target),
            (SupervisorState::Stopping, PoolState::Ready, 2),
            "{pool:?}"
        );
        assert_eq!(pool.pids(), workers, "{signal}: nobody came and nobody went");
    }
    assert_eq!(get_once(&target, "/", PATIENCE).expect("served as before").status, 200);
    ostler.signal(Signal::SIGINT);
    assert_eq!(ostler.wait(Duration::from_secs(2) + SLACK).code, 0, "{}", ostler.log());
}

#[test]
fn a_worker_that_does_not_finish_in_time_is_killed_and_its_connection_lost() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let mut ostler = start(&scratch, &target, "{}");
    let mut stuck = Connection::open(&target, PATIENCE).expect("open");
    stuck.ask("/spin/10000000", Keep::Once).expect("ask");
    ostler.wait_status("it is being served", |status| (status.only().claimed == 1).then_some(()));
    ostler.signal(Signal::SIGTERM);
    let ended = ostler.wait(STOP_TIMEOUT + SLACK);
    assert_eq!(ended.code, 4, "{}", ended.log);
    assert_eq!(stuck.answer(), Err(Failure::CutFresh));
    assert!(ended.log.contains("lost=1"), "{}", ended.log);
    ostler.assert_no_process_left();
}

#[test]
fn a_kept_connection_that_idles_does_not_hold_up_a_stop() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let mut ostler = start(&scratch, &target, "{}");
    let mut idle = Connection::open(&target, PATIENCE).expect("open");
    assert_eq!(idle.get("/", Keep::Alive).expect("served").status, 200);
    ostler.signal(Signal::SIGTERM);
    assert!(idle.closed_in_order());
    assert_eq!(ostler.wait(STOP_TIMEOUT + SLACK).code, 0, "{}", ostler.log());
}
