//! Tests that need the whole crate.

mod admin;
mod diagnostics;
mod examples;
mod flags;
mod odd_input;
mod one_slip;
mod plans;
mod processes;
mod reference;
mod refusals;
mod round_trip;

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::Programs;
use crate::caller::{Caller, Right};
use crate::check::Site;
use crate::keys::KEYS;
use crate::load::parse_at;
use crate::{Config, Mistakes};

/// A resolver that knows one name and asks nobody.
fn lookup(host: &str, port: u16) -> io::Result<SocketAddr> {
    match host {
        "localhost" => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        _ => Err(io::Error::other("no such name")),
    }
}

fn parse(text: &str) -> Result<Config, Mistakes> {
    parse_in(text, Path::new("/"))
}

fn parse_in(text: &str, dir: &Path) -> Result<Config, Mistakes> {
    parse_by(&root(), text, dir)
}

/// As another process would read it.
fn parse_by(caller: &Caller, text: &str, dir: &Path) -> Result<Config, Mistakes> {
    parse_at(text, Path::new("ostler.toml"), &Site { dir, lookup, programs: Programs::MustExist, caller })
}

/// A process that may do everything, whoever runs the tests.
fn root() -> Caller {
    Caller { uid: 0, gid: 0, lacks: Vec::new(), nice_min: -20, hard_limit: |_| 0 }
}

/// A process of an ordinary user.
fn ordinary() -> Caller {
    let lacks = vec![Right::Kill, Right::Groups, Right::User, Right::Limits, Right::Nice];
    Caller { uid: 1, gid: 1, lacks, nice_min: 0, hard_limit: |_| 4096 }
}

/// Every key that a text says, by its path in the table of keys, with its value as it was typed.
fn said(text: &str) -> Vec<(String, String)> {
    let table = DeTable::parse(text).expect("the text of a test is TOML");
    let mut found = Vec::new();
    collect(text, "", table.get_ref(), &mut found);
    found
}

fn collect(text: &str, scope: &str, table: &DeTable<'_>, found: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let name = if scope == "pool" { "NAME" } else { key.get_ref().as_ref() };
        let path = crate::keys::join(scope, name);
        match value.get_ref() {
            DeValue::Table(inner) => {
                // Some tables are a value of a key and have keys of their own.
                if KEYS.iter().any(|key| key.path == path) {
                    found.push((path.clone(), text[value.span()].to_owned()));
                }
                let below = format!("{path}.");
                if KEYS.iter().all(|key| key.path != path) || KEYS.iter().any(|key| key.path.starts_with(&below)) {
                    collect(text, &path, inner, found);
                }
            }
            _ => found.push((path, text[value.span()].to_owned())),
        }
    }
}
