//! A program that is built to be a template, and says where it was loaded.
//!
//! `templated JOURNAL [MB] [threads|fails|closes]`: each time that it loads, it adds a line to the file JOURNAL. `MB`: so much
//! memory is loaded. `threads`: a thread is left behind; `fails`: nothing can be loaded; `slowly`: it takes half a second.
//! Routes: `/` as in the hello server, `/loaded` the process that has loaded, `/sleep/MS`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::process;
use std::thread;
use std::time::Duration;

use ostler_tests::tiny_http;
use ostler_worker::{Template, TemplateError};

/// What is loaded.
struct Loaded {
    by: u32,
    bytes: Vec<u8>,
}

fn main() -> Result<(), TemplateError> {
    Template::run(load, |worker, loaded| {
        let name = worker.name().to_string();
        worker.serve(|connection| {
            tiny_http::serve(connection, |path| {
                if let Some(ms) = path.strip_prefix("/sleep/").and_then(|text| text.parse().ok()) {
                    thread::sleep(Duration::from_millis(ms));
                }
                match path {
                    "/loaded" => format!("{} {}\n", loaded.by, loaded.bytes.len()),
                    _ => tiny_http::who_am_i(&name),
                }
            })
        })
    })
}

fn load() -> io::Result<Loaded> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let journal = arguments.first().ok_or_else(|| io::Error::other("usage: templated JOURNAL [MB] [MODE]"))?;
    writeln!(OpenOptions::new().append(true).create(true).open(journal)?, "{}", process::id())?;
    let megabytes: usize = arguments.get(1).map_or(Ok(0), |text| text.parse()).map_err(io::Error::other)?;
    match arguments.get(2).map(String::as_str) {
        Some("threads") => drop(thread::Builder::new().name("left-behind".into()).spawn(thread::park)?),
        Some("fails") => return Err(io::Error::other("the model is not there")),
        Some("slowly") => thread::sleep(Duration::from_millis(500)),
        Some(_) | None => {}
    }
    // A thread that has ended is none.
    let gone = thread::spawn(|| {}).join();
    gone.map_err(|_| io::Error::other("a thread panicked"))?;
    Ok(Loaded { by: process::id(), bytes: vec![7; megabytes << 20] })
}
