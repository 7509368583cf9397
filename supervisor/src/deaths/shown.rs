//! Shows the last deaths: as JSON for programs, as a table for people.

use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use ostler_config::format_duration;
use ostler_pool::{Cause, Exit, Step};
use ostler_shared::wire::End;
use serde::{Deserialize, Serialize};

use super::{Death, Deaths, ProgramsEnded};
use crate::driver::{Core, OutOfMemory};

/// `ostler deaths --json`; what is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct DeathsShown {
    deaths: Vec<DeathShown>,
    forgotten: u64,
    programs: Vec<ProgramsShown>,
    programs_forgotten: u64,
}

/// A connection whose programs did not end well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ProgramsShown {
    at_unix_s: f64,
    worker: String,
    conn: String,
    ends: Vec<EndShown>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct EndShown {
    name: Option<String>,
    pid: Option<u32>,
    code: Option<i32>,
    signal: Option<i32>,
    signal_name: Option<String>,
    errno: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct DeathShown {
    at_unix_s: f64,
    worker: String,
    id: u64,
    pid: i32,
    code: Option<i32>,
    signal: Option<i32>,
    signal_name: Option<String>,
    core_dumped: bool,
    oom_killed: Option<bool>,
    asked: bool,
    cause: Option<String>,
    sent: Option<String>,
    routine: bool,
    age_s: f64,
    done: u64,
    lost: u64,
    redelivered: u64,
    heartbeat_ago_s: Option<f64>,
    usage: UsageShown,
    last_words: Vec<String>,
    doing: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct UsageShown {
    user_s: f64,
    system_s: f64,
    rss_max_bytes: u64,
    minor_faults: u64,
    major_faults: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

/// The deaths as JSON, oldest first.
pub(crate) fn json(deaths: &Deaths) -> String {
    let shown = DeathsShown {
        deaths: deaths.iter().map(show).collect(),
        forgotten: deaths.forgotten(),
        programs: deaths.programs().map(show_programs).collect(),
        programs_forgotten: deaths.programs_forgotten(),
    };
    serde_json::to_string(&shown).expect("numbers and strings are JSON")
}

fn show(death: &Death) -> DeathShown {
    let (code, signal) = match death.exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    DeathShown {
        at_unix_s: seconds(death.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        worker: death.worker.to_string(),
        id: death.id.0,
        pid: death.pid,
        code,
        signal,
        signal_name: signal.map(signal_name),
        core_dumped: match death.core {
            Core::Dumped => true,
            Core::None => false,
        },
        oom_killed: match death.out_of_memory {
            OutOfMemory::Yes => Some(true),
            OutOfMemory::No => Some(false),
            OutOfMemory::Unknown => None,
        },
        asked: death.cause.is_some_and(Cause::is_ours),
        cause: death.cause.map(|cause| cause.as_str().to_owned()),
        sent: death.sent.map(|step| sent_name(step).to_owned()),
        routine: death.is_routine(),
        age_s: seconds(death.age),
        done: death.done,
        lost: death.lost,
        redelivered: death.redelivered,
        heartbeat_ago_s: death.heartbeat_ago.map(seconds),
        usage: usage(death),
        last_words: death.last_words.clone(),
        doing: death.portrait.clone(),
    }
}

fn show_programs(ended: &ProgramsEnded) -> ProgramsShown {
    let ends = ended.ends.iter().map(|one| {
        let (code, signal, errno) = match one.end {
            End::Code(code) => (Some(code), None, None),
            End::Signal(signal) => (None, Some(signal), None),
            End::NotStarted(errno) => (None, None, Some(errno)),
        };
        let pid = Some(one.pid).filter(|pid| *pid != 0);
        EndShown { name: one.name.clone(), pid, code, signal, signal_name: signal.map(signal_name), errno }
    });
    ProgramsShown {
        at_unix_s: seconds(ended.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
        worker: ended.worker.to_string(),
        conn: ended.conn.to_string(),
        ends: ends.collect(),
    }
}

fn usage(death: &Death) -> UsageShown {
    let usage = death.usage;
    UsageShown {
        user_s: seconds(usage.user),
        system_s: seconds(usage.system),
        rss_max_bytes: usage.rss_max_bytes,
        minor_faults: usage.minor_faults,
        major_faults: usage.major_faults,
        voluntary_switches: usage.voluntary_switches,
        involuntary_switches: usage.involuntary_switches,
    }
}

/// `SIGSEGV`; the real-time ones have numbers only.
pub(crate) fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

fn sent_name(step: Step) -> &'static str {
    match step {
        Step::Term => "SIGTERM",
        Step::Abort => "SIGABRT",
        Step::Kill => "SIGKILL",
    }
}

fn seconds(length: Duration) -> f64 {
    (length.as_secs_f64() * 1e3).round() / 1e3
}

// ── for people ─────────────────────────────────────────────────────────────────────────────────────────────

/// The deaths as text of at most 80 columns, their last words aside; the latest one last.
///
/// # Errors
/// When `json` is not an answer of this release.
pub(crate) fn text(json: &str, now: SystemTime) -> Result<String, serde_json::Error> {
    let shown: DeathsShown = serde_json::from_str(json)?;
    if shown.deaths.is_empty() && shown.programs.is_empty() {
        return Ok("no worker has died since this supervisor started\n".to_owned());
    }
    Ok(lines(&shown, now).join("\n") + "\n")
}

/// The same of one slot, without what is not kept; nothing when nobody has died there.
///
/// # Errors
/// When `json` is not an answer of this release.
pub(crate) fn of_slot(json: &str, pool: &str, slot: u32, now: SystemTime) -> Result<Vec<String>, serde_json::Error> {
    let mut shown: DeathsShown = serde_json::from_str(json)?;
    // A name is `pool/slot.generation`.
    let prefix = format!("{pool}/{slot}.");
    shown.deaths.retain(|death| death.worker.starts_with(&prefix));
    shown.programs.retain(|ended| ended.worker.starts_with(&prefix));
    (shown.forgotten, shown.programs_forgotten) = (0, 0);
    Ok(lines(&shown, now))
}

fn lines(shown: &DeathsShown, now: SystemTime) -> Vec<String> {
    let now_s = seconds(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let mut lines = Vec::new();
    if !shown.deaths.is_empty() {
        lines.push(format!(
            "{:<10} {:<12} {:>7} {:<8} {:>7} {:>6} {:>7} {:>4} {}",
            "when", "worker", "pid", "ended", "age", "cpu", "rss max", "lost", "why"
        ));
    }
    for death in &shown.deaths {
        lines.push(row(death, now_s));
        lines.extend(details(death).into_iter().map(|line| format!("  {line}")));
    }
    if shown.forgotten > 0 {
        lines.push(format!("{} more are not kept", shown.forgotten));
    }
    lines.extend(of_programs(shown, now_s));
    lines
}

/// Connections whose programs did not end well.
fn of_programs(shown: &DeathsShown, now_s: f64) -> Vec<String> {
    let title = format!("{:<10} {:<12} {:<8} {}", "when", "worker", "conn", "its programs");
    let mut lines: Vec<String> = (!shown.programs.is_empty()).then_some(title).into_iter().collect();
    lines.extend(shown.programs.iter().map(|ended| {
        let ends = ended.ends.iter().enumerate().map(|(place, one)| {
            let name = one.name.clone().unwrap_or_else(|| format!("program {}", place + 1));
            match (one.code, &one.signal_name) {
                (Some(code), _) => format!("{name} exit {code}"),
                (None, Some(signal)) => format!("{name} {signal}"),
                (None, None) => format!("{name} not started"),
            }
        });
        let ends = ends.collect::<Vec<_>>().join(", ");
        let ago = format!("{} ago", brief(now_s - ended.at_unix_s));
        format!("{ago:<10} {:<12} {:<8} {ends}", ended.worker, ended.conn)
    }));
    if shown.programs_forgotten > 0 {
        lines.push(format!("{} more are not kept", shown.programs_forgotten));
    }
    lines
}

fn row(death: &DeathShown, now_s: f64) -> String {
    let ended = match (death.code, &death.signal_name) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(name)) => name.clone(),
        (None, None) => "-".to_owned(),
    };
    format!(
        "{:<10} {:<12} {:>7} {:<8} {:>7} {:>6} {:>7} {:>4} {}",
        format!("{} ago", brief(now_s - death.at_unix_s)),
        death.worker,
        death.pid,
        ended,
        brief(death.age_s),
        brief(death.usage.user_s + death.usage.system_s),
        format!("{:.1}M", death.usage.rss_max_bytes as f64 / 1024.0 / 1024.0),
        death.lost,
        death.cause.as_deref().unwrap_or("-"),
    )
}

/// What a row has no column for, where there is something to say.
fn details(death: &DeathShown) -> Vec<String> {
    let mut lines = Vec::new();
    if death.oom_killed == Some(true) {
        lines.push("killed by the kernel: out of memory".to_owned());
    }
    if death.core_dumped {
        lines.push("dumped core".to_owned());
    }
    if let (false, Some(sent)) = (death.routine, &death.sent) {
        lines.push(format!("ostler had sent it {sent}"));
    }
    if death.redelivered > 0 {
        lines.push(format!("{} connections that it had not claimed were handed to others", death.redelivered));
    }
    if !death.routine {
        lines.extend(death.last_words.iter().map(|line| format!("| {line}")));
    }
    lines
}

/// A length of time in at most six columns.
fn brief(length_s: f64) -> String {
    let length_s = length_s.max(0.0);
    let whole = length_s as u64;
    match whole {
        0..10 => format!("{length_s:.1}s"),
        10..600 => format_duration(Duration::from_secs(whole)),
        600..86_400 => format_duration(Duration::from_secs(whole / 60 * 60)),
        86_400.. => format_duration(Duration::from_secs(whole / 3600 * 3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deaths::tests::death;

    fn of(all: Vec<Death>) -> Deaths {
        let mut deaths = Deaths::default();
        all.into_iter().for_each(|death| deaths.record(death));
        deaths
    }

    fn later() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_012)
    }

    #[test]
    fn people_see_a_row_for_each_and_what_was_strange_about_it() {
        let crash = Death {
            core: Core::Dumped,
            out_of_memory: OutOfMemory::Yes,
            sent: Some(Step::Abort),
            lost: 1,
            redelivered: 2,
            last_words: vec!["so long".to_owned()],
            ..death(1, Exit::Signal(9), None)
        };
        let routine = Death { last_words: vec!["bye".to_owned()], ..death(2, Exit::Code(0), Some(Cause::Replaced)) };
        let shown = text(&json(&of(vec![crash, routine])), later()).unwrap();
        let wanted = "\
when       worker           pid ended        age    cpu rss max lost why
11s ago    web/0.1         4711 SIGKILL    1m30s   0.0s    0.0M    1 -
  killed by the kernel: out of memory
  dumped core
  ostler had sent it SIGABRT
  2 connections that it had not claimed were handed to others
  | so long
11s ago    web/0.1         4711 exit 0     1m30s   0.0s    0.0M    0 replaced
";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn when_nobody_has_died_it_says_so() {
        assert_eq!(
            text(&json(&Deaths::default()), later()).unwrap(),
            "no worker has died since this supervisor started\n"
        );
    }

    #[test]
    fn what_is_not_known_is_null_and_a_signal_has_its_name() {
        let unknown = Death { out_of_memory: OutOfMemory::Unknown, ..death(1, Exit::Signal(11), None) };
        let shown: serde_json::Value = serde_json::from_str(&json(&of(vec![unknown]))).unwrap();
        let one = &shown["deaths"][0];
        assert_eq!(one["signal_name"], "SIGSEGV");
        assert_eq!(one["at_unix_s"], 1_700_000_000.5);
        for key in ["code", "oom_killed", "cause", "sent", "heartbeat_ago_s"] {
            assert!(one[key].is_null(), "{key}: {one}");
        }
        assert_eq!((one["asked"].as_bool(), one["routine"].as_bool()), (Some(false), Some(false)));
    }

    #[test]
    fn no_length_of_time_takes_more_than_its_column() {
        for length_s in [-3.0, 0.04, 9.99, 10.0, 599.0, 3_599.0, 86_399.0, 86_400.0, 8_640_000.0] {
            assert!(brief(length_s).len() <= 7, "{}", brief(length_s));
        }
    }
}
