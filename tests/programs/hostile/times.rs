//! Lies about times: when it last beat, and since when its connections are busy.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ostler_shared::ConnId;
use ostler_shared::marks::Sign;
use ostler_shared::region::Beats;
use ostler_shared::sys::clock::monotonic_ns;
use ostler_shared::sys::memory::OwnMemory;

use super::memory::xorshift;
use super::{Raw, park};

/// What the suite has configured, for a beat as for a slow request.
const PATIENCE: Duration = Duration::from_secs(1);
/// By so much a lie is not found out at the moment it is looked at.
const ALMOST: Duration = Duration::from_millis(10);
/// How often a lie is brought up to date.
const EVERY: Duration = Duration::from_millis(1);
/// How many connections around one of its own are marked as its own.
const AROUND: u64 = 500;
/// The first moment that a mark can name.
const LONG_AGO: Sign = Sign::Busy { since_ns: 3 };

impl Raw {
    /// Nobody is as punctual.
    pub(super) fn promise_to_beat(&self, at_ns: u64) {
        let side = self.side.borrow();
        side.dials.beat(at_ns);
        side.dials.promise(Beats::Always);
        self.did_it();
    }

    /// Each look finds that it will be too late in a moment, and never that it is.
    pub(super) fn beat_almost_too_late(&self) {
        self.promise_to_beat(monotonic_ns());
        let dials = self.side.borrow().dials.clone();
        thread::spawn(move || for_ever(|| dials.beat(almost_too_long_ago())));
        self.serve();
    }

    /// Claims a connection, keeps it, and says this of it for ever.
    pub(super) fn hold_and_mark(&self, sign: impl Fn() -> Sign + Send + 'static) {
        let dials = self.side.borrow().dials.clone();
        dials.keep_marks();
        let Some((_connection, ticket)) = self.take() else { return };
        dials.occupy(0, ticket.conn, sign());
        self.did_it();
        for_ever(|| dials.mark(0, sign()));
    }

    /// Marks connections that others hold, as many as it has places, one after the other. It holds one itself, or nobody
    /// would look; the others it serves.
    pub(super) fn mark_what_others_hold(&self) {
        let dials = self.side.borrow().dials.clone();
        dials.keep_marks();
        let Some((_held, ticket)) = self.take() else { return };
        let own = ticket.conn.0;
        let peace = self.peace.clone();
        thread::spawn(move || {
            let others = own.saturating_sub(AROUND)..own;
            let mut conns = others.chain(own + 1..own + AROUND).cycle();
            for_ever(|| {
                for place in 0..dials.places() {
                    dials.occupy(place, ConnId(conns.next().expect("a cycle")), LONG_AGO);
                }
                peace.was_broken();
            });
        });
        self.serve();
    }

    /// Claims a connection and says no more of it, nor of anything else.
    pub(super) fn stand_still(&self) -> ! {
        let _held = self.take();
        park()
    }

    /// All that it says of itself but what it has completed, over and over. Serves meanwhile.
    pub(super) fn scribble_over_times(&self) {
        let (region, peace) = (self.region.clone(), self.peace.clone());
        let words: Vec<usize> = self.hint_words().chain(self.mark_words()).collect();
        thread::spawn(move || scribble_times(&region, &words, || peace.was_broken()));
        self.serve();
    }
}

pub(super) fn almost_slow() -> Sign {
    Sign::Busy { since_ns: almost_too_long_ago() }
}

pub(super) fn long_ago() -> Sign {
    LONG_AGO
}

pub(super) fn in_the_future() -> Sign {
    Sign::Busy { since_ns: u64::MAX }
}

fn almost_too_long_ago() -> u64 {
    let age = u64::try_from((PATIENCE - ALMOST).as_nanos()).expect("a second");
    monotonic_ns().saturating_sub(age)
}

/// Times around now, counts, and anything.
fn scribble_times(region: &OwnMemory, words: &[usize], now_and_then: impl Fn()) -> ! {
    let mut random = u64::from(std::process::id());
    eprintln!("scribbles with seed {random}");
    for_ever(|| {
        for at in words {
            random = xorshift(random);
            let word = match random % 4 {
                0 => random >> 8,
                1 => (random >> 8) % 4,
                _ => monotonic_ns().saturating_sub((random >> 8) % 3_000_000_000),
            };
            region.store(*at, word, Ordering::Relaxed);
        }
        now_and_then();
    })
}

fn for_ever(mut act: impl FnMut()) -> ! {
    loop {
        act();
        thread::sleep(EVERY);
    }
}
