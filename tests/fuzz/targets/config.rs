//! Parses arbitrary texts as a configuration.
//!
//! Holds: no panic, whoever prints the mistakes; every mistake has a remedy; what parses is printed as TOML that parses
//! to the same, and a reload to it is decided. The network is not asked for names.
#![no_main]

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use libfuzzer_sys::{Corpus, fuzz_target};
use ostler_config::{Colour, Config, Mistakes, Programs, parse_with, plan};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    // Before anything of ostler's sees a file it is UTF-8 (`load`).
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    match parse(text) {
        Ok(config) => prints_itself(&config),
        Err(mistakes) => can_be_shown(&mistakes),
    }
    Corpus::Keep
});

fn parse(text: &str) -> Result<Config, Mistakes> {
    parse_with(text, Path::new("ostler.toml"), Path::new("/srv"), lookup, Programs::MayCome)
}

/// Knows one name and asks nobody.
fn lookup(host: &str, port: u16) -> io::Result<SocketAddr> {
    if host == "localhost" {
        Ok(SocketAddr::from(([127, 0, 0, 1], port)))
    } else {
        Err(io::Error::other("no such name"))
    }
}

fn prints_itself(config: &Config) {
    let printed = config.to_toml();
    let again = parse(&printed).unwrap_or_else(|mistakes| panic!("not understood again:\n{printed}\n{mistakes}"));
    assert_eq!(config, &again, "printed as\n{printed}");
    assert!(plan(config, &again, &[]).is_ok(), "a reload to the same is refused:\n{printed}");
}

fn can_be_shown(mistakes: &Mistakes) {
    assert!(!mistakes.list().is_empty(), "refused without a reason");
    for mistake in mistakes.list() {
        assert!(!mistake.message.is_empty() && !mistake.remedy.is_empty(), "{mistake:?}");
    }
    for colour in [Colour::Plain, Colour::Ansi] {
        assert!(mistakes.render(colour).contains("ostler.toml"));
    }
}
