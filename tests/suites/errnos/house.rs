//! Says how the supervisor is configured that suffers the faults of a table.

use std::path::Path;

use ostler_tests::{Ostler, Target, place, programs};

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
PROGRAM
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
    pub(crate) program: Program,
    /// What its workers are given, beside a directory.
    pub(crate) process: &'static str,
    /// More of its pool.
    pub(crate) more: &'static str,
    pub(crate) manager: Managed,
}

/// What its workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// The built-in hello server.
    Hello,
    /// One that knows nothing of ostler and forks for each connection. It believes in one listener.
    Forking,
    /// One that is forked by a template.
    Template,
}

impl Program {
    /// The lines of a pool that name it.
    fn lines(self) -> String {
        match self {
            Program::Hello => String::new(),
            Program::Forking => {
                let shown = |path: std::path::PathBuf| path.display().to_string();
                let command = [shown(place::unmodified_python("python")), shown(place::unmodified("forking.py"))];
                format!("command = {}\nhandoff = \"accept\"", programs::toml(&command))
            }
            Program::Template => {
                let command = programs::templated(Path::new("journal"), &[]);
                format!("command = {}\nreload.template = true", programs::toml(&command))
            }
        }
    }
}

/// Whether there is a service manager to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Managed {
    Yes,
    No,
}

impl House {
    pub(crate) const PLAIN: House =
        House { program: Program::Hello, process: "umask = \"022\"", more: "", manager: Managed::No };

    pub(crate) fn config(self, listen: &str) -> String {
        let config = CONFIG.replace("LISTEN", listen).replace("PROCESS", self.process);
        config.replace("PROGRAM", &self.program.lines()).replace("MORE", self.more)
    }

    /// Where it listens from the start on.
    pub(crate) fn listen(self, tcp: &Target) -> String {
        match self.program {
            Program::Hello | Program::Template => format!("{WEB}, {:?}", tcp.listen()),
            Program::Forking => WEB.to_owned(),
        }
    }
}

/// Sees that a supervisor without root does not start with this.
pub(crate) fn is_refused(house: House) {
    let ended = Ostler::builder().config(house.config(WEB)).start_failing();
    assert_eq!(ended.code, 2, "{}", ended.log);
    assert!(ended.log.contains("only root may"), "{}", ended.log);
}
