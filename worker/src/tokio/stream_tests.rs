//! Do streams convert both ways, and does a shutdown reach the client?

use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap()
}

#[test]
fn a_stream_that_comes_back_from_its_runtime_blocks_again() {
    let (mut client, served) = StdUnixStream::pair().unwrap();
    let mut back = runtime().block_on(async { Stream::from_std(crate::Stream::Unix(served))?.into_std() }).unwrap();
    let writer = std::thread::spawn(move || client.write_all(b"x").map(|()| client));
    back.read_exact(&mut [0; 1]).unwrap(); // WouldBlock if it did not wait
    writer.join().unwrap().unwrap();
}

#[test]
fn a_shutdown_after_the_clients_end_is_no_error() {
    let (client, served) = StdUnixStream::pair().unwrap();
    drop(client);
    runtime().block_on(async {
        let stream = Stream::from_std(crate::Stream::Unix(served)).unwrap();
        stream.shut(Shutdown::Both).unwrap();
        stream.shut(Shutdown::Both).unwrap();
    });
}
