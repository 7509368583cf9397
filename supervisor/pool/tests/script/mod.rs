//! Plays a pool through a list of events, so that a test reads as one.
#![allow(dead_code, reason = "each file of facts uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ostler_config::checked;
use ostler_pool::{Action, Event, Exit, Moment, PoolNo, PoolSnapshot, Pools, RequestId, Shed, Uid};
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::{ConnId, SlotNo, WorkerId, WorkerName};

/// One pool and everything that it asked for since it was last looked at.
pub(crate) struct Script {
    pub(crate) pools: Pools,
    pub(crate) config: checked::Config,
    pub(crate) now: Moment,
    next_conn: u64,
    pub(crate) names: BTreeMap<WorkerId, WorkerName>,
    pub(crate) actions: Vec<Action>,
    /// What lies in mailboxes, as far as a test says so: the first recall brings it back.
    unclaimed: BTreeMap<WorkerId, Vec<ConnId>>,
    recalls: Recalls,
    /// What comes of opening listeners; `None`: the test says so.
    pub(crate) listeners: Option<Result<(), String>>,
}

/// Who answers recalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recalls {
    /// The script, at once.
    Answered,
    /// The test, in its own time.
    LeftToTheTest,
}

pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) fn config(workers: u32, concurrency: u32) -> checked::Config {
    let text = format!(
        "[pool.p]\nlisten = [\"unix:@p\"]\nworkers = {workers}\nconcurrency = {concurrency}\n\
         queue = {{ limit = 8, timeout = \"2s\" }}\n\
         start = {{ ready_timeout = \"3s\", failures = 4 }}\ndrain = {{ timeout = \"4s\", kill_after = \"2s\" }}\nwatchdog.heartbeat = \"0s\"\n"
    );
    ostler_config::parse(&text, "test.toml".as_ref(), "/".as_ref()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

pub(crate) const RECALL_AFTER: Duration = Duration::from_millis(5);

/// Settled as soon as they are READY, so that nothing but connections has a deadline.
pub(crate) fn prefetching(workers: u32, concurrency: u32, prefetch: u32) -> checked::Config {
    let mut config = config(workers, concurrency);
    (config.pools[0].prefetch, config.pools[0].recall_after) = (prefetch, RECALL_AFTER);
    config
}

impl Script {
    pub(crate) fn new(config: checked::Config) -> Script {
        let now = Moment::from_ns(1_000_000_000);
        let (pools, actions) = Pools::new(1, &Arc::new(config.clone()), now);
        let (names, unclaimed) = (BTreeMap::new(), BTreeMap::new());
        let mut script = Script {
            pools,
            config,
            now,
            next_conn: 0,
            names,
            actions: Vec::new(),
            unclaimed,
            recalls: Recalls::Answered,
            listeners: Some(Ok(())),
        };
        script.take_in(actions);
        script
    }

    /// All workers started and READY, nothing left to look at.
    pub(crate) fn ready(config: checked::Config) -> Script {
        let mut script = Script::new(config);
        for worker in script.spawned() {
            script.event(Event::Ready { worker });
        }
        script.actions.clear();
        script
    }

    pub(crate) fn event(&mut self, event: Event) -> &mut Script {
        let mut actions = Vec::new();
        self.pools.step(self.now, event, &mut actions);
        self.take_in(actions);
        self
    }

    /// Keeps what the pools ask for, and looks into a mailbox when they want to know what is in it.
    fn take_in(&mut self, actions: Vec<Action>) {
        let (mut recalled, mut opening) = (Vec::new(), None);
        for action in &actions {
            match action {
                Action::Spawn { worker, name, .. } => drop(self.names.insert(*worker, name.clone())),
                Action::Recall { worker } => recalled.push(*worker),
                Action::OpenListeners => opening = self.listeners.clone(),
                _ => {}
            }
        }
        self.actions.extend(actions);
        if let Some(outcome) = opening {
            self.event(Event::ListenersOpened { outcome });
        }
        if self.recalls == Recalls::LeftToTheTest {
            return;
        }
        for worker in recalled {
            let conns = self.unclaimed.remove(&worker).unwrap_or_default();
            self.event(Event::Recalled { worker, conns });
        }
    }

    /// From now on the test says what a recall brings back.
    pub(crate) fn answer_no_recall(&mut self) -> &mut Script {
        self.recalls = Recalls::LeftToTheTest;
        self
    }

    /// Looks into mailboxes since the actions were last cleared.
    pub(crate) fn recalls(&self) -> usize {
        self.actions.iter().filter(|action| matches!(action, Action::Recall { .. })).count()
    }

    /// The worker does not claim these.
    pub(crate) fn leave_unclaimed(&mut self, worker: WorkerId, conns: &[ConnId]) -> &mut Script {
        self.unclaimed.insert(worker, conns.to_vec());
        self
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub(crate) fn wait(&mut self, length: Duration) -> &mut Script {
        let end = self.now + length;
        while let Some(at) = self.pools.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.event(Event::Tick);
            let next = self.pools.next_deadline();
            assert!(next.is_none_or(|next| next > self.now), "{at:?} has passed and nothing was done about it");
        }
        self.now = end;
        self.event(Event::Tick)
    }

    pub(crate) fn client(&mut self) -> ConnId {
        self.client_of(None)
    }

    /// A client of this user.
    pub(crate) fn client_of(&mut self, uid: Option<Uid>) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        self.event(Event::Accepted { pool: PoolNo(0), conn, uid });
        conn
    }

    pub(crate) fn clients(&mut self, count: usize) -> Vec<ConnId> {
        (0..count).map(|_| self.client()).collect()
    }

    pub(crate) fn complete(&mut self, worker: WorkerId, conn: ConnId) -> &mut Script {
        let completion = Completion { conn, outcome: Outcome::Done, claimed_at_ns: 0, done_at_ns: 0 };
        self.event(Event::Completed { worker, completion })
    }

    pub(crate) fn die(&mut self, worker: WorkerId, unclaimed: &[ConnId]) -> &mut Script {
        self.event(Event::Died { worker, exit: Exit::Code(1), unclaimed: unclaimed.to_vec() })
    }

    /// Listeners are opened as soon as that is asked for.
    pub(crate) fn reload(&mut self, request: u64) -> &mut Script {
        self.event(Event::Reload { request: Some(RequestId(request)), pools: Vec::new() });
        let config = Ok(Arc::new(self.config.clone()));
        self.event(Event::ConfigRead { config })
    }

    /// Workers asked for since the actions were last cleared.
    pub(crate) fn spawned(&self) -> Vec<WorkerId> {
        let spawned = |action: &Action| match action {
            Action::Spawn { worker, .. } => Some(*worker),
            _ => None,
        };
        self.actions.iter().filter_map(spawned).collect()
    }

    /// Handoffs since the actions were last cleared.
    pub(crate) fn handed(&self) -> Vec<(WorkerId, ConnId)> {
        let handed = |action: &Action| match action {
            Action::HandOff { worker, conn } => Some((*worker, *conn)),
            _ => None,
        };
        self.actions.iter().filter_map(handed).collect()
    }

    /// What was let go since the actions were last cleared, and why.
    pub(crate) fn shed(&self) -> Vec<(ConnId, Shed)> {
        let shed = |action: &Action| match action {
            Action::Shed { conn, why, .. } => Some((*conn, *why)),
            _ => None,
        };
        self.actions.iter().filter_map(shed).collect()
    }

    /// The place of the first action that fits, among those since the actions were last cleared.
    pub(crate) fn place(&self, fits: impl Fn(&Action) -> bool) -> Option<usize> {
        self.actions.iter().position(fits)
    }

    pub(crate) fn has(&self, fits: impl Fn(&Action) -> bool) -> bool {
        self.place(fits).is_some()
    }

    pub(crate) fn clear(&mut self) -> &mut Script {
        self.actions.clear();
        self
    }

    pub(crate) fn snapshot(&mut self) -> PoolSnapshot {
        self.pools.snapshot(self.now).remove(0)
    }

    /// The READY worker of a slot.
    pub(crate) fn serving(&mut self, slot: u32) -> WorkerId {
        let rows = self.snapshot().workers;
        let row = rows.iter().find(|row| row.slot == SlotNo(slot) && row.state == ostler_pool::WorkerState::Ready);
        row.and_then(|row| row.id).unwrap_or_else(|| panic!("slot {slot} has no READY worker: {rows:?}"))
    }
}
