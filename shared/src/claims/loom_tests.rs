//! Lets loom try the orders in which several processes and the supervisor use one table: `tests/run loom`.
//!
//! As in the models of the ring, a thread is interrupted a few times per history at most.

use loom::thread;

use super::*;
use crate::completion::Outcome;
use crate::ids::ConnId;
use crate::ring::{Bell, before_waiting};
use crate::sys::memory::{OwnMemory, PeerMemory, on_the_heap};

const PREEMPTIONS: usize = 2;
/// Looks of a supervisor that goes on looking.
const LOOKS: usize = 2;

fn model(history: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(history);
}

/// The supervisor's side, and what each process makes its own side of.
fn sides() -> (Table, OwnMemory, PeerMemory) {
    let capacity = Capacity::at_least(1).unwrap();
    let (gauges, gauges_seen) = on_the_heap(gauges_words(capacity));
    let (region, region_seen) = on_the_heap(region_words(capacity));
    (Table::new(gauges, region_seen, capacity), region, gauges_seen)
}

fn claimant(region: &OwnMemory, gauges: &PeerMemory) -> Claimant {
    Claimant::new(gauges.clone(), region.clone()).unwrap()
}

fn holder(pid: i32) -> Holder {
    Holder::new(pid, 7).unwrap()
}

fn held(claimant: &Claimant, conn: u64) -> Claim {
    let claim = claimant.reserve(ConnId(conn), holder(1), 1).unwrap();
    claimant.hold(claim, ConnId(conn));
    claim
}

/// T1 → T2: two that let go at the same time end a connection once, and it is read whole.
#[test]
fn loom_the_last_of_two_ends_it_once() {
    model(|| {
        let (mut table, region, gauges) = sides();
        let first = claimant(&region, &gauges);
        let claim = held(&first, 5);
        first.join(claim, holder(2));
        let second = claimant(&region, &gauges);
        let leaving = thread::spawn(move || drop(second.release(claim, holder(2), 9, Outcome::Done)));
        let _bell = first.release(claim, holder(1), 9, Outcome::Done);
        let mut completions = Vec::new();
        table.take(&mut completions).unwrap();
        leaving.join().unwrap();
        table.take(&mut completions).unwrap();
        let conns: Vec<u64> = completions.iter().map(|completion| completion.conn.0).collect();
        assert_eq!(conns, [5]);
    });
}

/// T3 → T4: an entry is not written again before it was read.
#[test]
fn loom_an_entry_is_used_again_only_when_it_was_settled() {
    model(|| {
        let (mut table, region, gauges) = sides();
        let claimant = claimant(&region, &gauges);
        let serving = thread::spawn(move || {
            let claim = held(&claimant, 5);
            let _bell = claimant.release(claim, holder(1), 9, Outcome::Done);
            if let Some(next) = claimant.reserve(ConnId(6), holder(1), 1) {
                claimant.hold(next, ConnId(6));
            }
        });
        let mut completions = Vec::new();
        for _look in 0..LOOKS {
            table.take(&mut completions).unwrap();
        }
        serving.join().unwrap();
        table.take(&mut completions).unwrap();
        let conns: Vec<u64> = completions.iter().map(|completion| completion.conn.0).collect();
        assert_eq!(conns, [5]);
    });
}

/// A process is found gone while the other one that holds the connection closes it: over once.
#[test]
fn loom_what_is_buried_and_released_is_over_once() {
    model(|| {
        let (mut table, region, gauges) = sides();
        let living = claimant(&region, &gauges);
        let claim = held(&living, 5);
        living.join(claim, holder(2));
        let closing = thread::spawn(move || drop(living.release(claim, holder(1), 9, Outcome::Done)));
        let mut completions = Vec::new();
        table.bury(holder(2), Outcome::Dropped, 9, &mut completions).unwrap();
        closing.join().unwrap();
        table.take(&mut completions).unwrap();
        table.bury(holder(2), Outcome::Dropped, 9, &mut completions).unwrap();
        assert_eq!(completions.len(), 1);
    });
}

/// The living one forks and lets go while a third process is found gone: its child holds the connection all the time.
#[test]
fn loom_what_a_child_holds_is_not_buried_with_somebody_else() {
    model(|| {
        let (mut table, region, gauges) = sides();
        let living = claimant(&region, &gauges);
        let claim = living.reserve(ConnId(5), holder(2), 1).unwrap();
        living.hold(claim, ConnId(5));
        living.join(claim, holder(3));
        living.join(claim, holder(1));
        living.leave(claim, holder(3));
        let forking = thread::spawn(move || {
            // Into the place before its own, which a look has passed when it comes to this one.
            living.join(claim, holder(1).unborn());
            living.replace(claim, holder(1).unborn(), holder(4));
            drop(living.release(claim, holder(1), 9, Outcome::Done));
        });
        let mut completions = Vec::new();
        table.bury(holder(2), Outcome::Dropped, 9, &mut completions).unwrap();
        forking.join().unwrap();
        table.take(&mut completions).unwrap();
        assert_eq!(completions.len(), 0);
    });
}

/// F1 ⇄ F2: when the supervisor goes to sleep, either it has seen the end or the program rings.
#[test]
fn loom_no_end_goes_unnoticed() {
    model(|| {
        let (mut table, region, gauges) = sides();
        let claimant = claimant(&region, &gauges);
        let claim = held(&claimant, 5);
        table.disarm();
        let closing = thread::spawn(move || claimant.release(claim, holder(1), 9, Outcome::Done));
        table.arm();
        before_waiting();
        let sees = table.has_news();
        let bell = closing.join().unwrap();
        assert!(sees || bell == Bell::Ring);
        let mut completions = Vec::new();
        table.take(&mut completions).unwrap();
        assert_eq!(completions.len(), 1);
    });
}
