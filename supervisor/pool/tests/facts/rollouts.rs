//! Facts about rollouts: who goes first, how many at a time, who has to prove themselves, and what follows a failure.

use std::time::Duration;

use ostler_config::checked::{Canary, Config, Surge};
use ostler_pool::{Action, Answer, Change, Event, HangUp, NoConfig, Note, RequestId, Setback, SetbackStage, What};
use ostler_shared::{Generation, SlotNo, WorkerId};

use super::S;
use super::script::{MS, Script, config};

/// So many workers, replaced so many at a time, with or without a canary.
fn rolling(workers: u32, surge: Surge, canary: Canary, probation: Duration) -> Config {
    let mut config = config(workers, 1);
    let reload = &mut config.pools[0].reload;
    (reload.surge, reload.canary, reload.probation) = (surge, canary, probation);
    config
}

/// Why the reload was undone.
fn setback(script: &Script) -> Option<&Setback> {
    script.actions.iter().find_map(|action| match action {
        Action::Answer { answer: Answer::Undone { setback }, .. } => Some(setback),
        _ => None,
    })
}

fn is_reloaded(script: &Script) -> bool {
    script.has(|action| matches!(action, Action::Answer { answer: Answer::Reloaded { .. }, .. }))
}

/// The successors become READY and their predecessors end; answers with those who are started then.
fn next_batch(script: &mut Script, successors: &[WorkerId]) -> Vec<WorkerId> {
    let slots: Vec<u32> = successors.iter().map(|id| script.names[id].slot.0).collect();
    let predecessors: Vec<WorkerId> = slots.into_iter().map(|slot| script.serving(slot)).collect();
    script.clear();
    for worker in successors {
        script.event(Event::Ready { worker: *worker });
    }
    for worker in predecessors {
        script.die(worker, &[]);
    }
    script.spawned()
}

#[test]
fn one_goes_ahead_and_the_others_follow_a_few_at_a_time() {
    let mut script = Script::ready(rolling(7, Surge::Workers(3), Canary::Sent, Duration::ZERO));
    script.wait(S).clear().reload(1);
    let mut sizes = Vec::new();
    let mut batch = script.spawned();
    while !batch.is_empty() {
        sizes.push(batch.len());
        batch = next_batch(&mut script, &batch);
    }
    assert_eq!(sizes, [1, 3, 3]);
    assert!(is_reloaded(&script));
}

#[test]
fn without_a_canary_the_first_batch_is_as_large_as_the_others() {
    let mut script = Script::ready(rolling(10, Surge::Percent(41), Canary::Spared, Duration::ZERO));
    script.wait(S).clear().reload(1);
    let first = script.spawned();
    assert_eq!(first.len(), 5, "41 % of 10, rounded up");
    assert_eq!(next_batch(&mut script, &first).len(), 5);
}

#[test]
fn a_slot_makes_room_for_the_next_only_when_its_old_worker_is_gone() {
    let mut script = Script::ready(rolling(4, Surge::Workers(2), Canary::Spared, Duration::ZERO));
    script.wait(S).clear().reload(1);
    let [first, second] = script.spawned()[..] else { panic!("{:?}", script.actions) };
    let old = script.serving(0);
    script.clear().event(Event::Ready { worker: first }).event(Event::Ready { worker: second });
    assert_eq!(script.spawned(), [], "both old workers drain");
    script.die(old, &[]);
    assert_eq!(script.spawned().len(), 1);
}

#[test]
fn nobody_follows_a_canary_before_its_probation_is_over() {
    let mut script = Script::ready(rolling(3, Surge::Workers(2), Canary::Sent, 10 * S));
    script.wait(S).clear().reload(1);
    let canary = script.spawned();
    assert_eq!(next_batch(&mut script, &canary), []);
    script.wait(10 * S - MS);
    assert_eq!(script.spawned(), []);
    script.wait(MS);
    assert_eq!(script.spawned().len(), 2);
}

#[test]
fn the_commit_waits_for_the_probation_of_the_last() {
    let mut script = Script::ready(rolling(2, Surge::Workers(2), Canary::Spared, 10 * S));
    script.wait(S).clear().reload(1);
    let both = script.spawned();
    next_batch(&mut script, &both);
    script.wait(10 * S - MS);
    assert!(!is_reloaded(&script));
    assert_eq!(script.snapshot().generation, Generation(1));
    script.wait(MS);
    assert!(is_reloaded(&script));
    assert_eq!(script.snapshot().generation, Generation(2));
}

#[test]
fn a_death_on_probation_undoes_the_reload_whatever_the_worker_has_served() {
    let mut script = Script::ready(rolling(2, Surge::Workers(1), Canary::Sent, 10 * S));
    script.wait(S).clear().reload(1);
    let canary = script.spawned();
    next_batch(&mut script, &canary);
    let conns = script.clients(2);
    for (worker, conn) in script.handed().into_iter().filter(|(_, conn)| conns.contains(conn)) {
        script.complete(worker, conn);
    }
    script.wait(9 * S).clear().die(canary[0], &[]);
    let back = script.wait(S).spawned()[0];
    assert_eq!(script.names[&back].generation, Generation(1));
    script.event(Event::Ready { worker: back });
    let setback = setback(&script).expect("undone");
    assert_eq!(setback.stage, SetbackStage::CanaryOnProbation);
    assert!(matches!(setback.failure.what, What::DiedOnProbation(_, length) if length == 10 * S), "{setback:?}");
}

#[test]
fn who_turns_away_on_probation_holds_up_the_commit_until_its_end_undoes_the_reload() {
    let mut script = Script::ready(rolling(1, Surge::Workers(1), Canary::Sent, 2 * S));
    script.wait(S).clear().reload(1);
    let canary = script.spawned();
    next_batch(&mut script, &canary);
    script.wait(S + 500 * MS).event(Event::HungUp { worker: canary[0], how: HangUp::Leaves });
    script.clear().wait(2 * S);
    assert!(!is_reloaded(&script) && script.spawned().is_empty(), "nobody takes its place: {:?}", script.actions);
    script.die(canary[0], &[]);
    assert!(script.has(|a| matches!(a, Action::Note(Note::UndoBegun { .. }))), "{:?}", script.actions);
}

#[test]
fn a_death_after_the_probation_undoes_nothing() {
    let mut script = Script::ready(rolling(2, Surge::Workers(1), Canary::Sent, S));
    script.wait(S).clear().reload(1);
    let canary = script.spawned();
    next_batch(&mut script, &canary);
    let second = script.wait(S).spawned();
    script.die(canary[0], &[]);
    let replacement = *script.spawned().last().unwrap();
    assert_eq!(script.names[&replacement].generation, Generation(2));
    script.event(Event::Ready { worker: replacement });
    next_batch(&mut script, &second);
    assert!(is_reloaded(script.wait(S)));
}

#[test]
fn a_failure_among_several_sends_all_of_them_away() {
    let mut script = Script::ready(rolling(5, Surge::Workers(2), Canary::Sent, Duration::ZERO));
    script.wait(S).clear().reload(1);
    let canary = script.spawned();
    let batch = next_batch(&mut script, &canary);
    script.clear().die(batch[0], &[]);
    assert!(script.has(|a| matches!(a, Action::Signal { worker, .. } if *worker == batch[1])), "{:?}", script.actions);
    script.die(batch[1], &[]).wait(S);
    let back = *script.spawned().last().unwrap();
    script.event(Event::Ready { worker: back });
    let setback = setback(&script).expect("undone");
    assert_eq!(setback.stage, SetbackStage::Moving { moved: 1, of: 5 });
}

#[test]
fn a_pool_that_was_given_up_is_reloaded_with_a_program_that_dies_later_than_its_probation() {
    let mut script = Script::ready(rolling(2, Surge::Workers(1), Canary::Sent, Duration::ZERO));
    let (first, _) = (script.serving(0), script.serving(1));
    let mut dying = first;
    for _ in 0..4 {
        script.clear().die(dying, &[]).wait(5 * S);
        dying = script.spawned().last().copied().unwrap_or(dying);
    }
    assert_eq!(script.snapshot().state, ostler_pool::PoolState::Failed);
    script.clear().reload(1);
    let canary = script.spawned();
    script.event(Event::Ready { worker: canary[0] }).wait(2 * S).clear().die(canary[0], &[]);
    assert_eq!(script.spawned().len(), 1, "its slot is on trial and is filled again: {:?}", script.actions);
}

#[test]
fn a_slot_that_could_not_go_back_holds_up_no_later_reload() {
    let mut script = Script::ready(rolling(2, Surge::Workers(1), Canary::Sent, Duration::ZERO));
    script.wait(S).clear().reload(1);
    let canary = script.spawned();
    let second = next_batch(&mut script, &canary);
    // Slot 0 has moved, slot 1 can't, and the previous program does not start any more either.
    script.clear().die(second[0], &[]);
    while !script.has(|a| matches!(a, Action::Note(Note::UndoStuck { .. }))) {
        while script.spawned().is_empty() {
            script.wait(S);
        }
        let back = script.spawned()[0];
        script.clear().die(back, &[]);
    }
    assert!(setback(&script).is_some(), "{:?}", script.actions);
    let reads = |script: &Script| script.has(|a| matches!(a, Action::ReadConfig { .. }));
    for attempt in 2..4 {
        script.clear().event(Event::Reload { request: Some(RequestId(attempt)), pools: Vec::new() });
        assert!(reads(&script), "reload {attempt} waits for ever");
        script.event(Event::ConfigRead { config: Err(NoConfig::Unusable("a mistake".into())) });
    }
}

#[test]
fn whoever_waits_for_a_reload_is_told_of_each_step() {
    let mut script = Script::ready(rolling(2, Surge::Workers(1), Canary::Sent, Duration::ZERO));
    script.wait(S).clear().reload(7);
    let mut told = Vec::new();
    let mut batch = script.spawned();
    loop {
        told.extend(script.actions.iter().filter_map(|action| match action {
            Action::Progress { request: RequestId(7), news } => match news {
                Note::RolloutBegun { pool, generation, slots } => {
                    Some(format!("{pool} {generation} begins in {slots}"))
                }
                Note::SlotMoves { worker } => Some(format!("{worker} starts")),
                Note::SlotRolled { worker, moved, of } => Some(format!("{worker} serves, {moved} of {of}")),
                other => panic!("that is no news of a rollout: {other:?}"),
            },
            _ => None,
        }));
        if batch.is_empty() {
            break;
        }
        batch = next_batch(&mut script, &batch);
    }
    let expected = ["p 2 begins in 2", "p/0.2 starts", "p/0.2 serves, 1 of 2", "p/1.2 starts", "p/1.2 serves, 2 of 2"];
    assert_eq!(told, expected);
}

#[test]
fn a_successor_is_ready_before_its_predecessor_is_recalled_and_drained() {
    let mut script = Script::ready(config(2, 1));
    let (old, other) = (script.serving(0), script.serving(1));
    script.wait(S).clear().reload(1);
    let successor = script.spawned()[0];
    assert_eq!(script.names[&successor].generation, Generation(2));
    assert!(!script.has(|a| matches!(a, Action::Drain { .. } | Action::Signal { .. })), "I3");
    script.clear().event(Event::Ready { worker: successor });
    let recall = script.place(|a| *a == Action::Recall { worker: old }).unwrap();
    let drain = script.place(|a| *a == Action::Drain { worker: old }).unwrap();
    assert!(recall < drain);
    assert!(!script.has(|a| matches!(a, Action::Spawn { .. })), "slot 1 waits until {old} is gone");
    script.clear().die(old, &[]);
    let next = script.spawned()[0];
    assert_eq!(script.names[&next].slot, SlotNo(1));
    script.clear().event(Event::Ready { worker: next });
    assert!(script.has(|a| *a == Action::Drain { worker: other }));
    assert!(script.has(|a| matches!(a, Action::Answer { answer: Answer::Reloaded { .. }, .. })));
}

#[test]
fn a_failure_at_the_second_slot_moves_the_first_one_back() {
    let mut script = Script::ready(config(2, 1));
    let old = script.serving(0);
    script.wait(S).reload(1);
    let moved = *script.spawned().last().unwrap();
    script.event(Event::Ready { worker: moved }).die(old, &[]).wait(S);
    let failing = *script.spawned().last().unwrap();
    assert_eq!(script.names[&failing].slot, SlotNo(1));
    script.clear().die(failing, &[]).wait(S);
    let back = script.spawned()[0];
    assert_eq!((script.names[&back].slot, script.names[&back].generation), (SlotNo(0), Generation(1)));
    assert!(!script.has(|a| matches!(a, Action::Drain { .. })), "I3 holds on the way back");
    script.event(Event::Ready { worker: back });
    assert!(script.has(|a| *a == Action::Drain { worker: moved }));
    assert!(script.has(|a| matches!(a, Action::Answer { answer: Answer::Undone { .. }, .. })));
    assert_eq!(script.snapshot().generation, Generation(1), "I4");
    script.die(moved, &[]).clear().reload(2);
    let third = script.spawned()[0];
    assert_eq!(script.names[&third].generation, Generation(3), "the number of an undone generation is not reused");
}

#[test]
fn a_reload_asked_for_during_a_reload_gets_the_verdict_of_the_next() {
    let mut script = Script::ready(config(1, 1));
    let old = script.serving(0);
    script.wait(S).reload(1);
    script.event(Event::Reload { request: Some(RequestId(2)), pools: Vec::new() });
    let successor = *script.spawned().last().unwrap();
    script.event(Event::Ready { worker: successor });
    let answered = |script: &Script, number| {
        script.has(|a| matches!(a, Action::Answer { request, .. } if *request == RequestId(number)))
    };
    assert!(answered(&script, 1) && !answered(&script, 2));
    script.clear();
    assert!(!script.has(|a| *a == Action::ReadConfig { pools: vec![] }), "the first generation is not gone yet");
    script.die(old, &[]);
    assert!(script.has(|a| *a == Action::ReadConfig { pools: vec![] }));
}

#[test]
fn a_configuration_that_cannot_be_read_changes_nothing() {
    let mut script = Script::ready(config(1, 1));
    script.event(Event::Reload { request: Some(RequestId(1)), pools: Vec::new() });
    script.clear().event(Event::ConfigRead { config: Err(NoConfig::Unusable("a mistake".into())) });
    assert_eq!(script.spawned(), []);
    assert!(script.has(|a| matches!(a, Action::Answer { answer: Answer::Undone { .. }, .. })));
}

#[test]
fn a_program_that_dies_just_after_ready_fails_its_reload() {
    let mut script = Script::ready(config(2, 1));
    let old = script.serving(0);
    script.wait(S).reload(1);
    let moved = *script.spawned().last().unwrap();
    script.event(Event::Ready { worker: moved }).clear().die(moved, &[]).die(old, &[]).wait(S);
    assert!(script.has(|a| matches!(a, Action::Note(Note::UndoBegun { .. }))), "{:?}", script.actions);
    let back = *script.spawned().last().unwrap();
    assert_eq!(script.names[&back].generation, Generation(1));
    script.event(Event::Ready { worker: back });
    assert!(script.has(|a| matches!(a, Action::Answer { answer: Answer::Undone { .. }, .. })));
}

#[test]
fn a_reload_does_not_wait_for_the_back_off_of_the_program_that_it_replaces() {
    let mut script = Script::ready(config(1, 1));
    let worker = script.serving(0);
    script.die(worker, &[]); // early: it is backed off
    let again = script.wait(100 * MS).spawned()[0];
    script.clear().die(again, &[]).wait(100 * MS).clear().reload(1);
    assert_eq!(script.spawned().len(), 1);
}

#[test]
fn a_slot_opened_during_a_reload_is_moved_before_the_commit() {
    let mut two = config(1, 1);
    two.pools.push(two.pools[0].clone());
    two.pools[1].name = "q".parse().unwrap();
    let mut script = Script::ready(two);
    script.wait(S).clear().reload(1);
    let successors = script.spawned();
    let old = script.serving(0);
    script.event(Event::Ready { worker: successors[0] }).die(old, &[]).clear();
    // Pool p has arrived, pool q has not.
    script.event(Event::Scale { request: None, pool: None, change: Change::More(1) });
    let opened = script.spawned()[0];
    assert_eq!(script.names[&opened].generation, Generation(2), "the new slot joins the walk");
    script.event(Event::Ready { worker: successors[1] });
    assert!(!script.has(|a| matches!(a, Action::Answer { .. })), "it has not arrived");
    script.event(Event::Ready { worker: opened });
    assert!(script.has(|a| matches!(a, Action::Answer { answer: Answer::Reloaded { .. }, .. })));
}
