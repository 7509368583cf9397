//! Lets loom try the orders that the memory model allows: `tests/run loom`.
//!
//! A thread is interrupted at most [`PREEMPTIONS`] times per history, which is where the errors of such protocols show;
//! `LOOM_MAX_PREEMPTIONS` sets another bound.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread;

use super::*;
use crate::sys::memory::on_the_heap;

/// Without a bound the histories of a loop are too many to try.
const PREEMPTIONS: usize = 3;

fn model(history: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(history);
}

fn ring(capacity: u32) -> (Producer<1>, Consumer<1>) {
    let capacity = Capacity::at_least(capacity).unwrap();
    let place = Place { published: 0, records: 1, consumed: 0, waiting: 1, capacity };
    let (producers, producers_seen) = on_the_heap(1 + capacity.records() as usize);
    let (consumers, consumers_seen) = on_the_heap(2);
    (Producer::new(producers, consumers_seen, place), Consumer::new(consumers, producers_seen, place))
}

/// W1 → R1 and R2 → W2: through one slot, what comes out is whole and in order, however little of it. The slot has a shadow
/// that is no atomic: loom reports any two accesses to it that nothing orders.
#[test]
fn loom_no_record_is_seen_before_it_is_written_nor_overwritten_before_it_is_read() {
    model(|| {
        let (mut producer, mut consumer) = ring(1);
        let shadow = Arc::new(UnsafeCell::new(0));
        let written = Arc::clone(&shadow);
        let writing = thread::spawn(move || {
            let mut next = 7;
            for _attempt in 0..3 {
                if producer.push(&[next]).is_ok() {
                    // SAFETY: the slot is the producer's until it publishes; loom checks just that.
                    #[allow(unsafe_code)]
                    written.with_mut(|slot| unsafe { *slot = next });
                    next += 1;
                }
                producer.publish_quietly();
            }
        });
        let mut expected = 7;
        for _look in 0..3 {
            consumer.look().unwrap();
            while let Some([record]) = consumer.take() {
                // SAFETY: the slot is the consumer's until it releases; loom checks just that.
                #[allow(unsafe_code)]
                let shadowed = shadow.with(|slot| unsafe { *slot });
                assert_eq!((record, shadowed), (expected, expected));
                expected += 1;
            }
            consumer.release();
        }
        writing.join().unwrap();
    });
}

/// F1 ⇄ F2: when the consumer goes to sleep, either it has seen the record or the producer rings.
#[test]
fn loom_no_wake_up_is_lost() {
    model(|| {
        let (mut producer, consumer) = ring(2);
        let rung = Arc::new(AtomicBool::new(false));
        let bell = Arc::clone(&rung);
        let working = thread::spawn(move || {
            producer.push(&[1]).unwrap();
            if producer.publish() == Bell::Ring {
                bell.store(true, Ordering::Release);
            }
        });
        consumer.arm();
        before_waiting();
        let sleeps = !consumer.has_news();
        working.join().unwrap();
        assert!(!sleeps || rung.load(Ordering::Acquire), "asleep beside a record, and nobody rings");
    });
}

/// A ring that is disarmed after a wait and armed before the next one loses nothing in between either.
#[test]
fn loom_a_second_wait_is_as_safe_as_the_first() {
    model(|| {
        let (mut producer, mut consumer) = ring(4);
        let bells = Arc::new(AtomicU64::new(0));
        let rung = Arc::clone(&bells);
        let working = thread::spawn(move || {
            for number in 0..2 {
                producer.push(&[number]).unwrap();
                if producer.publish() == Bell::Ring {
                    rung.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        consumer.arm();
        before_waiting();
        let _woken_or_not = consumer.has_news();
        let heard = bells.load(Ordering::Acquire);
        consumer.disarm();
        consumer.look().unwrap();
        while consumer.take().is_some() {}
        consumer.release();
        consumer.arm();
        before_waiting();
        let sleeps = !consumer.has_news();
        working.join().unwrap();
        let left = consumer.look().unwrap();
        assert!(!sleeps || left == 0 || bells.load(Ordering::Acquire) > heard, "asleep beside {left} records");
    });
}
