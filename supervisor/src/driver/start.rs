//! Prepares everything that can fail before the first worker starts, so that afterwards nothing has to.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;
use ostler_config::Config;
use ostler_pool::Pools;

use super::Driver;
use super::board::BoardWriter;
use super::clock::Clock;
use super::doors::Doors;
use super::entrances::Entrances;
use super::farewells::Farewells;
use super::hooks::Hooks;
use super::jobs::Jobs;
use super::limits::{self, TooFew};
use super::listeners::{ListenError, errno_of};
use super::oom::KillCounter;
use super::owners::Owners;
use super::parking::Parking;
use super::pid_file::{PidFile, Unwritten};
use super::publishing::Publishing;
use super::ready::Readiness;
use super::rings::Rings;
use super::signals::Signals;
use super::sources::{Source, Sources};
use super::templates::Nursery;
use super::visits::Visits;
use crate::control::place::{self, PlaceError};
use crate::control::server::Server;
use crate::deaths::Deaths;
use crate::inherited::Inherited;
use crate::logging::Logging;

/// What a supervisor is started with.
pub(crate) struct Setup {
    pub(crate) config: Config,
    /// Reads the configuration as it is on disk, for reloads.
    pub(crate) reread: Arc<dyn Fn() -> Result<Config, String> + Send + Sync>,
    /// What this process was started with.
    pub(crate) inherited: Inherited,
    /// Feeds what is left to chance (I10).
    pub(crate) seed: u64,
    /// The library for unmodified programs, where a pool needs it.
    pub(crate) shim: Option<PathBuf>,
    /// The log, which is at work already.
    pub(crate) log: Logging,
}

/// Why a supervisor does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The configuration needs more than this machine gives.
    #[error(transparent)]
    Limits(#[from] TooFew),
    /// A listener can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There is no place for the control socket.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The pid can't be written.
    #[error(transparent)]
    PidFile(#[from] Unwritten),
    /// The system refuses something basic.
    #[error("cannot start: {0}{remedy}", remedy = remedy(.0))]
    Io(#[from] io::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match errno_of(error) {
        Errno::EMFILE | Errno::ENFILE => " (no descriptors: raise the limit, ulimit -n or fs.file-max)",
        Errno::EAGAIN => " (this user or this group of processes may have no more: raise `ulimit -u` or pids.max)",
        Errno::ENOSPC => " (raise fs.epoll.max_user_watches)",
        Errno::ENOMEM => " (no memory)",
        _ => "",
    }
}

impl Driver {
    /// Opens everything and starts the first workers.
    ///
    /// # Errors
    /// [`StartError`]; whatever was opened is closed and unlinked again.
    pub(crate) fn start(setup: Setup) -> Result<Driver, StartError> {
        let limits = limits::raise()?;
        limits::check(&setup.config, limits.hard)?;
        let sources = Sources::new()?;
        let signals = Signals::new()?;
        let jobs = Jobs::start()?;
        let control = control_path(&setup.config)?;
        let server = Server::open(&control)?;
        let mut entrances = Entrances::new(setup.inherited.given);
        let mut doors = Doors::open(&setup.config, &mut entrances)?;
        let readiness = Readiness::new(setup.inherited.ready);
        entrances.discard_left(readiness.manager());
        doors.leave_with(readiness.manager());
        sources.add(signals.readable(), Source::Signals)?;
        sources.add(jobs.readable(), Source::Jobs)?;
        sources.add(setup.log.readable(), Source::Log)?;
        sources.add(server.readable(), Source::ControlListener)?;
        // Behind everything that tells whether another supervisor is at work here already.
        let pid_file = setup.config.supervisor.pid_file.as_deref().map(PidFile::write).transpose()?;
        for name in entrances.unused() {
            tracing::warn!("no pool listens on fd:{name}, which the service manager passed; who connects there waits");
        }
        let clock = Clock::new();
        let started_at = clock.now();
        let board = BoardWriter::start(ostler_shared::scoreboard::file::beside(&control))?;
        let config = Arc::new(setup.config);
        tracing::info!(pid = std::process::id(), seed = setup.seed, "ostler {} starts", env!("CARGO_PKG_VERSION"));
        let (pools, first) = Pools::new(setup.seed, &config, started_at);
        let mut driver = Driver {
            pools,
            config,
            clock,
            sources,
            signals,
            jobs,
            server,
            readiness,
            log: setup.log,
            log_aside: None,
            reopenings: VecDeque::new(),
            visits: Visits::default(),
            pid_file,
            limits,
            shim: setup.shim,
            parking: Parking::default(),
            farewells: Farewells::default(),
            next_conn: 0,
            doors,
            entrances,
            workers: BTreeMap::new(),
            rings: Rings::default(),
            pressures: BTreeMap::new(),
            pids: HashMap::new(),
            nursery: Nursery::default(),
            unasked: Vec::new(),
            next_nonce: NonZeroU64::MIN,
            sittings: VecDeque::new(),
            goodbyes: BTreeSet::new(),
            owners: Owners::default(),
            unheard: BTreeSet::new(),
            looks: BTreeSet::new(),
            starved: Vec::new(),
            paused: VecDeque::new(),
            floods: VecDeque::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            awaiting_end: Vec::new(),
            reread: setup.reread,
            started_at,
            terminal: terminal_path(),
            remains: BTreeMap::new(),
            deaths: Deaths::default(),
            publishing: Publishing::new(Some(board), started_at),
            oom: KillCounter::find(),
            hooks: Hooks::default(),
            epitaphs: BTreeMap::new(),
            events: VecDeque::new(),
            actions: Vec::new(),
            completions: Vec::new(),
            rings_with_news: Vec::new(),
            ended: None,
        };
        for action in first {
            driver.perform(action);
        }
        driver.step(ostler_pool::Event::Tick); // takes in what performing brought
        Ok(driver)
    }

    pub(crate) fn epitaphs(&self) -> &BTreeMap<ostler_shared::WorkerId, Vec<String>> {
        &self.epitaphs
    }
}

fn control_path(config: &Config) -> Result<PathBuf, PlaceError> {
    match &config.supervisor.control {
        Some(path) => Ok(path.clone()),
        None => Ok(place::private_directory()?.join(format!("{}.sock", std::process::id()))),
    }
}

/// The terminal that we started on, if any of our streams is one.
fn terminal_path() -> Option<PathBuf> {
    fn path(stream: impl std::os::fd::AsFd) -> Option<PathBuf> {
        nix::unistd::ttyname(stream).ok()
    }
    path(io::stdin()).or_else(|| path(io::stdout())).or_else(|| path(io::stderr()))
}
