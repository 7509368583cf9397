//! Tells lies about connections in records that are records.

use ostler_shared::ConnId;
use ostler_shared::completion::{Completion, Outcome};
use ostler_shared::ring::Bell;
use ostler_shared::sys::fd::unread_bytes;
use ostler_shared::wire::ToSupervisor;
use ostler_tests::deadline::{SOON, wait_until};

use super::{Raw, answer};

/// What follows a lie about connections that nobody has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unclaimed {
    /// It leaves, and the truth comes out with its mailbox.
    Leave,
    /// It goes on like that.
    Stay,
}

impl Raw {
    pub(super) fn report_no_outcome(&self) {
        let Some((connection, ticket)) = self.take() else { return };
        answer(connection);
        let mut side = self.side.borrow_mut();
        side.completions.push(&[ticket.conn.0, 1, 2, 77]).expect("a ring has room for what was handed");
        if side.completions.publish() == Bell::Ring {
            self.ring();
        }
    }

    pub(super) fn complete_twice(&self) {
        self.serve_and(|conn| {
            self.complete(conn);
            self.complete(conn);
        });
    }

    /// Numbers are given over all pools, and nothing of ours was accepted before the oldest in the mailbox.
    pub(super) fn complete_the_one_before(&self) {
        self.complete(ConnId(self.peek().conn.0 - 1));
    }

    pub(super) fn report_unclaimed(&self, outcome: Outcome, then: Unclaimed) {
        let conn = self.peek().conn;
        self.report(&Completion { conn, outcome, claimed_at_ns: 1, done_at_ns: 2 });
        match then {
            Unclaimed::Leave => self.say(&ToSupervisor::Draining),
            Unclaimed::Stay => self.did_it(),
        }
    }

    pub(super) fn complete_what_was_recalled(&self) {
        let conn = self.peek().conn;
        wait_until(SOON, "the mailbox is emptied", || unread_bytes(self.mailbox()).is_ok_and(|bytes| bytes == 0));
        self.complete(conn);
    }
}
