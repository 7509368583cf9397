//! The access log: does it agree with the clients, connection by connection?

use std::collections::BTreeMap;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::Ostler;
use ostler_tests::deadline::{SOON, wait_for};
use ostler_tests::http::{Connection, Keep, get_once};
use ostler_tests::load::Load;
use serde_json::Value;

use crate::house::lines;

fn start(pool: &str) -> Ostler {
    let config = format!(
        "[supervisor]\nlog = {{ format = \"json\", access = \"access.log\" }}\n[pool.web]\nlisten = [\"unix:web.sock\", \
         \"tcp:127.0.0.1:0\"]\n{pool}"
    );
    Ostler::builder().config(config).start()
}

/// Waits until there are so many lines.
fn wait_records(path: &Path, count: u64) -> Vec<Value> {
    wait_for(SOON, &format!("{count} lines of the access log"), || {
        let text = std::fs::read_to_string(path).ok()?;
        let whole = text.ends_with('\n') || text.is_empty();
        Some(lines(&text)).filter(|lines| whole && lines.len() as u64 >= count)
    })
}

/// How many connections ended how.
fn outcomes(records: &[Value]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(record["outcome"].as_str().expect("each has one").to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn it_has_a_line_for_each_connection_also_of_those_that_died_with_their_worker() {
    let mut ostler = start("workers = 3\nconcurrency = 4\n");
    let path = ostler.scratch().path("access.log");
    let load = Load::on(&ostler.unix("web.sock")).clients(8).start();
    for _ in 0..3 {
        load.wait_for_more(300);
        let pid = ostler.status().only().pids()[0];
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a worker of ours");
        ostler.wait_status("it is replaced", |status| (!status.only().pids().contains(&pid)).then_some(()));
    }
    load.wait_for_more(300);
    let tally = load.stop();
    let pool = ostler.wait_status("nothing is under way", |status| {
        let pool = status.only();
        (pool.waiting == 0 && pool.claimed == 0).then(|| pool.clone())
    });
    assert_eq!(pool.accepted, tally.connects, "each request was a connection of its own");
    let records = wait_records(&path, pool.accepted);
    assert_eq!(records.len() as u64, pool.accepted);
    let counts = outcomes(&records);
    let of = |outcome: &str| counts.get(outcome).copied().unwrap_or(0);
    assert_eq!((of("done"), of("lost"), of("shed")), (pool.done, pool.lost, 0), "{counts:?}");
    // One that was answered may be lost all the same, when its worker died before it could say so.
    assert!(of("done") <= tally.served && tally.failed() <= of("lost"), "{counts:?} {tally:?}");
    assert_eq!(of("done") + of("lost"), tally.served + tally.failed());
    let mut conns: Vec<&str> = records.iter().filter_map(|record| record["conn"].as_str()).collect();
    conns.sort_unstable();
    conns.dedup();
    assert_eq!(conns.len(), records.len(), "nobody twice");
    for record in &records {
        let lost = record["outcome"] == "lost";
        assert_eq!(record["waited_us"].is_u64() && record["served_us"].is_u64(), !lost, "{record}");
        assert_eq!(record["reason"] == "worker_died", lost, "{record}");
        assert!(record["worker"].as_str().is_some_and(|name| name.starts_with("web/")), "{record}");
    }
    ostler.stop_clean();
}

#[test]
fn it_says_who_came_where_and_how_long_it_took() {
    let mut ostler = start("workers = 1\n");
    let path = ostler.scratch().path("access.log");
    get_once(&ostler.unix("web.sock"), "/sleep/50", SOON).expect("served");
    let record = wait_records(&path, 1).remove(0);
    let me = format!("uid:{},pid:{}", nix::unistd::geteuid(), std::process::id());
    assert_eq!((&record["pool"], &record["peer"]), (&"web".into(), &me.into()), "{record}");
    assert_eq!(record["listener"], "unix:web.sock");
    assert!(record["served_us"].as_u64().is_some_and(|us| us >= 50_000), "{record}");
    let listener = ostler.status().only().listeners[1].clone();
    let port = listener.rsplit(':').next().expect("a port").parse().expect("a number");
    let tcp = ostler_tests::Target::Tcp(([127, 0, 0, 1], port).into());
    get_once(&tcp, "/", SOON).expect("served");
    let record = wait_records(&path, 2).remove(1);
    assert!(record["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{record}");
    assert_eq!(record["listener"], listener.as_str());
    ostler.stop_clean();
}

#[test]
fn it_tells_who_was_shed_and_why() {
    let mut ostler = start("workers = 1\nqueue = { limit = 1, overflow = \"close\", timeout = \"200ms\" }\n");
    let path = ostler.scratch().path("access.log");
    let mut held = Connection::open(&ostler.unix("web.sock"), SOON).expect("open");
    held.ask("/sleep/60000", Keep::Once).expect("ask");
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    let _waits = Connection::open(&ostler.unix("web.sock"), SOON).expect("open");
    let _too_many = Connection::open(&ostler.unix("web.sock"), SOON).expect("open");
    let records = wait_records(&path, 2);
    let mut reasons: Vec<&str> = records.iter().filter_map(|record| record["reason"].as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(
        (outcomes(&records).get("shed"), reasons),
        (Some(&2), vec!["queue_full", "queue_timeout"]),
        "{records:?}"
    );
    let patient = records.iter().find(|record| record["reason"] == "queue_timeout").expect("it is there");
    assert!(patient["waited_us"].as_u64().is_some_and(|us| us >= 200_000), "{patient}");
    drop(held);
    ostler.signal(Signal::SIGINT);
    ostler.wait(SOON);
    ostler.assert_no_process_left();
}

#[test]
fn a_stuck_reader_of_it_stops_nobody() {
    let scratch = ostler_tests::Scratch::new();
    let config = "[supervisor]\nlog = { access = \"-\" }\n[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\n";
    let fifo = scratch.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("ours");
    let _nobody_reads = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).expect("ours");
    let fill = format!("exec >{}; dd if=/dev/zero bs=65536 count=1 2> /dev/null;", fifo.display());
    let mut ostler = ostler_tests::Builder::new(&scratch).config(config).prologue(&fill).start();
    let tally = Load::on(&ostler.unix("web.sock")).clients(4).requests_each(1500).run();
    assert_eq!((tally.served, tally.failed()), (6000, 0), "{tally:?}");
    assert!(ostler.log_contains("all workers are ready"), "and the log has a thread of its own");
    ostler.stop_clean();
}
