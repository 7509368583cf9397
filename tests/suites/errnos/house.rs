//! Says how the supervisor is configured that suffers the faults of a table.

use ostler_tests::Ostler;

/// `failures` is out of reach: what is shown here is one failure, not a pool that is given up. Nothing is recalled from a
/// worker that is merely slow: those are calls that would count.
const CONFIG: &str = r#"
[pool.web]
listen = [LISTEN]
workers = 2
concurrency = 4
recall_after = "60s"
start = { failures = 10000, backoff = ["20ms", "50ms"] }
drain = { timeout = "1s", kill_after = "1s" }
process = { cwd = ".", PROCESS }
MORE
"#;
/// Its first listener, and the one that a reload adds and takes away.
pub(crate) const WEB: &str = r#""unix:web.sock""#;
pub(crate) const NEW: &str = r#""unix:new.sock""#;
/// What the rows of children that become another user are about. Only root can try it.
pub(crate) const SOMEBODY_ELSE: House =
    House { process: r#"user = "nobody", groups = [1, 7], nice = 5, limits = { core = 0 }"#, ..House::PLAIN };

/// What is particular about a supervisor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct House {
    /// What its workers are given, beside a directory.
    pub(crate) process: &'static str,
    /// More of its pool.
    pub(crate) more: &'static str,
    pub(crate) manager: Managed,
}

/// Whether there is a service manager to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Managed {
    Yes,
    No,
}

impl House {
    pub(crate) const PLAIN: House = House { process: "umask = \"022\"", more: "", manager: Managed::No };

    pub(crate) fn config(self, listen: &str) -> String {
        CONFIG.replace("LISTEN", listen).replace("PROCESS", self.process).replace("MORE", self.more)
    }
}

/// Sees that a supervisor without root does not start with this.
pub(crate) fn is_refused(house: House) {
    let ended = Ostler::builder().config(house.config(WEB)).start_failing();
    assert_eq!(ended.code, 2, "{}", ended.log);
    assert!(ended.log.contains("only root may"), "{}", ended.log);
}
