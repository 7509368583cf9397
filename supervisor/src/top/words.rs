//! Puts figures into few columns.

/// What is not known.
pub(super) const UNKNOWN: &str = "-";

/// A length of time in at most five columns: `850µs`, `1.2ms`, `40ms`, `1.5s`, `42s`, `12m`, `3h`, `20d`.
pub(crate) fn length(ns: u64) -> String {
    let tenths = |unit_ns: u64| format!("{}.{}", ns / unit_ns, ns % unit_ns * 10 / unit_ns);
    match ns {
        0 => "0".to_owned(),
        1..MS => format!("{}µs", ns / 1000),
        MS..TEN_MS => format!("{}ms", tenths(MS)),
        TEN_MS..S => format!("{}ms", ns / MS),
        S..TEN_S => format!("{}s", tenths(S)),
        TEN_S..MINUTE => format!("{}s", ns / S),
        MINUTE..HOUR => format!("{}m", ns / MINUTE),
        HOUR..DAY => format!("{}h", ns / HOUR),
        DAY.. => format!("{}d", ns / DAY),
    }
}

const MS: u64 = 1_000_000;
const TEN_MS: u64 = 10 * MS;
const S: u64 = 1000 * MS;
const TEN_S: u64 = 10 * S;
const MINUTE: u64 = 60 * S;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Two percentiles of one thing.
pub(super) fn pair(p50_ns: u64, p99_ns: u64) -> String {
    format!("{}/{}", length(p50_ns), length(p99_ns))
}

/// So many per second.
pub(super) fn rate(per_s: f64) -> String {
    match per_s {
        _ if per_s < 9.95 => format!("{per_s:.1}"),
        _ if per_s < 99_999.5 => format!("{per_s:.0}"),
        _ => format!("{:.0}k", per_s / 1e3),
    }
}

/// Memory, in its largest unit.
pub(super) fn bytes(bytes: u64) -> String {
    let (mut amount, mut unit) = (bytes as f64 / 1024.0, "K");
    for next in ["M", "G", "T"] {
        if amount < 999.95 {
            break;
        }
        (amount, unit) = (amount / 1024.0, next);
    }
    format!("{amount:.1}{unit}")
}

/// A count in at most six columns.
pub(super) fn count(count: u64) -> String {
    match count {
        0..1_000_000 => count.to_string(),
        1_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{}G", count / 1_000_000_000),
    }
}

/// What is known, in words; else a dash.
pub(super) fn or_unknown<T>(value: Option<T>, words: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), words)
}

/// A text that was made elsewhere, without what would control the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_take_few_columns_at_every_size() {
        let lengths = [0, 999, MS - 1, MS, TEN_MS - 1, 999 * MS, S, TEN_S - 1, TEN_S, MINUTE, HOUR, DAY, 900 * DAY];
        let shown = lengths.map(length);
        let expected =
            ["0", "0µs", "999µs", "1.0ms", "9.9ms", "999ms", "1.0s", "9.9s", "10s", "1m", "1h", "1d", "900d"];
        assert_eq!(shown, expected);
        assert_eq!(pair(210_000, 12 * MS), "210µs/12ms");
        assert_eq!([0.0, 9.94, 9.95, 1234.4, 250_000.0].map(rate), ["0.0", "9.9", "10", "1234", "250k"]);
        assert_eq!([0, 1024, 5 << 20, 3 << 30].map(bytes), ["0.0K", "1.0K", "5.0M", "3.0G"]);
        assert_eq!([999_999, 1_000_000, u64::MAX].map(count), ["999999", "1M", "18446744073G"]);
    }

    #[test]
    fn nothing_that_somebody_else_wrote_controls_the_terminal() {
        assert_eq!(plain("a\x1b[2J\nb\u{9b}é"), "a?[2J?b?é");
    }
}
