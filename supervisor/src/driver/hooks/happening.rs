//! Turns what the pools note into calls of hooks, and says what each is told.
//!
//! A worker's hooks are those of the configuration that it runs with, also while a reload goes on; those of the pool are
//! of the configuration in force.

use std::ffi::OsString;

use ostler_config::checked::Pool;
use ostler_pool::{Cause, Exit, Failure, Note, Settings};
use ostler_shared::{PoolName, SlotNo, WorkerId, WorkerName};

use super::super::Driver;
use super::call::{Call, Title};
use crate::deaths::{Death, signal_name};
use crate::report;

/// Longest reason that a hook is told, in bytes; execve(2) takes no variable of more than 128 KiB.
const REASON_MAX: usize = 4096;

/// A variable and its value.
type Fact = (&'static str, String);

impl Driver {
    /// Calls the hooks that a note is for, but for that of a death, which the note alone does not tell enough of.
    pub(in super::super) fn call_hooks(&mut self, note: &Note) {
        match note {
            Note::Ready { id, worker, .. } => self.call_ready(*id, worker),
            Note::Committed { generations, .. } => {
                for (pool, generation) in generations {
                    self.call_reload(pool, "ok", generation.to_string(), String::new());
                }
            }
            Note::Undone { pools, setback } => {
                for pool in pools {
                    self.call_reload(pool, "undone", String::new(), reason(&setback.failure));
                }
            }
            Note::PoolFailed { pool, failure, survivors } => self.call_failed(pool, failure, *survivors),
            // Nobody can ask to be called for the rest.
            _ => {}
        }
    }

    fn call_ready(&mut self, id: WorkerId, worker: &WorkerName) {
        let Some(link) = self.workers.get(&id) else { return };
        let pool = &link.settings.pool;
        let facts = of_worker(worker, id, link.pid.as_raw()).into();
        let call = pool.hooks.ready.as_deref().map(|command| call("ready", pool, command, facts));
        self.hooks.call_any(call);
    }

    pub(in super::super) fn call_exit(&mut self, settings: &Settings, death: &Death) {
        let pool = &settings.pool;
        let Some(command) = &pool.hooks.exit else { return };
        if death.worker.slot == SlotNo::TEMPLATE {
            return; // it was in no slot, and `ready` was not called for it
        }
        let exit = match death.exit {
            Exit::Code(code) => code.to_string(),
            Exit::Signal(signal) => signal_name(signal),
        };
        let routine = if death.is_routine() { "yes" } else { "no" };
        let mut facts = Vec::from(of_worker(&death.worker, death.id, death.pid));
        facts.extend([
            ("OSTLER_EXIT", exit),
            ("OSTLER_REASON", death.cause.map_or("", Cause::as_str).to_owned()),
            ("OSTLER_ROUTINE", routine.to_owned()),
            ("OSTLER_LOST", death.lost.to_string()),
        ]);
        let call = call("exit", pool, command, facts);
        self.hooks.call_any(Some(call));
    }

    fn call_reload(&mut self, pool: &PoolName, verdict: &str, generation: String, reason: String) {
        let Some(pool) = self.config.pools.iter().find(|configured| configured.name == *pool) else { return };
        let facts =
            vec![("OSTLER_VERDICT", verdict.to_owned()), ("OSTLER_GENERATION", generation), ("OSTLER_REASON", reason)];
        let call = pool.hooks.reload.as_deref().map(|command| call("reload", pool, command, facts));
        self.hooks.call_any(call);
    }

    fn call_failed(&mut self, pool: &PoolName, failure: &Failure, survivors: usize) {
        let Some(pool) = self.config.pools.iter().find(|configured| configured.name == *pool) else { return };
        let facts = vec![("OSTLER_REASON", reason(failure)), ("OSTLER_SURVIVORS", survivors.to_string())];
        let call = pool.hooks.failed.as_deref().map(|command| call("failed", pool, command, facts));
        self.hooks.call_any(call);
    }
}

fn call(hook: &'static str, pool: &Pool, command: &[OsString], mut facts: Vec<Fact>) -> Call {
    facts.extend([("OSTLER_HOOK", hook.to_owned()), ("OSTLER_POOL", pool.name.to_string())]);
    let title = Title { pool: pool.name.to_string(), hook };
    Call { title, command: command.to_vec(), process: pool.process.clone(), facts }
}

fn of_worker(name: &WorkerName, id: WorkerId, pid: i32) -> [Fact; 3] {
    [
        ("OSTLER_WORKER", format!("{}.{}", name.slot, name.generation)),
        ("OSTLER_ID", id.0.to_string()),
        ("OSTLER_PID", pid.to_string()),
    ]
}

/// Fit for a variable: without NUL, and not too long.
fn reason(failure: &Failure) -> String {
    let mut text = report::plain(failure).replace('\0', " ");
    let end = (0..=REASON_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}
