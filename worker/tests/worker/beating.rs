//! Does a worker beat when it has promised to, and promise what it can keep?

use ostler_shared::region::Beats;

use crate::fake::{Fake, Setup, exchange, expect, until};

/// Short, so that many beats fit into a test; nobody judges the worker by it here.
const HEARTBEAT_MS: u64 = 20;

fn start(program: &str, heartbeat_ms: u64) -> Fake {
    Fake::start(program, &Setup { concurrency: 2, heartbeat_ms, ..Setup::default() })
}

fn promise(fake: &Fake) -> Beats {
    fake.memory.borrow().hints().beats
}

/// Waits for several beats that nothing but time causes.
fn expect_beats(fake: &Fake) {
    for _ in 0..3 {
        let before = fake.memory.borrow().hints().heartbeat_ns;
        until("it beats once more", || fake.memory.borrow().hints().heartbeat_ns > before);
    }
}

#[test]
fn a_worker_with_threads_beats_while_it_waits_and_promises_no_more() {
    for concurrency in [1, 2] {
        let setup = Setup { concurrency, heartbeat_ms: HEARTBEAT_MS, ..Setup::default() };
        let mut fake = Fake::start("repeat", &setup);
        until("it promises", || promise(&fake) == Beats::WhileIdle);
        expect_beats(&fake);
        let client = fake.connect();
        exchange(&client, "a", "a");
        drop(client);
        fake.hear_completion();
        expect_beats(&fake);
        fake.drain();
        assert!(fake.process.exit().success());
    }
}

#[test]
fn a_runtime_beats_whatever_it_holds() {
    for runtime in ["async", "threads"] {
        let mut fake = start(&format!("{runtime}-repeat"), HEARTBEAT_MS);
        until("it promises", || promise(&fake) == Beats::Always);
        let client = fake.connect();
        exchange(&client, "a", "a");
        expect_beats(&fake);
        drop(client);
        fake.drain();
        assert!(fake.process.exit().success());
        assert_eq!(promise(&fake), Beats::Never, "{runtime}: who has stopped to serve promises nothing");
    }
}

#[test]
fn who_is_not_looked_at_or_has_a_loop_of_its_own_promises_nothing() {
    for (program, heartbeat_ms) in [("greet", 0), ("async-greet", 0), ("poll", HEARTBEAT_MS)] {
        let mut fake = start(program, heartbeat_ms);
        let client = fake.connect();
        expect(&client, "hi"); // by now it waits for connections in its own way
        assert_eq!(promise(&fake), Beats::Never, "{program}");
    }
}
