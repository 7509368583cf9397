//! Reads `ostler status --json` into types: every field of the contract, and nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// ostler's version.
    pub version: String,
    /// The supervisor.
    pub pid: i32,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// What it is about.
    pub state: SupervisorState,
    /// Seconds since that was so: 0 where the supervisor said it itself.
    pub age_s: f64,
    /// In the order of the configuration.
    pub pools: Vec<Pool>,
}

/// What a supervisor is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the contract's words")]
pub enum SupervisorState {
    Running,
    Reloading,
    Draining,
    Stopping,
}

/// How a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the contract's words")]
pub enum PoolState {
    Starting,
    Ready,
    Degraded,
    Failed,
    Paused,
    Draining,
    Stopped,
}

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the contract's words")]
pub enum WorkerState {
    Starting,
    Ready,
    Draining,
    Leaving,
    Backoff,
}

/// One pool.
#[derive(Debug, Clone, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: PoolState,
    /// Its current generation.
    pub generation: u32,
    /// `pass` …
    pub handoff: String,
    /// As they were written.
    pub listeners: Vec<String>,
    /// How many workers it is to have.
    pub target: u32,
    /// Connections accepted.
    #[serde(deserialize_with = "or_zero")]
    pub accepted: u64,
    /// Connections that ended as served.
    #[serde(deserialize_with = "or_zero")]
    pub done: u64,
    /// Of these, how many did not go well; the contract's example does not have it.
    #[serde(default, deserialize_with = "or_zero")]
    pub failed: u64,
    /// Connections that died with their worker.
    #[serde(deserialize_with = "or_zero")]
    pub lost: u64,
    /// Connections let go, by reason.
    pub shed: BTreeMap<String, u64>,
    /// In the line and in mailboxes.
    #[serde(deserialize_with = "or_zero")]
    pub waiting: u64,
    /// In the hands of workers.
    #[serde(deserialize_with = "or_zero")]
    pub claimed: u64,
    /// Sends to workers, repeats included.
    #[serde(deserialize_with = "or_zero")]
    pub handed: u64,
    /// Taken back from living workers.
    #[serde(deserialize_with = "or_zero")]
    pub recalled: u64,
    /// Unclaimed connections that outlived their worker.
    #[serde(deserialize_with = "or_zero")]
    pub redelivered: u64,
    /// The line.
    pub queue: Queue,
    /// Time from claim to end.
    pub service_ms: Quantiles,
    /// The last reload.
    pub reload: Reload,
    /// All of them.
    pub workers: Vec<Worker>,
    /// Those that fork workers; the contract's example has none.
    #[serde(default)]
    pub templates: Vec<Template>,
}

/// One template.
#[derive(Debug, Clone, Deserialize)]
pub struct Template {
    /// The generation that it forks workers of.
    pub generation: u32,
    /// Its identity.
    pub id: u64,
    /// Its process.
    pub pid: Option<i32>,
    /// How it is.
    pub state: WorkerState,
    /// Workers that it has forked.
    pub forked: u64,
    /// Seconds since its start.
    pub age_s: f64,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
}

/// What is not measured is null: here it is 0, and a test that cares looks at the JSON.
fn or_zero<'de, D: serde::Deserializer<'de>>(number: D) -> Result<u64, D::Error> {
    Ok(Option::deserialize(number)?.unwrap_or(0))
}

/// The waiting line.
#[derive(Debug, Clone, Deserialize)]
pub struct Queue {
    /// How many wait in it.
    #[serde(deserialize_with = "or_zero")]
    pub length: u64,
    /// How many may.
    #[serde(deserialize_with = "or_zero")]
    pub limit: u64,
    /// How long they waited.
    pub delay_ms: Quantiles,
}

/// Quantiles of a time; null when nothing was measured.
#[derive(Debug, Clone, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50: Option<f64>,
    /// The slowest hundredth begins here.
    pub p99: Option<f64>,
}

/// The last reload of a pool.
#[derive(Debug, Clone, Deserialize)]
pub struct Reload {
    /// `ok`, `undone` or `none`.
    pub last: String,
    /// Why it was undone.
    pub reason: Option<String>,
    /// The generation that it was about.
    pub generation: Option<u32>,
}

/// One worker.
#[derive(Debug, Clone, Deserialize)]
pub struct Worker {
    /// Its place.
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
    /// Its identity; null while the slot waits for a restart.
    pub id: Option<u64>,
    /// Its process; null while it waits for a restart.
    pub pid: Option<i32>,
    /// How it is.
    pub state: WorkerState,
    /// In its hands.
    #[serde(deserialize_with = "or_zero")]
    pub claimed: u64,
    /// In its mailbox.
    #[serde(deserialize_with = "or_zero")]
    pub waiting: u64,
    /// Ended as served.
    #[serde(deserialize_with = "or_zero")]
    pub done: u64,
    /// How many it may hold.
    pub capacity: u64,
    /// Seconds since its spawn.
    pub age_s: Option<f64>,
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Restarts of its slot.
    pub restarts: u64,
    /// How the slot's last worker ended.
    pub last_exit: Option<LastExit>,
    /// What it says of itself.
    #[serde(default)]
    pub says: Option<String>,
    /// How its connections have got out of sight.
    #[serde(default)]
    pub estimated: Vec<String>,
}

/// How a worker ended.
#[derive(Debug, Clone, Deserialize)]
pub struct LastExit {
    /// Its exit code.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// When.
    pub at_s: Option<f64>,
}

impl Status {
    /// A pool by name.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn pool(&self, name: &str) -> &Pool {
        self.pools.iter().find(|pool| pool.name == name).unwrap_or_else(|| panic!("no pool {name} in {self:?}"))
    }

    /// The first pool.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn only(&self) -> &Pool {
        self.pools.first().expect("a supervisor has pools")
    }

    /// Refuses books that don't balance.
    ///
    /// # Errors
    /// Says which pool, with its numbers.
    pub fn check_books(&self) -> Result<(), String> {
        self.pools.iter().try_for_each(Pool::check_books)
    }
}

impl Pool {
    /// Connections let go for whatever reason.
    #[must_use]
    pub fn shed_total(&self) -> u64 {
        self.shed.values().sum()
    }

    /// Connections let go for one reason.
    #[must_use]
    pub fn shed_for(&self, reason: &str) -> u64 {
        self.shed.get(reason).copied().unwrap_or(0)
    }

    /// `accepted = done + lost + shed + waiting + claimed`, and the workers' shares add up to the pool's.
    ///
    /// # Errors
    /// Says what does not add up.
    pub fn check_books(&self) -> Result<(), String> {
        let found = self.done + self.lost + self.shed_total() + self.waiting + self.claimed;
        let held: u64 = self.workers.iter().map(|worker| worker.claimed).sum();
        let mailed: u64 = self.workers.iter().map(|worker| worker.waiting).sum();
        if found != self.accepted {
            return Err(format!("accepted {} but found {found} in {self:?}", self.accepted));
        }
        if held != self.claimed {
            return Err(format!("claimed {} but the workers hold {held} in {self:?}", self.claimed));
        }
        if mailed + self.queue.length != self.waiting {
            return Err(format!("waiting {} but {mailed} in mailboxes and the line is {self:?}", self.waiting));
        }
        Ok(())
    }

    /// The workers in one state.
    #[must_use]
    pub fn in_state(&self, state: WorkerState) -> Vec<&Worker> {
        self.workers.iter().filter(|worker| worker.state == state).collect()
    }

    /// The READY workers.
    #[must_use]
    pub fn ready(&self) -> Vec<&Worker> {
        self.in_state(WorkerState::Ready)
    }

    /// The processes of all workers.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.workers.iter().filter_map(|worker| worker.pid).collect()
    }

    /// The generations of all workers, each once, ascending.
    #[must_use]
    pub fn generations(&self) -> Vec<u32> {
        let mut seen: Vec<u32> = self.workers.iter().map(|worker| worker.generation).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    /// Whether nothing waits and nothing is held.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && self.claimed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"{"version":"0.1.0","pid":1,"uptime_s":1.5,"state":"running","age_s":0.0,
     "pools":[{"name":"web","state":"ready","generation":7,"handoff":"pass","listeners":["unix:/run/web.sock"],
       "target":4,"accepted":10,"done":5,"lost":1,"shed":{"stopping":1},"waiting":2,"claimed":1,
       "handed":8,"recalled":0,"redelivered":0,
       "queue":{"length":2,"limit":4096,"delay_ms":{"p50":null,"p99":0.5}},"service_ms":{"p50":1,"p99":2},
       "reload":{"last":"none","reason":null,"generation":7},
       "workers":[{"slot":0,"generation":7,"id":31,"pid":2,"state":"ready",
         "claimed":1,"waiting":0,"done":5,"capacity":1,"age_s":1.0,"rss_bytes":null,"restarts":0,
         "last_exit":{"code":null,"signal":9,"at_s":3.5}}]}]}"#;

    #[test]
    fn the_contracts_example_is_read() {
        let status: Status = serde_json::from_str(SAMPLE).unwrap();
        assert_eq!(status.check_books(), Ok(()));
        let pool = status.only();
        assert_eq!((pool.shed_total(), pool.ready().len(), pool.generations()), (1, 1, vec![7]));
    }

    #[test]
    fn books_that_do_not_balance_are_refused() {
        let status: Status = serde_json::from_str(&SAMPLE.replace("\"lost\":1", "\"lost\":0")).unwrap();
        assert!(status.check_books().unwrap_err().contains("accepted 10 but found 9"));
    }
}
