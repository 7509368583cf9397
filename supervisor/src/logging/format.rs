//! Writes lines as text for people, as JSON, and as logfmt.
//!
//! A line may carry anything that a worker printed. Text shows what is not printable as `\xHH`, so that nobody's terminal obeys
//! a stranger; line ends and tabs of our own lines stay. JSON and logfmt carry a line that is not UTF-8 twice: readable,
//! with U+FFFD for what can't be read, and exactly, as `message_base64`.

use crate::control::protocol::{Line, Origin, Severity, Stream, Value};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Text for people.
    Plain,
    /// The same in colours.
    Coloured,
    /// One JSON object per line.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

/// Appends one line, with its end.
pub(crate) fn render(line: &Line, look: Look, out: &mut Vec<u8>) {
    match look {
        Look::Plain => text(line, &PLAIN, out),
        Look::Coloured => text(line, &colours(line.level), out),
        Look::Json => json(line, out),
        Look::Logfmt => logfmt(line, out),
    }
    out.push(b'\n');
}

// ── text ───────────────────────────────────────────────────────────────────────────────────────────────────

struct Paint {
    dim: &'static str,
    level: &'static str,
    end: &'static str,
}

const PLAIN: Paint = Paint { dim: "", level: "", end: "" };

fn colours(level: Severity) -> Paint {
    let level = match level {
        Severity::Error => "\x1b[31m",
        Severity::Warn => "\x1b[33m",
        Severity::Info => "\x1b[32m",
        Severity::Debug => "\x1b[34m",
        Severity::Trace => "\x1b[35m",
    };
    Paint { dim: "\x1b[2m", level, end: "\x1b[0m" }
}

fn text(line: &Line, paint: &Paint, out: &mut Vec<u8>) {
    let Paint { dim, level, end } = paint;
    out.extend(format!("{dim}{}{end}", Timestamp(line.at_us)).bytes());
    match line.origin {
        // Each of them is a connection that ended; how grave that is, its outcome says.
        Origin::Access => {}
        Origin::Supervisor | Origin::Worker(_) => out.extend(format!(" {level}{:>5}{end}", word(line.level)).bytes()),
    }
    if !line.text.is_empty() || line.origin != Origin::Access {
        out.push(b' ');
    }
    readable(&line.text, out);
    for (name, value) in &line.fields {
        out.extend(format!(" {dim}{name}={end}").bytes());
        match value {
            Value::Text(text) => readable(text.as_bytes(), out),
            Value::Count(number) => out.extend(number.to_string().bytes()),
            Value::Number(number) => out.extend(number.to_string().bytes()),
        }
    }
}

/// Bytes as text; what is not printable is shown as `\xHH`.
fn readable(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                let mut encoded = [0; 4];
                hexadecimal(c.encode_utf8(&mut encoded).as_bytes(), out);
            } else {
                out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            }
        }
        hexadecimal(chunk.invalid(), out);
    }
}

fn hexadecimal(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.extend(format!("\\x{byte:02x}").bytes());
    }
}

// ── for programs ───────────────────────────────────────────────────────────────────────────────────────────

fn json(line: &Line, out: &mut Vec<u8>) {
    out.extend(format!("{{\"timestamp\":\"{}\"", Timestamp(line.at_us)).bytes());
    for (name, value) in said(line) {
        out.push(b',');
        json_text(&name, out);
        out.push(b':');
        match value {
            Value::Text(text) => json_text(&text, out),
            Value::Count(number) => out.extend(number.to_string().bytes()),
            Value::Number(number) => out.extend(number.to_string().bytes()),
        }
    }
    out.push(b'}');
}

fn json_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text is JSON, and memory takes it");
}

fn logfmt(line: &Line, out: &mut Vec<u8>) {
    out.extend(format!("timestamp={}", Timestamp(line.at_us)).bytes());
    for (name, value) in said(line) {
        out.extend(format!(" {name}=").bytes());
        match value {
            Value::Text(text) if is_plain(&text) => out.extend(text.bytes()),
            Value::Text(text) => json_text(&text, out),
            Value::Count(number) => out.extend(number.to_string().bytes()),
            Value::Number(number) => out.extend(number.to_string().bytes()),
        }
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |c: char| c > ' ' && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    !text.is_empty() && text.chars().all(plain)
}

/// Everything that a line says, but when.
fn said(line: &Line) -> Vec<(String, Value)> {
    let mut said = Vec::new();
    let mut say = |name: &str, value| said.push((name.to_owned(), value));
    match line.origin {
        Origin::Access => {}
        Origin::Supervisor | Origin::Worker(_) => {
            say("level", Value::Text(word(line.level).to_owned()));
            say("message", Value::Text(String::from_utf8_lossy(&line.text).into_owned()));
        }
    }
    if std::str::from_utf8(&line.text).is_err() {
        say("message_base64", Value::Text(base64(&line.text)));
    }
    match line.origin {
        Origin::Worker(Stream::Output) => say("stream", Value::Text("stdout".to_owned())),
        Origin::Worker(Stream::Errors) => say("stream", Value::Text("stderr".to_owned())),
        Origin::Supervisor | Origin::Access => {}
    }
    said.extend(line.fields.iter().map(|(name, value)| (name.to_string(), value.clone())));
    said
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            match place <= group.len() {
                true => out.push(char::from(DIGITS[(word >> (18 - 6 * place) & 63) as usize])),
                false => out.push('='),
            }
        }
    }
    out
}

fn word(level: Severity) -> &'static str {
    match level {
        Severity::Error => "ERROR",
        Severity::Warn => "WARN",
        Severity::Info => "INFO",
        Severity::Debug => "DEBUG",
        Severity::Trace => "TRACE",
    }
}

/// Microseconds since 1970 as `2026-01-31T23:59:59.123456Z`.
/// The time of day in UTC, to the millisecond.
pub(crate) fn time_of_day(at_us: u64) -> String {
    let (seconds, millis) = (at_us / 1_000_000, at_us / 1000 % 1000);
    let second = seconds % 86_400;
    format!("{:02}:{:02}:{:02}.{millis:03}", second / 3600, second / 60 % 60, second % 60)
}

struct Timestamp(u64);

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// The Gregorian date of a day since 1970. Years are counted from March on, so that the day of a leap year is the last one, and
/// in eras of 400 years, which are all of the same length.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn line(text: &[u8]) -> Line {
        Line {
            at_us: 1_709_210_096_000_789,
            level: Severity::Warn,
            origin: Origin::Worker(Stream::Errors),
            text: text.to_vec(),
            fields: vec![
                (Cow::Borrowed("worker"), Value::Text("web/0.1".to_owned())),
                (Cow::Borrowed("count"), Value::Count(3)),
            ],
        }
    }

    fn rendered(line: &Line, look: Look) -> String {
        let mut out = Vec::new();
        render(line, look, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_one_look_for_people_and_two_for_programs() {
        let line = line(b"too late");
        assert_eq!(rendered(&line, Look::Plain), "2024-02-29T12:34:56.000789Z  WARN too late worker=web/0.1 count=3\n");
        assert_eq!(
            rendered(&line, Look::Json),
            "{\"timestamp\":\"2024-02-29T12:34:56.000789Z\",\"level\":\"WARN\",\"message\":\"too late\",\
             \"stream\":\"stderr\",\"worker\":\"web/0.1\",\"count\":3}\n"
        );
        assert_eq!(
            rendered(&line, Look::Logfmt),
            "timestamp=2024-02-29T12:34:56.000789Z level=WARN message=\"too late\" stream=stderr worker=web/0.1 count=3\n"
        );
        assert!(rendered(&line, Look::Coloured).contains("\x1b[33m WARN\x1b[0m too late"));
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_and_kept() {
        let odd = line(b"a\xffb\x1b[31m\0\xc3\xa4");
        assert!(rendered(&odd, Look::Plain).contains(" a\\xffb\\x1b[31m\\x00\u{e4} worker="));
        let parsed: serde_json::Value = serde_json::from_str(&rendered(&odd, Look::Json)).unwrap();
        assert_eq!(parsed["message"], "a\u{fffd}b\u{1b}[31m\0\u{e4}");
        assert_eq!(parsed["message_base64"], "Yf9iG1szMW0Aw6Q=");
        assert!(rendered(&odd, Look::Logfmt).contains(" message_base64=\"Yf9iG1szMW0Aw6Q=\" "));
    }

    #[test]
    fn base64_pads_as_rfc_4648_says() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn days_become_dates_in_leap_years_and_others() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (789, (1972, 2, 29)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_453, (2025, 12, 31)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "day {days}");
        }
    }
}
