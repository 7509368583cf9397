//! What `ostler check` prints is the configuration itself.

use std::time::Duration;

use proptest::prelude::*;

use super::{parse, parse_in};
use crate::checked::{
    AccessTo, Bound, Canary, Config, Dispatch, Farewell, Inherit, Jitter, Limit, LogFormat, LogLevel, NewPrivileges,
    OnPoolFailed, Output, Overflow, Process, Range, Recycle, Surge, Workers,
};
use crate::owner;

const BASE: &str = r#"
    [supervisor]
    control = "/run/ostler.sock"
    [pool.web]
    command = ["sh", "-c", "tab\t quote\" back\\ newline\n \u007f é"]
    listen = ["unix:./web.sock", "unix:@abstract \\ name", "tcp:localhost:8080", "tcp:[::1]:8080"]
    socket = { mode = "0640", owner = "root", group = 0 }
    queue = { on_timeout = { reply = "busy\r\n" }, overflow = { reply = "full" } }
    hooks = { ready = ["true"], exit = ["sh", "-c", "echo \"$OSTLER_EXIT\""], failed = ["/bin/sh"] }
    process = { cwd = ".", nofile = 1024, env = { RUST_LOG = "info", "odd name" = "a\"b" }, user = "root" }
    [pool.0]
    listen = ["unix:a"]
    [pool.lines]
    command = [["sed", "-u", "s/a/\"/"], ["/bin/cat"]]
    listen = ["unix:lines"]
    handoff = "stdio"
    drain = { signal = "INT" }
    [pool.line]
    command = ["cat"]
    listen = ["unix:line"]
    handoff = "stdio"
"#;

#[test]
fn the_effective_configuration_parses_back_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let config = parse_in(BASE, dir.path()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let again = parse_in(&config.to_toml(), dir.path()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config, again);
    assert_eq!(config.pools[0].name.as_str(), "web", "pools keep the order of the file");
}

prop_compose! {
    fn processes()(
        user in prop::sample::select(&["root", "54321"][..]),
        groups in prop::collection::btree_set(0..=70_000u32, 0..4),
        (group, umask, nice) in (0..=70_000u32, prop::option::of(0..=0o777u32), prop::option::of(-20..=19i32)),
        kept in prop::option::of(prop::collection::btree_set("[A-Z_ é\"\\\\.]{1,8}", 0..4)),
        limits in prop::collection::btree_map(prop::sample::select(&Limit::ALL[..]), bounds(), 0..4),
        never in any::<bool>(),
    ) -> Process {
        Process {
            user: Some(owner::account(user).unwrap()),
            group: Some(group),
            groups: Some(groups.into_iter().collect()),
            umask,
            nice,
            env_keep: kept.map_or(Inherit::Everything, Inherit::Only),
            limits,
            new_privileges: if never { NewPrivileges::Never } else { NewPrivileges::AsInherited },
            ..Process::inherited()
        }
    }
}

/// Of every unit: seconds are the fewest that can be said.
fn bounds() -> impl Strategy<Value = Bound> {
    prop_oneof![Just(Bound::Unlimited), (1..=31_536_000u64).prop_map(Bound::At)]
}

prop_compose! {
    fn varied()(
        level in prop::sample::select(&[LogLevel::Error, LogLevel::Warn, LogLevel::Debug, LogLevel::Trace][..]),
        format in prop::sample::select(&[LogFormat::Auto, LogFormat::Pretty, LogFormat::Json, LogFormat::Logfmt][..]),
        dispatch in prop::sample::select(&[Dispatch::LeastLoaded, Dispatch::RoundRobin][..]),
        output in prop::sample::select(&[Output::Capture, Output::Inherit, Output::Discard][..]),
        (workers, concurrency, limit, failures) in (1..=4096u32, 1..=65_536u32, 1..=1_048_576u32, 1..=10_000u32),
        ms in prop::collection::vec(1..=31_536_000_000u64, 8),
        (recycled, jitter, mib) in (0..=1_000_000_000u32, 0..=500u32, 0..=4096u64),
        heartbeat_ms in prop::sample::select(&[0, 1000, 90_000][..]),
        on_pool_failed in prop::sample::select(&[OnPoolFailed::Keep, OnPoolFailed::Exit][..]),
        reply in "\\PC{1,20}[\\x00-\\x1f]?",
        farewells in any::<(bool, u8)>(),
        env in prop::collection::btree_map("[A-Z_ é\"\\\\.]{1,8}", "[^\\x00]{0,20}", 0..4),
        (prefetch, recall_after_ms, share) in (0..=64u32, 1..=60_000u64, any::<u32>()),
        nofile in prop::option::of(70_000..=1_048_576u64),
        (surge, percent) in (1..=4096u32, prop::option::of(1..=100u32)),
        canary in prop::sample::select(&[Canary::Sent, Canary::Spared][..]),
        (least, idle_ms, target_delay_ms) in (prop::option::of(0..=4096u32), 1000..=31_536_000u64, 1..=60_000u64),
        process in processes(),
    ) -> Config {
        let mut config = parse(BASE).unwrap();
        let time = |at: usize| Duration::from_millis(ms[at]);
        config.supervisor.log.level = level;
        config.supervisor.log.format = format;
        config.supervisor.log.file = (percent > Some(50)).then(|| "/var/log/o \"st\".log".into());
        config.supervisor.log.access = match surge % 3 {
            0 => None,
            1 => Some(AccessTo::Output),
            _ => Some(AccessTo::File("/var/log/access".into())),
        };
        config.supervisor.pid_file = (surge % 2 == 0).then(|| "/run/ostler.pid".into());
        config.supervisor.stop_timeout = time(0).max(time(1)).max(Duration::from_secs(5));
        // With the drain.kill_after of any pool it fits.
        let spare_ms = ms[0].max(ms[1]).max(5000) - ms[1].max(5000);
        config.supervisor.shutdown_delay = Duration::from_millis(spare_ms / 2);
        config.supervisor.on_pool_failed = on_pool_failed;
        let pool = &mut config.pools[0];
        pool.reload.surge = percent.map_or(Surge::Workers(surge), Surge::Percent);
        (pool.reload.canary, pool.reload.probation) = (canary, time(7));
        (pool.concurrency, pool.dispatch, pool.output) = (concurrency, dispatch, output);
        let [idle, target_delay] = [idle_ms, target_delay_ms].map(Duration::from_millis);
        pool.workers = match least {
            None => Workers::Fixed(workers),
            Some(least) => Workers::Between(Range { min: least.min(workers), max: workers, idle, target_delay }),
        };
        (pool.prefetch, pool.recall_after) = (prefetch, Duration::from_millis(recall_after_ms));
        let patience = time(2).max(target_delay + Duration::from_millis(1));
        (pool.queue.limit, pool.queue.timeout, pool.queue.per_uid) = (limit, patience, share % (limit + 1));
        let reply = Farewell::Reply(reply);
        pool.queue.on_timeout = if farewells.0 { reply.clone() } else { Farewell::Close };
        pool.queue.overflow = match farewells.1 % 3 {
            0 => Overflow::Wait,
            1 => Overflow::Shed(Farewell::Close),
            _ => Overflow::Shed(reply),
        };
        (pool.start.ready_timeout, pool.start.settle, pool.start.period) = (time(3), time(4), time(5));
        (pool.start.backoff_min, pool.start.backoff_max) = (time(6).min(time(7)), time(6).max(time(7)));
        (pool.start.failures, pool.drain.timeout, pool.drain.kill_after) = (failures, time(0), time(1));
        pool.watchdog.heartbeat = Duration::from_millis(heartbeat_ms);
        (pool.watchdog.request, pool.watchdog.slow) = (pool.watchdog.heartbeat, pool.watchdog.heartbeat / 2);
        pool.recycle = Recycle { requests: recycled, jitter: Jitter::from_thousandths(jitter), age: Duration::from_millis(heartbeat_ms), rss: mib << 20 };
        pool.process = Process { env, nofile, ..process };
        config
    }
}

proptest! {
    #[test]
    fn any_configuration_parses_back_to_itself(config in varied()) {
        let again = parse(&config.to_toml());
        prop_assert_eq!(Ok(config), again);
    }
}
