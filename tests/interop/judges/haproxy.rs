//! HAProxy: the counters of its statistics have to be 0, retries and failed health checks included.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::Command;

use ostler_tests::{Scratch, Target};

use super::front::{Front, STATISTICS};
use super::{Judge, POOLS, Way};
use crate::scenario::PATIENCE;

pub(super) const JUDGE: Judge = Judge { name: "HAProxy", version: || None, start, errors };

const CONFIG: &str = "
global
    nbthread 1
    stats socket unix@stats.sock mode 600 level user
defaults
    mode http
    timeout connect 20s
    timeout client 60s
    timeout server 60s
frontend front
    bind unix@front.sock
";

/// What it counts when a request was not served: connects that failed, answers of its own or of the server that tell of an
/// error, health checks that failed.
const FAILED: [&str; 6] = ["econ", "hrsp_1xx", "hrsp_4xx", "hrsp_5xx", "chkfail", "chkdown"];
/// What it counts when an attempt failed: answers that were none, servers that hung up, attempts that were repeated.
const ATTEMPTS: [&str; 4] = ["eresp", "srv_abrt", "wretr", "wredis"];
const SERVED: &str = "hrsp_2xx";

fn start(scratch: &Scratch) -> Front {
    let mut config = CONFIG.to_owned();
    for pool in POOLS {
        for way in Way::ALL.map(Way::name) {
            config += &format!("    use_backend {pool}-{way} if {{ path_beg /{pool}/{way}/ }}\n");
        }
    }
    for pool in POOLS {
        for way in Way::ALL {
            let options = match way {
                Way::Once => "option http-server-close\n    http-reuse never\n    retries 0",
                // A client's first request gets a connection of its own. With `always` it may be sent on an idle one, and if that
                // is just being closed, HAProxy answers 502.
                Way::Kept => "option http-keep-alive\n    http-reuse safe",
            };
            let way = way.name();
            config += &format!(
                "backend {pool}-{way}\n    {options}\n    http-request replace-path /{pool}/{way}/(.*) /\\1\n    \
                 server {pool} unix@{}/{pool}.sock check inter 200ms\n",
                scratch.dir().display(),
            );
        }
    }
    let path = scratch.write("haproxy.cfg", &config);
    Front::start(scratch, Command::new("haproxy").arg("-db").arg("-f").arg(path))
}

/// The sum of all that it counts against this pool, and of requests that it does not know of.
fn errors(front: &Front, pool: &str, way: Way, served: u64) -> u64 {
    let rows = statistics(front);
    let backend = format!("{pool}-{}", way.name());
    let of_pool: Vec<_> = rows.iter().filter(|row| row["pxname"] == backend).collect();
    assert_eq!(of_pool.len(), 2, "a server and its backend: {rows:#?}");
    let count = |row: &BTreeMap<String, String>, name: &str| -> u64 {
        let text = row.get(name).unwrap_or_else(|| panic!("HAProxy counts {name}: {row:?}"));
        if text.is_empty() { 0 } else { text.parse().expect("a count") }
    };
    let mut sum = 0;
    for row in &of_pool {
        let counts = |names: &[&'static str]| names.iter().map(|name| (*name, count(row, name))).collect::<Vec<_>>();
        let (failed, attempts) = (counts(&FAILED), counts(&ATTEMPTS));
        println!("HAProxy, {backend}, {}: {} served, {failed:?}, {attempts:?}", row["svname"], count(row, SERVED));
        let against = match way {
            Way::Once => [failed, attempts].concat(),
            Way::Kept => failed,
        };
        sum += against.iter().map(|(_, count)| count).sum::<u64>() + served.saturating_sub(count(row, SERVED));
    }
    sum
}

/// The lines of `show stat`, each by the names in the first.
fn statistics(front: &Front) -> Vec<BTreeMap<String, String>> {
    let socket = Target::Unix(front.scratch().path(STATISTICS));
    let mut stream = socket.connect(PATIENCE).expect("HAProxy answers");
    stream.write_all(b"show stat\n").expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers and closes");
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let names: Vec<&str> = lines.next().expect("names").trim_start_matches("# ").split(',').collect();
    lines
        .map(|line| {
            names.iter().zip(line.split(',')).map(|(name, cell)| ((*name).to_owned(), cell.to_owned())).collect()
        })
        .collect()
}
