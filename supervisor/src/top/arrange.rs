//! Chooses which workers are shown, and in which order.
//!
//! Pure.

use std::cmp::Ordering;

use super::rows::WorkerRow;

/// What workers are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum By {
    #[default]
    Name,
    State,
    Load,
    Rate,
    Done,
    Memory,
    Age,
    Restarts,
    Connection,
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Direction {
    #[default]
    Up,
    Down,
}

/// What is shown of the workers, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Arrangement {
    pub(super) by: By,
    pub(super) direction: Direction,
    /// Words that a row has to have, all of them, in its name, state or pid.
    pub(super) filter: String,
    /// The only pool that is shown, where one was chosen.
    pub(super) pool: Option<String>,
}

impl By {
    const ALL: [By; 9] =
        [By::Name, By::State, By::Load, By::Rate, By::Done, By::Memory, By::Age, By::Restarts, By::Connection];

    /// As it is called on the screen.
    pub(super) fn word(self) -> &'static str {
        match self {
            By::Name => "name",
            By::State => "state",
            By::Load => "load",
            By::Rate => "rate",
            By::Done => "done",
            By::Memory => "memory",
            By::Age => "age",
            By::Restarts => "restarts",
            By::Connection => "connection",
        }
    }

    /// The end that whoever sorts by this looks for: the largest figure, the first name.
    fn direction(self) -> Direction {
        match self {
            By::Name | By::State => Direction::Up,
            By::Load | By::Rate | By::Done | By::Memory | By::Age | By::Restarts | By::Connection => Direction::Down,
        }
    }
}

impl Arrangement {
    /// Sorts by what comes next, or before.
    pub(super) fn step(&mut self, steps: isize) {
        let here = By::ALL.iter().position(|by| *by == self.by).unwrap_or(0);
        let there = (here.cast_signed() + steps).rem_euclid(By::ALL.len().cast_signed());
        self.by = By::ALL[there.unsigned_abs()];
        self.direction = self.by.direction();
    }

    pub(super) fn turn(&mut self) {
        self.direction = match self.direction {
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        };
    }

    /// Whether anybody is left out.
    pub(super) fn hides(&self) -> bool {
        self.pool.is_some() || !self.filter.trim().is_empty()
    }

    /// Those that are shown, sorted; equals stay as they are.
    pub(super) fn apply(&self, mut rows: Vec<WorkerRow>) -> Vec<WorkerRow> {
        rows.retain(|row| self.shows(row));
        match (self.by, self.direction) {
            // As they come: by pool, in the order of the configuration, and slot.
            (By::Name, Direction::Up) => {}
            (By::Name, Direction::Down) => rows.reverse(),
            (by, direction) => rows.sort_by(|a, b| compare(by, direction, a, b)),
        }
        rows
    }

    fn shows(&self, row: &WorkerRow) -> bool {
        let text = format!("{} {} {}", row.name(), row.state, row.pid.map_or_else(String::new, |pid| pid.to_string()));
        let text = text.to_lowercase();
        self.pool.as_ref().is_none_or(|pool| *pool == row.pool)
            && self.filter.to_lowercase().split_whitespace().all(|word| text.contains(word))
    }
}

fn compare(by: By, direction: Direction, a: &WorkerRow, b: &WorkerRow) -> Ordering {
    match by {
        By::Name => Ordering::Equal,
        By::State => directed(direction, a.state.cmp(&b.state)),
        By::Load => known(direction, a.held, b.held),
        By::Rate => known(direction, a.rate.map(Rated), b.rate.map(Rated)),
        By::Done => known(direction, a.done, b.done),
        By::Memory => known(direction, a.memory, b.memory),
        By::Age => known(direction, a.age_ns, b.age_ns),
        By::Restarts => directed(direction, a.restarts.cmp(&b.restarts)),
        By::Connection => known(direction, a.connection_ns, b.connection_ns),
    }
}

fn directed(direction: Direction, order: Ordering) -> Ordering {
    match direction {
        Direction::Up => order,
        Direction::Down => order.reverse(),
    }
}

/// What is not known comes last, whichever way it is turned.
fn known<T: Ord>(direction: Direction, a: Option<T>, b: Option<T>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => directed(direction, a.cmp(&b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

/// A rate, all of which can be compared.
#[derive(PartialEq)]
struct Rated(f64);

impl Eq for Rated {}

impl PartialOrd for Rated {
    fn partial_cmp(&self, other: &Rated) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rated {
    fn cmp(&self, other: &Rated) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::History;
    use super::super::rows::workers;
    use super::super::sample::{content, running};
    use super::*;

    fn names(arrangement: &Arrangement) -> Vec<String> {
        let mut history = History::default();
        history.take(running(content()));
        arrangement.apply(workers(&history)).iter().map(WorkerRow::name).collect()
    }

    #[test]
    fn figures_are_sorted_with_the_largest_first_and_unknown_ones_last() {
        let mut arrangement = Arrangement::default();
        assert_eq!(names(&arrangement), ["web/0.3", "web/1.3", "web/2.3", "api/0.3"]);
        let orders = [
            (By::State, ["web/2.3", "web/0.3", "web/1.3", "api/0.3"]),
            (By::Load, ["web/1.3", "web/0.3", "api/0.3", "web/2.3"]),
            (By::Memory, ["web/1.3", "web/0.3", "api/0.3", "web/2.3"]),
            (By::Age, ["web/1.3", "web/0.3", "api/0.3", "web/2.3"]),
            (By::Restarts, ["web/2.3", "web/0.3", "web/1.3", "api/0.3"]),
            (By::Connection, ["web/1.3", "web/0.3", "web/2.3", "api/0.3"]),
        ];
        for (by, expected) in orders {
            while arrangement.by != by {
                arrangement.step(1);
            }
            assert_eq!(names(&arrangement), expected, "{by:?}");
        }
        while arrangement.by != By::Memory {
            arrangement.step(-1);
        }
        arrangement.turn();
        assert_eq!(names(&arrangement), ["api/0.3", "web/0.3", "web/1.3", "web/2.3"], "turned, unknown still last");
    }

    #[test]
    fn names_can_be_turned_too() {
        let turned = Arrangement { direction: Direction::Down, ..Arrangement::default() };
        assert_eq!(names(&turned), ["api/0.3", "web/2.3", "web/1.3", "web/0.3"]);
    }

    #[test]
    fn stepping_goes_round() {
        let mut arrangement = Arrangement::default();
        arrangement.step(-1);
        assert_eq!((arrangement.by, arrangement.direction), (By::Connection, Direction::Down));
        arrangement.step(1);
        assert_eq!((arrangement.by, arrangement.direction), (By::Name, Direction::Up));
    }

    #[test]
    fn a_filter_is_words_of_name_state_or_pid() {
        let filtered = |filter: &str| names(&Arrangement { filter: filter.to_owned(), ..Arrangement::default() });
        assert_eq!(filtered("BACK"), ["web/2.3"]);
        assert_eq!(filtered("web ready"), ["web/0.3", "web/1.3"]);
        assert_eq!(filtered("102"), ["web/1.3"]);
        assert_eq!(filtered("  ").len(), 4);
        assert!(filtered("nobody").is_empty());
        let only = Arrangement { pool: Some("api".to_owned()), ..Arrangement::default() };
        assert_eq!(names(&only), ["api/0.3"]);
        assert!(only.hides() && !Arrangement::default().hides());
    }
}
