//! Tries the table of claims with both sides in one process.

use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;
use crate::completion::{Completion, Outcome};
use crate::ids::ConnId;
use crate::region::BadRegion;
use crate::ring::Bell;
use crate::sync::Ordering;
use crate::sys::memory::{OwnMemory, on_the_heap};

fn sides(capacity: u32) -> (Table, Claimant, OwnMemory) {
    let capacity = Capacity::at_least(capacity).unwrap();
    let (gauges, gauges_seen) = on_the_heap(gauges_words(capacity));
    let (region, region_seen) = on_the_heap(region_words(capacity));
    let table = Table::new(gauges, region_seen, capacity);
    (table, Claimant::new(gauges_seen, region.clone()).unwrap(), region)
}

fn me() -> Holder {
    Holder::new(100, 7).unwrap()
}

fn claimed(claimant: &Claimant, conn: u64) -> Claim {
    let claim = claimant.reserve(ConnId(conn), me(), 1).unwrap();
    claimant.hold(claim, ConnId(conn));
    claim
}

fn taken(table: &mut Table) -> Vec<u64> {
    let mut completions = Vec::new();
    table.take(&mut completions).unwrap();
    completions.into_iter().map(|completion| completion.conn.0).collect()
}

#[test]
fn a_connection_ends_once_and_its_entry_is_used_again_when_that_was_read() {
    let (mut table, claimant, _) = sides(2);
    let (first, second) = (claimed(&claimant, 1), claimed(&claimant, 2));
    assert_eq!((first.place(), second.place(), claimant.reserve(ConnId(3), me(), 1)), (0, 1, None));
    assert!(!table.has_news());
    assert_eq!(claimant.release(first, me(), 9, Outcome::Done), Bell::Ring, "it waits until it says otherwise");
    assert_eq!(claimant.reserve(ConnId(3), me(), 1), None, "nobody has read it");
    assert!(table.has_news());
    assert_eq!((taken(&mut table), taken(&mut table)), (vec![1], vec![]));
    assert_eq!(claimed(&claimant, 3).place(), 0);
    assert_eq!(claimant.release(first, me(), 9, Outcome::Done), Bell::Silent, "an old claim ends nothing new");
    assert_eq!(taken(&mut table), []);
}

#[test]
fn a_record_says_when_and_how_it_ended() {
    let (mut table, claimant, _) = sides(2);
    let claim = claimant.reserve(ConnId(1), me(), 5).unwrap();
    claimant.hold(claim, ConnId(2)); // the one that was peeked at had been recalled
    let _ = claimant.release(claim, me(), 9, Outcome::Truncated);
    let mut completions = Vec::new();
    table.take(&mut completions).unwrap();
    let wanted = Completion { conn: ConnId(2), outcome: Outcome::Truncated, claimed_at_ns: 5, done_at_ns: 9 };
    assert_eq!(completions, [wanted]);
}

#[test]
fn what_was_not_there_any_more_is_given_back_and_never_reported() {
    let (mut table, claimant, _) = sides(1);
    let claim = claimant.reserve(ConnId(1), me(), 1).unwrap();
    claimant.give_back(claim);
    assert_eq!(taken(&mut table), []);
    assert_eq!(claimed(&claimant, 2).place(), 0);
}

#[test]
fn the_bell_is_silent_while_the_supervisor_looks_by_itself() {
    let (mut table, claimant, _) = sides(4);
    table.disarm();
    assert_eq!(claimant.release(claimed(&claimant, 1), me(), 2, Outcome::Done), Bell::Silent);
    table.arm();
    assert!(table.has_news());
    assert_eq!(taken(&mut table), [1]);
    assert_eq!(claimant.release(claimed(&claimant, 2), me(), 2, Outcome::Done), Bell::Ring);
}

#[test]
fn readiness_and_signs_of_life_ring_once() {
    let (table, claimant, _) = sides(1);
    assert!(!table.is_ready() && table.heartbeat_ns().is_none());
    assert_eq!((claimant.be_ready(), claimant.be_ready()), (Bell::Ring, Bell::Silent));
    assert_eq!(claimant.beat(8), Bell::Silent);
    assert!(table.is_ready() && table.heartbeat_ns() == Some(8));
    let question = NonZeroU64::new(77);
    assert_eq!(table.answered(), None);
    table.ask(question.unwrap());
    assert_eq!((claimant.beat(9), claimant.beat(10)), (Bell::Ring, Bell::Silent));
    assert_eq!(table.answered(), question);
}

#[test]
fn who_takes_no_more_connections_is_named_and_rings_once() {
    let (table, claimant, _) = sides(1);
    assert_eq!((claimant.stop_taking(7), table.has_left()), (Bell::Silent, None), "it never took any");
    assert!(!table.has_claimed());
    let _rings = claimant.be_ready();
    assert_eq!((claimant.stop_taking(7), claimant.stop_taking(8)), (Bell::Ring, Bell::Silent));
    assert_eq!((table.has_left(), table.is_ready()), (Some(7), false));
    assert_eq!((claimant.be_ready(), table.has_left()), (Bell::Silent, Some(7)), "it does not come back");
}

#[test]
fn a_memory_of_another_layout_is_refused() {
    let capacity = Capacity::at_least(4).unwrap();
    let (_, gauges) = on_the_heap(8);
    let (region, _) = on_the_heap(region_words(capacity));
    assert!(matches!(Claimant::new(gauges, region.clone()), Err(BadRegion::Short { words: 8 })));
    let (_, gauges) = on_the_heap(gauges_words(capacity));
    assert!(matches!(Claimant::new(gauges, region.clone()), Err(BadRegion::Layout(0))));
    let (own, gauges) = on_the_heap(gauges_words(capacity));
    own.store(in_gauges::LAYOUT, LAYOUT, Ordering::Relaxed);
    for claim in [0, 3, 8, u64::MAX] {
        own.store(in_gauges::CAPACITY, claim, Ordering::Relaxed);
        assert!(matches!(Claimant::new(gauges.clone(), region.clone()), Err(BadRegion::Capacity(_))), "{claim}");
    }
}

#[test]
fn a_process_is_told_from_another_that_got_its_number() {
    assert_ne!(Holder::new(7, 1), Holder::new(7, 2));
    assert_eq!(Holder::new(4_194_304, u64::MAX).unwrap().pid(), 4_194_304);
    assert_eq!((Holder::new(0, 1), Holder::new(-1, 1)), (None, None));
}

#[test]
fn a_connection_is_over_when_the_last_process_that_holds_it_has_closed_it() {
    let (mut table, claimant, _) = sides(2);
    let (parent, child) = (me(), Holder::new(101, 8).unwrap());
    let claim = claimed(&claimant, 1);
    for _ in 0..2 {
        claimant.join(claim, parent.unborn()); // it has two numbers in the parent
    }
    assert_eq!(claimant.release(claim, parent, 2, Outcome::Done), Bell::Silent, "the child is about to be");
    for _ in 0..2 {
        claimant.replace(claim, parent.unborn(), child);
    }
    assert_eq!(taken(&mut table), []);
    assert_eq!(claimant.release(claim, child, 3, Outcome::Done), Bell::Ring);
    assert_eq!(taken(&mut table), [1]);
    assert_eq!((parent.unborn().pid(), parent.unborn().unborn()), (100, parent));
}

#[test]
fn who_ends_has_closed_all_that_it_held_and_nothing_else() {
    let (mut table, claimant, _) = sides(4);
    let child = Holder::new(101, 8).unwrap();
    let [first, second, _others] = [1, 2, 3].map(|conn| claimed(&claimant, conn));
    claimant.replace(first, me(), child);
    claimant.join(second, child);
    claimant.release_all(child, 5, |_| {});
    assert_eq!(taken(&mut table), [1]);
    claimant.release_all(me(), 6, |_| {});
    assert_eq!(taken(&mut table), [2, 3]);
}

#[test]
fn what_a_dead_process_alone_held_is_dropped_and_what_others_hold_goes_on() {
    let (mut table, claimant, _) = sides(4);
    let child = Holder::new(101, 8).unwrap();
    let [alone, shared, _unborn] = [1, 2, 3].map(|conn| claimed(&claimant, conn));
    claimant.replace(alone, me(), child);
    claimant.join(shared, child);
    claimant.bury(101, Outcome::Dropped, 5, |_| {});
    let mut completions = Vec::new();
    table.take(&mut completions).unwrap();
    let wanted = Completion { conn: ConnId(1), outcome: Outcome::Dropped, claimed_at_ns: 1, done_at_ns: 5 };
    assert_eq!(completions, [wanted]);
    claimant.join(shared, child.unborn());
    claimant.bury(101, Outcome::Dropped, 6, |_| {});
    assert_eq!(claimant.release(shared, me(), 7, Outcome::Done), Bell::Silent, "a child of the child may live");
}

#[test]
fn more_holders_than_are_known_are_not_waited_for() {
    let (mut table, claimant, _) = sides(1);
    let claim = claimed(&claimant, 1);
    let holders: Vec<Holder> = (200..).filter_map(|pid| Holder::new(pid, 1)).take(HOLDERS_MAX + 3).collect();
    holders.iter().for_each(|holder| claimant.join(claim, *holder));
    for holder in [me()].iter().chain(&holders[..HOLDERS_MAX - 1]) {
        let _ = claimant.release(claim, *holder, 2, Outcome::Done);
    }
    assert_eq!(taken(&mut table), [1]);
}

#[test]
fn a_claim_survives_as_one_word() {
    for claim in [Claim { entry: 0, generation: 1 }, Claim { entry: (1 << 24) - 1, generation: (1 << 39) - 1 }] {
        let word = claim.to_word().unwrap();
        assert!(word > 1);
        assert_eq!(Claim::of_word(word), Some(claim));
    }
    assert_eq!(Claim { entry: 0, generation: 1 << 39 }.to_word(), None);
    assert_eq!((Claim::of_word(0), Claim::of_word(1)), (None, None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 512 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a program writes, a look reads inside, takes no more than there are entries, and settles forwards.
    #[test]
    fn no_words_make_a_look_panic_or_take_more_than_there_is(
        words in proptest::collection::vec(prop_oneof![any::<u64>(), 0u64..16], 0..96)
    ) {
        let (mut table, _, region) = sides(4);
        for (at, word) in words.into_iter().enumerate().take(region.words()) {
            region.store(at, word, Ordering::Relaxed);
        }
        for _ in 0..2 {
            let mut completions = Vec::new();
            let _ = table.take(&mut completions);
            prop_assert!(completions.len() <= 4);
        }
        let mut again = Vec::new();
        while table.take(&mut again).is_err() {} // each bad outcome was settled as well
        again.clear();
        prop_assert!(table.take(&mut again).is_ok() && again.is_empty());
    }
}

fn buried(table: &mut Table, gone: Holder) -> Vec<(u64, Outcome)> {
    let mut completions = Vec::new();
    table.bury(gone, Outcome::Dropped, 9, &mut completions).unwrap();
    completions.into_iter().map(|completion| (completion.conn.0, completion.outcome)).collect()
}

#[test]
fn what_the_gone_held_alone_is_over_and_what_somebody_else_holds_is_not() {
    let (mut table, claimant, _) = sides(4);
    let [child, other] = [200, 300].map(|pid| Holder::new(pid, 8).unwrap());
    let (alone, shared) = (claimed(&claimant, 1), claimed(&claimant, 2));
    claimant.join(shared, child);
    assert_eq!(claimant.introduce(), Bell::Ring);
    assert_eq!(table.newcomers().into_iter().collect::<Vec<_>>(), [me(), child]);
    assert!(table.newcomers().is_empty(), "nobody has come since");
    assert_eq!(buried(&mut table, other), []);
    assert_eq!(buried(&mut table, me()), [(1, Outcome::Dropped)]);
    assert_eq!(buried(&mut table, me()), [], "each once");
    assert_eq!(claimant.release(alone, me(), 9, Outcome::Done), Bell::Ring, "too late");
    assert_eq!(taken(&mut table), []);
    assert_eq!(buried(&mut table, child), [(2, Outcome::Dropped)], "the first of the two is remembered");
    assert_eq!(claimed(&claimant, 3).place(), 0, "its entry is used again");
}

#[test]
fn a_child_that_never_came_to_be_goes_with_its_parent() {
    let (mut table, claimant, _) = sides(1);
    let claim = claimed(&claimant, 1);
    claimant.join(claim, me().unborn());
    claimant.leave(claim, me());
    assert_eq!(table.holders().into_iter().collect::<Vec<_>>(), [me()]);
    assert_eq!(buried(&mut table, me()), [(1, Outcome::Dropped)]);
}

#[test]
fn a_process_is_told_from_the_next_one_with_its_number() {
    let holder = Holder::new(100, 7).unwrap();
    assert!(holder.has_started_at(7) && holder.unborn().has_started_at(7) && !holder.has_started_at(8));
    assert_eq!(holder.unborn().process(), holder);
}

#[test]
fn who_holds_something_holds_it_until_it_has_let_go_of_all() {
    let (_table, claimant, _) = sides(2);
    let other = Holder::new(200, 1).unwrap();
    assert!(!claimant.holds(me()));
    let claims = [claimed(&claimant, 1), claimed(&claimant, 2)];
    claimant.join(claims[1], other);
    assert!(claimant.holds(me()) && claimant.holds(other) && !claimant.holds(me().unborn()));
    claimant.release_all(me(), 5, |_bell| {});
    assert!(!claimant.holds(me()) && claimant.holds(other));
    claimant.leave(claims[1], other);
    assert!(!claimant.holds(other));
}

#[test]
fn escapes_are_noted_once_each() {
    let (table, claimant, _) = sides(1);
    assert_eq!(table.escapes().count(), 0);
    claimant.note_escape(Escape::Passed);
    claimant.note_escape(Escape::Unseen);
    claimant.note_escape(Escape::Passed);
    assert_eq!(table.escapes().collect::<Vec<_>>(), [Escape::Passed, Escape::Unseen]);
    let claim = claimed(&claimant, 1);
    (1..=HOLDERS_MAX as u64).for_each(|pid| claimant.join(claim, Holder::new(200, pid).unwrap()));
    assert!(table.escapes().any(|escape| escape == Escape::Crowded));
}
