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
        "completions",
        "man",
        "5 no supervisor there",
    ] {
        assert!(text(&help).contains(word), "{word} is missing from\n{}", text(&help));
    }
    assert!(!text(&help).contains("hello-worker"), "the hidden command is shown");
}

/// What people may type, as the help lists it.
fn commands() -> Vec<String> {
    let help = text(&ostler(&["--help"]));
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A description that is wrapped goes on further to the right.
    let names = list.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

const HIDDEN: [&str; 2] = ["hello-worker", "stdio-worker"];

#[test]
fn each_shell_gets_a_script_with_every_command_and_none_that_is_hidden() {
    assert!(commands().len() > 10, "{:?}", commands());
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = ostler(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let script = text(&output);
        for name in commands() {
            assert!(script.contains(&name), "{shell}: {name} is missing");
        }
        for name in HIDDEN {
            assert!(!script.contains(name), "{shell}: {name} is hidden");
        }
    }
    assert_eq!(ostler(&["completions", "csh"]).status.code(), Some(2));
}

#[test]
fn bash_completes_commands_options_and_choices() {
    let complete = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let script = format!(
            "eval \"$('{}' completions bash)\"; COMP_WORDS=({}); COMP_CWORD={}; _ostler ostler \"${{COMP_WORDS[COMP_CWORD]}}\" \
             \"${{COMP_WORDS[COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            env!("CARGO_BIN_EXE_ostler"),
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len() - 1
        );
        let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete("ostler relo"), "reload\n");
    assert_eq!(complete("ostler reload --no"), "--no-wait\n");
    assert_eq!(complete("ostler completions z"), "zsh\n");
}

#[test]
fn man_prints_a_page_of_the_program_and_of_each_command_that_says_how_it_ends() {
    let program = text(&ostler(&["man"]));
    for words in [".TH OSTLER 1", ".SH SYNOPSIS", ".SH \"EXIT STATUS\"", "reload undone"] {
        assert!(program.contains(words), "{words} is missing from\n{program}");
    }
    for name in commands() {
        // roff writes a hyphen so.
        let escaped = name.replace('-', "\\-");
        assert!(program.contains(&format!("ostler\\-{escaped}(1)")), "{name} is missing from\n{program}");
        let page = text(&ostler(&["man", &name]));
        assert!(page.contains(&format!(".TH OSTLER-{} 1", name.to_uppercase())), "{page}");
        assert!(page.contains("no supervisor there") && page.contains("\"ostler manual\""), "{page}");
    }
    for name in HIDDEN {
        assert!(!program.contains(&name.replace('-', "\\-")), "{name} is hidden");
    }
}

#[test]
fn a_page_of_a_command_that_is_not_there_is_exit_code_2_and_those_that_are_there_are_named() {
    for name in ["gallop", "hello-worker"] {
        let output = ostler(&["man", name]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output).contains("reload"), "{output:?}");
    }
}

#[test]
fn man_writes_a_file_for_each_page_and_says_where_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    assert_eq!(ostler(&["man", "--dir", path]).status.code(), Some(0));
    let mut files: Vec<String> =
        std::fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let mut expected: Vec<String> = commands().iter().map(|name| format!("ostler-{name}.1")).collect();
    expected.push("ostler.1".to_owned());
    expected.sort();
    assert_eq!(files, expected);
    let page = std::fs::read_to_string(dir.path().join("ostler-reload.1")).unwrap();
    assert_eq!(page, text(&ostler(&["man", "reload"])));
    let output = ostler(&["man", "--dir", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("/nonexistent/ostler.1"), "{output:?}");
}

#[test]
fn man_pages_are_set_without_a_warning() {
    for name in ["run", "reload", "scale"] {
        let page = ostler(&["man", name]).stdout;
        let mut groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        io::Write::write_all(&mut groff.stdin.take().unwrap(), &page).unwrap();
        let output = groff.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
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
    for words in [&["check", "-c", "good.toml"][..], &["init"], &["completions", "bash"], &["man"]] {
        let output = ostler_to(words, nobody(), Stdio::piped());
        assert_eq!((output.status.code(), text(&output).as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_exit_code_1_and_said() {
    for words in [&["check", "-c", "good.toml"][..], &["init"], &["completions", "bash"], &["man"]] {
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
