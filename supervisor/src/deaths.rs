//! Keeps a record of each death, so that somebody who comes later can still ask what happened.
//!
//! Bounded: beyond [`DEATHS_MAX`] the oldest one goes that went as it was asked to, and only when there is none, the oldest
//! of all. A reload of many workers must not wash away the crash that somebody is looking for.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use ostler_pool::{Cause, Exit, Step};
use ostler_shared::scoreboard::{self, content};
use ostler_shared::{WorkerId, WorkerName};

use crate::driver::{Core, OutOfMemory, Usage, unix_ms};

mod programs;
mod shown;

use programs::FAILURES_MAX;
pub(crate) use programs::ProgramsEnded;
pub(crate) use shown::{json, of_slot, signal_name, text};

/// How many deaths are kept.
pub(crate) const DEATHS_MAX: usize = 256;

/// What is known of a worker's end.
#[derive(Debug, Clone)]
pub(crate) struct Death {
    pub(crate) at: SystemTime,
    pub(crate) worker: WorkerName,
    pub(crate) id: WorkerId,
    pub(crate) pid: i32,
    pub(crate) exit: Exit,
    pub(crate) core: Core,
    pub(crate) out_of_memory: OutOfMemory,
    /// Why it was to leave, if it was.
    pub(crate) cause: Option<Cause>,
    /// The last signal that it was sent by us.
    pub(crate) sent: Option<Step>,
    pub(crate) age: Duration,
    /// Connections that it had served.
    pub(crate) done: u64,
    /// Connections that it had claimed and not completed.
    pub(crate) lost: u64,
    /// Connections that were still in its mailbox.
    pub(crate) redelivered: u64,
    /// How long before its end one of its serving threads was last heard of.
    pub(crate) heartbeat_ago: Option<Duration>,
    pub(crate) usage: Usage,
    pub(crate) last_words: Vec<String>,
    /// What it was doing before it was aborted, as /proc had it.
    pub(crate) portrait: Vec<String>,
}

impl Death {
    /// It went because we wanted it to, as we wanted it to, and took nothing along.
    pub(crate) fn is_routine(&self) -> bool {
        let by_our_term = self.cause.is_some_and(Cause::is_ours) && self.exit == Exit::Signal(Signal::SIGTERM as i32);
        self.lost == 0 && self.cause.is_some() && (self.exit == Exit::Code(0) || by_our_term)
    }
}

/// The last deaths, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Deaths {
    kept: VecDeque<Death>,
    forgotten: u64,
    /// Of connections whose programs did not end well, oldest first.
    programs: VecDeque<ProgramsEnded>,
    programs_forgotten: u64,
}

impl Deaths {
    pub(crate) fn record(&mut self, death: Death) {
        self.kept.push_back(death);
        if self.kept.len() > DEATHS_MAX {
            let least = self.kept.iter().position(Death::is_routine).unwrap_or(0);
            self.kept.remove(least);
            self.forgotten += 1;
        }
    }

    /// Keeps how the programs of a connection ended, if that is worth a word.
    pub(crate) fn record_programs(&mut self, ended: ProgramsEnded) {
        if ended.is_well() {
            return;
        }
        self.programs.push_back(ended);
        if self.programs.len() > FAILURES_MAX {
            self.programs.pop_front();
            self.programs_forgotten += 1;
        }
    }

    pub(crate) fn programs(&self) -> impl Iterator<Item = &ProgramsEnded> {
        self.programs.iter()
    }

    pub(crate) fn programs_forgotten(&self) -> u64 {
        self.programs_forgotten
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Death> {
        self.kept.iter()
    }

    /// How many there were.
    pub(crate) fn total(&self) -> u64 {
        self.forgotten + self.kept.len() as u64
    }

    /// The last ones, in short, for the scoreboard.
    pub(crate) fn last_ones(&self) -> Vec<content::Death> {
        let before = self.kept.len().saturating_sub(scoreboard::DEATHS_MAX);
        self.kept.iter().skip(before).map(in_short).collect()
    }

    /// How many there were beside those that are kept.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

fn in_short(death: &Death) -> content::Death {
    let (code, signal) = match death.exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    content::Death {
        at_unix_ms: unix_ms(death.at),
        worker: death.worker.to_string(),
        id: death.id.0,
        pid: death.pid,
        code,
        signal,
        cause: death.cause.map(|cause| cause.as_str().into()),
        lost: death.lost,
        age_ns: u64::try_from(death.age.as_nanos()).unwrap_or(u64::MAX),
        last_word: death.last_words.last().cloned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn death(number: u64, exit: Exit, cause: Option<Cause>) -> Death {
        Death {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500),
            worker: WorkerName {
                pool: "web".parse().unwrap(),
                slot: ostler_shared::SlotNo(0),
                generation: ostler_shared::Generation(1),
            },
            id: WorkerId(number),
            pid: 4711,
            exit,
            core: Core::None,
            out_of_memory: OutOfMemory::No,
            cause,
            sent: None,
            age: Duration::from_millis(90_250),
            done: 3,
            lost: 0,
            redelivered: 0,
            heartbeat_ago: None,
            usage: Usage::default(),
            last_words: Vec::new(),
            portrait: Vec::new(),
        }
    }

    fn kept(deaths: &Deaths) -> Vec<u64> {
        deaths.iter().map(|death| death.id.0).collect()
    }

    #[test]
    fn beyond_the_limit_those_go_first_that_went_as_they_were_asked_to() {
        let mut deaths = Deaths::default();
        let crash = Exit::Signal(Signal::SIGSEGV as i32);
        deaths.record(death(1, crash, None));
        for number in 2..=DEATHS_MAX as u64 + 10 {
            deaths.record(death(number, Exit::Code(0), Some(Cause::Replaced)));
        }
        assert_eq!((kept(&deaths).len(), deaths.forgotten()), (DEATHS_MAX, 10));
        assert_eq!(kept(&deaths)[..2], [1, 12]);
        for number in 1000..1000 + DEATHS_MAX as u64 {
            deaths.record(death(number, crash, None));
        }
        assert_eq!(kept(&deaths), (1000..1000 + DEATHS_MAX as u64).collect::<Vec<_>>());
        assert_eq!(deaths.total(), 2 * DEATHS_MAX as u64 + 10);
        let last: Vec<u64> = deaths.last_ones().iter().map(|death| death.id).collect();
        assert_eq!((last.len(), last.last()), (scoreboard::DEATHS_MAX, Some(&(999 + DEATHS_MAX as u64))));
    }

    #[test]
    fn programs_that_fail_again_and_again_forget_themselves_and_no_worker() {
        let mut deaths = Deaths::default();
        deaths.record(death(1, Exit::Code(1), None));
        let worker = death(1, Exit::Code(1), None).worker;
        let pipeline = ostler_config::checked::Program::Pipeline(vec![vec!["app".into()]]);
        for (conn, code) in (0..FAILURES_MAX as u64 + 3).map(|conn| (conn, 1)).chain([(1000, 0)]) {
            let end = ostler_shared::wire::ProgramEnd { pid: 2, end: ostler_shared::wire::End::Code(code) };
            let programs = ostler_shared::wire::Programs { conn, ends: vec![end] };
            deaths.record_programs(ProgramsEnded::of(&worker, &pipeline, &programs));
        }
        let conns: Vec<u64> = deaths.programs().map(|ended| ended.conn.0).collect();
        assert_eq!(conns, (3..FAILURES_MAX as u64 + 3).collect::<Vec<_>>());
        assert_eq!((deaths.programs_forgotten(), kept(&deaths)), (3, vec![1]));
    }

    #[test]
    fn routine_is_what_was_asked_for_went_well_and_cost_nothing() {
        let (term, kill) = (Exit::Signal(Signal::SIGTERM as i32), Exit::Signal(Signal::SIGKILL as i32));
        assert!(death(1, Exit::Code(0), Some(Cause::Leaves)).is_routine());
        assert!(death(1, term, Some(Cause::ScaledDown)).is_routine());
        assert!(!death(1, term, Some(Cause::Leaves)).is_routine());
        assert!(!death(1, kill, Some(Cause::Replaced)).is_routine());
        assert!(!death(1, Exit::Code(0), None).is_routine());
        let with_losses = Death { lost: 1, ..death(1, Exit::Code(0), Some(Cause::Replaced)) };
        assert!(!with_losses.is_routine());
    }
}
