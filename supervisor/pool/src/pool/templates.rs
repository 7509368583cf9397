//! Keeps a template for each generation that needs one, and asks it for workers.
//!
//! ```text
//! generation wanted ─▶ started ─▶ READY ─▶ asked for workers ──▶ nobody needs the generation ─▶ drained
//!        ▲                │          │            └─ no answer in FORK_TIMEOUT ─▶ killed ─┐
//!        └── back-off ◀───┴──────────┴────────────────────── its workers live on ◀────────┘
//! ```
//! Who needs it is seen from the slots, the committed generation and the goal of a rollout, after every step: nobody has to
//! remember to start or to stop one. How a template ends is in `farewell`.

mod farewell;

use std::collections::BTreeMap;
use std::sync::Arc;

use ostler_config::checked;
use ostler_shared::{Generation, SlotNo, WorkerId, WorkerName};

use super::rollout::Direction;
use super::{Health, Key, Pool, Progress};
use crate::action::{Action, Origin};
use crate::event::{HangUp, NotForked, Settings};
use crate::lifecycle::{self, Input, State};
use crate::note::Note;
use crate::reason::{Cause, What};
use crate::restart::BackOff;
use crate::snapshot::TemplateSnapshot;
use crate::template::Template;
use crate::turn::Turn;
use crate::worker::Seat;
use crate::{FORK_TIMEOUT, Moment, SPAWN_SPACING};

/// The templates of a pool.
#[derive(Debug, Default)]
pub(super) struct Templates {
    /// Those that live, and those that are on their way out.
    living: BTreeMap<WorkerId, Template>,
    /// What is remembered of each generation that needs one.
    nurseries: BTreeMap<Generation, Nursery>,
}

/// Where the templates of one generation come from, one after the other.
#[derive(Debug)]
struct Nursery {
    settings: Arc<Settings>,
    back_off: BackOff,
    last_start: Option<Moment>,
    wait_until: Option<Moment>,
}

impl Nursery {
    fn new(settings: &Arc<Settings>) -> Nursery {
        Nursery { settings: Arc::clone(settings), back_off: BackOff::default(), last_start: None, wait_until: None }
    }

    fn earliest_start(&self) -> Option<Moment> {
        self.last_start.map(|at| at + SPAWN_SPACING).max(self.wait_until)
    }
}

impl Templates {
    pub(super) fn is_empty(&self) -> bool {
        self.living.is_empty()
    }

    /// The template of a generation that can be asked for workers.
    fn ready(&self, generation: Generation) -> Option<WorkerId> {
        let fits = |template: &&Template| template.generation() == generation && template.is_ready();
        self.living.values().find(fits).map(|template| template.id)
    }

    /// Nobody is alive of a generation that no slot runs.
    pub(super) fn are_of(&self, generation: Generation) -> bool {
        self.living.values().all(|template| template.generation() == generation)
    }

    pub(super) fn forgive(&mut self) {
        for nursery in self.nurseries.values_mut() {
            nursery.back_off.forgive();
            nursery.wait_until = None;
        }
    }
}

fn uses_templates(settings: &Settings) -> bool {
    settings.pool.reload.template == checked::Template::Used
}

impl Pool {
    // ── who is needed ──────────────────────────────────────────────────────────────────────────────────────

    /// Lets those go that nobody needs, and starts those that are missing.
    pub(super) fn keep_templates(&mut self, turn: &mut Turn<'_>) {
        let needed = self.generations_with_templates();
        let surplus: Vec<WorkerId> = self
            .templates
            .living
            .values()
            .filter(|template| template.leaving.is_none() && !needed.contains_key(&template.generation()))
            .map(|template| template.id)
            .collect();
        for template in surplus {
            let cause = self.why_not_needed(template);
            self.dismiss_template(turn, template, Input::Drain, cause);
        }
        let timers = &mut self.timers;
        self.templates.nurseries.retain(|generation, _| {
            let stays = needed.contains_key(generation);
            if !stays {
                timers.clear(Key::Template(*generation));
            }
            stays
        });
        for (generation, settings) in needed {
            self.templates.nurseries.entry(generation).or_insert_with(|| Nursery::new(&settings));
            if self.may_start_template(turn, generation) {
                self.start_template(turn, generation);
            }
        }
    }

    fn generations_with_templates(&self) -> BTreeMap<Generation, Arc<Settings>> {
        if self.is_shedding() {
            return BTreeMap::new();
        }
        let slots = self.slots.range(..SlotNo(self.target)).map(|(_, slot)| &slot.settings);
        let goal = self.rollout_goal().filter(|_| !matches!(self.progress(), Some(Progress::Failed(_))));
        let all = slots.chain([&self.settings]).chain(goal);
        all.filter(|settings| uses_templates(settings))
            .map(|settings| (settings.generation, Arc::clone(settings)))
            .collect()
    }

    fn why_not_needed(&self, template: WorkerId) -> Cause {
        let is_newer = self.templates.living[&template].generation() > self.settings.generation;
        match self.stopping_cause() {
            Some(cause) => cause,
            None if is_newer => Cause::Undone,
            None => Cause::Replaced,
        }
    }

    fn may_start_template(&mut self, turn: &Turn<'_>, generation: Generation) -> bool {
        // One that is on its way out is waited for, so that two that are large never live beside each other for long.
        if self.templates.living.values().any(|template| template.generation() == generation) {
            return false;
        }
        let is_goal = self.rollout_goal().is_some_and(|goal| goal.generation == generation);
        let is_tried = match self.progress() {
            Some(Progress::Failed(_)) if is_goal => false,
            Some(_) if is_goal => true,
            Some(_) | None => self.health == Health::Trying,
        };
        if !is_tried || (self.is_stopping() && !self.wants_workers()) {
            return false;
        }
        match self.templates.nurseries[&generation].earliest_start() {
            Some(at) if at > turn.now => {
                self.timers.set(Key::Template(generation), at);
                false
            }
            Some(_) | None => true,
        }
    }

    fn start_template(&mut self, turn: &mut Turn<'_>, generation: Generation) {
        let id = turn.new_worker_id();
        let nursery = self.templates.nurseries.get_mut(&generation).expect("it was made a moment ago");
        (nursery.last_start, nursery.wait_until) = (Some(turn.now), None);
        let settings = Arc::clone(&nursery.settings);
        let name = WorkerName { pool: self.name.clone(), slot: SlotNo::TEMPLATE, generation };
        let template = Template::new(id, name.clone(), Arc::clone(&settings), turn.now);
        self.timers.set(Key::TemplateLife(id), turn.now + template.ready_timeout());
        self.templates.living.insert(id, template);
        turn.act(Action::StartTemplate { template: id, pool: self.no, name, settings });
    }

    /// What would make a worker of these settings; `None`: a template that is not ready.
    pub(super) fn origin_of(&self, settings: &Settings) -> Option<Origin> {
        match settings.pool.reload.template {
            checked::Template::Unused => Some(Origin::Exec),
            checked::Template::Used => self.templates.ready(settings.generation).map(Origin::Template),
        }
    }

    // ── what a template says ───────────────────────────────────────────────────────────────────────────────

    /// Whether this is one of our templates.
    pub(super) fn has_template(&self, id: WorkerId) -> bool {
        self.templates.living.contains_key(&id)
    }

    pub(super) fn template_ready(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        if self.pass_template(id, Input::Ready) != lifecycle::Effect::Serve {
            return;
        }
        self.timers.clear(Key::TemplateLife(id));
        let template = self.template_mut(id);
        template.ready_at = Some(turn.now);
        let note = Note::TemplateReady { template: template.name.clone(), took: turn.now.since(template.started_at) };
        turn.note(note);
        self.roster_changed = true;
    }

    /// A worker was asked for; it has so long to come.
    pub(super) fn await_fork(&mut self, turn: &Turn<'_>, seat: Seat) {
        self.timers.set(Key::Fork(seat), turn.now + FORK_TIMEOUT);
    }

    pub(crate) fn forked(&mut self, worker: WorkerId) {
        let Some(seat) = self.seat_of(worker) else { return };
        self.timers.clear(Key::Fork(seat));
        if let Some(template) = self.worker(seat).template
            && let Some(template) = self.templates.living.get_mut(&template)
        {
            template.forked += 1;
        }
    }

    pub(crate) fn not_forked(&mut self, turn: &mut Turn<'_>, worker: WorkerId, why: NotForked) {
        let Some(seat) = self.seat_of(worker) else { return };
        match why {
            NotForked::Shortage(why) => self.spawn_failed(turn, worker, why),
            NotForked::TemplateEnded => {
                let template = self.worker(seat).template;
                self.unmake(seat);
                // Its death is told next: until then nobody else is asked of it.
                if let Some(template) = template.filter(|template| !self.is_leaving_template(*template)) {
                    self.template_hung_up(turn, template, HangUp::ChannelClosed);
                }
            }
            NotForked::Unfit(why) => {
                let template = self.worker(seat).template;
                self.unmake(seat);
                if let Some(template) = template.filter(|template| self.has_template(*template)) {
                    self.template_mut(template).trouble.get_or_insert(What::Unfit(why));
                    self.dismiss_template(turn, template, Input::Drain, Cause::Unfit);
                }
            }
        }
    }

    /// A worker that was asked for does not come, by no fault of its own: the next template is asked again.
    fn unmake(&mut self, seat: Seat) {
        let worker = self.bury(seat);
        self.tally.started -= 1;
        let slot = self.slot_mut(worker.slot);
        slot.leaving.retain(|other| *other != seat);
        slot.last_spawn = None;
        if slot.incumbent == Some(seat) {
            slot.incumbent = None;
        }
        if slot.successor == Some(seat) {
            slot.successor = None;
            self.moves.remove(&worker.slot);
        }
        self.roster_changed = true;
    }

    /// A worker that it forked is READY.
    pub(super) fn prove_template(&mut self, seat: Seat) {
        let template = self.worker(seat).template;
        let Some(template) = template.and_then(|template| self.templates.living.get_mut(&template)) else { return };
        template.proven = true;
        let generation = template.generation();
        if let Some(nursery) = self.templates.nurseries.get_mut(&generation) {
            nursery.back_off.forgive();
        }
    }

    // ── helpers ────────────────────────────────────────────────────────────────────────────────────────────

    fn template_mut(&mut self, id: WorkerId) -> &mut Template {
        self.templates.living.get_mut(&id).expect("a template lives until its death is told")
    }

    fn pass_template(&mut self, id: WorkerId, input: Input) -> lifecycle::Effect {
        let template = self.template_mut(id);
        let (state, effect) = lifecycle::next(template.state, input);
        template.state = state;
        effect
    }

    pub(super) fn template_rows(&self, now: Moment) -> Vec<TemplateSnapshot> {
        let row = |template: &Template| TemplateSnapshot {
            id: template.id,
            generation: template.generation(),
            state: super::view::shown(template.state),
            age: now.since(template.started_at),
            forked: template.forked,
        };
        self.templates.living.values().map(row).collect()
    }

    pub(super) fn template_name(&self, id: WorkerId) -> String {
        self.templates.living.get(&id).map_or_else(|| id.to_string(), |template| template.name.to_string())
    }

    /// Whether the previous generation's template is what an undo waits for.
    fn is_goal_of_undo(&self, generation: Generation) -> bool {
        self.rollout_direction() == Some(Direction::Back)
            && self.rollout_goal().is_some_and(|goal| goal.generation == generation)
    }

    fn is_leaving_template(&self, id: WorkerId) -> bool {
        self.templates.living.get(&id).is_none_or(|template| template.state != State::Ready)
    }
}
