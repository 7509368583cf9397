//! Starting workers wrongly: by hand, by somebody else, under a supervisor of another make.

use std::process::{Command, Output, Stdio};

use ostler_shared::wire::{Marks, ToSupervisor, ToWorker, Welcome};

use crate::fake::{FORKS, Fake, Setup, example};

fn run(command: &mut Command) -> (Option<i32>, String) {
    let forking = FORKS.write();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(forking);
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn run_by_hand_a_worker_says_what_to_type() {
    for name in ["echo", "who", "http_hello"] {
        let path = example(name);
        let (code, said) = run(Command::new(&path).arg("a word"));
        assert_eq!(code, Some(1));
        let advice =
            format!("not started by ostler: try `ostler run --listen unix:app.sock -- {} 'a word'`", path.display());
        assert!(said.contains(&advice), "{said}");
    }
}

#[test]
fn started_with_a_worker_s_environment_but_without_its_channels_it_says_so() {
    let (code, said) = run(Command::new(example("echo"))
        .env("OSTLER_PROTOCOL", "1")
        .env("OSTLER_POOL", "web")
        .env("OSTLER_WORKER", "0.1")
        .env("OSTLER_FDS", ostler_shared::env::fds()));
    assert_eq!(code, Some(1));
    assert!(said.contains("file descriptor 3 is not ostler's mailbox"), "{said}");
}

#[test]
fn another_protocol_is_named_by_both_numbers() {
    let (_, said) = run(Command::new(example("echo")).env("OSTLER_PROTOCOL", "2"));
    assert!(said.contains(r#"protocol "2", this worker speaks 1"#), "{said}");

    let mut fake = Fake::spawn(Command::new(example("echo")), &Setup::default());
    assert!(matches!(fake.hear(), ToSupervisor::Hello(_)));
    fake.tell(&ToWorker::Welcome(Welcome {
        protocol: 7,
        concurrency: 1,
        drain_timeout_ms: 1,
        heartbeat_ms: 0,
        marks: Marks::Unread,
    }));
    assert_eq!(fake.process.exit().code(), Some(1));
    assert!(fake.process.last_words().contains("the supervisor speaks protocol 7, this worker 1"));
}
