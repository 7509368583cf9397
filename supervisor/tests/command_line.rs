//! What the binary says without a supervisor: help, version, and the exit codes of bad usage.

use std::fs::File;
use std::io;
use std::process::{Command, Output, Stdio};

fn ostler(words: &[&str]) -> Output {
    ostler_to(words, Stdio::piped(), Stdio::piped())
}

/// Runs in a directory with a configuration that `ostler check` likes.
fn ostler_to(words: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("good.toml"), "[pool.web]\nlisten = [\"unix:web.sock\"]\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
    command.args(words).current_dir(dir.path()).env("XDG_RUNTIME_DIR", dir.path()).env_remove("OSTLER_CONTROL");
    command.stdout(stdout).stderr(stderr).spawn().unwrap().wait_with_output().unwrap()
}

/// A pipe that nobody reads from any more.
fn nobody() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn help_names_every_command_and_every_exit_code() {
    let help = ostler(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for word in [
        "run",
        "check",
        "init",
        "status",
        "deaths",
        "dump",
        "reload",
        "restart",
        "recycle",
        "scale",
        "stop",
        "5 no supervisor there",
    ] {
        assert!(text(&help).contains(word), "{word} is missing from\n{}", text(&help));
    }
    assert!(!text(&help).contains("hello-worker"), "the hidden command is shown");
}

#[test]
fn bad_usage_is_exit_code_2() {
    for words in [
        &["dance"][..],
        &[],
        &["scale", "web", "many"],
        &["restart", "web/x"],
        &["recycle"],
        &["run", "--ready-fd", "1"],
    ] {
        assert_eq!(ostler(words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn without_a_supervisor_client_commands_end_with_5_and_say_what_to_do() {
    for words in [
        &["status"][..],
        &["deaths"],
        &["dump"],
        &["reload"],
        &["restart", "web"],
        &["recycle", "web"],
        &["scale", "web", "2"],
        &["stop"],
    ] {
        let output = ostler(words);
        assert_eq!(output.status.code(), Some(5), "{words:?}");
        assert!(text(&output).contains("ostler run"), "{}", text(&output));
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    for words in [&["check", "-c", "good.toml"][..], &["init"]] {
        let output = ostler_to(words, nobody(), Stdio::piped());
        assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_exit_code_1_and_said() {
    for words in [&["check", "-c", "good.toml"][..], &["init"]] {
        let output = ostler_to(words, full(), Stdio::piped());
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(text(&output).contains("cannot write to standard output"), "{}", text(&output));
    }
}

#[test]
fn a_complaint_that_nobody_hears_changes_no_exit_code() {
    for (words, code) in
        [(&["check", "-c", "absent.toml"][..], 2), (&["status"], 5), (&["run", "-c", "absent.toml"], 2)]
    {
        assert_eq!(ostler_to(words, Stdio::piped(), nobody()).status.code(), Some(code), "{words:?}");
        assert_eq!(ostler_to(words, Stdio::piped(), full()).status.code(), Some(code), "{words:?}");
    }
}
