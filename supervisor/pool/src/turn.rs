//! Carries one step's time and outlet to whoever acts in it.

use ostler_shared::WorkerId;

use crate::Moment;
use crate::action::{Action, Answer};
use crate::event::RequestId;
use crate::note::Note;
/// One step's time and outlet, handed down to whoever acts.
pub(crate) struct Turn<'a> {
    pub(crate) now: Moment,
    pub(crate) out: &'a mut Vec<Action>,
    pub(crate) next_worker: &'a mut u64,
    pub(crate) rng: &'a mut fastrand::Rng,
}

impl Turn<'_> {
    pub(crate) fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.out.push(Action::Note(note));
    }

    /// Tells whoever waits, where somebody does.
    pub(crate) fn answer(&mut self, request: Option<RequestId>, answer: Answer) {
        self.out.extend(request.map(|request| Action::Answer { request, answer }));
    }

    pub(crate) fn new_worker_id(&mut self) -> WorkerId {
        *self.next_worker += 1;
        WorkerId(*self.next_worker)
    }
}
