//! What does `ostler top` show in a real terminal, what do its keys do, and how does it leave the terminal?

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::builder::{Builder, Control};
use ostler_tests::client::Client;
use ostler_tests::deadline::{SOON, wait_for};
use ostler_tests::http::{Connection, Keep};
use ostler_tests::status::PoolState;
use ostler_tests::tmux::{Modes, Terminal};
use ostler_tests::{Ostler, Scratch, procs};

const CONFIG: &str = r#"
[pool.web]
listen = ["unix:web.sock"]
workers = 2
[pool.api]
listen = ["unix:api.sock"]
workers = 1
"#;
const CLEAN: Modes = Modes { alternate: false, cursor: true, restored: true };

fn start() -> Ostler {
    Ostler::builder().config(CONFIG).start()
}

fn top_of(ostler: &Ostler, width: u16, height: u16) -> Terminal {
    let control = ostler.control().expect("given").to_str().expect("UTF-8").to_owned();
    Terminal::start(&["top", "--control", &control], width, height)
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a process of ours");
}

/// A row of the table of workers, in its columns at 80.
fn worker_row(top: &Terminal, name: &str, fact: impl Fn(&[&str]) -> bool) -> Vec<String> {
    top.wait(&format!("a row of {name}"), |screen| {
        let rows = screen.lines().map(|line| line.trim_start_matches('›').split_whitespace().collect::<Vec<_>>());
        let mut fits = rows.filter(|row| row.first() == Some(&name) && row.len() >= 9 && fact(row));
        fits.next().map(|row| row.into_iter().map(str::to_owned).collect())
    })
}

#[test]
fn pools_workers_and_whoever_is_served_are_on_the_screen() {
    let mut ostler = start();
    let top = top_of(&ostler, 80, 24);
    let pid = ostler.pid().to_string();
    top.wait_line(&["ostler", &format!("pid {pid}"), "running"]);
    top.wait_line(&["web", "ready", "2/2", "0/2"]);
    top.wait_line(&["api", "ready", "1/1"]);
    let mut client = Connection::open(&ostler.unix("api.sock"), SOON).expect("open");
    client.ask("/sleep/3600000", Keep::Once).expect("ask");
    // name, pid, state, load, rate, memory, age, restarts, and how long it has had its connection
    let row = worker_row(&top, "api/0.1", |row| row[3] == "1/1" && row[8] != "-");
    assert!(row[2] == "ready" && row[5].ends_with('M') && row[7] == "0", "{row:?}");
    top.press(&["s", "s"]);
    top.wait_line(&["workers 3", "by load ↓"]);
    top.press(&["/"]);
    top.press(&["a", "p", "i"]);
    top.wait_line(&["workers 1", "with api"]);
    top.wait_line(&["with: api"]);
    top.press(&["Enter", "Enter"]);
    top.wait_line(&["worker api/0.1", "ready", &row[1]]);
    top.wait_line(&["thread", &row[1]]);
    top.wait_line(&["holds 1 of 1", "oldest connection"]);
    top.press(&["Escape"]);
    top.wait_line(&["workers 1", "with api"]);
    top.press(&["q"]);
    assert_eq!(top.ended(), (0, CLEAN));
    send(row[1].parse().expect("a pid"), Signal::SIGKILL);
    drop(client);
    // Or it would be lost during the stop.
    ostler.wait_status("it is replaced", |status| {
        let api = status.pools.iter().find(|pool| pool.name == "api")?;
        (api.lost == 1 && api.state == PoolState::Ready).then_some(())
    });
    ostler.stop_clean();
}

#[test]
fn a_killed_worker_is_seen_replaced_and_its_death_is_in_its_slot() {
    let mut ostler = start();
    let top = top_of(&ostler, 80, 24);
    let row = worker_row(&top, "web/0.1", |row| row[2] == "ready");
    send(row[1].parse().expect("a pid"), Signal::SIGKILL);
    let next = worker_row(&top, "web/0.1", |other| other[1] != row[1] && other[2] == "ready");
    assert_eq!(next[7], "1", "{next:?}");
    top.press(&["Enter"]);
    top.wait_line(&["the one before ended", "SIGKILL"]);
    top.wait_line(&["ago", "web/0.1", &row[1], "SIGKILL"]);
    top.press(&["End"]);
    top.wait_line(&["INFO", "worker=web/0.1"]);
    top.press(&["q"]);
    assert_eq!(top.ended(), (0, CLEAN));
    ostler.stop_clean();
}

#[test]
fn it_fits_itself_into_a_terminal_that_changes_its_size() {
    let mut ostler = start();
    let top = top_of(&ostler, 80, 24);
    top.wait_line(&["worker", "pid", "memory", "restarts", "conn"]);
    top.resize(132, 40);
    top.wait_line(&["worker", "pid", "done ", "request"]);
    top.wait_line(&["pool", "gen", "lost+shed"]);
    top.resize(40, 10);
    top.wait("the pids have given way", |screen| {
        let titles = screen.lines().find(|line| line.contains("worker ") && line.contains("conn"))?;
        (!titles.contains("pid")).then_some(())
    });
    top.resize(80, 24);
    top.wait_line(&["worker", "pid", "memory", "restarts", "conn"]);
    top.press(&["q"]);
    assert_eq!(top.ended(), (0, CLEAN));
    ostler.stop_clean();
}

#[test]
fn a_stopped_supervisor_is_said_and_shown_all_the_same() {
    let mut ostler = start();
    let top = top_of(&ostler, 80, 24);
    // What it does before it publishes that would not be seen.
    top.wait_line(&["web", "ready", "2/2"]);
    ostler.signal(Signal::SIGSTOP);
    top.wait_line(&["! stopped for ", "nobody new is accepted"]);
    worker_row(&top, "web/1.1", |row| row[2] == "ready" && row[5].ends_with('M'));
    top.press(&["Enter"]);
    top.wait_line(&["thread"]);
    top.wait_line(&["the supervisor does not tell"]);
    top.press(&["Escape"]);
    // One that comes now sees it too.
    let late = top_of(&ostler, 80, 24);
    late.wait_line(&["! stopped for "]);
    worker_row(&late, "web/1.1", |row| row[2] == "ready");
    ostler.signal(Signal::SIGCONT);
    top.wait("it goes on", |screen| (!screen.contains("stopped for") && screen.contains("running")).then_some(()));
    top.press(&["q"]);
    assert_eq!(top.ended(), (0, CLEAN));
    ostler.stop_clean();
}

#[test]
fn a_supervisor_that_is_gone_is_said_and_the_next_one_is_shown() {
    let scratch = Scratch::new();
    let config = format!("[supervisor]\ncontrol = \"top.sock\"\n{CONFIG}");
    let start = || Builder::new(&scratch).config(&config).control(Control::Default).start();
    let mut first = start();
    let control = scratch.path("top.sock").to_str().expect("UTF-8").to_owned();
    let top = Terminal::start(&["top", "--control", &control], 80, 24);
    top.wait_line(&[&format!("pid {}", first.pid()), "running"]);
    // Killed, it leaves its scoreboard.
    scratch.expect_disorder();
    first.signal(Signal::SIGKILL);
    first.wait(SOON);
    top.wait_line(&["! gone for "]);
    top.wait_line(&["web/1.1"]);
    first.assert_no_process_left();
    let mut second = start();
    top.wait_line(&[&format!("pid {}", second.pid()), "running"]);
    // Stopped in order, it leaves nothing, and what was seen last stays.
    second.stop_clean();
    top.wait_line(&["! gone for "]);
    top.press(&["q"]);
    assert_eq!(top.ended(), (0, CLEAN));
}

#[test]
fn keys_steer_after_a_yes_and_do_nothing_after_a_no() {
    let mut ostler = start();
    let top = top_of(&ostler, 80, 24);
    let row = worker_row(&top, "web/0.1", |row| row[2] == "ready");
    top.press(&["r"]);
    top.wait_line(&["Replace the worker of web/0", "(y/n)"]);
    top.press(&["n"]);
    top.wait_line(&["recycle web/0: not done"]);
    top.press(&["r", "y"]);
    worker_row(&top, "web/0.1", |other| other[1] != row[1] && other[2] == "ready");
    top.wait_line(&["recycle web/0: "]);
    top.press(&["+"]);
    top.wait_line(&["Give web 1 worker more?"]);
    top.press(&["y"]);
    top.wait_line(&["web", "ready", "3/3"]);
    top.press(&["n", "1", "Enter"]);
    top.wait_line(&["Give web 1 worker?"]);
    top.press(&["y"]);
    top.wait_line(&["web", "ready", "1/1", "0/1"]);
    top.press(&["Tab", "p"]);
    top.wait_line(&["Drain all workers of web"]);
    top.press(&["y"]);
    top.wait_line(&["web", "paused"]);
    top.press(&["p", "y"]);
    top.wait_line(&["web", "ready", "1/1"]);
    top.press(&["q"]);
    assert_eq!(top.ended(), (0, CLEAN));
    assert_eq!(ostler.status().pools.iter().find(|pool| pool.name == "web").map(|pool| pool.target), Some(1));
    ostler.stop_clean();
}

#[test]
fn however_it_ends_the_terminal_is_as_it_was() {
    let mut ostler = start();
    let leave_by_key = |key: &str| {
        let top = top_of(&ostler, 80, 24);
        top.wait_line(&["web/0.1", "ready"]);
        top.press(&[key]);
        assert_eq!(top.ended(), (0, CLEAN), "{key}");
    };
    leave_by_key("q");
    leave_by_key("C-c");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let top = top_of(&ostler, 80, 24);
        top.wait_line(&["web/0.1", "ready"]);
        send(top.program(), signal);
        assert_eq!(top.ended(), (0, CLEAN), "{signal}");
    }
    ostler.stop_clean();
}

#[test]
fn it_is_gone_when_its_terminal_is() {
    let mut ostler = start();
    let top = top_of(&ostler, 80, 24);
    top.wait_line(&["web/0.1", "ready"]);
    let program = top.program();
    top.hang_up();
    wait_for(SOON, "it has ended", || (!procs::alive(program)).then_some(()));
    ostler.stop_clean();
}

#[test]
fn without_a_terminal_or_a_supervisor_it_says_so_and_touches_nothing() {
    let scratch = Scratch::new();
    let piped = Client::new(Some(scratch.path("nobody.sock")), scratch.clone()).command(&["top"]);
    assert!(piped.code == 2 && piped.stderr.contains("needs a terminal"), "{piped:?}");
    let nobody = scratch.path("nobody.sock").to_str().expect("UTF-8").to_owned();
    let top = Terminal::start(&["top", "--control", &nobody], 80, 24);
    assert_eq!(top.ended(), (5, CLEAN));
    top.wait_line(&["no supervisor", "nobody.sock"]);
}
