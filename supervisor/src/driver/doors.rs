//! Keeps the doors: which listener serves which pool, and what a reload makes of them.
//!
//! ```text
//! bound aside ─▶ opened ─▶ serves a pool ─▶ refuses new clients ─▶ empty: closed
//!      └────────────┴─▶ closed again, when the reload is undone
//! ```
//! What can fail is done before a reload commits: binding when the file is read, listen(2) and new permissions at the last
//! moment. Between binding and listen(2) the kernel refuses clients, so that nobody waits at an address that never comes
//! to be.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use ostler_config::Config;
use ostler_config::checked::{self, Address, Handoff, Pool};
use ostler_pool::{Event, NoConfig, PoolNo};
use ostler_shared::PoolName;
use ostler_shared::sys::socket::local_address;

use super::Driver;
use super::accepting::{Stage, Watch};
use super::entrances::Entrances;
use super::listeners::{ListenError, Listener, Tenure, Waiting};
use super::listening::Listeners;
use super::notify::Manager;
use super::store;

/// A listener and what is done with it.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) pool: PoolNo,
    pub(crate) place: Arc<Place>,
    /// Its place in the pool's configuration.
    pub(crate) index: u32,
    /// What it was opened as.
    address: Address,
    options: checked::Socket,
    pub(crate) listener: Listener,
    pub(crate) watch: Watch,
    pub(crate) stage: Stage,
    pub(crate) fate: Fate,
    pub(crate) taker: Taker,
}

/// Where a connection came in, for people.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) pool: PoolName,
    pub(crate) listener: String,
}

/// Who takes connections at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taker {
    /// We do, and hand them out.
    Supervisor,
    /// Each worker for itself.
    Workers,
}

impl Taker {
    fn of(pool: &Pool) -> Taker {
        match pool.handoff {
            Handoff::Pass | Handoff::Accept | Handoff::Stdio => Taker::Supervisor,
            Handoff::Listen => Taker::Workers,
        }
    }
}

/// Whether a door stays with its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// As long as the pool has it.
    Stays,
    /// It closes when who waits there was accepted: the pool has it no more.
    Closes,
}

/// A listener of a reload that is not complete.
#[derive(Debug)]
struct Aside {
    pool: PoolName,
    index: u32,
    address: Address,
    options: checked::Socket,
    listener: Listener,
    taker: Taker,
}

impl Aside {
    /// Lets clients in before the reload is complete where workers accept for themselves: a program can do nothing with a socket
    /// that does not listen, and has to show that it works.
    fn begin_for_workers(&mut self) -> Result<(), String> {
        match self.taker {
            Taker::Supervisor => Ok(()),
            Taker::Workers => {
                self.listener.begin(&self.address, &self.options).map_err(|error| error.to_string())?;
                let set = self.listener.set_waiting(Waiting::Yes);
                set.map_err(|error| format!("cannot let programs wait at {}: {error}", self.listener.shown))
            }
        }
    }
}

/// All doors.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    by_number: BTreeMap<u64, Door>,
    /// Never reused: an event of a door that is gone finds nothing.
    next: u64,
    names: BTreeMap<PoolNo, PoolName>,
    /// Whether the pool wants its doors watched.
    watches: BTreeMap<PoolNo, Watch>,
    /// Pools that let nobody new in and have not heard that nobody is left.
    pub(super) refusing: BTreeSet<PoolNo>,
    aside: Vec<Aside>,
    /// What a reload is to bring.
    coming: Option<Arc<Config>>,
    /// Doors that have the options of a reload that is not complete.
    adjusted: Vec<u64>,
}

impl Doors {
    /// Opens everything that the configuration names.
    ///
    /// # Errors
    /// [`ListenError`]; what was opened is closed again.
    pub(crate) fn open(config: &Config, entrances: &mut Entrances) -> Result<Doors, ListenError> {
        let mut doors = Doors::default();
        for (number, pool) in config.pools.iter().enumerate() {
            doors.names.insert(PoolNo(number), pool.name.clone());
            for (index, address) in indexed(pool) {
                for listener in entrances.open(address, &pool.socket)? {
                    let taker = Taker::of(pool);
                    if taker == Taker::Workers
                        && let Err(error) = listener.set_waiting(Waiting::Yes)
                    {
                        tracing::warn!("cannot let programs wait at {}: {error}", listener.shown);
                    }
                    let (name, address, options) = (pool.name.clone(), address.clone(), pool.socket.clone());
                    doors.insert(PoolNo(number), Aside { pool: name, index, address, options, listener, taker });
                }
            }
        }
        Ok(doors)
    }

    fn insert(&mut self, pool: PoolNo, new: Aside) -> u64 {
        let Aside { pool: name, index, address, options, listener, taker } = new;
        tracing::info!(pool = %name, "listening on {}", listener.shown);
        let number = self.next;
        self.next += 1;
        let place = Arc::new(Place { pool: name, listener: listener.shown.clone() });
        let (watch, stage, fate) = (Watch::Off, Stage::Open, Fate::Stays);
        self.by_number
            .insert(number, Door { pool, place, index, address, options, listener, watch, stage, fate, taker });
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Door> {
        self.by_number.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Door> {
        self.by_number.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Door> {
        self.by_number.remove(&number)
    }

    /// Every door with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Door)> {
        self.by_number.iter().map(|(number, door)| (*number, door))
    }

    /// The doors of a pool.
    pub(crate) fn of(&self, pool: PoolNo) -> impl Iterator<Item = (u64, &Door)> {
        self.iter().filter(move |(_, door)| door.pool == pool)
    }

    /// Where a pool listens, or is about to: addresses as the kernel writes them, in the order of the configuration.
    ///
    /// # Errors
    /// As getsockname(2).
    pub(super) fn addresses_of(&self, pool: PoolNo, name: &PoolName) -> io::Result<Vec<Vec<u8>>> {
        let open = self.of(pool).map(|(_, door)| (door.index, &door.listener));
        let coming = self.aside.iter().filter(|aside| aside.pool == *name).map(|aside| (aside.index, &aside.listener));
        let mut all: Vec<(u32, &Listener)> = open.chain(coming).collect();
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, listener)| local_address(listener.as_fd())).collect()
    }

    /// The listeners of a worker that accepts for itself, in the order of its configuration, with what the service manager calls
    /// them, or else their pool.
    ///
    /// # Errors
    /// When they can't be copied.
    pub(super) fn listeners_of(&self, no: PoolNo, pool: &Pool) -> io::Result<Listeners> {
        let mut found = Listeners::default();
        for (index, address) in indexed(pool) {
            let name = match address {
                Address::Given(name) => name.as_str(),
                Address::UnixPath { .. } | Address::UnixAbstract(_) | Address::Tcp(_) => pool.name.as_str(),
            };
            let there = self.serving_as(address, &pool.name).into_iter().filter_map(|number| self.get(number));
            let open = there.filter(|door| door.fate == Fate::Stays).map(|door| &door.listener);
            let coming = |aside: &&Aside| aside.pool == pool.name && aside.index == index && aside.address == *address;
            let coming = self.aside.iter().filter(coming).map(|aside| &aside.listener);
            open.chain(coming).try_for_each(|listener| found.add(listener, name))?;
        }
        match found.is_empty() {
            true => Err(io::Error::other(format!("pool {} ({}) has no listener", pool.name, no.0))),
            false => Ok(found),
        }
    }

    /// What a reload that is not complete brings to a pool.
    pub(super) fn coming_for(&self, name: &PoolName) -> impl Iterator<Item = &Listener> {
        self.aside.iter().filter(move |aside| aside.pool == *name).map(|aside| &aside.listener)
    }

    pub(super) fn numbers_of(&self, pool: PoolNo) -> Vec<u64> {
        self.of(pool).map(|(number, _)| number).collect()
    }

    /// What a pool is called, for the log.
    pub(super) fn name_of(&self, pool: PoolNo) -> &str {
        self.names.get(&pool).map_or("?", PoolName::as_str)
    }

    pub(super) fn want(&mut self, pool: PoolNo, watch: Watch) {
        self.watches.insert(pool, watch);
    }

    fn wanted(&self, pool: PoolNo) -> Watch {
        self.watches.get(&pool).copied().unwrap_or(Watch::Off)
    }

    /// The door that serves as this one of a configuration.
    fn serving_as(&self, address: &Address, pool: &PoolName) -> Vec<u64> {
        let same =
            |door: &Door| self.names.get(&door.pool).is_some_and(|own| door.address.serves_as(own, address, pool));
        self.iter().filter(|(_, door)| same(door)).map(|(number, _)| number).collect()
    }

    /// Gives copies of our listeners to a service manager that keeps them for our next start.
    pub(super) fn leave_with(&mut self, manager: Option<&Manager>) {
        let (room, Some(manager)) = (store::room(), manager) else { return };
        // What was given has a keeper already, and what is stored is.
        let stored = self.by_number.values().filter(|door| is_stored(door)).count();
        let own =
            self.by_number.values_mut().filter(|door| !is_stored(door) && !matches!(door.address, Address::Given(_)));
        for (number, door) in own.filter(|door| room > 0 && door.fate == Fate::Stays).enumerate() {
            if stored + number < room {
                store::store(manager, &door.address, &mut door.listener);
            } else {
                tracing::warn!(
                    "the service manager has no room for {}: raise FileDescriptorStoreMax={room}, or who connects during \
                     a restart is refused",
                    door.listener.shown
                );
            }
        }
    }
}

fn is_stored(door: &Door) -> bool {
    door.listener.tenure == Tenure::Shared && !matches!(door.address, Address::Given(_))
}

fn indexed(pool: &Pool) -> impl Iterator<Item = (u32, &Address)> {
    pool.listen
        .iter()
        .enumerate()
        .map(|(index, address)| (u32::try_from(index).expect("a pool has few listeners"), address))
}

impl Driver {
    // ── before the commit ──────────────────────────────────────────────────────────────────────────────────

    /// Binds what a new configuration adds; answers with what the pools are to go to.
    pub(super) fn prepare(&mut self, config: Result<Arc<Config>, String>) -> Result<Arc<Config>, NoConfig> {
        let config = config.map_err(NoConfig::Unusable)?;
        match self.bind_aside(&config) {
            Ok(()) => {
                self.doors.coming = Some(Arc::clone(&config));
                Ok(config)
            }
            Err(why) => {
                self.close_aside();
                Err(NoConfig::CannotListen(why))
            }
        }
    }

    fn bind_aside(&mut self, config: &Config) -> Result<(), String> {
        for pool in &config.pools {
            for (index, address) in indexed(pool) {
                let there = self.doors.serving_as(address, &pool.name);
                let closing =
                    there.iter().filter_map(|number| self.doors.get(*number)).find(|door| door.fate == Fate::Closes);
                if let Some(door) = closing {
                    return Err(format!(
                        "cannot listen on {}: an earlier reload took it away, and its last clients are being accepted; try \
                         again in a moment",
                        door.listener.shown
                    ));
                }
                if there.is_empty() {
                    self.is_free(address)?;
                    let bound = self.entrances.bind(address, &pool.socket).map_err(|error| error.to_string())?;
                    for listener in bound {
                        let (name, address, options) = (pool.name.clone(), address.clone(), pool.socket.clone());
                        let taker = Taker::of(pool);
                        self.doors.aside.push(Aside { pool: name, index, address, options, listener, taker });
                        self.doors.aside.last_mut().map_or(Ok(()), Aside::begin_for_workers)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// An address that overlaps one of ours would be blamed on somebody else.
    fn is_free(&self, address: &Address) -> Result<(), String> {
        let taken = self.doors.iter().find_map(|(_, door)| Some((door, door.address.collides_with(address)?)));
        match taken {
            Some((door, why)) => Err(format!(
                "cannot listen on {address} beside {}, which this supervisor has ({why}): take that away by a reload first",
                door.listener.shown
            )),
            None => Ok(()),
        }
    }

    /// Lets clients connect to what is new, and gives what stays its new options.
    pub(super) fn open_listeners(&mut self) {
        // What fails more often comes first.
        let outcome = self.adjust_doors().and_then(|()| self.begin_aside());
        self.events.push_back(Event::ListenersOpened { outcome });
    }

    fn begin_aside(&mut self) -> Result<(), String> {
        for Aside { address, options, listener, .. } in &mut self.doors.aside {
            listener.begin(address, options).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn adjust_doors(&mut self) -> Result<(), String> {
        let Some(coming) = self.doors.coming.clone() else { return Ok(()) };
        for pool in &coming.pools {
            let doors = pool.listen.iter().flat_map(|address| self.doors.serving_as(address, &pool.name));
            for number in doors.collect::<Vec<_>>() {
                let Some(door) = self.doors.get(number).filter(|door| door.options != pool.socket) else { continue };
                let adjusted = door.listener.adjust(&door.address, &pool.socket);
                self.doors.adjusted.push(number);
                adjusted.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// The reload is undone: nothing of it stays.
    pub(super) fn close_aside(&mut self) {
        for Aside { address, listener, .. } in std::mem::take(&mut self.doors.aside) {
            self.entrances.give_back(&address, listener);
        }
        self.doors.coming = None;
        self.log_aside = None;
        for number in std::mem::take(&mut self.doors.adjusted) {
            let Some(door) = self.doors.get(number) else { continue };
            if let Err(error) = door.listener.adjust(&door.address, &door.options) {
                tracing::warn!("cannot give {} its previous options again: {error}", door.listener.shown);
            }
        }
    }

    // ── after the commit ───────────────────────────────────────────────────────────────────────────────────

    /// From now on `config` holds: doors change their pools, new ones serve, and those that it does not have close.
    pub(super) fn adopt(&mut self, config: Arc<Config>, pools: &[PoolNo]) {
        self.doors.adjusted.clear();
        self.doors.coming = None;
        let mut stays = BTreeSet::new();
        // Before the names change: a port 0 belongs to the pool of its name.
        for (no, pool) in pools.iter().zip(&config.pools) {
            for (index, address) in indexed(pool) {
                for number in self.doors.serving_as(address, &pool.name) {
                    stays.insert(number);
                    self.keep_door(number, *no, index, pool);
                }
            }
        }
        self.doors.names.extend(pools.iter().copied().zip(config.pools.iter().map(|pool| pool.name.clone())));
        for aside in std::mem::take(&mut self.doors.aside) {
            let no = pools.iter().zip(&config.pools).find(|(_, pool)| pool.name == aside.pool).map(|(no, _)| *no);
            let number = self.doors.insert(no.expect("what was bound aside was bound for it"), aside);
            self.watch_door_as_wanted(number);
            stays.insert(number);
        }
        let leaves: Vec<u64> =
            self.doors.iter().map(|(number, _)| number).filter(|number| !stays.contains(number)).collect();
        for number in leaves {
            self.take_door_away(number, pools);
        }
        self.doors.leave_with(self.readiness.manager());
        self.config = config;
        self.adopt_log();
    }

    fn keep_door(&mut self, number: u64, no: PoolNo, index: u32, pool: &Pool) {
        let Some(door) = self.doors.get_mut(number) else { return };
        (door.pool, door.index, door.options, door.taker) = (no, index, pool.socket.clone(), Taker::of(pool));
        self.watch_door_as_wanted(number);
    }

    fn watch_door_as_wanted(&mut self, number: u64) {
        if let Some(door) = self.doors.get(number) {
            let watch = self.doors.wanted(door.pool);
            self.watch_door(number, watch);
        }
    }

    /// Nobody new is let in. The doors of a pool that ends follow when it says so.
    fn take_door_away(&mut self, number: u64, in_force: &[PoolNo]) {
        let manager = self.readiness.manager();
        let Some(door) = self.doors.by_number.get_mut(&number) else { return };
        if is_stored(door) {
            // Kept for a next start that would not know it any more.
            store::remove(manager, &door.address);
            door.listener.tenure = Tenure::Ours;
        }
        let before = std::mem::replace(&mut door.fate, Fate::Closes);
        if in_force.contains(&door.pool) && before == Fate::Stays {
            tracing::info!("{} takes nobody new and closes when who waits there is accepted", door.listener.shown);
            self.close_for_new(number);
        }
    }

    /// A pool is gone, and its listeners with it.
    pub(super) fn forget(&mut self, pool: PoolNo) {
        for number in self.doors.numbers_of(pool) {
            self.drop_door(number);
        }
        // A pool of the same name may have come in its place.
        if let Some(name) = self.doors.names.remove(&pool)
            && !self.doors.names.values().any(|other| *other == name)
        {
            self.log.tail().forget(&name);
        }
        self.doors.watches.remove(&pool);
        self.doors.refusing.remove(&pool);
        self.pressures.remove(&pool);
    }

    pub(super) fn drop_door(&mut self, number: u64) {
        self.watch_door(number, Watch::Off);
        if let Some(Door { address, listener, .. }) = self.doors.remove(number) {
            tracing::info!("no longer listening on {}", listener.shown);
            self.entrances.give_back(&address, listener);
        }
    }
}
