//! The same programs with async handlers, on a runtime of one thread and on one of several.

use std::fs::File;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use ostler_worker::tokio::{Connection, run};
use ostler_worker::{ServeError, Worker};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::half_open;

/// Threads of the runtime that has several.
const THREADS: usize = 4;

pub(crate) type Served = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;
pub(crate) type Handler = fn(Connection) -> Served;

/// Every way to run the program that is called `name` when it has a blocking handler.
pub(crate) fn every_kind(name: &str) -> [String; 3] {
    [name.to_owned(), format!("async-{name}"), format!("threads-{name}")]
}

/// Runs a program whose name says on what; `None` when it says nothing of the sort.
pub(crate) fn run_named(program: &str) -> Option<Result<(), ServeError>> {
    match program {
        "loops" => return Some(loops()),
        "local" => return Some(local()),
        "two-runtimes" => return Some(two_runtimes()),
        _ => {}
    }
    match program.split_once('-')? {
        ("async", name) => Some(run(handler(name)?)),
        ("threads", name) => Some(on_threads(handler(name)?)),
        _ => None,
    }
}

fn handler(name: &str) -> Option<Handler> {
    Some(match name {
        "repeat" => |connection| Box::pin(repeat(connection)),
        "greet" => |connection| Box::pin(greet(connection)),
        "chat" => |connection| Box::pin(chat(connection)),
        "panic" => |connection| Box::pin(panic_when_told(connection)),
        "panic-early" => |_connection| panic!("told to panic"),
        "hang" => |connection| Box::pin(hang(connection)),
        "hog" => |connection| Box::pin(hog(connection)),
        "hog-and-stay" => |connection| Box::pin(hog_and_stay(connection)),
        "leak" => |connection| Box::pin(leak(connection)),
        "idle" => |connection| Box::pin(repeat_until_the_drain(connection)),
        "away" => |connection| Box::pin(give_away(connection)),
        "afterwards" => |connection| Box::pin(work_afterwards(connection)),
        "there-and-back" => |connection| Box::pin(there_and_back(connection)),
        "vectors" => |connection| Box::pin(vectors(connection)),
        "fail" => |connection| Box::pin(fail(connection)),
        other => return half_open::async_handler(other),
    })
}

fn on_threads(handler: Handler) -> Result<(), ServeError> {
    let worker = Worker::connect()?;
    several_threads().block_on(async { tokio::spawn(worker.serve_async(handler)).await.expect("it does not panic") })
}

fn several_threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap()
}

async fn repeat(mut connection: Connection) -> io::Result<()> {
    let mut byte = [0; 1];
    while connection.read(&mut byte).await? == 1 {
        connection.write_all(&byte).await?;
    }
    Ok(())
}

async fn greet(mut connection: Connection) -> io::Result<()> {
    connection.write_all(b"hi").await
}

async fn chat(mut connection: Connection) -> io::Result<()> {
    let mut byte = [0; 1];
    while connection.read(&mut byte).await? == 1 {
        println!("got {byte:?}");
        eprintln!("got {byte:?}");
        connection.write_all(&byte).await?;
    }
    Ok(())
}

async fn panic_when_told(mut connection: Connection) -> io::Result<()> {
    let byte = connection.read_u8().await?;
    assert_ne!(byte, b'p', "told to panic");
    connection.write_u8(byte).await
}

async fn hang(connection: Connection) -> io::Result<()> {
    pending::<()>().await;
    drop(connection);
    Ok(())
}

/// Holds every free descriptor of the process until the client lets go.
async fn hog(mut connection: Connection) -> io::Result<()> {
    let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    connection.write_all(b"h").await?;
    connection.read_u8().await?;
    drop(hoard);
    Ok(())
}

/// As hog, and takes what becomes free as well.
async fn hog_and_stay(mut connection: Connection) -> io::Result<()> {
    connection.write_all(b"h").await?;
    let mut hoard = Vec::new();
    loop {
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
        tokio::select! {
            _ended = connection.read_u8() => return Ok(()),
            () = tokio::task::yield_now() => {}
        }
    }
}

/// Keeps every descriptor it can get for ever.
async fn leak(mut connection: Connection) -> io::Result<()> {
    while let Ok(file) = File::open("/dev/null") {
        std::mem::forget(file);
    }
    connection.write_all(b"h").await?;
    connection.read_u8().await.map(|_let_go| ())
}

/// A server with keep-alive, in its simplest form.
async fn repeat_until_the_drain(mut connection: Connection) -> io::Result<()> {
    let draining = connection.draining();
    tokio::pin!(draining);
    loop {
        tokio::select! {
            byte = connection.read_u8() => connection.write_u8(byte?).await?,
            () = &mut draining => {
                assert!(connection.is_draining());
                return Ok(());
            }
        }
    }
}

/// The task ends at once, the connection lives on in another.
async fn give_away(connection: Connection) -> io::Result<()> {
    tokio::spawn(repeat(connection));
    Ok(())
}

/// The connection ends at once, the task goes on for as long as it takes the worker to drain.
async fn work_afterwards(mut connection: Connection) -> io::Result<()> {
    let draining = connection.draining();
    connection.write_all(b"hi").await?;
    drop(connection);
    draining.await;
    tokio::task::yield_now().await;
    Err(io::Error::other("done afterwards"))
}

/// Through every conversion, with a byte at each station.
async fn there_and_back(mut connection: Connection) -> io::Result<()> {
    connection.write_all(b"1").await?;
    let connection = match connection.into_tcp() {
        Ok((stream, completion)) => {
            assert_eq!(stream.into_std()?.read_timeout()?, None);
            drop(completion);
            return Ok(());
        }
        Err(connection) => connection,
    };
    let mut blocking = connection.into_blocking()?;
    let blocking = tokio::task::spawn_blocking(move || {
        let mut byte = [0; 1];
        io::Read::read_exact(&mut blocking, &mut byte)?; // waits: it blocks again
        io::Write::write_all(&mut blocking, &byte).map(|()| blocking)
    });
    let connection = blocking.await.expect("it does not panic")?.into_async()?;
    let (mut stream, completion) = connection.into_unix().expect("a Unix connection");
    stream.write_all(b"3").await?;
    drop(stream);
    drop(completion);
    Ok(())
}

async fn vectors(mut connection: Connection) -> io::Result<()> {
    assert!(connection.is_write_vectored());
    let words = [io::IoSlice::new(b"one "), io::IoSlice::new(b"two "), io::IoSlice::new(b"three")];
    assert_eq!(connection.write_vectored(&words).await?, 13, "one call, one writev");
    connection.flush().await?;
    connection.shutdown().await
}

/// Fails with what the client says: `g` that the client has gone, anything else with a reason to be told.
async fn fail(mut connection: Connection) -> io::Result<()> {
    match connection.read_u8().await? {
        b'g' => Err(io::ErrorKind::BrokenPipe.into()),
        _ => Err(io::Error::other("the reason")),
    }
}

/// Several tasks, each with a loop of its own over the same worker. What is being served keeps its task busy.
fn loops() -> Result<(), ServeError> {
    let worker = Worker::connect()?;
    several_threads().block_on(async {
        let worker = Arc::new(worker.into_async()?);
        let tasks: Vec<_> =
            (0..worker.concurrency()).map(|_| tokio::spawn(serve_in_turn(Arc::clone(&worker)))).collect();
        for task in tasks {
            task.await.expect("it does not panic")?;
        }
        Ok(())
    })
}

async fn serve_in_turn(worker: Arc<ostler_worker::tokio::Worker>) -> Result<(), ServeError> {
    loop {
        // A look that is given up must not take anything with it.
        let given_up = tokio::time::timeout(std::time::Duration::from_micros(50), worker.next()).await;
        let next = match given_up {
            Ok(next) => next,
            Err(_elapsed) => worker.next().await,
        };
        let Some(connection) = next? else { return Ok(()) };
        let _client_gone = repeat(connection.into_async().unwrap()).await;
    }
}

/// Handlers that stay on one thread, because what they share is not Send.
fn local() -> Result<(), ServeError> {
    let worker = Worker::connect()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let count = std::rc::Rc::new(std::cell::Cell::new(0_u8));
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let worker = worker.into_async()?;
        while let Some(connection) = worker.next().await? {
            let count = std::rc::Rc::clone(&count);
            tokio::task::spawn_local(async move {
                count.set(count.get() + 1);
                connection.into_async()?.write_u8(b'0' + count.get()).await
            });
        }
        Ok(())
    })
}

/// A worker that changes its runtime in between, and serves with threads in the end.
fn two_runtimes() -> Result<(), ServeError> {
    let mut worker = Worker::connect()?;
    for greeting in ["a", "b"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        worker = runtime.block_on(async {
            let worker = worker.into_async()?;
            let connection = worker.next().await?.expect("not drained yet");
            connection.into_async().unwrap().write_all(greeting.as_bytes()).await.unwrap();
            Ok::<_, ServeError>(worker.into_blocking())
        })?;
    }
    worker.serve(|mut connection| io::Write::write_all(&mut connection, b"c"))
}
