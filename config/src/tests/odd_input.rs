//! Files that nobody would write on purpose.

use std::path::Path;

use proptest::prelude::*;

use super::{parse, parse_in};
use crate::Programs;
use crate::mistakes::{Mistake, Mistakes, Nature};
use crate::{Colour, LoadError, control_path, load};

#[test]
fn a_file_with_mistakes_still_says_where_its_supervisor_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ostler.toml");
    std::fs::write(&file, "[supervisor]\ncontrol = \"c.sock\"\n[pool.web]\nwrokers = 3\nlisten = [\n").unwrap();
    assert_eq!(control_path(&file).unwrap(), Some(dir.path().join("c.sock")));
    std::fs::write(&file, "[pool.web]\n").unwrap();
    assert_eq!(control_path(&file).unwrap(), None);
    assert!(control_path(&dir.path().join("absent")).is_err());
}

fn shown(error: &LoadError) -> String {
    error.to_string()
}

#[test]
fn a_missing_file_says_how_to_get_one() {
    let error = load(Path::new("/nowhere/ostler.toml"), Programs::MustExist).unwrap_err();
    assert!(matches!(error, LoadError::Unreadable { .. }));
    assert!(shown(&error).contains("/nowhere/ostler.toml") && shown(&error).contains("ostler init"));
}

#[test]
fn a_directory_and_a_huge_file_are_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    assert!(shown(&load(dir.path(), Programs::MustExist).unwrap_err()).contains("-c FILE"));
    let huge = dir.path().join("huge.toml");
    std::fs::write(&huge, vec![b'#'; 1 + (1 << 20)]).unwrap();
    assert!(shown(&load(&huge, Programs::MustExist).unwrap_err()).contains("1048576"));
    assert!(shown(&load(Path::new("/dev/zero"), Programs::MustExist).unwrap_err()).contains("1048576"));
}

#[test]
fn bytes_that_are_no_text_are_pointed_at() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("latin.toml");
    std::fs::write(&file, b"[pool.web]\ncommand = [\"caf\xe9\"]\n").unwrap();
    let error = shown(&load(&file, Programs::MustExist).unwrap_err());
    assert!(error.contains("latin.toml:2:16") && error.contains("0xe9") && error.contains("UTF-8"), "{error}");
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ostler.toml");
    std::fs::write(&file, "supervisor.control = \"c.sock\"\n[pool.a]\nlisten = [\"unix:a\"]").unwrap();
    assert_eq!(load(&file, Programs::MustExist).unwrap().supervisor.control, Some(dir.path().join("c.sock")));
}

#[test]
fn line_ends_tabs_and_a_byte_order_mark_do_no_harm() {
    assert!(parse("\u{feff}[pool.a]\r\nlisten\t= [\"unix:@a\"]\r\n").is_ok());
    let text = parse("\u{feff}[pool.a]\r\n\tlistne = 1\r\n").unwrap_err().to_string();
    assert!(text.contains("ostler.toml:2:") && text.contains("^^^^^^ unknown key\n"), "{text}");
}

#[test]
fn only_so_many_mistakes_are_printed_and_the_rest_is_counted() {
    let text = (0..200).map(|n| format!("zz{n} = 1\n")).collect::<String>();
    let mistakes = parse(&text).unwrap_err();
    assert_eq!(mistakes.list().len(), 201);
    let shown = mistakes.to_string();
    assert_eq!(shown.matches("error:").count(), 50);
    assert!(shown.contains("151 more") && shown.ends_with("ostler.toml: 201 mistakes\n"));
}

#[test]
fn control_characters_of_the_file_do_not_reach_the_terminal() {
    let shown = parse("\"a\\u001b[31m\" = 1\n# \u{9b}").unwrap_err().to_string();
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{9b}'), "{shown:?}");
    assert!(parse("zz = 1").unwrap_err().render(Colour::Ansi).contains('\u{1b}'));
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    assert!(parse(&format!("a = {}", "[".repeat(100_000))).is_err());
    assert!(parse(&format!("a = {}", "{a=".repeat(100_000))).is_err());
    assert!(parse(&format!("{} = 1", ["a"; 100_000].join("."))).is_err());
}

const VALID: &str = r#"[supervisor]
control = "/run/é.sock"
log = { level = "info" }
[pool.web]
listen = ["unix:a", "tcp:127.0.0.1:80", "tcp:[::1]:0"]
command = ["sh"]
workers = 3
queue = { timeout = "1m30s", on_timeout = { reply = "x" } }
start.backoff = ["1s", "2s"]
process = { env = { A = "b" }, nofile = 99 }
"#;

fn mutated() -> impl Strategy<Value = String> {
    let slip = (any::<prop::sample::Index>(), 0..4usize, "[\\PC\\n\\r\\t\\[\\]{}=\".,]{0,4}");
    prop::collection::vec(slip, 1..6).prop_map(|slips| {
        let mut chars: Vec<char> = VALID.chars().collect();
        for (at, cut, insert) in slips {
            let at = at.index(chars.len() + 1);
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, insert.chars());
        }
        chars.into_iter().collect()
    })
}

fn consume(text: &str) {
    if let Err(mistakes) = parse_in(text, Path::new("/srv")) {
        assert!(!mistakes.list().is_empty());
        for colour in [Colour::Plain, Colour::Ansi] {
            assert!(mistakes.render(colour).contains("ostler.toml"));
        }
        for mistake in mistakes.list() {
            assert!(!mistake.remedy.is_empty() && !mistake.message.is_empty());
        }
    }
}

proptest! {
    #[test]
    fn no_slip_in_a_valid_file_panics(text in mutated()) {
        consume(&text);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        consume(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_text_like_toml_panics(text in "([a-z]{1,3}|[ \\n\\r\\t=.\"'\\[\\]{},#\\\\]|é|😀|[0-9]|pool|listen|\u{0}){0,60}") {
        consume(&text);
    }

    #[test]
    fn no_span_panics_the_rendering(
        text in "[aé😀\\t\\r\\n\u{0}\u{200b}]{0,30}",
        (start, end, also_start, also_end) in (0..200usize, 0..200usize, 0..200usize, 0..200usize),
        far in any::<bool>(),
    ) {
        let far = if far { usize::MAX - 200 } else { 0 };
        #[allow(clippy::reversed_empty_ranges)]
        let mistake = Mistake {
            message: text.clone(),
            span: start + far..end,
            label: text.clone(),
            remedy: text.clone(),
            also: Some((also_start..also_end + far, text.clone())),
            nature: Nature::Typed,
        };
        let alone = Mistake { also: None, ..mistake.clone() };
        let mistakes = Mistakes::new(Path::new("a"), &text, vec![mistake, alone]);
        let _ = mistakes.render(Colour::Plain);
        let _ = mistakes.render(Colour::Ansi);
    }
}
