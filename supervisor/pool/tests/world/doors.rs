//! Keeps the listeners as a driver does, and sees that the pool asks for each step of theirs in its turn.
//!
//! ```text
//! nothing aside ─ the file is read ─▶ bound ─ OpenListeners ─▶ open ─ Adopt ─▶ they serve, and what is not named leaves
//!                       └─ taken          └────── CloseAside ────┴─▶ nothing aside
//! ```
//! Which listeners there are is no decision of the pool's. When they are opened, taken into service and given up is: whoever
//! connects to one that is opened and then forgotten waits for ever.

use std::collections::BTreeSet;
use std::sync::Arc;

use ostler_config::checked::{Address, Config};
use ostler_pool::{Change, Event};
use ostler_shared::PoolName;

use super::World;

/// Most listeners of a pool.
const LISTENERS_MAX: usize = 3;

/// What a reload under way is to bring.
#[derive(Debug)]
pub(super) struct Aside {
    config: Arc<Config>,
    stage: Stage,
    /// The reload has turned round.
    doomed: bool,
}

/// How far the listeners of a reload are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The kernel refuses whoever connects.
    Bound,
    /// Clients may connect, and wait.
    Open,
    /// Some of them may.
    HalfOpen,
}

impl Aside {
    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

/// What a file may say that pool listens on.
pub(super) fn draw(dice: &mut fastrand::Rng, pool: &PoolName) -> Vec<Address> {
    let first = dice.usize(0..LISTENERS_MAX);
    let count = dice.usize(1..=LISTENERS_MAX);
    let numbers = (0..count).map(|at| (first + at) % LISTENERS_MAX);
    numbers.map(|number| Address::UnixAbstract(format!("{pool}-{number}"))).collect()
}

/// Binds what a configuration adds, if nobody else has it.
pub(super) fn bind(world: &mut World, config: &Arc<Config>) -> Result<(), String> {
    assert!(world.aside.is_none(), "a file is read while the listeners of another reload are aside");
    let is_new = new_listeners(&world.config, config).next().is_some();
    if is_new && world.strikes(world.plan.faults.cannot_bind) {
        world.marks.binding_failed += 1;
        return Err("somebody else listens there".to_owned());
    }
    world.aside = Some(Aside { config: Arc::clone(config), stage: Stage::Bound, doomed: false });
    Ok(())
}

pub(super) fn open(world: &mut World) {
    let fails = world.strikes(world.plan.faults.cannot_open);
    let aside = world.aside.as_mut().expect("listeners are opened and no file was read");
    world.marks.opened_again += u64::from(aside.stage == Stage::Open);
    assert_ne!(aside.stage, Stage::HalfOpen, "listeners are opened again that could not be");
    aside.stage = if fails { Stage::HalfOpen } else { Stage::Open };
    world.marks.opening_failed += u64::from(fails);
    // Whatever stands before it in a driver's queue is taken in first.
    if let Some(event) = something_else(world) {
        world.pending.push_back(event);
    }
    let outcome = if fails { Err("somebody else listens there".to_owned()) } else { Ok(()) };
    world.pending.push_back(Event::ListenersOpened { outcome });
}

/// Now and then somebody leaves, or a slot is opened, when all have moved already.
fn something_else(world: &mut World) -> Option<Event> {
    match world.dice.u32(0..8) {
        0 => {
            let worker = world.any_worker(|fake| fake.known.serving && !fake.is_dead())?;
            Some(Event::Misbehaved { worker, how: "changed what can be read back".to_owned() })
        }
        1 => Some(Event::Scale { request: None, pool: None, change: Change::More(1) }),
        _ => None,
    }
}

pub(super) fn close_aside(world: &mut World) {
    let Some(aside) = world.aside.take() else { return };
    match aside.stage {
        Stage::Bound => world.marks.closed_unopened += 1,
        Stage::Open => world.marks.closed_open += 1,
        Stage::HalfOpen => world.marks.closed_half_open += 1,
    }
}

pub(super) fn adopt(world: &mut World, config: &Arc<Config>) {
    let aside = world.aside.take().expect("a configuration is adopted that was not read");
    assert_eq!(&aside.config, config, "another configuration is adopted than was read");
    assert_eq!(aside.stage, Stage::Open, "I4: a commit that its listeners could still make fail");
    world.marks.listener_added +=
        new_listeners(&world.config, config).filter(is_in_both(&world.config, config)).count() as u64;
    world.marks.listener_taken_away +=
        new_listeners(config, &world.config).filter(is_in_both(&world.config, config)).count() as u64;
}

/// Going back may take long.
pub(super) fn undo_begun(world: &mut World) {
    if let Some(aside) = &mut world.aside {
        aside.doomed = true;
    }
}

/// Nobody may wait meanwhile at a listener that will not be.
pub(super) fn check(world: &World) {
    assert!(!world.aside.as_ref().is_some_and(|aside| aside.doomed), "the listeners of a reload outlive it");
}

/// A reload has its verdict, or everything is over.
pub(super) fn check_nothing_aside(world: &World) {
    let left = world.aside.as_ref().map(|aside| aside.stage);
    assert_eq!(left, None, "nobody will ever accept at the listeners that are aside");
}

/// What the second one listens on and the first one does not.
fn new_listeners<'a>(before: &Config, after: &'a Config) -> impl Iterator<Item = (&'a PoolName, &'a Address)> {
    let before: BTreeSet<String> = listeners(before).map(shown).collect();
    listeners(after).filter(move |listener| !before.contains(&shown(*listener)))
}

fn listeners(config: &Config) -> impl Iterator<Item = (&PoolName, &Address)> {
    config.pools.iter().flat_map(|pool| pool.listen.iter().map(|address| (&pool.name, address)))
}

fn shown((pool, address): (&PoolName, &Address)) -> String {
    format!("{pool} {address}")
}

/// Its pool is there before and after: it is the listeners of that one that change.
fn is_in_both<'a>(before: &'a Config, after: &'a Config) -> impl Fn(&(&PoolName, &Address)) -> bool {
    move |(name, _)| [before, after].iter().all(|config| config.pools.iter().any(|pool| pool.name == **name))
}
