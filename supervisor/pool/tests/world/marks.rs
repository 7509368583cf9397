//! Counts what the histories reached, so that a simulator that no longer gets anywhere fails.

use ostler_pool::{INPUTS, Input, STATES, State, Visits};

macro_rules! marks {
    ($($(#[$doc:meta])* $mark:ident),+ $(,)?) => {
        /// Proof that the histories reached what they are for: faults first, then outcomes.
        #[derive(Debug, Default, Clone, Copy)]
        pub(crate) struct Marks { pub(crate) visits: Visits, $($(#[$doc])* pub(crate) $mark: u64),+ }

        impl Marks {
            pub(crate) fn add(&mut self, other: &Marks) {
                self.visits.add(&other.visits);
                $(self.$mark += other.$mark;)+
            }

            /// What no history reached.
            pub(crate) fn missing(&self) -> Vec<&'static str> {
                [$((stringify!($mark), self.$mark)),+].iter().filter(|(_, count)| *count == 0).map(|(name, _)| *name).collect()
            }
        }
    };
}

marks!(
    late_ready,
    never_ready,
    eof_before_death,
    death_before_eof,
    late_burial,
    refused_busy,
    refused_closed,
    stopped,
    several_stopped,
    continued,
    term_while_stopped,
    stood_still,
    turned_again,
    absent,
    marked_what_is_not_its,
    probe_unanswered_by_a_stopped_worker,
    idle_worker_answered_a_probe,
    spawn_failed,
    templates,
    forked,
    fork_refused,
    not_answered,
    exec_failed,
    lost_doorbell,
    early_doorbell,
    batch_published,
    record_lost_unpublished,
    record_read_after_death,
    client_hung_up,
    taken,
    unrecorded,
    miscounted,
    swept,
    accept_starved,
    recall_starved,
    stale_news,
    lied,
    completed_what_was_recalled,
    reloaded,
    undone,
    undo_stuck,
    surged,
    pools_added,
    pool_on_trial_given_up,
    pool_removed,
    listener_added,
    listener_taken_away,
    binding_failed,
    opening_failed,
    opened_again,
    closed_unopened,
    closed_open,
    closed_half_open,
    followed_a_canary,
    died_on_probation,
    committed_after_probation,
    restarted,
    not_restarted,
    pause_answered,
    resumed,
    not_resumed,
    resumed_slowly,
    hup_while_paused,
    stopped_while_paused,
    scaled,
    grown,
    shrunk,
    from_zero,
    to_zero,
    worn_by_requests,
    worn_by_age,
    worn_by_memory,
    worn_by_wish,
    recycled,
    recycled_together,
    recycled_as_wished,
    not_recycled,
    recycling_put_off,
    recycling_failed,
    recycling_futile,
    killed,
    recalled,
    recalled_nothing,
    redelivered,
    lost,
    prefetched,
    doubtful,
    stuck,
    stuck_again,
    stuck_at_a_stop,
    stuck_and_replaced,
    unstuck,
    silent,
    silent_while_idle,
    silent_with_connections,
    silent_at_a_stop,
    beat_when_doubted,
    overdue,
    overdue_unmarked,
    overdue_at_a_stop,
    slow,
    idle_for_longer_than_a_request,
    queue_full,
    queue_timeout,
    client_gone,
    per_uid,
    pressed,
    relieved,
    shed_stopping,
    paused,
    pool_failed,
    start_failed,
    brought_down,
    stop_delayed,
    came_during_a_delay,
    delay_cut_short,
    pool_failed_during_a_delay,
);

/// Why no event leads to a cell of the table of a worker's life, where that is so.
fn unreachable(state: State, input: Input) -> Option<&'static str> {
    match (state, input) {
        (State::Ready, Input::Deadline) => Some("a READY worker has no deadline (I7)"),
        (
            State::Draining | State::Terminating | State::TerminatingFast | State::Aborting | State::Killing,
            Input::Drain,
        ) => Some("only an incumbent or a successor is drained, and whoever leaves is neither"),
        (
            State::Starting
            | State::Draining
            | State::Terminating
            | State::TerminatingFast
            | State::Aborting
            | State::Killing,
            Input::Wedged,
        ) => Some("only who serves is looked at"),
        (State::TerminatingFast, Input::Hurry) => Some("a hurry makes it, and a second one is refused before"),
        (State::Starting | State::Ready | State::Draining | State::Terminating, _)
        | (State::TerminatingFast | State::Aborting | State::Killing, _) => None,
    }
}

impl Marks {
    /// # Panics
    /// When something was not reached, or something was that is thought unreachable.
    pub(crate) fn assert_all_reached(&self) {
        assert_eq!(self.missing(), Vec::<&str>::new(), "no history reached these");
        let cells = || STATES.into_iter().flat_map(|state| INPUTS.map(|input| (state, input)));
        let wrong = |(state, input): &(State, Input)| {
            (self.visits.of(*state, *input) > 0) == unreachable(*state, *input).is_some()
        };
        let wrong: Vec<(State, Input)> = cells().filter(wrong).collect();
        assert!(wrong.is_empty(), "reached though thought unreachable, or the other way round: {wrong:?}");
    }
}
