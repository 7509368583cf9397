//! One client of a load: connect, ask, sort what came of it, again.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Load, Shared, Speech, Tally};
use crate::deadline::pause;
use crate::fastcgi;
use crate::http::{Answer, Connection, Failure, Keep};

/// Works until it is stopped, or until it has made its requests.
pub(crate) fn run(load: &Load, shared: &Shared) -> Tally {
    let mut tally = Tally::default();
    let mut made = 0;
    let mut kept = Kept { connection: None, asked: 0 };
    while made < load.requests_each && shared.goes_on() {
        made += 1;
        let began = Instant::now();
        match kept.attempt(load, &mut tally) {
            Ok(answer) => {
                shared.served.fetch_add(1, Ordering::Relaxed);
                tally.serve(answer.worker(), began.elapsed());
            }
            Err(failure) => {
                if !failure.is_orderly_close() {
                    shared.failed.fetch_add(1, Ordering::Relaxed);
                }
                tally.fail(failure);
                kept.connection = None;
                // Nobody is there: do not turn that into a busy loop.
                if matches!(failure, Failure::Refused | Failure::Connect) {
                    pause();
                }
            }
        }
    }
    tally
}

/// A connection that may serve another request.
struct Kept {
    connection: Option<Connection>,
    asked: u32,
}

impl Kept {
    fn attempt(&mut self, load: &Load, tally: &mut Tally) -> Result<Answer, Failure> {
        let answer = match &load.speech {
            Speech::Http => self.http(load, tally)?,
            Speech::FastCgi(script) => {
                let connection = fastcgi::Connection::open(&load.target, load.timeout)?;
                tally.connected();
                connection.get(script, &load.path)?
            }
        };
        if answer.status == 200 { Ok(answer) } else { Err(Failure::Wrong) }
    }

    fn http(&mut self, load: &Load, tally: &mut Tally) -> Result<Answer, Failure> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(&load.target, load.timeout)?);
            self.asked = 0;
            tally.connected();
        }
        let connection = self.connection.as_mut().expect("opened above");
        self.asked += 1;
        let last = self.asked >= load.per_connection;
        let answer = connection.get(&load.path, if last { Keep::Once } else { Keep::Alive })?;
        if last || answer.closes {
            self.connection = None;
        }
        Ok(answer)
    }
}
