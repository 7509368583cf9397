//! Does each page of the operator's guide (`docs/operating/`) show what an operator would see?
//!
//! A page is played: what its scenes need is arranged with the real `ostler`, its commands are run one after another, and what they
//! print is compared with what the page shows, but for what varies (`operating/varying.rs`). `BLESS=1` writes pages that are no longer
//! true anew.

#[path = "operating/inn.rs"]
mod inn;
#[path = "operating/page.rs"]
mod page;
#[path = "operating/scenes.rs"]
mod scenes;
#[path = "operating/varying.rs"]
mod varying;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ostler_tests::{bounded, place};
use page::{Page, Part, Shown};

/// The pages with scenes; the index has the configuration that all of them are played with.
const PAGES: [&str; 5] = [
    "what-is-it-doing.md",
    "which-worker-is-stuck.md",
    "did-my-reload-work.md",
    "why-did-that-worker-die.md",
    "is-it-overloaded.md",
];
const INDEX: &str = "README.md";
const HELP_LIMIT: Duration = Duration::from_secs(20);

fn folder() -> PathBuf {
    place::workspace().join("docs/operating")
}

/// Plays a page, and compares or blesses it.
fn is_true(name: &str) {
    let path = folder().join(name);
    let page = Page::read(&path);
    let config = Page::read(&folder().join(INDEX)).only_toml();
    let mut played = page.clone();
    let mut open = None;
    for part in &mut played.parts {
        match part {
            Part::Text(_) => {}
            Part::Toml(_) => panic!("{name}: a configuration that nothing tries; the one of all pages is in {INDEX}"),
            Part::Scene(scene) => {
                drop(open.take());
                eprintln!("{name}: {scene}");
                open = Some(scenes::open(scene, &config));
            }
            Part::Console(shown) => {
                let inn = open.as_mut().unwrap_or_else(|| panic!("{name}: a command before the first scene"));
                for line in shown {
                    line.output = inn.run(line);
                }
            }
        }
    }
    drop(open);
    let differences = differences(&page, &played);
    if !differences.is_empty() && std::env::var_os("BLESS").is_some() {
        return fs::write(&path, played.to_string()).expect("the page can be written");
    }
    assert!(differences.is_empty(), "{name} is no longer true (BLESS=1 writes it anew):\n{}", differences.join("\n"));
}

/// What the page shows otherwise than it is.
fn differences(page: &Page, played: &Page) -> Vec<String> {
    let pairs = page.shown().zip(played.shown());
    let differ = |(wanted, seen): &(&Shown, &Shown)| varying::plain(&wanted.output) != varying::plain(&seen.output);
    let say = |(wanted, seen): (&Shown, &Shown)| {
        let (wanted_plain, seen_plain) = (varying::plain(&wanted.output), varying::plain(&seen.output));
        let lines = |text: &str, sign: &str| text.lines().map(|line| format!("{sign} {line}\n")).collect::<String>();
        format!("$ {}\n{}{}", seen.command, lines(&wanted_plain, "-"), lines(&seen_plain, "+"))
    };
    pairs.filter(differ).map(say).collect()
}

#[test]
fn what_is_it_doing_is_answered_as_the_page_shows() {
    is_true(PAGES[0]);
}

#[test]
fn which_worker_is_stuck_is_answered_as_the_page_shows() {
    is_true(PAGES[1]);
}

#[test]
fn did_my_reload_work_is_answered_as_the_page_shows() {
    is_true(PAGES[2]);
}

#[test]
fn why_did_that_worker_die_is_answered_as_the_page_shows() {
    is_true(PAGES[3]);
}

#[test]
fn is_it_overloaded_is_answered_as_the_page_shows() {
    is_true(PAGES[4]);
}

#[test]
fn every_page_is_played_and_the_index_leads_to_it() {
    let files = fs::read_dir(folder()).expect("docs/operating").flatten();
    let names: BTreeSet<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    let known: BTreeSet<String> = PAGES.into_iter().chain([INDEX]).map(str::to_owned).collect();
    assert_eq!(names, known);
    let index = Page::read(&folder().join(INDEX));
    assert_eq!(index.shown().count(), 0, "{INDEX} has commands that no scene belongs to");
    let text = index.to_string();
    for name in PAGES {
        assert!(text.contains(&format!("]({name})")), "{INDEX} does not lead to {name}");
    }
}

/// Those in the text are not run; but what does not exist can't be advised.
#[test]
fn commands_that_a_page_advises_in_its_text_exist() {
    for name in PAGES.into_iter().chain([INDEX]) {
        let page = Page::read(&folder().join(name));
        for advice in page.advised() {
            let mut words = advice.split_whitespace().skip(1);
            let verb = words.next().unwrap_or("--help");
            let mut help = Command::new(place::ostler());
            let output = bounded::run(help.args([verb, "--help"]), HELP_LIMIT);
            assert_eq!(output.code, 0, "{name}: `{advice}`: there is no such command");
            for option in
                words.filter(|word| word.starts_with('-') && word.len() > 1 && !word.ends_with(char::is_numeric))
            {
                assert!(output.stdout.contains(option), "{name}: `{advice}`: there is no {option}");
            }
        }
    }
}
