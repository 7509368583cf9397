//! Reloads a side, and kills its workers, under load, and counts whom that fails.

use std::time::Duration;

use ostler_tests::load::Load;

use crate::Plan;
use crate::side::Running;

const CLIENTS: usize = 16;
/// A client that has no answer by then counts as failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Requests that are served between two faults.
const BETWEEN: u64 = 200;

/// Requests that failed, per fault.
#[derive(Debug)]
pub(crate) struct Faults {
    pub(crate) failed_per_reload: f64,
    pub(crate) failed_per_kill: f64,
}

pub(crate) fn provoke(running: &Running, plan: Plan) -> Faults {
    Faults {
        failed_per_reload: failed_per(running, plan, Running::reload),
        failed_per_kill: failed_per(running, plan, Running::kill_a_worker),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn failed_per(running: &Running, plan: Plan, fault: fn(&Running)) -> f64 {
    let load = Load::on(&running.target).clients(CLIENTS).path("/sleep/1").timeout(ANSWER_WITHIN).start();
    for _ in 0..plan.faults {
        load.wait_for_more(BETWEEN);
        fault(running);
    }
    load.wait_for_more(BETWEEN);
    load.stop().failed() as f64 / f64::from(plan.faults)
}
