//! A worker whose handler opens files until there is no descriptor left, on purpose.
//!
//! `fd_glutton return`: it answers and then closes them. `fd_glutton leak`: it keeps the first connection's for ever,
//! except what it needs to answer. Every answer says how many files its handler could open.

use std::error::Error;
use std::fs::File;
use std::io;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use ostler_tests::programs::edge;
use ostler_tests::tiny_http;
use ostler_worker::Worker;

/// How long a handler keeps everything.
const HELD: Duration = Duration::from_millis(5);

/// What leaks; one handler at a time adds to it.
static LEAKED: Mutex<Vec<File>> = Mutex::new(Vec::new());

fn main() -> ExitCode {
    edge(run())
}

fn run() -> Result<(), Box<dyn Error>> {
    let leaks = std::env::args().nth(1).is_some_and(|word| word == "leak");
    let worker = Worker::connect()?;
    let name = worker.name().to_string();
    worker.serve(|connection| {
        tiny_http::serve(connection, |_path| {
            let (files, ended) = open_all();
            // Long enough for the other threads to find nothing left.
            thread::sleep(HELD);
            let answer = format!("{} files={} ended={ended}\n", tiny_http::who_am_i(&name).trim_end(), files.len());
            if leaks {
                LEAKED.lock().expect("nobody panics with it").extend(files);
            }
            answer
        })
    })?;
    Ok(())
}

/// Opens files until that fails; answers with the error's number.
fn open_all() -> (Vec<File>, i32) {
    let mut files = Vec::new();
    loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => return (files, error.raw_os_error().unwrap_or(-1)),
        }
        assert!(files.len() < 100_000, "{}", io::Error::other("no limit in sight: set process.nofile"));
    }
}
