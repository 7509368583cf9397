//! Does a pool rest when it is told to, lose nobody meanwhile, and come back?

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use ostler_tests::builder::Builder;
use ostler_tests::deadline::{SLACK, SOON};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::status::{Pool, PoolState};
use ostler_tests::{Ostler, Scratch, Target, programs};

const PATIENCE: Duration = Duration::from_secs(30);

fn start(scratch: &Scratch, rest: &str) -> (Ostler, Target) {
    let target = Target::Unix(scratch.path("web.sock"));
    let config = format!("[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\n{rest}\n");
    (Builder::new(scratch).config(config).start(), target)
}

fn does(ostler: &Ostler, args: &[&str]) {
    let output = ostler.command(args);
    assert_eq!(output.code, 0, "{args:?}: {output:?}");
}

/// A command that ends with this code and says all of these.
fn says(ostler: &Ostler, args: &[&str], code: i32, texts: &[&str]) {
    let output = ostler.command(args);
    assert_eq!(output.code, code, "{args:?}: {output:?}");
    assert!(texts.iter().all(|text| output.text().contains(text)), "{args:?}: {texts:?} in {output:?}");
}

fn wait_pool(ostler: &Ostler, what: &str, fits: impl Fn(&Pool) -> bool) -> Pool {
    ostler.wait_status(what, |status| Some(status.only()).filter(|pool| fits(pool)).cloned())
}

fn is_back(pool: &Pool) -> bool {
    pool.state == PoolState::Ready && pool.ready().len() == 2
}

fn ask(target: &Target, path: &str) -> Connection {
    let mut connection = Connection::open(target, PATIENCE).expect("a place in a queue");
    connection.ask(path, Keep::Once).expect("room for a request");
    connection
}

fn wait_in_line(ostler: &Ostler, count: u64) {
    wait_pool(ostler, &format!("{count} in the line"), |pool| pool.queue.length == count);
}

// ── pause and resume ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_paused_pool_has_no_workers_and_loses_nobody() {
    let scratch = Scratch::new();
    let (mut ostler, target) = start(&scratch, "queue.timeout = \"60s\"");
    get_once(&target, "/", PATIENCE).expect("it serves");
    // Our answer may be there before the supervisor has closed its copy of the connection.
    wait_pool(&ostler, "idle", Pool::is_idle);
    let descriptors = ostler.descriptor_count();
    let load = Load::on(&target).clients(16).path("/sleep/1").start();
    for round in 0..3 {
        load.wait_for_more(50);
        does(&ostler, &["pause"]);
        let pool = ostler.status().only().clone();
        assert_eq!((pool.state, pool.pids(), pool.claimed), (PoolState::Paused, vec![], 0), "round {round}");
        wait_in_line(&ostler, 16);
        does(&ostler, &["resume"]);
        assert!(is_back(ostler.status().only()), "it has answered when everybody is ready");
    }
    load.wait_for_more(50);
    load.stop().assert_no_failure();
    let pool = wait_pool(&ostler, "idle", Pool::is_idle);
    assert_eq!((pool.lost, pool.shed_total(), pool.generation), (0, 0, 1));
    ostler.wait_descriptor_count(descriptors);
    ostler.stop_clean();
}

#[test]
fn winch_pauses_and_hup_only_resumes() {
    let scratch = Scratch::new();
    let (mut ostler, target) = start(&scratch, "");
    ostler.signal(Signal::SIGWINCH);
    wait_pool(&ostler, "paused", |pool| {
        pool.state == PoolState::Paused && pool.workers.iter().all(|w| w.pid.is_none())
    });
    let mut waiting = ask(&target, "/");
    wait_in_line(&ostler, 1);
    ostler.signal(Signal::SIGHUP);
    assert_eq!(waiting.answer().expect("it has waited for this").status, 200);
    let pool = wait_pool(&ostler, "resumed", is_back);
    assert_eq!((pool.generation, pool.reload.last.as_str()), (1, "none"), "no reload");
    ostler.signal(Signal::SIGHUP);
    wait_pool(&ostler, "reloaded, as nothing is paused", |pool| pool.reload.last == "ok");
    ostler.stop_clean();
}

#[test]
fn a_terminal_that_is_resized_pauses_nobody() {
    let scratch = Scratch::new();
    // Close-on-exec from birth: a terminal ends when nobody holds it, and a child that inherits it would.
    let terminal = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("it is ours");
    let path = ptsname_r(&terminal).expect("it has a name");
    // Its own session, with this terminal to control it: the kernel tells it of every new size.
    let prologue = format!("exec 0<>{path}; set -- setsid --ctty \"$@\";");
    let config = "[supervisor]\nlog.level = \"debug\"\n[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\n";
    let mut ostler = Builder::new(&scratch).config(config).prologue(&prologue).start();
    let resized = Command::new("stty").args(["-F", &path, "cols", "100", "rows", "40"]).status();
    assert!(resized.expect("stty is there").success());
    ostler.wait_log(&["SIGWINCH", "from the kernel, ignored"]);
    assert_eq!(ostler.status().only().state, PoolState::Ready);
    drop(terminal);
    let ended = ostler.wait(SOON);
    assert_eq!(ended.code, 0, "the terminal has gone: {}", ended.log);
}

#[test]
fn one_pool_rests_while_another_serves() {
    let config =
        "[pool.a]\nlisten = [\"unix:a.sock\"]\nworkers = 1\n[pool.b]\nlisten = [\"unix:b.sock\"]\nworkers = 1\n";
    let mut ostler = Ostler::builder().config(config).start();
    does(&ostler, &["pause", "a"]);
    get_once(&ostler.unix("b.sock"), "/", PATIENCE).expect("b is not concerned");
    let status = ostler.status();
    assert_eq!((status.pool("a").state, status.pool("b").state), (PoolState::Paused, PoolState::Ready));
    says(&ostler, &["reload", "a"], 1, &["pool a is paused", "ostler resume a"]);
    says(&ostler, &["reload"], 1, &["pool a is paused"]);
    does(&ostler, &["reload", "b"]);
    says(&ostler, &["pause", "c"], 1, &["no pool", "a, b"]);
    does(&ostler, &["resume"]);
    get_once(&ostler.unix("a.sock"), "/", PATIENCE).expect("a is back");
    ostler.stop_clean();
}

#[test]
fn who_asks_for_what_is_so_already_is_told_so() {
    let scratch = Scratch::new();
    let (mut ostler, _) = start(&scratch, "");
    says(&ostler, &["resume"], 0, &["resumed: web (2 workers)"]);
    says(&ostler, &["pause"], 0, &["paused: web (0 wait)"]);
    says(&ostler, &["pause", "web"], 0, &["paused: web"]);
    says(&ostler, &["status"], 0, &["web: paused", "ostler resume web"]);
    does(&ostler, &["resume", "web"]);
    ostler.stop_clean();
}

#[test]
fn a_pause_ends_at_the_drain_deadline_whatever_a_worker_does() {
    let scratch = Scratch::new();
    let (mut ostler, target) = start(&scratch, "drain = { timeout = \"200ms\", kill_after = \"1s\" }");
    let _endless = ask(&target, "/sleep/3600000");
    wait_pool(&ostler, "one is held", |pool| pool.claimed == 1);
    does(&ostler, &["pause"]);
    let pool = ostler.status().only().clone();
    assert_eq!((pool.pids(), pool.claimed), (vec![], 0), "{pool:?}");
    does(&ostler, &["resume"]);
    ostler.stop_clean();
}

#[test]
fn who_waits_for_a_pause_that_is_called_off_is_told_so() {
    let scratch = Scratch::new();
    let (mut ostler, target) = start(&scratch, "");
    let mut held = ask(&target, "/sleep/1500");
    wait_pool(&ostler, "one is held", |pool| pool.claimed == 1);
    let mut pause = ostler.client().prepare(&["pause"]);
    let pause = pause.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_pool(&ostler, "the pause has begun", |pool| pool.state == PoolState::Paused);
    does(&ostler, &["resume"]);
    let output = pause.wait_with_output().expect("our child");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("was resumed"), "{output:?}");
    assert_eq!(held.answer().expect("its worker drained").status, 200);
    ostler.stop_clean();
}

// ── beside other changes ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_paused_pool_is_not_restarted_but_may_be_scaled() {
    let scratch = Scratch::new();
    let (mut ostler, _) = start(&scratch, "");
    does(&ostler, &["pause"]);
    says(&ostler, &["restart", "web"], 1, &["pool web is paused", "ostler resume web"]);
    does(&ostler, &["scale", "web", "3"]);
    assert_eq!(ostler.status().only().pids(), Vec::<i32>::new());
    does(&ostler, &["resume"]);
    assert_eq!(ostler.status().only().ready().len(), 3);
    ostler.stop_clean();
}

#[test]
fn a_pause_is_refused_while_a_reload_is_under_way() {
    let command = programs::toml(&programs::slow_start(1000));
    let scratch = Scratch::new();
    let (mut ostler, _) = start(&scratch, "");
    ostler.rewrite_config(&format!("[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\ncommand = {command}\n"));
    does(&ostler, &["reload", "--no-wait"]);
    wait_pool(&ostler, "the reload has begun", |pool| pool.workers.len() > 2);
    says(&ostler, &["pause"], 1, &["reload is under way"]);
    ostler.signal(Signal::SIGWINCH);
    ostler.wait_log(&["not paused", "reload is under way"]);
    wait_pool(&ostler, "the reload is over", |pool| pool.reload.last == "ok");
    does(&ostler, &["pause"]);
    does(&ostler, &["resume"]);
    ostler.stop_clean();
}

#[test]
fn a_stop_serves_those_who_wait_in_a_paused_pool() {
    let scratch = Scratch::new();
    let (mut ostler, target) = start(&scratch, "queue = { limit = 10, timeout = \"60s\" }");
    does(&ostler, &["pause"]);
    // Ten in the line, the others in the kernel's queue.
    let mut waiting: Vec<Connection> = (0..30).map(|_| ask(&target, "/")).collect();
    wait_in_line(&ostler, 10);
    ostler.signal(Signal::SIGTERM);
    for client in &mut waiting {
        assert_eq!(client.answer().expect("it has waited for this").status, 200);
    }
    let ended = ostler.wait(SOON);
    assert_eq!(ended.code, 0, "{}", ended.log);
}

#[test]
fn a_stop_of_a_paused_pool_in_which_nobody_waits_ends_at_once_and_a_fast_one_sheds_the_line() {
    let scratch = Scratch::new();
    let (mut ostler, _) = start(&scratch, "");
    does(&ostler, &["pause"]);
    ostler.stop_clean();

    let (mut ostler, target) = start(&scratch, "");
    does(&ostler, &["pause"]);
    let _waiting = ask(&target, "/");
    wait_in_line(&ostler, 1);
    says(&ostler, &["stop", "--now"], 4, &["1 connections shed"]);
    assert_eq!(ostler.wait(SOON).code, 4);
}

// ── programs that do not come back ─────────────────────────────────────────────────────────────────────────

/// A pool of one whose program does as the file `mood` says.
fn moody(scratch: &Scratch, start: &str) -> (Ostler, Target) {
    scratch.write("mood", "well");
    let serve = programs::slow_start(0).join(" ");
    let script = format!(
        "#!/bin/sh\ncase $(cat mood) in\nbroken) echo no database; exit 3;;\nmute) exec sleep 60;;\nesac\nexec {serve}\n"
    );
    let program = scratch.write("program", &script);
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a file of ours");
    let target = Target::Unix(scratch.path("web.sock"));
    let config = format!(
        "[pool.web]\nlisten = [\"unix:web.sock\"]\ncommand = [\"./program\"]\nworkers = 1\nqueue.timeout = \"60s\"\n{start}\n"
    );
    (Builder::new(scratch).config(config).start(), target)
}

#[test]
fn a_pool_that_can_not_come_back_says_why_and_is_restarted_when_it_is_mended() {
    let scratch = Scratch::new();
    let (mut ostler, target) = moody(&scratch, "start = { failures = 2, backoff = [\"10ms\", \"20ms\"] }");
    does(&ostler, &["pause"]);
    scratch.write("mood", "broken");
    let mut waiting = ask(&target, "/");
    wait_in_line(&ostler, 1);
    says(&ostler, &["resume"], 1, &["given up", "exit code 3", "no database", "ostler restart web"]);
    assert_eq!(ostler.status().only().state, PoolState::Failed);
    // Paused and resumed, it tries again.
    does(&ostler, &["pause"]);
    assert_eq!(ostler.status().only().state, PoolState::Paused);
    scratch.write("mood", "well");
    does(&ostler, &["resume"]);
    assert_eq!(waiting.answer().expect("it has waited for this").status, 200);
    ostler.stop_clean();
}

#[test]
fn who_waits_too_long_for_a_pool_to_come_back_is_told_so_and_it_comes_back_later() {
    let scratch = Scratch::new();
    let (mut ostler, target) = moody(&scratch, "start = { ready_timeout = \"1s\", failures = 1000 }");
    does(&ostler, &["pause"]);
    scratch.write("mood", "mute");
    says(&ostler, &["resume"], 4, &["0 of 1 workers are ready", "goes on trying"]);
    scratch.write("mood", "well");
    assert_eq!(get_once(&target, "/", PATIENCE + SLACK).expect("it is back").status, 200);
    ostler.stop_clean();
}
