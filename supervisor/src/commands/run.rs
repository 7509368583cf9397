//! `ostler run`: hosts pools until it is told to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_config::checked::{Address, Handoff, Program};
use ostler_config::{Config, Flags, Programs};

use super::check::{DEFAULT_FILE, load};
use super::say;
use crate::cli::Run;
use crate::driver::{Driver, Setup, StartError};
use crate::exit::ExitCode;
use crate::inherited::Inherited;
use crate::logging::{LogError, Logging};
use crate::{report, shim};

pub(crate) fn run(options: Run) -> ExitCode {
    let inherited = match Inherited::take_over(options.ready_fd) {
        Ok(inherited) => inherited,
        Err(why) => return usage(&why.to_string()),
    };
    let origin = Origin::of(options);
    let config = match origin.first_config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let log = match Logging::start(&config.supervisor.log) {
        Ok(log) => log,
        Err(LogError::Io(error)) => return say::failed(&StartError::from(error).to_string()),
        Err(error @ LogError::Open(_)) => return say::failed(&error.to_string()),
    };
    let hint = try_it(&config, &origin);
    let shim = origin.shim.clone().ok();
    let reread = Arc::new(move || origin.config());
    let seed = fastrand::u64(..);
    let driver = match Driver::start(Setup { config, reread, inherited, seed, shim, log }) {
        Ok(driver) => driver,
        Err(error) => {
            // The log is closed by now, so that our last line is the last one.
            say::complain(&error.to_string());
            return match error {
                StartError::Limits(_) => ExitCode::Usage,
                StartError::Listen(_) | StartError::Place(_) | StartError::PidFile(_) | StartError::Io(_) => {
                    ExitCode::Failed
                }
            };
        }
    };
    if let Some(hint) = hint {
        tracing::info!("{hint}");
    }
    let (ended, driver) = driver.run();
    let (text, code) = report::ended(&ended, driver.epitaphs());
    let log = driver.close(&text, code);
    match code {
        ExitCode::Done => tracing::info!("{text}"),
        _ => tracing::error!("{text}"),
    }
    drop(log);
    code
}

/// Where the configuration comes from, now and at each reload.
struct Origin {
    file: Option<PathBuf>,
    flags: Flags,
    directory: PathBuf,
    /// The library for unmodified programs, or why there is none.
    shim: Result<PathBuf, String>,
}

impl Origin {
    fn of(options: Run) -> Origin {
        let flags = Flags {
            listen: options.listen,
            workers: options.workers,
            concurrency: options.concurrency,
            handoff: options.handoff,
            control: options.control,
            command: options.command,
        };
        let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        // A listener or a command makes a pool of its own; nothing of a file that happens to lie here is meant.
        let makes_a_pool = !flags.listen.is_empty() || !flags.command.is_empty();
        let lying_here = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| !makes_a_pool && file.exists());
        let file = options.config.or_else(lying_here).map(|file| directory.join(file));
        let shim = shim::find(options.shim.as_deref(), &directory);
        Origin { file, flags, directory, shim }
    }

    /// The configuration at the start; what is wrong with it is printed.
    fn first_config(&self) -> Result<Config, ExitCode> {
        let config = match &self.file {
            Some(file) => ostler_config::override_with(
                load(shorten(file, &self.directory), Programs::MayCome)?,
                &self.flags,
                &self.directory,
            ),
            None => ostler_config::from_flags(&self.flags, &self.directory),
        };
        let config = config.map_err(|error| usage(&error.to_string()))?;
        self.provides_for(&config).map_err(|why| say::failed(&why))?;
        Ok(config)
    }

    /// Whether there is what the pools need beside the configuration.
    fn provides_for(&self, config: &Config) -> Result<(), String> {
        match &self.shim {
            Err(why) if config.pools.iter().any(|pool| pool.handoff == Handoff::Accept) => Err(why.clone()),
            Err(_) | Ok(_) => Ok(()),
        }
    }

    /// The configuration as it is on disk now.
    fn config(&self) -> Result<Config, String> {
        let config = match &self.file {
            Some(file) => {
                let config = ostler_config::load(file, Programs::MayCome).map_err(|error| error.to_string())?;
                ostler_config::override_with(config, &self.flags, &self.directory)
            }
            None => ostler_config::from_flags(&self.flags, &self.directory),
        };
        let config = config.map_err(|error| error.to_string())?;
        self.provides_for(&config)?;
        Ok(config)
    }
}

/// As the user named it, for messages.
fn shorten<'a>(file: &'a Path, directory: &Path) -> &'a Path {
    file.strip_prefix(directory).unwrap_or(file)
}

fn usage(why: &str) -> ExitCode {
    say::complain(why);
    ExitCode::Usage
}

/// For who runs it to try it out: what to type next.
fn try_it(config: &Config, origin: &Origin) -> Option<String> {
    let pool = config.pools.iter().find(|pool| pool.program == Program::Hello)?;
    if origin.file.is_some() {
        return None;
    }
    let line = match pool.listen.first()? {
        Address::UnixPath { shown, .. } => format!("curl --unix-socket {shown} http://localhost/"),
        Address::UnixAbstract(name) => format!("curl --abstract-unix-socket {name} http://localhost/"),
        Address::Tcp(address) => format!("curl http://{address}/"),
        // Where its sockets listen is known to who made them.
        Address::Given(_) => return None,
    };
    Some(format!("try it: {line}"))
}
