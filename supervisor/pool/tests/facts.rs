//! Facts about the pool, each a short list of events.

#[path = "facts/admin.rs"]
mod admin;
#[path = "facts/by_itself.rs"]
mod by_itself;
#[path = "facts/loads.rs"]
mod loads;
#[path = "facts/pools.rs"]
mod pools;
#[path = "facts/recycling.rs"]
mod recycling;
#[path = "facts/requests.rs"]
mod requests;
#[path = "facts/rollouts.rs"]
mod rollouts;
#[path = "facts/scaling.rs"]
mod scaling;
mod script;
#[path = "facts/tallies.rs"]
mod tallies;
#[path = "facts/templates.rs"]
mod templates;
#[path = "facts/unmodified.rs"]
mod unmodified;
#[path = "facts/watchdogs.rs"]
mod watchdogs;

use std::collections::BTreeMap;
use std::time::Duration;

use ostler_config::checked::{Dispatch, Farewell, Overflow, Workers};
use ostler_pool::{
    Action, Answer, Change, Ended, Event, HangUp, Note, PoolNo, PoolState, Refusal, RequestId, STARTING_MAX, Shed,
    Step, StopCount, Urgency, What,
};
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::{ConnId, SlotNo, WorkerId};
use script::{MS, RECALL_AFTER, Script, config, prefetching};

const S: Duration = Duration::from_secs(1);

// ── start ──────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn of_a_large_pool_only_so_many_start_at_a_time_and_whoever_is_ready_makes_room() {
    let mut script = Script::new(config(100, 1));
    script.wait(S);
    let starting = script.spawned();
    assert_eq!(starting.len(), STARTING_MAX as usize);
    script.clear().event(Event::Ready { worker: starting[0] });
    assert_eq!(script.spawned().len(), 1);
    script.clear().die(starting[1], &[]);
    assert_eq!(script.spawned().len(), 1, "it has failed, and its slot waits, but another one has not begun yet");
}

// ── dispatch ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn four_clients_over_sixteen_idle_workers_are_served_evenly() {
    let mut script = Script::ready(config(16, 1));
    let mut served: BTreeMap<WorkerId, u32> = BTreeMap::new();
    for _ in 0..400 {
        script.clear();
        script.clients(4);
        for (worker, conn) in script.handed() {
            script.complete(worker, conn);
            *served.entry(worker).or_default() += 1;
        }
    }
    let (most, fewest) = (served.values().max().unwrap(), served.values().min().unwrap());
    assert_eq!(served.len(), 16);
    assert!(f64::from(*most) / f64::from(*fewest) < 1.5, "{served:?}");
}

#[test]
fn nobody_gets_a_second_connection_while_somebody_has_none() {
    let mut script = Script::ready(config(3, 2));
    script.clients(6);
    let workers: Vec<WorkerId> = script.handed().iter().map(|(worker, _)| *worker).collect();
    let (first, second) = workers.split_at(3);
    assert_eq!(first, second, "each got one before any got two");
    assert_eq!(script.snapshot().in_line, 0);
    script.client();
    assert_eq!(script.snapshot().in_line, 1, "the seventh waits");
}

#[test]
fn a_connection_that_was_refused_waits_and_is_handed_to_another() {
    let mut script = Script::ready(config(2, 1));
    let conn = script.client();
    let (busy, _) = script.handed()[0];
    script.clear().event(Event::HandOffRefused { worker: busy, conn, why: Refusal::Busy });
    assert_ne!(script.handed(), [(busy, conn)]);
    assert_eq!(script.handed().len(), 1);
    assert_eq!(script.snapshot().handed, 1, "what was refused was not handed");
    // The one that refused is asked again after a moment.
    script.clear();
    let second = script.client();
    assert_eq!(script.handed(), []);
    script.wait(11 * MS);
    assert_eq!(script.handed(), [(busy, second)]);
}

#[test]
fn a_full_line_stops_accepting_and_goes_on_when_it_moves() {
    let mut script = Script::ready(config(1, 1));
    script.clients(9);
    assert!(script.has(|action| *action == Action::PauseAccept { pool: PoolNo(0) }));
    let (worker, conn) = script.handed()[0];
    script.clear().complete(worker, conn);
    assert!(script.has(|action| *action == Action::ResumeAccept { pool: PoolNo(0) }));
}

#[test]
fn a_full_line_that_does_not_wait_sheds_the_newest_and_only_then() {
    let mut config = config(1, 1);
    config.pools[0].queue.overflow = Overflow::Shed(Farewell::Close);
    let mut script = Script::ready(config);
    script.clients(9);
    assert_eq!((script.snapshot().in_line, script.snapshot().shed.queue_full), (8, 0));
    let newest = script.client();
    assert!(script.has(|a| matches!(a, Action::Shed { conn, why: Shed::QueueFull, .. } if *conn == newest)));
    assert_eq!(script.snapshot().in_line, 8);
}

#[test]
fn who_waits_too_long_is_shed_with_a_reason() {
    let mut script = Script::ready(config(1, 1));
    script.client();
    let late = script.client();
    script.clear().wait(2 * S);
    assert!(script.has(|a| matches!(a, Action::Shed { conn, why: Shed::QueueTimeout, .. } if *conn == late)));
    assert_eq!(script.snapshot().shed.queue_timeout, 1);
}

#[test]
fn nothing_is_accepted_before_the_first_worker_is_ready() {
    let mut script = Script::new(config(1, 1));
    assert!(!script.has(|action| matches!(action, Action::ResumeAccept { .. })));
    let worker = script.spawned()[0];
    script.event(Event::Ready { worker });
    assert!(script.has(|action| matches!(action, Action::ResumeAccept { .. })));
}

// ── recall ─────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_place_in_a_mailbox_is_used_only_when_nobody_has_a_free_one() {
    for dispatch in [Dispatch::LeastLoaded, Dispatch::RoundRobin] {
        let mut config = prefetching(2, 2, 1);
        config.pools[0].dispatch = dispatch;
        let mut script = Script::ready(config);
        script.clients(7);
        let workers: Vec<WorkerId> = script.handed().iter().map(|(worker, _)| *worker).collect();
        let (first, second) = (workers[0], workers[1]);
        assert_eq!(workers, [first, second, first, second, first, second], "{dispatch:?}");
        assert_eq!(script.snapshot().in_line, 1, "no more than concurrency and prefetch");
        // One place gets free: the next goes there, though the other worker has waited longer for its turn.
        let conns: Vec<ConnId> = script.handed().iter().filter(|(w, _)| *w == second).map(|(_, c)| *c).collect();
        script.clear().complete(second, conns[0]).complete(second, conns[1]);
        script.client();
        assert_eq!(script.handed().iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [second, second]);
    }
}

#[test]
fn a_reload_can_change_the_rule_of_dispatch() {
    let mut script = Script::ready(prefetching(2, 2, 2));
    script.config.pools[0].dispatch = Dispatch::RoundRobin;
    reload_to_the_end(&mut script);
    script.wait(S).clear();
    script.clients(2);
    let [(first, _), (second, conn)] = script.handed()[..] else { panic!("{:?}", script.actions) };
    script.complete(second, conn).clear().client();
    assert_eq!(script.handed()[0].0, first, "it is its turn, though the other one holds nothing");
}

#[test]
fn what_a_worker_has_not_claimed_in_time_goes_to_another_that_has_room() {
    let mut script = Script::ready(prefetching(2, 1, 0));
    let conn = script.client();
    let (stopped, _) = script.handed()[0];
    script.leave_unclaimed(stopped, &[conn]).clear().wait(RECALL_AFTER - MS);
    assert_eq!(script.actions, [], "it has some time");
    script.wait(MS);
    let other = script.handed()[0].0;
    assert_ne!(other, stopped);
    assert_eq!(script.handed(), [(other, conn)]);
    assert_eq!((script.snapshot().recalled, script.snapshot().handed), (1, 2));
}

#[test]
fn a_place_that_gets_free_goes_to_what_is_overdue_and_not_to_the_front_of_the_line() {
    let mut script = Script::ready(prefetching(2, 1, 0));
    let conns = script.clients(3);
    let (stopped, busy) = (script.handed()[0].0, script.handed()[1].0);
    script.leave_unclaimed(stopped, &[conns[0]]).wait(2 * RECALL_AFTER).clear();
    assert_eq!(script.snapshot().in_line, 1);
    script.complete(busy, conns[1]);
    assert_eq!((script.handed(), script.snapshot().in_line), (vec![(busy, conns[0])], 1));
}

#[test]
fn of_two_overdue_workers_the_one_that_is_not_alone_with_its_room_is_looked_into() {
    let mut script = Script::ready(prefetching(2, 2, 0));
    let conns = script.clients(4);
    let (first, second) = (script.handed()[0].0, script.handed()[1].0);
    script.wait(2 * RECALL_AFTER).clear();
    assert_eq!(script.recalls(), 0, "nobody has room");
    // The first has room itself; that is of no use to what it holds, but it is to what the second holds.
    script.complete(first, conns[0]).wait(MS);
    assert!(script.has(|a| *a == Action::Recall { worker: second }));
    assert!(!script.has(|a| *a == Action::Recall { worker: first }));
}

#[test]
fn what_is_recalled_is_handed_out_before_what_came_later() {
    let mut script = Script::ready(prefetching(2, 1, 1));
    let conns = script.clients(5);
    let (stopped, busy) = (script.handed()[0].0, script.handed()[1].0);
    script.leave_unclaimed(stopped, &[conns[0], conns[2]]).wait(RECALL_AFTER);
    assert!(!script.has(|a| *a == Action::Recall { worker: stopped }), "nobody has room: it would only wait elsewhere");
    script.clear().complete(busy, conns[1]).complete(busy, conns[3]);
    let handed = script.handed();
    // The line's front took the place in the mailbox; then there was a free place, and the older ones came back.
    assert_eq!(handed, [(busy, conns[4])]);
    script.clear().complete(busy, conns[4]);
    assert!(script.has(|a| *a == Action::Recall { worker: stopped }));
    assert_eq!(script.handed(), [(busy, conns[0]), (busy, conns[2])]);
}

#[test]
fn nothing_is_handed_out_between_a_look_and_its_answer() {
    let mut script = Script::ready(prefetching(2, 1, 0));
    let conn = script.client();
    let (stopped, _) = script.handed()[0];
    script.answer_no_recall().clear().wait(RECALL_AFTER);
    let later = script.client();
    assert_eq!((script.handed(), script.snapshot().in_line), (vec![], 1));
    script.event(Event::Recalled { worker: stopped, conns: vec![conn] });
    let other = script.handed()[0].0;
    assert_eq!((script.handed(), script.snapshot().in_line), (vec![(other, conn)], 1));
    assert_ne!(other, stopped);
    script.clear().complete(other, conn);
    assert_eq!(script.handed(), [(other, later)]);
}

#[test]
fn a_worker_that_dies_while_its_mailbox_is_looked_into_holds_nobody_up() {
    let mut script = Script::ready(prefetching(2, 1, 0));
    let conn = script.client();
    let (stopped, _) = script.handed()[0];
    script.answer_no_recall().wait(RECALL_AFTER).clear().die(stopped, &[conn]);
    assert_eq!(script.handed().len(), 1);
}

#[test]
fn a_claimed_connection_is_looked_for_once() {
    let mut script = Script::ready(prefetching(2, 2, 0));
    script.clients(2);
    script.clear().wait(60 * S);
    assert_eq!(script.recalls(), 2, "one look at each worker: {:?}", script.actions);
    assert_eq!(script.pools.next_deadline(), None);
}

#[test]
fn one_look_settles_everything_that_the_worker_was_handed_before() {
    let mut script = Script::ready(prefetching(2, 8, 0));
    script.clients(16);
    script.clear().wait(60 * S);
    assert_eq!(script.recalls(), 2);
}

#[test]
fn a_completed_connection_leaves_no_deadline_behind() {
    let mut script = Script::ready(prefetching(2, 1, 1));
    for (worker, conn) in {
        script.clients(4);
        script.handed()
    } {
        assert!(script.pools.next_deadline().is_some());
        script.complete(worker, conn);
    }
    assert_eq!(script.pools.next_deadline(), None);
}

#[test]
fn a_worker_that_holds_nothing_any_more_is_not_looked_into() {
    let mut script = Script::ready(prefetching(1, 1, 0));
    let conn = script.client();
    let worker = script.serving(0);
    script.wait(2 * RECALL_AFTER).complete(worker, conn);
    assert_eq!((script.recalls(), script.pools.next_deadline()), (0, None));
}

#[test]
fn what_lies_unclaimed_while_nobody_has_room_comes_back_to_the_line_and_its_deadline() {
    let mut script = Script::ready(prefetching(1, 1, 1));
    let conns = script.clients(2);
    let stopped = script.serving(0);
    script.leave_unclaimed(stopped, &conns).clear().wait(RECALL_AFTER + S);
    assert_eq!((script.recalls(), script.snapshot().in_line), (1, 2));
    script.wait(S);
    assert_eq!(script.snapshot().shed.queue_timeout, 2, "the line's timeout is two seconds");
}

#[test]
fn a_worker_whose_places_are_taken_is_not_stuck_but_gets_nothing_ahead_before_it_completes_one() {
    let mut script = Script::ready(prefetching(2, 1, 1));
    let conns = script.clients(4);
    let (busy, free) = (script.handed()[0].0, script.handed()[1].0);
    script.leave_unclaimed(busy, &[conns[2]]).wait(RECALL_AFTER).clear();
    script.complete(free, conns[1]).complete(free, conns[3]);
    assert_eq!(script.handed(), [(free, conns[2])], "recalled for the free place");
    assert!(!script.has(|a| matches!(a, Action::Probe { .. } | Action::Note(_))));
    script.clear();
    let (fifth, sixth) = (script.client(), script.client());
    assert_eq!((script.handed(), script.snapshot().in_line), (vec![(free, fifth)], 1));
    script.clear().complete(busy, conns[0]);
    assert_eq!(script.handed(), [(busy, sixth)]);
    script.clear();
    let seventh = script.client();
    assert_eq!(script.handed(), [(busy, seventh)], "it is trusted again");
}

#[test]
fn a_worker_that_had_a_free_place_and_did_not_claim_is_stuck_until_a_sign_of_life() {
    let (mut script, stuck, conn) = with_a_stuck_worker();
    assert_eq!(script.snapshot().stuck, 1);
    let name = script.names[&stuck].clone();
    assert!(script.has(|a| *a == Action::Note(Note::Stuck { worker: name.clone(), recalled: 1 })));
    let probes = |script: &Script| script.actions.iter().filter(|a| **a == Action::Probe { worker: stuck }).count();
    assert_eq!(probes(&script), 1);
    assert!(!script.has(|a| matches!(a, Action::Signal { .. } | Action::Drain { .. })), "I7");

    let other = script.handed()[0].0;
    script.clear().client();
    assert_eq!((script.handed(), script.snapshot().in_line), (vec![], 1), "it is handed nothing");
    script.clear().wait(S);
    assert_eq!(probes(&script), 0, "asked once");
    script.complete(other, conn).clear().client();
    assert_eq!(script.snapshot().in_line, 1);
    script.event(Event::Alive { worker: stuck });
    assert_eq!(script.handed(), [], "it is left alone for a moment");
    script.wait(2 * RECALL_AFTER);
    assert_eq!(script.handed()[0].0, stuck);
    assert!(script.has(|a| *a == Action::Note(Note::Unstuck { worker: name.clone() })));
    assert_eq!(script.snapshot().stuck, 0);
}

#[test]
fn a_stuck_worker_that_completes_something_is_trusted_at_once() {
    let mut script = Script::ready(prefetching(2, 2, 0));
    let conns = script.clients(2);
    let (stuck, other) = (script.handed()[0].0, script.handed()[1].0);
    let unclaimed = script.wait(S).clear().client();
    assert_eq!(script.handed(), [(stuck, unclaimed)]);
    script.leave_unclaimed(stuck, &[unclaimed]).clear().wait(RECALL_AFTER);
    assert_eq!((script.handed(), script.snapshot().stuck), (vec![(other, unclaimed)], 1));
    script.clear().complete(stuck, conns[0]);
    assert_eq!(script.snapshot().stuck, 0);
    assert!(script.has(|a| matches!(a, Action::Note(Note::Unstuck { .. }))));
    let next = script.clear().client();
    assert_eq!(script.handed(), [(stuck, next)]);
    // The first probe is still unanswered: there are never two.
    script.complete(other, conns[1]).leave_unclaimed(stuck, &[next]).clear().wait(RECALL_AFTER);
    assert_eq!(script.snapshot().stuck, 1);
    assert!(!script.has(|a| matches!(a, Action::Probe { .. })));
    script.event(Event::Alive { worker: stuck }).wait(2 * RECALL_AFTER);
    assert_eq!(script.snapshot().stuck, 0);
}

#[test]
fn a_worker_that_answers_and_never_claims_is_left_alone_for_longer_and_longer() {
    let (mut script, stuck, conn) = with_a_stuck_worker();
    let other = script.handed()[0].0;
    script.complete(other, conn);
    let mut rests = Vec::new();
    for _ in 0..10 {
        script.clear().event(Event::Alive { worker: stuck });
        let recovers = script.pools.next_deadline().unwrap();
        rests.push(recovers.since(script.now).as_millis());
        script.wait(recovers.since(script.now));
        assert_eq!(script.snapshot().stuck, 0);
        hand_in_vain(&mut script, stuck);
    }
    assert_eq!(rests, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
    // One completed connection, and it begins anew.
    script.event(Event::Alive { worker: stuck }).wait(S);
    let conn = loop {
        let conn = script.clear().client();
        match script.handed()[0].0 {
            worker if worker == stuck => break conn,
            worker => drop(script.complete(worker, conn)),
        }
    };
    script.complete(stuck, conn).wait(2 * RECALL_AFTER);
    hand_in_vain(&mut script, stuck);
    script.event(Event::Alive { worker: stuck });
    assert_eq!(script.pools.next_deadline().unwrap().since(script.now), 2 * RECALL_AFTER);
}

#[test]
fn a_worker_that_has_just_completed_something_had_no_time_to_claim_the_next() {
    let mut script = Script::ready(prefetching(2, 1, 1));
    let conns = script.clients(4);
    let (quick, other) = (script.handed()[0].0, script.handed()[1].0);
    script.wait(4 * MS).complete(quick, conns[0]).complete(other, conns[1]).complete(other, conns[3]);
    script.leave_unclaimed(quick, &[conns[2]]).clear().wait(MS);
    assert_eq!(script.recalls(), 1, "it is recalled all the same, since another has room");
    assert_eq!((script.handed().len(), script.snapshot().stuck), (1, 0));
}

#[test]
fn a_worker_that_gets_a_place_has_its_time_to_fill_it() {
    let mut script = Script::ready(prefetching(2, 1, 1));
    let conns = script.clients(4);
    let (quick, other) = (script.handed()[0].0, script.handed()[1].0);
    script.wait(20 * MS).clear().complete(quick, conns[0]).complete(other, conns[1]).complete(other, conns[3]);
    assert_eq!(script.recalls(), 0);
    script.leave_unclaimed(quick, &[conns[2]]).wait(RECALL_AFTER);
    assert_eq!((script.recalls(), script.handed()), (1, vec![(other, conns[2])]));
    assert_eq!(script.snapshot().stuck, 1);
}

#[test]
fn what_a_recall_had_to_leave_for_want_of_descriptors_is_looked_for_again() {
    let mut script = Script::ready(prefetching(2, 2, 0));
    let conns = script.clients(4);
    let (stopped, other) = (script.handed()[0].0, script.handed()[1].0);
    script.complete(other, conns[1]).complete(other, conns[3]).answer_no_recall().wait(RECALL_AFTER).clear();
    script.event(Event::AcceptStarved { pool: PoolNo(0) });
    script.event(Event::Recalled { worker: stopped, conns: vec![conns[0]] });
    assert_eq!((script.handed(), script.snapshot().stuck), (vec![(other, conns[0])], 1));
    script.clear().client();
    script.wait(RECALL_AFTER);
    assert_eq!(script.recalls(), 1, "a stuck worker is emptied even though nobody has room: {:?}", script.actions);
    // Not one came back: that proves nothing while descriptors are short.
    script.clear().event(Event::Recalled { worker: stopped, conns: vec![] }).wait(RECALL_AFTER);
    assert_eq!(script.recalls(), 1);
    script.clear().event(Event::Recalled { worker: stopped, conns: vec![conns[2]] });
    assert_eq!(script.snapshot().in_line, 1);
    assert!(!script.has(|a| matches!(a, Action::Note(Note::Stuck { .. }))), "said once");
}

#[test]
fn a_stuck_worker_is_replaced_by_a_reload_like_any_other() {
    let (mut script, stuck, conn) = with_a_stuck_worker();
    let other = script.handed()[0].0;
    script.complete(other, conn).wait(S).clear().reload(1);
    let (mut signalled, mut replaced) = (false, 0);
    while !script.has(|a| matches!(a, Action::Answer { .. })) {
        let successor = *script.spawned().last().unwrap();
        let slot = script.names[&successor].slot;
        let old = script.serving(slot.0);
        script.event(Event::Ready { worker: successor });
        assert!(script.has(|a| *a == Action::Drain { worker: old }));
        script.wait(4 * S);
        signalled |= script.has(|a| *a == Action::Signal { worker: stuck, step: Step::Term });
        script.die(old, &[]).wait(200 * MS);
        replaced += 1;
    }
    assert_eq!((replaced, signalled, script.snapshot().stuck), (2, true, 0));
    assert!(script.has(|a| matches!(a, Action::Answer { answer: Answer::Reloaded { .. }, .. })));
}

#[test]
fn a_stuck_worker_can_be_restarted() {
    let (mut script, stuck, _) = with_a_stuck_worker();
    let slot = script.names[&stuck].slot;
    let pool = "p".parse().unwrap();
    script.wait(S).clear().event(Event::Restart { request: Some(RequestId(1)), pool, slot: Some(slot) });
    let successor = script.spawned()[0];
    script.event(Event::Ready { worker: successor });
    assert!(
        script.has(|a| *a == Action::Drain { worker: stuck }) && script.has(|a| *a == Action::Recall { worker: stuck })
    );
    script.die(stuck, &[]);
    assert!(script.has(|a| *a == Action::Answer { request: RequestId(1), answer: Answer::Restarted }));
    assert_eq!(script.snapshot().stuck, 0);
}

#[test]
fn a_stuck_worker_leaves_like_any_other_when_the_pool_shrinks() {
    let mut script = Script::ready(prefetching(2, 1, 0));
    let (stays, stuck) = (script.serving(0), script.serving(1));
    hand_in_vain(&mut script, stuck);
    script.clear().event(Event::Scale { request: None, pool: None, change: Change::Fewer(1) });
    assert!(script.has(|a| *a == Action::Drain { worker: stuck }));
    // Its answer comes too late to matter.
    script.event(Event::Alive { worker: stuck }).clear().wait(3 * S);
    assert_eq!(script.actions, []);
    let conns = script.clients(2);
    assert_eq!((script.handed(), script.snapshot().in_line), (vec![(stays, conns[0])], 1));
}

#[test]
fn at_a_graceful_stop_what_a_worker_has_not_claimed_is_served_by_another_before_anybody_drains() {
    let mut script = Script::ready(prefetching(2, 1, 0));
    let conn = script.client();
    let (stopped, _) = script.handed()[0];
    script.leave_unclaimed(stopped, &[conn]).clear().event(Event::Stop { urgency: Urgency::Graceful });
    script.event(Event::KernelQueueEmpty { pool: PoolNo(0) });
    assert!(!script.has(|a| matches!(a, Action::Drain { .. })));
    script.wait(RECALL_AFTER);
    let other = script.handed()[0].0;
    assert_eq!(script.handed(), [(other, conn)]);
    script.wait(RECALL_AFTER);
    assert!(
        script.has(|a| *a == Action::Drain { worker: other })
            && script.has(|a| *a == Action::Drain { worker: stopped })
    );
    script.complete(other, conn).die(other, &[]).wait(4 * S).die(stopped, &[]);
    let count = StopCount { shed: 0, lost: 0, killed: 0 };
    assert!(script.has(|a| *a == Action::Finished { ended: Ended::Stopped(count) }), "{:?}", script.actions);
}

#[test]
fn at_a_graceful_stop_what_nobody_else_can_serve_is_shed_at_the_last_call() {
    let mut script = Script::ready(prefetching(1, 1, 0));
    let conn = script.client();
    let stopped = script.serving(0);
    script.config.pools[0].queue.timeout = Duration::ZERO;
    script.leave_unclaimed(stopped, &[conn]).event(Event::Stop { urgency: Urgency::Graceful });
    script.event(Event::KernelQueueEmpty { pool: PoolNo(0) }).wait(RECALL_AFTER);
    assert_eq!((script.snapshot().in_line, script.snapshot().stuck), (1, 1));
    script.wait(28 * S);
    assert!(script.has(|a| matches!(a, Action::Shed { conn: shed, .. } if *shed == conn)));
}

#[test]
fn a_long_recall_after_does_not_hold_up_a_stop() {
    let mut config = prefetching(1, 1, 0);
    config.pools[0].recall_after = 60 * S;
    let mut script = Script::ready(config);
    let conn = script.client();
    let worker = script.serving(0);
    script.event(Event::Stop { urgency: Urgency::Graceful }).event(Event::KernelQueueEmpty { pool: PoolNo(0) });
    script.wait(S);
    assert!(script.has(|a| *a == Action::Drain { worker }), "{conn} is claimed, as a look has shown");
}

#[test]
fn completing_what_was_recalled_is_misbehaviour() {
    let (mut script, stuck, conn) = with_a_stuck_worker();
    script.clear().complete(stuck, conn);
    assert!(script.has(|a| matches!(a, Action::Note(Note::Misbehaved { .. }))));
    assert_eq!((script.snapshot().done, script.snapshot().stuck), (0, 1));
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut script = Script::ready(prefetching(1, 1, 0));
    let worker = script.serving(0);
    script.clear().event(Event::Alive { worker }).event(Event::Alive { worker: WorkerId(77) });
    assert_eq!((script.actions.len(), script.pools.next_deadline()), (0, None));
}

/// Two workers of one place; one of them was handed a connection and left it lying, the other serves it now.
fn with_a_stuck_worker() -> (Script, WorkerId, ConnId) {
    let mut script = Script::ready(prefetching(2, 1, 0));
    let conn = script.client();
    let (stuck, _) = script.handed()[0];
    script.leave_unclaimed(stuck, &[conn]).clear().wait(RECALL_AFTER);
    (script, stuck, conn)
}

/// Clients come until `stuck` has one; it leaves it lying until another worker, which is idle, has served it.
fn hand_in_vain(script: &mut Script, stuck: WorkerId) {
    loop {
        let conn = script.clear().client();
        let (worker, _) = script.handed()[0];
        if worker == stuck {
            script.leave_unclaimed(stuck, &[conn]).clear().wait(RECALL_AFTER);
            let (other, _) = script.handed()[0];
            assert_eq!(script.snapshot().stuck, 1);
            script.complete(other, conn);
            return;
        }
        script.complete(worker, conn);
    }
}

// ── deaths ─────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_a_dead_worker_had_not_claimed_goes_to_the_front_and_the_rest_is_lost() {
    let mut script = Script::ready(config(1, 3));
    let conns = script.clients(4);
    let (worker, _) = script.handed()[0];
    script.clear().die(worker, &conns[1..3]);
    let snapshot = script.snapshot();
    assert_eq!((snapshot.lost, snapshot.redelivered, snapshot.in_line), (1, 2, 3));
    script.wait(100 * MS);
    let successor = script.spawned()[0];
    script.event(Event::Ready { worker: successor });
    let order: Vec<ConnId> = script.handed().iter().map(|(_, conn)| *conn).collect();
    assert_eq!(order, [conns[1], conns[2], conns[3]]);
}

#[test]
fn a_worker_that_closes_its_channel_keeps_its_mailbox_until_it_dies_or_shows_that_it_lives() {
    let mut script = Script::ready(config(1, 1));
    let conn = script.client();
    let worker = script.serving(0);
    script.clear().event(Event::HungUp { worker, how: HangUp::ChannelClosed });
    assert!(!script.has(|a| *a == Action::Recall { worker }));
    script.wait(250 * MS);
    assert!(script.has(|a| *a == Action::Recall { worker }));
    assert!(script.has(|a| *a == Action::Signal { worker, step: Step::Term }));
    script.event(Event::Recalled { worker, conns: vec![conn] });
    assert_eq!((script.snapshot().recalled, script.snapshot().in_line), (1, 1));
}

#[test]
fn a_worker_that_dies_before_ready_is_backed_off() {
    let mut script = Script::ready(config(1, 1));
    let worker = script.serving(0);
    script.wait(2 * S); // it has settled
    script.clear().die(worker, &[]);
    let second = script.spawned()[0];
    script.clear().die(second, &[]);
    assert_eq!(script.spawned(), [], "not at once");
    assert!(script.has(|action| matches!(action, Action::Note(Note::BackOff { .. }))));
    script.wait(100 * MS);
    assert_eq!(script.spawned().len(), 1);
}

#[test]
fn a_settled_worker_that_dies_is_replaced_at_once_and_forgiven() {
    let mut script = Script::ready(config(1, 1));
    for _ in 0..20 {
        let worker = script.serving(0);
        script.wait(1001 * MS).clear().die(worker, &[]);
        let next = script.spawned()[0];
        script.event(Event::Ready { worker: next });
    }
    assert_ne!(script.snapshot().state, PoolState::Failed);
}

#[test]
fn a_death_soon_after_ready_counts_unless_it_has_served() {
    let fails = |served: bool| {
        let mut script = Script::ready(config(1, 1));
        if served {
            let conn = script.client();
            let worker = script.serving(0);
            script.complete(worker, conn);
        }
        let worker = script.serving(0);
        script.clear().die(worker, &[]);
        script.has(|action| matches!(action, Action::Note(Note::BackOff { .. })))
    };
    assert!(fails(false));
    assert!(!fails(true));
}

#[test]
fn a_worker_that_was_asked_to_leave_has_not_failed_however_soon_it_dies() {
    let mut script = Script::ready(config(2, 1));
    let worker = script.serving(1);
    script.event(Event::Scale { request: None, pool: None, change: Change::Fewer(1) });
    script.clear().die(worker, &[]);
    assert!(!script.has(|action| matches!(action, Action::Note(Note::BackOff { .. }))), "{:?}", script.actions);
    assert_eq!(script.snapshot().state, PoolState::Ready);
}

#[test]
fn a_pool_that_spent_its_intensity_is_failed_and_restart_brings_it_back() {
    let mut script = Script::ready(config(2, 1));
    let survivor = script.serving(1);
    let mut worker = script.serving(0);
    for _ in 0..4 {
        script.clear().die(worker, &[]).wait(2 * S);
        worker = script.spawned().first().copied().unwrap_or(worker);
    }
    assert_eq!(script.snapshot().state, PoolState::Failed);
    script.clear().wait(60 * S);
    assert_eq!(script.spawned(), [], "it is given up");
    script.client();
    assert_eq!(script.handed()[0].0, survivor, "survivors serve");

    let pool = "p".parse().unwrap();
    script.clear().event(Event::Restart { request: Some(RequestId(1)), pool, slot: Some(SlotNo(0)) });
    let again = script.spawned()[0];
    script.event(Event::Ready { worker: again });
    assert_eq!(script.snapshot().state, PoolState::Ready);
    assert!(script.has(|a| *a == Action::Answer { request: RequestId(1), answer: Answer::Restarted }));
}

#[test]
fn a_first_start_that_cannot_execute_ends_everything_with_the_reason() {
    let mut script = Script::new(config(2, 1));
    let workers = script.spawned();
    script.event(Event::ExecFailed { worker: workers[0], why: "no such file".into() });
    script.die(workers[0], &[]);
    assert!(script.has(|a| *a == Action::Signal { worker: workers[1], step: Step::Term }));
    script.die(workers[1], &[]).event(Event::KernelQueueEmpty { pool: PoolNo(0) });
    assert!(!script.has(|a| *a == Action::AllReady), "nobody was ever ready");
    let failed = |action: &Action| {
        let Action::Finished { ended: Ended::StartFailed { failure, .. } } = action else { return false };
        failure.what == What::Exec("no such file".into())
    };
    assert!(script.has(failed));
}

#[test]
fn a_worker_that_is_never_ready_gets_term_then_abrt_then_kill() {
    let mut script = Script::new(config(1, 1));
    let worker = script.spawned()[0];
    let signalled = |script: &Script, step| script.has(|a| *a == Action::Signal { worker, step });
    script.wait(3 * S);
    assert!(signalled(&script, Step::Term) && !signalled(&script, Step::Abort));
    script.wait(S);
    assert!(signalled(&script, Step::Abort) && !signalled(&script, Step::Kill));
    script.wait(S);
    assert!(signalled(&script, Step::Kill));
}

#[test]
fn an_idle_worker_is_left_alone_for_a_year() {
    let mut script = Script::ready(config(1, 1));
    script.wait(Duration::from_secs(365 * 24 * 3600));
    assert!(script.actions.is_empty(), "{:?}", script.actions);
}

#[test]
fn a_starting_worker_that_closes_its_channel_is_judged_by_its_exit() {
    let mut script = Script::ready(config(1, 1));
    script.wait(2 * S).reload(1);
    let successor = *script.spawned().last().unwrap();
    script.event(Event::HungUp { worker: successor, how: HangUp::ChannelClosed }).die(successor, &[]);
    let verdict = |action: &Action| {
        matches!(action, Action::Answer { answer: Answer::Undone { setback }, .. }
            if matches!(setback.failure.what, What::DiedStarting(_)))
    };
    assert!(script.has(verdict), "{:?}", script.actions);
}

// ── scale ──────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_scaled_target_survives_a_reload_until_the_file_asks_for_another_number() {
    let mut script = Script::ready(config(1, 1));
    script.event(Event::Scale { request: None, pool: None, change: Change::More(1) });
    for worker in script.spawned() {
        script.event(Event::Ready { worker });
    }
    reload_to_the_end(&mut script);
    assert_eq!(script.snapshot().target, 2);
    script.config.pools[0].workers = Workers::Fixed(3);
    reload_to_the_end(&mut script);
    assert_eq!(script.snapshot().target, 3);
}

fn reload_to_the_end(script: &mut Script) {
    script.wait(S).clear().reload(9);
    while !script.has(|a| matches!(a, Action::Answer { .. })) {
        let starting = *script.spawned().last().unwrap();
        let slot = script.names[&starting].slot;
        let old = script.serving(slot.0);
        script.event(Event::Ready { worker: starting }).die(old, &[]).wait(200 * MS);
    }
}

#[test]
fn a_pool_never_has_fewer_than_one_worker() {
    let mut script = Script::ready(config(2, 1));
    script.event(Event::Scale { request: None, pool: None, change: Change::Fewer(9) });
    assert_eq!(script.snapshot().target, 1);
}

// ── stop ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_graceful_stop_serves_the_line_before_it_drains() {
    let mut script = Script::ready(config(1, 1));
    let (first, second) = (script.client(), script.client());
    let worker = script.serving(0);
    script.clear().event(Event::Stop { urgency: Urgency::Graceful });
    assert!(script.has(|a| *a == Action::RefuseNew { pool: PoolNo(0) }));
    script.event(Event::KernelQueueEmpty { pool: PoolNo(0) });
    assert!(!script.has(|a| *a == Action::Drain { worker }));
    script.complete(worker, first);
    assert_eq!(script.handed(), [(worker, second)]);
    assert!(!script.has(|a| *a == Action::Drain { worker }), "what it was just handed may be unclaimed");
    script.wait(RECALL_AFTER);
    assert!(script.has(|a| *a == Action::Drain { worker }));
    script.complete(worker, second).die(worker, &[]);
    assert!(script.has(|a| *a == Action::Finished { ended: Ended::Stopped(StopCount::default()) }));
}

#[test]
fn at_the_last_call_the_line_is_shed_and_workers_get_term_then_kill_before_stop_timeout() {
    let mut script = Script::ready(config(1, 1));
    let waits = script.clients(2)[1];
    let worker = script.serving(0);
    script.clear().event(Event::Stop { urgency: Urgency::Graceful });
    script.event(Event::KernelQueueEmpty { pool: PoolNo(0) });
    script.wait(28 * S); // stop_timeout 30 s − kill_after 2 s; the line's own deadline came first
    assert!(script.has(|a| matches!(a, Action::Shed { conn, .. } if *conn == waits)));
    assert!(script.has(|a| *a == Action::Signal { worker, step: Step::Term }));
    script.wait(2 * S);
    assert!(script.has(|a| *a == Action::Signal { worker, step: Step::Kill }));
}

#[test]
fn a_fast_stop_sheds_line_and_mailboxes_at_once() {
    let mut script = Script::ready(config(1, 2));
    let conns = script.clients(3);
    let worker = script.serving(0);
    script.clear().event(Event::Stop { urgency: Urgency::Now });
    assert!(script.has(|a| *a == Action::Recall { worker }));
    assert!(script.has(|a| *a == Action::Signal { worker, step: Step::Term }));
    assert!(script.has(|a| matches!(a, Action::Shed { conn, .. } if *conn == conns[2])));
    script.event(Event::Recalled { worker, conns: vec![conns[1]] });
    assert!(script.has(|a| matches!(a, Action::Shed { conn, .. } if *conn == conns[1])));
    script.wait(2 * S);
    assert!(script.has(|a| *a == Action::Signal { worker, step: Step::Kill }));
}

#[test]
fn what_the_kernel_still_held_at_a_stop_is_served() {
    let mut script = Script::ready(config(1, 1));
    let worker = script.serving(0);
    script.event(Event::Stop { urgency: Urgency::Graceful }).clear();
    let conn = script.client();
    assert_eq!(script.handed(), [(worker, conn)]);
}

// ── lies ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn completing_what_was_never_handed_is_misbehaviour() {
    let mut script = Script::ready(config(1, 1));
    let worker = script.serving(0);
    script.complete(worker, ConnId(77));
    assert!(script.has(|a| matches!(a, Action::Note(Note::Misbehaved { .. }))));
    assert!(script.has(|a| *a == Action::Signal { worker, step: Step::Term }));
}

#[test]
fn a_lie_about_a_lost_connection_that_comes_out_during_a_stop_is_struck_from_the_books() {
    let mut script = Script::ready(config(1, 1));
    let conn = script.client();
    let worker = script.serving(0);
    let completion = Completion { conn, outcome: Outcome::Truncated, claimed_at_ns: 0, done_at_ns: 0 };
    script.event(Event::Completed { worker, completion });
    assert_eq!(script.snapshot().lost, 1, "believed for now");
    script.event(Event::Stop { urgency: Urgency::Now }).event(Event::Recalled { worker, conns: vec![conn] });
    script.die(worker, &[]).clear().event(Event::KernelQueueEmpty { pool: PoolNo(0) });
    let count = StopCount { shed: 1, lost: 0, killed: 0 };
    assert!(script.has(|a| *a == Action::Finished { ended: Ended::Stopped(count) }), "{:?}", script.actions);
}

#[test]
fn a_connection_that_did_not_go_well_is_done_and_counted_among_those_that_failed() {
    let mut script = Script::ready(config(1, 1));
    let worker = script.serving(0);
    for outcome in [Outcome::Done, Outcome::Panicked, Outcome::Failed] {
        let conn = script.client();
        let completion = Completion { conn, outcome, claimed_at_ns: 0, done_at_ns: 0 };
        script.event(Event::Completed { worker, completion });
    }
    let pool = script.snapshot();
    assert_eq!((pool.done, pool.failed, pool.lost), (3, 2, 0));
}

#[test]
fn that_the_machine_has_no_room_for_a_process_does_not_spend_the_intensity() {
    let mut script = Script::ready(config(1, 1));
    script.event(Event::Scale { request: None, pool: None, change: Change::More(1) });
    for _ in 0..20 {
        let worker = *script.spawned().last().unwrap();
        script.clear().event(Event::SpawnFailed { worker, why: "EAGAIN".into() });
        script.wait(40 * S);
    }
    assert_eq!(script.snapshot().state, PoolState::Degraded);
}

#[test]
fn a_connection_whose_completion_was_a_lie_is_served_by_another() {
    let mut script = Script::ready(config(2, 1));
    let conn = script.client();
    let (liar, _) = script.handed()[0];
    script.complete(liar, conn);
    assert_eq!(script.snapshot().done, 1, "believed for now");
    script.clear().event(Event::Misbehaved { worker: liar, how: "garbage".into() });
    script.event(Event::Recalled { worker: liar, conns: vec![conn] });
    assert_eq!(script.snapshot().done, 0);
    assert_eq!(script.handed().len(), 1);
    assert_ne!(script.handed()[0].0, liar);
}
