//! Keeps the connections of the admin server few: when one comes that is too many, the oldest has to go.
//!
//! So neither idle clients nor half requests nor slow readers keep anybody out: whoever asks at once is answered before he is
//! the oldest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Those that are connected, oldest first.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    guests: BTreeMap<u64, Arc<Notify>>,
}

/// One of them. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Guest {
    number: u64,
    asked_to_go: Arc<Notify>,
    crowd: Arc<Crowd>,
}

impl Crowd {
    /// One of at most so many.
    pub(super) fn of_at_most(most: usize) -> Arc<Crowd> {
        Arc::new(Crowd { most, inside: Mutex::default() })
    }

    /// Lets one in, and asks the oldest to go if there are too many.
    pub(super) fn enter(self: &Arc<Crowd>) -> Guest {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let number = inside.next;
        inside.next += 1;
        let asked_to_go = Arc::new(Notify::new());
        inside.guests.insert(number, Arc::clone(&asked_to_go));
        if inside.guests.len() > self.most
            && let Some((_, oldest)) = inside.guests.pop_first()
        {
            // One permit is kept for who does not wait yet.
            oldest.notify_one();
        }
        Guest { number, asked_to_go, crowd: Arc::clone(self) }
    }
}

impl Guest {
    /// Resolves when it has to go.
    pub(super) async fn asked_to_go(&self) {
        self.asked_to_go.notified().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.crowd.inside.lock().unwrap_or_else(PoisonError::into_inner).guests.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn has_to_go(guest: &Guest) -> bool {
        pin!(guest.asked_to_go()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_goes_when_one_too_many_comes() {
        let crowd = Crowd::of_at_most(2);
        let (first, second) = (crowd.enter(), crowd.enter());
        assert!(!has_to_go(&first) && !has_to_go(&second));
        let third = crowd.enter();
        assert!(has_to_go(&first) && !has_to_go(&second) && !has_to_go(&third));
        drop(second);
        let fourth = crowd.enter();
        assert!(!has_to_go(&third) && !has_to_go(&fourth), "there was room");
    }
}
