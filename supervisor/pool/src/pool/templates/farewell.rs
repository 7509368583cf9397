//! Ends templates: by request, by deadline, by their own fault; and draws the conclusions of their deaths.

use ostler_shared::{Generation, SlotNo, WorkerId};

use super::super::{Key, Pool, at_most, half};
use crate::action::{Action, Step};
use crate::event::{Exit, HangUp};
use crate::lifecycle::{Effect, Input, State};
use crate::note::Note;
use crate::reason::{Cause, Failure, What};
use crate::restart::Verdict;
use crate::turn::Turn;
use crate::worker::Seat;
use crate::{FAST_KILL_AFTER, FORK_TIMEOUT, HANGUP_GRACE};

impl Pool {
    // ── by their own fault ─────────────────────────────────────────────────────────────────────────────────

    pub(in super::super) fn template_hung_up(&mut self, turn: &mut Turn<'_>, id: WorkerId, how: HangUp) {
        let cause = match how {
            HangUp::Leaves => Cause::Leaves,
            HangUp::ChannelClosed => Cause::HungUp,
        };
        if self.template_mut(id).state == State::Starting {
            self.pass_template(id, Input::HungUp);
        } else {
            self.dismiss_template(turn, id, Input::HungUp, cause);
        }
        if how == HangUp::ChannelClosed && matches!(self.template_mut(id).state, State::Starting | State::Draining) {
            self.timers.set(Key::TemplateLife(id), turn.now + HANGUP_GRACE);
        }
    }

    pub(in super::super) fn template_misbehaved(&mut self, turn: &mut Turn<'_>, id: WorkerId, how: String) {
        let template = self.template_mut(id);
        if matches!(template.leaving, Some((Cause::Misbehaved, _))) {
            return; // said once
        }
        let name = template.name.clone();
        template.trouble.get_or_insert(What::Misbehaved(how.clone()));
        turn.note(Note::Misbehaved { worker: name, how });
        self.dismiss_template(turn, id, Input::Misbehaved, Cause::Misbehaved);
    }

    pub(in super::super) fn template_exec_failed(&mut self, id: WorkerId, why: String) {
        self.template_mut(id).trouble = Some(What::Exec(why));
    }

    /// It was asked for a worker and does not answer: nothing can be asked of it any more, so it is not asked to leave.
    pub(in super::super) fn fork_is_overdue(&mut self, turn: &mut Turn<'_>, seat: Seat) {
        let Some(id) = self.worker(seat).template.filter(|id| !self.is_leaving_template(*id)) else {
            // It ends already, and with it whoever was asked of it.
            return self.timers.set(Key::Fork(seat), turn.now + FORK_TIMEOUT);
        };
        self.timers.set(Key::Fork(seat), turn.now + FORK_TIMEOUT);
        let template = self.template_mut(id);
        template.trouble.get_or_insert(What::NoAnswer(FORK_TIMEOUT));
        template.leaving = Some((Cause::NoAnswer, turn.now));
        template.state = State::Killing;
        turn.note(Note::Leaves { worker: template.name.clone(), cause: Cause::NoAnswer });
        self.carry_out_template(turn, id, Effect::Kill);
        self.set_template_deadline(turn, id);
        self.judge_template(turn, id);
        self.roster_changed = true;
    }

    // ── leaving ────────────────────────────────────────────────────────────────────────────────────────────

    /// Applies an input that makes a template go.
    pub(super) fn dismiss_template(&mut self, turn: &mut Turn<'_>, id: WorkerId, input: Input, cause: Cause) {
        let before = self.template_mut(id).state;
        let effect = self.pass_template(id, input);
        let template = self.template_mut(id);
        let state = template.state;
        if template.leaving.is_none() {
            template.leaving = Some((cause, turn.now));
            turn.note(Note::Leaves { worker: template.name.clone(), cause });
        }
        self.carry_out_template(turn, id, effect);
        if effect != Effect::Nothing || state != before {
            self.set_template_deadline(turn, id);
        }
        self.judge_template(turn, id);
        self.roster_changed = true;
    }

    /// All of them go. Who leaves already is hurried, and else left to its deadlines.
    pub(in super::super) fn dismiss_templates(&mut self, turn: &mut Turn<'_>, input: Input, cause: Cause) {
        let stays = |state: State| input == Input::Drain && !matches!(state, State::Starting | State::Ready);
        let all = self.templates.living.values().filter(|template| !stays(template.state));
        let all: Vec<WorkerId> = all.map(|template| template.id).collect();
        for id in all {
            self.dismiss_template(turn, id, input, cause);
        }
    }

    pub(in super::super) fn template_deadline_passed(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let template = self.template_mut(id);
        match template.state {
            State::Starting => {
                let hung_up = turn.now < template.started_at + template.ready_timeout();
                let trouble = if hung_up { What::HungUp } else { What::NeverLoaded(template.ready_timeout()) };
                template.trouble.get_or_insert(trouble);
                self.dismiss_template(turn, id, Input::Deadline, Cause::NeverReady);
            }
            State::Ready => {}
            State::Draining | State::Terminating | State::TerminatingFast | State::Aborting | State::Killing => {
                let effect = self.pass_template(id, Input::Deadline);
                self.carry_out_template(turn, id, effect);
                self.set_template_deadline(turn, id);
            }
        }
    }

    fn carry_out_template(&mut self, turn: &mut Turn<'_>, id: WorkerId, effect: Effect) {
        let step = match effect {
            Effect::Nothing | Effect::Serve | Effect::HandNothing => return,
            Effect::TellDrain => return turn.act(Action::Drain { worker: id }),
            Effect::Term => Step::Term,
            Effect::Abort => Step::Abort,
            Effect::Kill => Step::Kill,
        };
        let template = self.template_mut(id);
        turn.note(Note::Escalated { worker: template.name.clone(), step });
        turn.act(Action::Signal { worker: id, step });
        if step != Step::Term && !std::mem::replace(&mut template.forced, true) {
            self.count_killed();
        }
    }

    fn set_template_deadline(&mut self, turn: &Turn<'_>, id: WorkerId) {
        let template = &self.templates.living[&id];
        let drain = template.settings.pool.drain.clone();
        let kill_after = self.kill_after(drain.kill_after);
        let deadline = match template.state {
            State::Starting => template.started_at + template.ready_timeout(),
            State::Ready => return self.timers.clear(Key::TemplateLife(id)),
            State::Draining => at_most(turn.now + drain.timeout, self.last_call_at()),
            State::Terminating | State::Aborting => turn.now + half(kill_after),
            State::TerminatingFast => turn.now + FAST_KILL_AFTER,
            State::Killing => turn.now + kill_after.max(FAST_KILL_AFTER),
        };
        self.timers.set(Key::TemplateLife(id), deadline);
    }

    // ── what follows ───────────────────────────────────────────────────────────────────────────────────────

    /// One that goes by its own fault has failed; its death adds nothing to that.
    fn judge_template(&mut self, turn: &mut Turn<'_>, id: WorkerId) {
        let template = self.template_mut(id);
        let Some((cause, _)) = template.leaving else { return };
        let trouble = match (template.trouble.clone(), cause) {
            _ if cause.is_ours() || template.judged => return,
            // What its exit says is worth waiting for.
            (None, _) => return,
            (Some(trouble), _) => trouble,
        };
        template.judged = true;
        let (failure, generation) = (template.failed(trouble), template.generation());
        self.template_failed(turn, generation, failure);
    }

    pub(in super::super) fn template_not_started(&mut self, turn: &mut Turn<'_>, id: WorkerId, why: String) {
        let template = self.forget_template(id);
        let failure = template.failed(What::Spawn(why));
        self.template_failed(turn, template.generation(), failure);
    }

    pub(in super::super) fn template_died(&mut self, turn: &mut Turn<'_>, id: WorkerId, exit: Exit) {
        let template = self.forget_template(id);
        turn.note(Note::Died {
            id,
            worker: template.name.clone(),
            exit,
            asked: template.leaving.map(|(cause, _)| cause),
            age: turn.now.since(template.started_at),
            done: 0,
            lost: 0,
            redelivered: 0,
        });
        if let Some(failure) = template.failure(turn.now, exit) {
            self.template_failed(turn, template.generation(), failure);
        }
    }

    fn forget_template(&mut self, id: WorkerId) -> crate::template::Template {
        self.timers.clear(Key::TemplateLife(id));
        self.roster_changed = true;
        self.templates.living.remove(&id).unwrap_or_else(|| panic!("I8: template {id} died twice"))
    }

    /// A failure before a commit is the rollout's; one during an undo is that of the slots which wait for it; otherwise the
    /// pool remembers it.
    fn template_failed(&mut self, turn: &mut Turn<'_>, generation: Generation, failure: Failure) {
        if self.is_stopping() {
            return;
        }
        if self.is_goal_of_undo(generation) {
            let waiting: Vec<SlotNo> = self.slots_elsewhere().collect();
            for slot in waiting {
                self.move_back_failed(turn, slot, failure.clone());
            }
            self.let_template_wait(turn, generation);
        } else if !self.template_fails_rollout(generation, &failure)
            && self.count_failure(turn, &failure) == Verdict::Holds
        {
            let wait = self.let_template_wait(turn, generation);
            if let Some(wait) = wait {
                turn.note(Note::BackOff { failure, wait });
            }
        }
    }

    fn let_template_wait(&mut self, turn: &mut Turn<'_>, generation: Generation) -> Option<std::time::Duration> {
        let start = self.config().start.clone();
        let nursery = self.templates.nurseries.get_mut(&generation)?;
        let wait = nursery.back_off.wait(&start, turn.rng);
        nursery.wait_until = Some(turn.now + wait);
        self.roster_changed = true;
        Some(wait)
    }
}
