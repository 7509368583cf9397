//! Serving: claims, completions, panics, what a handler's children inherit.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use nix::sys::signal::Signal;
use ostler_shared::completion::Outcome;
use ostler_shared::packet::send_frame;
use ostler_shared::ticket::Family;
use ostler_shared::wire::{ToSupervisor, ToWorker};

use crate::async_programs::every_kind;
use crate::fake::{Fake, Setup, exchange, expect, expect_end};

fn threads(concurrency: u32) -> Setup {
    Setup { concurrency, ..Setup::default() }
}

#[test]
fn connections_are_served_one_after_the_other_and_completed() {
    for program in every_kind("repeat") {
        let mut fake = Fake::start(&program, &Setup::default());
        for number in 0..3 {
            let client = fake.connect();
            exchange(&client, "a", "a");
            assert_eq!(fake.hear_now(), None, "a connection in use is not complete");
            drop(client);
            assert_eq!(fake.hear_completion(), (number, Outcome::Done));
        }
    }
}

#[test]
fn at_concurrency_8_eight_connections_are_served_at_once_and_a_ninth_waits() {
    for program in every_kind("repeat") {
        let mut fake = Fake::start(&program, &threads(8));
        let clients: Vec<_> = (0..9).map(|_| fake.connect()).collect();
        for client in &clients[..8] {
            exchange(client, "a", "a");
        }
        for client in &clients[..8] {
            exchange(client, "b", "b");
        }
        assert_eq!(fake.recall(), [8]);
        drop(clients);
        let ended: HashSet<_> = (0..8).map(|_| fake.hear_completion()).collect();
        assert_eq!(ended, (0..8).map(|number| (number, Outcome::Done)).collect());
    }
}

#[test]
fn a_connection_is_closed_when_its_completion_arrives() {
    for program in every_kind("greet") {
        let mut fake = Fake::start(&program, &threads(4));
        for _ in 0..100 {
            let client = fake.connect();
            fake.hear_completion();
            client.set_nonblocking(true).unwrap();
            expect(&client, "hi");
            expect_end(&client);
        }
    }
}

#[test]
fn a_panic_is_an_outcome_and_not_a_death() {
    for program in every_kind("panic") {
        for concurrency in [1, 2] {
            let mut fake = Fake::start(&program, &threads(concurrency));
            let mut client = fake.connect();
            client.write_all(b"p").unwrap();
            expect_end(&client);
            assert_eq!(fake.hear_completion(), (0, Outcome::Panicked));
            exchange(&fake.connect(), "a", "a");
            assert_eq!(fake.hear_completion(), (1, Outcome::Done));
            fake.drain();
            assert!(fake.process.exit().success());
            assert!(fake.process.last_words().contains("told to panic"));
        }
    }
}

#[test]
fn a_connection_that_was_taken_apart_ends_with_its_completion() {
    let mut fake = Fake::start("part", &Setup::default());
    let first = fake.connect();
    expect(&first, "hi");
    expect_end(&first);
    fake.tell(&ToWorker::Ping { nonce: 1 });
    assert_eq!(fake.hear(), ToSupervisor::Pong { nonce: 1 }, "the completion came with the stream's end");
    let _second = fake.connect();
    assert_eq!(fake.hear_completion(), (0, Outcome::Done));
    assert_eq!(fake.hear_completion(), (1, Outcome::Done));
}

#[test]
fn a_unix_connection_is_given_back_by_into_tcp() {
    let mut fake = Fake::start("mismatch", &Setup::default());
    expect(&fake.connect(), "still yours");
    assert_eq!(fake.hear_completion(), (0, Outcome::Done));
}

#[test]
fn a_tcp_connection_is_served() {
    let mut fake = Fake::start("repeat", &Setup::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (served, _) = listener.accept().unwrap();
    fake.hand_over(served.as_fd(), Family::V4, None);
    drop(served);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    drop(client);
    assert_eq!(fake.hear_completion(), (0, Outcome::Done));
}

#[test]
fn completions_wait_for_nobody_and_none_is_lost() {
    let mut fake = Fake::start("greet", &Setup::default());
    let clients: Vec<_> = (0..1000).map(|_| fake.connect()).collect();
    // The supervisor reads nothing meanwhile, and is rung at all the same.
    for client in &clients {
        expect(client, "hi");
        expect_end(client);
    }
    for number in 0..clients.len() as u64 {
        assert_eq!(fake.hear_completion(), (number, Outcome::Done));
    }
}

#[test]
fn a_ping_is_answered_while_every_thread_is_busy() {
    let mut fake = Fake::start("repeat", &Setup::default());
    let client = fake.connect();
    exchange(&client, "a", "a");
    fake.tell(&ToWorker::Ping { nonce: 42 });
    assert_eq!(fake.hear(), ToSupervisor::Pong { nonce: 42 });
}

#[test]
fn the_supervisors_signals_do_nothing_to_a_worker() {
    let mut fake = Fake::start("repeat", &Setup::default());
    let client = fake.connect();
    exchange(&client, "a", "a");
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGWINCH,
        Signal::SIGPWR,
    ] {
        fake.signal(signal);
        exchange(&client, "b", "b");
    }
}

#[test]
fn a_handlers_children_inherit_neither_channels_nor_dispositions() {
    let mut fake = Fake::start("children", &Setup::default());
    let mut client = fake.connect();
    let mut told = String::new();
    client.read_to_string(&mut told).unwrap();
    assert!(told.contains("/dev/null") && !told.contains("socket:"), "{told}");
    assert!(told.contains("signal: 10"), "{told}");
}

#[test]
fn an_event_loop_pulls_without_waiting() {
    let mut fake = Fake::start("poll", &threads(2));
    for number in 0..3 {
        expect(&fake.connect(), "hi");
        assert_eq!(fake.hear_completion(), (number, Outcome::Done));
    }
    fake.drain();
    assert!(fake.process.exit().success());
}

#[test]
fn what_is_no_connection_ends_the_worker_and_not_its_connections() {
    for program in every_kind("repeat") {
        let mut fake = Fake::start(&program, &threads(4));
        let client = fake.connect();
        exchange(&client, "a", "a");
        send_frame(fake.mailbox.as_fd(), b"not a ticket").unwrap();
        assert_eq!(fake.hear(), ToSupervisor::Draining);
        exchange(&client, "b", "b");
        drop(client);
        assert_eq!(fake.hear_completion(), (0, Outcome::Done));
        assert_eq!(fake.process.exit().code(), Some(1));
        assert!(fake.process.last_words().contains("a ticket has 40 bytes, this has 12"));
    }
}

#[test]
fn a_recall_that_races_with_claims_loses_and_doubles_nothing() {
    for program in every_kind("greet") {
        const CONNECTIONS: u64 = 2000;
        let mut fake = Fake::start(&program, &threads(4));
        let mut seen = Vec::new();
        let mut clients = Vec::new();
        for number in 0..CONNECTIONS {
            clients.push(fake.connect());
            if number % 3 == 0 {
                seen.extend(fake.recall());
            }
            while let Some((number, outcome)) = fake.completion_now() {
                assert_eq!(outcome, Outcome::Done);
                seen.push(number);
            }
        }
        while (seen.len() as u64) < CONNECTIONS {
            seen.push(fake.hear_completion().0);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..CONNECTIONS).collect::<Vec<_>>());
        for client in &mut clients {
            client.set_nonblocking(true).unwrap();
            client.read_to_end(&mut Vec::new()).expect("a connection is still open somewhere");
        }
    }
}
