//! Counts the connections that an event loop may serve at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// More are never needed: each is an open descriptor.
const PLACES_MAX: usize = 1 << 24;

/// The places of one worker.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    total: u32,
}

/// One connection's place, free again when it is dropped. A word, and not the two of a permit with its count: there is
/// one in every connection.
#[derive(Debug)]
pub(crate) struct Place {
    free: Arc<Semaphore>,
}

impl Places {
    pub(super) fn new(concurrency: usize) -> Places {
        let total = concurrency.min(PLACES_MAX);
        Places { free: Arc::new(Semaphore::new(total)), total: u32::try_from(total).expect("PLACES_MAX is an u32") }
    }

    /// Waits for a free place.
    pub(super) async fn take(&self) -> Place {
        self.free.acquire().await.expect(NEVER_CLOSED).forget();
        Place { free: Arc::clone(&self.free) }
    }

    /// Waits until nobody has a place.
    pub(super) async fn all_free(&self) {
        let _all = self.free.acquire_many(self.total).await.expect(NEVER_CLOSED);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.free.add_permits(1);
    }
}

const NEVER_CLOSED: &str = "the semaphore is never closed";

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let places = Places::new(2);
        let first = poll_once(places.take());
        let second = poll_once(places.take());
        assert!(first.is_ready() && second.is_ready());
        assert!(poll_once(places.take()).is_pending());
        drop(first);
        assert!(poll_once(places.take()).is_ready());
    }

    #[test]
    fn places_are_all_free_when_the_last_one_is() {
        let places = Places::new(2);
        let taken = poll_once(places.take());
        assert!(poll_once(places.all_free()).is_pending());
        drop(taken);
        assert!(poll_once(places.all_free()).is_ready());
    }

    #[test]
    fn an_absurd_concurrency_is_as_many_places_as_there_can_be() {
        assert_eq!(Places::new(usize::MAX).total as usize, PLACES_MAX);
    }
}
