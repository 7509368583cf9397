//! Does a start that can't succeed end by itself, with a reason that helps?

use std::time::Duration;

use ostler_tests::{Ostler, programs};

/// A pool that gives up soon.
fn config(command: &str) -> String {
    format!(
        r#"
        [pool.web]
        listen = ["unix:web.sock"]
        command = {command}
        workers = 2
        start = {{ ready_timeout = "1s", failures = 2, backoff = ["10ms", "50ms"] }}
        "#
    )
}

#[test]
fn a_program_that_cannot_be_executed_ends_run_with_1() {
    let scratch = ostler_tests::Scratch::new();
    let script = scratch.write("app", "#!/nonexistent/interpreter\n");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let ended = ostler_tests::Builder::new(&scratch).config(config(r#"["./app"]"#)).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains("app"), "{}", ended.log);
    assert!(ended.log.contains("No such file"), "{}", ended.log);
}

#[test]
fn a_program_that_dies_at_once_ends_run_with_1_and_its_last_words() {
    let command = r#"["/bin/sh", "-c", "echo my database is missing >&2; exit 9"]"#;
    let ended = Ostler::builder().config(config(command)).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    let last = ended.log.lines().rev().take(8).collect::<Vec<_>>().join("\n");
    assert!(last.contains("my database is missing"), "{}", ended.log);
    assert!(last.contains("exit code 9"), "{}", ended.log);
}

#[test]
fn a_program_that_never_says_hello_is_told_about_other_handoffs() {
    let ended = Ostler::builder().config(config(r#"["/bin/sleep", "600"]"#)).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains("--handoff accept"), "{}", ended.log);
}

#[test]
fn a_worker_that_is_slow_within_its_time_is_waited_for() {
    let command = programs::toml(&programs::slow_start(600));
    let mut ostler = Ostler::builder().config(config(&command)).ready_within(Duration::from_secs(30)).start();
    assert_eq!(ostler.status().only().ready().len(), 2);
    ostler.stop_clean();
}

#[test]
fn a_listener_that_is_taken_ends_run_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = format!("tcp:{}", taken.local_addr().expect("bound"));
    let ended = Ostler::builder().args(["--listen", &listen]).start_failing();
    assert_eq!(ended.code, 1, "{}", ended.log);
    assert!(ended.log.contains(&listen[4..]), "{}", ended.log);
}
