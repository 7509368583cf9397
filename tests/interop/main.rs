//! Do real programs that know nothing of ostler serve under it, and lose nothing over reloads, kills and a stop?
//!
//! | file | what |
//! |---|---|
//! | `programs.rs` | the list: program, version, handoff, command. Whoever adds a program adds a row there |
//! | `scenario.rs` | the one scenario that every row goes through, and the cells of the table that come of it |
//! | `page.rs` | the table in the README, and its comparison with what the rows gave |
//! | `judges/` | nginx and HAProxy in front of ostler, whose own counters say what they saw |
//!
//! `BLESS=1` writes the rows that were run into the README. `OSTLER_LONG=1` makes more reloads and more kills.

mod judges;
mod page;
mod programs;
mod scenario;
