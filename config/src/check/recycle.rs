//! Checks `recycle = { … }`.

use std::time::Duration;

use toml::de::DeValue;

use crate::checked::{Jitter, Recycle};
use crate::duration::format_duration;
use crate::limits::{RECYCLE_AGE_MIN, RECYCLE_JITTER_MAX, RECYCLE_REQUESTS_MAX, RECYCLE_RSS_MIN};
use crate::mistakes::{Fault, Mistake};
use crate::raw::RawTable;
use crate::size::{format_size, parse_size};
use crate::value::{like, within, wrong_type};

/// A pool that says nothing about it recycles nobody.
pub(super) fn default_recycle() -> Recycle {
    Recycle { requests: 0, jitter: JITTER, age: Duration::ZERO, rss: 0 }
}

pub(super) fn recycle(table: &RawTable<'_>, mistakes: &mut Vec<Mistake>) -> Recycle {
    let never = default_recycle();
    let requests = table.whole("requests", 0..=RECYCLE_REQUESTS_MAX, mistakes);
    let jitter = table.value("jitter", mistakes, jitter);
    let age = table.duration("age", Duration::ZERO, mistakes).understand(mistakes, off_or_grown);
    let rss = table.value("rss", mistakes, rss);
    Recycle {
        requests: requests.value().unwrap_or(never.requests),
        jitter: jitter.value().unwrap_or(never.jitter),
        age: age.value().unwrap_or(never.age),
        rss: rss.value().unwrap_or(never.rss),
    }
}

/// Zero, or long enough that a worker does something between its start and its end.
fn off_or_grown(asked: Duration) -> Result<Duration, Fault> {
    if asked.is_zero() || asked >= RECYCLE_AGE_MIN {
        return Ok(asked);
    }
    let (asked, least) = (format_duration(asked), format_duration(RECYCLE_AGE_MIN));
    let message = format!("{asked} is too short, the least is {least}");
    Err(Fault::new(message, "too short", format!("write at least \"{least}\", or \"0s\" for any age")))
}

fn jitter(value: &DeValue<'_>, example: &str) -> Result<Jitter, Fault> {
    let digits = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        other => return Err(wrong_type(other, "a number", example)),
    };
    let most = Jitter::from_thousandths(RECYCLE_JITTER_MAX);
    let thousandths = digits.parse::<f64>().ok().map(|share| share * 1000.0);
    let thousandths = thousandths.filter(|asked| (0.0..=f64::from(RECYCLE_JITTER_MAX)).contains(asked));
    let Some(asked) = thousandths else {
        let message = format!("{digits} is outside its limits, which are 0 and {most}");
        return Err(Fault::new(message, "outside its limits", format!("write a number from 0 to {most}")));
    };
    let whole = asked.round();
    if (asked - whole).abs() > ROUNDING {
        return Err(Fault::new(format!("{digits} is finer than a thousandth"), "too fine", like(example)));
    }
    // Within 0 and 500 by now.
    Ok(Jitter::from_thousandths(whole as u32))
}

fn rss(value: &DeValue<'_>, example: &str) -> Result<u64, Fault> {
    let bytes = match value {
        DeValue::Integer(number) => within(number.as_str(), number.radix(), &(0..=u64::MAX))?,
        DeValue::String(text) => parse_size(text)?,
        other => return Err(wrong_type(other, "a size", example)),
    };
    if bytes == 0 || bytes >= RECYCLE_RSS_MIN {
        return Ok(bytes);
    }
    let least = format_size(RECYCLE_RSS_MIN);
    let message = format!("{bytes} bytes are less than any worker needs, the least is {least}");
    Err(Fault::new(message, "too small", format!("write at least \"{least}\", or \"0\" for any size")))
}

const JITTER: Jitter = Jitter::from_thousandths(100);

/// What the way from decimal digits to a binary number may cost.
const ROUNDING: f64 = 1e-6;
