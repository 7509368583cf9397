//! Does the ASGI server in Python lose nobody, speak WebSockets, and let go what is idle when it leaves?

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, alone, long_run, wait_until};
use ostler_tests::http::{Connection, Failure, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::sampler::Sampler;
use ostler_tests::{Ostler, Target, bounded, place, programs};

const FASTAPI: &str = "apis:fastapi_app";
const PLAIN: &str = "plain_asgi:app";
const CLIENTS: usize = 16;
/// FastAPI takes a second of CPU to load, and two do it at once; on a busy machine that is long.
const PATIENCE: Duration = Duration::from_secs(90);
const SLOW_TO_LOAD: &str = "start = { ready_timeout = \"80s\" }";

fn config(target: &Target, application: &str, options: &[&str], more: &str) -> String {
    let directory = place::workspace().join("tests/programs/python");
    format!(
        "[pool.web]\nlisten = [{:?}]\ncommand = {}\nworkers = 2\nconcurrency = 64\n\
         process = {{ cwd = {directory:?} }}\n{more}\n",
        target.listen(),
        programs::toml(&programs::python_asgi(application, options)),
    )
}

fn start(target: &Target, application: &str, options: &[&str], more: &str) -> Ostler {
    let config = config(target, application, options, &format!("{SLOW_TO_LOAD}\n{more}"));
    Ostler::builder().config(config).ready_within(PATIENCE).start()
}

fn open(target: &Target) -> Connection {
    Connection::open(target, SOON).expect("open")
}

#[test]
fn reloads_under_load_fail_nobody_with_one_request_per_connection_or_many() {
    let _machine = alone();
    let rounds = if long_run() { 20 } else { 2 };
    for (application, per_connection) in [(FASTAPI, u32::MAX), (PLAIN, 1)] {
        let target = Target::free_tcp();
        let mut ostler = start(&target, application, &[], "");
        let before = ostler.descriptor_count();
        let sampler = Sampler::start(ostler.client());
        let load = Load::on(&target).clients(CLIENTS).path("/sleep/1").per_connection(per_connection).start();
        load.wait_for_more(100);
        for round in 1..=rounds {
            let output = ostler.command(&["reload"]);
            assert_eq!(output.code, 0, "{application}, reload {round}: {output:?}\n{}", ostler.log());
            load.wait_for_more(CLIENTS as u64);
        }
        let tally = load.stop();
        println!("{application}: {tally}");
        tally.assert_no_failure();
        sampler.finish().assert_balanced();
        let pool = ostler.wait_idle(2);
        assert_eq!((pool.lost, pool.shed_total(), pool.accepted), (0, 0, tally.connects), "{tally}; {pool:?}");
        ostler.wait_descriptor_count(before);
        ostler.stop_clean();
    }
}

#[test]
fn kills_lose_only_what_was_claimed() {
    let target = Target::free_tcp();
    // An interpreter may take long to start on a busy machine, and nobody shall wait too long for it.
    let mut ostler = start(&target, PLAIN, &[], "queue = { timeout = \"120s\" }");
    let load = Load::on(&target).clients(CLIENTS).path("/sleep/1").start();
    let mut killed = 0;
    for _ in 0..3 {
        let ready = ostler.wait_status("both are ready", |status| {
            let pids: Vec<i32> = status.only().ready().iter().filter_map(|worker| worker.pid).collect();
            (pids.len() == 2 && !pids.contains(&killed)).then_some(pids)
        });
        load.wait_for_more(50);
        killed = ready[0];
        kill(Pid::from_raw(killed), Signal::SIGKILL).expect("a worker");
        ostler.wait_gone(killed);
    }
    let tally = load.stop();
    let pool = ostler.wait_idle(2);
    assert!(tally.failed() <= pool.lost, "{tally}; {pool:?}");
    ostler.stop_clean();
}

#[test]
fn a_stop_answers_what_was_asked_closes_what_is_idle_and_ends_the_application() {
    let target = Target::free_tcp();
    let mut ostler = start(&target, FASTAPI, &["--keep-alive-s", "600"], "");
    let mut busy = target.connect(SOON).expect("connect");
    busy.write_all(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na").expect("half of a body");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    // The least loaded worker gets the next one, so that each has one of these at least.
    let mut idle: [Connection; 3] = std::array::from_fn(|_| {
        let mut idle = open(&target);
        idle.get("/", Keep::Alive).expect("served");
        idle
    });
    ostler.signal(Signal::SIGTERM);
    // Then each worker knows that it shall leave.
    assert!(idle.iter_mut().all(Connection::closed_in_order));
    busy.write_all(b"b").expect("the other half");
    let mut answer = String::new();
    busy.read_to_string(&mut answer).expect("answered to the end");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"), "{answer}");
    let ended = ostler.wait(SOON);
    assert_eq!(ended.code, 0, "{}", ended.log);
    assert!(ended.log.contains("done=4 lost=0 shed=0"), "{}", ended.log);
    for words in ["the application starts", "the application ends"] {
        assert_eq!(ended.log.matches(words).count(), 2, "{words}: {}", ended.log);
    }
}

#[test]
fn an_overdue_request_ends_its_worker_and_neither_an_idle_connection_nor_a_websocket_does() {
    let target = Target::free_tcp();
    let quick = "watchdog = { request = \"1s\" }\ndrain = { kill_after = \"1s\" }\nrecall_after = \"60s\"";
    let mut ostler = start(&target, PLAIN, &["--keep-alive-s", "600"], quick);
    let mut idle = open(&target);
    idle.get("/", Keep::Alive).expect("served");
    let mut socket = target.connect(SOON).expect("connect");
    let ask = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    socket.write_all(ask.as_bytes()).expect("ask");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        socket.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let since = Instant::now();
    wait_until(SOON, "a request would be overdue", || since.elapsed() > Duration::from_millis(2500));
    // A text of two bytes; the mask is zero.
    socket.write_all(b"\x81\x82\0\0\0\0hi").expect("a frame");
    let mut back = [0; 4];
    socket.read_exact(&mut back).expect("the echo");
    assert_eq!(&back, b"\x81\x02hi");
    assert!(!ostler.log_contains("is at one request"), "{}", ostler.log());
    let mut busy = open(&target);
    busy.ask("/sleep/60000", Keep::Alive).expect("ask");
    ostler.wait_log(&["is at one request"]);
    assert!(matches!(busy.answer(), Err(Failure::CutFresh)));
    drop((idle, socket));
    assert!(ostler.wait_idle(2).lost >= 1);
    ostler.stop_clean();
}

#[test]
fn what_an_application_raises_and_what_was_asked_is_in_the_log() {
    let target = Target::free_tcp();
    let mut ostler = start(&target, FASTAPI, &["--access-log"], "");
    assert_eq!(get_once(&target, "/raise", SOON), Err(Failure::Wrong));
    get_once(&target, "/", SOON).expect("served");
    ostler.wait_log(&["RuntimeError: it was asked to"]);
    ostler.wait_log(&["GET /raise HTTP/1.1", "500"]);
    ostler.wait_log(&["GET / HTTP/1.1", "200"]);
    ostler.stop_clean();
}

#[test]
fn an_application_that_is_not_there_or_does_not_start_is_said_in_words() {
    for (name, words) in [
        ("plain_asgi", "names no application: write MODULE:NAME"),
        ("plain_asgi:never_starts", "there is no database"),
        ("plain_asgi:never_starts", "the application's startup failed"),
    ] {
        let target = Target::free_tcp();
        let builder = Ostler::builder().config(config(&target, name, &[], "start = { failures = 1 }"));
        let ended = builder.ready_within(PATIENCE).start_failing();
        assert_eq!(ended.code, 1, "{name}: {}", ended.log);
        assert!(ended.log.contains(words), "{name}: {}", ended.log);
    }
}

#[test]
fn run_by_hand_the_server_says_what_to_type() {
    let command = programs::python_asgi(PLAIN, &[]);
    let output = bounded::run(Command::new(&command[0]).args(&command[1..]), SOON);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("try `ostler run --listen unix:app.sock -- "), "{output:?}");
    assert!(!output.stderr.contains("Traceback"), "{output:?}");
}
