//! The tables in the README: their lines are what was seen.
//!
//! Each test compares its own line, so that it can be run alone. That the page has these lines and no others, in the order of
//! the list, is a test of its own.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ostler_tests::place;

use crate::judges;
use crate::programs::ROWS;

/// A line of a table. A line is known by its program and handoff.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) program: &'static str,
    /// `None` where that depends on the machine.
    pub(crate) version: Option<String>,
    pub(crate) handoff: &'static str,
    /// What follows.
    pub(crate) cells: Vec<String>,
    /// Whether all of it is as it should be.
    pub(crate) good: bool,
}

/// A table between its marks.
pub(crate) struct Table {
    mark: &'static str,
    head: &'static str,
    /// Program and handoff of each line, in order.
    keys: fn() -> Vec<(&'static str, &'static str)>,
}

pub(crate) const PROGRAMS: Table = Table {
    mark: "programs",
    head: "| program | version | `handoff` | most ÷ least | reloads | `kill -9` | stop | path and inode |\n\
           |---|---|---|---|---|---|---|---|\n",
    keys: || ROWS.iter().map(|row| (row.program, row.handoff)).collect(),
};

pub(crate) const JUDGES: Table = Table {
    mark: "judges",
    head: "| proxy | version | in front of | a connection for each request, one attempt | kept connections |\n|---|---|---|---|---|\n",
    keys: || judges::ALL.iter().flat_map(|judge| judges::POOLS.map(|pool| (judge.name, pool))).collect(),
};

pub(crate) const EVENLY: &str = "below 1.5";
pub(crate) const CLAIMED: &str = "only claimed";
pub(crate) const CUT: &str = "only cut by it";
pub(crate) const SAME: &str = "the same";
pub(crate) const NONE_FAILED: &str = "0 failed";
pub(crate) const NO_ERRORS: &str = "0 errors";
pub(crate) const DOES_NOT_APPLY: &str = "–";
const SYSTEMS: &str = "the system's";

/// Tests run side by side, and with `BLESS=1` each writes.
static PAGE: Mutex<()> = Mutex::new(());

pub(crate) fn failed(count: u64) -> String {
    format!("{count} failed")
}

pub(crate) fn errors(count: u64) -> String {
    format!("{count} errors")
}

impl Line {
    fn text(&self) -> String {
        let version = self.version.as_deref().unwrap_or(SYSTEMS);
        format!("| {} | {version} | `{}` | {} |\n", self.program, self.handoff, self.cells.join(" | "))
    }
}

/// Whether a line of the page is of this program in this handoff.
fn is_of((program, handoff): (&str, &str), line: &str) -> bool {
    let mut cells = line.trim_start_matches("| ").split(" | ");
    cells.next() == Some(program) && cells.nth(1) == Some(&format!("`{handoff}`"))
}

fn path() -> PathBuf {
    place::workspace().join("README.md")
}

impl Table {
    /// What stands before it, its lines, and what follows.
    fn read(&self) -> (String, Vec<String>, String) {
        let page = fs::read_to_string(path()).expect("README.md");
        let (begin, end) = self.marks();
        let (head, rest) = page.split_once(&begin).expect("the README has a mark where the table begins");
        let (table, tail) = rest.split_once(&end).expect("and one where it ends");
        let lines = table.lines().skip(2).map(|line| format!("{line}\n")).collect();
        (head.to_owned(), lines, tail.to_owned())
    }

    fn marks(&self) -> (String, String) {
        (format!("<!-- {} -->\n", self.mark), format!("<!-- end of {} -->\n", self.mark))
    }

    /// Puts a line in its place. Lines of what is no more go.
    fn bless(&self, line: &Line) {
        let (head, lines, tail) = self.read();
        let (begin, end) = self.marks();
        let mut table = self.head.to_owned();
        for key in (self.keys)() {
            let before = lines.iter().find(|line| is_of(key, line)).cloned().unwrap_or_default();
            let _always = write!(table, "{}", if key == (line.program, line.handoff) { line.text() } else { before });
        }
        fs::write(path(), format!("{head}{begin}{table}{end}{tail}")).expect("the README can be written");
    }
}

/// Compares a line with the README; with `BLESS=1` writes it there.
///
/// # Panics
/// When something was lost, and when the README says something else.
pub(crate) fn compare(table: &Table, line: &Line) {
    let text = line.text();
    print!("{text}");
    assert!(line.good, "{text}");
    let _page = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if std::env::var_os("BLESS").is_some() {
        table.bless(line);
    }
    let (_, lines, _) = table.read();
    assert!(lines.contains(&text), "BLESS=1 writes into the README's table: {text}");
}

#[test]
fn the_readme_has_a_line_for_each_row_and_no_other() {
    let _page = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    for table in [PROGRAMS, JUDGES] {
        let (keys, (_, lines, _)) = ((table.keys)(), table.read());
        assert_eq!(lines.len(), keys.len(), "{keys:?} and {lines:#?}");
        for (key, line) in keys.into_iter().zip(&lines) {
            assert!(is_of(key, line), "{key:?} is not where it belongs: {line}");
        }
        let page = fs::read_to_string(path()).expect("README.md");
        assert!(page.contains(&format!("{}{}", table.marks().0, table.head)), "BLESS=1 writes it anew");
    }
}
