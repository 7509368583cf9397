//! Does a path belong to one supervisor, whatever becomes of it?

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use ostler_tests::builder::Builder;
use ostler_tests::deadline::{SLACK, SOON, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::{Ostler, Scratch, Target, procs};

const PATIENCE: Duration = Duration::from_secs(20);
const ARGS: [&str; 4] = ["--listen", "unix:web.sock", "--workers", "2"];

fn web(scratch: &Scratch) -> Target {
    Target::Unix(scratch.path("web.sock"))
}

#[test]
fn a_second_supervisor_on_a_path_refuses_and_disturbs_nobody() {
    let scratch = Scratch::new();
    let mut first = Builder::new(&scratch).args(ARGS).start();
    let load = Load::on(&web(&scratch)).clients(4).path("/sleep/1").start();
    load.wait_for_more(20);
    let refused = Builder::new(&scratch).args(ARGS).start_failing();
    assert_eq!(refused.code, 1, "{}", refused.log);
    assert!(refused.log.contains("web.sock"), "{}", refused.log);
    load.wait_for_more(20);
    load.stop().assert_no_failure();
    first.stop_clean();
}

#[test]
fn after_a_kill_of_the_first_the_second_starts() {
    let scratch = Scratch::new();
    let mut first = Builder::new(&scratch).args(ARGS).start();
    first.signal(Signal::SIGKILL);
    first.wait(SOON);
    assert!(scratch.path("web.sock").exists(), "a killed supervisor leaves its path");
    let mut second = Builder::new(&scratch).args(ARGS).start();
    get_once(&web(&scratch), "/", PATIENCE).expect("the second serves");
    first.assert_no_process_left();
    get_once(&web(&scratch), "/", PATIENCE).expect("the second serves on");
    second.stop_clean();
    assert!(!scratch.path("web.sock").exists());
    assert!(!scratch.path("web.sock.lock").exists());
}

#[test]
fn a_stale_path_is_taken_over() {
    let scratch = Scratch::new();
    drop(UnixListener::bind(scratch.path("web.sock")).expect("bind"));
    let mut ostler = Builder::new(&scratch).args(ARGS).start();
    get_once(&web(&scratch), "/", PATIENCE).expect("served");
    ostler.stop_clean();
}

#[test]
fn a_path_where_somebody_else_answers_is_left_alone() {
    let scratch = Scratch::new();
    let other = UnixListener::bind(scratch.path("web.sock")).expect("bind");
    let refused = Builder::new(&scratch).args(ARGS).start_failing();
    assert_eq!(refused.code, 1, "{}", refused.log);
    drop(Target::Unix(scratch.path("web.sock")).connect(PATIENCE).expect("the other one is still there"));
    drop(other);
    std::fs::remove_file(scratch.path("web.sock")).expect("still there");
}

#[test]
fn a_file_at_the_path_is_not_deleted() {
    let scratch = Scratch::new();
    let file = scratch.write("web.sock", "somebody's letters\n");
    let refused = Builder::new(&scratch).args(ARGS).start_failing();
    assert_eq!(refused.code, 1, "{}", refused.log);
    assert!(refused.log.contains("web.sock"), "{}", refused.log);
    assert_eq!(std::fs::read_to_string(file).expect("it is there"), "somebody's letters\n");
}

#[test]
fn a_path_that_somebody_replaced_is_not_unlinked_at_the_end() {
    let scratch = Scratch::new();
    let mut ostler = Builder::new(&scratch).args(ARGS).start();
    std::fs::remove_file(scratch.path("web.sock")).expect("ours");
    let other = UnixListener::bind(scratch.path("web.sock")).expect("bind");
    assert_eq!(ostler.stop().code, 0);
    drop(web(&scratch).connect(PATIENCE).expect("the other one is still there"));
    drop(other);
    std::fs::remove_file(scratch.path("web.sock")).expect("not unlinked by ostler");
}

#[test]
fn workers_of_a_killed_supervisor_finish_what_they_hold_and_leave() {
    let scratch = Scratch::new();
    let config = r#"
        [pool.web]
        listen = ["unix:web.sock"]
        workers = 2
        concurrency = 2
        drain = { timeout = "10s" }
    "#;
    let mut ostler = Builder::new(&scratch).config(config).start();
    let mut held: Vec<Connection> = (0..4)
        .map(|_| {
            let mut connection = Connection::open(&web(&scratch), PATIENCE).expect("open");
            connection.ask("/sleep/1500", Keep::Once).expect("ask");
            connection
        })
        .collect();
    ostler.wait_status("all are claimed", |status| (status.only().claimed == 4).then_some(()));
    ostler.signal(Signal::SIGKILL);
    ostler.wait(SOON);
    for connection in &mut held {
        assert_eq!(connection.answer().expect("finished").status, 200);
    }
    let left = procs::marked_after(ostler.mark(), Duration::from_secs(10) + SLACK);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn workers_of_a_killed_supervisor_that_never_finish_leave_at_the_drain_deadline() {
    let scratch = Scratch::new();
    let config = r#"
        [pool.web]
        listen = ["unix:web.sock"]
        workers = 1
        drain = { timeout = "1s" }
    "#;
    let mut ostler = Builder::new(&scratch).config(config).start();
    let mut stuck = Connection::open(&web(&scratch), PATIENCE).expect("open");
    stuck.ask("/sleep/600000", Keep::Once).expect("ask");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    ostler.signal(Signal::SIGKILL);
    ostler.wait(SOON);
    let left = procs::marked_after(ostler.mark(), Duration::from_secs(1) + SLACK);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn mode_owner_and_group_are_those_of_the_configuration() {
    let scratch = Scratch::new();
    // Only root may give a file away; everybody may name himself.
    let (uid, gid) = if nix::unistd::geteuid().is_root() {
        (12_345, 12_346)
    } else {
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    };
    let config = format!(
        "[pool.web]\nlisten = [\"unix:web.sock\"]\nsocket = {{ mode = \"0620\", owner = {uid}, group = {gid} }}\n"
    );
    let mut ostler = Builder::new(&scratch).config(config).start();
    let found = std::fs::metadata(scratch.path("web.sock")).expect("it is there");
    assert_eq!((found.permissions().mode() & 0o777, found.uid(), found.gid()), (0o620, uid, gid));
    ostler.stop_clean();
}

#[test]
fn a_path_is_relative_to_the_file_that_names_it() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("etc")).expect("ours");
    scratch.write("etc/web.toml", "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 1\n");
    let mut ostler = Builder::new(&scratch).args(["-c", "etc/web.toml"]).start();
    get_once(&Target::Unix(scratch.path("etc/web.sock")), "/", PATIENCE).expect("served");
    ostler.stop_clean();
}

#[test]
fn two_supervisors_on_two_paths_do_not_know_of_each_other() {
    let scratch = Scratch::new();
    let mut one = Builder::new(&scratch).args(["--listen", "unix:one.sock"]).start();
    let mut two = Builder::new(&scratch).args(["--listen", "unix:two.sock"]).start();
    one.stop_clean();
    get_once(&two.unix("two.sock"), "/", PATIENCE).expect("the other one serves on");
    two.stop_clean();
}

#[test]
fn a_supervisor_that_starts_anew_at_once_gets_its_path_back() {
    let scratch = Scratch::new();
    for _ in 0..5 {
        let mut ostler: Ostler = Builder::new(&scratch).args(ARGS).start();
        get_once(&web(&scratch), "/", PATIENCE).expect("served");
        ostler.stop_clean();
        wait_until(SOON, "the path is gone", || !scratch.path("web.sock").exists());
    }
}
