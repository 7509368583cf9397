//! Are connections accounted for that get out of the sight of the library in an unmodified program?

use std::io::{Read, Write};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, wait_for};
use ostler_tests::http::get_once;
use ostler_tests::status::Pool;
use ostler_tests::{Ostler, place, procs, programs};

/// Interpreters take their time.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(mode: &str, more: &str) -> String {
    let shown = |path: std::path::PathBuf| path.display().to_string();
    let command = [shown(place::unmodified_python("python")), shown(place::unmodified("straying.py")), mode.to_owned()];
    format!(
        "[pool.main]\nlisten = [\"unix:app.sock\"]\ncommand = {}\nworkers = 1\nhandoff = \"accept\"\n{more}\n",
        programs::toml(&command),
    )
}

fn start(mode: &str) -> Ostler {
    Ostler::builder().config(config(mode, "")).ready_within(PATIENCE).start()
}

fn wait_pool(ostler: &Ostler, what: &str, wanted: impl Fn(&Pool) -> bool) -> Pool {
    ostler.wait_status(what, |status| Some(status.only()).filter(|pool| wanted(pool)).cloned())
}

/// A process that holds a connection is killed; what it held is lost at once, and its worker, which knows nothing of it, serves on.
fn is_lost_with_who_held_it(mode: &str) {
    let mut ostler = start(mode);
    let target = ostler.unix("app.sock");
    let worker = ostler.status().only().pids()[0];
    let before = procs::descriptor_count(worker);
    for lost in 1..=3 {
        let mut held = target.connect(PATIENCE).expect("connected");
        held.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is read by nobody");
        wait_pool(&ostler, "it is claimed", |pool| pool.claimed == 1);
        let is_holder = |pid: &i32| {
            // An orphan's parent is on its way out.
            let strays = ![worker, ostler.pid()].contains(pid);
            strays
                && procs::stat(*pid)
                    .is_some_and(|stat| stat.state == 'S' && (mode != "orphan" || stat.parent != worker))
        };
        let holder = wait_for(SOON, "who holds it, alone", || {
            let held_alone = procs::descriptor_count(worker) == before;
            ostler.processes().into_iter().rfind(is_holder).filter(|_| held_alone)
        });
        kill(Pid::from_raw(holder), Signal::SIGKILL).expect("it is there");
        let pool = wait_pool(&ostler, "it is lost", |pool| pool.lost == lost);
        assert_eq!((pool.claimed, pool.check_books()), (0, Ok(())), "{pool:?}");
    }
    let pool = ostler.status().only().clone();
    assert_eq!((pool.pids(), pool.workers[0].estimated.len()), (vec![worker], 0), "{pool:?}");
    ostler.stop_clean();
}

#[test]
fn what_a_child_held_that_nobody_reaps_is_lost_while_it_is_a_zombie() {
    is_lost_with_who_held_it("zombie");
}

#[test]
fn what_a_child_held_that_the_kernel_reaps_is_lost() {
    is_lost_with_who_held_it("ignore");
}

#[test]
fn what_an_orphan_held_is_lost() {
    is_lost_with_who_held_it("orphan");
}

fn makes_the_figures_estimates(mode: &str, how: &str) {
    let mut ostler = start(mode);
    let target = ostler.unix("app.sock");
    let mut clients: Vec<_> = (0..3).map(|_| target.connect(PATIENCE).expect("connected")).collect();
    for client in &mut clients {
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    }
    let pool = wait_pool(&ostler, "all are over", |pool| pool.accepted == 3 && pool.is_idle());
    assert_eq!((pool.done, pool.lost, pool.check_books()), (3, 0, Ok(())), "{pool:?}");
    assert_eq!(pool.workers[0].estimated, [how], "{pool:?}");
    let shown = ostler.command(&["status"]);
    let line = format!("! main: ready: claimed, done and lost are estimated ({how})");
    assert!(shown.stdout.contains(&line), "{}", shown.stdout);
    ostler.stop_clean();
}

#[test]
fn a_connection_that_is_sent_to_another_process_makes_the_figures_estimates() {
    makes_the_figures_estimates("pass", "passed");
}

#[test]
fn a_connection_that_an_executed_program_keeps_makes_the_figures_estimates() {
    makes_the_figures_estimates("exec", "executed");
}

#[test]
fn a_program_that_execl_begins_inside_of_the_c_library_is_found_when_it_begins() {
    makes_the_figures_estimates("execl", "executed");
}

#[test]
fn what_a_program_has_that_system_begins_is_noticed() {
    makes_the_figures_estimates("system", "cloned");
}

#[test]
fn what_execl_closes_is_let_go_of() {
    let mut ostler = start("execl_without");
    for round in 1..=3 {
        get_once(&ostler.unix("app.sock"), "/", PATIENCE).expect("its worker serves it");
        let pool = wait_pool(&ostler, "it is over", |pool| pool.done == round && pool.is_idle());
        assert_eq!((pool.lost, pool.check_books()), (0, Ok(())), "{pool:?}");
        assert_eq!(pool.workers[0].estimated.len(), 0, "{pool:?}");
        let is_sleeper = |pid: &i32| procs::name(*pid).as_deref() == Some("sleep");
        let sleepers = ostler.processes().into_iter().filter(is_sleeper).count();
        assert_eq!(sleepers as u64, round, "what was executed goes on");
    }
    ostler.stop_clean();
}

/// A child by this function has the connection alone, answers, and holds it until its client goes.
fn is_held_by_who_was_spawned(mode: &str) {
    let mut ostler = start(mode);
    let target = ostler.unix("app.sock");
    // Each is answered by a child of its own, so that the parent has gone on and let go of those before.
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = target.connect(PATIENCE).expect("connected");
            client.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
            let mut answer = [0; HEAD.len()];
            client.read_exact(&mut answer).expect("answered");
            assert_eq!(answer, *HEAD);
            client
        })
        .collect();
    for done in 0..3 {
        let pool = wait_pool(&ostler, "so many are over", |pool| pool.done >= done);
        assert_eq!((pool.done, pool.claimed, pool.check_books()), (done, 3 - done, Ok(())), "{pool:?}");
        clients.remove(0);
    }
    let pool = wait_pool(&ostler, "all are over", |pool| pool.done == 3);
    assert_eq!((pool.claimed, pool.lost, pool.check_books()), (0, 0, Ok(())), "{pool:?}");
    assert_eq!(pool.workers[0].estimated, ["executed"], "{pool:?}");
    ostler.stop_clean();
}

const HEAD: &[u8; 17] = b"HTTP/1.1 200 OK\r\n";

#[test]
fn what_a_child_by_posix_spawn_has_is_held_to_its_end() {
    is_held_by_who_was_spawned("posix_spawn");
}

#[test]
fn what_a_child_by_posix_spawnp_has_is_held_to_its_end() {
    is_held_by_who_was_spawned("posix_spawnp");
}

#[test]
fn a_connection_that_is_the_standard_input_of_a_child_by_vfork_makes_the_figures_estimates() {
    makes_the_figures_estimates("spawn", "cloned");
}

#[test]
fn a_program_that_goes_into_the_background_is_one_that_ended() {
    let more = "start = { ready_timeout = \"5s\", failures = 1 }";
    let ended = Ostler::builder().config(config("daemonise", more)).ready_within(PATIENCE).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(
        ended.log.contains("ended with exit code 0 before it was ready (a worker has to stay in the foreground)"),
        "{}",
        ended.log
    );
}
