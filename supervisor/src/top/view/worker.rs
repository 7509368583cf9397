//! Draws all about one worker.

use std::time::{SystemTime, UNIX_EPOCH};

use ostler_shared::scoreboard::content::{Death, LastExit};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::super::rows::WorkerRow;
use super::super::state::{Screen, Top};
use super::super::words::{bytes, count, length, or_unknown, plain, rate};
use super::{heading, lines, of_state};
use crate::deaths::signal_name;

pub(super) fn draw(frame: &mut Frame, area: Rect, top: &mut Top) {
    let Some(row) = top.chosen_worker() else { return };
    let all = about(top, &row);
    let page = usize::from(area.height);
    top.page = page;
    let Screen::Worker { from } = &mut top.screen else { return };
    *from = (*from).min(all.len().saturating_sub(page));
    let shown = all.into_iter().skip(*from).take(page).collect();
    lines(frame, area, shown);
}

fn about(top: &Top, row: &WorkerRow) -> Vec<Line<'static>> {
    let mut all = facts(row);
    let details = top.details.as_ref().filter(|details| {
        let subject = &details.subject;
        (&subject.pool, subject.slot, subject.id) == (&row.pool, row.slot, row.id)
    });
    if row.pid.is_some() {
        all.push(title("what it is doing, as /proc shows it"));
        match details {
            None => all.push(line("  …")),
            Some(details) if details.doing.is_empty() => all.push(line("  nobody can tell any more")),
            Some(details) => all.extend(details.doing.iter().map(|text| line(&format!("  {text}")))),
        }
    }
    all.push(title("deaths in this slot"));
    match details.map(|details| &details.deaths) {
        None => all.push(line("  …")),
        Some(Some(deaths)) if deaths.is_empty() => all.push(line("  none")),
        Some(Some(deaths)) => all.extend(deaths.iter().map(|text| line(&format!("  {text}")))),
        Some(None) => {
            all.push(line("  the supervisor does not tell; of the last ones that it published:"));
            all.extend(published(top, row));
        }
    }
    all.push(title("its slot's last lines of the log"));
    match details.map(|details| &details.lines) {
        None => all.push(line("  …")),
        Some(None) => all.push(line("  the supervisor does not tell")),
        Some(Some(lines)) if lines.is_empty() => all.push(line("  none")),
        Some(Some(lines)) => all.extend(lines.iter().map(|text| line(&format!("  {text}")))),
    }
    all
}

fn facts(row: &WorkerRow) -> Vec<Line<'static>> {
    let known = |text: Option<String>| text.unwrap_or_default();
    let for_long = known(row.state_for_ns.map(|ns| format!(" for {}", length(ns))));
    let mut all = vec![
        Line::styled(
            plain(&format!(
                "worker {} · {}{for_long} · id {} · pid {} · age {}",
                row.name(),
                row.state,
                or_unknown(row.id, |id| id.to_string()),
                or_unknown(row.pid, |pid| pid.to_string()),
                or_unknown(row.age_ns, length),
            )),
            of_state(&row.state),
        ),
        line(&format!(
            "  holds {} of {}, of these {} not claimed · oldest connection {} · longest request {}",
            or_unknown(row.held, count),
            row.capacity,
            or_unknown(row.in_mailbox, count),
            or_unknown(row.connection_ns, length),
            or_unknown(row.busy_ns, length),
        )),
        line(&format!(
            "  done {} · {}/s · memory {} · heartbeat {} · restarts of its slot {}",
            or_unknown(row.done, count),
            or_unknown(row.rate, rate),
            or_unknown(row.memory, bytes),
            or_unknown(row.heartbeat_ns, |ns| format!("{} ago", length(ns))),
            row.restarts,
        )),
    ];
    all.extend(
        row.last_exit.map(|(exit, ago)| line(&format!("  the one before ended {} ago: {}", length(ago), end(exit)))),
    );
    all.extend(row.says.as_ref().map(|says| line(&format!("  says: {says}"))));
    if !row.estimated.is_empty() {
        let ways = row.estimated.join(", ");
        all.push(line(&format!("  its figures are estimates: connections got out of sight ({ways})")));
    }
    all
}

/// What the scoreboard has of the slot's deaths.
fn published(top: &Top, row: &WorkerRow) -> Vec<Line<'static>> {
    let prefix = format!("{}/{}.", row.pool, row.slot);
    let deaths = top.history.content.iter().flat_map(|content| &content.deaths);
    let mut all: Vec<Line<'static>> =
        deaths.filter(|death| death.worker.starts_with(&prefix)).flat_map(death_lines).collect();
    if all.is_empty() {
        all.push(line("  none"));
    }
    all
}

fn death_lines(death: &Death) -> Vec<Line<'static>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let ago = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(death.at_unix_ms.saturating_mul(1_000_000));
    let exit = LastExit { code: death.code, signal: death.signal, at_ns: 0 };
    let why = death.cause.as_ref().map_or(String::new(), |cause| format!(" · {cause}"));
    let mut all = vec![line(&format!(
        "  {} ago · {} · pid {} · {} · age {} · lost {}{why}",
        length(ago),
        death.worker,
        death.pid,
        end(exit),
        length(death.age_ns),
        death.lost,
    ))];
    all.extend(death.last_word.as_ref().map(|word| line(&format!("    | {word}"))));
    all
}

fn end(exit: LastExit) -> String {
    match (exit.code, exit.signal) {
        (_, Some(signal)) => signal_name(signal),
        (Some(code), None) => format!("exit {code}"),
        (None, None) => "nobody knows how".to_owned(),
    }
}

fn title(text: &str) -> Line<'static> {
    Line::styled(text.to_owned(), heading())
}

fn line(text: &str) -> Line<'static> {
    Line::styled(plain(text), Style::new())
}
