//! What a reload brings about, and what it may not change.

use ostler_shared::PoolName;

use super::parse;
use crate::checked::Config;
use crate::{Plan, plan};

const OLD: &str = r#"
    [supervisor]
    control = "/run/a.sock"
    [pool.a]
    listen = ["unix:/run/web.sock"]
    [pool.b]
    listen = ["unix:@b"]
"#;

fn names(names: &[&str]) -> Vec<PoolName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn planned(new: &str, only: &[&str]) -> Result<Plan, Vec<String>> {
    plan(&parse(OLD).unwrap(), &parse(new).unwrap(), &names(only))
}

fn order(config: &Config) -> Vec<&str> {
    config.pools.iter().map(|pool| pool.name.as_str()).collect()
}

#[test]
fn everything_of_a_pool_may_change() {
    let new = OLD.replace("unix:/run/web.sock", "unix:/run/other.sock").replace(
        "[pool.b]",
        "workers = 9\nconcurrency = 7\nprefetch = 2\noutput = \"discard\"\nsocket.backlog = 7\nwatchdog.heartbeat = \"9s\"\n[pool.b]",
    );
    let plan = planned(&new, &[]).unwrap();
    assert_eq!(plan.config, parse(&new).unwrap());
    assert_eq!((plan.rolled, plan.added, plan.removed), (names(&["a", "b"]), vec![], vec![]));
    assert!(planned(&OLD.replace("control", "stop_timeout = \"9s\"\ncontrol"), &[]).is_ok());
}

#[test]
fn what_belongs_to_the_supervisor_may_not_change_but_its_log_may() {
    let other = "control = \"/run/c.sock\"\npid_file = \"/run/c.pid\"";
    let new = OLD.replace("control = \"/run/a.sock\"", other);
    assert_eq!(
        planned(&new, &[]).unwrap_err(),
        ["supervisor.control", "supervisor.pid_file"]
            .map(|path| format!("{path} cannot change by a reload: put it back, or restart ostler"))
    );
    let log = "log = { level = \"debug\", file = \"/var/log/ostler.log\", access = \"-\" }\ncontrol";
    assert!(planned(&OLD.replace("control", log), &[]).is_ok());
}

#[test]
fn pools_come_and_go_and_trade_places() {
    let plan = planned(&OLD.replace("[pool.b]", "[pool.c]"), &[]).unwrap();
    assert_eq!((plan.rolled, plan.added, plan.removed), (names(&["a"]), names(&["c"]), names(&["b"])));
    let swapped =
        "supervisor.control = \"/run/a.sock\"\n[pool.b]\nlisten = [\"unix:@b\"]\n[pool.a]\nlisten = [\"unix:@a\"]";
    assert_eq!(order(&planned(swapped, &[]).unwrap().config), ["b", "a"]);
}

#[test]
fn pools_that_are_not_named_stay_as_they_are() {
    let new = OLD.replace("[pool.b]", "workers = 9\n[pool.c]").replace("@b", "@c");
    let plan = planned(&new, &["a"]).unwrap();
    assert_eq!(order(&plan.config), ["a", "b"]);
    assert_eq!(plan.config.pools[0].workers.initial(), 9);
    assert_eq!((plan.rolled, plan.added, plan.removed), (names(&["a"]), vec![], vec![]));
    let plan = planned(&new, &["c", "b"]).unwrap();
    assert_eq!(order(&plan.config), ["a", "c"]);
    assert_ne!(plan.config.pools[0].workers.initial(), 9);
}

#[test]
fn a_pool_that_is_nowhere_cannot_be_reloaded() {
    let refused = planned(OLD, &["a", "d"]).unwrap_err();
    assert!(refused.len() == 1 && refused[0].contains("no pool d"), "{refused:?}");
}

#[test]
fn the_last_pool_cannot_be_reloaded_away() {
    let old = "[pool.a]\nlisten = [\"unix:@a\"]";
    let new = "[pool.b]\nlisten = [\"unix:@b\"]";
    let refused = plan(&parse(old).unwrap(), &parse(new).unwrap(), &names(&["a"])).unwrap_err();
    assert!(refused[0].contains("no pool would be left"), "{refused:?}");
}

#[test]
fn an_address_moves_only_between_pools_that_are_reloaded_together() {
    let traded =
        OLD.replace("unix:/run/web.sock", "unix:@x").replace("@b", "@x2").replace("\"unix:@x\"", "\"unix:@b\"");
    assert!(planned(&traded, &[]).is_ok());
    let refused = planned(&traded, &["a"]).unwrap_err();
    assert_eq!(refused, ["pool.a cannot have unix:@b, which pool.b has and keeps: reload b as well"]);
}
