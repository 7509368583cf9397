//! Counts what became of requests.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::http::{Failure, WorkerTag};

/// The books of a client, or of all of them.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Connections that were made.
    pub connects: u64,
    /// Requests that were answered.
    pub served: u64,
    /// Requests that were not, by kind.
    pub failures: BTreeMap<Failure, u64>,
    /// Answers of each worker.
    pub workers: BTreeMap<WorkerTag, u64>,
    latency_us: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let latency_us = Histogram::new_with_bounds(1, 600_000_000, 2).expect("the bounds are in order");
        Tally { connects: 0, served: 0, failures: BTreeMap::new(), workers: BTreeMap::new(), latency_us }
    }
}

impl Tally {
    pub(crate) fn connected(&mut self) {
        self.connects += 1;
    }

    pub(crate) fn serve(&mut self, worker: Option<WorkerTag>, took: Duration) {
        self.served += 1;
        self.latency_us.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if let Some(worker) = worker {
            *self.workers.entry(worker).or_default() += 1;
        }
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    /// Takes in the books of others.
    ///
    /// # Panics
    /// Never: all have the same bounds.
    pub fn add(&mut self, other: &Tally) {
        self.connects += other.connects;
        self.served += other.served;
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
        for (worker, count) in &other.workers {
            *self.workers.entry(worker.clone()).or_default() += count;
        }
        self.latency_us.add(&other.latency_us).expect("same bounds everywhere");
    }

    /// Failures other than the orderly close of a reused connection.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.iter().filter(|(failure, _)| !failure.is_orderly_close()).map(|(_, count)| count).sum()
    }

    /// How often one kind of failure happened.
    #[must_use]
    pub fn count(&self, failure: Failure) -> u64 {
        self.failures.get(&failure).copied().unwrap_or(0)
    }

    /// Refuses any failure other than the orderly close of a reused connection, and a load that served nobody.
    ///
    /// # Panics
    /// With the numbers.
    pub fn assert_no_failure(&self) {
        assert_eq!(self.failed(), 0, "{self}");
        assert!(self.served > 0, "nobody was served: {self}");
    }

    /// Most answers of one worker ÷ least, among the workers that answered at all.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    pub fn unfairness(&self) -> f64 {
        let most = self.workers.values().max().copied().unwrap_or(0);
        let least = self.workers.values().min().copied().unwrap_or(0);
        if least == 0 { f64::INFINITY } else { most as f64 / least as f64 }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |quantile| Duration::from_micros(self.latency_us.value_at_quantile(quantile));
        write!(
            f,
            "{} connections, {} served (p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}), failures {:?}, {} workers",
            self.connects,
            self.served,
            at(0.5),
            at(0.99),
            at(0.999),
            Duration::from_micros(self.latency_us.max()),
            self.failures,
            self.workers.len()
        )
    }
}
