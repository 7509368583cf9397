//! ostler: accepts connections and hands each one to the least loaded worker process.

mod admin;
mod cli;
mod commands;
mod control;
mod deaths;
mod driver;
mod exit;
mod hello;
mod inherited;
mod logging;
mod presence;
mod report;
mod shim;
mod status;
mod stdio;
mod top;

use clap::Parser;

use cli::{Cli, Command};
use commands::ask::{Show, ask};
use control::protocol::{Follow, Pace, Request, Wait, Which};

fn main() -> std::process::ExitCode {
    let code = match Cli::parse().command {
        Command::Run(options) => commands::run::run(options),
        Command::Check(options) => commands::check::check(options),
        Command::Init => commands::init::init(),
        Command::Status { json, place } => commands::status::status(place, if json { Show::Json } else { Show::Text }),
        Command::Top { place } => commands::top::top(place),
        Command::Deaths { json, place } => commands::ask::deaths(place, if json { Show::Json } else { Show::Text }),
        Command::Logs { target, follow, lines, json, place } => {
            let follow = if follow { Follow::On } else { Follow::No };
            commands::logs::logs(place, target, lines, follow, if json { Show::Json } else { Show::Text })
        }
        Command::Trace { pool, slow, errors, lines, no_wait, json, place } => {
            let which = if errors { Which::Errors } else { Which::All };
            let follow = if no_wait { Follow::No } else { Follow::On };
            let wanted = commands::trace::Wanted { pool, slow: slow.unwrap_or_default(), which, lines, follow };
            commands::trace::trace(place, wanted, if json { Show::Json } else { Show::Text })
        }
        Command::ReopenLogs { place } => {
            ask(place, &Request::ReopenLogs, "stopped waiting; the files may be opened all the same")
        }
        Command::Dump { place } => {
            ask(place, &Request::Dump, "stopped waiting; the state may be in the log all the same")
        }
        Command::Reload { pools, no_wait, place } => {
            let wait = if no_wait { Wait::No } else { Wait::ForVerdict };
            ask(place, &Request::Reload { pools, wait }, "stopped waiting; the reload goes on (see `ostler status`)")
        }
        Command::Restart { target, place } => {
            let request = Request::Restart { pool: target.pool.to_string(), slot: target.slot.map(|slot| slot.0) };
            ask(place, &request, "stopped waiting; the restart goes on (see `ostler status`)")
        }
        Command::Recycle { target, place } => {
            let request = Request::Recycle { pool: target.pool.to_string(), slot: target.slot.map(|slot| slot.0) };
            ask(place, &request, "stopped waiting; the recycling goes on (see `ostler status`)")
        }
        Command::Scale { pool, workers, place } => {
            ask(place, &Request::Scale { pool, change: workers }, "stopped waiting; see `ostler status`")
        }
        Command::Pause { pool, place } => {
            ask(place, &Request::Pause { pool }, "stopped waiting; the pause goes on (see `ostler status`)")
        }
        Command::Resume { pool, place } => {
            ask(place, &Request::Resume { pool }, "stopped waiting; the workers come back (see `ostler status`)")
        }
        Command::Stop { now, place } => {
            let pace = if now { Pace::Now } else { Pace::Graceful };
            ask(place, &Request::Stop { pace }, "stopped waiting; the supervisor goes on stopping")
        }
        Command::Completions { shell } => commands::generate::completions(shell),
        Command::Man { command, dir: None } => commands::generate::man(command.as_deref()),
        Command::Man { dir: Some(dir), .. } => commands::generate::man_pages_into(&dir),
        Command::HelloWorker => return hello::main(),
        Command::AdminWorker => return admin::main(),
        Command::StdioWorker(orders) => return stdio::main(orders),
    };
    code.into()
}
