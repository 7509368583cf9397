//! What only async handlers can do: thousands of connections, idle ones that give way, tasks that outlive theirs.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{Shutdown, shutdown};
use ostler_shared::completion::Outcome;
use ostler_shared::ticket::Family;
use ostler_shared::wire::ToSupervisor;

use crate::fake::{Fake, Setup, exchange, expect, expect_end};

/// On one thread and on several.
const RUNTIMES: [&str; 2] = ["async", "threads"];

fn places(concurrency: u32) -> Setup {
    Setup { concurrency, ..Setup::default() }
}

/// Completions of `count` connections in any order, none of them twice.
fn expect_completions(fake: &Fake, count: usize) {
    let ended: HashSet<_> = (0..count).map(|_| fake.hear_completion()).collect();
    assert_eq!(ended, (0..count as u64).map(|number| (number, Outcome::Done)).collect());
}

#[test]
fn two_thousand_connections_are_served_at_once() {
    const CONNECTIONS: usize = 2000;
    let hard = getrlimit(Resource::RLIMIT_NOFILE).unwrap().1;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    for runtime in RUNTIMES {
        let mut fake = Fake::start(&format!("{runtime}-repeat"), &places(CONNECTIONS as u32));
        let clients: Vec<UnixStream> = (0..CONNECTIONS).map(|_| fake.connect()).collect();
        for word in ["a", "b"] {
            clients.iter().for_each(|mut client| client.write_all(word.as_bytes()).unwrap());
            clients.iter().for_each(|client| expect(client, word));
        }
        assert_eq!(fake.completion_now(), None, "all of them are being served");
        let waits = fake.connect();
        exchange(&clients[0], "c", "c"); // the worker had time to claim it
        assert_eq!(fake.recall(), [CONNECTIONS as u64], "one more than there are places");
        drop((clients, waits));
        expect_completions(&fake, CONNECTIONS);
        fake.drain();
        assert!(fake.process.exit().success());
    }
}

#[test]
fn idle_connections_give_way_when_the_worker_is_drained() {
    for runtime in RUNTIMES {
        // As many places as connections, and a spare one: a full worker hears of its drain as well.
        for spare in [0, 1] {
            let mut fake = Fake::start(&format!("{runtime}-idle"), &places(50 + spare));
            let clients: Vec<UnixStream> = (0..50).map(|_| fake.connect()).collect();
            clients.iter().for_each(|client| exchange(client, "a", "a"));
            fake.drain();
            clients.iter().for_each(expect_end);
            expect_completions(&fake, 50);
            assert!(fake.process.exit().success());
        }
    }
}

#[test]
fn idle_connections_of_a_full_worker_give_way_at_the_mailboxs_end() {
    for runtime in RUNTIMES {
        let mut fake = Fake::start(&format!("{runtime}-idle"), &places(2));
        let clients = [fake.connect(), fake.connect()];
        clients.iter().for_each(|client| exchange(client, "a", "a"));
        // One that has no place yet must not hide the end that follows it.
        let waits = fake.connect();
        shutdown(fake.mailbox.as_raw_fd(), Shutdown::Write).unwrap();
        clients.iter().for_each(expect_end);
        expect_end(&waits);
        expect_completions(&fake, 3);
        assert!(fake.process.exit().success());
    }
}

#[test]
fn idle_connections_give_way_to_term_and_to_the_supervisors_death() {
    for runtime in RUNTIMES {
        let mut fake = Fake::start(&format!("{runtime}-idle"), &places(2));
        let client = fake.connect();
        exchange(&client, "a", "a");
        fake.signal(Signal::SIGTERM);
        assert_eq!(fake.hear(), ToSupervisor::Draining);
        expect_end(&client);
        assert!(fake.process.exit().success());

        let mut fake = Fake::start(&format!("{runtime}-idle"), &places(2));
        let client = fake.connect();
        exchange(&client, "a", "a");
        let mut process = fake.die();
        expect_end(&client);
        assert!(process.exit().success());
    }
}

#[test]
fn a_drain_waits_for_a_connection_that_left_its_task() {
    for runtime in RUNTIMES {
        let mut fake = Fake::start(&format!("{runtime}-away"), &places(2));
        let client = fake.connect();
        exchange(&client, "a", "a");
        fake.drain();
        exchange(&client, "b", "b");
        drop(client);
        expect_completions(&fake, 1);
        assert!(fake.process.exit().success());
    }
}

#[test]
fn a_drain_waits_for_a_task_that_has_no_connection_any_more() {
    for runtime in RUNTIMES {
        let mut fake = Fake::start(&format!("{runtime}-afterwards"), &places(1));
        for number in 0..2 {
            let client = fake.connect();
            expect(&client, "hi");
            assert_eq!(fake.hear_completion(), (number, Outcome::Done), "its place is free");
        }
        fake.drain();
        assert!(fake.process.exit().success());
        let words = fake.process.last_words();
        assert_eq!(words.matches("done afterwards").count(), 2, "{words}");
    }
}

#[test]
fn a_handler_that_panics_before_its_first_await_ends_its_connection_and_no_other() {
    for runtime in RUNTIMES {
        let mut fake = Fake::start(&format!("{runtime}-panic-early"), &places(2));
        for number in 0..3 {
            expect_end(&fake.connect());
            assert_eq!(fake.hear_completion(), (number, Outcome::Panicked));
        }
        fake.drain();
        assert!(fake.process.exit().success());
    }
}

#[test]
fn what_a_handler_returns_is_told_unless_the_client_has_gone() {
    for runtime in RUNTIMES {
        let mut fake = Fake::start(&format!("{runtime}-fail"), &places(1));
        for word in [&b"g"[..], b"x", b""] {
            let mut client = fake.connect();
            client.write_all(word).unwrap();
            drop(client);
        }
        expect_completions(&fake, 3);
        fake.drain();
        assert!(fake.process.exit().success());
        let words = fake.process.last_words();
        assert!(words.contains("cannot finish conn=c1: the reason"), "{words}");
        assert_eq!(words.matches("cannot finish").count(), 1, "{words}");
    }
}

#[test]
fn a_connection_goes_through_every_conversion() {
    for runtime in RUNTIMES {
        let mut fake = Fake::start(&format!("{runtime}-there-and-back"), &places(2));
        let unix = fake.connect();
        expect(&unix, "1");
        exchange(&unix, "2", "23");
        expect_end(&unix);
        assert_eq!(fake.hear_completion(), (0, Outcome::Done));
        let mut told = String::new();
        fake.connect_over(Family::V4).read_to_string(&mut told).unwrap();
        assert_eq!(told, "1");
        assert_eq!(fake.hear_completion(), (1, Outcome::Done));
    }
}

#[test]
fn several_slices_are_written_at_once() {
    for family in [Family::Unix, Family::V4] {
        let mut fake = Fake::start("async-vectors", &places(1));
        let mut told = String::new();
        fake.connect_over(family).read_to_string(&mut told).unwrap();
        assert_eq!(told, "one two three");
    }
}

#[test]
fn several_tasks_claim_from_one_worker_and_none_oversleeps() {
    // Handlers hold what they claim: a connection that the idle tasks missed would never be answered.
    const TASKS: u32 = 8;
    let mut fake = Fake::start("loops", &places(TASKS));
    for at_once in (1..=TASKS as usize).cycle().take(200) {
        let clients: Vec<UnixStream> = (0..at_once).map(|_| fake.connect()).collect();
        clients.iter().for_each(|client| exchange(client, "a", "a"));
        drop(clients);
        (0..at_once).for_each(|_| assert_eq!(fake.hear_completion().1, Outcome::Done));
    }
    fake.drain();
    assert!(fake.process.exit().success());
}

#[test]
fn who_wants_the_loop_for_himself_may_serve_on_one_thread() {
    let mut fake = Fake::start("local", &places(4));
    for answer in ["1", "2", "3"] {
        expect(&fake.connect(), answer);
    }
    expect_completions(&fake, 3);
    fake.drain();
    assert!(fake.process.exit().success());
}

#[test]
fn a_worker_may_change_its_runtime() {
    let mut fake = Fake::start("two-runtimes", &places(2));
    for (number, greeting) in ["a", "b", "c", "c"].iter().enumerate() {
        expect(&fake.connect(), greeting);
        assert_eq!(fake.hear_completion(), (number as u64, Outcome::Done));
    }
    fake.drain();
    assert!(fake.process.exit().success());
}
