//! Leaving: by a drain, by TERM, and because the supervisor is gone.

use std::os::fd::AsRawFd;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::sys::socket::{Shutdown, shutdown};
use ostler_shared::completion::Outcome;
use ostler_shared::wire::{ToSupervisor, ToWorker};

use crate::async_programs::every_kind;
use crate::fake::{Fake, Setup, exchange, expect, expect_end, until};

fn threads(concurrency: u32) -> Setup {
    Setup { concurrency, ..Setup::default() }
}

#[test]
fn a_drained_worker_serves_what_is_queued_and_leaves_with_0() {
    for program in every_kind("greet") {
        for concurrency in [1, 4] {
            let mut fake = Fake::start(&program, &threads(concurrency));
            let clients: Vec<_> = (0..10).map(|_| fake.connect()).collect();
            fake.drain();
            for client in &clients {
                expect(client, "hi");
            }
            assert!(fake.process.exit().success());
        }
    }
}

#[test]
fn the_mailboxs_end_alone_is_a_drain() {
    for program in every_kind("repeat") {
        let mut fake = Fake::start(&program, &threads(2));
        shutdown(fake.mailbox.as_raw_fd(), Shutdown::Write).unwrap();
        assert!(fake.process.exit().success());
    }
}

#[test]
fn the_word_alone_does_not_keep_connections_out() {
    for program in every_kind("repeat") {
        let mut fake = Fake::start(&program, &Setup::default());
        fake.tell(&ToWorker::Drain);
        exchange(&fake.connect(), "a", "a");
        fake.drain();
        assert!(fake.process.exit().success());
    }
}

#[test]
fn after_term_what_is_claimed_is_finished_and_the_rest_is_left_to_the_supervisor() {
    for program in every_kind("repeat") {
        let mut fake = Fake::start(&program, &Setup::default());
        let held = fake.connect();
        exchange(&held, "a", "a");
        let _queued = [fake.connect(), fake.connect()];
        fake.signal(Signal::SIGTERM);
        assert_eq!(fake.hear(), ToSupervisor::Draining);
        exchange(&held, "b", "b");
        fake.signal(Signal::SIGTERM);
        exchange(&held, "c", "c");
        drop(held);
        assert_eq!(fake.hear_completion(), (0, Outcome::Done));
        assert!(fake.process.exit().success());
        assert_eq!(fake.recall(), [1, 2]);
        assert_eq!(fake.hear_now(), None, "one Draining is enough");
    }
}

#[test]
fn term_wakes_every_thread_of_an_idle_worker() {
    for (program, concurrency) in [
        ("repeat", 1),
        ("repeat", 8),
        ("poll", 8),
        ("async-repeat", 8),
        ("threads-repeat", 8),
        ("loops", 8),
        ("local", 8),
    ] {
        let mut fake = Fake::start(program, &threads(concurrency));
        fake.signal(Signal::SIGTERM);
        assert_eq!(fake.hear(), ToSupervisor::Draining);
        assert!(fake.process.exit().success());
    }
}

#[test]
fn without_a_supervisor_what_was_handed_over_is_served_and_the_worker_is_gone() {
    for program in every_kind("chat") {
        let mut fake = Fake::start(&program, &threads(2));
        let clients: Vec<_> = (0..6).map(|_| fake.connect()).collect();
        exchange(&clients[0], "a", "a");
        let mut process = fake.die();
        for fd in [1, 2] {
            until("output leads to /dev/null", || process.descriptor(fd) == Path::new("/dev/null"));
        }
        for client in clients {
            // The worker prints a line for each of these.
            exchange(&client, "b", "b");
            drop(client);
        }
        assert!(process.exit().success());
    }
}

#[test]
fn without_a_supervisor_a_hung_worker_is_gone_at_the_drain_deadline() {
    for program in every_kind("hang") {
        for concurrency in [1, 2] {
            let mut fake = Fake::start(&program, &Setup { drain_timeout_ms: 50, concurrency, ..Setup::default() });
            let client = fake.connect();
            let mut process = fake.die();
            assert_eq!(process.exit().code(), Some(ostler_worker::EXIT_UNFINISHED));
            expect_end(&client);
        }
    }
}

#[test]
fn without_a_supervisor_term_does_not_drop_what_waits() {
    for program in every_kind("repeat") {
        let mut fake = Fake::start(&program, &Setup::default());
        let held = fake.connect();
        exchange(&held, "a", "a");
        let waiting = fake.connect();
        let mut process = fake.die();
        until("output leads to /dev/null", || process.descriptor(2) == Path::new("/dev/null"));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid()), Signal::SIGTERM).unwrap();
        drop(held);
        exchange(&waiting, "b", "b");
        drop(waiting);
        assert!(process.exit().success());
    }
}
