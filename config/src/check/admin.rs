//! Checks `[admin]`, and makes the pool that serves it: one worker of ostler's own, last among the pools.
//!
//! What it may and how much it takes is decided here and by no key. It reads what is published and needs no rights for that,
//! so under a supervisor of root's it is [`UNPRIVILEGED`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ostler_shared::PoolName;

use super::Site;
use super::listen::Listeners;
use super::pool::default_pool;
use crate::asked::Typed;
use crate::caller::{Caller, Right};
use crate::checked::{Account, Drain, Handoff, Inherit, NewPrivileges, Pool, Process, Program, Workers};
use crate::limits::ADMIN_CONCURRENCY;
use crate::load::Programs;
use crate::mistakes::{Fault, Mistake};
use crate::owner;
use crate::program;
use crate::raw::{RawTable, Shape};

/// The pool's name. It is anybody's where there is no `[admin]`.
const ADMIN_POOL: &str = "admin";
/// The user of its worker where the supervisor is root's: nobody, by the number that every Linux gives it.
const UNPRIVILEGED: u32 = 65_534;
/// How long its worker may take to leave. It lets everybody go after five seconds.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

/// The pool of `[admin]`; `None` where there is none, or what is wrong with it was reported.
pub(super) fn admin(
    root: &RawTable<'_>,
    names: &[&Typed<&str>],
    site: &Site<'_>,
    kill_after_max: Duration,
    listeners: &mut Listeners,
    mistakes: &mut Vec<Mistake>,
) -> Option<Pool> {
    let table = root.table(ADMIN_POOL, mistakes);
    // One that is no table was reported just now.
    if root.shape(ADMIN_POOL) != Shape::Table {
        return None;
    }
    if let Some(taken) = names.iter().find(|name| name.value == ADMIN_POOL) {
        let message = format!("{ADMIN_POOL:?} is the name of the pool that [admin] makes");
        let remedy = "give this pool another name, or remove [admin]";
        mistakes.push(taken.refuse(Fault::new(message, "taken", remedy)));
    }
    let listen = listeners.of_admin(&table, site, mistakes)?;
    let process = process(site.caller);
    if site.programs == Programs::MustExist
        && let Some(fault) = program::cannot_run_own("ostler, which serves [admin],", &process)
    {
        mistakes.extend(table.refuse("listen", fault));
    }
    let name: PoolName = ADMIN_POOL.parse().expect("it is the name of a pool");
    let pool = default_pool(name, Program::Admin, vec![listen]);
    Some(Pool {
        workers: Workers::Fixed(1),
        concurrency: ADMIN_CONCURRENCY,
        // Who asks what a supervisor does that stands still must not wait for it.
        handoff: Handoff::Listen,
        drain: Drain { timeout: LEAVES_WITHIN, kill_after: pool.drain.kill_after.min(kill_after_max), ..pool.drain },
        process,
        ..pool
    })
}

/// Whom its worker runs as, and what it is given: as little as there is.
fn process(caller: &Caller) -> Process {
    let process = Process {
        cwd: Some(PathBuf::from("/")),
        umask: Some(0o077),
        env_keep: Inherit::Only(BTreeSet::new()),
        new_privileges: NewPrivileges::Never,
        ..Process::inherited()
    };
    if caller.uid != 0 || !caller.missing(&[Right::User, Right::Groups, Right::Kill]).is_empty() {
        return process;
    }
    // Without an entry in the user database the number does.
    let unknown = Account { uid: UNPRIVILEGED, entry: None };
    let account = owner::account(&UNPRIVILEGED.to_string()).unwrap_or(unknown);
    let group = account.entry.as_ref().map_or(UNPRIVILEGED, |entry| entry.group);
    Process { user: Some(account), group: Some(group), groups: Some(Vec::new()), ..process }
}
