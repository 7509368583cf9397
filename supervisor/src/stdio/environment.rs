//! Tells the processes of a connection who is at its other end, by the names that such programs know.
//!
//! `PROTO` and the names with `TCP` and `UNIX` are those of tcpserver, unixserver and their kin, `REMOTE_ADDR` and `REMOTE_PORT`
//! those of systemd's `Accept=yes`. What can't be known is absent, and never somebody else's: a variable of one of these names
//! that this process was started with itself is not passed on.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net;

use ostler_worker::{Connection, Stream};

/// What speaks of one connection.
const OF_A_CONNECTION: [&str; 16] = [
    "PROTO",
    "TCPLOCALIP",
    "TCPLOCALPORT",
    "TCPREMOTEIP",
    "TCPREMOTEPORT",
    "UNIXLOCALPATH",
    "UNIXREMOTEPATH",
    "UNIXREMOTEPID",
    "UNIXREMOTEEUID",
    "UNIXREMOTEEGID",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "OSTLER_CONNECTION",
    "OSTLER_LISTENER",
    "OSTLER_STAGE",
    "OSTLER_STAGES",
];

/// What is between the supervisor and its worker.
const OF_A_WORKER: [&str; 2] = ["OSTLER_FDS", "OSTLER_PROTOCOL"];

/// `NAME=value` for a process of this connection, all but its stage.
pub(super) fn of(connection: &Connection) -> Vec<OsString> {
    let inherited = std::env::vars_os().filter(|(name, _)| {
        let is_ours = |ours: &&str| name == *ours;
        !OF_A_CONNECTION.iter().any(is_ours) && !OF_A_WORKER.iter().any(is_ours)
    });
    let mut variables: Vec<OsString> = inherited.map(|(name, value)| variable(&name, &value)).collect();
    let mut add = |name: &str, value: &OsStr| variables.push(variable(OsStr::new(name), value));
    let ticket = connection.ticket();
    add("OSTLER_CONNECTION", OsStr::new(&ticket.conn.to_string()));
    add("OSTLER_LISTENER", OsStr::new(&ticket.listener.to_string()));
    match connection.stream() {
        Stream::Tcp(stream) => {
            let (local, remote) = (stream.local_addr().ok(), stream.peer_addr().ok());
            of_tcp(local, remote).for_each(|(name, value)| add(name, OsStr::new(&value)));
        }
        Stream::Unix(stream) => {
            add("PROTO", OsStr::new("UNIX"));
            let (local, remote) = (stream.local_addr().ok(), stream.peer_addr().ok());
            if let Some(path) = local.as_ref().and_then(name_of) {
                add("UNIXLOCALPATH", &path);
            }
            // Most clients have none.
            if let Some(path) = remote.as_ref().and_then(name_of) {
                add("UNIXREMOTEPATH", &path);
                add("REMOTE_ADDR", &path);
            }
            if let Some(peer) = connection.peer() {
                add("UNIXREMOTEPID", OsStr::new(&peer.pid.to_string()));
                add("UNIXREMOTEEUID", OsStr::new(&peer.uid.to_string()));
                add("UNIXREMOTEEGID", OsStr::new(&peer.gid.to_string()));
            }
        }
    }
    variables
}

fn of_tcp(local: Option<SocketAddr>, remote: Option<SocketAddr>) -> impl Iterator<Item = (&'static str, String)> {
    let ip = |address: &SocketAddr| address.ip().to_canonical().to_string();
    let port = |address: &SocketAddr| address.port().to_string();
    let local = local.map(|local| [("TCPLOCALIP", ip(&local)), ("TCPLOCALPORT", port(&local))]);
    let remote = remote.map(|remote| {
        let names = [("TCPREMOTEIP", ip(&remote)), ("TCPREMOTEPORT", port(&remote))];
        [names, [("REMOTE_ADDR", ip(&remote)), ("REMOTE_PORT", port(&remote))]].concat()
    });
    let proto = [("PROTO", "TCP".to_owned())];
    proto.into_iter().chain(local.into_iter().flatten()).chain(remote.into_iter().flatten())
}

/// A path, or `@` and an abstract name.
fn name_of(address: &net::SocketAddr) -> Option<OsString> {
    use std::os::linux::net::SocketAddrExt;
    let by_path = address.as_pathname().map(|path| path.as_os_str().to_owned());
    by_path.or_else(|| Some(OsString::from_vec([b"@", address.as_abstract_name()?].concat())))
}

/// The environment of a stage, counted from 1.
pub(super) fn of_stage(variables: &[OsString], stage: usize, of: usize) -> io::Result<Vec<CString>> {
    let own = [("OSTLER_STAGE", stage), ("OSTLER_STAGES", of)];
    let own = own.map(|(name, number)| variable(OsStr::new(name), OsStr::new(&number.to_string())));
    // What has a NUL in it, which only an abstract name can, is no variable.
    let fit = variables.iter().chain(&own).filter(|variable| !variable.as_bytes().contains(&0));
    fit.map(|variable| Ok(CString::new(variable.as_bytes())?)).collect()
}

fn variable(name: &OsStr, value: &OsStr) -> OsString {
    OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_over_ipv6_that_is_one_of_ipv4_is_told_as_that() {
        let address: SocketAddr = "[::ffff:10.0.0.7]:80".parse().unwrap();
        let told: Vec<_> = of_tcp(None, Some(address)).collect();
        assert!(told.contains(&("REMOTE_ADDR", "10.0.0.7".to_owned())), "{told:?}");
        assert!(told.iter().all(|(name, _)| !name.starts_with("TCPLOCAL")), "{told:?}");
        assert!(told.iter().all(|(name, _)| OF_A_CONNECTION.contains(name)), "{told:?}");
    }

    #[test]
    fn a_stage_is_told_which_one_it_is_and_nothing_with_a_nul() {
        let variables = of_stage(&["A=b".into(), "C=\0".into()], 2, 3).unwrap();
        let variables: Vec<_> = variables.iter().map(|variable| variable.to_str().unwrap()).collect();
        assert_eq!(variables, ["A=b", "OSTLER_STAGE=2", "OSTLER_STAGES=3"]);
    }
}
