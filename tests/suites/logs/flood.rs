//! Workers that print too much, too long, or anything but text.

use ostler_tests::Ostler;
use ostler_tests::deadline::{SOON, wait_for};
use ostler_tests::load::Load;

use crate::house::{accepting_after, logs, message, printing};

const QUIET: &str = "[pool.quiet]\nlisten = [\"unix:quiet.sock\"]\nworkers = 2\n";

fn start(first: &str) -> Ostler {
    let config = format!("{QUIET}{}", printing(&accepting_after(first)));
    Ostler::builder().config(config).start()
}

#[test]
fn a_worker_that_floods_is_told_in_part_and_hinders_nobody() {
    let flood = "def flood():\n n = 0\n while True:\n  n += 1\n  os.write(1, b'line %d\\n' % n)\n\
                 threading.Thread(target=flood, daemon=True).start()";
    let mut ostler = start(flood);
    let load = Load::on(&ostler.unix("quiet.sock")).clients(4).start();
    ostler.wait_log(&["printed too much", "only 1000 per second are told", "worker=loud/0.1", "lines="]);
    load.wait_for_more(500);
    // The loop answers meanwhile, and knows that everybody was served.
    let status = ostler.status();
    assert!(status.pool("quiet").done > 0, "{status:?}");
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    let kept = logs(&ostler, &["-n", "100000", "loud/0"]);
    let printed = kept.iter().filter(|line| message(line).starts_with("line ")).count();
    assert!((100..=1000).contains(&printed), "{printed} lines of the flood are kept");
    let quiet = logs(&ostler, &["-n", "100000", "quiet"]);
    assert!(quiet.iter().any(|line| message(line) == "ready"), "the flood drove out nobody's lines: {quiet:?}");
    ostler.stop_clean();
}

#[test]
fn what_was_dropped_is_counted_to_the_last_line() {
    // In one go: 65,536 bytes fit into the pipe, and are read faster than they may be told.
    let mut ostler = start("os.write(1, b'x\\n' * 30000)\nos.write(1, b'the end\\n')");
    let dropped = wait_for(SOON, "all lines are told or counted", || {
        let lines = logs(&ostler, &["-n", "100000", "loud"]);
        let counted: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
        let told = ostler.log().lines().filter(|line| line.contains(" INFO x worker=loud/0.1")).count() as u64;
        let end = u64::from(ostler.log().contains(" INFO the end worker=loud/0.1"));
        (counted + told + end == 30_001).then_some(counted)
    });
    assert!(dropped > 10_000, "{dropped} of 30,001 lines were dropped");
    ostler.stop_clean();
}

#[test]
fn bytes_that_are_no_text_are_kept_and_shown_safely() {
    let mut ostler = start("os.write(2, b'odd \\xff\\xfe \\x1b[31m end\\n')");
    let line = wait_for(SOON, "the line", || {
        logs(&ostler, &["loud"]).into_iter().find(|line| message(line).starts_with("odd"))
    });
    assert_eq!(line["message"], "odd \u{fffd}\u{fffd} \u{1b}[31m end");
    assert_eq!(line["message_base64"], "b2RkIP/+IBtbMzFtIGVuZA==");
    assert_eq!((&line["stream"], &line["worker"]), (&"stderr".into(), &"loud/0.1".into()));
    ostler.wait_log(&[r"odd \xff\xfe \x1b[31m end worker=loud/0.1"]);
    let shown = ostler.command(&["logs", "loud/0"]).stdout;
    assert!(shown.contains(r"odd \xff\xfe \x1b[31m end"), "{shown}");
    ostler.stop_clean();
}

#[test]
fn a_long_line_comes_in_numbered_pieces_of_which_nothing_is_missing() {
    let mut ostler = start("os.write(1, b'a' * 20000 + b'z\\n')\nos.write(1, b'short\\n')");
    let lines = wait_for(SOON, "all of it", || {
        let lines = logs(&ostler, &["loud"]);
        lines.iter().any(|line| message(line) == "short").then_some(lines)
    });
    let pieces: Vec<_> = lines.iter().filter(|line| line["piece"].is_u64()).collect();
    let numbers: Vec<u64> = pieces.iter().filter_map(|line| line["piece"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let whole: String = pieces.iter().map(|line| message(line)).collect();
    assert_eq!(whole, "a".repeat(20_000) + "z");
    ostler.stop_clean();
}

#[test]
fn the_last_words_of_a_worker_that_floods_and_dies_are_its_last_lines() {
    let script = "import os\nos.write(1, b'noise\\n' * 30000)\nos.write(1, b'this is why\\n')\nos._exit(7)\n";
    let again = "start = { failures = 10000, period = \"1s\" }\n";
    let mut ostler = Ostler::builder().config(format!("{QUIET}{}{again}", printing(script))).start_unready();
    let said = || {
        let output = ostler.command(&["deaths", "--json"]);
        let deaths: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
        deaths["deaths"].get(0).map(|death| death["last_words"].to_string())
    };
    let words = wait_for(SOON, "a death", said);
    assert!(words.contains("this is why"), "{words}");
    ostler.stop();
    ostler.assert_no_process_left();
}
