//! Decides what happens to connections and workers: ostler's pure core.
//!
//! In goes `(now, Event)`, out come [`Action`]s; [`Pools::next_deadline`] says when to come back without an event.
//! The same events, times and seed give the same actions (I10), so that any bug is a list of events.
//!
//! Deliberately absent: descriptors, pids, clocks, environment, threads, logs, and any other source of chance than
//! the seeded generator. The driver owns all of these. A lie told by a worker becomes `Misbehaved`; a contradiction
//! in our own books is a panic, in production too (I1).
#![forbid(unsafe_code)]

mod action;
mod balance;
mod books;
mod event;
mod lifecycle;
mod line;
mod moment;
mod note;
mod overdue;
mod pool;
mod pools;
mod quantiles;
mod reason;
mod restart;
mod snapshot;
mod tally;
mod template;
mod timers;
mod turn;
mod worker;

pub use action::{Action, Answer, Ended, Origin, Step};
pub use event::{
    Change, Event, Exit, HangUp, Marks, NoConfig, NotForked, PoolNo, Pulse, Refusal, RequestId, Settings, Sign, Uid,
    Urgency,
};
pub use lifecycle::{Effect, INPUTS, Input, STATES, State, Visits, next, table};
pub use moment::Moment;
pub use note::{Note, Rescaled};
pub use pools::Pools;
pub use reason::{Cause, Failure, Setback, SetbackStage, Shed, StopCount, Wear, What};
pub use snapshot::{
    PoolSnapshot, PoolState, Quantile, ReloadOutcome, ShedCounts, Tells, TemplateSnapshot, Timer, Totals,
    WorkerSnapshot, WorkerState,
};

/// A worker is not started more often than this in one slot.
pub const SPAWN_SPACING: std::time::Duration = std::time::Duration::from_millis(100);
/// Most workers that are started in one step of a pool …
pub const SPAWN_BATCH_MAX: u32 = 32;
/// … and how long until the next step.
pub const SPAWN_BATCH_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);
/// Most workers of a pool that start at a time. Beyond it the next one waits until one is READY or gone: a thousand
/// that start at once keep each other, and the loop that has to welcome them, from ever being in time.
pub const STARTING_MAX: u32 = 64;
/// A template that is asked for a worker answers within this time, or is killed and replaced.
pub const FORK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a worker that refused a connection for want of room in the kernel is left alone.
pub const REFUSED_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
/// How long accepting pauses after the process ran out of descriptors or memory.
pub const STARVED_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// How long a worker that closed its control channel may take to die by itself: its descriptors are closed just
/// before the kernel says that it has ended.
pub const HANGUP_GRACE: std::time::Duration = std::time::Duration::from_millis(250);
/// From TERM to KILL in a fast stop.
pub const FAST_KILL_AFTER: std::time::Duration = std::time::Duration::from_secs(2);
/// A worker that loses so many connections while it lives, for want of descriptors or with its children, is replaced.
pub const LOST_MAX: usize = 1024;
/// The ring of a worker that accepts for itself holds at least so many records: it waits for nobody to read them.
pub const OWN_RECORDS_MIN: u32 = 1024;
/// What a worker leaves unclaimed while nobody has room is taken back after this time at the latest, so that it is
/// subject to the line's deadline again.
pub const UNCLAIMED_MAX: std::time::Duration = std::time::Duration::from_secs(1);
/// A worker that was found stuck again and again is left alone for this time at most after a sign of life.
pub const STUCK_REST_MAX: std::time::Duration = std::time::Duration::from_secs(1);
/// Between two looks at one worker's heartbeat there is at least this time, whatever the worker says of it.
pub const PULSE_SPACING_MIN: std::time::Duration = std::time::Duration::from_millis(100);
/// The same between two looks at one worker's marks.
pub const MARKS_SPACING_MIN: std::time::Duration = std::time::Duration::from_millis(100);
/// How often the memory of workers is looked at, in pools that limit it.
pub const MEASURE_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
/// Shed connections are noted at most this often per pool.
pub const SHED_NOTE_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
/// Who asked for the end of a pause is told that it takes long after the time that its workers may take to be READY
/// and this, for the rest between two workers of a slot.
pub const RESUME_SLACK: std::time::Duration = std::time::Duration::from_secs(1);
/// Workers are told how full the line is in steps of so many thousandths of `queue.limit`.
pub const PRESSURE_STEP: u16 = 50;
/// Most workers that a pool can be scaled to.
pub const WORKERS_MAX: u32 = 4096;
/// A line counts as standing when nobody was served in time for so long. A pool with a range of workers grows at most so
/// often, to at most twice its size.
pub const SCALE_WINDOW: std::time::Duration = std::time::Duration::from_millis(100);
