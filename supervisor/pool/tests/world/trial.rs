//! Checks rollouts from outside: the canary goes first, few slots change at a time, and probation comes before the commit.

use std::collections::{BTreeMap, BTreeSet};

use ostler_config::checked::{Canary, Reload};
use ostler_pool::{Cause, Settings};
use ostler_shared::{Generation, SlotNo, WorkerName};

use super::World;
use super::fake::Fake;
use super::oracle::ns;

/// A generation that has to prove itself, as far as anybody outside can know.
#[derive(Debug)]
pub(super) struct Trial {
    generation: Generation,
    reload: Reload,
    /// Slots in which one of its workers was started.
    spawned: BTreeSet<SlotNo>,
    /// When one of its workers was READY for the first time, by slot.
    ready: BTreeMap<SlotNo, u64>,
    first_ready_at: Option<u64>,
    /// Who ended, or turned away, on probation; whether it was asked to is known with the note of its death.
    suspects: BTreeSet<WorkerName>,
    /// Somebody ended on probation unasked.
    broken: bool,
    /// The number of slots changed, so that nobody outside can say how many are on the move.
    disturbed: bool,
}

pub(super) fn begun(world: &mut World, pool: usize, generation: Generation, reload: Reload) {
    world.oracle.pools[pool].trial = Some(Trial {
        generation,
        reload,
        spawned: BTreeSet::new(),
        ready: BTreeMap::new(),
        first_ready_at: None,
        suspects: BTreeSet::new(),
        broken: false,
        disturbed: false,
    });
}

/// Nobody serves there whom a canary could spare, and nobody's place is taken.
pub(super) fn of_a_new_pool(world: &mut World, pool: usize) {
    let trial = world.oracle.pools[pool].trial.as_mut().expect("it has just begun");
    trial.reload.canary = Canary::Spared;
    trial.disturbed = true;
}

/// A worker is started: not too early, and not beside too many others.
pub(super) fn check_spawn(world: &mut World, pool: usize, name: &WorkerName, settings: &Settings) {
    let (now, target) = (world.now, SlotNo(world.oracle.pools[pool].target));
    let Some(trial) = trial_of(world, pool, name) else { return };
    assert_eq!(trial.reload.probation, settings.pool.reload.probation);
    let others = trial.spawned.iter().any(|slot| *slot != name.slot);
    let proven = trial.first_ready_at.is_some_and(|at| now >= at + ns(trial.reload.probation));
    assert!(
        trial.reload.canary == Canary::Spared || !others || proven,
        "{name} starts before the canary has proven itself: {trial:?}"
    );
    let surge = trial.reload.surge.of(target.0) as usize;
    let (refill, disturbed) = (trial.ready.contains_key(&name.slot), trial.disturbed);
    trial.spawned.insert(name.slot);
    let trial = world.oracle.pools[pool].trial.as_ref().expect("made above");
    let ours = || world.workers.values().filter(|fake| fake.pool == pool);
    let changing = (0..target.0).map(SlotNo).filter(|slot| *slot != name.slot && trial.changes(*slot, ours())).count();
    assert!(refill || disturbed || changing < surge, "{name} starts while {changing} slots change, surge is {surge}");
    world.marks.surged += u64::from(changing > 0);
    world.marks.followed_a_canary += u64::from(others && trial.reload.canary == Canary::Sent);
}

impl Trial {
    /// A slot has a new worker that is not READY, or an old one that is not gone.
    fn changes<'a>(&self, slot: SlotNo, workers: impl Iterator<Item = &'a Fake>) -> bool {
        let (new, old): (Vec<&Fake>, Vec<&Fake>) =
            workers.filter(|fake| fake.slot() == slot).partition(|fake| fake.name.generation == self.generation);
        let starts = new.iter().any(|fake| !fake.known.was_ready) && !self.ready.contains_key(&slot);
        starts || (!new.is_empty() && !old.is_empty())
    }
}

fn trial_of<'a>(world: &'a mut World, pool: usize, name: &WorkerName) -> Option<&'a mut Trial> {
    world.oracle.pools[pool].trial.as_mut().filter(|trial| trial.generation == name.generation)
}

pub(super) fn ready(world: &mut World, pool: usize, name: &WorkerName) {
    let now = world.now;
    if let Some(trial) = trial_of(world, pool, name) {
        trial.first_ready_at.get_or_insert(now);
        trial.ready.entry(name.slot).or_insert(now);
    }
}

/// The process is gone and the pool is about to hear of it.
pub(super) fn buried(world: &mut World, fake: &Fake) {
    let now = world.now;
    let Some(trial) = trial_of(world, fake.pool, &fake.name) else { return };
    let Some(ready_at) = fake.known.ready_at else { return };
    if fake.known.left_at.unwrap_or(now) < ready_at + ns(trial.reload.probation) {
        trial.suspects.insert(fake.name.clone());
    }
}

pub(super) fn died(world: &mut World, pool: usize, name: &WorkerName, asked: Option<Cause>) {
    let Some(trial) = trial_of(world, pool, name) else { return };
    if trial.suspects.remove(name) && !asked.is_some_and(Cause::is_ours) {
        trial.broken = true;
        world.marks.died_on_probation += 1;
    }
}

pub(super) fn scaled(world: &mut World, pool: usize) {
    let target = SlotNo(world.oracle.pools[pool].target);
    if let Some(trial) = &mut world.oracle.pools[pool].trial {
        trial.disturbed = true;
        trial.ready.retain(|slot, _| *slot < target);
        trial.spawned.retain(|slot| *slot < target);
    }
}

pub(super) fn committed(world: &mut World, pool: usize) {
    let (now, target) = (world.now, SlotNo(world.oracle.pools[pool].target));
    let Some(trial) = world.oracle.pools[pool].trial.take() else { return };
    assert!(!trial.broken, "I4: committed though a worker died on probation: {trial:?}");
    let probation = ns(trial.reload.probation);
    world.marks.committed_after_probation += u64::from(probation > 0);
    let rash = trial.ready.iter().find(|(slot, ready)| **slot < target && **ready + probation > now);
    assert!(rash.is_none(), "I4: committed before {rash:?} had proven itself: {trial:?}");
    let slots = trial.ready.range(..target).count();
    assert!(trial.disturbed || slots == target.0 as usize, "I4: committed with {slots} slots moved: {trial:?}");
}

/// A reload is over for every pool.
pub(super) fn undone(world: &mut World) {
    world.oracle.pools.iter_mut().for_each(|ledger| ledger.trial = None);
}
