//! Knows what whoever watches looks at: which screen, which row, what is typed, and what was answered.
//!
//! Pure: looks, keys and news in, effects out.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::arrange::Arrangement;
use super::details::{Details, Subject};
use super::errands::News;
use super::history::{History, Mood};
use super::keys::{Command, Step, command, is_interrupt};
use super::order::Order;
use super::rows::{self, PoolRow, WorkerRow};
use super::source::Glance;
use crate::control::protocol::ScaleTo;

/// Most letters of a filter, and most digits of a number of workers.
const FILTER_MAX: usize = 64;
const DIGITS_MAX: usize = 4;

/// What follows from a key, outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Leave,
    LookNow,
    Run(Order),
}

/// Which table the keys move in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Focus {
    Pools,
    #[default]
    Workers,
}

/// What is on the screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Screen {
    #[default]
    Tables,
    /// All about one worker, from this line on.
    Worker { from: usize },
    /// The keys.
    Help,
}

/// What is typed or asked, over whichever screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Prompt {
    #[default]
    None,
    Filter,
    Count {
        pool: String,
        digits: String,
    },
    Confirm(Order),
}

/// The last thing that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Plain(String),
    Bad(String),
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Top {
    pub(super) history: History,
    pub(super) arrangement: Arrangement,
    pub(super) focus: Focus,
    pub(super) screen: Screen,
    pub(super) prompt: Prompt,
    pub(super) message: Option<Message>,
    pub(super) details: Option<Details>,
    /// Rows that fit below each other, which the view says.
    pub(super) page: usize,
    /// The row that is chosen, by what it is and by where it was.
    worker: Option<(String, u32, Option<u64>)>,
    worker_at: usize,
    pool_at: usize,
}

impl Top {
    /// Takes in one look.
    pub(super) fn look(&mut self, glance: Glance) {
        self.history.take(glance);
        self.settle();
    }

    /// Takes in what came back from an errand.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::UnderWay(text) | News::Done(text) => self.message = Some(Message::Plain(text)),
            News::Failed(text) => self.message = Some(Message::Bad(text)),
            News::Found(details) => self.details = Some(*details),
        }
    }

    /// About whom more is wanted than is published.
    pub(super) fn wants_details(&self) -> Option<Subject> {
        match self.screen {
            Screen::Worker { .. } => {}
            Screen::Tables | Screen::Help => return None,
        }
        let row = self.chosen_worker()?;
        let pid = match self.history.mood {
            Mood::Running | Mood::Stopped { .. } => row.pid,
            // Nobody keeps the number for it any more.
            Mood::Unseen | Mood::Gone { .. } => None,
        };
        Some(Subject { pool: row.pool, slot: row.slot, id: row.id, pid })
    }

    pub(super) fn pools(&self) -> Vec<PoolRow> {
        rows::pools(&self.history)
    }

    pub(super) fn workers(&self) -> Vec<WorkerRow> {
        self.arrangement.apply(rows::workers(&self.history))
    }

    /// Where the chosen worker is among those that are shown.
    pub(super) fn worker_at(&self) -> usize {
        self.worker_at
    }

    pub(super) fn pool_at(&self) -> usize {
        self.pool_at
    }

    pub(super) fn chosen_worker(&self) -> Option<WorkerRow> {
        self.workers().into_iter().nth(self.worker_at)
    }

    /// The pool that an order is about: the one that is chosen, or the chosen worker's.
    pub(super) fn chosen_pool(&self) -> Option<PoolRow> {
        let pools = self.pools();
        match (self.focus, &self.screen) {
            (Focus::Pools, Screen::Tables | Screen::Help) => pools.into_iter().nth(self.pool_at),
            (Focus::Workers, _) | (Focus::Pools, Screen::Worker { .. }) => {
                let only = self.arrangement.pool.clone();
                let name = self.chosen_worker().map(|row| row.pool).or(only)?;
                pools.into_iter().find(|pool| pool.name == name)
            }
        }
    }

    /// What follows from a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Effect {
        if is_interrupt(key) {
            return Effect::Leave;
        }
        match std::mem::take(&mut self.prompt) {
            Prompt::None => command(key).map_or(Effect::Nothing, |command| self.obey(command)),
            Prompt::Filter => {
                self.type_filter(key);
                Effect::Nothing
            }
            Prompt::Count { pool, digits } => {
                self.type_count(key, pool, digits);
                Effect::Nothing
            }
            Prompt::Confirm(order) => self.confirm(key, order),
        }
    }

    fn obey(&mut self, command: Command) -> Effect {
        match command {
            Command::Leave => return Effect::Leave,
            Command::LookNow => return Effect::LookNow,
            Command::Back => self.back(),
            Command::Move(step) => self.step(step),
            Command::SwitchFocus => {
                self.focus = match self.focus {
                    Focus::Pools => Focus::Workers,
                    Focus::Workers => Focus::Pools,
                };
            }
            Command::Open => return self.open(),
            Command::NextOrder => self.rearrange(|arrangement| arrangement.step(1)),
            Command::LastOrder => self.rearrange(|arrangement| arrangement.step(-1)),
            Command::Turn => self.rearrange(Arrangement::turn),
            Command::Filter => self.prompt = Prompt::Filter,
            Command::Recycle => self.ask(|top| top.recycling()),
            Command::PauseOrResume => self.ask(|top| {
                let pool = top.chosen_pool()?;
                let name = pool.name;
                Some(if pool.state == "paused" { Order::Resume { pool: name } } else { Order::Pause { pool: name } })
            }),
            Command::More => self.ask(|top| top.scaling(ScaleTo::More(1))),
            Command::Fewer => self.ask(|top| top.scaling(ScaleTo::Fewer(1))),
            Command::Count => match self.chosen_pool() {
                Some(pool) => self.prompt = Prompt::Count { pool: pool.name, digits: String::new() },
                None => self.nothing_chosen(),
            },
            Command::Help => self.screen = Screen::Help,
        }
        Effect::Nothing
    }

    /// One step out, whatever one is in.
    fn back(&mut self) {
        match self.screen {
            Screen::Worker { .. } | Screen::Help => self.screen = Screen::Tables,
            Screen::Tables if !self.arrangement.filter.is_empty() => self.arrangement.filter.clear(),
            Screen::Tables => self.arrangement.pool = None,
        }
        self.message = None;
        self.settle();
    }

    fn open(&mut self) -> Effect {
        match (&self.screen, self.focus) {
            (Screen::Tables, Focus::Pools) => {
                self.arrangement.pool = self.pools().into_iter().nth(self.pool_at).map(|pool| pool.name);
                self.focus = Focus::Workers;
                self.settle();
            }
            (Screen::Tables, Focus::Workers) if self.chosen_worker().is_some() => {
                self.details = None;
                self.screen = Screen::Worker { from: 0 };
                return Effect::LookNow;
            }
            (Screen::Tables, Focus::Workers) | (Screen::Worker { .. } | Screen::Help, _) => {}
        }
        Effect::Nothing
    }

    fn step(&mut self, step: Step) {
        let page = self.page.max(1);
        let moved = |at: usize, last: usize| match step {
            Step::Up => at.saturating_sub(1),
            Step::Down => (at + 1).min(last),
            Step::PageUp => at.saturating_sub(page),
            Step::PageDown => (at + page).min(last),
            Step::First => 0,
            Step::Last => last,
        };
        match (&self.screen, self.focus) {
            // The view knows how many lines there are, and bounds it.
            (Screen::Worker { from }, _) => self.screen = Screen::Worker { from: moved(*from, usize::MAX) },
            (Screen::Tables, Focus::Pools) => self.pool_at = moved(self.pool_at, self.pools().len().saturating_sub(1)),
            (Screen::Tables, Focus::Workers) => {
                let rows = self.workers();
                self.worker_at = moved(self.worker_at, rows.len().saturating_sub(1));
                self.worker = rows.get(self.worker_at).map(identity);
            }
            (Screen::Help, _) => {}
        }
    }

    fn rearrange(&mut self, change: impl FnOnce(&mut Arrangement)) {
        change(&mut self.arrangement);
        self.settle();
    }

    /// Finds the chosen row again, in a table that has changed: the worker, else its successor in the slot, else whoever is
    /// at its place now.
    fn settle(&mut self) {
        let rows = self.workers();
        let found = self.worker.as_ref().and_then(|chosen| {
            let same = rows.iter().position(|row| identity(row) == *chosen);
            same.or_else(|| rows.iter().position(|row| (&row.pool, row.slot) == (&chosen.0, chosen.1)))
        });
        self.worker_at = found.unwrap_or(self.worker_at).min(rows.len().saturating_sub(1));
        self.worker = rows.get(self.worker_at).map(identity);
        self.pool_at = self.pool_at.min(self.pools().len().saturating_sub(1));
        if rows.is_empty() && matches!(self.screen, Screen::Worker { .. }) {
            self.screen = Screen::Tables;
        }
    }

    // ── what is typed and asked ─────────────────────────────────────────────────────────────────────────────────

    fn type_filter(&mut self, key: KeyEvent) {
        let filter = &mut self.arrangement.filter;
        match key.code {
            KeyCode::Enter => return self.settle(),
            KeyCode::Esc => {
                filter.clear();
                return self.settle();
            }
            KeyCode::Backspace => drop(filter.pop()),
            KeyCode::Char(letter) if is_typed(key) && filter.chars().count() < FILTER_MAX => filter.push(letter),
            _ => {}
        }
        self.prompt = Prompt::Filter;
        self.settle();
    }

    fn type_count(&mut self, key: KeyEvent, pool: String, mut digits: String) {
        match key.code {
            KeyCode::Esc => return,
            KeyCode::Enter => {
                match digits.parse() {
                    Ok(number) => {
                        self.prompt = Prompt::Confirm(Order::Scale { pool, to: ScaleTo::Exactly(number) });
                    }
                    Err(_) => self.message = Some(Message::Plain("no number was typed: nothing is changed".to_owned())),
                }
                return;
            }
            KeyCode::Backspace => drop(digits.pop()),
            KeyCode::Char(digit @ '0'..='9') if is_typed(key) && digits.len() < DIGITS_MAX => digits.push(digit),
            _ => {}
        }
        self.prompt = Prompt::Count { pool, digits };
    }

    fn ask(&mut self, order: impl FnOnce(&Top) -> Option<Order>) {
        match order(self) {
            Some(order) => self.prompt = Prompt::Confirm(order),
            None => self.nothing_chosen(),
        }
    }

    fn nothing_chosen(&mut self) {
        self.message = Some(Message::Plain("nothing is chosen that this could be done to".to_owned()));
    }

    /// Only `y` is a yes.
    fn confirm(&mut self, key: KeyEvent, order: Order) -> Effect {
        if matches!(key.code, KeyCode::Char('y' | 'Y')) && is_typed(key) {
            self.message = None;
            return Effect::Run(order);
        }
        self.message = Some(Message::Plain(format!("{}: not done", order.command())));
        Effect::Nothing
    }

    fn recycling(&self) -> Option<Order> {
        match (self.focus, &self.screen) {
            (Focus::Pools, Screen::Tables | Screen::Help) => {
                self.chosen_pool().map(|pool| Order::Recycle { pool: pool.name, slot: None })
            }
            (Focus::Workers, _) | (Focus::Pools, Screen::Worker { .. }) => {
                self.chosen_worker().map(|row| Order::Recycle { pool: row.pool, slot: Some(row.slot) })
            }
        }
    }

    fn scaling(&self, to: ScaleTo) -> Option<Order> {
        self.chosen_pool().map(|pool| Order::Scale { pool: pool.name, to })
    }
}

fn identity(row: &WorkerRow) -> (String, u32, Option<u64>) {
    (row.pool.clone(), row.slot, row.id)
}

fn is_typed(key: KeyEvent) -> bool {
    !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
