//! Says what was typed means: fills in defaults and refuses what cannot work on this machine.

mod admin;
mod environment;
mod identity;
mod listen;
mod pool;
mod process;
mod queue;
mod recycle;
mod rlimits;
mod supervisor;
mod watchdog;
mod workers;

pub(crate) use pool::{concurrency_of, default_pool, recall_after_of};
pub(crate) use queue::default_queue;
pub(crate) use rlimits::shown as shown_limit;
pub(crate) use supervisor::default_supervisor;

use std::path::Path;

use toml::de::DeTable;

use crate::address::Lookup;
use crate::caller::Caller;
use crate::checked::Config;
use crate::limits::POOLS_MAX;
use crate::load::Programs;
use crate::mistakes::{Fault, Mistake};
use crate::raw::RawTable;

/// What reading depends on beside the text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// What relative paths are relative to; absolute.
    pub(crate) dir: &'a Path,
    /// How host names are found.
    pub(crate) lookup: Lookup,
    /// Whether programs have to be there.
    pub(crate) programs: Programs,
    /// What this process may do.
    pub(crate) caller: &'a Caller,
}

/// The meaning of a file. Whenever it is `None`, something was added to `mistakes`; when it is not, the
/// caller must still look there.
pub(crate) fn check(root: &DeTable<'_>, site: &Site<'_>, mistakes: &mut Vec<Mistake>) -> Option<Config> {
    let root = RawTable::root(root, mistakes);
    let supervisor = supervisor::supervisor(&root.table("supervisor", mistakes), site, mistakes);
    let before = mistakes.len();
    let tables = root.tables("pool", mistakes);
    // What stands in the place of the pools and is no table was reported just now.
    if tables.is_empty() && mistakes.len() == before {
        root.lacks_pool(mistakes);
    }
    if let Some((name, _)) = tables.get(POOLS_MAX) {
        let message = format!("is one pool too many, the limit is {POOLS_MAX}");
        mistakes.push(name.refuse(Fault::new(message, "too many", "run a second supervisor")));
    }
    let mut pools = Vec::new();
    let mut listeners = listen::Listeners::new(&supervisor.control);
    // Beyond the limit nothing is looked at: the work must not grow with what was refused.
    for (name, table) in tables.iter().take(POOLS_MAX) {
        let pool = pool::pool(name, table, site, &supervisor, &mut listeners, mistakes);
        pools.extend(pool);
    }
    let names: Vec<_> = tables.iter().map(|(name, _)| name).collect();
    let stop_timeout = supervisor.stop_timeout.in_force(supervisor::STOP_TIMEOUT).unwrap_or(supervisor::STOP_TIMEOUT);
    let shutdown_delay = supervisor.shutdown_delay.in_force(supervisor::SHUTDOWN_DELAY).unwrap_or_default();
    let kill_after_max = stop_timeout.saturating_sub(shutdown_delay);
    let admin = admin::admin(&root, &names, site, kill_after_max, &mut listeners, mistakes);
    let complete = !pools.is_empty() && pools.len() == tables.len();
    pools.extend(admin);
    complete.then(|| Config { supervisor: supervisor.into_checked(), pools })
}
