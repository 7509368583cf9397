//! Is docs/protocol.md enough to write a worker in C, without a library?

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, wait_until};
use ostler_tests::echo::{Clients, end_writing};
use ostler_tests::sampler::Sampler;
use ostler_tests::target::{Stream, Target};
use ostler_tests::{Ostler, Scratch, bounded, place, programs};

const LINES_MAX: usize = 200;

fn source() -> PathBuf {
    place::workspace().join("worker/c/echo.c")
}

fn built(scratch: &Scratch) -> String {
    let program = scratch.path("echo").display().to_string();
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", &program]).arg(source());
    let output = bounded::run(&mut cc, SOON);
    assert_eq!(output.code, 0, "{}", output.text());
    program
}

fn start(workers: usize, concurrency: u32, more: &str) -> Ostler {
    let scratch = Scratch::new();
    let program = built(&scratch);
    let config = format!(
        "[pool.echo]\nlisten = [\"unix:echo.sock\"]\ncommand = [{program:?}]\nworkers = {workers}\n\
         concurrency = {concurrency}\n{more}\n"
    );
    ostler_tests::Builder::new(&scratch).config(config).start()
}

fn target(ostler: &Ostler) -> Target {
    ostler.unix("echo.sock")
}

#[test]
fn it_is_short_and_has_no_dependency() {
    let text = std::fs::read_to_string(source()).expect("ours");
    assert!(text.lines().count() < LINES_MAX, "{} lines", text.lines().count());
    assert!(!text.contains("#include \""), "system headers only");
}

#[test]
fn reloads_under_load_fail_nobody() {
    let mut ostler = start(2, 4, "watchdog = { heartbeat = \"10s\" }");
    let before = ostler.descriptor_count();
    let sampler = Sampler::start(ostler.client());
    let clients = Clients::start(&target(&ostler));
    for round in 1..=10 {
        clients.wait_for_more(50);
        let output = ostler.command(&["reload"]);
        assert_eq!(output.code, 0, "reload {round}: {output:?}\n{}", ostler.log());
    }
    let (served, failures) = clients.stop();
    assert!(failures.is_empty(), "{failures:?}");
    sampler.finish().assert_balanced();
    let pool = ostler.wait_idle(2);
    assert_eq!((pool.done, pool.accepted, pool.lost), (served, served, 0), "{pool:?}");
    ostler.wait_descriptor_count(before);
    let log = ostler.log();
    assert!(!log.contains("broke the protocol") && !log.contains("does not move"), "{log}");
    ostler.stop_clean();
}

#[test]
fn a_worker_that_is_killed_loses_what_it_held_and_one_that_gets_term_does_not() {
    let mut ostler = start(2, 4, "");
    let victim = |ostler: &Ostler| ostler.status().only().ready().first().and_then(|worker| worker.pid);
    let clients = Clients::start(&target(&ostler));
    for _ in 0..5 {
        clients.wait_for_more(50);
        let pid = victim(&ostler).expect("somebody is ready");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("a worker");
        ostler.wait_gone(pid);
    }
    let (_served, failures) = clients.stop();
    assert!(failures.is_empty(), "{failures:?}\n{}", ostler.log());
    assert_eq!(ostler.wait_idle(2).lost, 0);
    let clients = Clients::start(&target(&ostler));
    for _ in 0..5 {
        clients.wait_for_more(50);
        let pid = victim(&ostler).expect("somebody is ready");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a worker");
        ostler.wait_gone(pid);
    }
    let (_served, failures) = clients.stop();
    let pool = ostler.wait_idle(2);
    assert!(failures.len() as u64 <= pool.lost && pool.lost <= 5 * 4, "{failures:?}; {pool:?}");
    ostler.stop_clean();
}

#[test]
fn without_descriptors_nothing_is_lost() {
    let scratch = Scratch::new();
    // As few as may be, and eight of them taken: some of its eight places can't be filled.
    let script = format!("for fd in {{10..17}}; do eval \"exec $fd</dev/null\"; done; exec {}", built(&scratch));
    let command = programs::toml(&["/bin/bash".to_owned(), "-c".to_owned(), script]);
    let config = format!(
        "[pool.echo]\nlisten = [\"unix:echo.sock\"]\ncommand = {command}\nworkers = 1\nconcurrency = 8\n\
         process = {{ nofile = 20 }}\nrecall_after = \"60s\"\n"
    );
    let mut ostler = ostler_tests::Builder::new(&scratch).config(config).start();
    let held: Vec<Stream> = (0..8).map(|_| target(&ostler).connect(SOON).expect("connect")).collect();
    ostler.wait_log(&["leaves by itself"]);
    for mut stream in held {
        stream.write_all(b"x").expect("write");
        end_writing(&stream).expect("its other side is there");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("read");
        assert_eq!(back, b"x");
    }
    let pool = ostler.wait_idle(1);
    assert_eq!((pool.done, pool.lost), (8, 0), "{pool:?}\n{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn an_idle_worker_beats() {
    // As long as a busy machine may keep a process from its CPU.
    let mut ostler = start(2, 4, "watchdog = { heartbeat = \"4s\" }");
    let before = ostler.status().only().pids();
    let since = Instant::now();
    wait_until(SOON, "a silent one would be found", || since.elapsed() > Duration::from_secs(6));
    assert_eq!(ostler.wait_idle(2).pids(), before, "{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn without_a_supervisor_it_finishes_and_leaves() {
    let ostler = start(1, 4, "drain = { timeout = \"500ms\" }");
    let mut clients: Vec<Stream> = (0..2).map(|_| target(&ostler).connect(SOON).expect("connect")).collect();
    ostler.wait_status("both are claimed", |status| (status.only().claimed == 2).then_some(()));
    ostler.signal(Signal::SIGKILL);
    let mut finished = clients.remove(0);
    finished.write_all(b"x").expect("write");
    let mut back = [0; 1];
    finished.read_exact(&mut back).expect("it still serves");
    // The other client stays for ever: the deadline ends the worker.
    ostler.assert_no_process_left();
}

#[test]
fn run_by_hand_it_says_what_to_type() {
    let scratch = Scratch::new();
    let output = bounded::run(&mut Command::new(built(&scratch)), SOON);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("not started by ostler: try `ostler run"), "{output:?}");
}
