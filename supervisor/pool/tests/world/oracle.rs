//! Checks the invariants from outside: it knows what the world knows, not what the pool believes.
//!
//! It costs a few additions per step, and a recount of everything now and then and at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use ostler_config::checked::{self, Config, Dispatch, Handoff, OnPoolFailed};
use ostler_pool::{
    Event, MARKS_SPACING_MIN, Moment, Note, PRESSURE_STEP, PULSE_SPACING_MIN, PoolNo, PoolSnapshot, REFUSED_PAUSE,
    Refusal, Rescaled, STUCK_REST_MAX, Shed, ShedCounts, Step, UNCLAIMED_MAX, Uid, Urgency,
};
use ostler_shared::completion::Outcome;
use ostler_shared::region::{Beats, Keeping};
use ostler_shared::{ConnId, Generation, WorkerId, WorkerName};

use super::fake::{Fake, Probe};
use super::happenings::LONGEST_LEAP;
use super::plan::{KILL_AFTER, QUEUE_TIMEOUT};
use super::trial::{self, Trial};
use super::{Conn, Place, World};
use super::{recycling, templates};

/// One more rule, that a test adds to see it broken. Panics when it is.
pub(crate) type ExtraRule = fn(&World);

#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) pools: Vec<Ledger>,
    extra: Option<ExtraRule>,
    checks: u64,
    /// Whoever drains next is recycled.
    pub(super) recycles: bool,
    /// Somebody has asked for it at some time.
    pub(super) recycling_asked: bool,
    /// Which connection's request since when.
    told_slow: BTreeSet<(ConnId, u64)>,
    /// Some slot could not be moved back, which keeps a third generation alive.
    undo_stuck: bool,
}

/// What must be so of one pool.
#[derive(Debug)]
pub(super) struct Ledger {
    name: String,
    places: [u64; 6],
    accepted: u64,
    /// Who had a free place after the last step.
    free: Free,
    nobody_free_at: u64,
    /// The longest `recall_after` that was ever in force, in nanoseconds.
    patience: u64,
    /// It has listeners: clients may come.
    pub(super) in_force: bool,
    /// It was forgotten.
    pub(super) gone: bool,
    pub(super) generation: Generation,
    pub(super) target: u32,
    /// What is in force about the number of workers.
    workers: checked::Workers,
    /// The generation that has to prove itself.
    pub(super) trial: Option<Trial>,
    /// What workers were told of the line.
    pressure: u16,
    rest: Rest,
}

/// Whether a pool may have workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    None,
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Free {
    Nobody,
    Only(WorkerId),
    Several,
}

/// Steps between two recounts of everything.
const RECOUNT_EVERY: u64 = 64;

impl Oracle {
    pub(super) fn new(config: &Config, extra: Option<ExtraRule>) -> Oracle {
        let pools = config.pools.iter().map(|pool| Ledger { in_force: true, ..Ledger::of(pool) });
        Oracle {
            pools: pools.collect(),
            extra,
            checks: 0,
            recycles: false,
            recycling_asked: false,
            told_slow: BTreeSet::new(),
            undo_stuck: false,
        }
    }

    pub(super) fn anything_is_paused(&self) -> bool {
        self.pools.iter().any(|ledger| ledger.rest == Rest::Paused)
    }

    pub(super) fn accepted(&mut self, pool: usize) {
        self.pools[pool].accepted += 1;
        self.pools[pool].places[Place::Driver as usize] += 1;
    }

    pub(super) fn moved(&mut self, pool: usize, from: Place, to: Place) {
        let places = &mut self.pools[pool].places;
        places[from as usize] -= 1;
        places[to as usize] += 1;
    }
}

impl Ledger {
    fn of(pool: &checked::Pool) -> Ledger {
        Ledger {
            name: pool.name.as_str().to_owned(),
            places: [0; 6],
            accepted: 0,
            free: Free::Nobody,
            nobody_free_at: 0,
            patience: ns(pool.recall_after),
            in_force: false,
            gone: false,
            generation: Generation::FIRST,
            target: pool.workers.initial(),
            workers: pool.workers,
            trial: None,
            pressure: 0,
            rest: Rest::None,
        }
    }
}

// ── pools that come and go ─────────────────────────────────────────────────────────────────────────────────────

/// The ledger of the pool that has this name now.
fn ledger_of(world: &World, name: &str) -> Option<usize> {
    world.oracle.pools.iter().position(|ledger| !ledger.gone && ledger.name == name)
}

/// A rollout begins, perhaps that of a pool that nobody has heard of.
fn rollout_begun(world: &mut World, name: &str, generation: Generation) {
    let coming = world.aside.as_ref().expect("a rollout follows a configuration").config();
    let config = coming.pools.iter().find(|pool| pool.name.as_str() == name).expect("it is in there");
    let (reload, mut ledger) = (config.reload, Ledger::of(config));
    // One proves the program, even where none is needed.
    ledger.target = ledger.target.max(1);
    let known = ledger_of(world, name);
    let pool = known.unwrap_or_else(|| {
        world.oracle.pools.push(ledger);
        for flags in [&mut world.accepting, &mut world.refusing, &mut world.emptied] {
            flags.push(false);
        }
        world.oracle.pools.len() - 1
    });
    trial::begun(world, pool, generation, reload);
    if known.is_none() {
        trial::of_a_new_pool(world, pool);
    }
}

pub(super) fn adopt(world: &mut World, config: &Config, pools: &[PoolNo]) {
    assert_eq!(config.pools.len(), pools.len());
    for (no, pool) in pools.iter().zip(&config.pools) {
        let ledger = &mut world.oracle.pools[no.0];
        assert!(ledger.name == pool.name.as_str() && !ledger.gone, "{no:?} is not {}", pool.name);
        ledger.patience = ledger.patience.max(ns(pool.recall_after));
        (ledger.in_force, ledger.workers) = (true, pool.workers);
    }
}

pub(super) fn forget(world: &mut World, pool: usize) {
    let left = world.workers.values().filter(|fake| fake.pool == pool).count();
    let ledger = &mut world.oracle.pools[pool];
    let [driver, mailbox, hands, ..] = ledger.places;
    assert_eq!((left, driver, mailbox, hands), (0, 0, 0, 0), "pool {} is forgotten too early", ledger.name);
    assert!(world.refusing[pool] && !std::mem::replace(&mut ledger.gone, true), "forgotten twice, or out of the blue");
    match ledger.in_force {
        true => world.marks.pool_removed += 1,
        false => world.marks.pool_on_trial_given_up += 1,
    }
}

// ── what the pool is told ──────────────────────────────────────────────────────────────────────────────────────

pub(super) fn take_in(world: &mut World, event: &Event) {
    let now = world.now;
    match event {
        Event::Ready { worker } => {
            let Some(fake) = world.workers.get_mut(worker) else { return };
            let begins = !fake.known.was_ready && fake.known.first_signal_at.is_none();
            world.marks.late_ready += u64::from(!begins && !fake.known.was_ready);
            if begins {
                (fake.known.serving, fake.known.was_ready, fake.known.alone_at) = (true, true, now);
                fake.known.ready_at = Some(now);
                let (pool, name) = (fake.pool, fake.name.clone());
                trial::ready(world, pool, &name);
            }
        }
        Event::HungUp { worker, .. } => turns_away(world, *worker),
        Event::HandOffRefused { worker, conn, why } => {
            let known = &mut world.workers.get_mut(worker).expect("refused by somebody").known;
            known.tickets.remove(conn);
            match why {
                Refusal::Busy => known.rests_until = now + ns(REFUSED_PAUSE),
                Refusal::Closed => turns_away(world, *worker),
            }
        }
        Event::Misbehaved { worker, .. } => {
            if let Some(fake) = world.workers.get_mut(worker) {
                (fake.known.serving, fake.known.liar) = (false, true);
                fake.known.leaves(now);
            }
        }
        Event::Completed { worker, completion } => completed(world, *worker, completion.conn, completion.outcome),
        Event::Recalled { worker, conns } => recalled(world, *worker, conns),
        Event::Alive { worker } => {
            if let Some(fake) = world.workers.get_mut(worker) {
                fake.known.probe = Probe::None;
                fake.known.alive_at = fake.known.stuck.then_some(now);
            }
        }
        _ => {}
    }
}

fn turns_away(world: &mut World, worker: WorkerId) {
    let now = world.now;
    if let Some(fake) = world.workers.get_mut(&worker) {
        (fake.known.serving, fake.known.turned_away) = (false, true);
        fake.known.leaves(now);
    }
}

fn completed(world: &mut World, worker: WorkerId, conn: ConnId, outcome: Outcome) {
    let now = world.now;
    let Some(fake) = world.workers.get_mut(&worker) else { return };
    if !fake.known.tickets.remove(&conn) {
        (fake.known.serving, fake.known.liar) = (false, true);
        fake.known.leaves(now);
        return;
    }
    (fake.known.doubtful, fake.known.rests_until, fake.known.completed_at) = (false, 0, now);
    fake.known.done += u64::from(matches!(outcome, Outcome::Done | Outcome::Panicked | Outcome::Failed));
    // A lie changes nothing in the world.
    if world.conns[conn.0 as usize - 1].place == Place::Hands {
        let to = match outcome {
            Outcome::Done | Outcome::Panicked | Outcome::Failed => Place::Done,
            Outcome::Truncated | Outcome::Dropped => Place::Lost,
        };
        world.move_conn(conn, Place::Hands, to);
    }
}

fn recalled(world: &mut World, worker: WorkerId, conns: &[ConnId]) {
    let Some(fake) = world.workers.get_mut(&worker) else { return };
    fake.known.tickets.retain(|held| !conns.contains(held));
    if fake.known.serving && !conns.is_empty() && !fake.known.stuck && fake.load() >= fake.concurrency() {
        fake.known.doubtful = true;
        world.marks.doubtful += 1;
    }
}

// ── what the pool asks for ─────────────────────────────────────────────────────────────────────────────────────

/// The chosen worker has room, and nobody else would have been better.
pub(super) fn check_choice(world: &mut World, chosen: WorkerId) {
    let now = world.now;
    let fake = world.workers.get(&chosen).expect("handed to a living worker");
    assert!(fake.known.was_ready && !fake.known.drained, "handed to {chosen}, which is not READY");
    assert!(fake.has_room(now), "handed to {chosen}, which has no room: {fake:?}");
    let others = || world.workers.values().filter(|other| other.pool == fake.pool && other.has_free_place(now));
    if !fake.has_free_place(now) {
        world.marks.prefetched += 1;
        assert_eq!(others().count(), 0, "a place in a mailbox was used while somebody had a free one");
    } else if world.plan.dispatch == Dispatch::LeastLoaded {
        let least = others().map(Fake::load).min();
        assert_eq!(Some(fake.load()), least, "{chosen} is not the least loaded");
    }
}

/// Nobody starts in a pool that is paused, nor at a stop of a generation that had not proved itself before.
pub(super) fn check_spawn(world: &World, pool: usize, generation: Generation) {
    assert_eq!(world.oracle.pools[pool].rest, Rest::None, "a worker starts in a paused pool");
    let is_committed = generation == world.oracle.pools[pool].generation;
    assert!(
        world.refuses_from.is_none() || is_committed || world.oracle.undo_stuck,
        "I4: {generation} starts at a stop"
    );
}

/// I3: whoever drains has been replaced, or is not wanted any more.
pub(super) fn check_drain(world: &World, worker: WorkerId) {
    let fake = &world.workers[&worker];
    assert!(fake.known.serving, "{worker} is drained though it does not serve");
    let replaced = world.workers.iter().any(|(id, other)| {
        *id != worker && other.known.serving && other.pool == fake.pool && other.slot() == fake.slot()
    });
    let surplus = fake.slot().0 >= world.oracle.pools[fake.pool].target;
    let rests = world.oracle.pools[fake.pool].rest == Rest::Paused;
    assert!(
        replaced || surplus || rests || world.refusing[fake.pool],
        "I3: {worker} drains and nobody has taken its place"
    );
}

/// Whether the end of everything follows when the pool of this name is given up: not while a reload tries it out.
pub(super) fn brings_down(world: &World, name: &str) -> bool {
    let in_force = ledger_of(world, name).is_some_and(|number| world.oracle.pools[number].in_force);
    world.plan.on_pool_failed == OnPoolFailed::Exit && in_force && world.refuses_from.is_none()
}

/// A stop refuses new clients when its delay is over, and not much later.
fn check_delay(world: &World) {
    assert!(!world.given_up || world.refuses_from.is_some(), "a pool was given up and everything goes on");
    if world.refuses_from.is_some_and(|from| world.now >= from) {
        let mut living = (0..world.oracle.pools.len()).filter(|number| !world.oracle.pools[*number].gone);
        assert!(living.all(|number| world.refusing[number]), "shutdown_delay is over, and somebody still accepts");
    }
}

/// I7: nobody who serves gets a signal, and every step of the escalation has its time.
pub(super) fn check_signal(world: &World, worker: WorkerId, step: Step) {
    let Some(fake) = world.workers.get(&worker) else { return };
    let in_a_hurry = world.stopping == Some(Urgency::Now);
    assert!(!fake.known.serving || in_a_hurry, "I7: {worker} gets {step:?} though it serves");
    let least = match step {
        Step::Term => Duration::ZERO,
        Step::Abort if fake.known.bitten => Duration::ZERO,
        Step::Abort => KILL_AFTER / 2,
        Step::Kill => KILL_AFTER,
    };
    let first = fake.known.first_signal_at.unwrap_or(world.now);
    assert!(world.now >= first + ns(least), "I7: {step:?} comes too early for {worker}");
}

pub(super) fn check_shed(world: &World, conn: ConnId, why: Shed) {
    let conn = &world.conns[conn.0 as usize - 1];
    match why {
        Shed::QueueTimeout => assert!(world.now >= conn.accepted_at + ns(QUEUE_TIMEOUT), "shed before its time"),
        Shed::QueueFull => {
            assert!(!world.plan.overflow_waits, "shed though the line should make the others wait");
            let waits = world.oracle.pools[conn.pool].places[Place::Driver as usize];
            assert!(waits > u64::from(world.plan.queue_limit), "I11: refused while there was room in the line");
            assert_eq!(world.now, conn.accepted_at, "I11: only what comes fresh is refused for want of room");
        }
        Shed::ClientGone => assert!(conn.gone, "shed as gone, and its client is there"),
        Shed::PerUid => {
            let (uid, share) = (conn.uid.expect("who has no user has no share"), u64::from(world.plan.per_uid));
            let has = share_of(world, conn.pool, uid);
            assert!(share > 0 && has > share, "I11: user {uid:?} has {} in the line, the share is {share}", has - 1);
            assert_eq!(world.now, conn.accepted_at, "I11: only what comes fresh is too much for a user");
        }
        Shed::Stopping => assert!(world.refusing[conn.pool], "nobody stops"),
    }
}

pub(super) fn pressure_told(world: &mut World, pool: usize, thousandths: u16) {
    let before = std::mem::replace(&mut world.oracle.pools[pool].pressure, thousandths);
    assert_ne!(before, thousandths, "what was told already is told again");
    world.marks.pressed += u64::from(thousandths == 1000);
    world.marks.relieved += u64::from(thousandths == 0);
}

/// Whoever asks reads how full the line is, give or take a step and the catch between two of them.
fn check_pressure(world: &World, number: usize) {
    let ledger = &world.oracle.pools[number];
    let waiting = ledger.places[Place::Driver as usize].min(u64::from(world.plan.queue_limit));
    let real = waiting * 1000 / u64::from(world.plan.queue_limit);
    let told = u64::from(ledger.pressure);
    let slack = 2 * u64::from(PRESSURE_STEP);
    assert!(told < real + slack && real < told + slack, "workers read {told} ‰ and {real} ‰ is so");
    assert!(waiting > 0 || told == 0, "nobody waits, and workers read {told} ‰");
}

/// How many connections of a user are in the driver's hands.
fn share_of(world: &World, pool: usize, uid: Uid) -> u64 {
    let his = |conn: &&Conn| conn.pool == pool && conn.place == Place::Driver && conn.uid == Some(uid);
    world.conns.iter().filter(his).count() as u64
}

pub(super) fn note(world: &mut World, note: &Note) {
    let ledger = |world: &World, name: &str| ledger_of(world, name).expect("pools are named as they are");
    match note {
        Note::Stuck { worker, recalled } => found_stuck(world, worker, *recalled),
        Note::Overdue { worker, conn, age } => found_overdue(world, worker, *conn, *age),
        Note::Slow { worker, conn, age } => {
            let since = runs_since(world, worker, *conn);
            assert_eq!(world.now - since, ns(*age), "{conn} is not as old as that");
            assert!(*age >= world.plan.slow && !world.plan.slow.is_zero(), "{conn} is not slow after {age:?}");
            assert!(world.oracle.told_slow.insert((*conn, since)), "{conn} was called slow twice");
            world.marks.slow += 1;
        }
        Note::Silent { worker, silence } => found_silent(world, worker, *silence),
        Note::Unstuck { worker } => {
            let stuck = world.workers.values_mut().find(|fake| {
                // A worker that was restarted while it was stuck bears the same name as its successor.
                fake.name == *worker && fake.known.stuck && fake.known.serving
            });
            let known = &mut stuck.expect("only who is stuck gets free").known;
            (known.stuck, known.doubtful) = (false, known.completed_at < world.now);
            world.marks.unstuck += 1;
        }
        Note::Scaled { pool, from, to, why } => {
            let pool = ledger(world, pool.as_str());
            check_scaling(world, pool, *from, *to, *why);
            world.oracle.pools[pool].target = *to;
            trial::scaled(world, pool);
        }
        Note::Committed { generations, .. } => {
            for (pool, generation) in generations {
                let pool = ledger(world, pool.as_str());
                world.oracle.pools[pool].generation = *generation;
                trial::committed(world, pool);
            }
        }
        Note::Died { worker, asked, .. } => {
            let pool = ledger(world, worker.pool.as_str());
            trial::died(world, pool, worker, *asked);
        }
        Note::RolloutBegun { pool, generation, .. } => rollout_begun(world, pool.as_str(), *generation),
        Note::Undone { .. } => trial::undone(world),
        Note::UndoStuck { .. } => world.oracle.undo_stuck = true,
        Note::PauseBegun { pool } => {
            let pool = ledger(world, pool.as_str());
            world.oracle.pools[pool].rest = Rest::Paused;
        }
        Note::Paused { pool, .. } => {
            let pool = ledger(world, pool.as_str());
            let left: Vec<&WorkerId> =
                world.workers.iter().filter(|(_, fake)| fake.pool == pool).map(|(id, _)| id).collect();
            assert!(left.is_empty(), "a pool is said to be paused, and there are {left:?}");
        }
        Note::ResumeBegun { pool, .. } => {
            let pool = ledger(world, pool.as_str());
            world.oracle.pools[pool].rest = Rest::None;
        }
        // Nobody has to prove himself any more, and the pools go on as they are.
        Note::StopDelayed { .. } => world.oracle.pools.iter_mut().for_each(|ledger| ledger.trial = None),
        Note::StopBegun { .. } => {
            world.marks.stopped_while_paused += u64::from(world.oracle.anything_is_paused());
            world.oracle.pools.iter_mut().for_each(|ledger| ledger.rest = Rest::None);
        }
        _ => {}
    }
}

/// The load decides within its range, never more than doubles, and takes nobody away while somebody waits.
fn check_scaling(world: &mut World, pool: usize, from: u32, to: u32, why: Rescaled) {
    let ledger = &world.oracle.pools[pool];
    assert_eq!(from, ledger.target, "scaled from another number than was told");
    let in_line = world.pools.totals(PoolNo(pool)).in_line;
    match why {
        Rescaled::Asked | Rescaled::Configured => {}
        Rescaled::Reload => assert_eq!((from, to), (0, 1)),
        Rescaled::FirstConnection => {
            assert_eq!((from, to, in_line > 0), (0, 1, true), "{in_line} wait");
            world.marks.from_zero += 1;
        }
        Rescaled::LineStands => {
            assert!(from < to && to <= 2 * from && in_line > 0, "grown from {from} to {to} while {in_line} wait");
            world.marks.grown += 1;
        }
        Rescaled::Idle => {
            assert!(to < from && in_line == 0, "shrunk from {from} to {to} while {in_line} wait");
            assert!(ledger.trial.is_none(), "shrunk while somebody has to prove himself");
            world.marks.shrunk += 1;
            world.marks.to_zero += u64::from(to == 0);
        }
    }
}

fn found_stuck(world: &mut World, name: &WorkerName, recalled: u64) {
    let fake = world.workers.values_mut().find(|fake| fake.name == *name && fake.known.serving);
    let fake = fake.expect("only who serves is found stuck");
    assert!(!std::mem::replace(&mut fake.known.stuck, true), "{name} was found stuck twice");
    assert!(recalled > 0 && fake.load() < fake.concurrency(), "{name} had no free place: {fake:?}");
    fake.known.alive_at = None;
    fake.known.stuck_times += 1;
    world.marks.stuck += 1;
    world.marks.stuck_again += u64::from(fake.known.stuck_times > 1);
}

/// I7: whoever is replaced for its silence has been silent all that time, and had promised not to be.
fn found_silent(world: &mut World, name: &WorkerName, silence: Duration) {
    let (now, back_at, heartbeat) = (world.now, world.back_at, world.plan.heartbeat);
    let fake = world.workers.values_mut().find(|fake| fake.name == *name && fake.known.serving);
    let fake = fake.expect("only who serves is found silent");
    assert!(fake.should_beat(), "I7: nobody can expect {name} to beat: {fake:?}");
    let heard_at = fake.heard_at(now).max(back_at).max(fake.known.ready_at.unwrap_or(0));
    assert_eq!(now - heard_at, ns(silence), "I7: {name} was heard of");
    assert!(!heartbeat.is_zero() && silence >= heartbeat, "I7: {name} is silent for {silence:?} only");
    (fake.known.serving, fake.known.bitten) = (false, true);
    fake.known.leaves(now);
    let (waits, holds) = (fake.traits.beats == Beats::WhileIdle, !fake.hands.is_empty());
    world.marks.silent += 1;
    world.marks.silent_while_idle += u64::from(waits);
    world.marks.silent_with_connections += u64::from(holds);
    world.marks.silent_at_a_stop += u64::from(world.stopping.is_some());
}

/// Since when a request runs on a connection: by the worker's mark, or for as long as a worker without marks has it.
fn runs_since(world: &World, name: &WorkerName, conn: ConnId) -> u64 {
    let fake = world.workers.values().find(|fake| fake.name == *name && fake.known.tickets.contains(&conn));
    let fake = fake.unwrap_or_else(|| panic!("{name} does not hold {conn}"));
    let handed_at = world.conns[conn.0 as usize - 1].handed_at;
    match fake.traits.keeping {
        Keeping::Nothing => handed_at,
        Keeping::Marks => {
            let since = fake.busy.get(&conn).unwrap_or_else(|| panic!("I7: {conn} of {name} is idle"));
            handed_at.max(world.back_at).max(*since)
        }
    }
}

fn found_overdue(world: &mut World, name: &WorkerName, conn: ConnId, age: Duration) {
    let now = world.now;
    assert_eq!(now - runs_since(world, name, conn), ns(age), "I7: {conn} of {name} is not as old as that");
    assert!(!world.plan.request.is_zero() && age >= world.plan.request, "I7: {conn} of {name} is not overdue");
    let fake = world.workers.values_mut().find(|fake| fake.name == *name && fake.known.serving);
    let fake = fake.expect("only who serves is judged");
    (fake.known.serving, fake.known.bitten) = (false, true);
    fake.known.leaves(now);
    world.marks.overdue += 1;
    world.marks.overdue_unmarked += u64::from(fake.traits.keeping == Keeping::Nothing);
    world.marks.overdue_at_a_stop += u64::from(world.stopping.is_some());
}

/// No request runs for much longer than it may.
fn check_requests(world: &World, id: WorkerId, fake: &Fake) {
    if world.plan.request.is_zero() || fake.traits.keeping == Keeping::Nothing {
        return;
    }
    for (conn, since) in fake.busy.iter().filter(|(conn, _)| fake.known.tickets.contains(*conn)) {
        let since = (*since).max(world.back_at);
        let longest = ns(world.plan.request) + 2 * (ns(MARKS_SPACING_MIN) + LONGEST_LEAP);
        assert!(world.now <= since + longest, "{conn} of {id} is busy since {since} and nobody notices");
    }
}

/// Nobody who should beat is silent for long: found out by the first look after the time, and doubted once.
fn check_silence(world: &World, id: WorkerId, fake: &Fake) {
    if world.plan.heartbeat.is_zero() || fake.traits.beats != Beats::Always {
        return;
    }
    let heard_at = fake.heard_at(world.now).max(world.back_at).max(fake.known.ready_at.unwrap_or(0));
    let longest = ns(world.plan.heartbeat) * 5 / 4 + 2 * (ns(PULSE_SPACING_MIN) + LONGEST_LEAP);
    assert!(world.now <= heard_at + longest, "{id} is silent since {heard_at} and nobody notices");
}

// ── after every step ───────────────────────────────────────────────────────────────────────────────────────────

/// What was so after the last step was so until now.
pub(super) fn begin(world: &mut World) {
    for number in 0..world.oracle.pools.len() {
        since_now(world, number);
    }
}

fn since_now(world: &mut World, number: usize) {
    let ledger = &mut world.oracle.pools[number];
    match ledger.free {
        Free::Nobody => ledger.nobody_free_at = world.now,
        Free::Only(worker) => {
            if let Some(fake) = world.workers.get_mut(&worker) {
                fake.known.alone_at = world.now;
            }
        }
        Free::Several => {}
    }
}

pub(super) fn check(world: &mut World) {
    for number in (0..world.oracle.pools.len()).filter(|number| !world.oracle.pools[*number].gone).collect::<Vec<_>>() {
        check_books(world, number);
        check_pressure(world, number);
        see_who_is_free(world, number);
        since_now(world, number);
    }
    let waits: Vec<bool> = world.oracle.pools.iter().map(|ledger| ledger.places[Place::Driver as usize] > 0).collect();
    for (id, fake) in world.workers.iter().filter(|(_, fake)| fake.known.serving) {
        assert!(!waits[fake.pool] || !fake.has_room(world.now), "somebody waits, and {id} has room: {fake:?}");
        check_unclaimed(world, *id, fake);
        check_silence(world, *id, fake);
        check_requests(world, *id, fake);
        recycling::check_wear(world, *id, fake);
        let recovers_by = fake.known.alive_at.map(|at| at + ns(STUCK_REST_MAX));
        assert!(
            !fake.known.stuck || recovers_by.is_none_or(|by| world.now < by),
            "{id} lives and is not trusted again"
        );
    }
    check_delay(world);
    world.oracle.checks += 1;
    if world.oracle.checks.is_multiple_of(RECOUNT_EVERY) {
        recount(world);
    }
    if let Some(rule) = world.oracle.extra {
        rule(world);
    }
}

/// I1, from outside: the pool's counts are where the connections really are.
fn check_books(world: &World, number: usize) {
    let (totals, ledger) = (world.pools.totals(PoolNo(number)), &world.oracle.pools[number]);
    let [driver, mailbox, hands, done, lost, shed] = ledger.places;
    let ShedCounts { queue_full, queue_timeout, client_gone, per_uid, stopping } = totals.shed;
    let counted = queue_full + queue_timeout + client_gone + per_uid + stopping;
    let believed = [totals.accepted, totals.in_line, totals.outstanding, totals.done, totals.lost, counted];
    let real = [ledger.accepted, driver, mailbox + hands, done, lost, shed];
    assert_eq!(believed, real, "I1: accepted, in line, outstanding, done, lost, shed");
    assert_eq!(totals.accepted, driver + mailbox + hands + done + lost + shed, "I1: a connection is nowhere");
}

fn see_who_is_free(world: &mut World, number: usize) {
    let mut free = world.workers.iter().filter(|(_, fake)| fake.pool == number && fake.has_free_place(world.now));
    world.oracle.pools[number].free = match (free.next(), free.next()) {
        (None, _) => Free::Nobody,
        (Some((only, _)), None) => Free::Only(*only),
        (Some(_), Some(_)) => Free::Several,
    };
}

/// Nothing stays unclaimed with a worker for `recall_after` while another has a free place all that time, nor for
/// much longer while nobody has.
fn check_unclaimed(world: &World, id: WorkerId, fake: &Fake) {
    let Some(oldest) = fake.mailbox.front() else { return };
    let ledger = &world.oracle.pools[fake.pool];
    let handed_at = world.conns[oldest.0 as usize - 1].handed_at.max(fake.known.starved_at);
    let others_free_since = ledger.nobody_free_at.max(fake.known.alone_at);
    let due = handed_at.max(others_free_since) + ledger.patience;
    assert!(world.now < due, "{oldest} waits with {id} since {handed_at}, others have room since {others_free_since}");
    let at_last = handed_at.max(fake.known.completed_at) + ledger.patience + ns(UNCLAIMED_MAX);
    assert!(world.now < at_last, "{oldest} waits with {id} since {handed_at} and is never looked for");
}

/// Everything that is too dear for every step.
fn recount(world: &mut World) {
    for number in 0..world.oracle.pools.len() {
        let mut places = [0; 6];
        for conn in world.conns.iter().filter(|conn| conn.pool == number) {
            places[conn.place as usize] += 1;
        }
        assert_eq!(places, world.oracle.pools[number].places, "the oracle's own count is wrong");
    }
    let living: Vec<usize> = (0..world.oracle.pools.len()).filter(|number| !world.oracle.pools[*number].gone).collect();
    let snapshot = world.pools.snapshot(Moment::from_ns(world.now));
    assert_eq!(snapshot.len(), living.len(), "pools that nobody was told of");
    for (number, pool) in living.into_iter().zip(&snapshot) {
        let ledger = &world.oracle.pools[number];
        assert_eq!(pool.name.as_str(), ledger.name);
        assert_eq!(pool.generation, ledger.generation, "I4: the committed generation");
        assert_eq!(pool.target, ledger.target);
        let (least, most) = ledger.workers.bounds();
        assert!((least..=most).contains(&pool.target), "{} workers, the range is {least} to {most}", pool.target);
        let stuck = world.workers.values().filter(|fake| fake.pool == number && fake.known.stuck).count();
        assert!(pool.stuck <= stuck, "a worker is stuck and nobody was told");
        let ours = || world.workers.values().filter(|fake| fake.pool == number);
        let generations: BTreeSet<Generation> = ours().map(|fake| fake.name.generation).collect();
        assert!(generations.len() <= 2 || world.oracle.undo_stuck, "three generations at a time: {generations:?}");
        check_counters(pool, (ours().count() + templates::unborn(world, number)) as u64);
        for row in &pool.workers {
            let is_handed = pool.handoff != Handoff::Listen;
            assert_eq!(row.oldest_handed.is_some(), is_handed && row.outstanding > 0, "{row:?}");
            assert!(row.since.is_none_or(|since| since <= Moment::from_ns(world.now)), "{row:?}");
            // An incumbent, a successor, and those that go.
            let in_slot = ours().filter(|fake| fake.slot() == row.slot).count();
            assert!(in_slot <= 4, "{in_slot} processes in slot {} of {}", row.slot, pool.name);
        }
        let waits_for_news = pool.in_line > 0 && pool.outstanding == 0 && world.stopping.is_none();
        let anything = world.pools.next_deadline().is_some() || ours().next().is_some();
        assert!(!waits_for_news || anything, "somebody waits, and nothing is going to happen");
    }
}

/// What only counts up agrees with what there is.
fn check_counters(pool: &PoolSnapshot, processes: u64) {
    let tally = &pool.tally;
    let died = tally.died_asked + tally.died_clean + tally.died_failing + tally.died_by_signal;
    assert_eq!(tally.started, died + processes, "{tally:?}");
    assert!(tally.restarts <= died, "{tally:?}");
    assert_eq!(pool.first_in_line.is_some(), pool.in_line > 0);
    // A handoff that was refused waited too; a completion that was a lie was held too.
    assert!(pool.waits.count() >= pool.handed, "{pool:?}");
    // Of what workers accept for themselves not every end has a record, and so a length.
    assert!(pool.handoff == Handoff::Listen || pool.services.count() >= pool.done, "{pool:?}");
}

/// I11: accepting a fresh connection never makes the line longer than its limit.
pub(super) fn check_limit(world: &World, pool: usize, before: u64) {
    let limit = u64::from(world.plan.queue_limit);
    let in_line = world.pools.totals(PoolNo(pool)).in_line;
    assert!(in_line <= before.max(limit), "I11: {in_line} wait, the limit is {limit}");
    let fresh = world.conns.last().expect("one has just come");
    if let Some(uid) = fresh.uid.filter(|_| world.plan.per_uid > 0 && fresh.place == Place::Driver) {
        let has = share_of(world, pool, uid);
        assert!(has <= u64::from(world.plan.per_uid), "I11: {uid:?} has {has} in the line after one more of his came");
    }
}

/// After the stop every connection has ended, nobody is left, and everybody was answered.
pub(super) fn check_the_end(world: &mut World) {
    recount(world);
    for (index, conn) in world.conns.iter().enumerate() {
        assert!(
            matches!(conn.place, Place::Done | Place::Lost | Place::Shed),
            "c{} is still in {:?}",
            index + 1,
            conn.place
        );
    }
    assert!(world.workers.is_empty(), "I8: workers outlive the stop: {:?}", world.workers.keys());
    assert!(world.templates.is_empty(), "I8: templates outlive the stop: {:?}", world.templates);
    assert!(world.open_requests.is_empty(), "never answered: {:?}", world.open_requests);
}

pub(super) fn ns(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).expect("histories are short")
}
