//! Writes Prometheus' text exposition format, version 0.0.4: families, each with its help, its type and its samples.
//!
//! Families without samples are left out: what is not measured is absent, never 0.

use std::fmt::{Display, Write};

use ostler_shared::scoreboard::Histogram;
use ostler_shared::scoreboard::histogram::BOUNDS_US;

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// What kind of a number a family is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A family that samples are added to.
#[derive(Debug)]
pub(super) struct Family<'a> {
    out: &'a mut Exposition,
    name: &'static str,
    help: &'static str,
    kind: Kind,
    is_begun: bool,
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Exposition {
    /// Begins a family; the next one begins when it is over.
    pub(super) fn family(&mut self, kind: Kind, name: &'static str, help: &'static str) -> Family<'_> {
        Family { out: self, name, help, kind, is_begun: false }
    }

    /// All of it.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// One number.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.begin();
        self.line("", labels, None, value);
    }

    /// One number, if it is known.
    pub(super) fn known(&mut self, labels: Labels<'_>, value: Option<impl Display>) {
        if let Some(value) = value {
            self.sample(labels, value);
        }
    }

    /// All that a histogram has to say; durations become seconds.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        self.begin();
        let bounds = BOUNDS_US.iter().map(|us| seconds(us.saturating_mul(1000)).to_string());
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(histogram.cumulative()) {
            self.line("_bucket", labels, Some(("le", &bound)), count);
        }
        self.line("_sum", labels, None, seconds(histogram.sum_us.saturating_mul(1000)));
        self.line("_count", labels, None, histogram.count());
    }

    fn begin(&mut self) {
        if !self.is_begun {
            self.is_begun = true;
            let kind = match self.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let (name, help) = (self.name, self.help);
            self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, last: Option<(&str, &str)>, value: impl Display) {
        let name = self.name;
        self.push(format_args!("{name}{suffix}"));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(last) {
            self.push(format_args!("{separator}{name}=\"{}\"", escaped(value)));
            separator = ',';
        }
        self.push(format_args!("{} {value}\n", if separator == ',' { "}" } else { "" }));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.text.write_fmt(text).expect("a text takes what is written to it");
    }
}

/// Nanoseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "whoever reads it has 53 bits as well")]
pub(super) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_announced_once_and_only_with_samples() {
        let mut out = Exposition::default();
        out.family(Kind::Gauge, "nothing", "Is not there.").known(&[], None::<u64>);
        let mut family = out.family(Kind::Counter, "some_total", "Are there.");
        family.sample(&[], 1);
        family.sample(&[("a", "x\"y\\z\n"), ("b", "")], 2.5);
        let expected = "# HELP some_total Are there.\n# TYPE some_total counter\nsome_total 1\n\
                        some_total{a=\"x\\\"y\\\\z\\n\",b=\"\"} 2.5\n";
        assert_eq!(out.into_text(), expected);
    }

    #[test]
    fn seconds_are_written_without_exponents() {
        assert_eq!([100_000, 1_000_000_000, 60_000_000_000].map(|ns| seconds(ns).to_string()), ["0.0001", "1", "60"]);
    }
}
