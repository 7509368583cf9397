//! Goes to the supervisor for whoever watches, on a thread for each errand, so that the screen waits for nobody.
//!
//! A supervisor may take as long for an order as for the command of the same name, and each shows how it goes. Who leaves does
//! not wait for the end: what was asked for goes on. A thread that panics takes the whole view with it, after the terminal was
//! given back.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::details::{Details, Subject, find_out};
use super::order::Order;
use crate::commands::progress::line_about;
use crate::control::client::ask_at;
use crate::control::protocol::Response;
use crate::exit::ExitCode;

/// Most errands at a time; for another one there has to be an end of one.
const ERRANDS_MAX: usize = 8;
/// Most news that wait to be heard. An errand with more to tell waits.
const NEWS_MAX: usize = 64;

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// How it goes.
    UnderWay(String),
    /// It is done.
    Done(String),
    /// It is not done, and why.
    Failed(String),
    /// All about a worker.
    Found(Box<Details>),
}

/// Everything that is under way.
#[derive(Debug)]
pub(super) struct Errands {
    control: PathBuf,
    sender: Sender<News>,
    receiver: Receiver<News>,
    running: Vec<JoinHandle<()>>,
    details: Option<JoinHandle<()>>,
}

impl Errands {
    /// To the supervisor with this control socket, or to the next one there.
    pub(super) fn to(control: PathBuf) -> Errands {
        let (sender, receiver) = bounded(NEWS_MAX);
        Errands { control, sender, receiver, running: Vec::new(), details: None }
    }

    /// Has an order carried out.
    pub(super) fn run(&mut self, order: Order) {
        if self.running.len() >= ERRANDS_MAX {
            let why = format!("{}: {ERRANDS_MAX} orders are under way already; wait for one to end", order.command());
            return self.tell(News::Failed(why));
        }
        let (control, news) = (self.control.clone(), self.sender.clone());
        match thread::Builder::new().name("order".into()).spawn(move || carry_out(control, &order, &news)) {
            Ok(thread) => self.running.push(thread),
            Err(error) => self.tell(News::Failed(format!("cannot start a thread: {error}"))),
        }
    }

    /// Has everything found out about a worker, unless that is being done.
    pub(super) fn ask_details(&mut self, subject: Subject) {
        if self.details.is_some() {
            return;
        }
        let (control, news) = (self.control.clone(), self.sender.clone());
        let find = move || send(&news, News::Found(Box::new(find_out(&control, subject))));
        match thread::Builder::new().name("details".into()).spawn(find) {
            Ok(thread) => self.details = Some(thread),
            Err(error) => self.tell(News::Failed(format!("cannot start a thread: {error}"))),
        }
    }

    /// What has come back since the last time.
    ///
    /// # Panics
    /// When an errand has.
    pub(super) fn news(&mut self) -> Vec<News> {
        let (ended, running) = std::mem::take(&mut self.running).into_iter().partition(JoinHandle::is_finished);
        self.running = running;
        let ended: Vec<JoinHandle<()>> = ended;
        let found = self.details.take_if(|thread| thread.is_finished());
        for thread in ended.into_iter().chain(found) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        self.receiver.try_iter().collect()
    }

    /// From this side, which must not wait for itself.
    fn tell(&self, news: News) {
        // With so much to hear, whoever watches does not miss this.
        let _told = self.sender.try_send(news);
    }
}

fn carry_out(control: PathBuf, order: &Order, news: &Sender<News>) {
    let command = order.command();
    send(news, News::UnderWay(format!("{command} …")));
    let end = match follow(&control, order, news) {
        Ok(text) => News::Done(format!("{command}: {text}")),
        Err(why) => News::Failed(format!("{command}: {why}")),
    };
    send(news, end);
}

fn follow(control: &Path, order: &Order, news: &Sender<News>) -> Result<String, String> {
    let mut answers = ask_at(control.to_owned(), &order.request()).map_err(|error| error.to_string())?;
    loop {
        match answers.next().map_err(|error| error.to_string())? {
            Response::Progress(progress) => {
                if let Some(line) = line_about(&progress) {
                    send(news, News::UnderWay(format!("{}: {line}", order.command())));
                }
            }
            Response::Done { text, exit } if exit == ExitCode::Done as u8 => return Ok(text),
            Response::Done { text, .. } => return Err(text),
            Response::Report(_) | Response::Lines(_) | Response::Missed(_) => {
                return Err("the supervisor answered another question than the one that was put".to_owned());
            }
        }
    }
}

fn send(news: &Sender<News>, one: News) {
    // Nobody watches any more.
    let _heard = news.send(one);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn an_order_that_nobody_takes_fails_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let mut errands = Errands::to(dir.path().join("control.sock"));
        errands.run(Order::Recycle { pool: "web".to_owned(), slot: None });
        let first = errands.receiver.recv_timeout(PATIENCE).unwrap();
        assert_eq!(first, News::UnderWay("recycle web …".to_owned()));
        let second = errands.receiver.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(&second, News::Failed(why) if why.starts_with("recycle web: no supervisor")), "{second:?}");
    }

    #[test]
    fn no_more_than_so_many_orders_are_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("control.sock");
        // It takes everybody in and says nothing.
        let _silent = std::os::unix::net::UnixListener::bind(&control).unwrap();
        let mut errands = Errands::to(control);
        let order = Order::Pause { pool: "web".to_owned() };
        (0..=ERRANDS_MAX).for_each(|_| errands.run(order.clone()));
        let refused = |news: &News| matches!(news, News::Failed(why) if why.contains("8 orders are under way"));
        let heard: Vec<News> = (0..=ERRANDS_MAX).map(|_| errands.receiver.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(heard.iter().filter(|news| refused(news)).count(), 1, "{heard:?}");
    }

    #[test]
    #[should_panic(expected = "no way home")]
    fn an_errand_that_panics_is_not_swallowed() {
        let mut errands = Errands::to(PathBuf::new());
        errands.running.push(thread::spawn(|| panic!("no way home")));
        while !errands.running.is_empty() {
            errands.news();
            thread::yield_now();
        }
    }
}
