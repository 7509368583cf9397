//! What the tests about logs share: workers that print, and who reads the lines.

use std::path::Path;

use ostler_tests::Ostler;
pub(crate) use ostler_tests::bounded::json_lines as lines;
use ostler_tests::deadline::{SOON, wait_for};
use serde_json::Value;

/// A pool on the hello server, and one of a script that prints and then becomes the hello server's equal: it never says
/// Hello, so it is an `accept` pool with Python behind.
pub(crate) fn printing(script: &str) -> String {
    format!(
        r#"
[pool.loud]
listen = ["unix:loud.sock"]
handoff = "accept"
workers = 1
command = ["python3", "-u", "-c", {script:?}]
"#
    )
}

/// Accepts for ever, after what `first` does.
pub(crate) fn accepting_after(first: &str) -> String {
    format!(
        "import os, socket, sys, threading, time\n{first}\ns = socket.socket(fileno=3)\nwhile True:\n c, _ = s.accept()\n c.close()\n"
    )
}

/// The lines of `ostler logs --json`.
pub(crate) fn logs(ostler: &Ostler, args: &[&str]) -> Vec<Value> {
    let output = ostler.command(&[&["logs", "--json"], args].concat());
    assert_eq!(output.code, 0, "{output:?}");
    lines(&output.stdout)
}

/// What a line says.
pub(crate) fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

/// Waits until a file has a text.
pub(crate) fn wait_text(path: &Path, text: &str) -> String {
    let found = || std::fs::read_to_string(path).ok().filter(|said| said.contains(text));
    wait_for(SOON, &format!("{text:?} in {}", path.display()), found)
}
