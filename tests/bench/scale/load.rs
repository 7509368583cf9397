//! Loads a fleet with one connection per request, and reads what the supervisor spent on it.

use std::time::Duration;

use ostler_tests::procs;

use crate::bells;
use crate::fleet::Fleet;
use crate::generator::Generator;

/// Connections that the load generator keeps busy.
pub(crate) const CLIENTS: usize = 64;
/// How long the fleet is loaded before the window.
const WARM_UP: Duration = Duration::from_millis(200);

/// What one window brought.
pub(crate) struct Loaded {
    pub(crate) requests_per_s: f64,
    /// CPU time of the supervisor alone ÷ connections, in microseconds.
    pub(crate) supervisor_us_per_connection: f64,
    pub(crate) bells_per_connection: f64,
    /// Workers that answered at least once.
    pub(crate) workers_used: usize,
    pub(crate) failures: u64,
}

pub(crate) fn measure(fleet: &Fleet, window: Duration) -> Loaded {
    let mut generator = Generator::start(&fleet.target, CLIENTS, 1).expect("the fleet listens");
    generator.run(WARM_UP).expect("the load goes on");
    let used = || (procs::cpu_time(fleet.ostler.pid()).expect("it runs"), bells::rung(fleet.ostler.pid()));
    let before = used();
    let counted = generator.run(window).expect("the load goes on");
    let after = used();
    let connections = exact(counted.connections.max(1));
    Loaded {
        requests_per_s: exact(counted.answers) / counted.length.as_secs_f64(),
        supervisor_us_per_connection: after.0.saturating_sub(before.0).as_secs_f64() * 1e6 / connections,
        bells_per_connection: exact(after.1 - before.1) / connections,
        workers_used: counted.shares.len(),
        failures: counted.failures,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn exact(count: u64) -> f64 {
    count as f64
}
