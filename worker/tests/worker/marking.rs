//! Does a worker say which of its connections are busy?

use std::io::Write;

use ostler_shared::marks::Sign;
use ostler_shared::region::Keeping;
use ostler_shared::wire::Marks;

use crate::fake::{Fake, Setup, exchange, expect, until};

fn start(program: &str) -> Fake {
    Fake::start(program, &Setup { concurrency: 4, marks: Marks::Read, ..Setup::default() })
}

fn signs(fake: &Fake) -> Vec<(u64, Sign)> {
    let memory = fake.memory.borrow();
    let mut signs: Vec<(u64, Sign)> = memory.marks().map(|(conn, sign)| (conn.0, sign)).collect();
    signs.sort_by_key(|(conn, _)| *conn);
    signs
}

#[test]
fn a_connection_that_waits_for_the_next_request_is_idle() {
    for program in ["repeat", "async-repeat", "threads-repeat"] {
        let mut fake = start(program);
        let clients: Vec<_> = (0..2).map(|_| fake.connect()).collect();
        until("both are claimed", || signs(&fake) == [(0, Sign::Idle), (1, Sign::Idle)]);
        assert_eq!(fake.memory.borrow().keeping(), Keeping::Marks);
        for client in &clients {
            exchange(client, "a", "a");
        }
        until("both wait again", || signs(&fake) == [(0, Sign::Idle), (1, Sign::Idle)]);
        drop(clients);
        for _ in 0..2 {
            fake.hear_completion();
        }
        assert_eq!(signs(&fake), [], "{program}: their places are free before their ends are reported");
    }
}

#[test]
fn a_request_that_is_not_answered_is_busy() {
    let mut fake = start("ponder");
    let mut client = fake.connect();
    until("it is claimed", || signs(&fake) == [(0, Sign::Idle)]);
    client.write_all(b"x").unwrap();
    until("it is at it", || matches!(signs(&fake)[..], [(0, Sign::Busy { .. })]));
}

#[test]
fn a_connection_that_was_taken_apart_is_not_marked() {
    let mut fake = start("part");
    let client = fake.connect();
    expect(&client, "hi");
    assert_eq!(signs(&fake), [(0, Sign::Unmarked)]);
}

#[test]
fn marks_that_nobody_reads_are_not_kept() {
    let mut fake = Fake::start("greet", &Setup::default());
    let client = fake.connect();
    expect(&client, "hi");
    assert_eq!((fake.memory.borrow().keeping(), signs(&fake)), (Keeping::Nothing, vec![]));
}
