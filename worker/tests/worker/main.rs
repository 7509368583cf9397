//! Tries the library in real processes, against a supervisor that does what it is told.
//!
//! The workers are the examples, and this test binary itself: started with [`programs::PROGRAM`] set, the test
//! `a_worker_program` becomes the program that the variable names.

mod async_programs;
mod asynchronous;
mod beating;
mod by_hand;
mod examples;
mod fake;
mod half_open;
mod leaving;
mod listening;
mod marking;
mod programs;
mod serving;
mod starving;

#[test]
fn a_worker_program() {
    programs::become_the_named_one();
}
