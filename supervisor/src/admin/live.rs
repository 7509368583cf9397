//! Puts together what the page shows. Its form is the page's affair and may change with it; programs read `/status.json`.

use ostler_shared::scoreboard::Content;
use ostler_shared::sys::clock::monotonic_ns;
use serde_json::{Value, json};

use super::exposition::seconds;
use super::history::{History, SAMPLED_EVERY};
use crate::presence::Presence;
use crate::status::{Freshness, Status};

/// `pools` stand in the order of `status`, and have what that does not say.
pub(super) fn json(content: &Content, freshness: Freshness, presence: Presence, history: &History) -> String {
    let now_ns = monotonic_ns();
    let reloads = content.reloads.iter().rev().map(|reload| {
        let ago_s = seconds(now_ns.saturating_sub(reload.at_ns));
        json!({ "ago_s": ago_s, "outcome": reload.outcome, "verdict": reload.verdict })
    });
    let deaths = content.deaths.iter().rev().map(|death| {
        json!({
            "at_unix_ms": death.at_unix_ms, "worker": death.worker, "pid": death.pid, "code": death.code,
            "signal": death.signal, "cause": death.cause, "lost": death.lost, "age_s": seconds(death.age_ns),
            "last_word": death.last_word,
        })
    });
    let pools = content.pools.iter().map(|pool| {
        let first_waits_s = pool.first_in_line_at_ns.map(|at_ns| seconds(now_ns.saturating_sub(at_ns)));
        json!({ "first_waits_s": first_waits_s })
    });
    json!({
        "status": Status::of(content, freshness),
        "presence": word(presence),
        "sampled_every_s": SAMPLED_EVERY.as_secs(),
        "pools": pools.collect::<Vec<Value>>(),
        "history": history.to_json(),
        "reloads": reloads.collect::<Vec<Value>>(),
        "deaths": deaths.collect::<Vec<Value>>(),
    })
    .to_string()
}

fn word(presence: Presence) -> &'static str {
    match presence {
        // Traced is also who is held for a moment at each call.
        Presence::Running | Presence::Traced | Presence::Unknown => "running",
        Presence::Stopped => "stopped",
        Presence::Ended => "gone",
    }
}
