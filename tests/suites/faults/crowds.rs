//! Crowds of clients that do nothing, or as little as they can.

use std::io::Write;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ostler_tests::deadline::alone;
use ostler_tests::http::get_once;
use ostler_tests::load::Load;
use ostler_tests::target::Stream;
use ostler_tests::{Ostler, Target, procs};

const PATIENCE: Duration = Duration::from_secs(30);
const IDLE: usize = 10_000;
const LORISES: usize = 200;

/// Raises this process's own limit of descriptors.
fn make_room(descriptors: usize) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("our own limit");
    let wanted = descriptors as u64;
    assert!(hard >= wanted, "this test needs {wanted} descriptors, and may have {hard}: raise `ulimit -Hn`");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard one it may");
}

fn connect(target: &Target, count: usize) -> Vec<Stream> {
    (0..count).map(|_| target.connect(PATIENCE).expect("a place in a queue")).collect()
}

#[test]
fn ten_thousand_idle_clients_are_held_and_others_are_served() {
    let _machine = alone();
    make_room(IDLE + 1000);
    let config = r#"
        [pool.web]
        listen = ["unix:web.sock"]
        workers = 4
        concurrency = 3000
        process = { nofile = 4096 }
    "#;
    let mut ostler = Ostler::builder().config(config).start();
    let before = ostler.descriptor_count();
    let target = ostler.unix("web.sock");
    let idle = connect(&target, IDLE);
    let pool = ostler.wait_status("all are claimed", |status| {
        assert_eq!(status.check_books(), Ok(()));
        (status.only().claimed == IDLE as u64).then(|| status.only().clone())
    });
    let workers = pool.pids();
    let load = Load::on(&target).clients(4).start();
    load.wait_for_more(500);
    load.stop().assert_no_failure();
    // The supervisor holds none of them.
    ostler.wait_descriptor_count(before);
    drop(idle);
    let pool = ostler.wait_status("all are done", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!((pool.lost, pool.shed_total(), pool.pids()), (0, 0, workers), "{pool:?}");
    assert_eq!(pool.done, pool.accepted, "{pool:?}");
    for pid in pool.pids() {
        assert!(procs::descriptor_count(pid) < 100, "worker {pid} kept connections");
    }
    ostler.stop_clean();
}

#[test]
fn ten_thousand_clients_wait_in_line_and_leave_it() {
    let _machine = alone();
    make_room(IDLE + 1000);
    let config = r#"
        [pool.web]
        listen = ["unix:web.sock"]
        workers = 1
        queue = { limit = 12000, timeout = "60s" }
    "#;
    let mut ostler = Ostler::builder().config(config).start();
    let before = ostler.descriptor_count();
    let target = ostler.unix("web.sock");
    // Idle, but in the hands of the only worker.
    let first = connect(&target, 1);
    ostler.wait_status("it is claimed", |status| (status.only().claimed == 1).then_some(()));
    let waiting = connect(&target, IDLE);
    ostler.wait_status("all are in the line", |status| {
        assert_eq!(status.check_books(), Ok(()));
        (status.only().queue.length == IDLE as u64).then_some(())
    });
    drop((first, waiting));
    get_once(&target, "/", PATIENCE).expect("served after all of them");
    let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
    assert_eq!(pool.check_books(), Ok(()));
    assert_eq!((pool.lost, pool.accepted), (0, IDLE as u64 + 2), "{pool:?}");
    ostler.wait_descriptor_count(before);
    ostler.stop_clean();
}

#[test]
fn two_hundred_who_send_a_byte_now_and_then_keep_nobody_else_waiting() {
    let _machine = alone();
    for target in [None, Some(Target::free_tcp())] {
        let listen = target.as_ref().map_or_else(|| "unix:web.sock".to_owned(), Target::listen);
        let config = format!("[pool.web]\nlisten = [\"{listen}\"]\nworkers = 2\nconcurrency = 256\n");
        let mut ostler = Ostler::builder().config(config).start();
        let before = ostler.descriptor_count();
        let target = target.unwrap_or_else(|| ostler.unix("web.sock"));
        let mut lorises = connect(&target, LORISES);
        let load = Load::on(&target).clients(8).start();
        for byte in b"GET / HTTP/1.1\r\nHost: slow" {
            for loris in &mut lorises {
                loris.write_all(&[*byte]).expect("its worker listens");
            }
            load.wait_for_more(20);
        }
        assert!(ostler.status().only().claimed >= LORISES as u64);
        load.stop().assert_no_failure();
        drop(lorises);
        let pool = ostler.wait_status("idle", |status| status.only().is_idle().then(|| status.only().clone()));
        assert_eq!((pool.lost, pool.shed_total()), (0, 0), "{pool:?}");
        ostler.wait_descriptor_count(before);
        ostler.stop_clean();
    }
}
