//! Reads and writes durations: `30s`, `500ms`, `1m30s`.

use std::time::Duration;

use crate::limits::DURATION_MAX;
use crate::mistakes::Fault;

/// Writes a duration the way that a configuration says it: `30s`, `1m30s`, `500ms`, `0s`.
///
/// What lies below a microsecond is cut off.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut left_us = duration.as_micros();
    let mut out = String::new();
    for (unit, unit_us) in UNITS_US {
        let count = left_us / unit_us;
        left_us %= unit_us;
        if count > 0 {
            out.push_str(&format!("{count}{unit}"));
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// Reads a duration as a command line has it, the way that a configuration says it.
///
/// # Errors
/// What is wrong with it and what to write instead, for people.
pub fn read_duration(typed: &str) -> Result<Duration, String> {
    parse_duration(typed).map_err(|fault| format!("{}: {}", fault.message, fault.remedy))
}

/// Reads what `format_duration` writes, down to milliseconds.
pub(crate) fn parse_duration(typed: &str) -> Result<Duration, Fault> {
    let mut total_ms: u128 = 0;
    let mut rest = typed;
    let mut smallest_us = u128::MAX;
    if rest.is_empty() {
        return Err(not_a_duration(typed));
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, behind) = rest.split_at(digits);
        let letters = behind.len() - behind.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, behind) = behind.split_at(letters);
        if !count.is_empty() && unit.is_empty() && behind.is_empty() {
            return Err(without_unit(typed));
        }
        let unit_us = UNITS_US.iter().find(|(name, us)| *name == unit && *us >= US_PER_MS).map(|(_, us)| *us);
        let (Ok(count), Some(unit_us)) = (count.parse::<u64>(), unit_us) else {
            return Err(not_a_duration(typed));
        };
        // From large to small, each unit once: `30s1m` is more likely a slip than a wish.
        if unit_us >= smallest_us {
            return Err(not_a_duration(typed));
        }
        smallest_us = unit_us;
        total_ms += u128::from(count) * (unit_us / US_PER_MS);
        rest = behind;
    }
    match u64::try_from(total_ms).map(Duration::from_millis) {
        Ok(total) if total <= DURATION_MAX => Ok(total),
        Ok(_) | Err(_) => Err(Fault::new(
            format!("{typed:?} is too long, the limit is 365 days"),
            "more than 365 days",
            "write at most \"365d\"",
        )),
    }
}

/// The mistake of a bare number.
pub(crate) fn without_unit(typed: &str) -> Fault {
    Fault::new(
        format!("{typed} has no unit"),
        "seconds? milliseconds?",
        format!("write a unit: \"{typed}s\" (ms, s, m, h or d)"),
    )
}

fn not_a_duration(typed: &str) -> Fault {
    Fault::new(
        format!("{typed:?} is not a duration"),
        "expected a duration",
        "write whole numbers with the units d, h, m, s, ms, largest first: \"30s\", \"500ms\", \"1m30s\"",
    )
}

/// From large to small. `us` is written only: no key is that fine.
const UNITS_US: [(&str, u128); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", US_PER_MS), ("us", 1)];

const US_PER_MS: u128 = 1000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_and_their_combinations_are_read() {
        for (typed, ms) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("1m30s", 90_000),
            ("1h0m5ms", 3_600_005),
            ("0s", 0),
            ("365d", 31_536_000_000),
        ] {
            assert_eq!(parse_duration(typed), Ok(Duration::from_millis(ms)), "{typed}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_remedy() {
        for typed in
            ["", "s", "30 s", "1.5s", "-1s", "+1s", "30s1m", "1s1s", "30S", "1y", "5us", "١s", "99999999999999999999s"]
        {
            let fault = parse_duration(typed).unwrap_err();
            assert!(fault.remedy.contains("\"30s\""), "{typed}: {fault:?}");
        }
        assert!(parse_duration("30").unwrap_err().remedy.contains("\"30s\""));
        assert!(parse_duration("1m30").unwrap_err().remedy.contains("unit"));
        assert!(parse_duration("366d").unwrap_err().message.contains("365 days"));
        assert!(parse_duration("18446744073709551615d").unwrap_err().message.contains("365 days"));
    }

    #[test]
    fn a_duration_is_written_shortly() {
        assert_eq!(format_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(format_duration(Duration::from_millis(1500)), "1s500ms");
        assert_eq!(format_duration(Duration::from_micros(300)), "300us");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ms in 0..=31_536_000_000_u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics_the_reader(typed in any::<String>()) {
            let _ = parse_duration(&typed);
        }
    }
}
