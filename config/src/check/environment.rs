//! Checks a worker's environment: `env` and `env_keep`.

use std::collections::{BTreeMap, BTreeSet};

use super::process::fit_for_exec;
use crate::asked::{Asked, Typed};
use crate::checked::Inherit;
use crate::limits::ENV_MAX;
use crate::mistakes::{Fault, Mistake};
use crate::raw::RawTable;

pub(super) fn env(table: &RawTable<'_>, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let variables = table.named_texts("env", mistakes);
    if let Some((key, _)) = variables.get(ENV_MAX) {
        mistakes.push(one_too_many(key, "remove some, or set them in the environment of ostler"));
    }
    for (key, value) in variables.into_iter().take(ENV_MAX) {
        if let Err(fault) = name(key.value) {
            mistakes.push(key.refuse(fault));
        }
        let whole = format!("{}={}", key.value, value.value);
        match fit_for_exec(value.value).and_then(|()| fit_for_exec(&whole)) {
            Ok(()) => {
                env.insert(key.value.to_owned(), value.value.to_owned());
            }
            Err(fault) => mistakes.push(value.refuse(fault)),
        }
    }
    env
}

pub(super) fn env_keep(table: &RawTable<'_>, mistakes: &mut Vec<Mistake>) -> Inherit {
    let Asked::For(list) = table.texts("env_keep", mistakes) else { return Inherit::Everything };
    if let Some(item) = list.value.get(ENV_MAX) {
        mistakes.push(one_too_many(item, "remove some, or the key: without it everything is inherited"));
    }
    let mut names = BTreeSet::new();
    for item in list.value.iter().take(ENV_MAX) {
        match name(item.value) {
            Ok(()) => {
                names.insert(item.value.to_owned());
            }
            Err(fault) => mistakes.push(item.refuse(fault)),
        }
    }
    Inherit::Only(names)
}

fn one_too_many(at: &Typed<&str>, remedy: &str) -> Mistake {
    at.refuse(Fault::new(format!("is one variable too many, the limit is {ENV_MAX}"), "too many", remedy))
}

fn name(name: &str) -> Result<(), Fault> {
    if name.is_empty() || name.contains(['=', '\0']) {
        let remedy = "write a name like RUST_LOG";
        return Err(Fault::new(format!("{name:?} cannot be the name of a variable"), "not a name", remedy));
    }
    if name.starts_with("OSTLER_") || RESERVED.contains(&name) {
        let remedy = "remove it: ostler sets it for each worker";
        return Err(Fault::new(format!("{name} is reserved"), "reserved", remedy));
    }
    Ok(())
}

/// Variables that ostler itself says to a worker, or that belong to the supervisor's own service manager.
const RESERVED: [&str; 8] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];
