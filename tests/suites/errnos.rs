//! What does the supervisor do when a system call fails, whichever of them and however?
//!
//! The rows are data (`errnos/rows.rs`), the cases are their combinations, and `docs/errors.md` is printed from them.

#[path = "errnos/affairs.rs"]
mod affairs;
#[path = "errnos/house.rs"]
mod house;
#[path = "errnos/inn.rs"]
mod inn;
#[path = "errnos/page.rs"]
mod page;
#[path = "errnos/rows.rs"]
mod rows;

use house::House;
use inn::Inn;
use rows::{ENDINGS, Row, STARTS};

/// Tries every case of some rows on one supervisor, which has to survive them all.
fn are_survived(rows: &[Row]) {
    are_survived_in(House::PLAIN, rows);
}

/// The same of a supervisor with something particular about it.
fn are_survived_in(house: House, rows: &[Row]) {
    let mut inn = Inn::open(house);
    for row in rows {
        for errno in row.errnos {
            for when in row.when {
                eprintln!("{}: {} answers {errno} ({when})", row.during, row.calls);
                inn.suffer(row, errno, when);
            }
        }
    }
    inn.close();
}

#[test]
fn connections_are_accepted_and_handed_over_in_spite_of_errors() {
    are_survived(rows::CONNECTIONS);
}

#[test]
fn the_loop_survives_errors_of_its_own() {
    are_survived(rows::LOOP);
}

#[test]
fn a_worker_that_cannot_be_started_is_tried_again() {
    are_survived(rows::SPAWNS);
}

#[test]
fn a_child_that_fails_before_its_program_runs_is_tried_again() {
    are_survived(rows::CHILDREN);
}

#[test]
fn a_child_that_cannot_become_its_user_is_tried_again() {
    if nix::unistd::geteuid().is_root() {
        return are_survived_in(house::SOMEBODY_ELSE, rows::IDENTITIES);
    }
    // Who can't try it is not let into it either.
    house::is_refused(house::SOMEBODY_ELSE);
}

#[test]
fn a_death_is_taken_in_in_spite_of_errors() {
    are_survived(rows::DEATHS);
}

#[test]
fn clients_of_the_control_socket_suffer_their_errors_alone() {
    are_survived(rows::COMMANDS);
}

#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    are_survived(rows::LOG);
}

#[test]
fn whoever_waits_in_the_line_is_served_in_spite_of_errors() {
    are_survived(affairs::LINE);
}

#[test]
fn whoever_is_refused_gets_a_reply_or_an_end_in_spite_of_errors() {
    are_survived_in(affairs::NARROW, affairs::REFUSALS);
}

#[test]
fn a_worker_that_stands_still_is_replaced_in_spite_of_errors() {
    are_survived_in(affairs::WATCHFUL, affairs::STANDSTILLS);
}

#[test]
fn listeners_change_wholly_or_not_at_all() {
    are_survived(affairs::LISTENERS);
}

#[test]
fn a_hook_that_cannot_be_run_is_done_without() {
    are_survived_in(affairs::HOOKED, affairs::HOOKS);
}

#[test]
fn a_service_manager_that_cannot_be_told_is_not_told() {
    are_survived_in(affairs::MANAGED, affairs::MANAGER);
}

#[test]
fn a_scoreboard_that_cannot_be_written_is_written_later() {
    are_survived(affairs::SCOREBOARD);
}

#[test]
fn processes_of_others_are_accounted_for_in_spite_of_errors() {
    are_survived_in(affairs::UNMODIFIED, affairs::STRANGERS);
}

#[test]
fn a_template_is_asked_again_and_not_blamed_for_errors() {
    are_survived_in(affairs::TEMPLATED, affairs::TEMPLATES);
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    for row in STARTS {
        for errno in row.errnos {
            eprintln!("{}: {} answers {errno}", row.during, row.calls);
            inn::start(row, errno);
        }
    }
}

#[test]
fn a_supervisor_that_ends_in_spite_of_errors_ends_as_it_says() {
    for row in ENDINGS {
        for errno in row.errnos {
            eprintln!("{}: {} answers {errno}", row.during, row.calls);
            inn::end(row, errno);
        }
    }
}

#[test]
fn the_page_of_errors_is_printed_from_these_rows() {
    page::compare();
}
