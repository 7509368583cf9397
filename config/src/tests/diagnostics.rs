//! What is said about wrong files, word for word.

use super::parse;

/// Compares what is said about a file, but for the closing line, with what should be.
fn says(file: &str, expected: &str) {
    let mistakes = parse(file).expect_err("the file is wrong");
    let said = mistakes.to_string();
    let noun = if mistakes.list().len() == 1 { "mistake" } else { "mistakes" };
    let closing = format!("\n\nostler.toml: {} {noun}\n", mistakes.list().len());
    assert_eq!(said.strip_suffix(&closing), Some(expected.trim_matches('\n')), "said:\n{said}");
}

#[test]
fn a_misspelt_key_is_pointed_at() {
    says(
        r#"[pool.web]
listne = ["unix:@web"]
"#,
        r#"
error: unknown key `listne` in [pool.web]
 --> ostler.toml:2:1
  |
2 | listne = ["unix:@web"]
  | ^^^^^^ unknown key
  |
  = help: did you mean `listen`?
"#,
    );
}

#[test]
fn a_key_of_another_table_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
backlog = 128
"#,
        r#"
error: unknown key `backlog` in [pool.web]
 --> ostler.toml:3:1
  |
3 | backlog = 128
  | ^^^^^^^ unknown key
  |
  = help: there is `pool.web.socket.backlog`; did you mean that?
"#,
    );
}

#[test]
fn a_key_that_is_like_no_other_is_pointed_at() {
    says(
        r#"[supervisor]
colour = "blue"
[pool.web]
listen = ["unix:@web"]
"#,
        r#"
error: unknown key `colour` in [supervisor]
 --> ostler.toml:2:1
  |
2 | colour = "blue"
  | ^^^^^^ unknown key
  |
  = help: here can stand: control, stop_timeout, shutdown_delay, on_pool_failed, pid_file, log
"#,
    );
}

#[test]
fn a_pool_with_the_name_of_the_admin_server_is_pointed_at_only_where_there_is_one() {
    let pool = "[pool.admin]\nlisten = [\"unix:@web\"]\n";
    assert!(super::parse(pool).is_ok());
    says(
        &format!("[admin]\nlisten = \"unix:@admin\"\n{pool}"),
        r#"
error: pool.admin: "admin" is the name of the pool that [admin] makes
 --> ostler.toml:3:7
  |
3 | [pool.admin]
  |       ^^^^^ taken
  |
  = help: give this pool another name, or remove [admin]
"#,
    );
}

#[test]
fn an_admin_server_without_an_address_is_pointed_at() {
    says(
        r#"[admin]
[pool.web]
listen = ["unix:@web"]
"#,
        r#"
error: admin has no `listen`
 --> ostler.toml:1:2
  |
1 | [admin]
  |  ^^^^^ `listen` is missing
  |
  = help: add listen = "tcp:127.0.0.1:9901"
"#,
    );
}

#[test]
fn a_value_that_is_not_built_yet_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
handoff = "message"
"#,
        r#"
error: pool.web.handoff: "message" is not yet supported
 --> ostler.toml:3:11
  |
3 | handoff = "message"
  |           ^^^^^^^^^ not yet supported
  |
  = help: write "pass", "accept", "listen", "stdio", or remove it
"#,
    );
}

#[test]
fn a_range_of_workers_that_stands_on_its_head_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
workers = { min = 16, max = 2 }
"#,
        r#"
error: pool.web.workers.max: 2 is less than min, 16
 --> ostler.toml:3:29
  |
3 | workers = { min = 16, max = 2 }
  |                             ^ max must not be below min
  |
  = help: write max = 16 or more, or lower min
"#,
    );
}

#[test]
fn a_text_for_a_number_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
workers = "four"
"#,
        r#"
error: pool.web.workers: expected a whole number, found text
 --> ostler.toml:3:11
  |
3 | workers = "four"
  |           ^^^^^^ expected a whole number
  |
  = help: write it like this: workers = 4
"#,
    );
}

#[test]
fn a_number_outside_its_limits_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
workers = 5000
"#,
        r#"
error: pool.web.workers: 5000 is outside its limits, which are 1 and 4096
 --> ostler.toml:3:11
  |
3 | workers = 5000
  |           ^^^^ outside its limits
  |
  = help: write a number from 1 to 4096
"#,
    );
}

#[test]
fn a_number_below_its_limits_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
socket = { backlog = 0 }
"#,
        r#"
error: pool.web.socket.backlog: 0 is outside its limits, which are 1 and 65535
 --> ostler.toml:3:22
  |
3 | socket = { backlog = 0 }
  |                      ^ outside its limits
  |
  = help: write a number from 1 to 65535
"#,
    );
}

#[test]
fn a_duration_without_a_unit_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
queue.timeout = 10
"#,
        r#"
error: pool.web.queue.timeout: 10 has no unit
 --> ostler.toml:3:17
  |
3 | queue.timeout = 10
  |                 ^^ seconds? milliseconds?
  |
  = help: write a unit: "10s" (ms, s, m, h or d)
"#,
    );
}

#[test]
fn a_duration_of_zero_where_that_means_nothing_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
start.period = "0s"
"#,
        r#"
error: pool.web.start.period: "0s" is too short, the least is 1ms
 --> ostler.toml:3:16
  |
3 | start.period = "0s"
  |                ^^^^ too short
  |
  = help: write at least "1ms"
"#,
    );
}

#[test]
fn a_misspelt_word_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
dispatch = "least_loaded"
"#,
        r#"
error: pool.web.dispatch: "least_loaded" is none of "least-loaded", "round-robin"
 --> ostler.toml:3:12
  |
3 | dispatch = "least_loaded"
  |            ^^^^^^^^^^^^^^ unknown word
  |
  = help: did you mean "least-loaded"?
"#,
    );
}

#[test]
fn a_command_as_one_text_is_pointed_at() {
    says(
        r#"[pool.web]
command = "./app --flag"
listen = ["unix:@web"]
"#,
        r#"
error: pool.web.command: expected a list, found text
 --> ostler.toml:2:11
  |
2 | command = "./app --flag"
  |           ^^^^^^^^^^^^^^ expected a list
  |
  = help: write a list: command = ["./app", "--flag"]
"#,
    );
}

#[test]
fn an_empty_command_is_pointed_at() {
    says(
        r#"[pool.web]
command = []
listen = ["unix:@web"]
"#,
        r#"
error: pool.web.command: 0 words, the limits are 1 and 1024
 --> ostler.toml:2:11
  |
2 | command = []
  |           ^^ wrong number of words
  |
  = help: write ["PROGRAM", "ARGUMENT", …], or remove the key to host the built-in hello server
"#,
    );
}

#[test]
fn a_program_that_is_not_there_is_pointed_at() {
    says(
        r#"[pool.web]
command = ["./no-such-app"]
listen = ["unix:@web"]
"#,
        r#"
error: pool.web.command: there is no program /no-such-app
 --> ostler.toml:2:12
  |
2 | command = ["./no-such-app"]
  |            ^^^^^^^^^^^^^^^ not found
  |
  = help: check the path; a relative one is relative to the directory of the file
"#,
    );
}

#[test]
fn an_address_without_its_scheme_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["127.0.0.1:8080"]
"#,
        r#"
error: pool.web.listen: "127.0.0.1:8080" is not an address
 --> ostler.toml:2:11
  |
2 | listen = ["127.0.0.1:8080"]
  |           ^^^^^^^^^^^^^^^^ expected unix: or tcp:
  |
  = help: write "tcp:127.0.0.1:8080"
"#,
    );
}

#[test]
fn a_unix_path_that_is_too_long_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:/run/a-rather-long-name-a-rather-long-name-a-rather-long-name-a-rather-long-name-a-rather-long-name-12345.sock"]
"#,
        r#"
error: pool.web.listen: the path /run/a-rather-long-name-a-rather-long-name-a-rather-long-name-a-rather-long-name-a-rather-long-name-12345.sock has 110 bytes, the kernel takes at most 107
 --> ostler.toml:2:11
  |
2 | listen = ["unix:/run/a-rather-long-name-a-rather-long-name-a-rather-long-name-a-rather-long-name-a-rather-long-name-12345.sock"]
  |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ too long
  |
  = help: use a shorter path, such as one in /run
"#,
    );
}

#[test]
fn one_address_in_two_pools_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["tcp:127.0.0.1:8080"]

[pool.api]
listen = ["tcp:localhost:8080"]
"#,
        r#"
error: pool.api.listen: tcp:127.0.0.1:8080 clashes with tcp:127.0.0.1:8080 of pool.web.listen: the same address
 --> ostler.toml:5:11
  |
2 | listen = ["tcp:127.0.0.1:8080"]
  |           -------------------- first here
...
5 | listen = ["tcp:localhost:8080"]
  |           ^^^^^^^^^^^^^^^^^^^^ listened on twice
  |
  = help: remove one of the two
"#,
    );
}

#[test]
fn the_control_socket_on_a_listeners_path_is_pointed_at() {
    says(
        r#"[supervisor]
control = "/run/web.sock"
[pool.web]
listen = ["unix:/run/../run/web.sock"]
"#,
        r#"
error: supervisor.control: the control socket clashes with the listener unix:/run/../run/web.sock: the same path
 --> ostler.toml:2:11
  |
2 | control = "/run/web.sock"
  |           ^^^^^^^^^^^^^^^ taken by a pool
3 | [pool.web]
4 | listen = ["unix:/run/../run/web.sock"]
  |           --------------------------- a listener
  |
  = help: choose another path for one of them
"#,
    );
}

#[test]
fn a_pool_without_a_listener_is_pointed_at() {
    says(
        r#"[pool.web]
workers = 2
"#,
        r#"
error: pool.web has no `listen`
 --> ostler.toml:1:7
  |
1 | [pool.web]
  |       ^^^ `listen` is missing
  |
  = help: add listen = ["unix:/run/web.sock", "tcp:127.0.0.1:8080"]
"#,
    );
}

#[test]
fn a_file_without_a_pool_is_pointed_at() {
    says(
        r#"[supervisor]
stop_timeout = "9s"
"#,
        r#"
error: there is no pool
 --> ostler.toml:1:1
  |
1 | [supervisor]
  | ^ a pool is missing
  |
  = help: add [pool.web] with listen = ["unix:/run/web.sock", "tcp:127.0.0.1:8080"]
"#,
    );
}

#[test]
fn a_pool_with_a_wrong_name_is_pointed_at() {
    says(
        r#"[pool.Web]
listen = ["unix:@web"]
"#,
        r#"
error: pool.Web: "Web" is not a pool name: use 1 to 32 of a-z, 0-9, '_' and '-', beginning with a letter or digit
 --> ostler.toml:1:7
  |
1 | [pool.Web]
  |       ^^^ not a pool name
  |
  = help: write a name like [pool.web]
"#,
    );
}

#[test]
fn permissions_without_a_path_are_pointed_at() {
    says(
        r#"[pool.web]
listen = ["tcp:127.0.0.1:8080"]
socket.mode = "0660"
"#,
        r#"
error: pool.web.socket.mode: no effect: this pool listens on no unix:PATH
 --> ostler.toml:3:15
  |
3 | socket.mode = "0660"
  |               ^^^^^^ only a unix:PATH has this
  |
  = help: remove it, or listen on a unix:PATH
"#,
    );
}

#[test]
fn permissions_as_a_number_are_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:/run/web.sock"]
socket.mode = 0o660
"#,
        r#"
error: pool.web.socket.mode: expected text, found a whole number
 --> ostler.toml:3:15
  |
3 | socket.mode = 0o660
  |               ^^^^^ expected text
  |
  = help: write it like this: mode = "0660"
"#,
    );
}

#[test]
fn an_unknown_user_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:/run/web.sock"]
socket.owner = "no-such-user"
"#,
        r#"
error: pool.web.socket.owner: there is no user "no-such-user"
 --> ostler.toml:3:16
  |
3 | socket.owner = "no-such-user"
  |                ^^^^^^^^^^^^^^ unknown user
  |
  = help: create it, or choose one of `getent passwd`
"#,
    );
}

#[test]
fn a_wait_that_begins_above_its_end_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
start = { backoff = ["1m", "30s"] }
"#,
        r#"
error: pool.web.start.backoff: the wait begins at 1m, above its end of 30s
 --> ostler.toml:3:21
  |
3 | start = { backoff = ["1m", "30s"] }
  |                     ^^^^^^^^^^^^^ the first must not exceed the second
  |
  = help: swap them: ["30s", "1m"]
"#,
    );
}

#[test]
fn a_kill_after_the_end_of_the_stop_is_pointed_at() {
    says(
        r#"[supervisor]
stop_timeout = "3s"
[pool.web]
listen = ["unix:@web"]
"#,
        r#"
error: pool.web.drain.kill_after: 5s is longer than supervisor.stop_timeout, 3s
 --> ostler.toml:2:16
  |
2 | stop_timeout = "3s"
  |                ^^^^ no stop can be this patient
  |
  = help: write drain.kill_after = "3s" or less, or raise supervisor.stop_timeout
"#,
    );
}

#[test]
fn a_shutdown_delay_that_leaves_no_time_to_end_workers_is_pointed_at() {
    says(
        r#"[supervisor]
shutdown_delay = "28s"
[pool.web]
listen = ["unix:@web"]
"#,
        r#"
error: supervisor.shutdown_delay: 28s and drain.kill_after, 5s, do not fit into supervisor.stop_timeout, 30s
 --> ostler.toml:2:18
  |
2 | shutdown_delay = "28s"
  |                  ^^^^^ too long
  |
  = help: write at most "25s", or raise supervisor.stop_timeout
"#,
    );
}

#[test]
fn a_reply_that_is_never_sent_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
queue = { timeout = "0s", on_timeout = { reply = "busy" } }
"#,
        r#"
error: pool.web.queue.on_timeout: the reply would never be sent: with a timeout of 0s nobody waits too long
 --> ostler.toml:3:40
  |
3 | queue = { timeout = "0s", on_timeout = { reply = "busy" } }
  |                                        ^^^^^^^^^^^^^^^^^^ never sent
  |
  = help: remove it, or write a timeout, such as "10s"
"#,
    );
}

#[test]
fn a_share_per_user_of_a_pool_that_knows_no_users_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["tcp:127.0.0.1:8080"]
queue.per_uid = 10
"#,
        r#"
error: pool.web.queue.per_uid: no effect: this pool listens on TCP alone, where nobody knows the user of a client
 --> ostler.toml:3:17
  |
3 | queue.per_uid = 10
  |                 ^^ only Unix clients have a user
  |
  = help: remove it, or listen on unix:PATH or unix:@NAME
"#,
    );
}

#[test]
fn too_few_descriptors_are_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
concurrency = 100
process.nofile = 64
"#,
        r#"
error: pool.web.process.nofile: 64 descriptors are too few for 100 connections at a time
 --> ostler.toml:4:18
  |
4 | process.nofile = 64
  |                  ^^ too few
  |
  = help: write at least 112 (12 of its own, one for each connection)
"#,
    );
}

#[test]
fn a_reserved_variable_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
process.env = { NOTIFY_SOCKET = "/run/n" }
"#,
        r#"
error: pool.web.process.env.NOTIFY_SOCKET: NOTIFY_SOCKET is reserved
 --> ostler.toml:3:17
  |
3 | process.env = { NOTIFY_SOCKET = "/run/n" }
  |                 ^^^^^^^^^^^^^ reserved
  |
  = help: remove it: ostler sets it for each worker
"#,
    );
}

#[test]
fn a_working_directory_that_is_not_there_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
process.cwd = "/no/such/dir"
"#,
        r#"
error: pool.web.process.cwd: there is no directory /no/such/dir
 --> ostler.toml:3:15
  |
3 | process.cwd = "/no/such/dir"
  |               ^^^^^^^^^^^^^^ not found
  |
  = help: create it (mkdir -p /no/such/dir), or remove the key
"#,
    );
}

#[test]
fn a_text_without_quotes_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
output = capture
"#,
        r#"
error: not TOML: string values must be quoted, expected literal string
 --> ostler.toml:3:10
  |
3 | output = capture
  |          ^^^^^^^ not understood
  |
  = help: put texts into double quotes: "…"
"#,
    );
}

#[test]
fn a_key_said_twice_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"]
workers = 2
workers = 3
"#,
        r#"
error: not TOML: duplicate key
 --> ostler.toml:4:1
  |
4 | workers = 3
  | ^^^^^^^ said before
  |
  = help: keep one of them
"#,
    );
}

#[test]
fn a_list_that_is_not_closed_is_pointed_at() {
    says(
        r#"[pool.web]
listen = ["unix:@web"
workers = 2
concurrency = 1
"#,
        r#"
error: not TOML: missing comma between array elements, expected `,`
 --> ostler.toml:3:1
  |
3 | workers = 2
  | ^ the list goes wrong here
  |
  = help: put commas between the items of a list, and close it with ]
"#,
    );
}

#[test]
fn all_mistakes_of_a_file_are_said_at_once_from_top_to_bottom() {
    let file = r#"[supervisor]
stop_timeout = 30
pid_file = "/run/"

[pool.web]
listne = ["unix:@web"]
workers = 0
queue = { limit = "many", overflow = "explode" }
dispatch = least-loaded

[pool.api]
listen = ["tcp:127.0.0.1:8080", "udp:127.0.0.1:53"]
process = { nofile = 1, env = { OSTLER_POOL = "x" } }

[pool."no good"]
listen = ["tcp:localhost:8080"]
"#;
    let mistakes = parse(file).unwrap_err();
    let messages: Vec<&str> = mistakes.list().iter().map(|mistake| mistake.message.as_str()).collect();
    let expected = [
        "supervisor.stop_timeout: 30 has no unit",
        "supervisor.pid_file: \"/run/\" names a directory",
        "unknown key `listne` in [pool.web]",
        "pool.web.workers: 0 is outside its limits, which are 1 and 4096",
        "pool.web.queue.limit: expected a whole number, found text",
        "pool.web.queue.overflow: \"explode\" is none of \"wait\", \"close\"",
        "not TOML: string values must be quoted, expected literal string",
        "pool.api.listen: \"udp:127.0.0.1:53\" is not an address",
        "pool.api.process.nofile: 1 is outside its limits, which are 13 and 1073741824",
        "pool.api.process.env.OSTLER_POOL: OSTLER_POOL is reserved",
        "pool.no good: \"no good\" is not a pool name: use 1 to 32 of a-z, 0-9, '_' and '-', beginning with a letter or digit",
        "pool.no good.listen: tcp:127.0.0.1:8080 clashes with tcp:127.0.0.1:8080 of pool.api.listen: the same address",
    ];
    assert_eq!(messages, expected);
    let said = mistakes.to_string();
    for at in ["2:16", "3:12", "6:1", "7:11", "8:19", "8:38", "9:12", "12:33", "13:22", "13:33", "15:7", "16:11"] {
        assert!(said.contains(&format!("--> ostler.toml:{at}\n")), "{at} in\n{said}");
    }
    assert_eq!(said.matches("= help: ").count(), expected.len());
}
