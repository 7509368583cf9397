//! Is everything that is wrong said at once, with its place and its remedy, and by the right exit code?

use std::process::Command;

use ostler_tests::bounded::{self, Output};
use ostler_tests::client::Client;
use ostler_tests::deadline::SOON;
use ostler_tests::{Builder, Ostler, Scratch};

/// A wrong file: what it is about, its text, the line of the mistake, words of the message and of the remedy.
struct Wrong {
    about: &'static str,
    text: &'static str,
    line: u32,
    says: &'static [&'static str],
}

const WRONG: [Wrong; 12] = [
    Wrong { about: "not TOML", text: "[pool.web]\nlisten = [\"unix:web.sock\"\nworkers = 1\n", line: 3, says: &[] },
    Wrong {
        about: "an unknown key",
        text: "[pool.web]\nlisten = [\"unix:web.sock\"]\nworker = 3\n",
        line: 3,
        says: &["worker", "workers"],
    },
    Wrong {
        about: "a wrong type",
        text: "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = \"three\"\n",
        line: 3,
        says: &["workers"],
    },
    Wrong {
        about: "a number out of range",
        text: "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 0\n",
        line: 3,
        says: &["workers", "1"],
    },
    Wrong {
        about: "a duration without a unit",
        text: "[pool.web]\nlisten = [\"unix:web.sock\"]\ndrain = { timeout = 30 }\n",
        line: 3,
        says: &["\"30s\""],
    },
    Wrong {
        about: "an address of no kind",
        text: "[pool.web]\nlisten = [\"web.sock\"]\n",
        line: 2,
        says: &["web.sock", "unix:"],
    },
    Wrong {
        about: "a path that is too long",
        text: "[pool.web]\nlisten = [\"unix:/tmp/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sock\"]\n",
        line: 2,
        says: &["107"],
    },
    Wrong {
        about: "one address twice",
        text: "[pool.one]\nlisten = [\"unix:web.sock\"]\n[pool.two]\nlisten = [\"unix:web.sock\"]\n",
        line: 4,
        says: &["web.sock"],
    },
    Wrong {
        about: "what is not built yet",
        text: "[pool.web]\nlisten = [\"unix:web.sock\"]\nhandoff = \"message\"\n",
        line: 3,
        says: &["not yet supported"],
    },
    Wrong {
        about: "a user that is not there",
        text: "[pool.web]\nlisten = [\"unix:web.sock\"]\nsocket = { owner = \"no-such-user\" }\n",
        line: 3,
        says: &["no-such-user"],
    },
    Wrong { about: "no listener", text: "[pool.web]\nworkers = 2\n", line: 1, says: &["listen"] },
    Wrong {
        about: "a bad name of a pool",
        text: "[pool.Web]\nlisten = [\"unix:web.sock\"]\n",
        line: 1,
        says: &["Web"],
    },
];

fn ostler(scratch: &Scratch, args: &[&str]) -> Output {
    Client::new(None, scratch.clone()).command(args)
}

fn assert_points_at(output: &Output, wrong: &Wrong) {
    let said = &output.stderr;
    assert_eq!(output.code, 2, "{}: {output:?}", wrong.about);
    assert!(said.contains(&format!("wrong.toml:{}", wrong.line)), "{}: file and line:\n{said}", wrong.about);
    assert!(said.contains('^'), "{}: a caret:\n{said}", wrong.about);
    for word in wrong.says {
        assert!(said.contains(word), "{}: {word:?} is missing in\n{said}", wrong.about);
    }
    let has_remedy = ["help", "remedy", "try", "write", "use"].iter().any(|word| said.contains(word));
    assert!(has_remedy, "{}: a remedy:\n{said}", wrong.about);
}

#[test]
fn each_kind_of_mistake_is_shown_by_check_and_by_run() {
    for wrong in &WRONG {
        let scratch = Scratch::new();
        scratch.write("wrong.toml", wrong.text);
        assert_points_at(&ostler(&scratch, &["check", "-c", "wrong.toml"]), wrong);
        assert_points_at(&ostler(&scratch, &["run", "-c", "wrong.toml"]), wrong);
    }
}

#[test]
fn a_command_that_is_not_there_is_shown_by_check_before_anybody_runs_it() {
    let wrong = Wrong {
        about: "a command that is not there",
        text: "[pool.web]\nlisten = [\"unix:web.sock\"]\ncommand = [\"./no-such-app\"]\n",
        line: 3,
        says: &["no-such-app"],
    };
    let scratch = Scratch::new();
    scratch.write("wrong.toml", wrong.text);
    assert_points_at(&ostler(&scratch, &["check", "-c", "wrong.toml"]), &wrong);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let scratch = Scratch::new();
    scratch.write(
        "wrong.toml",
        "[supervisor]\nstop_timeout = \"soon\"\n[pool.web]\nlisten = [\"udp:1\"]\nworkers = -1\nconcurency = 4\n",
    );
    let output = ostler(&scratch, &["check", "-c", "wrong.toml"]);
    assert_eq!(output.code, 2, "{output:?}");
    for place in ["wrong.toml:2", "wrong.toml:4", "wrong.toml:5", "wrong.toml:6"] {
        assert!(output.stderr.contains(place), "{place} is missing in\n{}", output.stderr);
    }
}

#[test]
fn a_right_file_is_printed_in_its_effective_form_which_is_right_again() {
    let scratch = Scratch::new();
    scratch.write("ostler.toml", "[pool.web]\nlisten = [\"unix:web.sock\"]\n");
    let effective = ostler(&scratch, &["check"]);
    assert_eq!(effective.code, 0, "{effective:?}");
    for key in ["workers", "concurrency", "stop_timeout", "backlog", "[pool.web"] {
        assert!(effective.stdout.contains(key), "{key} is missing in\n{}", effective.stdout);
    }
    scratch.write("again.toml", &effective.stdout);
    let again = ostler(&scratch, &["check", "-c", "again.toml"]);
    assert_eq!((again.code, again.stdout), (0, effective.stdout));
}

#[test]
fn init_writes_a_file_that_check_accepts_and_run_hosts_and_never_overwrites() {
    let scratch = Scratch::new();
    let output = ostler(&scratch, &["init"]);
    assert_eq!(output.code, 0, "{output:?}");
    let written = std::fs::read_to_string(scratch.path("ostler.toml")).expect("it was written");
    assert_eq!(ostler(&scratch, &["check"]).code, 0);
    let mut running = Builder::new(&scratch).start();
    assert_eq!(running.status().only().name, "web");
    running.stop_clean();
    let again = ostler(&scratch, &["init"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert_eq!(std::fs::read_to_string(scratch.path("ostler.toml")).expect("still there"), written);
}

#[test]
fn bad_usage_is_2() {
    let scratch = Scratch::new();
    scratch.write("two.toml", "[pool.a]\nlisten = [\"unix:a.sock\"]\n[pool.b]\nlisten = [\"unix:b.sock\"]\n");
    let cases: [(&[&str], &str); 9] = [
        (&["gallop"], "gallop"),
        (&[], "Usage"),
        (&["run", "--no-such-flag"], "--no-such-flag"),
        (&["run", "--", "sleep", "600"], "--listen"),
        (&["run", "--listen", "web.sock"], "web.sock"),
        (&["run", "--listen", "unix:a.sock", "--workers", "0"], "workers"),
        (&["run", "-c", "two.toml", "--workers", "3"], "pool"),
        (&["check", "-c", "absent.toml"], "absent.toml"),
        (&["scale", "web", "many"], "many"),
    ];
    for (args, word) in cases {
        let output = ostler(&scratch, args);
        assert_eq!(output.code, 2, "{args:?}: {output:?}");
        assert!(output.stderr.contains(word), "{args:?}: {word:?} is missing in {output:?}");
    }
}

#[test]
fn help_and_version_are_0() {
    let scratch = Scratch::new();
    let help = ostler(&scratch, &["--help"]);
    assert_eq!(help.code, 0);
    for command in ["run", "check", "init", "status", "reload", "restart", "scale", "stop"] {
        assert!(help.stdout.contains(command), "{command} is missing in\n{}", help.stdout);
        assert_eq!(ostler(&scratch, &[command, "--help"]).code, 0, "{command}");
    }
    assert!(ostler(&scratch, &["--version"]).stdout.contains("ostler"));
}

#[test]
fn commands_without_a_supervisor_are_5() {
    let scratch = Scratch::new();
    for command in [&["status"][..], &["reload"], &["stop"], &["scale", "web", "3"], &["restart", "web"]] {
        let output = ostler(&scratch, command);
        assert_eq!(output.code, 5, "{command:?}: {output:?}");
        assert!(output.stderr.contains("no supervisor"), "{command:?}: {output:?}");
    }
    let output = ostler(&scratch, &["status", "--control", "/nonexistent/control.sock"]);
    assert_eq!(output.code, 5, "{output:?}");
}

#[test]
fn flags_override_a_file_of_one_pool() {
    let scratch = Scratch::new();
    let mut running: Ostler = Builder::new(&scratch)
        .config("[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\n")
        .args(["--workers", "3"])
        .start();
    assert_eq!(running.status().only().target, 3);
    assert_eq!(running.command(&["reload"]).code, 0);
    assert_eq!(running.status().only().target, 3, "also after a reload");
    running.stop_clean();
}

#[test]
fn a_worker_program_that_is_started_by_hand_says_what_to_type() {
    let mut command = Command::new(ostler_tests::place::program("slow_start"));
    let output = bounded::run(&mut command, SOON);
    assert_ne!(output.code, 0);
    assert!(output.stderr.contains("ostler run"), "{output:?}");
}
