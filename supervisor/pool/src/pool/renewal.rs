//! Gives slots fresh workers of the same generation: `restart`.

use std::collections::BTreeSet;

use ostler_shared::SlotNo;

use super::Pool;
use super::moving::Purpose;
use crate::action::Answer;
use crate::event::RequestId;
use crate::note::Note;
use crate::reason::{Cause, Failure, What};
use crate::turn::Turn;

/// Slots whose workers are to be replaced by fresh ones.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    slots: BTreeSet<SlotNo>,
    requests: Vec<RequestId>,
}

impl Pool {
    /// Begins to replace the workers of `slot`, or of every slot, by fresh ones of the same generation.
    pub(crate) fn renew(&mut self, turn: &mut Turn<'_>, slot: Option<SlotNo>, request: Option<RequestId>) {
        let slots: Vec<SlotNo> = match slot {
            Some(no) if no.0 < self.target => vec![no],
            Some(no) => return turn.answer(request, Answer::Refused { why: self.no_such_slot(no) }),
            None => (0..self.target).map(SlotNo).collect(),
        };
        self.forgive();
        let renewal = self.renewal.get_or_insert_default();
        renewal.slots.extend(slots);
        renewal.requests.extend(request);
    }

    pub(super) fn no_such_slot(&self, no: SlotNo) -> String {
        let slots = match self.target.checked_sub(1) {
            Some(last) => format!("its slots are 0 to {last}"),
            None => "it has none until a client comes".to_owned(),
        };
        format!("pool {} has no slot {no}: {slots}; see `ostler status`", self.name)
    }

    /// Slots that are to get a fresh worker and have not.
    pub(super) fn slots_to_renew(&self) -> impl Iterator<Item = SlotNo> {
        let slots = self.renewal.iter().flat_map(|renewal| &renewal.slots);
        slots.copied().filter(|no| no.0 < self.target)
    }

    pub(super) fn slot_renewed(&mut self, no: SlotNo) {
        if let Some(renewal) = &mut self.renewal {
            renewal.slots.remove(&no);
        }
    }

    /// One fresh worker did not become READY: the others would not either.
    pub(super) fn renewal_failed(&mut self, turn: &mut Turn<'_>, failure: Failure) {
        self.abandon_moves(turn, Purpose::Renewal, Cause::Undone);
        turn.note(Note::RestartFailed { pool: self.name.clone(), failure: failure.clone() });
        self.finish_renewal(turn, &Answer::NotRestarted { failure });
    }

    pub(super) fn finish_renewal_when_done(&mut self, turn: &mut Turn<'_>) {
        let under_way = self.moves.values().any(|moving| moving.purpose == Purpose::Renewal);
        if self.renewal.is_some() && !under_way && self.slots_to_renew().next().is_none() {
            self.finish_renewal(turn, &Answer::Restarted);
        }
    }

    pub(super) fn abandon_renewal(&mut self, turn: &mut Turn<'_>, what: What) {
        let failure = Failure { worker: None, what };
        self.finish_renewal(turn, &Answer::NotRestarted { failure });
    }

    fn finish_renewal(&mut self, turn: &mut Turn<'_>, verdict: &Answer) {
        for request in self.renewal.take().into_iter().flat_map(|renewal| renewal.requests) {
            turn.answer(Some(request), verdict.clone());
        }
    }
}
