//! Plays templates: they load, fork, refuse, fall silent and die; and what the pool may ask of them.

use std::collections::BTreeMap;

use ostler_pool::{Event, Exit, HangUp, NotForked, PoolNo, Settings, Step};
use ostler_shared::{Generation, WorkerId, WorkerName};

use super::World;

/// One template.
#[derive(Debug)]
pub(super) struct FakeTemplate {
    pool: usize,
    generation: Generation,
    loaded: bool,
    /// It never loads everything.
    mute: bool,
    /// It answers nothing that it is asked from some time on.
    silent: bool,
    drained: bool,
    signalled: bool,
    /// Workers that it was asked for and has not forked.
    asked: Vec<WorkerId>,
}

/// All of them, by identity.
pub(super) type Templates = BTreeMap<WorkerId, FakeTemplate>;

pub(super) fn start(world: &mut World, template: WorkerId, pool: PoolNo, name: &WorkerName, settings: &Settings) {
    assert_eq!(settings.pool.reload.template, ostler_config::checked::Template::Used, "{name} is not wanted");
    let twin = world.templates.values().any(|other| other.pool == pool.0 && other.generation == name.generation);
    assert!(!twin, "{name} starts beside one of its generation");
    let others = world.templates.values().filter(|other| other.pool == pool.0).count();
    assert!(others <= 2, "{name} starts beside {others} others");
    world.marks.templates += 1;
    let faults = world.plan.faults;
    if world.strikes(faults.spawn_fails) {
        return world.pending.push_back(Event::SpawnFailed { worker: template, why: "EAGAIN".into() });
    }
    let exec_fails = world.strikes(faults.exec_fails);
    if exec_fails {
        world.pending.push_back(Event::ExecFailed { worker: template, why: "ENOENT".into() });
    }
    let fake = FakeTemplate {
        pool: pool.0,
        generation: name.generation,
        loaded: false,
        mute: exec_fails || world.strikes(faults.mute),
        silent: false,
        drained: false,
        signalled: false,
        asked: Vec::new(),
    };
    assert!(world.templates.insert(template, fake).is_none(), "{template} was started twice");
}

/// Whether a worker comes at once; otherwise its answer is under way, or never will be.
pub(super) fn fork(world: &mut World, template: WorkerId, worker: WorkerId, name: &WorkerName) -> bool {
    let fake = world.templates.get(&template).unwrap_or_else(|| panic!("{name} is asked of {template}, which is gone"));
    assert!(fake.loaded && !fake.drained && !fake.signalled, "{name} is asked of {template}, which can't: {fake:?}");
    assert_eq!(fake.generation, name.generation, "{name} is asked of {template}");
    let faults = world.plan.faults;
    let falls_silent = fake.silent || world.strikes(faults.mute);
    if falls_silent {
        let fake = world.templates.get_mut(&template).expect("it was there a moment ago");
        fake.silent = true;
        fake.asked.push(worker);
        world.marks.not_answered += 1;
        return false;
    }
    if world.strikes(faults.spawn_fails) {
        world.marks.fork_refused += 1;
        let why = if world.strikes(2) {
            NotForked::Shortage("EAGAIN".to_owned())
        } else {
            NotForked::Unfit("it has 2 threads".to_owned())
        };
        world.pending.push_back(Event::NotForked { worker, why });
        return false;
    }
    world.marks.forked += 1;
    world.pending.push_back(Event::Forked { worker });
    true
}

/// How many workers of a pool its templates were asked for and have neither forked nor refused.
pub(super) fn unborn(world: &World, pool: usize) -> usize {
    let asked: usize =
        world.templates.values().filter(|template| template.pool == pool).map(|template| template.asked.len()).sum();
    let answers = world.pending.iter().filter(|event| matches!(event, Event::NotForked { .. })).count();
    asked + answers
}

pub(super) fn drain(world: &mut World, template: WorkerId) -> bool {
    let Some(fake) = world.templates.get_mut(&template) else { return false };
    fake.drained = true;
    true
}

pub(super) fn signal(world: &mut World, template: WorkerId, step: Step) -> bool {
    let Some(fake) = world.templates.get_mut(&template) else { return false };
    fake.signalled = true;
    let stubborn = fake.silent;
    match step {
        Step::Term | Step::Abort if stubborn => {}
        Step::Term | Step::Abort => die(world, template, Exit::Signal(15)),
        Step::Kill => die(world, template, Exit::Signal(9)),
    }
    true
}

/// Who was asked of it and did not come never will.
pub(super) fn die(world: &mut World, template: WorkerId, exit: Exit) {
    let Some(fake) = world.templates.remove(&template) else { return };
    for worker in fake.asked {
        world.pending.push_back(Event::NotForked { worker, why: NotForked::TemplateEnded });
    }
    world.pending.push_back(Event::Died { worker: template, exit, unclaimed: Vec::new() });
    if world.strikes(3) {
        world.pending.push_back(Event::HungUp { worker: template, how: HangUp::ChannelClosed });
    }
}

/// Something happens to one of them.
pub(super) fn happen(world: &mut World) {
    let all: Vec<WorkerId> = world.templates.keys().copied().collect();
    let Some(id) = world.dice.choice(&all).copied() else { return };
    let fake = &world.templates[&id];
    if fake.drained && !fake.silent {
        die(world, id, Exit::Code(0));
    } else if !fake.loaded && !fake.mute && !fake.signalled {
        world.templates.get_mut(&id).expect("chosen a moment ago").loaded = true;
        world.pending.push_back(Event::Ready { worker: id });
    } else if world.strikes(6) {
        match world.dice.u32(0..4) {
            0 => world.pending.push_back(Event::Misbehaved { worker: id, how: "told a lie".to_owned() }),
            1 => world.pending.push_back(Event::HungUp { worker: id, how: HangUp::ChannelClosed }),
            2 => world.pending.push_back(Event::HungUp { worker: id, how: HangUp::Leaves }),
            _ => die(world, id, Exit::Code(3)),
        }
    }
    world.go_on();
}
