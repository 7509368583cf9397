//! Says what somebody who watches may ask for, and how he is asked back.
//!
//! Pure. Each order is a request of the control protocol: what a command of the same name does, it does.

use crate::control::protocol::{Request, ScaleTo};

/// Something that changes what is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// Other workers in place of those that serve, in one slot or all of them.
    Recycle { pool: String, slot: Option<u32> },
    /// Drain all workers, and let clients wait.
    Pause { pool: String },
    /// The workers again.
    Resume { pool: String },
    /// Another number of workers.
    Scale { pool: String, to: ScaleTo },
}

impl Order {
    /// What is asked before it is done: what it will do, in words of its consequences.
    pub(super) fn question(&self) -> String {
        match self {
            Order::Recycle { pool, slot: Some(slot) } => format!("Replace the worker of {pool}/{slot} by a fresh one?"),
            Order::Recycle { pool, slot: None } => {
                format!("Replace all workers of {pool} that serve, one after another?")
            }
            Order::Pause { pool } => format!("Drain all workers of {pool} and let its clients wait?"),
            Order::Resume { pool } => format!("Start the workers of {pool} again?"),
            Order::Scale { pool, to: ScaleTo::Exactly(number) } => format!("Give {pool} {}?", workers(*number)),
            Order::Scale { pool, to: ScaleTo::More(more) } => format!("Give {pool} {} more?", workers(*more)),
            Order::Scale { pool, to: ScaleTo::Fewer(fewer) } => format!("Take {} away from {pool}?", workers(*fewer)),
        }
    }

    /// The command that does the same.
    pub(super) fn command(&self) -> String {
        match self {
            Order::Recycle { pool, slot: Some(slot) } => format!("recycle {pool}/{slot}"),
            Order::Recycle { pool, slot: None } => format!("recycle {pool}"),
            Order::Pause { pool } => format!("pause {pool}"),
            Order::Resume { pool } => format!("resume {pool}"),
            Order::Scale { pool, to: ScaleTo::Exactly(number) } => format!("scale {pool} {number}"),
            Order::Scale { pool, to: ScaleTo::More(more) } => format!("scale {pool} +{more}"),
            Order::Scale { pool, to: ScaleTo::Fewer(fewer) } => format!("scale {pool} -{fewer}"),
        }
    }

    /// What the supervisor is asked.
    pub(super) fn request(&self) -> Request {
        match self.clone() {
            Order::Recycle { pool, slot } => Request::Recycle { pool, slot },
            Order::Pause { pool } => Request::Pause { pool: Some(pool) },
            Order::Resume { pool } => Request::Resume { pool: Some(pool) },
            Order::Scale { pool, to } => Request::Scale { pool, change: to },
        }
    }
}

fn workers(number: u32) -> String {
    if number == 1 { "1 worker".to_owned() } else { format!("{number} workers") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_is_asked_back_in_words_and_is_a_command() {
        let pool = || "web".to_owned();
        let orders = [
            (Order::Recycle { pool: pool(), slot: Some(2) }, "Replace the worker of web/2", "recycle web/2"),
            (Order::Recycle { pool: pool(), slot: None }, "Replace all workers of web", "recycle web"),
            (Order::Pause { pool: pool() }, "Drain all workers of web", "pause web"),
            (Order::Resume { pool: pool() }, "Start the workers of web again", "resume web"),
            (Order::Scale { pool: pool(), to: ScaleTo::Exactly(1) }, "Give web 1 worker?", "scale web 1"),
            (Order::Scale { pool: pool(), to: ScaleTo::More(2) }, "Give web 2 workers more?", "scale web +2"),
            (Order::Scale { pool: pool(), to: ScaleTo::Fewer(1) }, "Take 1 worker away from web?", "scale web -1"),
        ];
        for (order, question, command) in orders {
            assert!(order.question().starts_with(question), "{}", order.question());
            assert_eq!(order.command(), command);
        }
        let request = Order::Pause { pool: pool() }.request();
        assert_eq!(request, Request::Pause { pool: Some(pool()) });
    }
}
