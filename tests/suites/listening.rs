//! Do workers that accept for themselves lose nothing over reloads, kills and stops, and is what they do known as far as it is said?

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, alone, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::sampler::Sampler;
use ostler_tests::target::Target;
use ostler_tests::{Ostler, Scratch, bounded, place, procs, programs};

const WORKERS: usize = 3;
const CLIENTS: usize = 16;
const RELOADS: usize = 4;
const KILLS: usize = 12;
/// Ways to write a worker in Python, and how much each holds.
const PYTHON: [(&str, &str); 3] = [("pull", ""), ("serve", "concurrency = 4"), ("asyncio", "concurrency = 8")];
/// Interpreters take their time, the more so when several start at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program without a dynamic linker: nothing can be preloaded into it.
fn built(scratch: &Scratch) -> String {
    let program = scratch.path("static").display().to_string();
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", &program]);
    let output = bounded::run(cc.arg(place::unmodified("static.c")), SOON);
    assert_eq!(output.code, 0, "{}", output.text());
    program
}

fn node() -> Vec<String> {
    vec!["node".to_owned(), place::unmodified("app.js").display().to_string()]
}

fn library() -> Vec<String> {
    programs::slow_start(0)
}

fn python(mode: &str) -> Vec<String> {
    programs::python_hello(mode, 0)
}

/// Where the applications of the servers in Python are looked for.
fn beside_the_applications(concurrency: u32) -> String {
    let directory = place::workspace().join("tests/programs/python");
    format!("concurrency = {concurrency}\nprocess.cwd = {directory:?}")
}

fn config(target: &Target, command: Option<&[String]>, more: &str) -> String {
    let command = command.map_or_else(String::new, |command| format!("command = {}\n", programs::toml(command)));
    format!(
        "[pool.main]\nlisten = [{:?}]\n{command}workers = {WORKERS}\nhandoff = \"listen\"\n{more}\n",
        target.listen()
    )
}

fn start(target: &Target, command: Option<&[String]>, more: &str) -> Ostler {
    Ostler::builder().config(config(target, command, more)).ready_within(PATIENCE).start()
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("the listener's path").ino()
}

fn reload(ostler: &Ostler) {
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
}

/// Reloads under load, then a kill of each worker that holds nothing, without a failed request.
fn reloads_without_a_failure(ostler: &Ostler, target: &Target, clients: usize) -> u64 {
    let descriptors = ostler.descriptor_count();
    let load = Load::on(target).clients(clients).start();
    load.wait_for_more(100);
    for _ in 0..RELOADS {
        reload(ostler);
        load.wait_for_more(100);
    }
    let tally = load.stop();
    println!("{RELOADS} reloads: {tally}");
    tally.assert_no_failure();
    ostler.wait_status("the old ones are gone", |status| {
        (status.only().workers.len() == WORKERS && status.only().ready().len() == WORKERS).then_some(())
    });
    ostler.wait_descriptor_count(descriptors);
    tally.served
}

fn kills_idle_workers_without_a_failure(ostler: &Ostler, target: &Target) -> u64 {
    let pids = ostler.status().only().pids();
    for pid in &pids {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("a worker of ours");
    }
    // One that is still dying may take a client with it.
    pids.iter().for_each(|pid| ostler.wait_gone(*pid));
    // Whoever comes now waits in the kernel's queue for the next worker.
    for _ in 0..WORKERS {
        get_once(target, "/", PATIENCE).expect("served by a new worker");
    }
    ostler.wait_status("all are back", |status| {
        let pool = status.only();
        (pool.ready().len() == WORKERS && pool.pids().iter().all(|pid| !pids.contains(pid))).then_some(())
    });
    WORKERS as u64
}

#[test]
fn a_static_program_is_reloaded_and_killed_without_a_failure_and_its_path_stays() {
    let _machine = alone();
    let scratch = Scratch::new();
    let path = scratch.path("app.sock");
    let target = Target::Unix(path.clone());
    // A blocking program that never runs out of clients is hardly ever found waiting, so there are fewer than workers.
    let mut ostler = start(&target, Some(&[built(&scratch)]), "start.ready_timeout = \"2m\"");
    let before = inode(&path);
    reloads_without_a_failure(&ostler, &target, WORKERS - 1);
    kills_idle_workers_without_a_failure(&ostler, &target);
    assert!(!ostler.log().contains("without serving anybody"), "nobody counts whom they serve: {}", ostler.log());
    assert_eq!(inode(&path), before);
    let output = ostler.command(&["status", "--json"]);
    for unknown in ["accepted", "done", "lost", "waiting", "claimed", "handed", "length"] {
        assert!(output.stdout.contains(&format!("{unknown:?}:null")), "{unknown}: {}", output.stdout);
    }
    ostler.stop_clean();
    assert!(!path.exists());
}

#[test]
fn node_is_reloaded_and_killed_without_a_failure_over_tcp() {
    let _machine = alone();
    let target = Target::free_tcp();
    let mut ostler = start(&target, Some(&node()), "");
    reloads_without_a_failure(&ostler, &target, CLIENTS);
    kills_idle_workers_without_a_failure(&ostler, &target);
    ostler.stop_clean();
}

#[test]
fn node_is_reloaded_without_a_failure_over_unix() {
    let _machine = alone();
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    let mut ostler = start(&target, Some(&node()), "");
    reloads_without_a_failure(&ostler, &target, CLIENTS);
    ostler.stop_clean();
}

/// Both flavours of the library, each on both kinds of listener.
fn the_librarys_books_are_exact(target: &Target, command: Option<&[String]>, more: &str) {
    let _machine = alone();
    let mut ostler = start(target, command, more);
    let sampler = Sampler::start(ostler.client());
    let served =
        reloads_without_a_failure(&ostler, target, CLIENTS) + kills_idle_workers_without_a_failure(&ostler, target);
    sampler.finish().assert_balanced();
    let pool = ostler.wait_status("everything is over", |status| {
        let pool = status.only();
        (pool.done == served && pool.is_idle()).then(|| pool.clone())
    });
    assert_eq!((pool.accepted, pool.lost, pool.shed_total(), pool.check_books()), (served, 0, 0, Ok(())), "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn the_books_of_async_workers_are_exact_over_unix() {
    let scratch = Scratch::new();
    the_librarys_books_are_exact(&Target::Unix(scratch.path("app.sock")), None, "concurrency = 8");
}

#[test]
fn the_books_of_threaded_workers_are_exact_over_tcp() {
    the_librarys_books_are_exact(&Target::free_tcp(), Some(&library()), "concurrency = 2");
}

#[test]
fn the_books_of_workers_in_python_are_exact_with_threads_over_tcp() {
    the_librarys_books_are_exact(&Target::free_tcp(), Some(&python("serve")), "concurrency = 4");
}

#[test]
fn the_books_of_workers_in_python_are_exact_with_asyncio_over_unix() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    the_librarys_books_are_exact(&target, Some(&python("asyncio")), "concurrency = 8");
}

#[test]
fn the_books_of_the_wsgi_server_are_exact_over_tcp() {
    let command = programs::python_wsgi("pages:flask_app", &[]);
    the_librarys_books_are_exact(&Target::free_tcp(), Some(&command), &beside_the_applications(4));
}

#[test]
fn the_books_of_the_asgi_server_are_exact_over_unix() {
    let scratch = Scratch::new();
    let command = programs::python_asgi("plain_asgi:app", &[]);
    let target = Target::Unix(scratch.path("app.sock"));
    the_librarys_books_are_exact(&target, Some(&command), &beside_the_applications(8));
}

/// Kills busy workers. What nobody has accepted is served by others; what was accepted is lost and counted.
fn kills_under_load_fail_what_was_accepted_only(target: &Target, command: &[String], concurrency: u32, more: &str) {
    let _machine = alone();
    // On a busy machine many are killed before they served anybody, which says nothing about the program.
    let patience = format!("{more}\nstart = {{ failures = 10000, backoff = [\"10ms\", \"100ms\"] }}");
    let mut ostler = start(target, Some(command), &patience);
    let sampler = Sampler::start(ostler.client());
    let load = Load::on(target).clients(CLIENTS).path("/sleep/1").start();
    for round in 0..KILLS {
        load.wait_for_more(50);
        let pid = ostler.wait_status("somebody is ready", |status| {
            let ready = status.only().ready();
            ready.get(round % ready.len().max(1)).and_then(|worker| worker.pid)
        });
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a worker of ours");
        ostler.wait_gone(pid);
    }
    load.wait_for_more(100);
    let tally = load.stop();
    let pool = ostler.wait_status("idle, and all are back", |status| {
        let pool = status.only();
        (pool.is_idle() && pool.ready().len() == WORKERS).then(|| pool.clone())
    });
    sampler.finish().assert_balanced();
    println!("{KILLS} kills, {} lost: {tally}", pool.lost);
    // One at a time is accepted and not counted yet.
    let uncounted = tally.connects - pool.accepted;
    assert!(uncounted <= KILLS as u64, "{tally}; {pool:?}");
    assert!(tally.failed() <= pool.lost + uncounted, "failed requests that nobody had accepted: {tally}; {pool:?}");
    assert!(pool.lost <= KILLS as u64 * u64::from(concurrency), "{tally}; {pool:?}");
    // Who was answered by a worker that died before it could report is lost in the books.
    assert!((pool.done..=pool.done + pool.lost).contains(&tally.served), "{tally}; {pool:?}");
    assert_eq!((pool.shed_total(), pool.check_books()), (0, Ok(())), "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn a_killed_worker_in_python_loses_what_it_had_accepted_with_threads_over_unix() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    kills_under_load_fail_what_was_accepted_only(&target, &python("serve"), 4, "concurrency = 4");
}

#[test]
fn a_killed_worker_in_python_loses_what_it_had_accepted_with_asyncio_over_tcp() {
    kills_under_load_fail_what_was_accepted_only(&Target::free_tcp(), &python("asyncio"), 8, "concurrency = 8");
}

#[test]
fn a_killed_wsgi_server_loses_what_it_had_accepted() {
    let command = programs::python_wsgi("pages:flask_app", &[]);
    kills_under_load_fail_what_was_accepted_only(&Target::free_tcp(), &command, 4, &beside_the_applications(4));
}

#[test]
fn a_worker_in_python_that_gets_term_finishes_what_it_holds_and_is_replaced() {
    for (mode, concurrency) in PYTHON {
        let scratch = Scratch::new();
        let target = Target::Unix(scratch.path("app.sock"));
        let mut ostler = start(&target, Some(&python(mode)), concurrency);
        let mut held = Connection::open(&target, SOON).expect("accepted");
        let holder = ostler.wait_status("somebody holds it", |status| {
            status.only().workers.iter().find(|worker| worker.claimed == 1).and_then(|worker| worker.pid)
        });
        kill(Pid::from_raw(holder), Signal::SIGTERM).expect("a worker of ours");
        ostler.wait_log(&["leaves by itself"]);
        // Who comes now is for the others.
        assert_ne!(get_once(&target, "/", SOON).expect("served").worker().expect("named").pid, holder, "{mode}");
        assert_eq!(held.get("/", Keep::Once).expect("finished").worker().expect("named").pid, holder, "{mode}");
        ostler.wait_gone(holder);
        let pool = ostler.wait_status("idle, and all are back", |status| {
            let pool = status.only();
            (pool.is_idle() && pool.ready().len() == WORKERS).then(|| pool.clone())
        });
        assert_eq!((pool.accepted, pool.done, pool.lost), (2, 2, 0), "{mode}: {pool:?}");
        assert!(!ostler.log_contains("ended with"), "{mode}: it left with exit code 0:\n{}", ostler.log());
        ostler.stop_clean();
    }
}

#[test]
fn workers_in_python_that_open_everything_lose_nobody() {
    let _machine = alone();
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    let mut ostler = start(&target, Some(&python("serve")), "concurrency = 4\nprocess.nofile = 32");
    let load = Load::on(&target).clients(8).path("/glut").requests_each(25).run();
    load.assert_no_failure();
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!((pool.lost, pool.done), (0, load.served), "{pool:?}\n{}", ostler.log());
    ostler.stop_clean();
}

#[test]
fn without_a_supervisor_workers_on_the_library_serve_who_waits_and_are_gone() {
    let in_python = PYTHON.map(|(mode, concurrency)| (Some(python(mode)), concurrency));
    for (command, concurrency) in [(None, "concurrency = 4")].into_iter().chain(in_python) {
        let target = Target::free_tcp();
        let Target::Tcp(address) = target else { unreachable!("a port") };
        let ostler = start(&target, command.as_deref(), concurrency);
        let pids = ostler.status().only().pids();
        let all = |signal| pids.iter().for_each(|pid| kill(Pid::from_raw(*pid), signal).expect("a worker of ours"));
        let mut held = Connection::open(&target, SOON).expect("accepted");
        ostler.wait_status("it is held", |status| (status.only().claimed == 1).then_some(()));
        all(Signal::SIGSTOP);
        let mut waiting = Connection::open(&target, SOON).expect("the kernel's queue has room");
        ostler.signal(Signal::SIGKILL);
        ostler.wait_gone(ostler.pid());
        for pid in &pids {
            // Workers hear of it by their channels. TERM, which may come before those end, would say that others serve.
            assert!(!procs::is_pending(*pid, Signal::SIGTERM), "{command:?}");
        }
        all(Signal::SIGCONT);
        let serves = |client: &mut Connection| client.get("/", Keep::Once).map(|answer| answer.status) == Ok(200);
        assert!(serves(&mut waiting), "{command:?}");
        if !concurrency.is_empty() {
            // Whoever serves one at a time looks whether somebody waits when that is over.
            wait_until(SOON, "the next supervisor can have the address", || TcpListener::bind(address).is_ok());
        }
        assert!(serves(&mut held), "{command:?}");
        ostler.assert_no_process_left();
    }
}

#[test]
fn what_a_killed_worker_held_is_lost_and_counted() {
    let target = Target::free_tcp();
    let mut ostler = start(&target, None, "concurrency = 4");
    let mut held = Connection::open(&target, SOON).expect("accepted");
    held.ask("/sleep/60000", Keep::Alive).expect("asked");
    let holder = ostler.wait_status("somebody holds it", |status| {
        status.only().workers.iter().find(|worker| worker.claimed == 1).and_then(|worker| worker.pid)
    });
    kill(Pid::from_raw(holder), Signal::SIGKILL).expect("a worker of ours");
    let pool = ostler.wait_status("it is lost", |status| (status.only().lost == 1).then(|| status.only().clone()));
    assert_eq!((pool.accepted, pool.done, pool.check_books()), (1, 0, Ok(())), "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn a_reload_to_a_program_that_never_waits_is_undone_and_says_so() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    let program = built(&scratch);
    let ready = "start.ready_timeout = \"1s\"";
    let mut ostler = start(&target, Some(std::slice::from_ref(&program)), ready);
    for wrong in ["idle", "closed"] {
        ostler.rewrite_config(&config(&target, Some(&[program.clone(), wrong.to_owned()]), ready));
        let output = ostler.command(&["reload"]);
        assert_eq!(output.code, 3, "{}{}", output.stdout, output.stderr);
        assert!(output.stderr.contains("never waited for connections"), "{}", output.stderr);
        get_once(&target, "/", SOON).expect("the previous generation serves");
    }
    ostler.stop_clean();
}

#[test]
fn a_reload_to_another_mode_is_refused() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("app.sock"));
    let mut ostler = start(&target, None, "");
    ostler.rewrite_config(&config(&target, None, "").replace("\"listen\"\n", "\"pass\"\n"));
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(output.stderr.contains("pool.main.handoff cannot change"), "{}", output.stderr);
    ostler.stop_clean();
}

#[test]
fn a_pool_that_a_reload_takes_away_is_gone_and_another_reload_brings_it_back() {
    let pool = config(&Target::Unix("main.sock".into()), None, "");
    let other = "[pool.other]\nlisten = [\"unix:other.sock\"]\n";
    let mut ostler = Ostler::builder().config(format!("{other}{pool}")).ready_within(PATIENCE).start();
    let target = ostler.unix("main.sock");
    get_once(&target, "/", SOON).expect("served");
    for _ in 0..2 {
        ostler.rewrite_config(other);
        assert_eq!(ostler.command(&["reload"]).code, 0);
        ostler.wait_status("it is gone", |status| (status.pools.len() == 1).then_some(()));
        assert!(get_once(&target, "/", SOON).is_err());
        ostler.rewrite_config(&format!("{other}{pool}"));
        assert_eq!(ostler.command(&["reload"]).code, 0);
        get_once(&target, "/", SOON).expect("served again");
    }
    ostler.stop_clean();
}

#[test]
fn a_listener_that_a_reload_adds_serves_and_one_that_it_takes_away_is_gone() {
    let scratch = Scratch::new();
    let (first, second) = (scratch.path("first.sock"), scratch.path("second.sock"));
    let (old, new) = (Target::Unix(first.clone()), Target::Unix(second.clone()));
    let mut ostler = start(&old, None, "");
    let both = config(&old, None, "").replace("listen = [", &format!("listen = [\"unix:{}\", ", second.display()));
    ostler.rewrite_config(&both);
    reload(&ostler);
    for target in [&old, &new] {
        get_once(target, "/", SOON).expect("served");
    }
    ostler.rewrite_config(&config(&new, None, ""));
    reload(&ostler);
    get_once(&new, "/", SOON).expect("served");
    ostler.wait_log(&["no longer listening on", "first.sock"]);
    assert!(!first.exists() && second.exists());
    ostler.stop_clean();
}

/// Stopped workers leave clients in the kernel's queue; continued, they serve them before they go.
fn a_stop_serves_who_waits_in_the_kernels_queue(target: &Target, command: Option<&[String]>) {
    let mut ostler = start(target, command, "");
    let pids = ostler.status().only().pids();
    let all = |signal| pids.iter().for_each(|pid| kill(Pid::from_raw(*pid), signal).expect("a worker of ours"));
    all(Signal::SIGSTOP);
    let waiting: Vec<Connection> = (0..CLIENTS)
        .map(|_| {
            let mut client = Connection::open(target, PATIENCE).expect("the kernel's queue has room");
            client.ask("/", Keep::Once).expect("asked");
            client
        })
        .collect();
    ostler.signal(Signal::SIGTERM);
    ostler.wait_log(&["SIGTERM"]);
    all(Signal::SIGCONT);
    let answers = thread::scope(|scope| {
        let clients: Vec<_> = waiting.into_iter().map(|mut client| scope.spawn(move || client.answer())).collect();
        clients.into_iter().map(|client| client.join().expect("no panic").is_ok()).collect::<Vec<_>>()
    });
    assert!(answers.iter().all(|served| *served), "{answers:?}");
    assert_eq!(ostler.wait(PATIENCE).code, 0);
}

#[test]
fn a_stop_serves_who_waits_at_a_path_or_at_tcp() {
    let scratch = Scratch::new();
    let program = built(&scratch);
    a_stop_serves_who_waits_in_the_kernels_queue(
        &Target::Unix(scratch.path("app.sock")),
        Some(std::slice::from_ref(&program)),
    );
    a_stop_serves_who_waits_in_the_kernels_queue(&Target::free_tcp(), Some(&[program]));
    a_stop_serves_who_waits_in_the_kernels_queue(&Target::Unix(scratch.path("app.sock")), None);
}

#[test]
fn a_stop_of_workers_in_python_serves_who_waits() {
    let scratch = Scratch::new();
    a_stop_serves_who_waits_in_the_kernels_queue(&Target::Unix(scratch.path("app.sock")), Some(&python("pull")));
    a_stop_serves_who_waits_in_the_kernels_queue(&Target::free_tcp(), Some(&python("asyncio")));
}

fn speaking(mode: &str) -> Vec<String> {
    let program = place::unmodified("listening.py").display().to_string();
    vec!["python3".to_owned(), program, mode.to_owned()]
}

#[test]
fn with_notify_a_program_is_ready_when_it_says_so_and_not_when_it_is_seen_to_wait() {
    let target = Target::free_tcp();
    let mut ostler = start(&target, Some(&speaking("ready")), "start.ready = \"notify\"");
    let ready = ostler.wait_log(&["ready worker=main/0.1"]);
    // It waited for clients half a second before it said so.
    let took = ready.split("took=").nth(1).expect("a line of ours").trim();
    let ms = took.strip_suffix("ms").filter(|ms| !ms.contains('s'));
    assert!(ms.is_none_or(|ms| ms.parse::<u64>().expect("a number") >= 500), "{ready}");
    get_once(&target, "/", SOON).expect("served");
    ostler.rewrite_config(&config(
        &target,
        Some(&speaking("often")),
        "start = { ready = \"notify\", ready_timeout = \"2s\" }",
    ));
    let output = ostler.command(&["reload"]);
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(output.stderr.contains("READY=1 where NOTIFY_SOCKET leads"), "{}", output.stderr);
    ostler.stop_clean();
}

#[test]
fn a_program_that_stops_saying_watchdog_is_replaced_and_one_that_goes_on_is_not() {
    let target = Target::free_tcp();
    let heartbeat = "watchdog.heartbeat = \"2s\"";
    let mut ostler = start(&target, Some(&speaking("often")), heartbeat);
    let living = ostler.status().only().pids();
    let mut silent = start(&Target::free_tcp(), Some(&speaking("once")), heartbeat);
    silent.wait_log(&["does not move", "main/0.1"]);
    assert_eq!(ostler.status().only().pids(), living, "they go on saying so");
    ostler.stop_clean();
    silent.stop();
}
