//! Tells handlers that their worker shall leave.

use std::fmt;
use std::sync::Arc;

use crate::station::Station;

/// Knows when a worker has been asked to leave. To keep when the connection itself has been given to a protocol.
#[derive(Clone)]
pub struct DrainWatch {
    station: Arc<Station>,
}

impl DrainWatch {
    pub(super) fn new(station: &Arc<Station>) -> DrainWatch {
        DrainWatch { station: Arc::clone(station) }
    }

    /// As [`crate::Worker::is_draining`].
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.station.is_draining()
    }

    /// Resolves when the worker has been asked to leave; at once when it was before. It borrows nothing, and any
    /// number of tasks may wait.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let station = Arc::clone(&self.station);
        async move {
            if !station.is_draining() {
                station.stage.left_serving().await;
            }
        }
    }
}

impl fmt::Debug for DrainWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainWatch").finish_non_exhaustive()
    }
}
