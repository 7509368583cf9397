//! Does a stop that comes in the middle of a reload end both, in time, with nothing left behind and an answer for whoever asked?

use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::bounded::Output;
use ostler_tests::deadline::{SLACK, SOON};
use ostler_tests::http::{Connection, Failure, Keep, get_once};
use ostler_tests::scratch::leftovers;
use ostler_tests::status::{Pool, Status, SupervisorState, WorkerState};
use ostler_tests::{Builder, Ended, Ostler, Scratch, programs};

const WORKERS: usize = 3;
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
const AT_ONCE: &str = r#"stop_timeout = "8s""#;
/// So long that whatever a test sees happens during the delay.
const DELAYED: &str = r#"stop_timeout = "90s", shutdown_delay = "80s""#;
/// What a fast stop leaves workers between TERM and KILL.
const FAST: Duration = Duration::from_secs(2);

/// How far the reload is when the signal comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The canary has not said READY.
    Starting,
    /// The canary serves and has to prove itself; the others have not begun.
    OnProbation,
    /// One slot has moved, its old worker finishes what it holds, the others wait for that.
    Moving,
    /// A new worker has failed, and the slot that had moved waits for a worker of the old generation.
    GoingBack,
}

impl Stage {
    /// The new generation, which gets no further than this stage.
    fn config(self, scratch: &Scratch, stop: &str) -> String {
        let good = programs::slow_start(0);
        let once = scratch.path("once").display().to_string();
        let (command, reload) = match self {
            Stage::Starting => (vec!["/bin/sleep".to_owned(), "600".to_owned()], "{ surge = 1 }"),
            Stage::OnProbation => (good, r#"{ probation = "60s" }"#),
            Stage::Moving => (good, "{ surge = 1 }"),
            // The first start succeeds, every later one fails.
            Stage::GoingBack => (sh(&format!("mkdir {once} || exit 4; exec {} 0", good[0])), "{ surge = 1 }"),
        };
        // Another pool that the reload would add: nothing of its listener may stay either.
        let other = programs::toml(&programs::slow_start(0));
        format!(
            "{}\n[pool.new]\nlisten = [\"unix:new.sock\"]\ncommand = {other}\nworkers = 1\n",
            config(stop, &programs::toml(&command), reload)
        )
    }

    /// Whether the reload has got there; from then on it stays there.
    fn is_reached(self, status: &Status) -> bool {
        let pool = status.pool("web");
        let count = |generation: u32, state: WorkerState| {
            pool.in_state(state).iter().filter(|worker| worker.generation == generation).count()
        };
        let [old, new] = [1, 2].map(|generation| count(generation, WorkerState::Ready));
        let is_there = match self {
            Stage::Starting => old == WORKERS && count(2, WorkerState::Starting) == 1,
            Stage::OnProbation => (old, new) == (WORKERS - 1, 1) && pool.workers.len() == WORKERS,
            Stage::Moving => (old, new) == (WORKERS - 1, 1) && count(1, WorkerState::Draining) == 1,
            Stage::GoingBack => (old, new) == (WORKERS - 1, 1) && count(1, WorkerState::Starting) == 1,
        };
        is_there && status.state == SupervisorState::Reloading
    }
}

fn sh(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

fn config(stop: &str, command: &str, reload: &str) -> String {
    format!(
        r#"
        supervisor = {{ {stop} }}
        [pool.web]
        listen = ["unix:web.sock"]
        command = {command}
        workers = {WORKERS}
        start = {{ ready_timeout = "60s" }}
        drain = {{ timeout = "60s", kill_after = "1s" }}
        reload = {reload}
        "#
    )
}

/// Who is served when the signal comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clients {
    Nobody,
    /// Each worker that serves holds a connection, whose request is yet to come.
    Everywhere,
}

/// A reload in one of its stages, with somebody who waits for its verdict.
struct Scene {
    ostler: Ostler,
    reload: JoinHandle<Output>,
    held: Vec<Connection>,
}

impl Scene {
    fn at(stage: Stage, stop: &str, clients: Clients) -> Scene {
        let scratch = Scratch::new();
        let stall = scratch.path("stall").display().to_string();
        let old = sh(&format!("[ ! -e {stall} ] || exec sleep 600; exec {} 0", programs::slow_start(0)[0]));
        let old = config(stop, &programs::toml(&old), "{ surge = 1 }");
        let ostler = Builder::new(&scratch).config(old).start();
        // From now on nobody of the old generation gets READY any more.
        scratch.write("stall", "");
        // What an old worker holds is what keeps a reload between two slots.
        let mut held = if stage == Stage::Moving { hold(&ostler) } else { Vec::new() };
        ostler.rewrite_config(&stage.config(&scratch, stop));
        let client = ostler.client();
        let reload = thread::spawn(move || client.command(&["reload"]));
        ostler.wait_status(&format!("the reload is {stage:?}"), |status| stage.is_reached(status).then_some(()));
        if held.is_empty() && clients == Clients::Everywhere {
            held = hold(&ostler);
        }
        Scene { ostler, reload, held }
    }

    /// What has to be true after every stop: in time, the exit code, nothing left, and a clear answer.
    fn assert_over(self, stage: Stage, limit: Duration, code: i32) -> Ended {
        let Scene { mut ostler, reload, .. } = self;
        let ended = ostler.wait(limit + SLACK);
        assert_eq!(ended.code, code, "{stage:?}\n{}", ended.log);
        ostler.assert_no_process_left();
        assert_eq!(leftovers(ostler.scratch().dir()), Vec::<PathBuf>::new(), "{stage:?}");
        assert_told(reload, stage);
        ended
    }
}

/// Whoever asked for the reload has heard what became of it.
fn assert_told(reload: JoinHandle<Output>, stage: Stage) {
    let said = reload.join().expect("no panic");
    assert_eq!(said.code, 3, "{stage:?}: {said:?}");
    assert!(said.stderr.contains("reload undone: the supervisor stops"), "{stage:?}: {said:?}");
    let was_going_back = said.stderr.contains("worker web/1.2 ended with exit code 4 before it was ready; going back");
    assert_eq!(was_going_back, stage == Stage::GoingBack, "{stage:?}: {said:?}");
}

/// One client at each worker that serves.
fn hold(ostler: &Ostler) -> Vec<Connection> {
    let open = || Connection::open(&ostler.unix("web.sock"), SOON).expect("a place in the queue");
    let held: Vec<Connection> = (0..WORKERS).map(|_| open()).collect();
    let is_held = |pool: &Pool| pool.claimed == WORKERS as u64;
    ostler.wait_status("each is held", |status| is_held(status.pool("web")).then_some(()));
    held
}

/// TERM: whoever was there is served, nobody is killed, and both are over as soon as that is done.
fn term_at(stage: Stage) {
    let mut scene = Scene::at(stage, AT_ONCE, Clients::Everywhere);
    scene.ostler.signal(Signal::SIGTERM);
    scene.ostler.wait_log(&["stopping: "]);
    for held in &mut scene.held {
        held.ask("/", Keep::Once).expect("room for a request");
        assert_eq!(held.answer().expect("served all the same").status, 200, "{stage:?}");
    }
    let ended = scene.assert_over(stage, STOP_TIMEOUT, 0);
    let total = ended.log.lines().find(|line| line.contains("pool=web done="));
    assert!(total.is_some_and(|line| line.contains("done=3 lost=0 shed=0")), "{stage:?}: {total:?}");
}

/// INT: whoever does not let go of his client within two seconds is killed, and the exit code says so.
fn int_at(stage: Stage) {
    let mut scene = Scene::at(stage, AT_ONCE, Clients::Everywhere);
    scene.ostler.signal(Signal::SIGINT);
    let held = std::mem::take(&mut scene.held);
    let ended = scene.assert_over(stage, FAST, 4);
    for mut held in held {
        assert_eq!(held.answer(), Err(Failure::CutFresh), "{stage:?}");
    }
    let total = ended.log.lines().find(|line| line.contains("pool=web done="));
    assert!(total.is_some_and(|line| line.contains("done=0 lost=3 shed=0")), "{stage:?}: {total:?}");
}

#[test]
fn term_before_the_first_new_worker_is_ready_ends_both() {
    term_at(Stage::Starting);
}

#[test]
fn term_during_probation_ends_both() {
    term_at(Stage::OnProbation);
}

#[test]
fn term_between_two_slots_ends_both() {
    term_at(Stage::Moving);
}

#[test]
fn term_during_an_undo_ends_both() {
    term_at(Stage::GoingBack);
}

#[test]
fn int_before_the_first_new_worker_is_ready_ends_both() {
    int_at(Stage::Starting);
}

#[test]
fn int_during_probation_ends_both() {
    int_at(Stage::OnProbation);
}

#[test]
fn int_between_two_slots_ends_both() {
    int_at(Stage::Moving);
}

#[test]
fn int_during_an_undo_ends_both() {
    int_at(Stage::GoingBack);
}

#[test]
fn int_in_the_middle_of_a_reload_costs_nothing_when_nobody_is_served() {
    for stage in [Stage::Starting, Stage::OnProbation, Stage::GoingBack] {
        let scene = Scene::at(stage, AT_ONCE, Clients::Nobody);
        scene.ostler.signal(Signal::SIGINT);
        scene.assert_over(stage, FAST, 0);
    }
}

#[test]
fn a_delayed_stop_ends_a_reload_at_once_and_goes_on_serving() {
    for stage in [Stage::Starting, Stage::OnProbation, Stage::Moving, Stage::GoingBack] {
        let Scene { mut ostler, reload, held } = Scene::at(stage, DELAYED, Clients::Everywhere);
        ostler.signal(Signal::SIGTERM);
        assert_told(reload, stage);
        assert!(!ostler.scratch().path("new.sock").exists(), "{stage:?}: it will never be listened on");
        for mut held in held {
            assert_eq!(held.get("/", Keep::Once).expect("served as before").status, 200, "{stage:?}");
        }
        get_once(&ostler.unix("web.sock"), "/", SOON).unwrap_or_else(|failure| panic!("{stage:?}: {failure}"));
        assert_eq!(ostler.status().state, SupervisorState::Stopping, "{stage:?}");
        ostler.signal(Signal::SIGINT);
        let ended = ostler.wait(FAST + SLACK);
        assert_eq!(ended.code, 0, "{stage:?}\n{}", ended.log);
        ostler.assert_no_process_left();
    }
}

#[test]
fn a_worker_of_a_reload_that_a_stop_cut_short_is_replaced_by_one_of_the_generation_in_force() {
    let Scene { mut ostler, reload, .. } = Scene::at(Stage::OnProbation, DELAYED, Clients::Nobody);
    ostler.signal(Signal::SIGTERM);
    assert_told(reload, Stage::OnProbation);
    std::fs::remove_file(ostler.scratch().path("stall")).expect("it was written");
    let canary = ostler.wait_status("the canary serves on", |status| {
        status.pool("web").ready().into_iter().find(|worker| worker.generation == 2)?.pid
    });
    kill(Pid::from_raw(canary), Signal::SIGKILL).expect("a worker of ours");
    ostler.wait_status("three workers of the first generation", |status| {
        let pool = status.pool("web");
        (pool.ready().len() == WORKERS && pool.generations() == [1]).then_some(())
    });
    ostler.signal(Signal::SIGINT);
    let ended = ostler.wait(FAST + SLACK);
    assert_eq!(ended.code, 0, "{}", ended.log);
    ostler.assert_no_process_left();
}
