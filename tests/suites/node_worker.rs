//! Is docs/protocol.md enough to write a worker in JavaScript, with Node?

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, alone, wait_until};
use ostler_tests::echo::{Clients, end_writing};
use ostler_tests::sampler::Sampler;
use ostler_tests::target::{Stream, Target};
use ostler_tests::{Ostler, Scratch, bounded, place, programs};

/// Node takes its time to start, the more so when several do at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn built(scratch: &Scratch) -> Vec<String> {
    let source = place::workspace().join("worker/node");
    let mut node = Command::new("node");
    node.args(["-p", "require('path').resolve(process.execPath, '../../include/node')"]);
    let headers = bounded::run(&mut node, SOON).stdout;
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-I", headers.trim(), "-o"]);
    cc.arg(scratch.path("door.node")).arg(source.join("door.c"));
    let output = bounded::run(&mut cc, PATIENCE);
    assert_eq!(output.code, 0, "{}", output.text());
    let copied = |name: &str| -> PathBuf {
        fs::copy(source.join(name), scratch.path(name)).expect("ours");
        scratch.path(name)
    };
    copied("worker.js");
    vec!["node".to_owned(), copied("echo.js").display().to_string()]
}

fn start_as(scratch: &Scratch, command: &[String], workers: usize, concurrency: u32, more: &str) -> Ostler {
    let config = format!(
        "[pool.echo]\nlisten = [\"unix:echo.sock\"]\ncommand = {}\nworkers = {workers}\n\
         concurrency = {concurrency}\n{more}\n",
        programs::toml(command)
    );
    ostler_tests::Builder::new(scratch).config(config).ready_within(PATIENCE).start()
}

fn start(workers: usize, concurrency: u32, more: &str) -> Ostler {
    let scratch = Scratch::new();
    let command = built(&scratch);
    start_as(&scratch, &command, workers, concurrency, more)
}

fn target(ostler: &Ostler) -> Target {
    ostler.unix("echo.sock")
}

#[test]
fn reloads_terms_and_kills_under_load_lose_only_what_a_killed_one_held() {
    let _machine = alone();
    let mut ostler = start(2, 4, "watchdog = { heartbeat = \"10s\" }");
    let before = ostler.descriptor_count();
    let sampler = Sampler::start(ostler.client());
    let clients = Clients::start(&target(&ostler));
    for round in 1..=3 {
        clients.wait_for_more(50);
        let output = ostler.command(&["reload"]);
        assert_eq!(output.code, 0, "reload {round}: {output:?}\n{}", ostler.log());
    }
    let signal_one = |signal| {
        clients.wait_for_more(50);
        let pid = ostler.status().only().ready().first().and_then(|worker| worker.pid).expect("somebody is ready");
        kill(Pid::from_raw(pid), signal).expect("a worker");
        ostler.wait_gone(pid);
    };
    (0..2).for_each(|_| signal_one(Signal::SIGTERM));
    clients.wait_for_more(50);
    assert_eq!(ostler.status().only().lost, 0, "{}", ostler.log());
    (0..2).for_each(|_| signal_one(Signal::SIGKILL));
    let (served, failures) = clients.stop();
    sampler.finish().assert_balanced();
    let pool = ostler.wait_idle(2);
    assert!(failures.len() as u64 <= pool.lost && pool.lost <= 2 * 4, "{failures:?}; {pool:?}");
    // A killed one may have answered what counts as lost.
    assert!(pool.done + pool.lost >= served, "{served}; {pool:?}");
    ostler.wait_descriptor_count(before);
    let log = ostler.log();
    assert!(!log.contains("broke the protocol") && !log.contains("does not move"), "{log}");
    ostler.stop_clean();
}

#[test]
fn without_descriptors_nothing_is_lost() {
    let scratch = Scratch::new();
    // With what is taken here and by Node itself, about twenty are left: some of its places can't be filled.
    let taken = "for fd in {10..33}; do eval \"exec $fd</dev/null\"; done";
    let script = format!("{taken}; exec {}", built(&scratch).join(" "));
    let command = ["/bin/bash".to_owned(), "-c".to_owned(), script];
    let places = 32;
    let mut ostler = start_as(&scratch, &command, 1, places, "process = { nofile = 64 }\nrecall_after = \"60s\"");
    let held: Vec<Stream> = (0..places).map(|_| target(&ostler).connect(SOON).expect("connect")).collect();
    ostler.wait_log(&["leaves by itself"]);
    for mut stream in held {
        stream.write_all(b"x").expect("write");
        end_writing(&stream).expect("its other side is there");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("read");
        assert_eq!(back, b"x");
    }
    let pool = ostler.wait_idle(1);
    assert_eq!((pool.done, pool.lost), (places.into(), 0), "{pool:?}\n{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn an_idle_worker_beats() {
    // As long as a busy machine may keep a process from its CPU.
    let mut ostler = start(1, 4, "watchdog = { heartbeat = \"4s\" }");
    let before = ostler.status().only().pids();
    let since = Instant::now();
    wait_until(SOON, "a silent one would be found", || since.elapsed() > Duration::from_secs(6));
    assert_eq!(ostler.wait_idle(1).pids(), before, "{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn without_a_supervisor_it_finishes_and_leaves() {
    let ostler = start(1, 4, "drain = { timeout = \"2s\" }");
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
    let command = built(&scratch);
    let output = bounded::run(Command::new(&command[0]).args(&command[1..]), PATIENCE);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("not started by ostler: try `ostler run"), "{output:?}");
}
