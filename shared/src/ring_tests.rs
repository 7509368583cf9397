//! Holds what a ring promises, against a plain queue as the oracle.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::sys::memory::on_the_heap;

const RECORDS: usize = 1;

/// Both ends of a ring of records of two words, and what a hostile producer has: its memory.
fn ring(capacity: u32) -> (Producer<2>, Consumer<2>, OwnMemory) {
    let capacity = Capacity::at_least(capacity).unwrap();
    let place = Place { published: 0, records: RECORDS, consumed: 0, waiting: 1, capacity };
    let (producers, producers_seen) = on_the_heap(RECORDS + 2 * capacity.records() as usize);
    let (consumers, consumers_seen) = on_the_heap(2);
    let producer = Producer::new(producers.clone(), consumers_seen, place);
    (producer, Consumer::new(consumers, producers_seen, place), producers)
}

fn drain(consumer: &mut Consumer<2>) -> Vec<[u64; 2]> {
    consumer.look().unwrap();
    let taken = std::iter::from_fn(|| consumer.take()).collect();
    consumer.release();
    taken
}

#[test]
fn records_come_out_in_order_across_the_wrap() {
    let (mut producer, mut consumer, _) = ring(4);
    for round in 0..10 {
        for offset in 0..3 {
            producer.push(&[round, offset]).unwrap();
        }
        producer.publish_quietly();
        assert_eq!(drain(&mut consumer), [[round, 0], [round, 1], [round, 2]]);
    }
}

#[test]
fn a_record_is_not_seen_before_it_is_published() {
    let (mut producer, mut consumer, _) = ring(4);
    producer.push(&[1, 1]).unwrap();
    assert_eq!(drain(&mut consumer), [] as [[u64; 2]; 0], "a producer that dies here has said nothing");
    producer.publish_quietly();
    assert_eq!(drain(&mut consumer), [[1, 1]]);
}

#[test]
fn a_full_ring_refuses_and_keeps_what_it_has_until_slots_are_released() {
    let (mut producer, mut consumer, _) = ring(2);
    producer.push(&[1, 0]).unwrap();
    producer.push(&[2, 0]).unwrap();
    assert_eq!(producer.push(&[3, 0]), Err(Full));
    producer.publish_quietly();
    consumer.look().unwrap();
    assert_eq!(consumer.take(), Some([1, 0]));
    assert_eq!(producer.push(&[3, 0]), Err(Full), "taken, and not released yet");
    consumer.release();
    producer.push(&[3, 0]).unwrap();
    assert_eq!(producer.push(&[4, 0]), Err(Full));
    producer.publish_quietly();
    assert_eq!(drain(&mut consumer), [[2, 0], [3, 0]]);
}

#[test]
fn the_bell_rings_only_while_the_consumer_waits() {
    let (mut producer, mut consumer, _) = ring(4);
    producer.push(&[1, 0]).unwrap();
    assert_eq!(producer.publish(), Bell::Silent);
    consumer.arm();
    before_waiting();
    assert!(consumer.has_news(), "published before it armed: it must not wait");
    drain(&mut consumer);
    assert!(!consumer.has_news());
    producer.push(&[2, 0]).unwrap();
    assert_eq!(producer.publish(), Bell::Ring);
    assert_eq!(producer.publish(), Bell::Silent, "there was nothing to publish");
    consumer.disarm();
    producer.push(&[3, 0]).unwrap();
    assert_eq!(producer.publish(), Bell::Silent);
}

#[test]
fn a_capacity_is_a_power_of_two_within_its_limit() {
    let capacities = [0, 1, 2, 3, 5, CAPACITY_MAX].map(|records| Capacity::at_least(records).unwrap().records());
    assert_eq!(capacities, [1, 1, 2, 4, 8, CAPACITY_MAX]);
    assert_eq!(Capacity::at_least(CAPACITY_MAX + 1), None);
    for claimed in [0, 3, u64::from(CAPACITY_MAX) + 1, u64::MAX] {
        assert_eq!(Capacity::claimed(claimed), None, "{claimed}");
    }
    assert_eq!(Capacity::claimed(8), Capacity::at_least(8));
}

#[test]
fn a_lying_header_is_refused_and_nothing_is_read() {
    for lie in [5, u64::MAX, 1 << 63] {
        let (_, mut consumer, memory) = ring(4);
        memory.store(0, lie, Ordering::Relaxed);
        assert_eq!(consumer.look(), Err(Lie { published: lie, consumed: 0, capacity: 4 }));
        assert!(consumer.has_news(), "a lie is news: it must not be slept over");
        assert_eq!(consumer.take(), None);
    }
}

#[test]
fn a_header_that_goes_back_is_a_lie() {
    let (mut producer, mut consumer, memory) = ring(4);
    for number in 0..3 {
        producer.push(&[number, 0]).unwrap();
    }
    producer.publish_quietly();
    assert_eq!(consumer.look(), Ok(3));
    consumer.take();
    memory.store(0, 2, Ordering::Relaxed); // more than was taken, less than was seen
    assert_eq!(consumer.look(), Err(Lie { published: 2, consumed: 1, capacity: 4 }));
    memory.store(0, 0, Ordering::Relaxed);
    assert!(consumer.look().is_err());
}

#[test]
fn a_consumer_that_claims_to_be_ahead_gives_no_room() {
    let capacity = Capacity::at_least(2).unwrap();
    let place = Place { published: 0, records: RECORDS, consumed: 0, waiting: 1, capacity };
    let (liars, liars_seen) = on_the_heap(2);
    let mut producer: Producer<2> = Producer::new(on_the_heap(5).0, liars_seen, place);
    producer.push(&[1, 0]).unwrap();
    producer.push(&[2, 0]).unwrap();
    liars.store(0, 99, Ordering::Relaxed);
    assert_eq!(producer.push(&[3, 0]), Err(Full));
}

/// What the two sides can do, in any order.
#[derive(Debug, Clone)]
enum Move {
    Push,
    Publish,
    Take,
    Release,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => Just(Move::Push),
        2 => Just(Move::Publish),
        4 => Just(Move::Take),
        2 => Just(Move::Release),
    ];
    let longest = if cfg!(miri) { 60 } else { 400 };
    proptest::collection::vec(one, 1..longest)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 512 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Oracle: a queue of what was published, and how many slots are taken.
    #[test]
    fn a_ring_is_a_bounded_queue(records in 1u32..9, moves in moves()) {
        let (mut producer, mut consumer, _) = ring(records);
        let capacity = Capacity::at_least(records).unwrap().records() as usize;
        let (mut hidden, mut shown) = (Vec::new(), VecDeque::new());
        let (mut unreleased, mut next) = (0, 0);
        for one in moves {
            match one {
                Move::Push => {
                    let fits = hidden.len() + shown.len() + unreleased < capacity;
                    prop_assert_eq!(producer.push(&[next, !next]).is_ok(), fits);
                    if fits {
                        hidden.push([next, !next]);
                        next += 1;
                    }
                }
                Move::Publish => {
                    producer.publish_quietly();
                    shown.extend(hidden.drain(..));
                }
                Move::Take => {
                    prop_assert_eq!(consumer.look().unwrap() as usize, shown.len());
                    prop_assert_eq!(consumer.has_news(), !shown.is_empty());
                    let taken = consumer.take();
                    unreleased += usize::from(taken.is_some());
                    prop_assert_eq!(taken, shown.pop_front());
                }
                Move::Release => {
                    consumer.release();
                    unreleased = 0;
                }
            }
        }
    }

    /// Whatever a producer writes anywhere, the consumer stays inside, and one look costs at most a ringful.
    #[test]
    fn no_header_makes_the_consumer_panic_or_read_beyond_a_ringful(
        headers in proptest::collection::vec(prop_oneof![any::<u64>(), 0u64..40], 1..60),
    ) {
        let (_, mut consumer, memory) = ring(8);
        for header in headers {
            memory.store(0, header, Ordering::Relaxed);
            if let Ok(count) = consumer.look() {
                prop_assert!(count <= 8);
                prop_assert_eq!(std::iter::from_fn(|| consumer.take()).count() as u64, count);
                consumer.release();
            }
        }
    }
}

/// Two threads, as two processes would; under miri with its own scheduler, few rounds.
#[test]
fn two_threads_pass_every_record_once_and_in_order() {
    let count: u64 = if cfg!(miri) { 200 } else { 200_000 };
    let (mut producer, mut consumer, _) = ring(64);
    let writing = std::thread::spawn(move || {
        for number in 0..count {
            while producer.push(&[number, number ^ 0xff]).is_err() {
                std::thread::yield_now();
            }
            if number % 3 == 0 {
                let _polled = producer.publish();
            }
        }
        producer.publish_quietly();
    });
    let mut expected = 0;
    while expected < count {
        if consumer.look().unwrap() == 0 {
            std::thread::yield_now();
        }
        while let Some(record) = consumer.take() {
            assert_eq!(record, [expected, expected ^ 0xff]);
            expected += 1;
        }
        consumer.release();
    }
    writing.join().unwrap();
}
