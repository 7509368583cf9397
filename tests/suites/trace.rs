//! `ostler trace`: does it show each connection as it ended, those that came back, and what a slow worker is doing?

use std::io::Write;
use std::os::unix::net::UnixStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::bounded::json_lines;
use ostler_tests::deadline::{SOON, wait_for};
use ostler_tests::follower::Follower;
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::{Ostler, Target, programs};
use serde_json::Value;

const TWO: &str = r#"
[pool.web]
listen = ["unix:web.sock", "tcp:127.0.0.1:0"]
workers = 2
queue = { limit = 1, overflow = "close", timeout = "300ms" }
[pool.api]
listen = ["unix:api.sock"]
workers = 1
"#;

fn start(config: &str) -> Ostler {
    Ostler::builder().config(config).start()
}

/// Those that have ended, as JSON.
fn ended(ostler: &Ostler, args: &[&str]) -> Vec<Value> {
    let output = ostler.command(&[&["trace", "--no-wait", "--json"], args].concat());
    assert_eq!(output.code, 0, "{output:?}");
    json_lines(&output.stdout)
}

/// Waits until so many have ended that these arguments choose.
fn wait_ended(ostler: &Ostler, args: &[&str], count: usize) -> Vec<Value> {
    wait_for(SOON, &format!("{count} connections have ended"), || {
        Some(ended(ostler, args)).filter(|ended| ended.len() >= count)
    })
}

fn visit(ostler: &Ostler, socket: &str, path: &str) {
    get_once(&ostler.unix(socket), path, SOON).expect("served");
}

fn micros(line: &Value, name: &str) -> u64 {
    line[name].as_u64().unwrap_or_else(|| panic!("{name} of {line}"))
}

#[test]
fn the_last_connections_are_there_for_who_looks_for_the_first_time() {
    let mut ostler = start(TWO);
    visit(&ostler, "web.sock", "/");
    visit(&ostler, "api.sock", "/sleep/120");
    let listener = ostler.status().pools.iter().find(|pool| pool.name == "web").expect("there").listeners[1].clone();
    let port = listener.rsplit(':').next().expect("a port").parse().expect("a number");
    get_once(&Target::Tcp(([127, 0, 0, 1], port).into()), "/", SOON).expect("served");
    let all = wait_ended(&ostler, &[], 3);
    let of = |name: &str| all.iter().map(|line| line[name].as_str().unwrap_or("none").to_owned()).collect::<Vec<_>>();
    assert_eq!(
        (of("pool"), of("outcome")),
        (vec!["web".to_owned(), "api".into(), "web".into()], vec!["done".into(); 3])
    );
    assert_eq!(of("listener"), ["unix:web.sock".to_owned(), "unix:api.sock".into(), listener]);
    assert_eq!(all[0]["peer"], format!("uid:{},pid:{}", nix::unistd::geteuid(), std::process::id()));
    assert!(all[2]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{}", all[2]);
    for line in &all {
        let parts = ["queued_us", "claimed_us", "served_us"].map(|name| micros(line, name));
        let took = micros(line, "took_us");
        // Each part is cut off below a microsecond.
        assert!((took.saturating_sub(3)..=took).contains(&parts.iter().sum()), "{line}");
    }
    assert!(micros(&all[1], "served_us") >= 120_000, "{}", all[1]);
    let slow = ended(&ostler, &["--slow", "100ms"]);
    assert_eq!((slow.len(), &slow[0]["pool"]), (1, &"api".into()));
    assert_eq!((ended(&ostler, &["web"]).len(), ended(&ostler, &["-n", "1"]).len()), (2, 1));
    assert_eq!((ended(&ostler, &["--errors"]).len(), ended(&ostler, &["--slow", "100ms", "web"]).len()), (0, 0));
    let table = ostler.command(&["trace", "--no-wait", "api"]).stdout;
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("ACCEPTED") && rows[1].contains("api/0.1") && rows[1].contains("done ·"), "{table}");
    let unknown = ostler.command(&["trace", "nobody"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("the pools are: web, api"), "{unknown:?}");
    let unitless = ostler.command(&["trace", "--slow", "5"]);
    assert!(unitless.code == 2 && unitless.stderr.contains("write a unit: \"5s\""), "{unitless:?}");
    ostler.stop_clean();
}

#[test]
fn what_went_wrong_is_shown_with_its_reason_also_when_many_good_ones_came_after() {
    let mut ostler = start(TWO);
    let held: Vec<Connection> = (0..2)
        .map(|_| {
            let mut connection = Connection::open(&ostler.unix("web.sock"), SOON).expect("open");
            connection.ask("/sleep/60000", Keep::Once).expect("ask");
            connection
        })
        .collect();
    ostler.wait_status("both are claimed", |status| (status.pools.iter().any(|pool| pool.claimed == 2)).then_some(()));
    let _patient = Connection::open(&ostler.unix("web.sock"), SOON).expect("open");
    let _too_many = Connection::open(&ostler.unix("web.sock"), SOON).expect("open");
    let shed = wait_ended(&ostler, &["--errors"], 2);
    let victim = ostler.status().pools.iter().find(|pool| pool.name == "web").expect("there").pids()[0];
    kill(Pid::from_raw(victim), Signal::SIGKILL).expect("a worker of ours");
    let wrong = wait_ended(&ostler, &["--errors"], 3);
    let mut reasons: Vec<&str> = wrong.iter().filter_map(|line| line["reason"].as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["queue_full", "queue_timeout", "worker_died"], "{wrong:?}");
    assert!(shed.iter().all(|line| line["outcome"] == "shed" && line["worker"].is_null()), "{shed:?}");
    let lost = wrong.iter().find(|line| line["outcome"] == "lost").expect("there is one");
    assert!(lost["worker"].as_str().is_some_and(|name| name.starts_with("web/")), "{lost}");
    assert!(lost["queued_us"].is_u64() && lost["served_us"].is_null(), "only its worker knew when it claimed: {lost}");
    // More than are remembered of the good ones.
    for _ in 0..1100 {
        visit(&ostler, "api.sock", "/");
    }
    wait_for(SOON, "the last of them has ended", || (ostler.status().pools[1].done == 1100).then_some(()));
    assert_eq!(ended(&ostler, &["--errors"]), wrong, "in their order");
    assert_eq!(ended(&ostler, &["-n", "5000"]).len(), 1024 + 3);
    drop(held);
    ostler.stop();
}

#[test]
fn connections_are_shown_as_they_end_until_ctrl_c() {
    let mut ostler = start(TWO);
    visit(&ostler, "web.sock", "/");
    let mut all = Follower::start(&ostler, &["trace", "--json"]);
    let mut slow = Follower::start(&ostler, &["trace", "--json", "--slow", "100ms", "api"]);
    assert!(all.line().contains("\"c1\""), "what had ended before comes first");
    visit(&ostler, "api.sock", "/");
    assert!(all.line().contains("\"pool\":\"api\""));
    visit(&ostler, "api.sock", "/sleep/100");
    let line = slow.line();
    assert!(
        micros(&serde_json::from_str(&line).expect("JSON"), "took_us") >= 100_000,
        "the fast one is not shown: {line}"
    );
    assert_eq!(all.line(), line);
    assert_eq!(all.interrupt(), (0, String::new()));
    ostler.stop_clean();
    let (code, said) = slow.end();
    assert!(code == 0 && said.contains("has stopped"), "{said}");
}

#[test]
fn a_connection_that_came_back_says_so() {
    let config = "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\nprefetch = 1\nrecall_after = \"5ms\"\n";
    let mut ostler = start(config);
    let (target, pids) = (ostler.unix("web.sock"), ostler.status().only().pids());
    let stopped = Pid::from_raw(pids[0]);
    kill(stopped, Signal::SIGSTOP).expect("a worker of ours");
    // Taken back from the one that stands still, after it had lain there.
    let recalled = wait_for(SOON, "a connection is recalled", || {
        get_once(&target, "/", SOON).expect("served by the other");
        ended(&ostler, &["-n", "5000"]).into_iter().find(|line| line["recalled"] == 1)
    });
    assert!(recalled["outcome"] == "done" && micros(&recalled, "queued_us") >= 5000, "{recalled}");
    kill(stopped, Signal::SIGKILL).expect("a worker of ours");
    ostler.wait_gone(pids[0]);
    ostler.wait_status("it is replaced", |status| (status.only().ready().len() == 2).then_some(()));
    let table = ostler.command(&["trace", "--no-wait", "-n", "5000"]).stdout;
    assert!(table.contains("done, recalled"), "{table}");
    ostler.stop();
}

#[test]
fn a_worker_that_accepts_for_itself_is_shown_by_what_it_reports() {
    let command = programs::toml(&[ostler_tests::place::program("examples/echo").display().to_string()]);
    let config =
        format!("[pool.own]\nlisten = [\"unix:own.sock\"]\nhandoff = \"listen\"\ncommand = {command}\nworkers = 1\n");
    let mut ostler = start(&config);
    let mut client = UnixStream::connect(ostler.scratch().path("own.sock")).expect("connect");
    client.write_all(b"x").expect("write");
    drop(client);
    let ended = wait_ended(&ostler, &["own"], 1).remove(0);
    assert_eq!((&ended["worker"], &ended["outcome"]), (&"own/0.1".into(), &"done".into()), "{ended}");
    assert!(ended["served_us"].is_u64() && ended["queued_us"].is_null() && ended["peer"].is_null(), "{ended}");
    ostler.stop_clean();
}

#[test]
fn what_a_slow_worker_is_doing_is_in_the_log() {
    let config = "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 1\nwatchdog = { slow = \"200ms\" }\n";
    let mut ostler = start(config);
    visit(&ostler, "web.sock", "/sleep/600");
    ostler.wait_log(&["slow: what the worker is doing"]);
    let log = ostler.log();
    let (_, took) = log.split_once("slow: a request takes ").expect("it is said first");
    let took_ms: u64 = took.split_once("ms").expect("less than a second").0.parse().expect("a number");
    assert!((200..600).contains(&took_ms) && took.contains("and is not answered yet"), "{log}");
    let seen = &log[log.find("what the worker is doing").expect("it was waited for")..];
    assert!(seen.contains("| state S") && seen.contains("| thread "), "{log}");
    ostler.stop_clean();
}
