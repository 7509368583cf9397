//! `[admin]` makes a pool of ostler's own, and takes nothing away from the others.

use std::path::Path;

use super::parse;
use crate::checked::{NewPrivileges, Owner, Program, Workers};
use crate::{Config, Flags, override_with, plan};

const WEB: &str = "[pool.web]\nlisten = [\"unix:@web\"]\n";

fn with_admin(pools: &str) -> Config {
    parse(&format!("[admin]\nlisten = \"tcp:127.0.0.1:9901\"\n{pools}")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn it_is_the_last_pool_and_has_one_worker_without_rights() {
    let config = with_admin(&format!("{WEB}[pool.zoo]\nlisten = [\"unix:@zoo\"]\n"));
    let names: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["web", "zoo", "admin"]);
    let owners: Vec<Owner> = config.pools.iter().map(crate::checked::Pool::owner).collect();
    assert_eq!(owners, [Owner::User, Owner::User, Owner::Ostler]);
    let admin = &config.pools[2];
    assert_eq!((&admin.program, admin.workers), (&Program::Admin, Workers::Fixed(1)));
    assert_eq!(admin.process.new_privileges, NewPrivileges::Never);
    let is_root = nix::unistd::geteuid().is_root();
    assert_eq!(admin.process.user.as_ref().map(|account| account.uid), is_root.then_some(65_534));
}

#[test]
fn its_address_is_apart_from_those_of_pools_and_of_the_control_socket() {
    for (control, address) in [("c", "unix:@web"), ("admin.sock", "unix:admin.sock"), ("c", "nowhere")] {
        let text = format!("[supervisor]\ncontrol = \"{control}\"\n[admin]\nlisten = \"{address}\"\n{WEB}");
        assert!(parse(&text).is_err(), "{text}");
    }
}

#[test]
fn it_stops_before_the_supervisor_loses_patience() {
    let text =
        format!("{WEB}drain.kill_after = \"1s\"\n[admin]\nlisten = \"unix:@a\"\n[supervisor]\nstop_timeout = \"2s\"\n");
    let config = parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config.pools[1].drain.kill_after, config.supervisor.stop_timeout);
}

#[test]
fn what_check_prints_of_it_parses_back() {
    let config = with_admin(WEB);
    let printed = config.to_toml();
    assert!(
        printed.contains("[admin]\nlisten = \"tcp:127.0.0.1:9901\"\n") && !printed.contains("pool.admin"),
        "{printed}"
    );
    assert_eq!(parse(&printed).unwrap_or_else(|mistakes| panic!("{mistakes}")), config);
}

#[test]
fn flags_of_a_pool_mean_the_other_one() {
    let flags = Flags { workers: Some(7), ..Flags::default() };
    let config = override_with(with_admin(WEB), &flags, Path::new("/")).unwrap();
    assert_eq!(
        config.pools.iter().map(|pool| pool.workers).collect::<Vec<_>>(),
        [Workers::Fixed(7), Workers::Fixed(1)]
    );
}

#[test]
fn a_reload_brings_it_takes_it_away_and_leaves_it_never_alone() {
    let (without, with) = (parse(WEB).unwrap(), with_admin(WEB));
    let names = |names: &[ostler_shared::PoolName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&plan(&without, &with, &[]).unwrap().added), ["admin"]);
    assert_eq!(names(&plan(&with, &without, &[]).unwrap().removed), ["admin"]);
    let other = parse("[pool.other]\nlisten = [\"unix:@web\"]\n").unwrap();
    let refused = plan(&with, &other, &["web".parse().unwrap()]).unwrap_err();
    assert!(refused.iter().any(|why| why.contains("no pool would be left")), "{refused:?}");
}
