//! Facts about unmodified programs, which take nothing more once they are asked to leave.

use std::time::Duration;

use ostler_config::checked::{self, Handoff};
use ostler_pool::{Action, Event, Note, Urgency};
use ostler_shared::WorkerId;
use ostler_shared::completion::{Completion, Outcome};

use crate::script::{Script, prefetching};

fn unmodified(workers: u32) -> checked::Config {
    let mut config = prefetching(workers, 4, 0);
    config.pools[0].handoff = Handoff::Accept;
    config
}

/// Where it was recalled from, and where it was told to drain.
fn places(script: &Script, worker: WorkerId) -> (Option<usize>, Option<usize>) {
    let recall = script.place(|action| *action == Action::Recall { worker });
    (recall, script.place(|action| *action == Action::Drain { worker }))
}

#[test]
fn what_it_has_not_claimed_is_taken_back_before_it_is_asked_to_leave() {
    let mut script = Script::ready(unmodified(1));
    let worker = script.serving(0);
    script.client();
    let pool = "p".parse().expect("a name");
    script.wait(Duration::from_secs(1)).clear().event(Event::Restart { request: None, pool, slot: None });
    let successor = script.spawned()[0];
    script.clear().event(Event::Ready { worker: successor });
    let (recall, drain) = places(&script, worker);
    assert!(recall.is_some() && recall < drain, "{:?}", script.actions);
}

#[test]
fn at_the_last_call_of_a_stop_it_keeps_nothing_either() {
    for (handoff, is_recalled) in [(Handoff::Accept, true), (Handoff::Pass, false), (Handoff::Stdio, false)] {
        let mut config = unmodified(1);
        config.pools[0].handoff = handoff;
        let mut script = Script::ready(config);
        let worker = script.serving(0);
        script.client();
        script.clear().event(Event::Stop { urgency: Urgency::Graceful });
        // The kernel's queue never gets empty, so that everything ends with the last call.
        script.answer_no_recall().wait(Duration::from_secs(29));
        let (recall, drain) = places(&script, worker);
        let before = script.actions[..drain.expect("it was told")]
            .iter()
            .filter(|action| matches!(action, Action::Recall { .. }))
            .count();
        assert!(recall.is_some());
        assert_eq!(before > 1, is_recalled, "one look, and one more: {:?}", script.actions);
    }
}

#[test]
fn what_one_of_its_processes_takes_with_it_is_lost_and_gives_its_place_back() {
    let mut script = Script::ready(prefetching(1, 1, 0));
    let (worker, first) = (script.serving(0), script.client());
    let second = script.client();
    assert_eq!(script.clear().handed(), [], "there is one place");
    let completion = Completion { conn: first, outcome: Outcome::Dropped, claimed_at_ns: 0, done_at_ns: 0 };
    script.event(Event::Completed { worker, completion });
    assert_eq!(script.handed(), [(worker, second)]);
    assert!(script.has(|action| matches!(action, Action::Note(Note::Dropped { conn, .. }) if *conn == first)));
    let pool = script.snapshot();
    assert_eq!((pool.lost, pool.done, pool.outstanding), (1, 0, 1));
}
