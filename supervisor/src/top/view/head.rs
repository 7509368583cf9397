//! Says who is watched, how it is, and what is wrong.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::super::history::Mood;
use super::super::rows::PoolRow;
use super::super::state::Top;
use super::super::words::{count, length, plain};
use super::{bad, heading, of_state};

/// Most troubles that are listed.
const TROUBLES_MAX: usize = 3;

pub(super) fn lines(top: &Top) -> Vec<Line<'static>> {
    let mut lines = vec![supervisor(top)];
    lines.extend(mood(top).map(|text| Line::styled(text, bad())));
    lines.extend(top.history.blind.as_ref().map(|why| Line::styled(plain(why), bad())));
    let troubles = top.pools().iter().flat_map(troubles).collect::<Vec<_>>();
    let more = troubles.len().saturating_sub(TROUBLES_MAX);
    lines.extend(troubles.into_iter().take(TROUBLES_MAX).map(|text| Line::styled(text, bad())));
    lines.extend((more > 0).then(|| Line::styled(format!("! and {more} more"), bad())));
    lines
}

fn supervisor(top: &Top) -> Line<'static> {
    let Some(content) = &top.history.content else {
        return Line::styled("ostler · nobody has been seen here yet", heading());
    };
    let supervisor = &content.supervisor;
    let up_ns = top.history.instant_ns().saturating_sub(supervisor.started_at_ns);
    let (state, style) = match top.history.mood {
        Mood::Running | Mood::Unseen => (supervisor.state.to_string(), of_state(&supervisor.state)),
        Mood::Stopped { .. } => ("stopped".to_owned(), bad()),
        Mood::Gone { .. } => ("gone".to_owned(), bad()),
    };
    let facts = format!(
        " · up {} · deaths {} · reloads {} ok, {} undone · longest turn {}",
        length(up_ns),
        count(supervisor.deaths),
        count(supervisor.reloads_ok),
        count(supervisor.reloads_undone),
        length(supervisor.turns.longest_ns),
    );
    Line::from(vec![
        Span::styled(format!("ostler {} · pid {} · ", plain(&supervisor.version), supervisor.pid), heading()),
        Span::styled(plain(&state), style),
        Span::styled(facts, Style::new()),
    ])
}

/// What makes everything below it a thing of the past.
fn mood(top: &Top) -> Option<String> {
    let history = &top.history;
    let supervisor = history.content.as_ref().map(|content| &content.supervisor);
    let pid = supervisor.map_or(0, |supervisor| supervisor.pid);
    let since = |since_ns: u64| length(history.now_ns.saturating_sub(since_ns));
    let old = supervisor.map_or(0, |supervisor| history.now_ns.saturating_sub(supervisor.published_at_ns));
    match history.mood {
        Mood::Unseen | Mood::Running => None,
        Mood::Stopped { since_ns } => Some(format!(
            "! stopped for {}: workers serve on, nobody new is accepted; this is {} old (kill -CONT {pid})",
            since(since_ns),
            length(old)
        )),
        Mood::Gone { since_ns } => Some(format!(
            "! gone for {}: this is what it left; what comes back here is shown (ostler run)",
            since(since_ns)
        )),
    }
}

/// What the tables have no column for.
fn troubles(pool: &PoolRow) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(reason) = &pool.undone_because {
        let first = reason.lines().next().unwrap_or_default();
        troubles.push(plain(&format!("! {}: the last reload was undone: {first}", pool.name)));
    }
    if pool.stuck > 0 {
        let name = plain(&pool.name);
        troubles.push(format!("! {name}: stuck, and handed nothing for the time being: {} workers", pool.stuck));
    }
    if let (Some(in_line), Some(waits)) = (pool.in_line.filter(|length| *length > 0), pool.first_waits_ns) {
        let name = plain(&pool.name);
        troubles.push(format!("! {name}: {} wait in the line, the first for {}", count(in_line), length(waits)));
    }
    troubles
}
