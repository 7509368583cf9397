//! Does the WSGI server in Python lose nobody, and close what is idle when it leaves?

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ostler_tests::deadline::{SOON, alone, long_run, wait_until};
use ostler_tests::http::{Connection, Failure, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::sampler::Sampler;
use ostler_tests::{Ostler, Target, bounded, place, programs};

const APPLICATIONS: [&str; 3] = ["pages:flask_app", "pages:valid_app", "django_pages:app"];
const CLIENTS: usize = 16;
/// Ways of curl to send a body whose length it says.
const OTHER_BODIES: [&[&str]; 3] = [&["-H", "Expect: 100-continue"], &["-H", "Expect:"], &["--http1.0"]];

/// A kept connection holds a place; while workers change, those of the old one may still hold some.
const CONCURRENCY: u32 = 16;

fn config(target: &Target, application: &str, options: &[&str], more: &str) -> String {
    config_of(2, target, application, options, more)
}

fn config_of(workers: u32, target: &Target, application: &str, options: &[&str], more: &str) -> String {
    let directory = place::workspace().join("tests/programs/python");
    format!(
        "[pool.web]\nlisten = [{:?}]\ncommand = {}\nworkers = {workers}\nconcurrency = {CONCURRENCY}\n\
         process = {{ cwd = {directory:?} }}\n{more}\n",
        target.listen(),
        programs::toml(&programs::python_wsgi(application, options)),
    )
}

fn start(target: &Target, application: &str, options: &[&str], more: &str) -> Ostler {
    Ostler::builder().config(config(target, application, options, more)).start()
}

fn open(target: &Target) -> Connection {
    Connection::open(target, SOON).expect("open")
}

#[test]
fn reloads_under_keep_alive_only_close_reused_connections_in_order() {
    let _machine = alone();
    let rounds = if long_run() { 20 } else { 3 };
    for application in APPLICATIONS {
        let target = Target::free_tcp();
        let mut ostler = start(&target, application, &[], "");
        let before = ostler.descriptor_count();
        let sampler = Sampler::start(ostler.client());
        let load = Load::on(&target).clients(CLIENTS).path("/sleep/1").per_connection(u32::MAX).start();
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
        assert!(tally.served > pool.accepted, "connections were kept: {tally}");
        assert!(!ostler.log_contains("the application failed"), "{}", ostler.log());
        ostler.wait_descriptor_count(before);
        ostler.stop_clean();
    }
}

#[test]
fn a_stop_answers_what_was_asked_and_closes_what_is_idle() {
    let target = Target::free_tcp();
    let config = config_of(1, &target, APPLICATIONS[0], &["--keep-alive-s", "600"], "");
    let mut ostler = Ostler::builder().config(config).start();
    let mut idle = open(&target);
    idle.get("/", Keep::Alive).expect("served");
    let mut busy = target.connect(SOON).expect("connect");
    busy.write_all(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na").expect("half of a body");
    ostler.wait_status("both are claimed", |status| (status.only().claimed == 2).then_some(()));
    let since = Instant::now();
    ostler.signal(Signal::SIGTERM);
    assert!(idle.closed_in_order());
    busy.write_all(b"b").expect("the other half");
    let mut answer = String::new();
    busy.read_to_string(&mut answer).expect("answered to the end");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("Connection: close"), "{answer}");
    let ended = ostler.wait(SOON);
    assert_eq!(ended.code, 0, "{}", ended.log);
    assert!(since.elapsed() < Duration::from_secs(30), "it waited for the idle one until the end of stop_timeout");
    assert!(ended.log.contains("done=2 lost=0 shed=0"), "{}", ended.log);
}

#[test]
fn an_overdue_request_ends_its_worker_and_an_idle_connection_does_not() {
    let target = Target::free_tcp();
    let quick = "watchdog = { request = \"1s\" }\ndrain = { kill_after = \"1s\" }\nrecall_after = \"60s\"";
    let mut ostler = start(&target, APPLICATIONS[0], &["--keep-alive-s", "600"], quick);
    let (mut idle, mut busy) = (open(&target), open(&target));
    let rests = idle.get("/", Keep::Alive).expect("served").worker().expect("named");
    let works = busy.get("/", Keep::Alive).expect("served").worker().expect("named");
    assert_ne!(rests, works);
    let since = Instant::now();
    wait_until(SOON, "a request would be overdue", || since.elapsed() > Duration::from_millis(2500));
    busy.ask("/sleep/60000", Keep::Alive).expect("ask");
    ostler.wait_log(&["is at one request"]);
    assert!(matches!(busy.answer(), Err(Failure::ClosedReused | Failure::ResetReused)));
    assert_eq!(idle.get("/", Keep::Once).expect("served").worker(), Some(rests));
    assert_eq!(ostler.log().matches("is at one request").count(), 1, "{}", ostler.log());
    assert_eq!(ostler.wait_idle(2).lost, 1);
    ostler.stop_clean();
}

#[test]
fn curl_sends_a_body_in_chunks_or_after_it_was_asked_to() {
    let target = Target::free_tcp();
    let Target::Tcp(address) = target else { unreachable!("a TCP target") };
    // Django takes a body without Content-Length for none.
    let (chunks, others) = (&["-H", "Transfer-Encoding: chunked"][..], OTHER_BODIES);
    for (application, bodies) in
        [("pages:flask_app", [&[chunks], &others[..]].concat()), ("django_pages:app", others.to_vec())]
    {
        takes_every_body_of_curl(&target, address, application, &bodies);
    }
}

fn takes_every_body_of_curl(target: &Target, address: SocketAddr, application: &str, bodies: &[&[&str]]) {
    let mut ostler = start(target, application, &["--body-bytes", "3000000"], "");
    let body = "x".repeat(2_000_000);
    let file = ostler.scratch().write("body", &body);
    let url = format!("http://{address}/length");
    let curl = |more: &[&str]| {
        let data = format!("@{}", file.display());
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--data-binary", &data]).args(more).arg(&url);
        bounded::run(&mut command, SOON)
    };
    for more in bodies {
        let output = curl(more);
        assert_eq!((output.code, output.stdout.as_str()), (0, "2000000\n"), "{more:?}: {output:?}");
    }
    // Too long by its own word: curl is told before it sends it.
    let output = curl(&["--data-binary", &format!("@{}", file.display()), "-H", "Expect: 100-continue"]);
    assert!(output.stderr.contains("413"), "{output:?}");
    ostler.stop_clean();
}

#[test]
fn what_an_application_raises_and_what_was_asked_is_in_the_log() {
    let target = Target::free_tcp();
    let mut ostler = start(&target, APPLICATIONS[0], &["--access-log"], "");
    assert_eq!(get_once(&target, "/raise", SOON), Err(Failure::Wrong));
    get_once(&target, "/", SOON).expect("served");
    ostler.wait_log(&["RuntimeError: it was asked to"]);
    ostler.wait_log(&["access conn=c1 peer=127.0.0.1 method=GET target=\"/raise\" status=500"]);
    ostler.wait_log(&["access conn=c2", "status=200", "took="]);
    ostler.stop_clean();
}

#[test]
fn an_application_that_is_not_there_is_said_in_words() {
    for (name, words) in [
        ("nowhere:app", "No module named 'nowhere'"),
        ("pages:nothing", "the module pages has no nothing"),
        ("pages", "names no application: write MODULE:NAME"),
        ("pages:__doc__", "can't be called"),
    ] {
        let target = Target::free_tcp();
        let once = "start = { failures = 1 }";
        let ended = Ostler::builder().config(config(&target, name, &[], once)).start_failing();
        assert_eq!(ended.code, 1, "{name}: {}", ended.log);
        assert!(ended.log.contains(words), "{name}: {}", ended.log);
    }
}

#[test]
fn run_by_hand_the_server_says_what_to_type() {
    let command = programs::python_wsgi("pages:flask_app", &[]);
    let output = bounded::run(Command::new(&command[0]).args(&command[1..]), SOON);
    assert_eq!(output.code, 1, "{output:?}");
    let advice =
        format!("try `ostler run --listen unix:app.sock -- {} -m ostler_worker.wsgi pages:flask_app`", command[0]);
    assert!(output.stderr.contains(&advice) && !output.stderr.contains("Traceback"), "{output:?}");
}
