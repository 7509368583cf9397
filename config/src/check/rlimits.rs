//! Checks the limits of a worker: `limits`, and that `nofile` and `nice` are within reach.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use super::Site;
use crate::caller::{Caller, Right};
use crate::checked::{Bound, Limit, Unit};
use crate::duration::format_duration;
use crate::limits::LIMIT_MAX;
use crate::mistakes::{Fault, Mistake};
use crate::nearest::nearest;
use crate::raw::RawTable;
use crate::size::{format_size, parse_size};
use crate::value::{duration_of, within, wrong_type};

pub(super) fn limits(table: &RawTable<'_>, site: &Site<'_>, mistakes: &mut Vec<Mistake>) -> BTreeMap<Limit, Bound> {
    let mut limits = BTreeMap::new();
    for (key, typed) in table.named_values("limits", mistakes) {
        let Some(limit) = Limit::ALL.into_iter().find(|limit| limit.name() == key.value) else {
            mistakes.push(key.refuse(unknown(key.value)));
            continue;
        };
        let bound = bound(limit, typed.value).and_then(|bound| match bound {
            Bound::At(value) => within_reach(Some(limit), value, site.caller).map_or(Ok(bound), Err),
            Bound::Unlimited => within_reach(Some(limit), u64::MAX, site.caller).map_or(Ok(bound), Err),
        });
        match bound {
            Ok(bound) => {
                limits.insert(limit, bound);
            }
            Err(fault) => mistakes.push(typed.refuse(fault)),
        }
    }
    limits
}

/// A limit above the hard one that the supervisor was started with; `None` is the limit of descriptors.
pub(super) fn within_reach(limit: Option<Limit>, value: u64, caller: &Caller) -> Option<Fault> {
    let most = caller.limit_max(limit);
    (value > most).then(|| {
        let most = limit.map_or_else(|| most.to_string(), |limit| shown(limit, most));
        let lacking = caller.missing(&[Right::Limits]).join(", ");
        Fault::new(
            format!("above the hard limit of this process, {most}, which only root may raise ({lacking} is missing)"),
            "above the hard limit",
            format!(
                "write at most {most}, or start ostler with a higher limit (ulimit -H, Limit…= in a unit) or as root"
            ),
        )
    })
}

/// A priority that the supervisor may not give.
pub(super) fn nice_within_reach(nice: i32, caller: &Caller) -> Option<Fault> {
    (nice < caller.nice_min).then(|| {
        let least = caller.nice_min;
        let lacking = caller.missing(&[Right::Nice]).join(", ");
        Fault::new(
            format!("{nice} is a higher priority than this process may give, {least} ({lacking} is missing)"),
            "not permitted",
            format!("write at least {least}, or start ostler as root"),
        )
    })
}

/// A value in a limit's unit, as a configuration says it.
pub(crate) fn shown(limit: Limit, value: u64) -> String {
    match limit.unit() {
        Unit::Bytes => format!("\"{}\"", format_size(value)),
        Unit::Seconds => format!("\"{}\"", format_duration(Duration::from_secs(value))),
        Unit::Count => value.to_string(),
    }
}

fn bound(limit: Limit, typed: &DeValue<'_>) -> Result<Bound, Fault> {
    if let DeValue::String(text) = typed
        && text.as_ref() == "unlimited"
    {
        return Ok(Bound::Unlimited);
    }
    let value = match (limit.unit(), typed) {
        (Unit::Bytes | Unit::Count, DeValue::Integer(number)) => {
            within(number.as_str(), number.radix(), &(0..=LIMIT_MAX))?
        }
        (Unit::Bytes, DeValue::String(text)) => parse_size(text)?,
        (Unit::Seconds, typed) => whole_seconds(duration_of(typed, Duration::from_secs(1), EXAMPLE_SECONDS)?)?,
        (Unit::Bytes, other) => return Err(wrong_type(other, "a size", EXAMPLE_BYTES)),
        (Unit::Count, other) => return Err(wrong_type(other, "a whole number", EXAMPLE_COUNT)),
    };
    if value > LIMIT_MAX {
        let remedy = "write a smaller one, or \"unlimited\"";
        return Err(Fault::new(format!("{value} is too large, the limit is {LIMIT_MAX}"), "too large", remedy));
    }
    Ok(Bound::At(value))
}

fn whole_seconds(duration: Duration) -> Result<u64, Fault> {
    if duration.subsec_nanos() > 0 {
        let message = format!("{} has a part of a second, which the kernel does not count", format_duration(duration));
        return Err(Fault::new(message, "not whole seconds", "write whole seconds: \"60s\""));
    }
    Ok(duration.as_secs())
}

fn unknown(name: &str) -> Fault {
    let remedy = match name {
        "nofile" => "write it as process.nofile".to_owned(),
        "nice" => "write it as process.nice, which needs no limit".to_owned(),
        name => match nearest(name, Limit::ALL.map(Limit::name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("here can stand: {}", Limit::ALL.map(Limit::name).join(", ")),
        },
    };
    Fault::new("there is no such limit", "unknown limit", remedy)
}

const EXAMPLE_BYTES: &str = "as = \"2GiB\"";
const EXAMPLE_SECONDS: &str = "cpu = \"60s\"";
const EXAMPLE_COUNT: &str = "nproc = 100";
