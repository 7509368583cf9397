//! What becomes of everybody when a process stops or dies, a resource ends, a reader sleeps, or clients leave?

#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/crowds.rs"]
mod crowds;
#[path = "faults/log.rs"]
mod log;
#[path = "faults/processes.rs"]
mod processes;
#[path = "faults/stopped.rs"]
mod stopped;
#[path = "faults/vanishing.rs"]
mod vanishing;
