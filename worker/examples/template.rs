//! Loads a list of words once, and answers each client with one of them, from as many workers as the pool has.
//!
//! ```text
//! cargo build --release --examples
//! cat > ostler.toml <<END
//! [pool.words]
//! listen = ["unix:words.sock"]
//! command = ["target/release/examples/template", "/usr/share/dict/words"]
//! reload.template = true
//! END
//! ostler run
//! nc -U words.sock
//! ```
//! What it has loaded is in memory once, however many workers there are. Without `reload.template` each loads its own.

use std::fs;
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use ostler_worker::{Connection, Template, TemplateError};

fn main() -> Result<(), TemplateError> {
    Template::run(load, |worker, words| worker.serve(|connection| tell(connection, &words)))
}

fn load() -> io::Result<Vec<String>> {
    let path = std::env::args().nth(1).ok_or_else(|| io::Error::other("say which file of words"))?;
    let words: Vec<String> = fs::read_to_string(path)?.lines().map(str::to_owned).collect();
    println!("{} words", words.len());
    if words.is_empty() { Err(io::Error::other("there is no word in it")) } else { Ok(words) }
}

/// Any word will do: the clock chooses.
fn tell(mut connection: Connection, words: &[String]) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let word = &words[now.subsec_nanos() as usize % words.len()];
    writeln!(connection, "{word}")
}
