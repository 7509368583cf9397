//! Reads and writes sizes: `512MiB`, `64KiB`, `4096`.

use crate::mistakes::Fault;

/// Writes a size the way that a configuration says it: in the largest unit that leaves no rest.
pub(crate) fn format_size(bytes: u64) -> String {
    let whole = UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Reads what `format_size` writes.
pub(crate) fn parse_size(typed: &str) -> Result<u64, Fault> {
    let digits = typed.len() - typed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = typed.split_at(digits);
    let unit = match unit {
        "" => Some(1),
        name => UNITS.iter().find(|(unit, _)| *unit == name).map(|(_, bytes)| *bytes),
    };
    match (count.parse::<u64>(), unit) {
        (Ok(count), Some(unit)) => count.checked_mul(unit).ok_or_else(|| {
            let remedy = "write a smaller one, or \"unlimited\" where that is meant";
            Fault::new(format!("{typed:?} is more than there can be"), "too large", remedy)
        }),
        (_, _) => {
            let remedy =
                "write a whole number and one of KiB, MiB, GiB, TiB: \"512MiB\"; without a unit it is in bytes";
            Err(Fault::new(format!("{typed:?} is not a size"), "expected a size", remedy))
        }
    }
}

/// From large to small.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_read_and_written() {
        for (text, bytes) in [("0", 0), ("1023", 1023), ("64KiB", 65_536), ("512MiB", 512 << 20), ("1TiB", 1 << 40)] {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(format_size(bytes), text);
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for typed in ["", "MiB", "512MB", "512 MiB", "-1", "1.5GiB", "18446744073709551616", "16777216TiB"] {
            assert!(parse_size(typed).is_err(), "{typed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_size_is_read_back(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }
}
