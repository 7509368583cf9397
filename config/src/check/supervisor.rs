//! Checks `[supervisor]`.

use std::path::PathBuf;
use std::time::Duration;

use super::Site;
use crate::address::resolve_socket_path;
use crate::asked::Asked;
use crate::checked::{AccessTo, Log, LogFormat, LogLevel, OnPoolFailed, Supervisor};
use crate::mistakes::{Fault, Mistake};
use crate::raw::RawTable;
use crate::words::{LOG_FORMATS, LOG_LEVELS, ON_POOL_FAILED};

/// `[supervisor]`, with the places of what pools must agree with.
#[derive(Debug)]
pub(super) struct RawSupervisor {
    pub(super) control: Asked<PathBuf>,
    pub(super) stop_timeout: Asked<Duration>,
    pub(super) shutdown_delay: Asked<Duration>,
    on_pool_failed: OnPoolFailed,
    pid_file: Option<PathBuf>,
    log: Log,
}

impl RawSupervisor {
    pub(super) fn into_checked(self) -> Supervisor {
        Supervisor {
            control: self.control.value(),
            pid_file: self.pid_file,
            stop_timeout: self.stop_timeout.value().unwrap_or(STOP_TIMEOUT),
            shutdown_delay: self.shutdown_delay.value().unwrap_or(SHUTDOWN_DELAY),
            on_pool_failed: self.on_pool_failed,
            log: self.log,
        }
    }
}

pub(super) fn supervisor(table: &RawTable<'_>, site: &Site<'_>, mistakes: &mut Vec<Mistake>) -> RawSupervisor {
    let control = table.text("control", mistakes).understand(mistakes, |typed| control_path(typed, site));
    let stop_timeout = table.duration("stop_timeout", Duration::from_millis(1), mistakes);
    let shutdown_delay = table.duration("shutdown_delay", Duration::ZERO, mistakes);
    let on_pool_failed = table.word("on_pool_failed", ON_POOL_FAILED, mistakes).value().unwrap_or(OnPoolFailed::Keep);
    let pid_file = table.text("pid_file", mistakes).understand(mistakes, |typed| file_path(typed, site)).value();
    let log = log(&table.table("log", mistakes), site, mistakes);
    RawSupervisor { control, stop_timeout, shutdown_delay, on_pool_failed, pid_file, log }
}

fn log(table: &RawTable<'_>, site: &Site<'_>, mistakes: &mut Vec<Mistake>) -> Log {
    let level = table.word("level", LOG_LEVELS, mistakes).value().unwrap_or(LogLevel::Info);
    let format = table.word("format", LOG_FORMATS, mistakes).value().unwrap_or(LogFormat::Auto);
    let file = table.text("file", mistakes).understand(mistakes, |typed| file_path(typed, site)).value();
    let access = table.text("access", mistakes).understand(mistakes, |typed| match typed {
        "-" => Ok(AccessTo::Output),
        typed => file_path(typed, site).map(AccessTo::File),
    });
    let access = access.value();
    if let (Some(log), Some(AccessTo::File(access))) = (&file, &access)
        && log == access
    {
        // Two threads write them, each a part of a line at a time where a disk is nearly full.
        let fault =
            Fault::new("the access log cannot be the file of the log", "the same file as `file`", "write another path");
        mistakes.extend(table.refuse("access", fault));
    }
    Log { level, format, file, access }
}

/// The supervisor of flags without a file.
pub(crate) fn default_supervisor() -> Supervisor {
    Supervisor {
        control: None,
        pid_file: None,
        stop_timeout: STOP_TIMEOUT,
        shutdown_delay: SHUTDOWN_DELAY,
        on_pool_failed: OnPoolFailed::Keep,
        log: Log { level: LogLevel::Info, format: LogFormat::Auto, file: None, access: None },
    }
}

fn control_path(typed: &str, site: &Site<'_>) -> Result<PathBuf, Fault> {
    if let Some(path) = typed.strip_prefix("unix:") {
        let remedy = format!("write the path alone: {path:?}");
        return Err(Fault::new(format!("{typed:?} is an address, but takes a path"), "expected a path", remedy));
    }
    resolve_socket_path(typed, site.dir)
}

/// A file that the supervisor is to write. Whether it can is seen when it does.
fn file_path(typed: &str, site: &Site<'_>) -> Result<PathBuf, Fault> {
    if typed.is_empty() {
        return Err(Fault::new("there is no path", "expected a path", "write the path of a file"));
    }
    if typed.contains('\0') {
        return Err(Fault::new("a path cannot contain NUL", "contains NUL", "remove the \\u0000"));
    }
    let full: PathBuf = site.dir.join(typed).components().collect();
    if typed.ends_with('/') || typed.ends_with("/.") || full.file_name().is_none() || full.is_dir() {
        let remedy = "add the name of the file";
        return Err(Fault::new(format!("{typed:?} names a directory"), "a directory", remedy));
    }
    Ok(full)
}

pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const SHUTDOWN_DELAY: Duration = Duration::ZERO;
