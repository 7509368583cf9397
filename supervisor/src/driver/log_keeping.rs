//! Sees to the log: takes in what its threads report, opens files anew, changes over to what a reload asks for.

use std::collections::VecDeque;
use std::time::Duration;

use ostler_pool::Moment;

use super::Driver;
use crate::exit::ExitCode;
use crate::logging::Told;
use crate::report;

/// How long opening files anew may take before who asked for it is told that it does not end.
const REOPENED_WITHIN: Duration = Duration::from_secs(5);

/// Files that are being opened anew.
#[derive(Debug)]
pub(super) struct Reopening {
    number: u64,
    /// Reports that are still to come.
    files: u32,
    /// Who asked, if it was a client.
    client: Option<u64>,
    opened: u32,
    failures: Vec<String>,
    deadline: Moment,
}

impl Driver {
    /// Opens the files of the log anew, for a client or for a signal.
    pub(super) fn reopen_logs(&mut self, client: Option<u64>) {
        match self.log.reopen() {
            Ok(order) if order.files == 0 => {
                let text = report::log::no_files(&self.log.place());
                tracing::info!("{text}");
                self.answer_reopening(client, &text, ExitCode::Done);
            }
            Ok(order) => {
                let deadline = self.now() + REOPENED_WITHIN;
                let (number, files) = (order.number, order.files);
                self.reopenings.push_back(Reopening {
                    number,
                    files,
                    client,
                    opened: 0,
                    failures: Vec::new(),
                    deadline,
                });
            }
            Err(stuck) => {
                tracing::error!("log files not opened anew: {stuck}");
                self.answer_reopening(client, &format!("not opened anew: {stuck}"), ExitCode::Failed);
            }
        }
    }

    fn answer_reopening(&mut self, client: Option<u64>, text: &str, exit: ExitCode) {
        if let Some(client) = client {
            self.done(client, text, exit);
        }
    }

    /// Takes in what the threads that write report.
    pub(super) fn take_log_reports(&mut self) {
        for told in self.log.take() {
            match told {
                Told::Reopened { number, result } => {
                    if let Some(reopening) = self.reopenings.iter_mut().find(|asked| asked.number == number) {
                        reopening.files -= 1;
                        match result {
                            Ok(()) => reopening.opened += 1,
                            Err(error) => reopening.failures.push(error.to_string()),
                        }
                    }
                }
                Told::Failed(which, error) => report::log::failed(which, &error),
                Told::Recovered { which, lost } => report::log::recovered(which, lost),
                Told::Dropped { which, lines } => report::log::dropped(which, lines),
            }
        }
        self.end_reopenings();
    }

    /// Answers those whose files are all opened, or take too long.
    pub(super) fn end_reopenings(&mut self) {
        let now = self.now();
        let (ended, open): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.reopenings)
            .into_iter()
            .partition(|reopening| reopening.files == 0 || reopening.deadline <= now);
        self.reopenings = open;
        for Reopening { files, client, opened, failures, .. } in ended {
            let (text, exit) = report::log::reopened(opened, &failures, files);
            match exit {
                ExitCode::Done => tracing::info!("{text}"),
                _ => tracing::error!("{text}"),
            }
            self.answer_reopening(client, &text, exit);
        }
    }

    pub(super) fn reopening_deadline(&self) -> Option<Moment> {
        self.reopenings.iter().map(|reopening| reopening.deadline).min()
    }

    /// A reload is complete: what it opened for the log is in force.
    pub(super) fn adopt_log(&mut self) {
        let Some(aside) = self.log_aside.take() else { return };
        if let Err(error) = self.log.adopt(aside) {
            tracing::error!(
                "cannot change the log: {error}; what is not changed goes on as before until ostler is restarted"
            );
        }
    }
}
