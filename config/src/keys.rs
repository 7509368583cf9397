//! Lists every key of the configuration: what it takes, what it is when nobody says it, and which values are not built yet.
//!
//! This one table drives the check for unknown keys, the remedies for wrong types and the test that keeps
//! `docs/configuration.md` and the commented example true.

/// One key, by its whole path; `NAME` stands for the name of a pool or of a variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Such as `pool.NAME.socket.mode`.
    pub(crate) path: &'static str,
    /// How a good value looks.
    pub(crate) example: &'static str,
    /// What it is when nobody says it.
    pub(crate) default: Default,
    /// Values of the contract that are not built yet.
    pub(crate) later: &'static [&'static str],
}

/// What a key is when nobody says it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Default {
    /// This value.
    Toml(&'static str),
    /// Something that a value in a file cannot say, or that depends on the machine.
    Words(&'static str),
}

/// What a typed key turns out to be.
#[derive(Debug)]
pub(crate) enum Found {
    /// A key with a value, or a table with keys of its own.
    Known,
    /// Nothing of ours.
    Unknown,
}

/// What `name` is in the table `scope` (`""` is the file itself).
pub(crate) fn find(scope: &str, name: &str) -> Found {
    // A quoted key may contain a point: `"socket.mode"` is one strange name, not a way into a table.
    if name.contains('.') {
        return Found::Unknown;
    }
    let path = join(scope, name);
    let below = format!("{path}.");
    match KEYS.iter().find(|key| key.path == path || key.path.starts_with(&below)) {
        Some(_) => Found::Known,
        None => Found::Unknown,
    }
}

/// The names that the table `scope` knows, in the order of the reference.
pub(crate) fn names_in(scope: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for key in KEYS {
        let rest = if scope.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(scope).and_then(|rest| rest.strip_prefix('.'))
        };
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// Where else a key of this name lives, if it is the only one.
pub(crate) fn elsewhere(name: &str) -> Option<&'static str> {
    let mut paths = KEYS.iter().map(|key| key.path).filter(|path| path.rsplit('.').next() == Some(name));
    match (paths.next(), paths.next()) {
        (Some(only), None) => Some(only),
        (_, _) => None,
    }
}

/// The key with this path.
///
/// # Panics
/// When there is none: the readers and this table are written together.
pub(crate) fn known(path: &str) -> &'static Key {
    match KEYS.iter().find(|key| key.path == path) {
        Some(key) => key,
        None => unreachable!("{path} is read but is not in the table of keys"),
    }
}

/// The path of `name` in `scope`.
pub(crate) fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

const fn key(path: &'static str, example: &'static str, default: &'static str) -> Key {
    Key { path, example, default: Default::Toml(default), later: &[] }
}

const fn key_in_words(path: &'static str, example: &'static str, default: &'static str) -> Key {
    Key { path, example, default: Default::Words(default), later: &[] }
}

/// The same key, some of whose values are not built yet.
const fn with_later(key: Key, later: &'static [&'static str]) -> Key {
    Key { later, ..key }
}

/// Every key of the contract, in the order of the reference.
pub(crate) const KEYS: &[Key] = &[
    key_in_words("supervisor.control", r#"control = "/run/ostler/web.sock""#, "PID.sock in the default directory"),
    key("supervisor.stop_timeout", r#"stop_timeout = "30s""#, r#""30s""#),
    key("supervisor.shutdown_delay", r#"shutdown_delay = "5s""#, r#""0s""#),
    key("supervisor.on_pool_failed", r#"on_pool_failed = "exit""#, r#""keep""#),
    key_in_words("supervisor.pid_file", r#"pid_file = "/run/ostler.pid""#, "none"),
    key("supervisor.log.level", r#"level = "info""#, r#""info""#),
    key("supervisor.log.format", r#"format = "pretty""#, r#""auto""#),
    key_in_words("supervisor.log.file", r#"file = "/var/log/ostler.log""#, "none: standard error"),
    key_in_words("supervisor.log.access", r#"access = "/var/log/ostler-access.log""#, "none: it is off"),
    key_in_words("admin.listen", r#"listen = "tcp:127.0.0.1:9901""#, "none: it must be said"),
    key_in_words("pool.NAME.command", r#"command = ["./app", "--flag"]"#, "the built-in hello server"),
    key_in_words(
        "pool.NAME.listen",
        r#"listen = ["unix:/run/web.sock", "tcp:127.0.0.1:8080"]"#,
        "none: it must be said",
    ),
    with_later(key("pool.NAME.handoff", r#"handoff = "pass""#, r#""pass""#), &["message"]),
    key_in_words("pool.NAME.workers", "workers = 4", "usable CPUs, at least 2"),
    key_in_words("pool.NAME.workers.min", "min = 2", "1"),
    key_in_words("pool.NAME.workers.max", "max = 16", "none: a range must say it"),
    key_in_words("pool.NAME.workers.idle", r#"idle = "30s""#, "30s"),
    key_in_words("pool.NAME.workers.target_delay", r#"target_delay = "5ms""#, "5ms"),
    key_in_words("pool.NAME.concurrency", "concurrency = 1", "1; with `accept` and `listen` 256"),
    key("pool.NAME.prefetch", "prefetch = 1", "0"),
    key_in_words("pool.NAME.recall_after", r#"recall_after = "5ms""#, r#"5ms; with `accept` 100ms"#),
    key("pool.NAME.dispatch", r#"dispatch = "least-loaded""#, r#""least-loaded""#),
    key("pool.NAME.output", r#"output = "capture""#, r#""capture""#),
    key_in_words("pool.NAME.socket.mode", r#"mode = "0660""#, "what the umask leaves"),
    key_in_words("pool.NAME.socket.owner", r#"owner = "app""#, "the supervisor's user"),
    key_in_words("pool.NAME.socket.group", r#"group = "www""#, "the supervisor's group"),
    key("pool.NAME.socket.backlog", "backlog = 4096", "4096"),
    key("pool.NAME.queue.limit", "limit = 4096", "4096"),
    key("pool.NAME.queue.timeout", r#"timeout = "10s""#, r#""10s""#),
    key("pool.NAME.queue.on_timeout", r#"on_timeout = { reply = "busy\n" }"#, r#""close""#),
    key("pool.NAME.queue.overflow", r#"overflow = "wait""#, r#""wait""#),
    key("pool.NAME.queue.per_uid", "per_uid = 100", "0"),
    key("pool.NAME.start.ready", r#"ready = "auto""#, r#""auto""#),
    key("pool.NAME.start.ready_timeout", r#"ready_timeout = "30s""#, r#""30s""#),
    key("pool.NAME.start.settle", r#"settle = "1s""#, r#""1s""#),
    key("pool.NAME.start.backoff", r#"backoff = ["100ms", "30s"]"#, r#"["100ms", "30s"]"#),
    key("pool.NAME.start.failures", "failures = 5", "5"),
    key("pool.NAME.start.period", r#"period = "60s""#, r#""1m""#),
    key("pool.NAME.reload.surge", r#"surge = "25%""#, "1"),
    key("pool.NAME.reload.canary", "canary = false", "true"),
    key("pool.NAME.reload.probation", r#"probation = "10s""#, r#""0s""#),
    key("pool.NAME.reload.template", "template = true", "false"),
    key("pool.NAME.drain.timeout", r#"timeout = "30s""#, r#""30s""#),
    key("pool.NAME.drain.kill_after", r#"kill_after = "5s""#, r#""5s""#),
    key("pool.NAME.drain.signal", r#"signal = "TERM""#, r#""TERM""#),
    key("pool.NAME.watchdog.heartbeat", r#"heartbeat = "30s""#, r#""30s""#),
    key("pool.NAME.watchdog.request", r#"request = "30s""#, r#""0s""#),
    key("pool.NAME.watchdog.slow", r#"slow = "1s""#, r#""0s""#),
    key("pool.NAME.recycle.requests", "requests = 10000", "0"),
    key("pool.NAME.recycle.jitter", "jitter = 0.1", "0.1"),
    key("pool.NAME.recycle.age", r#"age = "1d""#, r#""0s""#),
    key("pool.NAME.recycle.rss", r#"rss = "512MiB""#, r#""0""#),
    key_in_words("pool.NAME.process.user", r#"user = "app""#, "the supervisor's"),
    key_in_words("pool.NAME.process.group", r#"group = "app""#, "that of `user`, else the supervisor's"),
    key_in_words("pool.NAME.process.groups", r#"groups = ["video"]"#, "those of `user`, else the supervisor's"),
    key_in_words("pool.NAME.process.cwd", r#"cwd = ".""#, "the supervisor's"),
    key_in_words("pool.NAME.process.umask", r#"umask = "027""#, "the supervisor's"),
    key("pool.NAME.process.env", r#"env = { RUST_LOG = "info" }"#, "{}"),
    key_in_words("pool.NAME.process.env_keep", r#"env_keep = ["PATH", "LANG"]"#, "everything"),
    key_in_words("pool.NAME.process.nofile", "nofile = 65536", "what the supervisor was started with"),
    key("pool.NAME.process.limits", r#"limits = { core = 0, as = "2GiB" }"#, "{}"),
    key_in_words("pool.NAME.process.nice", "nice = 5", "the supervisor's"),
    key_in_words("pool.NAME.process.no_new_privs", "no_new_privs = true", "true where `user` is said, else false"),
    key("pool.NAME.accept.fd", "fd = 3", "3"),
    key_in_words("pool.NAME.hooks.ready", r#"ready = ["./app", "--register"]"#, "none"),
    key_in_words("pool.NAME.hooks.exit", r#"exit = ["./app", "--deregister"]"#, "none"),
    key_in_words("pool.NAME.hooks.reload", r#"reload = ["./app", "--reloaded"]"#, "none"),
    key_in_words("pool.NAME.hooks.failed", r#"failed = ["./app", "--alarm"]"#, "none"),
];
