//! Names the environment by which a worker finds the supervisor.
//!
//! ```text
//! OSTLER_PROTOCOL=1            the protocol of the control channel
//! OSTLER_POOL=web              the pool
//! OSTLER_WORKER=3.7            slot.generation
//! OSTLER_FDS=control:4,region:5,gauges:6,doorbell:7
//!                              ostler's own descriptors by name; unknown names are ignored
//! OSTLER_TEMPLATE=1            this process is to load everything and to fork workers
//! ```
//! The mailbox is always descriptor 3 in a `pass` pool. Where workers accept for themselves (`listen`), the listeners are 3 and
//! above, as `LISTEN_FDS` counts them, ours come after them, and the mailbox is named: nothing comes in it but its end.
//!
//! ```text
//! LISTEN_FDS=2                 and LISTEN_PID, LISTEN_FDNAMES
//! OSTLER_FDS=control:5,region:6,gauges:7,doorbell:8,mailbox:9
//! ```
//! ostler's own admin server gets what is published as well: `board:8`.
//!
//! For an unmodified program (`accept`) the shim finds beside it:
//!
//! ```text
//! OSTLER_FDS=region:4,gauges:5,doorbell:6
//! OSTLER_MAILBOX=8:71234       device and inode of the mailbox, by which its copies are known
//! OSTLER_LISTENERS=0100…,…     the address of each listener of the pool: a struct sockaddr, in hexadecimal
//! OSTLER_DRAIN_SIGNAL=15       by which the program is asked to leave
//! ```

use std::os::fd::RawFd;

/// The protocol's number, decimal.
pub const PROTOCOL: &str = "OSTLER_PROTOCOL";
/// The pool's name.
pub const POOL: &str = "OSTLER_POOL";
/// `slot.generation`.
pub const WORKER: &str = "OSTLER_WORKER";
/// `name:number` pairs, separated by commas.
pub const FDS: &str = "OSTLER_FDS";

/// Present where a process is a template; its value is 1.
pub const TEMPLATE: &str = "OSTLER_TEMPLATE";

/// `device:inode` of the mailbox, decimal.
pub const MAILBOX: &str = "OSTLER_MAILBOX";
/// The addresses of the pool's listeners: `struct sockaddr` in hexadecimal, separated by commas.
pub const LISTENERS: &str = "OSTLER_LISTENERS";
/// The signal by which an unmodified program is asked to leave, decimal.
pub const DRAIN_SIGNAL: &str = "OSTLER_DRAIN_SIGNAL";

/// Where connections come from.
pub const MAILBOX_FD: RawFd = 3;
/// The control channel, as the supervisor lays it out; a worker reads `OSTLER_FDS` instead of assuming it.
pub const CONTROL_FD: RawFd = 4;
/// The shared memory that the worker writes.
pub const REGION_FD: RawFd = 5;
/// The shared memory that the supervisor writes; a worker can't map it for writing.
pub const GAUGES_FD: RawFd = 6;
/// The eventfd by which a worker wakes a waiting supervisor.
pub const DOORBELL_FD: RawFd = 7;

/// The value of `OSTLER_FDS` for the layout above.
#[must_use]
pub fn fds() -> String {
    format!("control:{CONTROL_FD},region:{REGION_FD},gauges:{GAUGES_FD},doorbell:{DOORBELL_FD}")
}

/// How many listeners a worker got, decimal; they begin at [`MAILBOX_FD`] (sd_listen_fds(3)).
pub const LISTEN_FDS: &str = "LISTEN_FDS";

/// The value of `OSTLER_FDS` for a worker that accepts for itself, whose five descriptors of ours begin at `first`.
#[must_use]
pub fn fds_behind_listeners(first: RawFd) -> String {
    let [region, gauges, doorbell, mailbox] = [1, 2, 3, 4].map(|after| first + after);
    format!("control:{first},region:{region},gauges:{gauges},doorbell:{doorbell},mailbox:{mailbox}")
}

/// The same where what is published comes with them: for ostler's own admin server.
#[must_use]
pub fn fds_with_board(first: RawFd) -> String {
    format!("{},{BOARD}:{}", fds_behind_listeners(first), first + 5)
}

/// What the scoreboard is called in `OSTLER_FDS`.
pub const BOARD: &str = "board";

/// The value of `OSTLER_FDS` for an unmodified program, whose three descriptors of ours begin at `first`.
#[must_use]
pub fn fds_of_unmodified(first: RawFd) -> String {
    format!("region:{first},gauges:{},doorbell:{}", first + 1, first + 2)
}

/// Finds the descriptor called `name` in the value of `OSTLER_FDS`.
///
/// Returns `None` when it is not listed or its number is not a descriptor above 2.
#[must_use]
pub fn fd_named(fds: &str, name: &str) -> Option<RawFd> {
    fds.split(',')
        .filter_map(|pair| pair.split_once(':'))
        .find(|(key, _)| *key == name)
        .and_then(|(_, number)| number.parse().ok())
        .filter(|fd| *fd > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_found_by_its_name_among_unknown_ones() {
        assert_eq!(fd_named("control:4", "control"), Some(4));
        assert_eq!(fd_named("later:9,control:5,doorbell:6", "control"), Some(5));
    }

    #[test]
    fn the_layout_names_every_descriptor() {
        for (name, number) in [("control", 4), ("region", 5), ("gauges", 6), ("doorbell", 7)] {
            assert_eq!(fd_named(&fds(), name), Some(number));
        }
    }

    #[test]
    fn behind_listeners_the_mailbox_is_named_too() {
        let fds = fds_behind_listeners(6);
        let found = ["control", "region", "gauges", "doorbell", "mailbox"].map(|name| fd_named(&fds, name));
        assert_eq!(found, [Some(6), Some(7), Some(8), Some(9), Some(10)]);
        let with_board = fds_with_board(6);
        assert_eq!(["mailbox", BOARD].map(|name| fd_named(&with_board, name)), [Some(10), Some(11)]);
    }

    #[test]
    fn what_is_absent_or_no_descriptor_is_not_found() {
        for fds in ["", "control", "control:", "control:x", "control:-1", "control:1", "gauges:4"] {
            assert_eq!(fd_named(fds, "control"), None, "{fds:?}");
        }
    }
}
