//! The examples do what their first lines say.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use ostler_shared::completion::Outcome;

use crate::fake::{Fake, Setup, exchange, expect_end};

#[test]
fn echo_answers_what_it_hears_to_the_end() {
    let mut fake = Fake::start_example("echo", &Setup::default());
    let mut client = fake.connect();
    exchange(&client, "hello", "hello");
    client.write_all(b" and bye").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " and bye");
    assert_eq!(fake.hear_completion(), (0, Outcome::Done));
}

#[test]
fn who_tells_the_callers_credentials() {
    let mut fake = Fake::start_example("who", &Setup::default());
    let mut told = String::new();
    fake.connect().read_to_string(&mut told).unwrap();
    assert!(told.starts_with("caller: uid=1 gid=2 pid=3 · conn=c0 waited="), "{told}");
    assert!(told.ends_with("worker=web/3.7\n"), "{told}");
}

#[test]
fn a_handler_reads_how_full_the_line_is_as_soon_as_the_supervisor_has_written_it() {
    let mut fake = Fake::start_example("who", &Setup::default());
    for thousandths in [0, 450, 1000, 0] {
        fake.memory.borrow().set_pressure(thousandths);
        let mut told = String::new();
        fake.connect().read_to_string(&mut told).unwrap();
        assert!(told.contains(&format!(" pressure={thousandths} ")), "{told}");
    }
}

/// Asks, and reads one answer to its end.
fn request(client: &UnixStream, head: &str) -> String {
    let mut stream = client;
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        answer.push(char::from(byte[0]));
    }
    let len = answer.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
    let mut body = vec![0; len.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    answer + std::str::from_utf8(&body).unwrap()
}

#[test]
fn http_hello_keeps_a_connection_and_skips_bodies() {
    let mut fake = Fake::start_example("http_hello", &Setup::default());
    let client = fake.connect();
    for head in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        let answer = request(&client, head);
        assert!(answer.contains("200 OK") && answer.contains("worker=web/3.7 pid="), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    request(&client, "GET / HTTP/1.0\r\n\r\n");
    expect_end(&client);
}

#[test]
fn http_hello_refuses_what_is_no_request() {
    let mut fake = Fake::start_example("http_hello", &Setup { concurrency: 4, ..Setup::default() });
    for (head, status) in [
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nA: {}\r\n", "x".repeat(1024 * 1024)), "431"),
    ] {
        let client = fake.connect();
        // It may refuse before it has read all, and then writing fails.
        let _refused = (&client).write_all(head.as_bytes());
        let mut answer = [0; 12];
        (&client).read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"));
    }
}

#[test]
fn http_hello_answers_a_client_that_has_said_all() {
    let mut fake = Fake::start_example("http_hello", &Setup::default());
    let mut client = fake.connect();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK") && answer.ends_with('\n'), "{answer}");
    assert_eq!(fake.hear_completion(), (0, Outcome::Done));
}

#[test]
fn http_hello_lets_idle_connections_go_when_it_drains() {
    let mut fake = Fake::start_example("http_hello", &Setup { concurrency: 4, ..Setup::default() });
    let (client, another) = (fake.connect(), fake.connect());
    request(&client, "GET / HTTP/1.1\r\n\r\n");
    request(&another, "GET / HTTP/1.1\r\n\r\n");
    let (late, silent) = (fake.connect(), fake.connect());
    (&late).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    fake.drain();
    expect_end(&client);
    expect_end(&another);
    let mut answer = String::new();
    (&late).read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    expect_end(&silent);
    assert!(fake.process.exit().success());
}
