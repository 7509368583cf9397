//! Prints the tables of `docs/errors.md` from the rows, and compares.

use std::fs;

use ostler_tests::place;

use crate::affairs;
use crate::rows::{self, ENDINGS, Row, STARTS, Start};

const BEGIN: &str = "<!-- table -->\n";
const END: &str = "<!-- end -->\n";

/// Compares the page with the rows; with `BLESS=1` writes it anew.
pub(crate) fn compare() {
    let path = place::workspace().join("docs/errors.md");
    let page = fs::read_to_string(&path).expect("docs/errors.md");
    let (head, rest) = page.split_once(BEGIN).expect("the page has a mark where the tables begin");
    let (_, tail) = rest.split_once(END).expect("and one where they end");
    let wanted = format!("{head}{BEGIN}{}\n{END}{tail}", tables());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &wanted).expect("the page can be written");
    }
    assert_eq!(fs::read_to_string(&path).expect("still there"), wanted, "BLESS=1 writes the page anew");
}

fn tables() -> String {
    let running = [
        ("Connections", rows::CONNECTIONS),
        ("The waiting line", affairs::LINE),
        ("A line without room, and a reply", affairs::REFUSALS),
        ("The loop and its signals", rows::LOOP),
        ("Starting a worker", rows::SPAWNS),
        ("In a child, before its program runs", rows::CHILDREN),
        ("In a child that becomes another user", rows::IDENTITIES),
        ("A worker that stands still", affairs::STANDSTILLS),
        ("A worker's death", rows::DEATHS),
        ("Client commands, reloads, drains", rows::COMMANDS),
        ("A reload that changes listeners", affairs::LISTENERS),
        ("Processes of an unmodified program", affairs::STRANGERS),
        ("Templates", affairs::TEMPLATES),
        ("Hooks", affairs::HOOKS),
        ("The service manager", affairs::MANAGER),
        ("The log", rows::LOG),
        ("The scoreboard", affairs::SCOREBOARD),
    ];
    let mut text = String::new();
    for (title, rows) in running {
        text += &table(title, rows.iter().map(|row: &Row| (row.during, row.calls, row.errnos, row.does)));
    }
    let ends = |row: &'static Start| (row.during, row.calls, row.errnos, row.does);
    text += &table("At the start", STARTS.iter().map(ends));
    text + &table("At the end", ENDINGS.iter().map(ends))
}

type Line = (&'static str, &'static str, &'static [&'static str], &'static str);

fn table(title: &str, lines: impl Iterator<Item = Line>) -> String {
    let mut text = format!("\n### {title}\n\n| while | call | errno | what it does |\n|---|---|---|---|\n");
    for (during, calls, errnos, does) in lines {
        let calls: Vec<String> = calls.split(',').map(|call| format!("`{}`", call.trim_start_matches('?'))).collect();
        text += &format!("| {during} | {} | {} | {does} |\n", calls.join(", "), errnos.join(", "));
    }
    text
}
