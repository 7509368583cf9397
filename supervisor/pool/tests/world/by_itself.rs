//! Plays workers that accept for themselves: nobody hears of a connection before somebody asks.

use ostler_pool::Event;
use ostler_shared::{ConnId, WorkerId};

use super::fake::Fake;
use super::{Conn, Place, World};

/// It says Hello, and counts from then on what it accepts.
pub(super) fn introduce(world: &mut World, worker: WorkerId) {
    let fake = world.workers.get_mut(&worker).expect("chosen a moment ago");
    if !fake.known.was_ready {
        fake.own.counts = true;
        world.step(Event::Introduced { worker });
    }
}

/// One per free place. Of those that don't count nobody knows anything, the oracle included.
pub(super) fn a_worker_accepts(world: &mut World) {
    let may = |fake: &Fake| fake.turns() && fake.own.counts && fake.known.serving && fake.holds() < fake.concurrency();
    let Some(worker) = world.any_worker(may) else { return };
    let now = world.now;
    let fake = world.workers.get_mut(&worker).expect("chosen a moment ago");
    if fake.hands.is_empty() {
        fake.busy_since = now;
    }
    fake.own.total += 1;
    fake.own.untold += 1;
    world.marks.taken += 1;
    world.write(|_| format!("  {worker} accepts"));
}

impl Fake {
    fn holds(&self) -> usize {
        self.hands.len() + usize::try_from(self.own.untold).expect("at most its places")
    }
}

/// What the driver reads in its memory: how much it has accepted, and how much of that is over without a record.
pub(super) fn tell(world: &mut World, worker: WorkerId) {
    let Some(fake) = world.workers.get_mut(&worker).filter(|fake| fake.own.counts) else { return };
    let (pool, untold, over) = (fake.pool, std::mem::take(&mut fake.own.untold), std::mem::take(&mut fake.own.over));
    let (total, unrecorded) = (fake.own.total, fake.own.unrecorded);
    if untold == 0 && over.is_empty() {
        return;
    }
    for _ in 0..untold {
        let place = Place::Driver;
        world.conns.push(Conn { pool, uid: None, place, accepted_at: world.now, handed_at: world.now, gone: false });
        world.oracle.accepted(pool);
        let conn = ConnId(world.conns.len() as u64);
        world.move_conn(conn, Place::Driver, Place::Hands);
        let fake = world.workers.get_mut(&worker).expect("looked at above");
        fake.hands.push(conn);
        fake.known.tickets.insert(conn);
    }
    for conn in &over {
        world.move_conn(*conn, Place::Hands, Place::Done);
        let known = &mut world.workers.get_mut(&worker).expect("looked at above").known;
        known.tickets.remove(conn);
        known.done += 1;
    }
    world.pending.push_back(Event::Taken { worker, total, unrecorded });
}

/// Its ring is full, since nobody has read it for long.
pub(super) fn a_worker_finds_no_room(world: &mut World, worker: WorkerId) {
    world.marks.unrecorded += 1;
    let fake = world.workers.get_mut(&worker).expect("chosen a moment ago");
    let conn = fake.hands.remove(0);
    fake.own.unrecorded += 1;
    fake.own.over.push(conn);
    world.write(|_| format!("  {worker} finishes {conn} and has no room to say so"));
}

/// More than it can have accepted, fewer than it had, or the end of what it does not hold.
pub(super) fn a_worker_miscounts(world: &mut World, worker: WorkerId) {
    tell(world, worker);
    let fake = world.workers.get_mut(&worker).expect("chosen a moment ago");
    let (total, unrecorded) = (fake.own.total, fake.own.unrecorded);
    let event = match world.dice.u32(0..3) {
        0 => Event::Taken { worker, total: total + 1_000_000, unrecorded },
        1 if total > 0 => Event::Taken { worker, total: total - 1, unrecorded },
        _ => Event::Taken { worker, total, unrecorded: unrecorded + 1_000_000 },
    };
    world.marks.miscounted += 1;
    (fake.known.liar, fake.known.serving) = (true, false);
    let now = world.now;
    fake.known.leaves(now);
    world.step(event);
}

/// Workers are gone and the driver looks for whom they left: somebody may have come after them.
pub(super) fn sweeping_begins(world: &mut World, pool: usize) {
    if world.plan.handoff == ostler_config::checked::Handoff::Listen {
        assert!(world.refusing[pool], "the supervisor accepts for workers that do so themselves");
        assert!(!world.workers.values().any(|fake| fake.pool == pool), "the supervisor accepts while workers run");
        world.emptied[pool] = false;
        world.marks.swept += 1;
    }
}
