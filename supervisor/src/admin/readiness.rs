//! Judges whether everything is well: for load balancers and for whoever restarts what is dead.
//!
//! Healthy: the supervisor runs, and no pool was given up. Ready: new clients are welcome, at every pool of the users'. ostler's
//! own pool counts only where it is named: whoever gets an answer knows how it is.

use ostler_shared::scoreboard::Content;
use ostler_shared::scoreboard::content::Pool;

use super::metrics::is_own;
use crate::presence::Presence;

/// What there is to answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Well,
    /// Why not.
    NotWell(String),
    NoSuchPool,
}

/// Whether the supervisor and its pools are alive, or the pool of this name.
pub(super) fn health(content: &Content, presence: Presence, pool: Option<&str>) -> Verdict {
    judge(content, presence, pool, |pool| match pool.state.as_ref() {
        "failed" => Some(failed(pool)),
        _ => None,
    })
}

/// Whether new clients are welcome, at every pool or at the one of this name.
pub(super) fn readiness(content: &Content, presence: Presence, pool: Option<&str>) -> Verdict {
    if let "stopping" | "draining" = content.supervisor.state.as_ref() {
        return Verdict::NotWell(format!("the supervisor is {}", content.supervisor.state));
    }
    judge(content, presence, pool, |pool| match pool.state.as_ref() {
        "ready" | "degraded" => None,
        "failed" => Some(failed(pool)),
        other => Some(format!("pool {} is {other}", pool.name)),
    })
}

fn judge(
    content: &Content,
    presence: Presence,
    name: Option<&str>,
    ailment: impl Fn(&Pool) -> Option<String>,
) -> Verdict {
    let pools: Vec<&Pool> = match name {
        Some(name) => content.pools.iter().filter(|pool| pool.name == name).collect(),
        None => content.pools.iter().filter(|pool| !is_own(pool)).collect(),
    };
    if name.is_some() && pools.is_empty() {
        return Verdict::NoSuchPool;
    }
    match presence {
        Presence::Stopped => return Verdict::NotWell("the supervisor is stopped (SIGSTOP)".to_owned()),
        Presence::Ended => return Verdict::NotWell("the supervisor is gone".to_owned()),
        // A tracer that holds it for a moment at each call makes nobody unready.
        Presence::Running | Presence::Traced | Presence::Unknown => {}
    }
    let ailments: Vec<String> = pools.into_iter().filter_map(ailment).collect();
    if ailments.is_empty() { Verdict::Well } else { Verdict::NotWell(ailments.join("\n")) }
}

fn failed(pool: &Pool) -> String {
    format!("pool {} was given up: see `ostler deaths`", pool.name)
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::example;
    use super::*;

    fn in_state(supervisor: &'static str, pool: &'static str) -> Content {
        let mut content = example();
        content.supervisor.state = supervisor.into();
        content.pools[0].state = pool.into();
        content
    }

    #[test]
    fn clients_are_welcome_while_a_pool_serves_and_nothing_stops() {
        for (supervisor, pool, ready, healthy) in [
            ("running", "ready", true, true),
            ("reloading", "ready", true, true),
            ("running", "degraded", true, true),
            ("running", "starting", false, true),
            ("running", "paused", false, true),
            ("running", "draining", false, true),
            ("running", "stopped", false, true),
            ("running", "failed", false, false),
            ("stopping", "ready", false, true),
            ("draining", "ready", false, true),
        ] {
            let content = in_state(supervisor, pool);
            for name in [None, Some("web")] {
                let is_well = |verdict| verdict == Verdict::Well;
                assert_eq!(is_well(readiness(&content, Presence::Running, name)), ready, "{supervisor} {pool}");
                assert_eq!(is_well(health(&content, Presence::Running, name)), healthy, "{supervisor} {pool}");
            }
        }
    }

    #[test]
    fn a_supervisor_that_does_not_run_is_not_well_and_the_reason_is_said() {
        let content = in_state("running", "ready");
        for (presence, word) in [(Presence::Stopped, "SIGSTOP"), (Presence::Ended, "gone")] {
            for verdict in [health(&content, presence, None), readiness(&content, presence, None)] {
                assert!(matches!(verdict, Verdict::NotWell(why) if why.contains(word)));
            }
        }
    }

    #[test]
    fn our_own_pool_counts_where_it_is_named() {
        let mut content = in_state("running", "ready");
        content.pools[1].state = "failed".into();
        assert_eq!(readiness(&content, Presence::Running, None), Verdict::Well);
        assert!(matches!(readiness(&content, Presence::Running, Some("admin")), Verdict::NotWell(_)));
        assert_eq!(readiness(&content, Presence::Running, Some("nobody")), Verdict::NoSuchPool);
    }
}
