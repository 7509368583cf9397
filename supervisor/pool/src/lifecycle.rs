//! Says what becomes of a worker: every state, every input, one table.
//!
//! ```text
//! Starting ──Ready──▶ Ready ──Drain──▶ Draining ──Deadline──▶ Terminating ──▶ Aborting ──▶ Killing
//!     │                └────────────Wedged────────────────────────────────────────────▲
//!     └─────────── anything that ends it ────────────────────────▲
//! ```
//! A worker that is asked for nothing has no deadline while it is Ready (I7); that it stands still is found out by looking. Death is not an input: it ends the
//! worker in whatever state it is. `docs/lifecycle.md` is printed from [`table`] and held by a test.

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Spawned, not READY. Deadline: `start.ready_timeout`.
    Starting,
    /// Takes connections. No deadline.
    Ready,
    /// Takes no more, finishes what it has. Deadline: `drain.timeout`.
    Draining,
    /// Got TERM. Deadline: half of `drain.kill_after`.
    Terminating,
    /// Got TERM in a hurry. Deadline: two seconds.
    TerminatingFast,
    /// Got ABRT. Deadline: the other half of `drain.kill_after`; all of it for one that was Wedged.
    Aborting,
    /// Got KILL. Deadline: `drain.kill_after`, then KILL again.
    Killing,
}

/// What can befall a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// It says that it is ready.
    Ready,
    /// It is to finish and leave.
    Drain,
    /// It is to leave at once.
    Hurry,
    /// It broke the protocol.
    Misbehaved,
    /// It says that it leaves, or closed its control channel or its mailbox.
    HungUp,
    /// It serves and stands still.
    Wedged,
    /// The deadline of its state has passed.
    Deadline,
}

/// What the transition asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// It may be handed connections.
    Serve,
    /// It is told to drain.
    TellDrain,
    /// It is handed nothing more; what it has not claimed is recalled.
    HandNothing,
    /// TERM to its process group.
    Term,
    /// ABRT to its process group.
    Abort,
    /// KILL to its process group.
    Kill,
}

/// Every state, in the order of a life.
pub const STATES: [State; 7] = [
    State::Starting,
    State::Ready,
    State::Draining,
    State::Terminating,
    State::TerminatingFast,
    State::Aborting,
    State::Killing,
];

/// Every input.
pub const INPUTS: [Input; 7] =
    [Input::Ready, Input::Drain, Input::Hurry, Input::Misbehaved, Input::HungUp, Input::Wedged, Input::Deadline];

/// The table.
#[must_use]
pub const fn next(state: State, input: Input) -> (State, Effect) {
    use Effect as E;
    use Input as I;
    use State as S;
    match (state, input) {
        (S::Starting, I::Ready) => (S::Ready, E::Serve),
        // A starting worker holds no connection, so there is nothing to finish.
        (S::Starting, I::Drain | I::Misbehaved | I::Deadline) => (S::Terminating, E::Term),
        // It is ending, most likely; its exit says more than our TERM. The deadline is shortened.
        (S::Starting, I::HungUp | I::Wedged) => (S::Starting, E::Nothing),
        (S::Starting | S::Ready | S::Draining, I::Hurry) => (S::TerminatingFast, E::Term),

        // READY twice says nothing new, and an idle worker has no deadline that could pass.
        (S::Ready, I::Ready | I::Deadline) => (S::Ready, E::Nothing),
        (S::Ready, I::Drain) => (S::Draining, E::TellDrain),
        (S::Ready, I::HungUp) => (S::Draining, E::HandNothing),
        (S::Ready | S::Draining, I::Misbehaved) => (S::Terminating, E::Term),
        // Nobody is there to hear TERM, and where it stood is what its author wants to know.
        (S::Ready, I::Wedged) => (S::Aborting, E::Abort),

        // The other states have deadlines that end a wedged worker too.
        (S::Draining, I::Ready | I::Drain | I::HungUp | I::Wedged) => (S::Draining, E::Nothing),
        (S::Draining, I::Deadline) => (S::Terminating, E::Term),

        // It has its signal; only time and a hurry count from here on.
        (S::Terminating, I::Ready | I::Drain | I::Misbehaved | I::HungUp | I::Wedged) => (S::Terminating, E::Nothing),
        (S::Terminating, I::Hurry) => (S::TerminatingFast, E::Nothing),
        (S::Terminating, I::Deadline) => (S::Aborting, E::Abort),

        (S::TerminatingFast, I::Ready | I::Drain | I::Hurry | I::Misbehaved | I::HungUp | I::Wedged) => {
            (S::TerminatingFast, E::Nothing)
        }
        (S::TerminatingFast, I::Deadline) => (S::Killing, E::Kill),

        (S::Aborting, I::Ready | I::Drain | I::Hurry | I::Misbehaved | I::HungUp | I::Wedged) => {
            (S::Aborting, E::Nothing)
        }
        (S::Aborting, I::Deadline) => (S::Killing, E::Kill),

        (S::Killing, I::Ready | I::Drain | I::Hurry | I::Misbehaved | I::HungUp | I::Wedged) => {
            (S::Killing, E::Nothing)
        }
        // A process in an uninterruptible sleep dies when it wakes; asking again costs nothing and is logged.
        (S::Killing, I::Deadline) => (S::Killing, E::Kill),
    }
}

/// How often each cell of the table was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Visits([[u64; INPUTS.len()]; STATES.len()]);

impl Visits {
    /// How often `input` befell a worker in `state`.
    #[must_use]
    pub const fn of(&self, state: State, input: Input) -> u64 {
        self.0[state as usize][input as usize]
    }

    /// Adds the visits of somebody else.
    pub fn add(&mut self, other: &Visits) {
        for (mine, theirs) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            *mine += theirs;
        }
    }

    pub(crate) fn note(&mut self, state: State, input: Input) {
        self.0[state as usize][input as usize] += 1;
    }
}

/// The table as Markdown, a row per state.
#[must_use]
pub fn table() -> String {
    let cells = |row: Vec<String>| format!("| {} |\n", row.join(" | "));
    let mut text = cells(std::iter::once("state".to_owned()).chain(INPUTS.map(|i| format!("{i:?}"))).collect());
    text += &cells(vec!["---".to_owned(); INPUTS.len() + 1]);
    for state in STATES {
        let row = INPUTS.map(|input| match next(state, input) {
            (to, Effect::Nothing) if to == state => "–".to_owned(),
            (to, Effect::Nothing) => format!("{to:?}"),
            (to, effect) => format!("{to:?}: {effect:?}"),
        });
        text += &cells(std::iter::once(format!("**{state:?}**")).chain(row).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BLESS=1 cargo test -p ostler-pool lifecycle` rewrites the page.
    #[test]
    fn the_page_in_docs_shows_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lifecycle.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("<!-- table -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end -->").unwrap();
        let wanted = format!("{before}<!-- table -->\n{}<!-- end -->{after}", table());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), wanted, "run with BLESS=1 to rewrite docs/lifecycle.md");
    }

    #[test]
    fn from_every_state_deadlines_alone_lead_to_kill_except_from_ready() {
        for start in STATES {
            let mut state = start;
            for _ in 0..STATES.len() {
                state = next(state, Input::Deadline).0;
            }
            assert_eq!(state, if start == State::Ready { State::Ready } else { State::Killing }, "from {start:?}");
        }
    }

    #[test]
    fn no_input_leads_back_to_an_earlier_state() {
        for state in STATES {
            for input in INPUTS {
                assert!(next(state, input).0 >= state, "{state:?} × {input:?}");
            }
        }
    }

    #[test]
    fn only_a_starting_worker_can_begin_to_serve() {
        for state in STATES {
            for input in INPUTS {
                let serves = next(state, input).1 == Effect::Serve;
                assert_eq!(serves, state == State::Starting && input == Input::Ready);
            }
        }
    }
}
