//! What becomes of those who wait when too many do: who hangs up, and who has too many in the line.

mod script;

use std::time::Duration;

use ostler_config::checked::{Config, Farewell, Overflow};
use ostler_pool::{Action, Event, PoolNo, Shed, Uid, Urgency};
use ostler_shared::ConnId;
use script::{Script, config};

const GREEDY: Option<Uid> = Some(Uid(1000));
const MODEST: Option<Uid> = Some(Uid(1001));

fn sharing(per_uid: u32) -> Config {
    let mut config = config(1, 1);
    config.pools[0].queue.per_uid = per_uid;
    config
}

fn gone(script: &mut Script, conn: ConnId) {
    script.event(Event::ClientGone { pool: PoolNo(0), conn });
}

// ── clients that hang up ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn whoever_hangs_up_in_the_line_never_reaches_a_worker() {
    let mut script = Script::ready(config(1, 1));
    let conns = script.clients(4);
    let (worker, served) = script.handed()[0];
    gone(&mut script, conns[2]);
    assert_eq!(script.shed(), [(conns[2], Shed::ClientGone)]);
    assert_eq!((script.snapshot().in_line, script.snapshot().shed.client_gone), (2, 1));
    script.clear().complete(worker, served).complete(worker, conns[1]);
    assert_eq!(script.handed(), [(worker, conns[1]), (worker, conns[3])]);
}

#[test]
fn whoever_hangs_up_in_a_mailbox_is_the_workers_to_find_out() {
    let mut script = Script::ready(config(1, 1));
    let conn = script.client();
    script.clear();
    gone(&mut script, conn);
    gone(&mut script, ConnId(77));
    assert_eq!(script.shed(), []);
    assert_eq!(script.snapshot().outstanding, 1);
}

#[test]
fn one_that_hangs_up_makes_room_in_a_full_line() {
    let mut script = Script::ready(config(1, 1));
    let conns = script.clients(9);
    assert!(script.has(|action| *action == Action::PauseAccept { pool: PoolNo(0) }));
    script.clear();
    gone(&mut script, conns[5]);
    assert!(script.has(|action| *action == Action::ResumeAccept { pool: PoolNo(0) }));
}

#[test]
fn the_deadline_of_one_that_hung_up_is_nobodys() {
    let mut script = Script::ready(config(1, 1));
    let conns = script.clients(2);
    script.wait(Duration::from_secs(1));
    let later = script.client();
    gone(&mut script, conns[1]);
    script.clear().wait(Duration::from_millis(1500));
    assert_eq!(script.shed(), [], "the one that is left came a second later");
    script.wait(Duration::from_millis(500));
    assert_eq!(script.shed(), [(later, Shed::QueueTimeout)]);
}

#[test]
fn a_stop_that_waited_for_a_client_who_hung_up_goes_on() {
    let mut script = Script::ready(config(1, 1));
    let conns = script.clients(2);
    let (worker, served) = script.handed()[0];
    script.event(Event::Stop { urgency: Urgency::Graceful }).event(Event::KernelQueueEmpty { pool: PoolNo(0) });
    script.complete(worker, served).clear().complete(worker, conns[1]);
    assert!(script.has(|action| matches!(action, Action::Drain { .. })));

    let mut script = Script::ready(config(1, 1));
    let conns = script.clients(2);
    script.event(Event::Stop { urgency: Urgency::Graceful }).event(Event::KernelQueueEmpty { pool: PoolNo(0) });
    script.clear();
    gone(&mut script, conns[1]);
    let (worker, served) = (script.serving(0), conns[0]);
    script.complete(worker, served);
    assert!(script.has(|action| matches!(action, Action::Drain { .. })), "nobody is left to be served");
}

// ── users ──────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn one_user_has_his_share_of_the_line_and_no_more() {
    let mut script = Script::ready(sharing(2));
    let flood: Vec<ConnId> = (0..5).map(|_| script.client_of(GREEDY)).collect();
    let shed: Vec<(ConnId, Shed)> = flood[3..].iter().map(|conn| (*conn, Shed::PerUid)).collect();
    assert_eq!(script.shed(), shed, "one is served, two wait");
    let modest = script.client_of(MODEST);
    let tcp: Vec<ConnId> = (0..3).map(|_| script.client_of(None)).collect();
    let snapshot = script.snapshot();
    assert_eq!((snapshot.in_line, snapshot.shed.per_uid), (6, 2), "nobody else was refused");
    let (worker, served) = script.handed()[0];
    script.clear().complete(worker, served).complete(worker, flood[1]).complete(worker, flood[2]);
    assert_eq!(script.handed().last(), Some(&(worker, modest)), "behind the share, not behind the flood");
    script.complete(worker, modest);
    assert_eq!(script.handed().last(), Some(&(worker, tcp[0])));
}

#[test]
fn a_share_is_free_again_as_soon_as_one_of_it_leaves_the_line() {
    let mut script = Script::ready(sharing(1));
    let conns: Vec<ConnId> = (0..2).map(|_| script.client_of(GREEDY)).collect();
    let (worker, served) = script.handed()[0];
    script.complete(worker, served);
    let third = script.client_of(GREEDY);
    gone(&mut script, third);
    script.client_of(GREEDY);
    assert_eq!(script.shed(), [(third, Shed::ClientGone)]);
    let in_line = script.snapshot().in_line;
    script.die(worker, &[conns[1]]);
    assert_eq!(script.snapshot().in_line, in_line + 1, "what comes back is never refused");
    let refused = script.client_of(GREEDY);
    assert_eq!(script.shed().last(), Some(&(refused, Shed::PerUid)));
}

#[test]
fn whoever_is_served_at_once_needs_no_share() {
    let mut config = config(3, 1);
    config.pools[0].queue.per_uid = 1;
    let mut script = Script::ready(config);
    for _ in 0..4 {
        script.client_of(GREEDY);
    }
    assert_eq!((script.handed().len(), script.shed()), (3, vec![]));
}

#[test]
fn the_excess_of_a_user_gets_what_the_line_gives_when_it_is_full() {
    let farewell = |overflow: Overflow| {
        let mut config = sharing(1);
        config.pools[0].queue.overflow = overflow;
        let mut script = Script::ready(config);
        for _ in 0..3 {
            script.client_of(GREEDY);
        }
        let shed = script.actions.iter().find_map(|action| match action {
            Action::Shed { farewell, .. } => Some(farewell.clone()),
            _ => None,
        });
        shed.expect("the third is too many")
    };
    let busy = Farewell::Reply("busy".to_owned());
    assert_eq!(farewell(Overflow::Shed(busy.clone())), busy);
    assert_eq!(farewell(Overflow::Shed(Farewell::Close)), Farewell::Close);
    assert_eq!(farewell(Overflow::Wait), Farewell::Close, "to wait would be to let him stand before the others");
}

// ── pressure ───────────────────────────────────────────────────────────────────────────────────────────────

/// What workers were told since the actions were last cleared.
fn told(script: &Script) -> Vec<u16> {
    let told = |action: &Action| match action {
        Action::TellPressure { pool: PoolNo(0), thousandths } => Some(*thousandths),
        _ => None,
    };
    script.actions.iter().filter_map(told).collect()
}

#[test]
fn pressure_rises_with_the_line_and_a_full_one_has_a_thousand() {
    let mut script = Script::ready(config(1, 1));
    script.clients(9);
    assert_eq!(told(&script), [100, 250, 350, 500, 600, 750, 850, 1000], "one is served, the line has eight places");
}

#[test]
fn pressure_falls_to_nothing_with_the_last_who_waits() {
    let mut script = Script::ready(config(1, 1));
    let conns = script.clients(9);
    let (worker, _) = script.handed()[0];
    script.clear();
    for conn in conns {
        script.complete(worker, conn);
    }
    assert_eq!(told(&script), [850, 750, 600, 500, 350, 250, 100, 0]);
}

#[test]
fn a_line_that_hovers_between_two_steps_is_told_once() {
    let mut config = config(1, 1);
    config.pools[0].queue.limit = 100;
    let mut script = Script::ready(config);
    script.clients(6);
    let (worker, mut served) = script.handed()[0];
    assert_eq!(told(&script), [50], "the fifth who waits");
    script.clear();
    for _ in 0..20 {
        script.complete(worker, served);
        served = script.handed().last().expect("somebody waits").1;
        script.client();
    }
    assert_eq!(told(&script), []);
}
