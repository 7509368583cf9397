//! Tries the load client on small servers that misbehave in known ways.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use super::Load;
use crate::http::{self, Failure};
use crate::target::Target;
use crate::tiny_http;

/// What a small server does with each connection, in turn; it ends after the last.
#[derive(Clone, Copy)]
enum Whim {
    /// So many answers, then a close.
    Serve(usize),
    /// A close before any byte.
    Cut,
    /// Half an answer.
    Half,
    /// Nothing until the client gives up.
    Silence,
}

fn follow(whim: Whim, mut stream: impl Read + Write) {
    let answer = tiny_http::answer("hello worker=web/0.1 pid=7\n", false);
    let mut request = [0; 1024];
    match whim {
        Whim::Serve(count) => {
            for _ in 0..count {
                if stream.read(&mut request).is_ok_and(|len| len > 0) {
                    stream.write_all(&answer).unwrap();
                }
            }
        }
        Whim::Cut => {
            let _ = stream.read(&mut request);
        }
        Whim::Half => {
            let _ = stream.read(&mut request);
            stream.write_all(&answer[..answer.len() - 3]).unwrap();
        }
        Whim::Silence => while stream.read(&mut request).is_ok_and(|len| len > 0) {},
    }
}

fn tcp_server(whims: Vec<Whim>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    thread::spawn(move || {
        for whim in whims {
            follow(whim, listener.accept().unwrap().0);
        }
    });
    target
}

#[test]
fn every_way_to_fail_has_its_own_count() {
    let target = tcp_server(vec![Whim::Serve(1), Whim::Cut, Whim::Half, Whim::Silence]);
    let tally = Load::on(&target).requests_each(4).timeout(Duration::from_millis(200)).run();
    assert_eq!((tally.connects, tally.served, tally.failed()), (4, 1, 3), "{tally}");
    for failure in [Failure::CutFresh, Failure::CutPartial, Failure::TimedOut] {
        assert_eq!(tally.count(failure), 1, "{failure}: {tally}");
    }
}

#[test]
fn a_reused_connection_that_is_closed_in_order_is_no_failure() {
    let target = tcp_server(vec![Whim::Serve(2), Whim::Serve(2)]);
    let tally = Load::on(&target).per_connection(10).requests_each(5).run();
    assert_eq!((tally.connects, tally.served, tally.failed()), (2, 4, 0), "{tally}");
    assert_eq!(tally.failures.values().sum::<u64>(), 1, "{tally}");
}

#[test]
fn nobody_there_is_refused() {
    let tally = Load::on(&Target::free_tcp()).requests_each(2).run();
    assert_eq!(tally.count(Failure::Refused), 2, "{tally}");
    let absent = Target::Unix("/nonexistent/ostler.sock".into());
    assert_eq!(http::get_once(&absent, "/", Duration::from_secs(1)), Err(Failure::Refused));
}

#[test]
fn a_unix_queue_that_stays_full_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("full.sock");
    let listener = UnixListener::bind(&path).unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let target = Target::Unix(path);
    let mut held = Vec::new();
    let refused = loop {
        match http::Connection::open(&target, Duration::from_millis(50)) {
            Ok(connection) => held.push(connection),
            Err(failure) => break failure,
        }
        assert!(held.len() < 100, "the queue never fills");
    };
    assert_eq!(refused, Failure::Busy);
}

#[test]
fn an_abstract_name_is_reached() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("ostler-load-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    thread::spawn(move || follow(Whim::Serve(1), listener.accept().unwrap().0));
    let tally = Load::on(&Target::Abstract(name)).requests_each(1).run();
    tally.assert_no_failure();
    assert_eq!(tally.workers.keys().next().unwrap().name, "web/0.1");
}
