//! What is on the screen.

use std::collections::HashMap;

use crossterm::event::{KeyCode, KeyEvent};
use ostler_shared::scoreboard::content::Template;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::details::{Details, Subject};
use super::super::errands::News;
use super::super::sample::{S, content, glance, running};
use super::super::source::{Found, Standing};
use super::super::state::Top;
use super::draw;

fn top() -> Top {
    let mut top = Top::default();
    top.look(running(content()));
    top
}

fn press(top: &mut Top, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            letter => KeyCode::Char(letter),
        };
        top.key(KeyEvent::from(code));
    }
}

/// The lines of a screen of this size, without what is blank at their ends.
fn screen(top: &mut Top, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, top)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| row(y).trim_end().to_owned()).collect()
}

fn find<'a>(lines: &'a [String], what: &str) -> &'a str {
    lines.iter().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what:?} in {lines:#?}"))
}

#[test]
fn eighty_columns_show_who_is_busy_who_is_missing_and_how_long_clients_wait() {
    let lines = screen(&mut top(), 80, 24);
    assert!(lines[0].starts_with("ostler 0.1.0 · pid 77 · running · up 1m · deaths 1 · "), "{}", lines[0]);
    let expected = [
        "  pool       state      ready    load   line done/s  wait 50/99 serve 50/99",
        "› web        degraded     2/3     1/2      7      - 1.0ms/40ms 2.0ms/80ms",
        "  api        ready        1/1     0/1      0      - 1.0ms/40ms 2.0ms/80ms",
        "workers 4",
        "  worker              pid state       load done/s  memory  age restarts  conn",
        "› web/0.3             101 ready        0/1      -   20.0M   1m        0     -",
        "  web/1.3             102 ready        1/1      -   30.0M   1m        0   15s",
        "  web/2.3               - backoff      -/1      -       -    -        4     -",
        "  api/0.3             201 ready        0/1      -    8.0M   1m        0     -",
    ];
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: Vec<String> = lines[1..=expected.len()].iter().map(|line| squeeze(line)).collect();
    assert_eq!(shown, expected.map(squeeze), "{lines:#?}");
    assert!(lines.last().unwrap().ends_with(" ? q"), "{lines:#?}");
}

#[test]
fn more_room_shows_more_and_less_room_what_matters() {
    let wide = screen(&mut top(), 132, 24);
    assert!(find(&wide, "› web/0.3").contains("500"), "{wide:#?}");
    assert!(find(&wide, "lost+shed").contains("gen") && find(&wide, "degraded").ends_with("1+3"), "{wide:#?}");
    let narrow = screen(&mut top(), 40, 12);
    assert!(find(&narrow, "web/1.3").contains("15s"), "{narrow:#?}");
    assert!(!find(&narrow, "web/1.3").contains("102"), "{narrow:#?}");
    for (width, height) in [(1, 1), (5, 2), (20, 3), (300, 100)] {
        screen(&mut top(), width, height);
    }
}

#[test]
fn a_page_follows_the_chosen_row() {
    let mut many = content();
    many.pools[0].workers =
        (0..200).map(|slot| super::super::sample::worker(slot, u64::from(slot) + 50, 101)).collect();
    let mut top = Top::default();
    top.look(running(many));
    press(&mut top, "G");
    let lines = screen(&mut top, 80, 20);
    find(&lines, "› api/0.3");
    press(&mut top, "gjjj");
    let lines = screen(&mut top, 80, 20);
    find(&lines, "› web/3.3");
}

#[test]
fn a_stopped_supervisor_and_one_that_is_gone_are_said_with_the_time() {
    let mut top = top();
    let found = |standing| Found::State { content: Box::new(content()), standing, memory: HashMap::new() };
    top.look(glance(1000 * S, found(Standing::Stopped)));
    top.look(glance(1012 * S, found(Standing::Stopped)));
    let lines = screen(&mut top, 100, 20);
    assert!(lines[0].contains(" · stopped · "), "{lines:#?}");
    assert!(lines[1].starts_with("! stopped for 12s: ") && lines[1].contains("kill -CONT 77"), "{lines:#?}");
    top.look(glance(1020 * S, Found::Nothing(Standing::Gone)));
    top.look(glance(1025 * S, Found::Nothing(Standing::Gone)));
    let lines = screen(&mut top, 100, 20);
    assert!(lines[0].contains(" · gone · ") && lines[1].starts_with("! gone for 5.0s"), "{lines:#?}");
    find(&lines, "web/1.3");
    top.look(running(content()));
    assert!(screen(&mut top, 100, 20)[0].contains(" · running · "));
}

#[test]
fn a_pool_by_itself_is_shown_with_who_forks_its_workers() {
    let template = |generation, state: &'static str, forked| Template {
        id: 30 + forked,
        generation,
        pid: Some(100),
        state: state.into(),
        spawned_at_ns: 910 * S,
        forked,
    };
    let mut own = content();
    own.pools[0].templates = vec![template(3, "ready", 12), template(4, "starting", 0)];
    let mut top = Top::default();
    top.look(running(own));
    assert!(!screen(&mut top, 100, 20).concat().contains("template"), "there is no room for all of them");
    press(&mut top, "\t\n");
    let lines = screen(&mut top, 100, 20);
    find(&lines, "workers 3 · of web · template.3 ready, 12 forked · template.4 starting, 0 forked (Esc: all)");
}

#[test]
fn what_is_wrong_beyond_the_tables_is_said_above_them() {
    let mut bad = content();
    bad.pools[0].undone_because = Some("worker web/0.4 ended\x1b[2J with exit 3\nmore".to_owned());
    bad.pools[0].stuck = 2;
    bad.pools[0].first_in_line_at_ns = Some(997 * S);
    let mut top = Top::default();
    top.look(running(bad));
    top.look(glance(1000 * S, Found::Unreadable("cannot read the scoreboard x: it is damaged".to_owned())));
    let lines = screen(&mut top, 100, 20);
    assert_eq!(lines[1], "cannot read the scoreboard x: it is damaged");
    assert_eq!(lines[2], "! web: the last reload was undone: worker web/0.4 ended?[2J with exit 3");
    assert!(lines[3].contains("stuck") && lines[4] == "! web: 7 wait in the line, the first for 3.0s", "{lines:#?}");
}

#[test]
fn all_about_a_worker_is_shown_with_what_others_can_tell() {
    let mut top = top();
    press(&mut top, "j\n");
    let lines = screen(&mut top, 100, 20);
    let first = find(&lines, "worker web/1.3");
    assert!(first.contains("ready for 1m · id 32 · pid 102"), "{first}");
    find(&lines, "oldest connection 15s");
    find(&lines, "  …");
    let subject = top.wants_details().unwrap();
    assert_eq!(subject, Subject { pool: "web".into(), slot: 1, id: Some(32), pid: Some(102) });
    let doing = vec!["state S (sleeping)".to_owned(), "thread 102 app, waits in pipe_read".to_owned()];
    let deaths = Some(vec!["4s ago web/1.2 SIGSEGV".to_owned()]);
    let lines = Some(vec!["14:00:03 INFO a line\x1b[2J of the log".to_owned()]);
    top.hear(News::Found(Box::new(Details { subject, deaths, doing, lines })));
    let lines = screen(&mut top, 100, 20);
    find(&lines, "  14:00:03 INFO a line?[2J of the log");
    find(&lines, "  thread 102 app, waits in pipe_read");
    find(&lines, "  4s ago web/1.2 SIGSEGV");
    // The next worker's screen does not show what was found out about this one.
    top.key(KeyEvent::from(KeyCode::Esc));
    press(&mut top, "j\n");
    let lines = screen(&mut top, 100, 20);
    find(&lines, "worker web/2.3 · backoff");
    find(&lines, "the one before ended 20s ago: exit 3");
    assert!(!lines.iter().any(|line| line.contains("pipe_read")), "{lines:#?}");
    let subject = top.wants_details().unwrap();
    top.hear(News::Found(Box::new(Details { subject, deaths: None, doing: Vec::new(), lines: None })));
    let lines = screen(&mut top, 100, 20);
    find(&lines, "the supervisor does not tell");
    find(&lines, "    | cannot open the database");
}

#[test]
fn questions_answers_and_keys_are_at_the_foot() {
    let mut top = top();
    press(&mut top, "r");
    let lines = screen(&mut top, 80, 24);
    assert_eq!(lines[22..], ["Replace the worker of web/0 by a fresh one? (y/n)", "y yes · any other key no"]);
    press(&mut top, "n");
    assert_eq!(screen(&mut top, 80, 24)[22], "recycle web/0: not done");
    top.hear(News::Failed("pause web: no\n  such pool".to_owned()));
    assert_eq!(screen(&mut top, 80, 24)[22], "pause web: no; such pool");
    press(&mut top, "/api");
    let lines = screen(&mut top, 80, 24);
    assert_eq!(lines[22], "with: api▏");
    assert_eq!(find(&lines, "workers 1"), "workers 1 · with api (Esc: all)");
    press(&mut top, "\n?");
    let lines = screen(&mut top, 80, 24);
    find(&lines, "recycle: replace the worker");
}

#[test]
fn the_keys_fit_into_eighty_columns_whatever_is_shown() {
    for (keys, end) in
        [("", "? q"), ("\t", "q leave"), ("\n", "q leave"), ("?", "q leave"), ("n", "leave it"), ("r", "no")]
    {
        let mut top = top();
        press(&mut top, keys);
        let lines = screen(&mut top, 80, 24);
        assert!(lines[23].ends_with(end), "{keys:?}: {}", lines[23]);
    }
}

#[test]
fn nobody_seen_yet_is_a_screen_too() {
    let lines = screen(&mut Top::default(), 80, 10);
    assert!(lines[0].contains("nobody has been seen"), "{lines:#?}");
}
