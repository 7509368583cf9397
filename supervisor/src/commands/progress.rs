//! Shows how a reload goes while somebody waits for its verdict.
//!
//! On a terminal a line for each slot, drawn anew whenever something happens, and gone when the verdict is there: it says
//! all that is left to say. Elsewhere a plain line for each step, which scripts and logs keep.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::say;
use super::terminal::{self, Canvas, Size, Tone};
use crate::control::protocol::Progress;

/// How often the time that has passed is drawn anew, so that people see that somebody is there.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// What has been told of a reload so far, and what of it stands on the screen.
#[derive(Debug)]
pub(crate) struct Shown {
    canvas: Canvas,
    begun_at: Instant,
    tale: Tale,
    /// Lines on the screen that the next drawing replaces.
    drawn: usize,
}

impl Shown {
    pub(crate) fn on(canvas: Canvas) -> Shown {
        Shown { canvas, begun_at: Instant::now(), tale: Tale::default(), drawn: 0 }
    }

    /// Whether it has to be drawn anew although nothing happens.
    pub(crate) fn tick(&self) -> Option<Duration> {
        match self.canvas {
            Canvas::Plain => None,
            Canvas::Terminal(_) => Some(TICK),
        }
    }

    pub(crate) fn learn(&mut self, mut progress: Progress) {
        if let Progress::GoesBack { why } = &mut progress {
            // It may quote what a program said, and has one line here.
            *why = say::printable(why.lines().next().unwrap_or_default());
        }
        match self.canvas {
            Canvas::Plain => {
                if let Some(line) = line_about(&progress) {
                    say::complain_at_length(&format!("{line}\n"));
                }
            }
            Canvas::Terminal(_) => {
                self.tale.go_on(progress);
                self.draw();
            }
        }
    }

    pub(crate) fn draw(&mut self) {
        // Before there is something to tell, a short command would only flicker.
        if self.canvas == Canvas::Plain || self.tale.pools.is_empty() {
            return;
        }
        let lines = self.tale.lines(self.canvas, terminal::size_of_stderr(), self.begun_at.elapsed());
        say::complain_at_length(&format!(
            "{}{}",
            over(self.drawn),
            lines.iter().map(|line| format!("{line}\n")).collect::<String>()
        ));
        self.drawn = lines.len();
    }

    /// Takes away what was drawn: the verdict stands in its place.
    pub(crate) fn clear(&mut self) {
        if self.drawn > 0 {
            say::complain_at_length(&over(self.drawn));
            self.drawn = 0;
        }
    }
}

/// Moves to the first of so many lines and empties all that follows.
fn over(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\r\x1b[{lines}A\x1b[J") }
}

/// A step for people who read it later. That a worker starts is no news there: it is before it serves.
pub(crate) fn line_about(progress: &Progress) -> Option<String> {
    match progress {
        Progress::Begins { pool, generation, .. } => Some(format!("{pool}: generation {generation} begins")),
        Progress::Starts { .. } => None,
        Progress::Serves { pool, slot, generation, moved, of } => {
            Some(format!("{pool}/{slot}.{generation} serves ({moved} of {of})"))
        }
        Progress::GoesBack { why } => Some(format!("{why}; going back")),
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Tale {
    /// By name, in the order in which they began.
    pools: Vec<(String, Pool)>,
    /// Why it goes back.
    why: Option<String>,
}

#[derive(Debug)]
struct Pool {
    generation: u32,
    moved: u32,
    of: u32,
    /// Of those of which something was told.
    slots: BTreeMap<u32, Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    generation: u32,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Starts,
    Serves,
    /// It was about to change and does not.
    Stays,
    /// It has changed and is to change back.
    ToGoBack,
}

impl Tale {
    fn go_on(&mut self, progress: Progress) {
        match progress {
            Progress::Begins { pool, generation, slots } => {
                self.pools.push((pool, Pool { generation, moved: 0, of: slots, slots: BTreeMap::new() }));
            }
            Progress::Starts { pool, slot, generation } => {
                if let Some(pool) = self.pool(&pool) {
                    pool.slots.insert(slot, Slot { generation, step: Step::Starts });
                }
            }
            Progress::Serves { pool, slot, generation, moved, of } => {
                if let Some(pool) = self.pool(&pool) {
                    pool.slots.insert(slot, Slot { generation, step: Step::Serves });
                    (pool.moved, pool.of) = (moved, of);
                }
            }
            Progress::GoesBack { why } => {
                self.why = Some(why);
                for slot in self.pools.iter_mut().flat_map(|(_, pool)| pool.slots.values_mut()) {
                    slot.step = match slot.step {
                        Step::Starts | Step::Stays => Step::Stays,
                        Step::Serves | Step::ToGoBack => Step::ToGoBack,
                    };
                }
            }
        }
    }

    fn pool(&mut self, name: &str) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|(its, _)| its == name).map(|(_, pool)| pool)
    }

    /// As it is drawn: each slot where they all fit, else each pool, and of those as many as fit.
    fn lines(&self, canvas: Canvas, size: Size, elapsed: Duration) -> Vec<String> {
        // The cursor stands below the last one.
        let room = size.rows.saturating_sub(1).max(1);
        let slots: usize = self.pools.iter().map(|(_, pool)| pool.of as usize).sum();
        let whole = usize::from(self.why.is_some()) + self.pools.len() + slots;
        let mut lines = Vec::new();
        if let Some(why) = &self.why {
            lines.push((Tone::Bad, format!("{why}; going back")));
        }
        for (name, pool) in &self.pools {
            lines.push((Tone::Busy, self.about_pool(name, pool, elapsed)));
            if whole <= room {
                lines.extend((0..pool.of).map(|slot| self.about_slot(name, pool, slot)));
            }
        }
        lines.truncate(room);
        // A line that wraps would be two, and the next drawing would leave half of it.
        let cut = |text: &str| text.chars().take(size.columns.saturating_sub(1)).collect::<String>();
        lines.iter().map(|(tone, text)| canvas.paint(*tone, &cut(text))).collect()
    }

    fn about_pool(&self, name: &str, pool: &Pool, elapsed: Duration) -> String {
        let Pool { generation, moved, of, .. } = pool;
        let what = match &self.why {
            None => format!("{name}: generation {generation}, {moved} of {of} serve"),
            Some(_) => format!("{name}: back from generation {generation}, {moved} of {of} serve"),
        };
        format!("{what}, {}s", elapsed.as_secs())
    }

    fn about_slot(&self, name: &str, pool: &Pool, slot: u32) -> (Tone, String) {
        let (tone, worker, words) = match pool.slots.get(&slot) {
            Some(Slot { generation, step: Step::Starts }) => {
                (Tone::Busy, format!("{name}/{slot}.{generation}"), "starts")
            }
            Some(Slot { generation, step: Step::Serves }) => {
                (Tone::Good, format!("{name}/{slot}.{generation}"), "serves")
            }
            Some(Slot { step: Step::ToGoBack, .. }) => (Tone::Bad, format!("{name}/{slot}"), "is to go back"),
            Some(Slot { step: Step::Stays, .. }) => (Tone::Good, format!("{name}/{slot}"), "keeps its worker"),
            None if self.why.is_some() => (Tone::Good, format!("{name}/{slot}"), "keeps its worker"),
            None => (Tone::Busy, format!("{name}/{slot}"), "waits for its turn"),
        };
        (tone, format!("  {worker}  {words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { rows: 24, columns: 80 };
    const SEVEN: Duration = Duration::from_secs(7);

    fn begins(pool: &str, slots: u32) -> Progress {
        Progress::Begins { pool: pool.to_owned(), generation: 4, slots }
    }

    fn starts(slot: u32, generation: u32) -> Progress {
        Progress::Starts { pool: "web".to_owned(), slot, generation }
    }

    fn serves(slot: u32, generation: u32, moved: u32) -> Progress {
        Progress::Serves { pool: "web".to_owned(), slot, generation, moved, of: 3 }
    }

    fn goes_back() -> Progress {
        Progress::GoesBack { why: "it fails: worker web/1.4 ended".to_owned() }
    }

    fn tale(steps: impl IntoIterator<Item = Progress>) -> Tale {
        let mut tale = Tale::default();
        for step in steps {
            tale.go_on(step);
        }
        tale
    }

    #[test]
    fn each_slot_has_a_line() {
        let tale = tale([begins("web", 3), starts(0, 4), serves(0, 4, 1), starts(1, 4)]);
        let expected = [
            "web: generation 4, 1 of 3 serve, 7s",
            "  web/0.4  serves",
            "  web/1.4  starts",
            "  web/2  waits for its turn",
        ];
        assert_eq!(tale.lines(Canvas::Plain, SIZE, SEVEN), expected);
    }

    #[test]
    fn an_undo_shows_who_stays_and_who_goes_back() {
        let mut tale = tale([begins("web", 3), starts(0, 4), serves(0, 4, 1), starts(1, 4), goes_back()]);
        let expected = [
            "it fails: worker web/1.4 ended; going back",
            "web: back from generation 4, 1 of 3 serve, 7s",
            "  web/0  is to go back",
            "  web/1  keeps its worker",
            "  web/2  keeps its worker",
        ];
        assert_eq!(tale.lines(Canvas::Plain, SIZE, SEVEN), expected);
        tale.go_on(starts(0, 3));
        assert_eq!(tale.lines(Canvas::Plain, SIZE, SEVEN)[2], "  web/0.3  starts");
        tale.go_on(serves(0, 3, 3));
        assert_eq!(tale.lines(Canvas::Plain, SIZE, SEVEN)[2], "  web/0.3  serves");
    }

    #[test]
    fn what_does_not_fit_is_told_by_pool_and_no_line_wraps() {
        let tale = tale([begins("web", 3), begins("api", u32::MAX), serves(2, 4, 1)]);
        assert_eq!(tale.lines(Canvas::Plain, SIZE, SEVEN).len(), 2, "a line for each pool");
        let narrow = Size { rows: 2, columns: 10 };
        assert_eq!(tale.lines(Canvas::Plain, narrow, SEVEN), ["web: gene"]);
    }

    #[test]
    fn in_a_log_each_step_is_a_line() {
        let lines: Vec<String> =
            [begins("web", 3), starts(0, 4), serves(0, 4, 1), goes_back()].iter().filter_map(line_about).collect();
        let expected =
            ["web: generation 4 begins", "web/0.4 serves (1 of 3)", "it fails: worker web/1.4 ended; going back"];
        assert_eq!(lines, expected);
    }
}
