//! Claims connections in tasks, and runs an async handler for each.
//!
//! Several tasks may ask for the next connection; they stand in line, and the first one alone watches the mailbox.
//! Readiness is an edge: were it shared, one task could take the edge that announced two connections, and the second
//! would wait while the other tasks sleep.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use ostler_shared::{PoolName, WorkerName};
use tokio::sync::{Mutex, watch};

use super::connection::Connection;
use super::drain::DrainWatch;
use super::mailbox::Mailbox;
use super::places::{Place, Places};
use super::pulse::Pulse;
use crate::claim::{NextError, STARVED_RETRY};
use crate::report::say;
use crate::serve::{ServeError, client_has_gone};
use crate::stage::Stage;
use crate::worker::TryNext;

/// This process's place in a pool, registered with a runtime. Usable from several tasks at once.
#[derive(Debug)]
pub struct Worker {
    mailbox: Mailbox,
    /// Who has it watches the mailbox. It keeps order: first come, first served.
    line: Mutex<()>,
    /// Kept for its beats.
    _pulse: Pulse,
}

impl crate::Worker {
    /// Registers this worker with the runtime that this is called in.
    ///
    /// # Errors
    /// [`ServeError::EventLoop`] when epoll has no room for the mailbox.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or in one without I/O or time.
    pub fn into_async(self) -> Result<Worker, ServeError> {
        let station = Arc::clone(&self.station);
        let mailbox = Mailbox::watch(self).map_err(ServeError::EventLoop)?;
        Ok(Worker { mailbox, line: Mutex::new(()), _pulse: Pulse::start(&station) })
    }

    /// As [`Worker::serve`], on the runtime that this is awaited in.
    ///
    /// # Errors
    /// As [`Worker::serve`] and [`crate::Worker::into_async`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, or in one without I/O or time.
    pub async fn serve_async<H, F>(self, handler: H) -> Result<(), ServeError>
    where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        self.into_async()?.serve(handler).await
    }
}

impl Worker {
    /// Calls `handler` in a task of its own for every connection until the supervisor drains this worker, and resolves
    /// when all connections and all tasks have ended; then leave with exit code 0. At most `concurrency` connections
    /// are claimed at a time.
    ///
    /// An error that the handler returns is one line on standard error, unless it only says that the client has gone;
    /// a panic is an outcome of its connection. Who drops this future claims nothing more; tasks that run go on.
    ///
    /// # Errors
    /// [`ServeError::Next`] when connections can't be claimed any more.
    ///
    /// # Panics
    /// In a runtime without time, when there is no descriptor for a connection.
    pub async fn serve<H, F>(self, handler: H) -> Result<(), ServeError>
    where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let places = Places::new(self.worker().concurrency());
        let (tasks, task) = watch::channel(());
        let end = self.claim_all(&places, &task, Arc::new(handler)).await;
        if end.is_err() {
            // Nobody claims any more, so what waits shall go to others.
            self.worker().station.leave(Stage::Leaving);
        }
        places.all_free().await;
        drop(task);
        tasks.closed().await;
        Ok(end?)
    }

    async fn claim_all<H, F>(
        &self,
        places: &Places,
        task: &watch::Receiver<()>,
        handler: Arc<H>,
    ) -> Result<(), NextError>
    where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        loop {
            let place = self.take_place(places).await;
            let Some(mut connection) = self.next().await? else { return Ok(()) };
            connection.occupy(place);
            let (handler, task) = (Arc::clone(&handler), task.clone());
            tokio::spawn(async move {
                serve_one(handler.as_ref(), connection).await;
                drop(task);
            });
        }
    }

    /// Waits for a free place. Meanwhile nobody claims, so the mailbox's end has to be noticed here: it is what makes
    /// idle connections give way.
    async fn take_place(&self, places: &Places) -> Place {
        let mut place = pin!(places.take());
        let mut end = pin!(self.note_end());
        poll_fn(|cx| match place.as_mut().poll(cx) {
            Poll::Ready(place) => Poll::Ready(place),
            Poll::Pending => end.as_mut().poll(cx).map(|never| match never {}),
        })
        .await
    }

    /// Notes the end of the mailbox when it comes. Claims nothing and never resolves.
    async fn note_end(&self) -> Infallible {
        while !self.is_draining() && self.mailbox.stirred().await.is_ok() {}
        pending().await
    }

    /// Waits for the next connection. The first call tells the supervisor that this worker is ready.
    ///
    /// `None` when no more connections will come: finish what is claimed, and leave. The connection is the blocking
    /// one: [`crate::Connection::into_async`] registers it, or give it to a thread.
    ///
    /// Cancel safe: a future that is dropped before it resolves has claimed nothing.
    ///
    /// # Errors
    /// As [`crate::Worker::next`].
    ///
    /// # Panics
    /// In a runtime without time, when there is no descriptor for a connection.
    pub async fn next(&self) -> Result<Option<crate::Connection>, NextError> {
        let _first_in_line = self.line.lock().await;
        loop {
            match self.worker().try_next()? {
                TryNext::Connection(connection) => return Ok(Some(connection)),
                TryNext::Drained => return Ok(None),
                TryNext::Nothing => self.mailbox.stirred().await.map_err(NextError::Mailbox)?,
                TryNext::Starved => self.worker().station.reserve.wait_async(STARVED_RETRY).await,
            }
        }
    }

    /// As [`crate::Worker::concurrency`].
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.worker().concurrency()
    }

    /// As [`crate::Worker::name`].
    #[must_use]
    pub fn name(&self) -> &WorkerName {
        self.worker().name()
    }

    /// As [`crate::Worker::pool`].
    #[must_use]
    pub fn pool(&self) -> &PoolName {
        self.worker().pool()
    }

    /// As [`crate::Worker::pressure`].
    #[must_use]
    pub fn pressure(&self) -> u16 {
        self.worker().pressure()
    }

    /// As [`crate::Worker::is_draining`].
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.worker().is_draining()
    }

    /// As [`Connection::draining`].
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.drain_watch().draining()
    }

    /// As [`Connection::drain_watch`].
    #[must_use]
    pub fn drain_watch(&self) -> DrainWatch {
        DrainWatch::new(&self.worker().station)
    }

    /// Takes the worker back from its runtime.
    #[must_use]
    pub fn into_blocking(self) -> crate::Worker {
        self.mailbox.into_worker()
    }

    fn worker(&self) -> &crate::Worker {
        self.mailbox.worker()
    }
}

/// A panic ends the connection, which is dropped while the task unwinds, and nothing else: tokio catches it at the
/// task's edge. The panic hook has said what there is to say.
async fn serve_one<H, F>(handler: &H, connection: crate::Connection)
where
    H: Fn(Connection) -> F,
    F: Future<Output = io::Result<()>>,
{
    let conn = connection.ticket().conn;
    let served = match connection.into_async() {
        Ok(connection) => handler(connection).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served
        && !client_has_gone(&error)
    {
        say(format_args!("cannot finish conn={conn}: {error}"));
    }
}
