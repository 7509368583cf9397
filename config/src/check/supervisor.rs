//! Checks `[supervisor]`.

use std::path::PathBuf;
use std::time::Duration;

use super::Site;
use crate::address::resolve_socket_path;
use crate::asked::Asked;
use crate::checked::{Log, LogFormat, LogLevel, OnPoolFailed, Supervisor};
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
    log: Log,
}

impl RawSupervisor {
    pub(super) fn into_checked(self) -> Supervisor {
        Supervisor {
            control: self.control.value(),
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
    let log = table.table("log", mistakes);
    let level = log.word("level", LOG_LEVELS, mistakes).value().unwrap_or(LogLevel::Info);
    let format = log.word("format", LOG_FORMATS, mistakes).value().unwrap_or(LogFormat::Auto);
    RawSupervisor { control, stop_timeout, shutdown_delay, on_pool_failed, log: Log { level, format } }
}

/// The supervisor of flags without a file.
pub(crate) fn default_supervisor() -> Supervisor {
    Supervisor {
        control: None,
        stop_timeout: STOP_TIMEOUT,
        shutdown_delay: SHUTDOWN_DELAY,
        on_pool_failed: OnPoolFailed::Keep,
        log: Log { level: LogLevel::Info, format: LogFormat::Auto },
    }
}

fn control_path(typed: &str, site: &Site<'_>) -> Result<PathBuf, Fault> {
    if let Some(path) = typed.strip_prefix("unix:") {
        let remedy = format!("write the path alone: {path:?}");
        return Err(Fault::new(format!("{typed:?} is an address, but takes a path"), "expected a path", remedy));
    }
    resolve_socket_path(typed, site.dir)
}

pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const SHUTDOWN_DELAY: Duration = Duration::ZERO;
