//! Decides what a reload makes of the configuration in force: which pools come, go or roll, and what needs a restart.

use ostler_shared::PoolName;

use crate::checked::{Address, Config, Handoff, Owner, Pool, Supervisor};
use crate::clash::{Apart, clash, real_path};

/// What a reload is to bring about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What will be in force: the file's word for the pools that are reloaded, and what holds now for all others.
    pub config: Config,
    /// Pools that are reloaded and stay: their workers roll.
    pub rolled: Vec<PoolName>,
    /// Pools that appear.
    pub added: Vec<PoolName>,
    /// Pools that disappear.
    pub removed: Vec<PoolName>,
}

/// Plans the reload of the pools `only` (all when empty) from what is in force to what the file says.
///
/// # Errors
/// With one sentence for each thing that stands against it: what it is and what to do.
pub fn plan(in_force: &Config, file: &Config, only: &[PoolName]) -> Result<Plan, Vec<String>> {
    let mut refused = Vec::new();
    supervisor(&in_force.supervisor, &file.supervisor, &mut refused);
    let names = |config: &Config| config.pools.iter().map(|pool| pool.name.clone()).collect::<Vec<_>>();
    let (old, new) = (names(in_force), names(file));
    for unknown in only.iter().filter(|name| !old.contains(name) && !new.contains(name)) {
        refused.push(format!("there is no pool {unknown}, neither in the file nor in force: see `ostler status`"));
    }
    let chosen = |name: &PoolName| only.is_empty() || only.contains(name);
    let stays = |name: &PoolName| if chosen(name) { new.contains(name) } else { old.contains(name) };
    let of = |config: &Config, name: &PoolName| config.pools.iter().find(|pool| pool.name == *name).cloned();
    // In the order of the file; those that it does not know any more, and that stay all the same, at the end.
    let order = new.iter().chain(old.iter().filter(|name| !new.contains(name))).filter(|name| stays(name));
    let pools: Vec<Pool> = order.filter_map(|name| of(if chosen(name) { file } else { in_force }, name)).collect();
    if pools.iter().all(|pool| pool.owner() == Owner::Ostler) {
        refused.push("no pool would be left: write one into the file, or use `ostler stop`".to_owned());
    }
    let rolled = pools.iter().filter_map(|new| Some((in_force.pools.iter().find(|old| old.name == new.name)?, new)));
    rolled.for_each(|(old, new)| handoff(old, new, &mut refused));
    apart(&pools, &chosen, &mut refused);
    if !refused.is_empty() {
        return Err(refused);
    }
    Ok(Plan {
        rolled: old.iter().filter(|name| chosen(name) && new.contains(name)).cloned().collect(),
        added: new.iter().filter(|name| chosen(name) && !old.contains(name)).cloned().collect(),
        removed: old.iter().filter(|name| chosen(name) && !new.contains(name)).cloned().collect(),
        config: Config { supervisor: file.supervisor.clone(), pools },
    })
}

fn supervisor(old: &Supervisor, new: &Supervisor, refused: &mut Vec<String>) {
    // Named one by one, so that a new key must be decided about here.
    let Supervisor { control, pid_file, stop_timeout: _, shutdown_delay: _, on_pool_failed: _, log: _ } = old;
    if *control != new.control {
        refused.push(fixed("supervisor.control"));
    }
    if *pid_file != new.pid_file {
        refused.push(fixed("supervisor.pid_file"));
    }
}

/// While a pool rolls, connections would lie in our hands that nobody of its new generation takes from there.
fn handoff(old: &Pool, new: &Pool, refused: &mut Vec<String>) {
    let by_itself = |pool: &Pool| pool.handoff == Handoff::Listen;
    if by_itself(old) != by_itself(new) {
        refused.push(format!(
            "pool.{}.handoff cannot change to or from \"listen\" by a reload: put it back, add a pool of another name, or \
             restart ostler",
            new.name
        ));
    }
}

fn fixed(path: &str) -> String {
    format!("{path} cannot change by a reload: put it back, or restart ostler")
}

/// Within one file addresses are apart. Where only some pools are reloaded, two files meet.
fn apart(pools: &[Pool], chosen: &impl Fn(&PoolName) -> bool, refused: &mut Vec<String>) {
    for (number, pool) in pools.iter().enumerate() {
        for other in pools[number + 1..].iter().filter(|other| chosen(&other.name) != chosen(&pool.name)) {
            let pairs = pool.listen.iter().flat_map(|a| other.listen.iter().map(move |b| (a, b)));
            for (address, _) in pairs.filter(|(a, b)| clash(a, b, Apart::OtherPool).is_some()) {
                let (taker, owner) =
                    if chosen(&pool.name) { (&pool.name, &other.name) } else { (&other.name, &pool.name) };
                refused.push(format!(
                    "pool.{taker} cannot have {address}, which pool.{owner} has and keeps: reload {owner} as well"
                ));
            }
        }
    }
}

impl Address {
    /// Whether a listener on `self`, of the pool `own`, can serve as the one that the pool `wanted` wants on `other`.
    #[must_use]
    pub fn serves_as(&self, own: &PoolName, other: &Address, wanted: &PoolName) -> bool {
        match (self, other) {
            (Address::UnixPath { path: a, .. }, Address::UnixPath { path: b, .. }) => real_path(a) == real_path(b),
            // Each port 0 is a port of its own.
            (Address::Tcp(a), Address::Tcp(b)) if a.port() == 0 => a == b && own == wanted,
            (a, b) => a == b,
        }
    }

    /// Why one process cannot listen on both, if it cannot.
    #[must_use]
    pub fn collides_with(&self, other: &Address) -> Option<&'static str> {
        clash(self, other, Apart::OtherPool)
    }
}
