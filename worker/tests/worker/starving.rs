//! Starving: workers whose handlers take every descriptor there is.

use std::collections::{BTreeSet, HashSet};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;

use ostler_shared::completion::Outcome;
use ostler_shared::wire::ToSupervisor;

use crate::async_programs::every_kind;
use crate::fake::{Fake, Setup, expect};
use crate::programs::PROGRAM;

fn starving(concurrency: u32, nofile: u64) -> Setup {
    Setup { concurrency, nofile: Some(nofile), ..Setup::default() }
}

/// Hands over `count` connections, `at_once` at a time, to a handler that hogs until its client lets go.
fn serve_hogs(fake: &mut Fake, count: usize, at_once: usize) {
    let mut open: Vec<UnixStream> = Vec::new();
    for number in 0..count {
        open.push(fake.connect());
        if open.len() == at_once || number + 1 == count {
            // Any order may be served first, and each holds all descriptors until it is let go.
            let lets_go: Vec<_> = open
                .drain(..)
                .map(|mut client| {
                    thread::spawn(move || {
                        expect(&client, "h");
                        client.write_all(b"g").unwrap();
                    })
                })
                .collect();
            lets_go.into_iter().for_each(|client| client.join().unwrap());
        }
    }
}

#[test]
fn at_the_descriptor_limit_no_connection_is_lost() {
    let set_ups = [(1, 24), (1, 64), (8, 24), (8, 64), (8, 1024)];
    for (program, (concurrency, nofile)) in
        every_kind("hog").iter().flat_map(|program| set_ups.map(|setup| (program, setup)))
    {
        let mut fake = Fake::start(program, &starving(concurrency, nofile));
        let count = 160;
        serve_hogs(&mut fake, count, concurrency as usize);
        let ended: HashSet<_> = (0..count).map(|_| fake.hear_completion()).collect();
        assert_eq!(ended, (0..count as u64).map(|number| (number, Outcome::Done)).collect());
        fake.drain();
        assert!(fake.process.exit().success());
    }
}

#[test]
fn a_worker_that_leaks_every_descriptor_serves_on_in_turn() {
    for program in every_kind("leak") {
        // One at a time the library's own places are enough for ever.
        let mut fake = Fake::start(&program, &starving(1, 32));
        for number in 0..100 {
            expect(&fake.connect(), "h");
            assert_eq!(fake.hear_completion(), (number, Outcome::Done));
        }
    }
}

#[test]
fn the_reserve_receives_a_connection_while_a_handler_holds_everything_else() {
    for program in every_kind("leak") {
        let mut fake = Fake::start(&program, &starving(8, 32));
        let first = fake.connect();
        expect(&first, "h"); // by now nothing else is free
        expect(&fake.connect(), "h");
        assert_eq!(fake.hear_completion(), (1, Outcome::Done));
        drop(first);
        assert_eq!(fake.hear_completion(), (0, Outcome::Done));
    }
}

#[test]
fn a_worker_without_descriptors_says_so_leaves_and_what_it_did_not_claim_is_recalled() {
    for program in every_kind("hog-and-stay") {
        const CONNECTIONS: u64 = 12;
        let mut fake = Fake::start(&program, &starving(12, 24));
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| fake.connect()).collect();
        assert_eq!(fake.hear(), ToSupervisor::Draining, "nothing else ends before");
        let recalled = fake.recall();
        assert!(!recalled.is_empty());
        drop(clients);
        let mut seen: BTreeSet<_> = recalled.iter().copied().collect();
        for _ in 0..CONNECTIONS - recalled.len() as u64 {
            let (number, outcome) = fake.hear_completion();
            assert_eq!(outcome, Outcome::Done);
            assert!(seen.insert(number), "c{number} was recalled and served");
        }
        assert_eq!(seen.len() as u64, CONNECTIONS);
        assert_eq!(fake.process.exit().code(), Some(1));
        let words = fake.process.last_words();
        assert!(words.contains("raise `process.nofile`"), "{words}");
    }
}

/// Hands connections over and takes them back at once, as fast as it goes. Returns how many came out truncated.
fn race(fake: &mut Fake) -> usize {
    const CONNECTIONS: u64 = 400;
    let mut seen = Vec::new();
    let mut truncated = 0;
    let mut clients = Vec::new();
    let mut note = |(number, outcome), seen: &mut Vec<u64>| {
        truncated += usize::from(outcome != Outcome::Done);
        seen.push(number);
    };
    for number in 0..CONNECTIONS {
        let mut client = fake.connect();
        client.write_all(b"g").unwrap(); // let go at once
        clients.push(client);
        if number % 2 == 0 {
            seen.extend(fake.recall());
        }
        while let Some(completion) = fake.completion_now() {
            note(completion, &mut seen);
        }
    }
    while (seen.len() as u64) < CONNECTIONS {
        note(fake.hear_completion(), &mut seen);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..CONNECTIONS).collect::<Vec<_>>(), "not each exactly once");
    truncated
}

#[test]
fn a_recall_that_races_with_a_full_worker_loses_and_doubles_nothing() {
    for program in every_kind("leak") {
        let mut fake = Fake::start(&program, &starving(1, 24));
        assert_eq!(race(&mut fake), 0);
    }
}

/// Handlers that open files in the very microsecond of a recall can still win (claim.rs): about one connection in
/// 400,000 of this test, which must then be in the books and on standard error.
#[test]
fn a_recall_that_races_with_hogging_handlers_loses_nothing_silently() {
    for program in every_kind("hog") {
        let mut fake = Fake::start(&program, &starving(4, 24));
        let truncated = race(&mut fake);
        assert!(truncated <= 2, "{truncated} of 400");
        fake.drain();
        assert!(fake.process.exit().success());
        assert_eq!(fake.process.last_words().matches("raise `process.nofile`").count(), truncated);
    }
}

#[test]
fn without_a_single_descriptor_to_spare_connecting_fails_with_the_remedy() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["a_worker_program", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(PROGRAM, "repeat");
    // 0 to 8 are taken, of which the two memories are closed once they are mapped, for the self-pipe; one for /dev/null;
    // none in reserve.
    let mut fake = Fake::spawn(command, &starving(1, 10));
    assert_eq!(fake.process.exit().code(), Some(1));
    assert!(fake.process.last_words().contains("raise `process.nofile`"));
}
