//! Remembers the last minutes of each pool, for the charts of the page: whoever opens it at three in the morning wants to see
//! what happened before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ostler_shared::scoreboard::Content;
use ostler_shared::scoreboard::content::{Pool, Quantile};
use serde::Serialize;

/// How often what is published is remembered.
pub(super) const SAMPLED_EVERY: Duration = Duration::from_secs(2);
/// How many of it: ten minutes.
const SAMPLES_MAX: usize = 300;
/// Quantiles are of the last minute; what was published before says nothing about it.
const QUANTILES_NS: u64 = 60_000_000_000;

/// The last minutes of all pools.
#[derive(Debug, Default)]
pub(super) struct History {
    pools: Mutex<BTreeMap<String, VecDeque<Sample>>>,
}

/// One pool at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Sample {
    waited_p50_ms: Option<f64>,
    waited_p99_ms: Option<f64>,
    served_p50_ms: Option<f64>,
    served_p99_ms: Option<f64>,
    in_line: Option<u64>,
    done: Option<u64>,
}

impl Sample {
    fn of(pool: &Pool, age_ns: u64) -> Sample {
        let is_new = age_ns < QUANTILES_NS;
        let ms = |told: Option<Quantile>, which: fn(Quantile) -> u64| {
            told.filter(|_| is_new).map(|told| super::exposition::seconds(which(told)) * 1e3)
        };
        Sample {
            waited_p50_ms: ms(pool.queue_delay, |told| told.p50_ns),
            waited_p99_ms: ms(pool.queue_delay, |told| told.p99_ns),
            served_p50_ms: ms(pool.service, |told| told.p50_ns),
            served_p99_ms: ms(pool.service, |told| told.p99_ns),
            in_line: pool.in_line,
            done: pool.books.done,
        }
    }
}

impl History {
    /// Remembers this. Pools that are gone are forgotten.
    pub(super) fn sample(&self, content: &Content) {
        let now_ns = ostler_shared::sys::clock::monotonic_ns();
        let age_ns = now_ns.saturating_sub(content.supervisor.published_at_ns);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|name, _| content.pools.iter().any(|pool| pool.name == name.as_str()));
        for pool in &content.pools {
            let samples = pools.entry(pool.name.to_string()).or_default();
            if samples.len() == SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back(Sample::of(pool, age_ns));
        }
    }

    /// As JSON: by pool, oldest first.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_value(&*pools).expect("numbers and strings are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::example;
    use super::*;

    #[test]
    fn so_many_samples_are_kept_and_pools_that_are_gone_are_not() {
        let history = History::default();
        let mut content = example();
        (0..SAMPLES_MAX + 5).for_each(|_| history.sample(&content));
        assert_eq!(history.to_json()["web"].as_array().map(Vec::len), Some(SAMPLES_MAX));
        content.pools.remove(0);
        history.sample(&content);
        assert_eq!(history.to_json().get("web"), None);
    }

    #[test]
    fn quantiles_of_another_minute_are_not_shown() {
        let mut pool = example().pools.remove(0);
        pool.service = Some(Quantile { p50_ns: 1_000_000, p99_ns: 2_500_000 });
        assert_eq!(Sample::of(&pool, 0).served_p99_ms, Some(2.5));
        assert_eq!(Sample::of(&pool, QUANTILES_NS).served_p99_ms, None);
    }
}
