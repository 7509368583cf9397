//! Says on the command line of a `stdio` worker what it has to do, so that `ps` shows it as well.
//!
//! ```text
//! ostler stdio-worker --drain-signal 15 --drain-timeout-ms 30000 --kill-after-ms 5000 -- 3 sed -u s/a/b/ 1 ./app
//! ```
//! Each command stands behind the number of its words.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

/// The hidden subcommand that makes this binary the worker of a `stdio` pool.
pub(crate) const STDIO_COMMAND: &str = "stdio-worker";

/// What a worker has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Orders {
    /// What asks processes to leave.
    pub(crate) drain_signal: i32,
    /// How long they may go on when the supervisor is gone.
    pub(crate) drain_timeout: Duration,
    /// How long after the last stage of a pipeline the others may live.
    pub(crate) kill_after: Duration,
    /// The commands; none is empty, and there is one at least.
    pub(crate) stages: Vec<Vec<OsString>>,
}

/// The same as arguments.
#[derive(Debug, Args)]
pub(crate) struct Written {
    #[arg(long, default_value_t = 15)]
    drain_signal: i32,
    #[arg(long, default_value_t = 30_000)]
    drain_timeout_ms: u64,
    #[arg(long, default_value_t = 5_000)]
    kill_after_ms: u64,
    #[arg(last = true)]
    stages: Vec<OsString>,
}

impl Orders {
    pub(crate) fn is_pipeline(&self) -> bool {
        self.stages.len() > 1
    }

    /// The arguments behind the name of the program.
    pub(crate) fn written(&self) -> Vec<OsString> {
        let options = [
            ("--drain-signal", self.drain_signal.to_string()),
            ("--drain-timeout-ms", self.drain_timeout.as_millis().to_string()),
            ("--kill-after-ms", self.kill_after.as_millis().to_string()),
        ];
        let mut words: Vec<OsString> = vec![STDIO_COMMAND.into()];
        words.extend(options.into_iter().flat_map(|(name, value)| [OsString::from(name), OsString::from(value)]));
        words.push("--".into());
        for stage in &self.stages {
            words.push(stage.len().to_string().into());
            words.extend(stage.iter().cloned());
        }
        words
    }
}

impl Written {
    /// What was written.
    ///
    /// # Errors
    /// When no supervisor of this release wrote it.
    pub(crate) fn read(self) -> Result<Orders, String> {
        const BY_HAND: &str = "this is started by ostler: write handoff = \"stdio\" and a command into a pool";
        let mut stages = Vec::new();
        let mut words = self.stages.into_iter();
        while let Some(count) = words.next() {
            let count = count.to_str().and_then(|count| count.parse::<usize>().ok()).filter(|count| *count > 0);
            let stage: Vec<OsString> = words.by_ref().take(count.ok_or(BY_HAND)?).collect();
            if Some(stage.len()) != count {
                return Err(BY_HAND.to_owned());
            }
            stages.push(stage);
        }
        if stages.is_empty() {
            return Err(BY_HAND.to_owned());
        }
        Ok(Orders {
            drain_signal: self.drain_signal,
            drain_timeout: Duration::from_millis(self.drain_timeout_ms),
            kill_after: Duration::from_millis(self.kill_after_ms),
            stages,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        written: Written,
    }

    fn read(words: &[OsString]) -> Result<Orders, String> {
        Line::try_parse_from(words).map_err(|error| error.to_string())?.written.read()
    }

    #[test]
    fn orders_are_read_as_they_were_written() {
        let stages = [&["sed", "-u", "--", "s/1/2/"][..], &["3"], &["./app", "", "--kill-after-ms"]];
        let orders = Orders {
            drain_signal: 2,
            drain_timeout: Duration::from_millis(1500),
            kill_after: Duration::ZERO,
            stages: stages.iter().map(|words| words.iter().map(OsString::from).collect()).collect(),
        };
        assert_eq!(read(&orders.written()), Ok(orders));
    }

    #[test]
    fn what_somebody_typed_by_hand_is_refused() {
        for words in [&[][..], &["sed"], &["0"], &["2", "sed"], &["1", "sed", "x"]] {
            let line: Vec<OsString> = ["x", "--"].iter().chain(words).map(OsString::from).collect();
            assert!(read(&line).unwrap_err().contains("started by ostler"), "{words:?}");
        }
    }
}
