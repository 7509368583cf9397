//! Lays out a table in the width that there is: what matters less gives way first.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Between two columns.
const GAP: usize = 1;
/// Before the first: where the chosen row is marked.
const MARK: &str = "› ";
const NO_MARK: &str = "  ";

/// One column of a table of `Row`s.
pub(super) struct Column<Row> {
    pub(super) title: &'static str,
    /// In columns of the terminal; the first column of a table takes what is left as well.
    pub(super) width: usize,
    pub(super) side: Side,
    /// The larger, the sooner it gives way.
    pub(super) rank: u8,
    pub(super) cell: fn(&Row) -> (String, Style),
}

/// Where a cell leans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// How a row stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    /// Chosen, but the keys are in the other table.
    Kept,
    Chosen,
}

/// The columns that fit, each with its width.
pub(super) fn fitting<Row>(all: &'static [Column<Row>], room: usize) -> Vec<(&'static Column<Row>, usize)> {
    let mut kept: Vec<&Column<Row>> = all.iter().collect();
    let needed = |kept: &[&Column<Row>]| {
        MARK.chars().count() + kept.iter().map(|column| column.width + GAP).sum::<usize>() - GAP
    };
    while kept.len() > 1 && needed(&kept) > room {
        let least = kept.iter().enumerate().max_by_key(|(_, column)| column.rank).map_or(0, |(at, _)| at);
        kept.remove(least);
    }
    let left = room.saturating_sub(needed(&kept));
    let widths = kept.into_iter().enumerate();
    widths.map(|(at, column)| (column, column.width + if at == 0 { left.min(column.width) } else { 0 })).collect()
}

/// The titles.
pub(super) fn titles<Row>(columns: &[(&'static Column<Row>, usize)], style: Style) -> Line<'static> {
    let cells = columns.iter().map(|(column, width)| fitted(column.title, *width, column.side));
    Line::styled(format!("{NO_MARK}{}", cells.collect::<Vec<_>>().join(" ")), style)
}

/// One row.
pub(super) fn row<Row>(
    columns: &[(&'static Column<Row>, usize)],
    row: &Row,
    mark: Mark,
    chosen: Style,
) -> Line<'static> {
    let (lead, whole) = match mark {
        Mark::None => (NO_MARK, Style::new()),
        Mark::Kept => (MARK, Style::new()),
        Mark::Chosen => (MARK, chosen),
    };
    let mut spans = vec![Span::raw(lead)];
    for (at, (column, width)) in columns.iter().enumerate() {
        let (text, style) = (column.cell)(row);
        // Reversed, a colour would be a block.
        let style = if whole == Style::new() { style } else { Style { fg: None, ..style } };
        let gap = if at + 1 < columns.len() { " " } else { "" };
        spans.push(Span::styled(fitted(&text, *width, column.side), style));
        spans.push(Span::raw(gap));
    }
    Line::from(spans).style(whole)
}

/// A text in exactly so many columns. Of a long one on the left its end stays, which tells workers apart.
fn fitted(text: &str, width: usize, side: Side) -> String {
    let length = text.chars().count();
    if length > width {
        let cut = length - width.saturating_sub(1);
        return std::iter::once('…').chain(text.chars().skip(cut)).take(width).collect();
    }
    match side {
        Side::Left => format!("{text:<width$}"),
        Side::Right => format!("{text:>width$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(row: &&str) -> (String, Style) {
        ((*row).to_owned(), Style::new())
    }

    static COLUMNS: [Column<&str>; 3] = [
        Column { title: "name", width: 6, side: Side::Left, rank: 0, cell },
        Column { title: "least", width: 5, side: Side::Right, rank: 9, cell },
        Column { title: "more", width: 5, side: Side::Right, rank: 1, cell },
    ];

    fn shown(room: usize) -> String {
        let columns = fitting(&COLUMNS, room);
        titles(&columns, Style::new()).to_string()
    }

    #[test]
    fn what_matters_least_gives_way_first_and_the_name_never() {
        assert_eq!(shown(20), "  name   least  more");
        assert_eq!(shown(24), "  name       least  more");
        assert_eq!(shown(19), "  name         more");
        assert_eq!(shown(9), "  name   ");
        assert_eq!(shown(0), "  name  ");
    }

    #[test]
    fn a_row_that_is_chosen_has_one_colour() {
        static RED: [Column<&str>; 1] = [Column {
            title: "name",
            width: 6,
            side: Side::Left,
            rank: 0,
            cell: |row| ((*row).to_owned(), Style::new().red().bold()),
        }];
        let columns = fitting(&RED, 20);
        let style = |mark| row(&columns, &"x", mark, Style::new().reversed()).spans[1].style;
        assert_eq!((style(Mark::Kept), style(Mark::Chosen)), (Style::new().red().bold(), Style::new().bold()));
    }

    #[test]
    fn a_cell_is_never_wider_than_its_column() {
        assert_eq!(fitted("a-long-name/12.3", 6, Side::Left), "…/12.3");
        assert_eq!(fitted("ab", 4, Side::Right), "  ab");
        assert_eq!(fitted("abc", 1, Side::Left), "…");
        let columns = fitting(&COLUMNS, 20);
        let line = row(&columns, &"a-long-name", Mark::Chosen, Style::new());
        assert_eq!(line.to_string(), "› …-name …name …name");
    }
}
