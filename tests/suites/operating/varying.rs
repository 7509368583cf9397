//! Takes out of a text what is another one at each run: pids, times, sizes, rates, versions, and what the kernel calls its functions.
//!
//! What an operator reads there stays: names, states, counts, exit codes, signals.

/// The text with a word in place of what varies, and one space between words.
pub(crate) fn plain(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut is_log = false;
    for text in text.lines() {
        // How many lines of the log fit below depends on what is above.
        is_log = !text.is_empty() && (is_log || text == LOG_ON_A_SCREEN);
        match (text.contains(STACK), text.split_once(WHOSE)) {
            (true, whose) => {
                // Root alone sees the kernel's stacks. What the last line of a message says of all of it stays.
                let last = lines.last_mut().filter(|_| !is_log);
                last.zip(whose)
                    .into_iter()
                    .for_each(|(last, (_, whose))| *last += &format!(" {}", line(&format!("{WHOSE}{whose}"))));
            }
            (false, _) if is_log && text != LOG_ON_A_SCREEN => {}
            (false, _) => lines.push(line(text)),
        }
    }
    lines.into_iter().fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

const STACK: &str = "[<0>]";
const WHOSE: &str = " worker=";
const LOG_ON_A_SCREEN: &str = "its slot's last lines of the log";

fn line(line: &str) -> String {
    let mut words: Vec<String> = line.split_whitespace().map(word).collect();
    for at in 0..words.len() {
        let before = if at == 0 { "" } else { words[at - 1].as_str() };
        let is_count = !words[at].is_empty() && words[at].bytes().all(|byte| byte.is_ascii_digit());
        let follows_name = is_worker(before);
        if is_count && (["pid", "thread"].contains(&before) || follows_name) {
            words[at] = "PID".into();
        } else if before == "-CONT" || before == "was" && at > 1 && words[at - 2] == "pid" {
            words[at] = format!("PID{}", split_digits(&words[at]).1);
        } else if is_count && words.get(at + 1).is_some_and(|unit| unit == "kB") {
            words[at] = "SIZE".into();
        } else if before == "in" && at > 1 && words[at - 2] == "waits" {
            words[at] = "FUNCTION,".into();
        } else if is_count && before == "call" {
            words[at] = "NUMBER".into();
        }
    }
    // A row of `ostler trace`: times that are too short to be any.
    if words.len() > 6 && words[0] == "TIME" && words[1] == "CONN" {
        words[3..6].iter_mut().filter(|word| *word == "0").for_each(|word| *word = "AGE".into());
    }
    words.join(" ")
}

/// `pool/slot.generation`.
fn is_worker(word: &str) -> bool {
    let parts = word.split_once('/').and_then(|(_, rest)| rest.split_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    parts.is_some_and(|(slot, generation)| is_number(slot) && is_number(generation))
}

/// A word with its numbers replaced that have a unit, a fraction, or a name that says what they are.
fn word(word: &str) -> String {
    let mut rest = word;
    let mut plain = String::new();
    while let Some(first) = rest.chars().next() {
        let is_inside = plain.chars().last().is_some_and(|last| last.is_alphanumeric() || last == '.');
        let is_key = |key: &str| plain == key || plain.ends_with(&format!(",{key}"));
        let (digits, behind) = split_number(rest);
        if first == 'c'
            && !is_inside
            && is_end(split_digits(&rest[1..]).1)
            && rest[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            plain += "CONN";
            rest = split_digits(&rest[1..]).1;
        } else if digits.is_empty() || is_inside {
            plain.push(first);
            rest = &rest[first.len_utf8()..];
        } else if let Some(behind) = after_timestamp(rest) {
            plain += "TIME";
            rest = behind;
        } else if let Some(behind) = after_duration(rest) {
            plain += "AGE";
            rest = behind;
        } else if let Some(behind) =
            ["M", "G", "MiB"].iter().find_map(|unit| behind.strip_prefix(unit)).filter(|behind| is_end(behind))
        {
            plain += "SIZE";
            rest = behind;
        } else if is_key("uid:") || is_key("pid:") || is_key("pid=") {
            plain += "ID";
            rest = behind;
        } else if digits.contains('.') && !plain.ends_with('/') {
            plain += if digits.matches('.').count() == 1 { "RATE" } else { "VERSION" };
            rest = behind;
        } else {
            plain += digits;
            rest = behind;
        }
    }
    plain
}

fn is_end(rest: &str) -> bool {
    !rest.starts_with(char::is_alphanumeric)
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Digits with points between them.
fn split_number(text: &str) -> (&str, &str) {
    let (digits, _) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    if digits.starts_with('.') { text.split_at(0) } else { text.split_at(digits.trim_end_matches('.').len()) }
}

/// `2026-11-30T02:15:36.816630Z`, and `02:15:36.816`.
fn after_timestamp(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !"-T:.Z".contains(c)).unwrap_or(text.len());
    (text[..end].matches(':').count() == 2).then(|| &text[end..])
}

/// `12s`, `1s952ms`, `3.3ms`.
fn after_duration(text: &str) -> Option<&str> {
    let (digits, behind) = split_number(text);
    let unit =
        ["µs", "ms", "us", "s", "m", "h", "d"].iter().find(|unit| !digits.is_empty() && behind.starts_with(**unit))?;
    let behind = &behind[unit.len()..];
    if is_end(behind) { Some(behind) } else { after_duration(behind) }
}

#[test]
fn stacks_are_for_root_alone() {
    let root =
        "  | thread 7 ostler-watch\n  |   [<0>] poll+0x1/0x2\n  |   [<0>] syscall+0x1/0x2 worker=web/1.1 conn=c4\n";
    assert_eq!(plain(root), plain("  | thread 7 ostler-watch worker=web/1.1 conn=c4\n"));
    let screen = |log: &str| format!("thread 7\n{LOG_ON_A_SCREEN}\n{log}\nq leave\n");
    assert_eq!(plain(&screen("  one worker=a/0.1\n    [<0>] two worker=a/0.1\n")), plain(&screen("  another\n")));
}

#[test]
fn what_varies_is_replaced_and_what_says_something_stays() {
    for (shown, expected) in [
        ("ostler 0.1.0 pid 4086 · running · up 1m3s", "ostler VERSION pid PID · running · up AGE"),
        ("  web/1.1   4092 ready  1/1  13  5.6M  12s   2", "web/1.1 PID ready 1/1 13 SIZE AGE 2"),
        (
            "02:15:37.830  c1  web/1.1  65µs  0  3.3ms  done · uid:0,pid:41 at unix:web.sock",
            "TIME CONN web/1.1 AGE AGE AGE done · uid:ID,pid:ID at unix:web.sock",
        ),
        (
            "2026-11-30T02:15:38.43Z  WARN slow: 565ms worker=web/1.1 conn=c4",
            "TIME WARN slow: AGE worker=web/1.1 conn=CONN",
        ),
        (
            "  | thread 4092 web/1.1 ready, waits in do_x, system call 232",
            "| thread PID web/1.1 ready, waits in FUNCTION, system call NUMBER",
        ),
        ("  |   [<0>] do_epoll_wait+0x548/0x5a0", ""),
        ("! stopped for 3.0s (kill -CONT 8817)", "! stopped for AGE (kill -CONT PID)"),
        ("(its pid was 19300; start it again)", "(its pid was PID; start it again)"),
        ("it is stopped (`kill -CONT 560` lets it go on)", "it is stopped (`kill -CONT PID` lets it go on)"),
        ("ostler_queue_length{pool=\"web\"} 3", "ostler_queue_length{pool=\"web\"} 3"),
        ("ostler_queue_oldest_seconds{pool=\"web\"} 1.51", "ostler_queue_oldest_seconds{pool=\"web\"} RATE"),
        ("hello from worker=web/0.1 pid=7033", "hello from worker=web/0.1 pid=ID"),
        ("state S (sleeping), 5716 kB resident", "state S (sleeping), SIZE kB resident"),
        ("4 of 4, exit 3, 5 times", "4 of 4, exit 3, 5 times"),
        ("1µs/15ms 2/2 0+0 0.7/s", "AGE/AGE 2/2 0+0 RATE/s"),
        ("took=11ms age=4s699ms rss_max=2.1M", "took=AGE age=AGE rss_max=SIZE"),
    ] {
        assert_eq!(plain(shown).trim_end(), expected, "{shown}");
    }
}
