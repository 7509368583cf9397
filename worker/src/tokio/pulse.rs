//! Beats in a task, so that a runtime that stands still falls silent.

use std::sync::Arc;

use ostler_shared::region::Beats;
use tokio::task::AbortHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::station::Station;

/// Beats until it is dropped; then nobody expects it any more.
#[derive(Debug)]
pub(super) struct Pulse {
    station: Arc<Station>,
    task: Option<AbortHandle>,
}

impl Pulse {
    /// Begins to beat on the runtime that this is called in, if anybody looks.
    ///
    /// # Panics
    /// If anybody looks, outside of a runtime, or in one without time.
    pub(super) fn start(station: &Arc<Station>) -> Pulse {
        let task = station.beat_every.map(|every| {
            let mut times = interval(every);
            times.set_missed_tick_behavior(MissedTickBehavior::Delay);
            station.completions.promise(Beats::Always);
            tokio::spawn(beat(Arc::clone(station), times)).abort_handle()
        });
        Pulse { station: Arc::clone(station), task }
    }
}

async fn beat(station: Arc<Station>, mut times: Interval) {
    loop {
        times.tick().await;
        station.completions.beat();
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            self.station.completions.promise(Beats::Never);
            task.abort();
        }
    }
}
