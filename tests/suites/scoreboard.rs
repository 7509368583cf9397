//! Can everything be seen without asking: of a supervisor that is stopped or dead, and of a file that was tampered with?

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_shared::scoreboard::Content;
use ostler_shared::scoreboard::banks::Unreadable;
use ostler_shared::scoreboard::content::Pool;
use ostler_shared::scoreboard::file::{Board, BoardError, beside};
use ostler_tests::deadline::{SOON, wait_for, wait_until};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::{Ostler, place, programs};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const CONFIG: &str = "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\nconcurrency = 1\nqueue.limit = 3\n";

/// One that has published something: it may be ready a moment before that.
fn start() -> Ostler {
    let ostler = Ostler::builder().config(CONFIG).start();
    wait_board(&ostler, "it is there", |_| Some(()));
    ostler
}

fn path(ostler: &Ostler) -> PathBuf {
    beside(ostler.control().expect("given"))
}

fn read(ostler: &Ostler) -> Result<Content, BoardError> {
    Board::open(path(ostler))?.read()
}

/// Waits for a state on the scoreboard of which this holds.
fn wait_board<T>(ostler: &Ostler, what: &str, fact: impl Fn(&Pool) -> Option<T>) -> T {
    wait_for(SOON, what, || fact(read(ostler).ok()?.pools.first()?))
}

fn visit(ostler: &Ostler, times: u64) {
    for _ in 0..times {
        get_once(&ostler.unix("web.sock"), "/", PATIENCE).expect("served");
    }
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a process of ours");
}

/// What does not depend on when it is looked at.
fn timeless(json: &str) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|key, _| !["age_s", "uptime_s", "at_s", "rss_bytes"].contains(&key.as_str()));
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut value = serde_json::from_str(json).expect("JSON");
    strip(&mut value);
    value
}

#[test]
fn a_stopped_supervisor_is_seen_on_its_scoreboard_as_it_was() {
    let mut ostler = start();
    let killed = ostler.status().only().pids()[0];
    send(killed, Signal::SIGKILL);
    ostler.wait_status("another worker", |status| {
        let pool = status.only();
        (pool.ready().len() == 2 && !pool.pids().contains(&killed)).then_some(())
    });
    visit(&ostler, 5);
    ostler.wait_status("all is done", |status| (status.only().done == 5).then_some(()));
    let said = ostler.command(&["status", "--json"]).stdout;
    wait_board(&ostler, "it is published", |pool| (pool.books.done == Some(5)).then_some(()));
    ostler.stop_still();
    let read = ostler.command(&["status", "--json"]);
    assert_eq!(read.code, 0, "{read:?}");
    assert!(read.stderr.contains("is stopped") && read.stderr.contains(" old"), "{read:?}");
    assert_eq!(timeless(&read.stdout), timeless(&said), "one schema, and the same numbers");
    let status = ostler.client().any_status().expect("as the contract says");
    assert_eq!(status.check_books(), Ok(()));
    assert!(status.age_s > 0.0 && status.only().workers[0].rss_bytes.is_some(), "{status:?}");
    let table = ostler.command(&["status"]);
    assert!(table.code == 0 && table.stdout.contains("done 5") && table.stderr.contains("kill -CONT"), "{table:?}");
    ostler.signal(Signal::SIGCONT);
    assert_eq!(ostler.status().age_s, 0.0, "it speaks for itself again");
    ostler.stop_clean();
}

#[test]
fn the_time_in_which_it_stood_still_is_part_of_its_age() {
    let mut ostler = start();
    let began = |board: Content| board.supervisor.started_at_ns;
    visit(&ostler, 1);
    wait_board(&ostler, "it is published", |pool| (pool.books.done == Some(1)).then_some(()));
    let before = began(read(&ostler).expect("a scoreboard"));
    ostler.stop_still();
    // More than its own clock takes for a hiccup.
    let since = Instant::now();
    wait_until(SOON, "a second has passed", || since.elapsed() > Duration::from_secs(1));
    ostler.signal(Signal::SIGCONT);
    visit(&ostler, 1);
    wait_board(&ostler, "it is published", |pool| (pool.books.done == Some(2)).then_some(()));
    assert_eq!(began(read(&ostler).expect("a scoreboard")), before);
    ostler.stop_clean();
}

#[test]
fn where_clients_sit_at_the_control_socket_and_ask_nothing_the_status_comes_from_the_scoreboard() {
    let mut ostler = start();
    visit(&ostler, 1);
    wait_board(&ostler, "it is published", |pool| (pool.books.done == Some(1)).then_some(()));
    let control = ostler.control().expect("given").to_owned();
    let idle: Vec<UnixStream> = (0..64).map(|_| UnixStream::connect(&control).expect("there is room")).collect();
    let output = wait_for(SOON, "all of them were taken in", || {
        let output = ostler.command(&["status"]);
        output.stderr.contains("as many clients as it takes").then_some(output)
    });
    assert!(output.code == 0 && output.stdout.contains("done 1"), "{output:?}");
    drop(idle);
    wait_until(SOON, "it answers again", || ostler.command(&["status"]).stderr.is_empty());
    ostler.stop_clean();
}

#[test]
fn what_nobody_counts_is_null_by_both_ways() {
    let program = place::unmodified("listening.py").display().to_string();
    let command = programs::toml(&["python3".to_owned(), program, "silent".to_owned()]);
    let pool = "[pool.own]\nlisten = [\"unix:own.sock\"]\nworkers = 1\nhandoff = \"listen\"\n";
    let mut ostler = Ostler::builder().config(format!("{pool}command = {command}\n")).ready_within(PATIENCE).start();
    let said = ostler.command(&["status", "--json"]).stdout;
    wait_board(&ostler, "it is ready", |pool| (pool.state == "ready" && pool.workers.len() == 1).then_some(()));
    ostler.stop_still();
    let read = ostler.command(&["status", "--json"]);
    assert!(read.code == 0 && read.stderr.contains("is stopped"), "{read:?}");
    assert_eq!(timeless(&read.stdout), timeless(&said));
    for unknown in ["accepted", "done", "failed", "lost", "waiting", "claimed", "handed", "length", "limit"] {
        assert!(read.stdout.contains(&format!("{unknown:?}:null")), "{unknown}: {}", read.stdout);
    }
    let table = ostler.command(&["status"]);
    assert!(table.stdout.contains("accepted - · done - · lost -"), "{table:?}");
    ostler.signal(Signal::SIGCONT);
    ostler.stop_clean();
}

#[test]
fn stopped_workers_and_a_full_line_are_seen_by_both_ways() {
    let mut ostler = start();
    let workers = ostler.status().only().pids();
    workers.iter().for_each(|pid| send(*pid, Signal::SIGSTOP));
    // Two that are handed out and come back, and the line is full.
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
        client.ask("/", Keep::Once).expect("ask");
        clients.push(client);
    }
    ostler.wait_status("the line is full", |status| (status.only().queue.length >= 3).then_some(()));
    wait_board(&ostler, "the board shows it", |pool| (pool.in_line.is_some_and(|length| length >= 3)).then_some(()));
    let first = wait_for(SOON, "the status says so", || {
        let table = ostler.command(&["status"]);
        assert_eq!(table.code, 0, "{table:?}");
        table.stdout.lines().next().filter(|first| first.contains(" workers stuck, ")).map(str::to_owned)
    });
    assert!(first.starts_with("! web: ") && first.contains("the line is full, "), "{first}");
    let waits_since = wait_board(&ostler, "since when", |pool| pool.first_in_line_at_ns);
    assert!(waits_since > 0);
    workers.iter().for_each(|pid| send(*pid, Signal::SIGCONT));
    for client in &mut clients {
        assert_eq!(client.answer().expect("served").status, 200);
    }
    ostler.stop_clean();
}

#[test]
fn what_is_published_agrees_with_what_clients_count() {
    let mut ostler = start();
    visit(&ostler, 40);
    let pool = wait_board(&ostler, "40 are done", |pool| (pool.books.done == Some(40)).then(|| pool.clone()));
    assert_eq!((pool.books.accepted, pool.books.handed), (Some(40), Some(40)));
    assert_eq!((pool.waits.count(), pool.services.count()), (40, 40));
    assert_eq!((pool.tally.started, pool.tally.restarts, pool.workers.len()), (2, 0, 2));
    let victim = &pool.workers[0];
    send(victim.pid.expect("it runs"), Signal::SIGKILL);
    let died = wait_board(&ostler, "the death", |pool| (pool.tally.died_by_signal == 1).then_some(pool.tally));
    assert!(died.restarts == 1 && died.started >= 2, "{died:?}");
    let content = read(&ostler).expect("readable");
    let death = content.deaths.last().expect("it is remembered");
    assert_eq!((Some(death.id), Some(death.pid), death.signal), (victim.id, victim.pid, Some(9)));
    // A turn may be about several visitors.
    assert!(content.supervisor.turns.count > 2 && content.supervisor.turns.busy_ns > 0, "{content:?}");
    ostler.wait_status("all are back", |status| (status.only().ready().len() == 2).then_some(()));
    ostler.stop_clean();
}

#[test]
fn reloads_are_published_with_their_verdicts() {
    let mut ostler = start();
    assert_eq!(ostler.command(&["reload"]).code, 0);
    ostler.rewrite_config(&format!("{CONFIG}command = [\"/bin/false\"]\n"));
    assert_eq!(ostler.command(&["reload"]).code, 3);
    let pool = wait_board(&ostler, "both", |pool| (pool.tally.reloads_undone == 1).then(|| pool.clone()));
    assert_eq!((pool.tally.reloads_ok, pool.last_reload.as_ref(), pool.generation), (1, "undone", 2));
    assert!(pool.undone_because.is_some_and(|why| why.contains("exit code 1")));
    let content = read(&ostler).expect("readable");
    let outcomes: Vec<&str> = content.reloads.iter().map(|reload| reload.outcome.as_ref()).collect();
    assert_eq!((outcomes, content.supervisor.reloads_ok), (vec!["ok", "undone"], 1));
    ostler.stop_clean();
}

#[test]
fn an_idle_supervisor_publishes_nothing() {
    let mut ostler = start();
    visit(&ostler, 1);
    wait_board(&ostler, "it is done", |pool| (pool.books.done == Some(1)).then_some(()));
    let turns = || read(&ostler).expect("readable").supervisor.turns.count;
    let before = turns();
    for _ in 0..5 {
        assert_eq!(ostler.command(&["status"]).code, 0);
    }
    assert_eq!(turns(), before, "to be asked changes nothing");
    ostler.stop_clean();
}

#[test]
fn a_truncated_scoreboard_harms_nobody_and_is_whole_after_the_next_change() {
    let mut ostler = start();
    for (length, visits) in [(0, 1), (100, 2)] {
        OpenOptions::new().write(true).open(path(&ostler)).expect("ours").set_len(length).expect("truncated");
        assert!(matches!(read(&ostler), Err(BoardError::Unreadable(_, Unreadable::Short))));
        visit(&ostler, 1);
        wait_board(&ostler, "it is whole", |pool| (pool.books.done == Some(visits)).then_some(()));
    }
    assert_eq!(ostler.status().age_s, 0.0);
    ostler.stop_clean();
}

#[test]
fn a_scoreboard_that_was_tidied_away_or_replaced_comes_back() {
    let mut ostler = start();
    let elsewhere = ostler.scratch().path("elsewhere");
    fs::write(&elsewhere, "mine").expect("ours");
    fs::remove_file(path(&ostler)).expect("it is there");
    visit(&ostler, 1);
    wait_board(&ostler, "it is back", |pool| (pool.books.done == Some(1)).then_some(()));
    fs::remove_file(path(&ostler)).expect("it is there");
    symlink(&elsewhere, path(&ostler)).expect("a link");
    visit(&ostler, 1);
    wait_board(&ostler, "it is back again", |pool| (pool.books.done == Some(2)).then_some(()));
    assert_eq!(fs::read_to_string(&elsewhere).expect("ours"), "mine", "no link is followed");
    assert_eq!(fs::metadata(path(&ostler)).expect("there").permissions().mode() & 0o7777, 0o600);
    ostler.stop_clean();
}

#[test]
fn what_a_killed_supervisor_left_is_shown_as_that_and_never_as_its_successors() {
    let mut killed = start();
    visit(&killed, 3);
    wait_board(&killed, "it is done", |pool| (pool.books.done == Some(3)).then_some(()));
    killed.signal(Signal::SIGKILL);
    killed.wait(SOON);
    let output = killed.command(&["status"]);
    assert_eq!(output.code, 5, "{output:?}");
    assert!(output.stderr.contains("gone") && output.stdout.contains("done 3"), "{output:?}");
    let others = killed.command(&["deaths"]);
    assert!(others.code == 5 && others.stderr.contains("is gone without having stopped"), "{others:?}");
    tampered_scoreboards_are_refused(&killed);
    let mut next = ostler_tests::builder::Builder::new(killed.scratch()).config(CONFIG).start();
    assert_eq!(next.status().only().done, 0);
    let fresh = wait_for(SOON, "its own", || read(&next).ok());
    assert_eq!(fresh.supervisor.pid.to_string(), next.pid().to_string());
    next.stop_clean();
    assert!(!path(&next).exists(), "it goes with its supervisor");
}

fn tampered_scoreboards_are_refused(killed: &Ostler) {
    let refused = |why: &[&str]| {
        let output = killed.command(&["status"]);
        assert_eq!((output.code, output.stdout.as_str()), (5, ""), "{output:?}");
        assert!(why.iter().all(|word| output.stderr.contains(word)), "{why:?}: {output:?}");
    };
    let file = OpenOptions::new().write(true).open(path(killed)).expect("ours");
    fs::set_permissions(path(killed), Permissions::from_mode(0o644)).expect("ours");
    refused(&["0644"]);
    fs::set_permissions(path(killed), Permissions::from_mode(0o600)).expect("ours");
    file.write_all_at(&77_u64.to_le_bytes(), 8).expect("ours");
    refused(&["version 77", "reads 1"]);
    file.write_all_at(b"not ours", 0).expect("ours");
    refused(&["no scoreboard"]);
    file.set_len(20).expect("ours");
    refused(&["cut short"]);
    fs::remove_file(path(killed)).expect("ours");
    symlink("/etc/passwd", path(killed)).expect("a link");
    refused(&["no regular file"]);
    fs::remove_file(path(killed)).expect("ours");
    refused(&["no supervisor"]);
}
