//! Draws the table of pools and that of workers.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;

use super::super::arrange::{By, Direction};
use super::super::rows::{PoolRow, TemplateRow, WorkerRow};
use super::super::state::{Focus, Top};
use super::super::words::{bytes, count, length, or_unknown, pair, plain, rate};
use super::columns::{Column, Mark, Side, fitting, row, titles};
use super::{bad, chosen, heading, lines, of_state};

/// Of the room for both tables, at most so much is for pools.
const POOLS_SHARE: u16 = 3;

static POOLS: [Column<PoolRow>; 10] = [
    Column { title: "pool", width: 10, side: Side::Left, rank: 0, cell: |row| text(plain(&row.name)) },
    Column { title: "state", width: 8, side: Side::Left, rank: 1, cell: |row| state(&row.state) },
    Column { title: "gen", width: 4, side: Side::Right, rank: 10, cell: |row| text(row.generation.to_string()) },
    Column {
        title: "ready",
        width: 7,
        side: Side::Right,
        rank: 2,
        cell: |row| text(format!("{}/{}", row.ready, row.target)),
    },
    Column {
        title: "load",
        width: 7,
        side: Side::Right,
        rank: 4,
        cell: |row| text(format!("{}/{}", or_unknown(row.held, count), count(row.capacity))),
    },
    Column { title: "line", width: 6, side: Side::Right, rank: 3, cell: |row| text(or_unknown(row.in_line, count)) },
    Column { title: "done/s", width: 6, side: Side::Right, rank: 6, cell: |row| text(or_unknown(row.rate, rate)) },
    Column {
        title: "wait 50/99",
        width: 11,
        side: Side::Right,
        rank: 7,
        cell: |row| text(or_unknown(row.wait, |told| pair(told.p50_ns, told.p99_ns))),
    },
    Column {
        title: "serve 50/99",
        width: 11,
        side: Side::Right,
        rank: 5,
        cell: |row| text(or_unknown(row.service, |told| pair(told.p50_ns, told.p99_ns))),
    },
    Column { title: "lost+shed", width: 9, side: Side::Right, rank: 9, cell: |row| gone(row) },
];

static WORKERS: [Column<WorkerRow>; 11] = [
    Column { title: "worker", width: 14, side: Side::Left, rank: 0, cell: |row| text(plain(&row.name())) },
    Column {
        title: "pid",
        width: 8,
        side: Side::Right,
        rank: 6,
        cell: |row| text(or_unknown(row.pid, |pid| pid.to_string())),
    },
    Column { title: "state", width: 8, side: Side::Left, rank: 1, cell: |row| state(&row.state) },
    Column {
        title: "load",
        width: 7,
        side: Side::Right,
        rank: 2,
        cell: |row| text(format!("{}/{}", or_unknown(row.held, count), row.capacity)),
    },
    Column { title: "done/s", width: 6, side: Side::Right, rank: 4, cell: |row| text(or_unknown(row.rate, rate)) },
    Column { title: "done", width: 6, side: Side::Right, rank: 10, cell: |row| text(or_unknown(row.done, count)) },
    Column { title: "memory", width: 7, side: Side::Right, rank: 5, cell: |row| text(or_unknown(row.memory, bytes)) },
    Column { title: "age", width: 5, side: Side::Right, rank: 8, cell: |row| text(or_unknown(row.age_ns, length)) },
    Column { title: "restarts", width: 8, side: Side::Right, rank: 7, cell: |row| restarts(row) },
    Column {
        title: "conn",
        width: 5,
        side: Side::Right,
        rank: 3,
        cell: |row| text(or_unknown(row.connection_ns, length)),
    },
    Column {
        title: "request",
        width: 7,
        side: Side::Right,
        rank: 9,
        cell: |row| text(or_unknown(row.busy_ns, length)),
    },
];

fn text(text: String) -> (String, Style) {
    (text, Style::new())
}

fn state(state: &str) -> (String, Style) {
    (plain(state), of_state(state))
}

fn restarts(row: &WorkerRow) -> (String, Style) {
    (row.restarts.to_string(), if row.restarts > 0 { bad() } else { Style::new() })
}

fn gone(row: &PoolRow) -> (String, Style) {
    let is_some = row.shed > 0 || row.lost.is_some_and(|lost| lost > 0);
    (format!("{}+{}", or_unknown(row.lost, count), count(row.shed)), if is_some { bad() } else { Style::new() })
}

pub(super) fn draw(frame: &mut Frame, area: Rect, top: &mut Top) {
    let pools = top.pools();
    let most = (area.height / POOLS_SHARE).max(2);
    let height = u16::try_from(pools.len() + 1).unwrap_or(u16::MAX).min(most);
    let [above, below] = Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(area);
    draw_pools(frame, above, top, &pools);
    draw_workers(frame, below, top);
}

fn draw_pools(frame: &mut Frame, area: Rect, top: &Top, pools: &[PoolRow]) {
    let columns = fitting(&POOLS, usize::from(area.width));
    let page = usize::from(area.height.saturating_sub(1));
    let first = first_shown(top.pool_at(), pools.len(), page);
    let mut shown = vec![titles(&columns, heading())];
    for (at, pool) in pools.iter().enumerate().skip(first).take(page) {
        shown.push(row(&columns, pool, mark(at == top.pool_at(), top.focus == Focus::Pools), chosen()));
    }
    lines(frame, area, shown);
}

fn draw_workers(frame: &mut Frame, area: Rect, top: &mut Top) {
    let workers = top.workers();
    let columns = fitting(&WORKERS, usize::from(area.width));
    let page = usize::from(area.height.saturating_sub(2));
    top.page = page;
    let first = first_shown(top.worker_at(), workers.len(), page);
    let mut shown = vec![caption(top, workers.len()), titles(&columns, heading())];
    for (at, worker) in workers.iter().enumerate().skip(first).take(page) {
        shown.push(row(&columns, worker, mark(at == top.worker_at(), top.focus == Focus::Workers), chosen()));
    }
    lines(frame, area, shown);
}

/// Which workers these are, and in which order.
fn caption(top: &Top, shown: usize) -> Line<'static> {
    let arrangement = &top.arrangement;
    let order = match (arrangement.by, arrangement.direction) {
        (By::Name, Direction::Up) => String::new(),
        (by, Direction::Up) => format!(" · by {} ↑", by.word()),
        (by, Direction::Down) => format!(" · by {} ↓", by.word()),
    };
    let pool = arrangement.pool.as_ref().map_or(String::new(), |pool| of_pool(top, pool));
    let filter = arrangement.filter.trim();
    let filter = if filter.is_empty() { String::new() } else { format!(" · with {}", plain(filter)) };
    let hidden = if arrangement.hides() { " (Esc: all)" } else { "" };
    Line::styled(format!("workers {shown}{pool}{filter}{order}{hidden}"), Style::new())
}

/// A pool by itself, with those that fork its workers.
fn of_pool(top: &Top, name: &str) -> String {
    let pool = top.pools().into_iter().find(|pool| pool.name == name);
    let templates = pool.map_or_else(Vec::new, |pool| pool.templates);
    let shown = templates.iter().map(|template| {
        let TemplateRow { generation, state, forked } = template;
        format!(" · template.{generation} {}, {} forked", plain(state), count(*forked))
    });
    std::iter::once(format!(" · of {}", plain(name))).chain(shown).collect()
}

fn mark(is_chosen: bool, has_keys: bool) -> Mark {
    match (is_chosen, has_keys) {
        (false, _) => Mark::None,
        (true, false) => Mark::Kept,
        (true, true) => Mark::Chosen,
    }
}

/// The first row of a page in whose middle the chosen one is, where there are enough on both sides.
fn first_shown(at: usize, rows: usize, page: usize) -> usize {
    at.saturating_sub(page / 2).min(rows.saturating_sub(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_row_is_always_on_the_page() {
        for (rows, page) in [(0, 0), (0, 5), (3, 5), (5, 5), (100, 7), (100, 1)] {
            for at in 0..rows {
                let first = first_shown(at, rows, page);
                assert!(first <= at && at < first + page && first + page.min(rows) <= rows, "{at} of {rows} by {page}");
            }
        }
    }
}
