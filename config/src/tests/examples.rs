//! The examples and the table of keys say what the code does.

use std::os::unix::fs::PermissionsExt;

use super::{parse, parse_in, said};
use crate::COMMENTED_EXAMPLE;
use crate::checked::Program;
use crate::keys::{Default, KEYS};

const MINIMAL: &str = include_str!("../../examples/minimal.toml");

/// The commented example with every `# key = value` and `# [table]` in force.
pub(super) fn uncommented() -> String {
    let lines = COMMENTED_EXAMPLE.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') => rest,
        Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(is_of_key)) => rest,
        Some(_) | None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_of_key(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'_'
}

#[test]
fn both_examples_run_on_any_machine() {
    for text in [MINIMAL, COMMENTED_EXAMPLE] {
        let config = parse(text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(config.pools.len(), 1);
        assert_eq!(config.pools[0].program, Program::Hello);
    }
}

#[test]
fn the_commented_example_parses_with_every_comment_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app");
    std::fs::write(&app, "").unwrap();
    std::fs::set_permissions(&app, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = parse_in(&uncommented(), dir.path()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config.pools[0].program, Program::Command(vec![app.into(), "--flag".into()]));
}

#[test]
fn the_commented_example_shows_every_key() {
    let shown = said(&uncommented());
    for key in KEYS {
        let here = shown.iter().find(|(path, _)| path == key.path);
        let (_, value) = here.unwrap_or_else(|| panic!("{} is built but not shown", key.path));
        match key.default {
            Default::Toml(default) => assert!(*value == default || key.path.ends_with("listen"), "{}", key.path),
            Default::Words(_) => {}
        }
    }
}

#[test]
fn the_table_of_keys_knows_the_real_defaults() {
    let effective = parse("[pool.web]\nlisten = [\"unix:@web\"]").unwrap().to_toml();
    let real = said(&effective);
    for key in KEYS {
        let here = real.iter().find(|(path, _)| path == key.path).map(|(_, value)| value.as_str());
        match key.default {
            Default::Toml(default) => assert_eq!(here, Some(default), "{}", key.path),
            // Said by a comment, or by what this machine and this file are.
            Default::Words(_) => assert!(here.is_none() || DEPENDS.contains(&key.path), "{}", key.path),
        }
    }
}

/// Keys that always have a value, though not always the same one.
const DEPENDS: [&str; 5] = [
    "pool.NAME.listen",
    "pool.NAME.workers",
    "pool.NAME.concurrency",
    "pool.NAME.recall_after",
    "pool.NAME.process.no_new_privs",
];

#[test]
fn each_key_has_an_example_of_its_own_name() {
    for key in KEYS {
        let name = key.path.rsplit('.').next().unwrap();
        assert!(key.example.starts_with(&format!("{name} = ")), "{}", key.path);
        assert!(toml::de::DeTable::parse(key.example).is_ok(), "{}", key.path);
    }
}
