//! Files that are wrong in one way, made from the commented example with every key in force: each is refused with its place
//! and its remedy.

use std::os::unix::fs::PermissionsExt;

use super::examples::uncommented;
use super::parse_in;
use crate::mistakes::Mistakes;

/// The example without comments, in a directory that has its program.
struct File {
    dir: tempfile::TempDir,
    lines: Vec<String>,
}

impl File {
    fn good() -> File {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path().join("app");
        std::fs::write(&app, "").unwrap();
        std::fs::set_permissions(&app, std::fs::Permissions::from_mode(0o755)).unwrap();
        let said = |line: &&str| !line.starts_with('#') && !line.is_empty();
        let lines: Vec<String> = uncommented().lines().filter(said).map(str::to_owned).collect();
        let file = File { dir, lines };
        assert!(file.parse(&file.lines.join("\n")).is_ok(), "the example is right");
        file
    }

    fn parse(&self, text: &str) -> Result<(), Mistakes> {
        parse_in(text, self.dir.path()).map(drop)
    }

    /// Each line that says a key: its number, the key and its value.
    fn keys(&self) -> Vec<(usize, &str, &str)> {
        let lines = self.lines.iter().enumerate();
        lines.filter_map(|(number, line)| line.split_once(" = ").map(|(key, value)| (number, key, value))).collect()
    }

    fn with(&self, number: usize, line: &str) -> String {
        let mut lines = self.lines.clone();
        line.clone_into(&mut lines[number]);
        lines.join("\n")
    }

    /// Replaces one line by a wrong one.
    fn refuses(&self, number: usize, line: &str) {
        let text = self.with(number, line);
        let mistakes = self.parse(&text).expect_err(line);
        assert_points_somewhere(&mistakes, &text);
        // What is missing at the end of a line is noticed at its end, or where the next one begins.
        let shown = mistakes.to_string();
        let places = [number + 1, number + 2].map(|line| format!("ostler.toml:{line}:"));
        assert!(places.iter().any(|place| shown.contains(place)), "{line} is not pointed at:\n{shown}");
    }
}

/// Every mistake has words, a place in the text and a remedy.
fn assert_points_somewhere(mistakes: &Mistakes, text: &str) {
    assert!(!mistakes.list().is_empty());
    let shown = mistakes.to_string();
    assert!(shown.contains("--> ostler.toml:") && shown.contains("= help: "), "{shown}");
    for mistake in mistakes.list() {
        assert!(mistake.span.start <= text.len(), "{mistake:?}");
        assert!(!mistake.message.is_empty() && !mistake.remedy.is_empty(), "{mistake:?}");
    }
}

/// One value of each type of TOML but text, which is wrong for one reason or another in nearly every key.
const VALUES: [&str; 6] = ["true", "-1", "1.5", "[[]]", "{ \"?\" = 1 }", "1979-05-27"];

/// Where it is right.
const RIGHT: [(&str, &str); 4] = [("canary", "true"), ("template", "true"), ("no_new_privs", "true"), ("nice", "-1")];

#[test]
fn a_value_of_a_wrong_type_is_refused_for_each_key() {
    let file = File::good();
    for (number, key, _) in file.keys() {
        for value in VALUES.into_iter().filter(|value| !RIGHT.contains(&(key, value))) {
            file.refuses(number, &format!("{key} = {value}"));
        }
    }
}

#[test]
fn a_value_that_is_out_of_range_is_refused_for_each_number_and_duration() {
    let file = File::good();
    let (mut numbers, mut durations) = (0, 0);
    for (number, key, value) in file.keys() {
        if value.parse::<u64>().is_ok() {
            numbers += 1;
            file.refuses(number, &format!("{key} = 99999999999"));
            file.refuses(number, &format!("{key} = 99999999999999999999"));
        } else if crate::duration::parse_duration(value.trim_matches('"')).is_ok() {
            durations += 1;
            for wrong in ["-1s", "1 parsec", "1", "", "s", "99999999999999999999h"] {
                file.refuses(number, &format!("{key} = \"{wrong}\""));
            }
        }
    }
    assert!(numbers >= 8 && durations >= 12, "{numbers} numbers, {durations} durations: the example has more");
}

#[test]
fn a_key_without_a_value_twice_or_misspelt_is_refused_for_each_key() {
    let file = File::good();
    for (number, key, value) in file.keys() {
        file.refuses(number, &format!("{key} ="));
        file.refuses(number, &format!("{key} = {value} {value}"));
        file.refuses(number, &format!("{key} = {value}\n{key} = {value}"));
        file.refuses(number, &format!("{key}zz = {value}"));
        file.refuses(number, &format!("{key}.zz = {value}"));
    }
}

#[test]
fn a_table_that_is_misspelt_or_there_twice_is_refused() {
    let file = File::good();
    for (number, header) in file.lines.iter().enumerate().filter(|(_, line)| line.starts_with('[')) {
        let name = header.trim_matches(['[', ']']);
        file.refuses(number, &format!("[{name}"));
        file.refuses(number, &format!("[[{name}]]"));
        if name != "pool.web" {
            file.refuses(number, &format!("[{name}zz]"));
        }
    }
}

#[test]
fn a_nul_anywhere_is_refused() {
    let file = File::good();
    let text = file.lines.join("\n");
    for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)).step_by(3) {
        let wrong = format!("{}\u{0}{}", &text[..at], &text[at..]);
        let mistakes = file.parse(&wrong).expect_err("a NUL stands nowhere");
        assert_points_somewhere(&mistakes, &wrong);
    }
}

#[test]
fn a_file_that_is_cut_short_or_lacks_a_character_is_right_or_refused_with_its_place() {
    let file = File::good();
    let text = file.lines.join("\n");
    let mut refused = 0;
    for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)).step_by(3) {
        let mut lacking = text.clone();
        lacking.remove(at);
        for wrong in [&text[..at], &lacking] {
            if let Err(mistakes) = file.parse(wrong) {
                refused += 1;
                assert_points_somewhere(&mistakes, wrong);
            }
        }
    }
    assert!(refused > text.len() / 3, "{refused} refused of {}: most slips are mistakes", 2 * text.len() / 3);
}
