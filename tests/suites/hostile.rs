//! Is a worker that breaks the protocol contained, replaced, and harmless to the pool next door?

#[path = "hostile/inn.rs"]
mod inn;

use std::time::{Duration, Instant};

use inn::{Harm, Inn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::builder::Builder;
use ostler_tests::deadline::{SLACK, SOON, wait_until};
use ostler_tests::http::{Connection, Keep};
use ostler_tests::status::WorkerState;
use ostler_tests::{Scratch, procs, programs};

/// Where it is a matter of time which lie is found first.
const ANY_LIE: &str = "broke the protocol: it";

/// A worker that the supervisor replaces by itself, because the log says that `it` broke the protocol.
fn is_found_out(mode: &str, it: &str, harm: Harm) {
    let mut inn = Inn::open(mode);
    let hostile = inn.provoke();
    inn.invite();
    inn.wait_replaced(hostile);
    inn.ostler.wait_log(&["worker=bad/0.1", "broke the protocol", it]);
    inn.close(harm);
}

/// A worker that ends, or has to, though nobody calls it a liar.
fn is_replaced(mode: &str, log: &str, harm: Harm) {
    let mut inn = Inn::open(mode);
    let hostile = inn.provoke();
    inn.invite();
    inn.wait_replaced(hostile);
    inn.ostler.wait_log(&["worker=bad/0.1", log]);
    inn.close(harm);
}

/// A worker that stays, and whose harm stays with its own clients.
fn is_endured(mode: &str, harm: Harm) {
    let mut inn = Inn::open(mode);
    inn.provoke();
    inn.invite();
    inn.wait_deed();
    inn.close(harm);
}

/// A worker that stays and serves: what it does makes no difference.
fn is_not_even_noticed(mode: &str) {
    let mut inn = Inn::open(mode);
    inn.provoke();
    inn.invite();
    inn.wait_deed();
    inn.assert_all_served();
    inn.close(Harm::Nobody);
}

// ── frames ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn one_that_sends_garbage_is_found_out() {
    is_found_out("sends_garbage", "does not decode", Harm::Nobody);
}

#[test]
fn one_that_sends_a_frame_that_is_too_long_is_found_out() {
    is_found_out("sends_a_frame_that_is_too_long", "at most", Harm::Nobody);
}

#[test]
fn one_that_sends_an_empty_frame_is_replaced() {
    is_replaced("sends_an_empty_frame", "ended with signal SIGTERM", Harm::Nobody); // for a SEQPACKET socket that is how an end looks
}

#[test]
fn one_that_says_ready_twice_is_found_out() {
    is_found_out("says_ready_twice", "said Ready twice", Harm::Claimed);
}

#[test]
fn one_that_says_hello_twice_is_found_out() {
    is_found_out("says_hello_twice", "said Hello twice", Harm::Nobody);
}

#[test]
fn one_that_says_ready_before_hello_is_found_out() {
    is_found_out("says_ready_before_hello", "before it said Hello", Harm::Nobody);
}

#[test]
fn one_that_speaks_another_protocol_is_found_out() {
    is_found_out("speaks_another_protocol", "speaks protocol 2", Harm::Nobody);
}

#[test]
fn one_that_floods_its_control_is_found_out() {
    is_found_out("floods_its_control", "nobody asked for", Harm::Claimed);
}

#[test]
fn one_that_says_for_ever_that_it_leaves_is_made_to() {
    is_replaced("says_for_ever_that_it_leaves", "leaves by itself", Harm::Nobody);
}

#[test]
fn one_that_sends_descriptors_is_found_out() {
    is_found_out("sends_descriptors", "frame", Harm::Nobody);
}

// ── the life of a worker ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn one_that_dies_before_hello_is_replaced() {
    is_replaced("dies_before_hello", "ended with exit code 7", Harm::Nobody);
}

#[test]
fn one_that_never_says_hello_is_replaced() {
    is_replaced("never_says_hello", "not ready in time", Harm::Nobody);
}

#[test]
fn one_that_says_hello_and_is_never_ready_is_replaced() {
    is_replaced("says_hello_and_never_ready", "not ready in time", Harm::Nobody);
}

#[test]
fn one_that_claims_and_never_completes_is_endured() {
    is_endured("claims_and_never_completes", Harm::Claimed);
}

#[test]
fn one_that_never_reads_is_endured() {
    is_endured("never_reads", Harm::Nobody);
}

#[test]
fn one_that_floods_its_log_with_lines_is_endured() {
    is_endured("floods_its_log_with_lines", Harm::Claimed);
}

#[test]
fn one_that_floods_its_log_without_lines_is_endured() {
    is_endured("floods_its_log_without_lines", Harm::Claimed);
}

#[test]
fn one_that_ignores_term_is_killed_when_it_has_to_go() {
    let mut inn = Inn::open("ignores_term");
    let hostile = inn.provoke();
    let pid = inn.bad_pid();
    // Stopped, it does not even see the end of its mailbox.
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("a worker");
    assert_eq!(inn.ostler.command(&["restart", "bad"]).code, 0);
    inn.wait_replaced(hostile);
    wait_until(Duration::from_millis(700) + SLACK, "it is killed", || !procs::alive(pid));
    inn.ostler.wait_log(&["worker=bad/0.1", "KILL"]);
    inn.close(Harm::Nobody);
}

#[test]
fn a_stop_is_not_held_up_by_one_that_does_nothing() {
    for mode in ["never_reads", "claims_and_never_completes", "never_says_hello"] {
        let mut inn = Inn::open(mode);
        inn.provoke();
        inn.invite();
        inn.stop_in_war();
    }
}

#[test]
fn a_stop_is_not_held_up_by_lies() {
    for mode in ["completes_what_it_never_claims", "fills_its_doorbell", "scribbles_over_the_gauges"] {
        let mut inn = Inn::open(mode);
        inn.provoke();
        inn.invite();
        inn.wait_deed();
        inn.stop_in_war();
    }
}

#[test]
fn a_child_in_its_group_goes_with_it() {
    is_replaced("leaves_a_child_in_its_group", "ended with exit code 9", Harm::Nobody);
}

#[test]
fn a_child_in_a_session_of_its_own_keeps_what_it_claimed_and_nothing_else() {
    is_replaced("leaves_a_child_in_a_session", "ended with exit code 9", Harm::Claimed);
}

// ── the ring ───────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn one_that_publishes_everything_is_found_out() {
    is_found_out("publishes_everything", "18446744073709551615 are published", Harm::Nobody);
}

#[test]
fn one_that_publishes_one_more_than_fits_is_found_out() {
    is_found_out("publishes_one_more_than_fits", "are published and 0 consumed", Harm::Nobody);
}

#[test]
fn one_that_takes_back_what_it_published_is_found_out() {
    is_found_out("takes_back_what_it_published", "0 are published and 1 consumed", Harm::Nobody);
}

#[test]
fn one_that_publishes_records_that_it_did_not_write_is_found_out() {
    is_found_out("publishes_records_that_it_did_not_write", ANY_LIE, Harm::Claimed);
}

#[test]
fn one_that_punches_holes_in_its_region_is_found_out() {
    is_found_out("punches_holes_in_its_region", "0 are published and 1 consumed", Harm::Nobody);
}

#[test]
fn one_that_scribbles_over_everything_is_found_out() {
    is_found_out("scribbles_over_everything", ANY_LIE, Harm::Claimed);
}

#[test]
fn one_that_scribbles_over_its_records_is_found_out() {
    is_found_out("scribbles_over_its_records", ANY_LIE, Harm::Claimed);
}

#[test]
fn one_that_scribbles_small_numbers_is_found_out() {
    is_found_out("scribbles_small_numbers", ANY_LIE, Harm::Claimed);
}

#[test]
fn a_supervisor_does_not_read_what_it_wrote_for_a_worker() {
    is_endured("scribbles_over_the_gauges", Harm::Claimed);
}

#[test]
fn a_worker_can_neither_write_the_gauges_nor_resize_nor_seal_its_memory() {
    let mut inn = Inn::open("tries_what_memory_forbids");
    inn.provoke();
    inn.wait_deed();
    inn.ostler.wait_log(&["worker=bad/0.1", "cannot map the gauges for writing"]);
    for memory in ["region", "gauges"] {
        for deed in ["shrink", "grow", "seal"] {
            inn.ostler.wait_log(&["worker=bad/0.1", &format!("cannot {deed} the {memory}")]);
        }
    }
    assert!(!inn.ostler.log_contains("managed to"), "{}", inn.ostler.log());
    inn.invite();
    inn.assert_all_served();
    inn.close(Harm::Nobody);
}

#[test]
fn a_loop_waits_while_a_liar_takes_its_time_to_leave() {
    let mut inn = Inn::open_with_patience("lies_and_ignores_term", "5s");
    let hostile = inn.provoke();
    inn.invite();
    let pid = inn.pid_of(hostile);
    inn.ostler.wait_log(&["worker=bad/0.1", "broke the protocol", "are published"]);
    wait_until(SOON, "the supervisor waits", || procs::stat(inn.ostler.pid()).is_some_and(|stat| stat.state == 'S'));
    assert!(procs::alive(pid), "the liar was to be there still");
    inn.close(Harm::Claimed);
}

// ── gauges and doorbell ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn one_that_shows_absurd_gauges_is_not_even_noticed() {
    is_not_even_noticed("shows_absurd_gauges");
}

#[test]
fn one_that_never_claims_is_stuck_whatever_its_gauges_say() {
    let mut inn = Inn::open("shows_absurd_gauges_and_never_claims");
    inn.provoke();
    inn.invite();
    inn.ostler.wait_log(&["worker=bad/0.1", "does not claim though it has places; last heard of 0s ago"]);
    inn.close(Harm::Nobody);
}

#[test]
fn one_that_rings_for_nothing_is_found_out() {
    is_found_out("rings_for_nothing", "rang its doorbell", Harm::Nobody);
}

#[test]
fn one_that_fills_its_doorbell_is_not_even_noticed() {
    is_not_even_noticed("fills_its_doorbell");
}

#[test]
fn one_that_reads_its_doorbell_is_not_even_noticed() {
    is_not_even_noticed("reads_its_doorbell");
}

// ── times ──────────────────────────────────────────────────────────────────────────────────────────────────────

const HEARTBEAT: &str = r#"heartbeat = "1s""#;
const REQUEST: &str = r#"heartbeat = "0s", request = "1s", slow = "100ms""#;
const BOTH: &str = r#"heartbeat = "1s", request = "1s", slow = "100ms""#;
/// Longer than a beat, the doubt that follows, or a request may take.
const BITTEN_BY: Duration = Duration::from_millis(2500);

/// How often the pool looks at a worker at most, whatever that says of itself: its `PULSE_SPACING_MIN` and its
/// `MARKS_SPACING_MIN`.
const SPACING: Duration = Duration::from_millis(100);

/// So long a supervisor is observed: without that pause it would look some three hundred times.
const OBSERVED: Duration = Duration::from_secs(4);

/// A liar that the watchdogs have had the time to bite, and that has done what its mode is about.
fn is_watched(mode: &str, watchdog: &str) -> (Inn, u64) {
    let mut inn = Inn::open_watched(mode, watchdog);
    let hostile = inn.provoke();
    inn.invite();
    inn.wait_deed();
    let since = Instant::now();
    wait_until(SOON, "every watchdog would have bitten", || since.elapsed() > BITTEN_BY);
    (inn, hostile)
}

/// It is the same one still, and the supervisor found nothing to say about it.
fn is_left_alone(mode: &str, watchdog: &str, harm: Harm) {
    let (mut inn, hostile) = is_watched(mode, watchdog);
    assert_eq!(inn.bad_id(), hostile, "{}", inn.ostler.log());
    if harm == Harm::Nobody {
        inn.assert_all_served();
    }
    inn.close(harm);
}

/// It has to go, for this reason, and nobody else with it.
fn is_bitten(mode: &str, watchdog: &str, log: &str) {
    let (inn, hostile) = is_watched(mode, watchdog);
    inn.wait_replaced(hostile);
    inn.ostler.wait_log(&["worker=bad/0.1", log]);
    assert!(!inn.ostler.log().lines().any(|line| line.contains("good/") && line.contains(log)), "{}", inn.ostler.log());
    inn.close(Harm::Claimed);
}

#[test]
fn one_that_beats_in_the_future_is_not_even_noticed() {
    is_left_alone("beats_in_the_future", HEARTBEAT, Harm::Nobody);
}

#[test]
fn one_that_beats_in_the_future_and_stands_still_harms_only_whom_it_holds() {
    is_left_alone("beats_in_the_future_and_stands_still", HEARTBEAT, Harm::Claimed);
}

#[test]
fn one_that_says_it_beat_long_ago_is_replaced() {
    is_bitten("beats_in_the_past", HEARTBEAT, "does not move");
}

#[test]
fn one_that_is_busy_since_before_it_was_handed_anything_is_overdue_when_it_has_had_that_for_too_long() {
    is_bitten("is_busy_since_long_ago", REQUEST, "is at one request");
}

#[test]
fn one_that_is_busy_since_the_future_harms_only_whom_it_holds() {
    is_left_alone("is_busy_since_the_future", REQUEST, Harm::Claimed);
}

#[test]
fn one_that_marks_what_others_hold_harms_only_whom_it_holds() {
    // Looked at after 100 ms, and not overdue by anything that is its own.
    is_left_alone("marks_what_others_hold", r#"heartbeat = "0s", request = "60s", slow = "100ms""#, Harm::Claimed);
}

#[test]
fn one_that_scribbles_over_its_times_harms_only_whom_it_holds() {
    let (inn, _) = is_watched("scribbles_over_its_times", BOTH);
    inn.close(Harm::Claimed);
}

/// Wakes of the supervisor for a worker alone in the world whose next deadline is always the next moment.
fn looks_are_spaced(mode: &str, watchdog: &str) {
    let scratch = Scratch::new();
    let peace = scratch.path("peace");
    let command = programs::toml(&programs::hostile(mode, &peace));
    let config = format!(
        "[pool.bad]\nlisten = [\"unix:bad.sock\"]\ncommand = {command}\nworkers = 1\n\
         drain = {{ timeout = \"300ms\", kill_after = \"400ms\" }}\nwatchdog = {{ {watchdog} }}\n"
    );
    let mut ostler = Builder::new(&scratch).config(config).start();
    let mut client = Connection::open(&ostler.unix("bad.sock"), SOON).expect("the supervisor accepts");
    client.ask("/", Keep::Once).expect("a request is short");
    wait_until(SOON, "the hostile worker does its deed", || peace.with_extension("did").exists());
    let worker = ostler.status().only().pids();
    let (woken, cpu, since) = (wakes(ostler.pid()), procs::cpu_time(ostler.pid()), Instant::now());
    wait_until(SOON, "there was time for many looks", || since.elapsed() > OBSERVED);
    let woken = wakes(ostler.pid()) - woken;
    let cpu = procs::cpu_time(ostler.pid()).zip(cpu).map(|(after, before)| after - before).expect("it runs");
    let length = since.elapsed();
    // On a machine with too much to do its lie comes too late now and then, and is found out: that costs a few, and ends it.
    let replacing = if ostler.status().only().pids() == worker { 0 } else { 100 };
    // Half of them are looks; the rest is for what else there is to do.
    let most = u64::try_from(2 * length.as_millis() / SPACING.as_millis()).expect("a few") + 20 + replacing;
    assert!(woken <= most, "woken {woken} times in {length:?}, at most {most} are due");
    assert!(cpu < length / 2, "{cpu:?} of CPU time in {length:?}: it spins");
    ostler.signal(Signal::SIGTERM);
    let ended = ostler.wait(Duration::from_secs(30) + SLACK);
    assert!([0, 4].contains(&ended.code), "{}", ended.log);
    ostler.assert_no_process_left();
}

/// How often its loop has waited.
fn wakes(pid: i32) -> u64 {
    procs::status_field(pid, "voluntary_ctxt_switches").parse().expect("a count")
}

#[test]
fn one_that_beats_almost_too_late_does_not_make_the_timer_spin() {
    looks_are_spaced("beats_almost_too_late", HEARTBEAT);
}

#[test]
fn one_that_is_always_almost_slow_does_not_make_the_timer_spin() {
    // Whoever is overdue has to go, and the lie would end with him where it comes a little too late.
    looks_are_spaced("is_always_almost_slow", r#"heartbeat = "0s", slow = "1s""#);
}

// ── what it says of its connections ────────────────────────────────────────────────────────────────────────────

#[test]
fn one_that_reports_an_outcome_that_does_not_exist_is_found_out() {
    is_found_out("reports_an_outcome_that_does_not_exist", "the outcome 77, which does not exist", Harm::Claimed);
}

#[test]
fn one_that_completes_what_it_never_had_is_found_out() {
    is_found_out("completes_what_it_never_had", "c18446744073709551615, which it does not hold", Harm::Nobody);
}

#[test]
fn one_that_completes_the_first_connection_of_all_is_found_out() {
    is_found_out("completes_the_first_connection_of_all", "c0, which it does not hold", Harm::Nobody);
}

#[test]
fn one_that_completes_a_connection_of_the_neighbours_is_found_out() {
    is_found_out("completes_a_connection_of_the_neighbours", "which it does not hold", Harm::Nobody);
}

#[test]
fn one_that_completes_twice_is_found_out() {
    is_found_out("completes_twice", "which it does not hold", Harm::Claimed);
}

#[test]
fn one_that_completes_what_it_never_claimed_is_found_out_when_it_leaves() {
    is_found_out("completes_what_it_never_claimed", "which it never claimed", Harm::Nobody);
}

#[test]
fn one_that_truncates_what_it_never_claimed_is_found_out_when_it_leaves() {
    is_found_out("truncates_what_it_never_claimed", "which it never claimed", Harm::Nobody);
}

#[test]
fn whom_it_says_it_has_served_is_served_by_its_successor() {
    is_endured("completes_what_it_never_claims", Harm::Nobody);
}

#[test]
fn one_that_completes_what_was_recalled_is_found_out() {
    is_found_out("completes_what_was_recalled", "which it does not hold", Harm::Nobody);
}

// ── sockets ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn nothing_can_be_written_into_a_mailbox_from_the_workers_end() {
    let mut inn = Inn::open("writes_into_its_mailbox");
    inn.provoke();
    inn.wait_deed();
    inn.ostler.wait_log(&["worker=bad/0.1", "cannot write into its mailbox", "Broken pipe"]);
    inn.ostler.wait_log(&["worker=bad/0.1", "cannot send a descriptor there", "Broken pipe"]);
    inn.invite();
    inn.assert_all_served();
    inn.close(Harm::Nobody);
}

#[test]
fn what_waits_in_a_mailbox_is_served_by_others_whatever_options_it_has() {
    let mut inn = Inn::open("sets_options");
    inn.provoke();
    inn.invite();
    inn.wait_deed();
    inn.ostler.wait_log(&["worker=bad/0.1", "cannot filter its mailbox"]);
    inn.close(Harm::Nobody);
}

#[test]
fn one_that_sets_options_for_ever_is_endured() {
    is_endured("sets_options_for_ever", Harm::Claimed);
}

#[test]
fn one_that_refuses_descriptors_is_replaced() {
    is_replaced("refuses_descriptors", "leaves by itself", Harm::Nobody);
}

#[test]
fn one_that_shuts_its_mailbox_is_replaced() {
    is_replaced("shuts_its_mailbox", "leaves by itself", Harm::Nobody);
}

#[test]
fn one_that_stops_reading_its_mailbox_is_replaced() {
    for mode in ["stops_reading_its_mailbox", "shuts_its_mailbox_with_a_client_in_hand"] {
        is_replaced(mode, "leaves by itself", Harm::Nobody);
    }
}

#[test]
fn one_that_ends_a_direction_that_nobody_uses_is_not_even_noticed() {
    for mode in ["stops_writing_to_its_mailbox", "stops_reading_its_control"] {
        is_not_even_noticed(mode);
    }
}

#[test]
fn one_that_ends_its_control_is_replaced() {
    for mode in ["stops_writing_to_its_control", "shuts_its_control"] {
        is_replaced(mode, "ended with signal SIGTERM", Harm::Nobody);
    }
}

#[test]
fn one_that_closes_its_descriptors_is_replaced() {
    is_replaced("closes_its_descriptors", "ended with signal SIGTERM", Harm::Nobody);
}

#[test]
fn what_is_completed_after_the_end_of_a_control_channel_is_not_lost() {
    let mut inn = Inn::open_with_patience("completes_after_its_control_is_shut", "5s");
    let hostile = inn.provoke();
    inn.invite();
    inn.wait_deed();
    inn.ostler.wait_status("the end of its channel is seen", |status| {
        let worker = status.pool("bad").workers.iter().find(|worker| worker.id == Some(hostile))?;
        (worker.state == WorkerState::Draining).then_some(())
    });
    inn.tell();
    inn.wait_replaced(hostile);
    inn.close(Harm::Nobody);
}
