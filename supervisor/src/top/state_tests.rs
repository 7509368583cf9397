//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::sample::{content, running, worker};
use super::*;

fn top() -> Top {
    let mut top = Top::default();
    top.look(running(content()));
    top
}

fn press(top: &mut Top, keys: &str) -> Effect {
    let code = |key| match key {
        '\n' => KeyCode::Enter,
        '\t' => KeyCode::Tab,
        '\x1b' => KeyCode::Esc,
        '\x08' => KeyCode::Backspace,
        letter => KeyCode::Char(letter),
    };
    keys.chars().map(|key| top.key(KeyEvent::from(code(key)))).last().expect("a key")
}

fn chosen(top: &Top) -> String {
    top.chosen_worker().expect("somebody").name()
}

#[test]
fn the_chosen_worker_stays_chosen_however_the_table_is_sorted() {
    let mut top = top();
    press(&mut top, "j");
    assert_eq!((chosen(&top), top.worker_at()), ("web/1.3".to_owned(), 1));
    press(&mut top, "ss");
    assert_eq!((chosen(&top), top.worker_at()), ("web/1.3".to_owned(), 0), "by load it is the first");
    press(&mut top, "o");
    assert_eq!((chosen(&top), top.worker_at()), ("web/1.3".to_owned(), 2), "and turned the last that is known");
}

#[test]
fn a_successor_in_the_slot_is_chosen_in_place_of_its_predecessor() {
    let mut top = top();
    press(&mut top, "j");
    let mut later = content();
    later.pools[0].workers[1] = worker(1, 99, 999);
    later.pools[0].workers[1].generation = 4;
    top.look(running(later.clone()));
    assert_eq!(chosen(&top), "web/1.4");
    later.pools[0].workers.truncate(1);
    top.look(running(later));
    assert_eq!(chosen(&top), "api/0.3", "the slot is gone: whoever is at its place");
}

#[test]
fn nothing_is_done_without_a_yes() {
    for key in ["r", "p", "+", "-"] {
        for no in ["n", "\n", "\x1b", "q", " "] {
            let mut top = top();
            assert_eq!(press(&mut top, key), Effect::Nothing);
            assert!(matches!(top.prompt, Prompt::Confirm(_)), "{key}");
            assert_eq!(press(&mut top, no), Effect::Nothing, "{key} {no:?}");
            assert_eq!(top.prompt, Prompt::None);
        }
    }
    let mut top = top();
    press(&mut top, "r");
    let chord = KeyEvent::new(KeyCode::Char('y'), KeyModifiers::CONTROL);
    assert_eq!(top.key(chord), Effect::Nothing, "Ctrl-Y is no yes");
}

#[test]
fn orders_are_about_the_chosen_worker_or_pool() {
    let pool = || "web".to_owned();
    let run = |keys: &str| press(&mut top(), keys);
    assert_eq!(run("jry"), Effect::Run(Order::Recycle { pool: pool(), slot: Some(1) }));
    assert_eq!(run("py"), Effect::Run(Order::Pause { pool: pool() }));
    assert_eq!(run("+y"), Effect::Run(Order::Scale { pool: pool(), to: ScaleTo::More(1) }));
    assert_eq!(run("-y"), Effect::Run(Order::Scale { pool: pool(), to: ScaleTo::Fewer(1) }));
    assert_eq!(run("n12\x080\ny"), Effect::Run(Order::Scale { pool: pool(), to: ScaleTo::Exactly(10) }));
    assert_eq!(run("\try"), Effect::Run(Order::Recycle { pool: pool(), slot: None }));
    assert_eq!(run("\tjpy"), Effect::Run(Order::Pause { pool: "api".to_owned() }));
    assert_eq!(run("j\nry"), Effect::Run(Order::Recycle { pool: pool(), slot: Some(1) }), "from its own screen too");
    let mut paused = content();
    paused.pools[0].state = "paused".into();
    let mut top = Top::default();
    top.look(running(paused));
    assert_eq!(press(&mut top, "py"), Effect::Run(Order::Resume { pool: pool() }));
}

#[test]
fn a_number_that_was_not_typed_changes_nothing() {
    let mut top = top();
    press(&mut top, "nx\n");
    assert_eq!(top.prompt, Prompt::None);
    assert!(matches!(&top.message, Some(Message::Plain(text)) if text.contains("nothing is changed")));
    press(&mut top, "n123456");
    assert_eq!(top.prompt, Prompt::Count { pool: "web".to_owned(), digits: "1234".to_owned() });
    press(&mut top, "\x1b");
    assert_eq!(top.prompt, Prompt::None);
}

#[test]
fn with_nobody_there_orders_say_so() {
    let mut top = Top::default();
    for key in ["r", "p", "+", "n"] {
        assert_eq!(press(&mut top, key), Effect::Nothing);
        assert!(matches!(&top.message, Some(Message::Plain(text)) if text.contains("nothing is chosen")), "{key}");
        assert_eq!(top.prompt, Prompt::None);
    }
    assert_eq!(press(&mut top, "\n"), Effect::Nothing);
    assert_eq!(top.wants_details(), None);
}

#[test]
fn escape_leads_out_one_step_at_a_time() {
    let mut top = top();
    press(&mut top, "\t\n/ready\n\n");
    assert_eq!(top.screen, Screen::Worker { from: 0 });
    assert_eq!((top.arrangement.pool.as_deref(), top.arrangement.filter.as_str()), (Some("web"), "ready"));
    press(&mut top, "\x1b");
    assert_eq!(top.screen, Screen::Tables);
    press(&mut top, "\x1b");
    assert_eq!((top.arrangement.pool.as_deref(), top.arrangement.filter.as_str()), (Some("web"), ""));
    press(&mut top, "\x1b");
    assert!(!top.arrangement.hides());
    assert_eq!(press(&mut top, "\x1b"), Effect::Nothing, "only q leaves");
    assert_eq!(press(&mut top, "q"), Effect::Leave);
}

#[test]
fn ctrl_c_leaves_from_everywhere() {
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for keys in ["j", "r", "/x", "n1", "?", "\n"] {
        let mut top = top();
        press(&mut top, keys);
        assert_eq!(top.key(interrupt), Effect::Leave, "{keys:?}");
    }
}

#[test]
fn a_filter_is_bounded_and_takes_letters_that_mean_something_elsewhere() {
    let mut top = top();
    press(&mut top, "/");
    press(&mut top, &"q".repeat(100));
    assert_eq!(top.arrangement.filter.chars().count(), FILTER_MAX);
    assert!(top.workers().is_empty());
    press(&mut top, "\x1b");
    assert_eq!(top.workers().len(), 4);
}

#[test]
fn news_are_shown_as_what_they_are() {
    let mut top = top();
    top.hear(News::UnderWay("recycle web …".to_owned()));
    assert_eq!(top.message, Some(Message::Plain("recycle web …".to_owned())));
    top.hear(News::Failed("recycle web: no".to_owned()));
    assert_eq!(top.message, Some(Message::Bad("recycle web: no".to_owned())));
}
