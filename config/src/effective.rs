//! Writes a configuration as TOML, every key of it: what `ostler check` prints.

use std::borrow::Cow;
use std::ffi::OsString;

use crate::check::shown_limit;
use crate::checked::{
    AccessTo, Bound, Canary, Config, Farewell, Hooks, Inherit, NewPrivileges, Overflow, Owner, Pool, Process, Program,
    Range, Supervisor, Surge, Template, Workers,
};
use crate::combine::without_line;
use crate::duration::format_duration;
use crate::keys::{self, Default};
use crate::size::format_size;
use crate::words::{
    DISPATCHES, DRAIN_SIGNALS, HANDOFFS, LOG_FORMATS, LOG_LEVELS, ON_POOL_FAILED, OUTPUTS, READY, word_for,
};

impl Config {
    /// The effective configuration: defaults filled in, valid TOML that parses back to an equal one when it
    /// lies in the same directory. A key whose default no value can say becomes a comment. Paths and words of
    /// a command that are not UTF-8, which only the command line can say, are written approximately.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        supervisor(&mut out, &self.supervisor);
        for pool in self.pools.iter().filter(|pool| pool.owner() == Owner::Ostler) {
            out.push_str("\n[admin]\n");
            key(&mut out, "admin.listen", pool.listen.first().map(|address| quoted(&address.to_string())));
        }
        for pool in self.pools.iter().filter(|pool| pool.owner() == Owner::User) {
            out.push('\n');
            out.push_str(&format!("[pool.{}]\n", pool.name));
            traffic(&mut out, pool);
            life(&mut out, pool);
        }
        out
    }
}

fn supervisor(out: &mut String, supervisor: &Supervisor) {
    let Supervisor { control, pid_file, stop_timeout, shutdown_delay, on_pool_failed, log } = supervisor;
    out.push_str("[supervisor]\n");
    key(out, "supervisor.control", control.as_ref().map(|path| quoted(&path.to_string_lossy())));
    key(out, "supervisor.stop_timeout", Some(quoted(&format_duration(*stop_timeout))));
    key(out, "supervisor.shutdown_delay", Some(quoted(&format_duration(*shutdown_delay))));
    key(out, "supervisor.on_pool_failed", Some(quoted(word_for(ON_POOL_FAILED, on_pool_failed))));
    key(out, "supervisor.pid_file", pid_file.as_ref().map(|path| quoted(&path.to_string_lossy())));
    let access = log.access.as_ref().map(|access| match access {
        AccessTo::Output => quoted("-"),
        AccessTo::File(path) => quoted(&path.to_string_lossy()),
    });
    let log = [
        ("level", Some(quoted(word_for(LOG_LEVELS, &log.level)))),
        ("format", Some(quoted(word_for(LOG_FORMATS, &log.format)))),
        ("file", log.file.as_ref().map(|path| quoted(&path.to_string_lossy()))),
        ("access", access),
    ];
    table(out, "supervisor.log", &log);
}

/// What is run, where connections come from and where they go.
fn traffic(out: &mut String, pool: &Pool) {
    let command = match &pool.program {
        Program::Hello | Program::Admin => None,
        Program::Command(words) => Some(words_of(words)),
        Program::Pipeline(stages) => Some(match stages.as_slice() {
            [only] => words_of(only),
            _ => format!("[{}]", stages.iter().map(|words| words_of(words)).collect::<Vec<_>>().join(", ")),
        }),
    };
    key(out, "pool.NAME.command", command);
    key(out, "pool.NAME.listen", Some(list(pool.listen.iter().map(|address| address.to_string().into()))));
    key(out, "pool.NAME.handoff", Some(quoted(word_for(HANDOFFS, &pool.handoff))));
    key(out, "pool.NAME.workers", Some(workers(pool.workers)));
    key(out, "pool.NAME.concurrency", Some(pool.concurrency.to_string()));
    dispatching(out, pool);
    key(out, "pool.NAME.output", Some(quoted(word_for(OUTPUTS, &pool.output))));
    let socket = [
        ("mode", pool.socket.mode.map(|mode| quoted(&format!("{mode:04o}")))),
        ("owner", pool.socket.owner.map(|owner| quoted(&owner.to_string()))),
        ("group", pool.socket.group.map(|group| quoted(&group.to_string()))),
        ("backlog", Some(pool.socket.backlog.to_string())),
    ];
    table(out, "pool.NAME.socket", &socket);
    line(out, pool);
}

/// How connections are handed out; by no word of a file where they are not.
fn dispatching(out: &mut String, pool: &Pool) {
    if has_no_line(pool) {
        return ["prefetch", "recall_after", "dispatch"].iter().for_each(|name| without_effect(out, name));
    }
    key(out, "pool.NAME.prefetch", Some(pool.prefetch.to_string()));
    key(out, "pool.NAME.recall_after", Some(quoted(&format_duration(pool.recall_after))));
    key(out, "pool.NAME.dispatch", Some(quoted(word_for(DISPATCHES, &pool.dispatch))));
}

fn line(out: &mut String, pool: &Pool) {
    if has_no_line(pool) {
        return without_effect(out, "queue");
    }
    let overflow = match &pool.queue.overflow {
        Overflow::Wait => quoted("wait"),
        Overflow::Shed(shed) => farewell(shed),
    };
    let queue = [
        ("limit", Some(pool.queue.limit.to_string())),
        ("timeout", Some(quoted(&format_duration(pool.queue.timeout)))),
        ("on_timeout", Some(farewell(&pool.queue.on_timeout))),
        ("overflow", Some(overflow)),
        ("per_uid", Some(pool.queue.per_uid.to_string())),
    ];
    table(out, "pool.NAME.queue", &queue);
}

fn has_no_line(pool: &Pool) -> bool {
    without_line(pool.handoff).next().is_some()
}

fn without_effect(out: &mut String, name: &str) {
    out.push_str(&format!("# {name}: none, workers accept by themselves\n"));
}

fn workers(workers: Workers) -> String {
    match workers {
        Workers::Fixed(count) => count.to_string(),
        Workers::Between(Range { min, max, idle, target_delay }) => {
            let [idle, target_delay] = [idle, target_delay].map(|time| quoted(&format_duration(time)));
            format!("{{ min = {min}, max = {max}, idle = {idle}, target_delay = {target_delay} }}")
        }
    }
}

/// How workers come and go.
fn life(out: &mut String, pool: &Pool) {
    let start = &pool.start;
    let backoff = [start.backoff_min, start.backoff_max].map(format_duration);
    let start = [
        ("ready", Some(quoted(word_for(READY, &start.ready)))),
        ("ready_timeout", Some(quoted(&format_duration(start.ready_timeout)))),
        ("settle", Some(quoted(&format_duration(start.settle)))),
        ("backoff", Some(list(backoff.iter().map(Cow::from)))),
        ("failures", Some(start.failures.to_string())),
        ("period", Some(quoted(&format_duration(start.period)))),
    ];
    table(out, "pool.NAME.start", &start);
    let reload = &pool.reload;
    let surge = match reload.surge {
        Surge::Workers(count) => count.to_string(),
        Surge::Percent(percent) => quoted(&format!("{percent}%")),
    };
    let reload = [
        ("surge", Some(surge)),
        ("canary", Some((reload.canary == Canary::Sent).to_string())),
        ("probation", Some(quoted(&format_duration(reload.probation)))),
        ("template", Some((reload.template == Template::Used).to_string())),
    ];
    table(out, "pool.NAME.reload", &reload);
    let drain = [
        ("timeout", Some(quoted(&format_duration(pool.drain.timeout)))),
        ("kill_after", Some(quoted(&format_duration(pool.drain.kill_after)))),
        ("signal", Some(quoted(word_for(DRAIN_SIGNALS, &pool.drain.signal)))),
    ];
    table(out, "pool.NAME.drain", &drain);
    let watchdog = [
        ("heartbeat", Some(quoted(&format_duration(pool.watchdog.heartbeat)))),
        ("request", Some(quoted(&format_duration(pool.watchdog.request)))),
        ("slow", Some(quoted(&format_duration(pool.watchdog.slow)))),
    ];
    table(out, "pool.NAME.watchdog", &watchdog);
    let recycle = [
        ("requests", Some(pool.recycle.requests.to_string())),
        ("jitter", Some(pool.recycle.jitter.to_string())),
        ("age", Some(quoted(&format_duration(pool.recycle.age)))),
        ("rss", Some(quoted(&format_size(pool.recycle.rss)))),
    ];
    table(out, "pool.NAME.recycle", &recycle);
    process(out, &pool.process);
    table(out, "pool.NAME.accept", &[("fd", Some(pool.accept.at.number().to_string()))]);
    hooks(out, &pool.hooks);
}

fn hooks(out: &mut String, hooks: &Hooks) {
    let hook = |command: &Option<Vec<OsString>>| command.as_ref().map(|words| words_of(words));
    let hooks = [
        ("ready", hook(&hooks.ready)),
        ("exit", hook(&hooks.exit)),
        ("reload", hook(&hooks.reload)),
        ("failed", hook(&hooks.failed)),
    ];
    table(out, "pool.NAME.hooks", &hooks);
}

fn process(out: &mut String, process: &Process) {
    let numbers = |numbers: &Vec<u32>| list(numbers.iter().map(|number| number.to_string().into()));
    let env = process.env.iter().map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)));
    let kept = match &process.env_keep {
        Inherit::Everything => None,
        Inherit::Only(names) => Some(list(names.iter().map(Cow::from))),
    };
    let limits = process.limits.iter().map(|(limit, bound)| match bound {
        Bound::At(value) => format!("{} = {}", limit.name(), shown_limit(*limit, *value)),
        Bound::Unlimited => format!("{} = \"unlimited\"", limit.name()),
    });
    let no_new_privs = match process.new_privileges {
        NewPrivileges::Never => "true",
        NewPrivileges::AsInherited => "false",
    };
    let entries = [
        ("user", process.user.as_ref().map(|account| quoted(&account.shown()))),
        ("group", process.group.map(|group| quoted(&group.to_string()))),
        ("groups", process.groups.as_ref().map(numbers)),
        ("cwd", process.cwd.as_ref().map(|path| quoted(&path.to_string_lossy()))),
        ("umask", process.umask.map(|umask| quoted(&format!("{umask:03o}")))),
        ("env", Some(braced(env))),
        ("env_keep", kept),
        ("nofile", process.nofile.map(|nofile| nofile.to_string())),
        ("limits", Some(braced(limits))),
        ("nice", process.nice.map(|nice| nice.to_string())),
        ("no_new_privs", Some(no_new_privs.to_owned())),
    ];
    table(out, "pool.NAME.process", &entries);
}

/// One line: the key and its value, or a comment that says what holds without one.
fn key(out: &mut String, path: &str, value: Option<String>) {
    let name = path.rsplit('.').next().unwrap_or(path);
    match value {
        Some(value) => out.push_str(&format!("{name} = {value}\n")),
        None => out.push_str(&format!("# {name}: {}\n", default_in_words(path))),
    }
}

/// A table on one line, behind comments for those of its keys that have no value.
fn table(out: &mut String, path: &str, entries: &[(&str, Option<String>)]) {
    let name = path.rsplit('.').next().unwrap_or(path);
    for (unsaid, _) in entries.iter().filter(|(_, value)| value.is_none()) {
        out.push_str(&format!("# {name}.{unsaid}: {}\n", default_in_words(&keys::join(path, unsaid))));
    }
    let said = entries.iter().filter_map(|(key, value)| value.as_ref().map(|value| format!("{key} = {value}")));
    out.push_str(&format!("{name} = {}\n", braced(said)));
}

fn default_in_words(path: &str) -> &'static str {
    match keys::known(path).default {
        Default::Toml(text) | Default::Words(text) => text,
    }
}

fn farewell(farewell: &Farewell) -> String {
    match farewell {
        Farewell::Close => quoted("close"),
        Farewell::Reply(text) => format!("{{ reply = {} }}", quoted(text)),
    }
}

fn list<'a>(texts: impl Iterator<Item = Cow<'a, str>>) -> String {
    format!("[{}]", texts.map(|text| quoted(&text)).collect::<Vec<_>>().join(", "))
}

fn braced(entries: impl Iterator<Item = String>) -> String {
    let entries = entries.collect::<Vec<_>>().join(", ");
    if entries.is_empty() { "{}".to_owned() } else { format!("{{ {entries} }}") }
}

fn words_of(command: &[OsString]) -> String {
    list(command.iter().map(|word| word.to_string_lossy()))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // TOML forbids the others in a string, and none of them is fit for a terminal.
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
