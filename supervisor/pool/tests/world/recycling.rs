//! Checks recycling from outside: nobody is worn before its limit or long after it, and few slots change at a time.

use std::time::Duration;

use ostler_config::checked::{Jitter, Recycle};
use ostler_pool::{Cause, Event, Note, PoolNo, Wear};
use ostler_shared::{SlotNo, WorkerId, WorkerName};

use super::World;
use super::fake::Fake;
use super::happenings::LONGEST_LEAP;
use super::oracle::ns;

/// What a worker may occupy where that is limited.
const RSS_MAX: u64 = 100 << 20;

pub(super) fn draw(dice: &mut fastrand::Rng) -> Recycle {
    Recycle {
        requests: [0, 0, 2, 8][dice.usize(0..4)],
        jitter: Jitter::from_thousandths([0, 100, 500][dice.usize(0..3)]),
        age: Duration::from_millis([0, 0, 1000, 4000][dice.usize(0..4)]),
        rss: [0, 0, RSS_MAX][dice.usize(0..3)],
    }
}

/// Most workers are small. Some of those that are asked about are gone.
pub(super) fn measure(world: &mut World, pool: PoolNo, workers: &[WorkerId]) {
    let mut sizes = Vec::new();
    for worker in workers {
        let rss = world.dice.u64(0..RSS_MAX + RSS_MAX / 4);
        let fake = world.workers.get_mut(worker).expect("measured while it lives");
        assert!(fake.recycle.rss > 0, "{worker} is measured though nobody wants to know");
        if !fake.is_dead() {
            fake.known.rss_max = fake.known.rss_max.max(rss);
            sizes.push((*worker, rss));
        }
    }
    world.pending.push_back(Event::Measured { pool, sizes });
}

pub(super) fn note(world: &mut World, note: &Note) {
    match note {
        Note::Worn { id, wear, .. } => worn(world, *id, *wear),
        Note::Leaves { cause: Cause::Recycled { .. }, .. } => world.oracle.recycles = true,
        Note::Leaves { cause: Cause::NotNeeded, .. } => world.marks.recycling_put_off += 1,
        Note::RecycleFailed { .. } => world.marks.recycling_failed += 1,
        Note::RecycleFutile { rss, limit, .. } => {
            assert!(rss >= limit, "{rss} is not too much");
            world.marks.recycling_futile += 1;
        }
        // Whoever is beyond the target does not count any more, and does not begin to again.
        Note::Scaled { pool, to, .. } => {
            for fake in world.workers.values_mut().filter(|fake| fake.name.pool == *pool && fake.slot().0 >= *to) {
                (fake.known.worn, fake.known.recycled) = (None, false);
            }
        }
        _ => {}
    }
}

fn worn(world: &mut World, id: WorkerId, wear: Wear) {
    let now = world.now;
    let fake = world.workers.get_mut(&id).expect("who wears out is there");
    let (known, recycle) = (&mut fake.known, fake.recycle);
    assert!(known.was_ready && !known.drained, "{id} does not serve");
    let least = recycle.jitter.factor(-1.0);
    let marks = &mut world.marks;
    match wear {
        Wear::Requests => {
            let limit = (f64::from(recycle.requests) * least).floor().max(1.0);
            assert!(recycle.requests > 0 && known.done as f64 >= limit, "{id} is not worn: {known:?}, {recycle:?}");
            marks.worn_by_requests += 1;
        }
        Wear::Age => {
            let age = now - known.ready_at.expect("it was READY");
            assert!(recycle.age > Duration::ZERO && age >= ns(recycle.age.mul_f64(least)), "{id} is {age} old");
            marks.worn_by_age += 1;
        }
        Wear::Memory => {
            assert!(recycle.rss > 0 && known.rss_max >= recycle.rss, "{id} is not too large: {known:?}");
            marks.worn_by_memory += 1;
        }
        Wear::Asked => {
            assert!(world.oracle.recycling_asked, "nobody asked for {id}");
            marks.worn_by_wish += 1;
        }
    }
    known.worn = Some(wear);
}

/// Somebody drains, perhaps because he was recycled.
pub(super) fn drained(world: &mut World, worker: WorkerId) {
    if std::mem::take(&mut world.oracle.recycles) {
        let known = &mut world.workers.get_mut(&worker).expect("drained while it lives").known;
        assert!(known.worn.is_some(), "{worker} is recycled though it is not worn");
        known.recycled = true;
        world.marks.recycled += 1;
    }
}

/// A worker is started, perhaps beside one that is worn: then at most `surge` slots are on the move.
pub(super) fn check_spawn(world: &mut World, pool: usize, name: &WorkerName) {
    let ledger = &world.oracle.pools[pool];
    let target = ledger.target;
    let ours = || world.workers.iter().filter(|(_, fake)| fake.pool == pool);
    let replaces = ours().any(|(_, fake)| fake.slot() == name.slot && fake.known.serving && fake.known.worn.is_some());
    if ledger.trial.is_some() || !replaces {
        return;
    }
    let config = world.config.pools.iter().find(|config| config.name == name.pool).expect("it is in force");
    let surge = config.reload.surge.of(target) as usize;
    let moves = |slot: &SlotNo| *slot != name.slot && ours().any(|(id, fake)| is_moving(world, *slot, *id, fake));
    let moving = (0..target).map(SlotNo).filter(moves).count();
    assert!(moving < surge, "{name} starts while {moving} slots change, surge is {surge}");
    world.marks.recycled_together += u64::from(moving > 0);
}

/// It is worn and there is somebody in its place, or about to be.
fn is_moving(world: &World, slot: SlotNo, id: WorkerId, fake: &Fake) -> bool {
    let starts = |other: &Fake| !other.known.was_ready && other.known.first_signal_at.is_none();
    let successor = || {
        let others = world.workers.range(id..).skip(1);
        others.map(|(_, other)| other).any(|other| other.pool == fake.pool && other.slot() == slot && starts(other))
    };
    fake.slot() == slot && fake.known.worn.is_some() && (fake.known.recycled || (fake.known.serving && successor()))
}

/// Nobody serves on for long beyond its limits without being known to.
pub(super) fn check_wear(world: &World, id: WorkerId, fake: &Fake) {
    let (known, recycle) = (&fake.known, fake.recycle);
    let most = recycle.jitter.factor(1.0);
    let too_many = recycle.requests > 0 && known.done as f64 > (f64::from(recycle.requests) * most).ceil();
    let ready_at = known.ready_at.unwrap_or(world.now);
    let too_old = !recycle.age.is_zero() && world.now > ready_at + ns(recycle.age.mul_f64(most)) + LONGEST_LEAP;
    assert!(known.worn.is_some() || !(too_many || too_old), "{id} should be worn: {known:?}, {recycle:?}");
}
