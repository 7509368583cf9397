//! Tells the supervisor which connections are busy, if anybody reads it (`watchdog.request`, `watchdog.slow`).
//!
//! ```text
//! Waiting ──a byte is read──▶ Asked ──a byte is written──▶ Answering ──whoever reads on waits for the next──▶ Waiting
//!   idle                       busy                          busy
//! ```
//! That is what the library can see by itself, and it errs on the side of idle: an idle connection is never overdue. Who knows
//! better takes the marks into his own hands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_shared::ConnId;
use ostler_shared::marks::Sign;
use ostler_shared::region::Dials;
use ostler_shared::sys::clock::monotonic_ns;

/// The places in which a worker marks its connections.
#[derive(Debug)]
pub(crate) struct MarkBook {
    dials: Dials,
    places: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// Given back.
    again: Vec<usize>,
    /// From here on none was ever used.
    fresh: usize,
}

impl MarkBook {
    pub(crate) fn open(dials: Dials) -> Arc<MarkBook> {
        dials.keep_marks();
        Arc::new(MarkBook { dials, places: Mutex::new(Free::default()) })
    }

    /// A fresh connection's mark. `None` when there are more connections than places, which no supervisor hands out.
    pub(crate) fn begin(self: &Arc<Self>, conn: ConnId) -> Option<Mark> {
        let mut free = locked(&self.places);
        let place = free.again.pop().or_else(|| {
            let place = free.fresh;
            free.fresh += 1;
            (place < self.dials.places()).then_some(place)
        })?;
        self.dials.occupy(place, conn, Sign::Idle);
        Some(Mark(Arc::new(Entry {
            book: Arc::clone(self),
            place,
            keeper: Mutex::new(Keeper::Library(Talk::Waiting)),
        })))
    }
}

/// One connection's mark; clones are of the same connection.
#[derive(Debug, Clone)]
pub(crate) struct Mark(Arc<Entry>);

#[derive(Debug)]
struct Entry {
    book: Arc<MarkBook>,
    place: usize,
    keeper: Mutex<Keeper>,
}

/// Who says whether a connection is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    /// The library, by what it sees.
    Library(Talk),
    /// The handler, who is at so many requests.
    Handler { requests: usize },
    /// Nobody: the connection was taken apart.
    Nobody,
    /// The connection is over, and its place may be another's.
    Over,
}

/// How far a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Talk {
    /// For a request, or for the first byte of one.
    Waiting,
    /// There is one.
    Asked,
    /// It is being answered, or was.
    Answering,
}

impl Mark {
    /// Somebody is about to read.
    pub(crate) fn reads(&self) {
        let mut keeper = self.keeper();
        if *keeper == Keeper::Library(Talk::Answering) {
            *keeper = Keeper::Library(Talk::Waiting);
            self.say(Sign::Idle);
        }
    }

    /// So many bytes were read.
    pub(crate) fn has_read(&self, bytes: usize) {
        let mut keeper = self.keeper();
        if *keeper == Keeper::Library(Talk::Waiting) && bytes > 0 {
            *keeper = Keeper::Library(Talk::Asked);
            self.say(busy());
        }
    }

    /// So many bytes were written.
    pub(crate) fn has_written(&self, bytes: usize) {
        let mut keeper = self.keeper();
        if *keeper == Keeper::Library(Talk::Asked) && bytes > 0 {
            *keeper = Keeper::Library(Talk::Answering);
        }
    }

    /// The library sees no more of this connection.
    pub(crate) fn lose_sight(&self) {
        let mut keeper = self.keeper();
        if let Keeper::Library(_) = *keeper {
            *keeper = Keeper::Nobody;
            self.say(Sign::Unmarked);
        }
    }

    fn hand_to_handler(&self) {
        let mut keeper = self.keeper();
        match *keeper {
            Keeper::Library(_) | Keeper::Nobody => {
                *keeper = Keeper::Handler { requests: 0 };
                self.say(Sign::Idle);
            }
            Keeper::Handler { .. } | Keeper::Over => {}
        }
    }

    fn begin_request(&self) {
        if let Keeper::Handler { requests } = &mut *self.keeper() {
            *requests += 1;
            if *requests == 1 {
                self.say(busy());
            }
        }
    }

    /// Those that remain get their time anew: which of them is the oldest is not kept.
    fn end_request(&self) {
        if let Keeper::Handler { requests } = &mut *self.keeper() {
            *requests -= 1;
            self.say(if *requests == 0 { Sign::Idle } else { busy() });
        }
    }

    /// Gives the place back.
    pub(crate) fn end(&self) {
        *self.keeper() = Keeper::Over;
        self.0.book.dials.vacate(self.0.place);
        locked(&self.0.book.places).again.push(self.0.place);
    }

    fn say(&self, sign: Sign) {
        self.0.book.dials.mark(self.0.place, sign);
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        locked(&self.0.keeper)
    }
}

fn busy() -> Sign {
    Sign::Busy { since_ns: monotonic_ns() }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks a connection's requests where the library can't see them well: see `Connection::mark_by_hand`.
#[derive(Debug, Clone)]
pub struct Marker {
    mark: Option<Mark>,
}

impl Marker {
    pub(crate) fn new(mark: Option<&Mark>) -> Marker {
        if let Some(mark) = mark {
            mark.hand_to_handler();
        }
        Marker { mark: mark.cloned() }
    }

    /// A request begins; it ends when the answer's value is dropped. Of several at a time each end gives the others their time
    /// anew.
    pub fn busy(&self) -> Busy {
        if let Some(mark) = &self.mark {
            mark.begin_request();
        }
        Busy { mark: self.mark.clone() }
    }
}

/// A request that somebody works on.
#[derive(Debug)]
#[must_use = "dropping it says that the request is answered"]
pub struct Busy {
    mark: Option<Mark>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(mark) = &self.mark {
            mark.end_request();
        }
    }
}

#[cfg(test)]
mod tests {
    use ostler_shared::region::{GAUGES_WORDS, SupervisorSide, WorkerSide, region_words};
    use ostler_shared::ring::Capacity;
    use ostler_shared::sys::memory::on_the_heap;

    use super::*;

    fn book(places: u32) -> (SupervisorSide, Arc<MarkBook>) {
        let capacity = Capacity::at_least(places).unwrap();
        let (gauges, gauges_seen) = on_the_heap(GAUGES_WORDS);
        let (region, region_seen) = on_the_heap(region_words(capacity));
        let supervisor = SupervisorSide::new(gauges, region_seen, capacity);
        (supervisor, MarkBook::open(WorkerSide::new(gauges_seen, region).unwrap().dials))
    }

    fn is_busy(supervisor: &SupervisorSide) -> bool {
        let marks: Vec<_> = supervisor.marks().map(|(_, sign)| sign).collect();
        match marks[..] {
            [Sign::Idle] => false,
            [Sign::Busy { .. }] => true,
            _ => panic!("{marks:?}"),
        }
    }

    #[test]
    fn a_connection_is_busy_from_the_first_byte_of_a_request_until_somebody_reads_on_after_an_answer() {
        let (supervisor, book) = book(1);
        let mark = book.begin(ConnId(1)).unwrap();
        for _ in 0..2 {
            mark.reads();
            assert!(!is_busy(&supervisor), "nothing has come yet");
            mark.has_read(3);
            mark.reads();
            mark.has_read(0);
            assert!(is_busy(&supervisor), "more of the request, or its end, changes nothing");
            mark.has_written(0);
            mark.reads();
            assert!(is_busy(&supervisor), "nothing is answered yet");
            mark.has_written(2);
            assert!(is_busy(&supervisor), "more of the answer may follow");
        }
        mark.reads();
        assert!(!is_busy(&supervisor));
    }

    #[test]
    fn a_server_that_speaks_first_is_idle_until_it_is_asked() {
        let (supervisor, book) = book(1);
        let mark = book.begin(ConnId(1)).unwrap();
        mark.has_written(9);
        mark.reads();
        assert!(!is_busy(&supervisor));
        mark.has_read(1);
        assert!(is_busy(&supervisor));
    }

    #[test]
    fn in_the_handlers_hands_nothing_but_its_requests_counts() {
        let (supervisor, book) = book(1);
        let mark = book.begin(ConnId(1)).unwrap();
        mark.has_read(1);
        let marker = Marker::new(Some(&mark));
        assert!(!is_busy(&supervisor));
        mark.has_read(1);
        assert!(!is_busy(&supervisor));
        let (first, second) = (marker.busy(), marker.busy());
        drop(first);
        assert!(is_busy(&supervisor));
        drop(second);
        assert!(!is_busy(&supervisor));
    }

    #[test]
    fn what_is_taken_apart_is_not_marked_unless_somebody_does_it_by_hand() {
        let (supervisor, book) = book(1);
        let mark = book.begin(ConnId(1)).unwrap();
        mark.lose_sight();
        mark.has_read(1);
        assert_eq!(supervisor.marks().collect::<Vec<_>>(), [(ConnId(1), Sign::Unmarked)]);
        let _busy = Marker::new(Some(&mark)).busy();
        mark.lose_sight();
        assert!(is_busy(&supervisor));
    }

    #[test]
    fn a_place_is_used_again_and_nobody_writes_into_it_any_more_who_had_it_before() {
        let (supervisor, book) = book(2);
        let first = book.begin(ConnId(1)).unwrap();
        let _second = book.begin(ConnId(2)).unwrap();
        assert!(book.begin(ConnId(3)).is_none(), "more than there are places");
        let marker = Marker::new(Some(&first));
        let busy = marker.busy();
        first.end();
        let _third = book.begin(ConnId(3)).unwrap();
        drop(busy);
        drop(marker.busy());
        let mut marks: Vec<_> = supervisor.marks().collect();
        marks.sort_by_key(|(conn, _)| *conn);
        assert_eq!(marks, [(ConnId(2), Sign::Idle), (ConnId(3), Sign::Idle)]);
    }

    #[test]
    fn a_marker_of_nothing_does_nothing() {
        drop(Marker::new(None).busy());
    }
}
