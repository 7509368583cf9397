//! Is what an unmodified program says of itself heard, and believed as far as it can be?

use std::fs;
use std::io::Write;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_shared::scoreboard::file::{Board, beside};
use ostler_tests::deadline::{SOON, wait_for};
use ostler_tests::http::get_once;
use ostler_tests::load::Load;
use ostler_tests::status::{Worker, WorkerState};
use ostler_tests::{Builder, Ostler, Scratch, place, programs};

/// Interpreters take their time.
const PATIENCE: Duration = Duration::from_secs(60);

fn command() -> Vec<String> {
    let shown = |path: std::path::PathBuf| path.display().to_string();
    vec![shown(place::unmodified_python("python")), shown(place::unmodified("notifying.py")), "words".to_owned()]
}

fn config(more: &str) -> String {
    format!(
        "[pool.main]\nlisten = [\"unix:app.sock\"]\ncommand = {}\nworkers = 1\nhandoff = \"accept\"\n{more}\n",
        programs::toml(&command()),
    )
}

/// Starts, and waits for nothing.
fn start(more: &str) -> Ostler {
    let scratch = Scratch::new();
    scratch.write("words", "");
    Builder::new(&scratch).config(config(more)).ready_within(PATIENCE).start_unready()
}

/// The worker says this; `WAIT` is waiting for its first connection.
fn say(ostler: &Ostler, words: &str) {
    let mut file = fs::File::options().append(true).open(ostler.scratch().path("words")).expect("its words");
    file.write_all(words.as_bytes()).expect("written");
}

fn wait_worker(ostler: &Ostler, what: &str, wanted: impl Fn(&Worker) -> bool) -> Worker {
    ostler.wait_status(what, |status| status.only().workers.iter().find(|worker| wanted(worker)).cloned())
}

#[test]
fn a_program_that_notifies_is_ready_when_it_has_said_so_and_waits() {
    let mut ostler = start("start = { ready = \"notify\", ready_timeout = \"1m\" }");
    let says = |text: &'static str| move |worker: &Worker| worker.says.as_deref() == Some(text);
    say(&ostler, "WAIT\nSTATUS=\x1b[1mloading\n");
    let worker = wait_worker(&ostler, "it waits and loads", says("[1mloading"));
    assert_eq!(worker.state, WorkerState::Starting, "waiting alone is not enough");
    say(&ostler, "READY=1\nSTATUS=\n");
    wait_worker(&ostler, "ready", |worker| worker.state == WorkerState::Ready && worker.says.is_none());
    Load::on(&ostler.unix("app.sock")).clients(4).requests_each(5).run().assert_no_failure();
    say(&ostler, "STATUS=serves\n");
    wait_worker(&ostler, "its new words", says("serves"));
    let shown = ostler.command(&["status"]);
    assert!(shown.stdout.contains("    says: serves\n"), "{}", shown.stdout);
    // Nothing but these words has changed, and they are on the scoreboard.
    let board = beside(ostler.control().expect("given"));
    wait_for(SOON, "they are published", || {
        let content = Board::open(board.clone()).ok()?.read().ok()?;
        (content.pools[0].workers[0].says.as_deref() == Some("serves")).then_some(())
    });
    ostler.stop_clean();
}

#[test]
fn saying_so_is_not_enough_where_connections_are_not_waited_for() {
    let scratch = Scratch::new();
    scratch.write("words", "READY=1\n");
    let more = "start = { ready = \"notify\", ready_timeout = \"2s\", failures = 1 }";
    let ended = Builder::new(&scratch).config(config(more)).ready_within(PATIENCE).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains("it has to say READY=1 where NOTIFY_SOCKET leads, and to wait"), "{}", ended.log);
}

#[test]
fn a_program_that_says_that_it_stops_gets_nothing_more_until_its_successor_is_there() {
    let mut ostler = start("start.ready = \"notify\"");
    say(&ostler, "WAIT\nREADY=1\n");
    let first = wait_worker(&ostler, "ready", |worker| worker.state == WorkerState::Ready);
    say(&ostler, "STOPPING=1\nSTATUS=stops\n");
    ostler.wait_log(&["main/0.1", "leaves by itself"]);
    let pool = ostler.status().only().clone();
    assert_eq!((pool.workers[0].id, pool.workers[0].state), (first.id, WorkerState::Draining));
    fs::write(ostler.scratch().path("words"), "WAIT\nREADY=1\n").expect("what its successor will say");
    kill(Pid::from_raw(first.pid.expect("it lives")), Signal::SIGTERM).expect("it lives");
    wait_worker(&ostler, "its successor", |worker| worker.state == WorkerState::Ready && worker.id != first.id);
    get_once(&ostler.unix("app.sock"), "/", SOON).expect("served");
    ostler.stop_clean();
}

#[test]
fn who_floods_is_heard_to_the_end_and_everybody_else_meanwhile() {
    let mut ostler = start("");
    say(&ostler, "WAIT\n");
    wait_worker(&ostler, "ready, as it waits", |worker| worker.state == WorkerState::Ready);
    say(&ostler, "FLOOD 5000\n");
    wait_worker(&ostler, "its last words", |worker| worker.says.as_deref() == Some("flood 4999"));
    get_once(&ostler.unix("app.sock"), "/", SOON).expect("served");
    ostler.stop_clean();
}

#[test]
fn sockets_for_notices_go_with_their_workers() {
    let mut ostler = start("");
    say(&ostler, "WAIT\n");
    wait_worker(&ostler, "ready", |worker| worker.state == WorkerState::Ready);
    let before = ostler.descriptor_count();
    for _ in 0..3 {
        assert_eq!(ostler.command(&["reload"]).code, 0);
    }
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}
