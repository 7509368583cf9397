//! Each refusal that no golden text shows: entered once, with the remedy that belongs to it.

use super::parse;

/// What follows `listen` in the only pool of a file, a part of the message, a part of the remedy.
const OF_A_POOL: &[(&str, &str, &str)] = &[
    ("listen = 3", "duplicate key", "keep one"),
    ("\"socket.mode\" = \"0660\"", "unknown key `socket.mode`", ""),
    ("command = [3]", "pool.a.command: expected text", "./app"),
    ("command = [\"\"]", "the program has no name", "name of a program"),
    ("command = [\"sh\", \"a\\u0000b\"]", "NUL", "remove"),
    ("command = [\"/\"]", "/ is a directory", "name the program in it"),
    ("command = [\"/etc/passwd\"]", "not executable", "chmod +x /etc/passwd"),
    ("command = [\"no-such-program\"]", "in PATH", "install it"),
    ("process.env.PATH = \"/nowhere\"\ncommand = [\"sh\"]", "in PATH", "install it"),
    ("hooks = [\"sh\"]", "pool.a.hooks: expected a table, found a list", "[pool.a.hooks]"),
    ("hooks.ready = \"sh\"", "expected a list", "ready = [\"sh\"]"),
    ("hooks.exit = []", "0 words, the limits are 1 and 1024", "run nothing"),
    ("hooks.reload = [\"no-such-program\"]", "in PATH", "install it"),
    ("hooks.failed = [\"./absent\"]", "there is no program", "check the path"),
    ("hooks.redy = [\"sh\"]", "unknown key `redy`", "`ready`"),
    ("workers = 0", "1 and 4096", "1 to 4096"),
    ("workers = -1", "-1", "1 to 4096"),
    ("workers = 99999999999999999999", "is outside its limits", "1 to 4096"),
    ("workers = [2, 16]", "expected a whole number, found a list", "workers = 4"),
    ("workers = { min = 2 }", "pool.a.workers has no `max`", "add max = 16"),
    ("workers = {}", "pool.a.workers has no `max`", "add max = 16"),
    ("workers = { max = 4, idel = \"9s\" }", "unknown key `idel` in [pool.a.workers]", "did you mean `idle`"),
    ("workers = { max = 0 }", "pool.a.workers.max: 0 is outside", "1 to 4096"),
    ("workers = { max = 4097 }", "4097 is outside", "1 to 4096"),
    ("workers = { min = -1, max = 4 }", "-1 is outside", "0 to 4096"),
    ("workers = { min = \"2\", max = 4 }", "expected a whole number, found text", "min = 2"),
    ("workers = { max = 4, idle = \"999ms\" }", "999ms", "at least \"1s\""),
    ("workers = { max = 4, idle = 30 }", "30 has no unit", "\"30s\""),
    ("workers = { max = 4, target_delay = \"0s\" }", "too short", "1ms"),
    ("workers = { max = 4, target_delay = \"10s\" }", "never exceeded: queue.timeout, 10s", "below 10s"),
    ("queue.timeout = \"5ms\"\nworkers = { max = 4 }", "pool.a.workers: a target_delay of 5ms", "raise queue.timeout"),
    ("concurrency = 65537", "65537", "1 to 65536"),
    ("prefetch = 65", "65 is outside its limits", "0 to 64"),
    ("prefetch = -1", "-1 is outside its limits", "0 to 64"),
    ("prefetch = \"1\"", "expected a whole number", "prefetch = 1"),
    ("recall_after = 5", "5 has no unit", "\"5s\""),
    ("recall_after = \"0s\"", "too short", "1ms"),
    ("recall_after = \"60s1ms\"", "1m1ms is too long", "\"1m\""),
    ("socket = 3", "pool.a.socket: expected a table, found a whole number", "[pool.a.socket]"),
    ("socket.mode = \"1777\"", "\"0777\"", "0660"),
    ("socket.mode = \"\"", "\"0777\"", "0660"),
    ("socket.group = \"no-such-group\"", "no group", "getent group"),
    ("socket.owner = true", "expected a name or a number, found true or false", "owner = "),
    ("socket.owner = 4294967295", "too large", "name of a user"),
    ("queue.limit = 1048577", "1048577", "1048576"),
    ("queue.timeout = 1.5", "expected a duration, found a number with a point", "timeout = \"10s\""),
    ("queue.timeout = \"366d\"", "365 days", "365d"),
    ("queue.on_timeout = \"wait\"", "none of \"close\"", "write one of"),
    ("queue.on_timeout = { reply = \"\" }", "empty", "\"close\""),
    ("queue.on_timeout = { reply = 3 }", "expected text", "reply ="),
    ("queue.overflow = { replie = \"x\" }", "nothing else", "overflow = "),
    ("queue.overflow = {}", "nothing else", "overflow = "),
    ("queue.overflow = 3", "expected a word or a reply", "overflow = "),
    ("queue.per_uid = -1", "-1 is outside", "0 to 1048576"),
    ("queue.per_uid = \"10%\"", "expected a whole number", "per_uid = 100"),
    ("queue.per_uid = 4097", "4097 connections in a line of 4096", "write less than 4096"),
    ("queue = { limit = 10, per_uid = 11 }", "11 connections in a line of 10", "raise queue.limit"),
    ("start.ready = \"notify\"", "says Hello", "\"hello\""),
    ("start.ready = \"accept\"", "says Hello", "\"hello\""),
    ("command = [\"sh\"]\nhandoff = \"accept\"\nstart.ready = \"hello\"", "does not say Hello", "\"accept\""),
    ("handoff = \"accept\"", "the built-in hello server", "add a command"),
    ("accept.fd = 0", "no effect: with `pass`", "handoff = \"accept\""),
    ("command = [\"sh\"]\nhandoff = \"accept\"\naccept.fd = 1", "belongs to the log", "write 3, or 0"),
    ("accept.fd = 4", "4 is outside", "0 to 3"),
    ("handoff = \"stdio\"", "serves many connections", "add a command"),
    ("command = [[\"sh\"], [\"cat\"]]", "a list of commands is a pipeline", "handoff = \"stdio\""),
    ("command = [[\"sh\"]]\nhandoff = \"accept\"", "a list of commands is a pipeline", "or one command"),
    ("command = [[\"sh\"], \"cat\"]\nhandoff = \"stdio\"", "expected a list, as the others are", "[[\"./decode\"]"),
    ("command = [[\"sh\", 3]]\nhandoff = \"stdio\"", "expected text", "[[\"./decode\"]"),
    ("command = [[\"sh\"], []]\nhandoff = \"stdio\"", "0 words", "leave this command out"),
    ("command = [[\"sh\"], [\"no-such\"]]\nhandoff = \"stdio\"", "in PATH", "install it"),
    ("command = [\"cat\"]\nhandoff = \"stdio\"\naccept.fd = 0", "no effect: with `stdio`", "handoff = \"accept\""),
    ("command = [\"cat\"]\nhandoff = \"stdio\"\nstart.ready = \"accept\"", "says Hello", "\"auto\""),
    ("command = [\"cat\"]\nhandoff = \"stdio\"\nconcurrency = 2\nprocess.nofile = 37", "37 descriptors", "at least 38"),
    ("drain.signal = \"INT\"", "no effect: with `pass`", "handoff = \"accept\""),
    ("drain.signal = \"KILL\"", "none of", "\"TERM\""),
    ("start.backoff = \"1s\"", "expected a list", "[\"1s\"]"),
    ("start.backoff = [\"1s\"]", "1 durations, 2 are needed", "[\"100ms\", \"30s\"]"),
    ("start.backoff = [\"1s\", 3]", "3 has no unit", "\"3s\""),
    ("start.backoff = [\"0s\", \"1s\"]", "too short", "1ms"),
    ("start.failures = 0", "0 is outside", "1 to 10000"),
    ("reload.surge = 0", "0 is outside", "1 to 4096"),
    ("reload.surge = \"0%\"", "0 is outside", "1 to 100"),
    ("reload.surge = \"101%\"", "101 is outside", "1 to 100"),
    ("reload.surge = \"half\"", "no percentage", "25%"),
    ("reload.surge = true", "expected a whole number or a percentage", "25%"),
    ("reload.canary = \"yes\"", "expected true or false, found text", "canary = false"),
    ("reload.probation = 10", "10 has no unit", "\"10s\""),
    ("handoff = \"listen\"\nprefetch = 1", "prefetch: no effect: with `listen`", "socket.backlog"),
    ("handoff = \"listen\"\nrecall_after = \"9ms\"", "recall_after: no effect", "\"pass\""),
    ("handoff = \"listen\"\ndispatch = \"round-robin\"", "dispatch: no effect", "\"accept\""),
    ("handoff = \"listen\"\nqueue.timeout = \"9s\"", "queue: no effect", "socket.backlog"),
    ("handoff = \"listen\"\nworkers = { min = 2, max = 4 }", "workers: no range", "workers = 4"),
    ("handoff = \"listen\"\nwatchdog.request = \"9s\"", "watchdog.request: no effect", "watchdog.heartbeat"),
    ("handoff = \"listen\"\nwatchdog.slow = \"9s\"", "watchdog.slow: no effect", "watchdog.heartbeat"),
    ("handoff = \"listen\"\naccept.fd = 0", "descriptors 3 and above", "remove it"),
    ("handoff = \"listen\"\nstart.ready = \"accept\"", "nothing is preloaded", "\"auto\""),
    ("reload.template = true", "the built-in hello server cannot be a template", "add a command"),
    ("command = [\"sh\"]\nhandoff = \"accept\"\nreload.template = true", "cannot be a template", "handoff = \"pass\""),
    ("command = [\"sh\"]\nhandoff = \"stdio\"\nreload.template = true", "cannot be a template", "handoff = \"pass\""),
    ("command = [\"sh\"]\nhandoff = \"listen\"\nreload.template = true", "cannot be a template", "handoff = \"pass\""),
    ("reload.template = \"yes\"", "expected true or false, found text", "template = true"),
    ("drain.kill_after = \"31s\"", "supervisor.stop_timeout, 30s", "\"30s\" or less"),
    ("watchdog.heartbeat = \"999ms\"", "999ms is too short, the least is 1s", "\"0s\" to watch nothing"),
    ("watchdog.heartbeat = 30", "30 has no unit", "\"30s\""),
    ("watchdog.request = \"500ms\"", "500ms is too short, the least is 1s", "\"0s\" to watch nothing"),
    ("watchdog.slow = \"99ms\"", "99ms is too short, the least is 100ms", "\"0s\" to watch nothing"),
    ("watchdog = { request = \"2s\", slow = \"2s\" }", "not below watchdog.request, 2s", "less than \"2s\""),
    ("recycle = 1000", "expected a table", "recycle"),
    ("recycle.requests = 1000000001", "outside", "0 to 1000000000"),
    ("recycle.requests = \"many\"", "expected a whole number", "requests = 10000"),
    ("recycle.jitter = 0.6", "0.6 is outside its limits, which are 0 and 0.5", "0 to 0.5"),
    ("recycle.jitter = -0.1", "-0.1 is outside", "0 to 0.5"),
    ("recycle.jitter = nan", "nan is outside", "0 to 0.5"),
    ("recycle.jitter = 0.0005", "0.0005 is finer than a thousandth", "jitter = 0.1"),
    ("recycle.jitter = \"10%\"", "expected a number, found text", "jitter = 0.1"),
    ("recycle.age = \"999ms\"", "999ms is too short, the least is 1s", "\"0s\" for any age"),
    ("recycle.age = 3600", "3600 has no unit", "\"3600s\""),
    ("recycle.rss = \"512MB\"", "\"512MB\" is not a size", "MiB"),
    ("recycle.rss = 4096", "4096 bytes are less than any worker needs, the least is 1MiB", "\"0\" for any size"),
    ("recycle.rss = -1", "-1 is outside", ""),
    ("recycle.rss = true", "expected a size, found true or false", "rss = \"512MiB\""),
    ("process.cwd = \"\"", "not a path", "\".\""),
    ("process.cwd = \"/etc/passwd\"", "not a directory", "name a directory"),
    ("process.nofile = 8", "8 is outside", "13 to"),
    ("process.user = \"no-such-user\"", "no user \"no-such-user\"", "getent passwd"),
    ("process.user = true", "expected a name or a number", "user = "),
    ("process.user = 4294967295", "too large", "name of a user"),
    ("process.user = 54321", "user 54321 is not in the user database", "group = "),
    ("process.group = \"no-such-group\"", "no group", "getent group"),
    ("process.groups = \"root\"", "expected a list", "[\"root\"]"),
    ("process.groups = [\"root\", \"no-such-group\"]", "no group", "getent group"),
    ("process.groups = [true]", "expected a name or a number", "groups = "),
    ("process.umask = \"0888\"", "\"777\"", "027"),
    ("process.umask = \"1777\"", "\"777\"", "027"),
    ("process.umask = 27", "expected text", "umask = \"027\""),
    ("process.nice = 20", "20 is outside its limits, which are -20 and 19", "-20 to 19"),
    ("process.nice = -21", "-21 is outside", "-20 to 19"),
    ("process.nice = \"low\"", "expected a whole number", "nice = "),
    ("process.no_new_privs = \"yes\"", "expected true or false", "no_new_privs = true"),
    ("process.limits = 3", "pool.a.process.limits: expected a table", "core = 0"),
    ("process.limits.cores = 0", "pool.a.process.limits.cores: there is no such limit", "`core`"),
    ("process.limits.speed = 0", "no such limit", "here can stand: as, core"),
    ("process.limits.nofile = 99", "no such limit", "process.nofile"),
    ("process.limits.nice = 3", "no such limit", "process.nice"),
    ("process.limits.core = -1", "-1 is outside", "0 to 1152921504606846976"),
    ("process.limits.core = true", "expected a size, found true or false", "2GiB"),
    ("process.limits.as = \"512MB\"", "\"512MB\" is not a size", "MiB"),
    ("process.limits.as = \"2097152TiB\"", "too large", "unlimited"),
    ("process.limits.as = \"16777216TiB\"", "more than there can be", "unlimited"),
    ("process.limits.cpu = 30", "30 has no unit", "\"30s\""),
    ("process.limits.cpu = \"0s\"", "too short", "1s"),
    ("process.limits.cpu = \"1s500ms\"", "a part of a second", "\"60s\""),
    ("process.limits.nproc = \"100\"", "expected a whole number, found text", "nproc = 100"),
    ("process.env_keep = \"PATH\"", "expected a list", "[\"PATH\"]"),
    ("process.env_keep = [\"\"]", "name of a variable", "RUST_LOG"),
    ("process.env_keep = [\"OSTLER_FDS\"]", "reserved", "remove it"),
    ("process.env = 3", "pool.a.process.env: expected a table", "RUST_LOG"),
    ("process.env.A = 3", "pool.a.process.env.A: expected text", "RUST_LOG"),
    ("process.env.\"\" = \"x\"", "name of a variable", "RUST_LOG"),
    ("process.env.\"A=B\" = \"x\"", "name of a variable", "RUST_LOG"),
    ("process.env.OSTLER_X = \"x\"", "reserved", "remove it"),
    ("process.env.A = \"\\u0000\"", "NUL", "remove"),
];

#[track_caller]
fn refuses(file: &str, message: &str, remedy: &str) {
    let mistakes = parse(file).expect_err(file);
    let found = mistakes.list().iter().any(|said| said.message.contains(message) && said.remedy.contains(remedy));
    assert!(found, "{file}\n{mistakes}");
    assert_eq!(mistakes.list().len(), 1, "one slip, one mistake:\n{mistakes}");
}

#[test]
fn each_slip_in_a_pool_is_refused_once_with_its_remedy() {
    for (line, message, remedy) in OF_A_POOL {
        refuses(&format!("[pool.a]\nlisten = [\"unix:/run/a\"]\n{line}\n"), message, remedy);
    }
}

#[test]
fn each_slip_outside_of_pools_is_refused_once_with_its_remedy() {
    let pool = "[pool.a]\nlisten = [\"unix:@a\"]\n";
    for (line, message, remedy) in [
        ("supervisor = 3", "supervisor: expected a table", "[supervisor]"),
        ("supervisor.control = \"unix:/run/c\"", "is an address", "\"/run/c\""),
        ("supervisor.control = \"\"", "no path", "write a path"),
        ("supervisor.stop_timeout = \"0s\"", "too short", "1ms"),
        ("supervisor.shutdown_delay = 5", "5 has no unit", "\"5s\""),
        ("supervisor.shutdown_delay = \"26s\"", "do not fit into supervisor.stop_timeout", "at most \"25s\""),
        ("supervisor.on_pool_failed = \"restart\"", "restart", "\"keep\""),
        ("supervisor.log.level = \"verbose\"", "none of", "\"trace\""),
        ("supervisor.log.file = \"logs/\"", "supervisor.log.file: \"logs/\" names a directory", "name of the file"),
        ("supervisor.log.file = \"/etc\"", "names a directory", "name of the file"),
        ("supervisor.log.file = \"\"", "no path", "write the path of a file"),
        ("supervisor.log.access = \"a\\u0000b\"", "NUL", "remove the"),
        ("supervisor.log = { file = \"a\", access = \"./a\" }", "cannot be the file of the log", "another path"),
        ("supervisor.log.access = true", "expected text", "access = "),
        ("supervisor.pid_file = \".\"", "names a directory", "name of the file"),
        ("supervisor.log = []", "expected a table, found a list", "[supervisor.log]"),
        ("since = 2020-01-01", "unknown key `since`", "supervisor, admin, pool"),
    ] {
        refuses(&format!("{line}\n{pool}"), message, remedy);
    }
    refuses("pool = 3", "pool: expected a table", "[pool.web]");
    refuses("pool = {}", "there is no pool", "[pool.web]");
    refuses("pool.a = 3", "pool.a: expected a table", "[pool.a]");
    refuses("[pools.a]\nlisten = [\"unix:@a\"]", "unknown key `pools`", "did you mean `pool`");
    refuses("[pool.a]\nlisten = []", "0 addresses", "1 to 32");
    refuses("[pool.a]\nlisten = \"unix:@a\"", "expected a list", "listen = [\"unix:@a\"]");
}

#[test]
fn each_limit_of_a_number_of_things_is_said() {
    let pools =
        |count: usize| (0..count).map(|n| format!("[pool.p{n}]\nlisten = [\"unix:@p{n}\"]\n")).collect::<String>();
    assert!(parse(&pools(64)).is_ok());
    refuses(&pools(65), "limit is 64", "second supervisor");
    let texts = |count: usize| (0..count).map(|n| format!("\"unix:@{n}\",")).collect::<String>();
    assert!(parse(&format!("[pool.a]\nlisten = [{}]", texts(32))).is_ok());
    refuses(&format!("[pool.a]\nlisten = [{}]", texts(33)), "33 addresses", "1 to 32");
    let pool = "[pool.a]\nlisten = [\"unix:@a\"]\n";
    refuses(&format!("{pool}command = [{}]", texts(1025)), "1025 words", "PROGRAM");
    refuses(&format!("{pool}command = [\"sh\", \"{}\"]", "x".repeat(131_072)), "131072 bytes", "file");
    refuses(&format!("{pool}queue.overflow.reply = \"{}\"", "x".repeat(4097)), "4097 bytes", "shorten");
    refuses(&format!("{pool}process.env.A = \"{}\"", "x".repeat(131_070)), "131072 bytes", "file");
    let env = |count: usize| (0..count).map(|n| format!("process.env.V{n} = \"\"\n")).collect::<String>();
    assert!(parse(&format!("{pool}{}", env(256))).is_ok());
    refuses(&format!("{pool}{}", env(257)), "limit is 256", "remove some");
    let stages = |count: usize| "[\"cat\"],".repeat(count);
    let pipeline = |count| format!("{pool}handoff = \"stdio\"\ncommand = [{}]", stages(count));
    assert!(parse(&pipeline(16)).is_ok());
    refuses(&pipeline(17), "17 commands, the limit is 16", "script");
    let names = |count: usize| (0..count).map(|n| format!("\"V{n}\",")).collect::<String>();
    assert!(parse(&format!("{pool}process.env_keep = [{}]", names(256))).is_ok());
    refuses(&format!("{pool}process.env_keep = [{}]", names(257)), "limit is 256", "remove some");
    let groups = |count: usize| (0..count).map(|n| format!("{n},")).collect::<String>();
    assert!(parse(&format!("{pool}process.groups = [{}]", groups(65_536))).is_ok());
    refuses(&format!("{pool}process.groups = [{}]", groups(65_537)), "limit is 65536", "remove some");
}
