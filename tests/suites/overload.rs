//! What becomes of those who wait when too many do, told by clients who do wait?
//!
//! Most tests pause the pool first: then everybody waits, for as long as the test likes.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use ostler_tests::builder::Builder;
use ostler_tests::deadline::{SOON, alone, wait_until};
use ostler_tests::http::{Connection, Failure, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::status::Pool;
use ostler_tests::target::Stream;
use ostler_tests::{Ostler, Scratch, Target};
use ostler_tests::{place, programs};

const PATIENCE: Duration = Duration::from_secs(30);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: ostler\r\nConnection: close\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbusy\n";

fn unix_and_tcp(scratch: &Scratch) -> [Target; 2] {
    [Target::Unix(scratch.path("web.sock")), Target::free_tcp()]
}

fn start(scratch: &Scratch, listen: &[Target], queue: &str, workers: u32) -> Ostler {
    let listen: Vec<String> = listen.iter().map(|target| format!("{:?}", target.listen())).collect();
    let config = format!("[pool.web]\nlisten = [{}]\nworkers = {workers}\nqueue = {queue}\n", listen.join(", "));
    Builder::new(scratch).config(config).start()
}

fn pause(ostler: &Ostler) {
    let output = ostler.command(&["pause"]);
    assert_eq!(output.code, 0, "{output:?}");
}

fn resume(ostler: &Ostler) {
    let output = ostler.command(&["resume"]);
    assert_eq!(output.code, 0, "{output:?}");
}

fn wait_pool(ostler: &Ostler, what: &str, fits: impl Fn(&Pool) -> bool) -> Pool {
    ostler.wait_status(what, |status| Some(status.only()).filter(|pool| fits(pool)).cloned())
}

fn wait_in_line(ostler: &Ostler, count: u64) {
    wait_pool(ostler, &format!("{count} in the line"), |pool| pool.queue.length == count);
}

fn connect(target: &Target) -> Stream {
    target.connect(PATIENCE).expect("a place in a queue")
}

/// A client that waits for an answer.
fn ask(target: &Target) -> Connection {
    let mut connection = Connection::open(target, PATIENCE).expect("a place in a queue");
    connection.ask("/", Keep::Once).expect("room for a request");
    connection
}

/// Hangs up in a way that the kernel tells the other side of at once: over TCP by a reset.
fn hang_up(stream: Stream) {
    if let Stream::Tcp(stream) = &stream {
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(stream, sockopt::Linger, &at_once).expect("a socket of ours");
    }
    drop(stream);
}

/// Everything until the other side ends the conversation, which has to be in order.
fn heard(stream: &mut Stream) -> io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text).map(|_| text)
}

// ── clients that hang up ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn whoever_hangs_up_while_he_waits_never_reaches_a_worker() {
    let scratch = Scratch::new();
    for target in unix_and_tcp(&scratch) {
        let mut ostler = start(&scratch, std::slice::from_ref(&target), "{}", 1);
        pause(&ostler);
        let mut patient = Vec::new();
        for _ in 0..100 {
            let mut impatient = connect(&target);
            impatient.write_all(REQUEST).expect("room for a request");
            patient.push(ask(&target));
            hang_up(impatient);
        }
        wait_pool(&ostler, "a hundred have gone", |pool| pool.shed_for("client_gone") == 100);
        wait_in_line(&ostler, 100);
        resume(&ostler);
        for mut client in patient {
            assert_eq!(client.answer().expect("it has waited for this").status, 200, "{target:?}");
        }
        let pool = wait_pool(&ostler, "idle", Pool::is_idle);
        assert_eq!((pool.accepted, pool.done, pool.handed, pool.lost), (200, 100, 100, 0), "{target:?}");
        ostler.stop_clean();
    }
}

#[test]
fn whoever_has_said_all_and_listens_is_not_gone() {
    let scratch = Scratch::new();
    // A program that reads to the end of the client's side, as the library promises.
    let program = programs::toml(&programs::slow_start(0));
    for target in unix_and_tcp(&scratch) {
        let listen = target.listen();
        let config = format!("[pool.web]\nlisten = [{listen:?}]\ncommand = {program}\nworkers = 1\n");
        let mut ostler = Builder::new(&scratch).config(config).start();
        pause(&ostler);
        let mut client = connect(&target);
        client.write_all(REQUEST).expect("room for a request");
        shutdown(client.as_fd().as_raw_fd(), Shutdown::Write).expect("our side");
        // Who came later and has gone is told of later.
        hang_up(connect(&target));
        wait_pool(&ostler, "the one that hung up has gone", |pool| pool.shed_for("client_gone") == 1);
        wait_in_line(&ostler, 1);
        resume(&ostler);
        assert!(heard(&mut client).expect("an answer and its end").starts_with("HTTP/1.1 200"), "{target:?}");
        ostler.stop_clean();
    }
}

#[test]
fn a_tcp_client_that_closed_before_it_asked_anything_is_gone_and_one_that_had_asked_is_served() {
    let scratch = Scratch::new();
    let target = Target::free_tcp();
    let mut ostler = start(&scratch, std::slice::from_ref(&target), "{}", 1);
    pause(&ostler);
    let mut asking = connect(&target);
    asking.write_all(REQUEST).expect("room for a request");
    drop(asking); // a FIN, as that of a client who only shuts his side down
    drop(connect(&target));
    wait_pool(&ostler, "the silent one has gone", |pool| pool.shed_for("client_gone") == 1);
    wait_in_line(&ostler, 1);
    resume(&ostler);
    let pool = wait_pool(&ostler, "idle", Pool::is_idle);
    assert_eq!((pool.done, pool.lost), (1, 0), "nobody can tell that it does not listen");
    ostler.stop_clean();
}

#[test]
fn of_ten_thousand_who_wait_half_hang_up_and_the_others_are_served() {
    const CLIENTS: usize = 10_000;
    let _machine = alone();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has limits");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let queue = r#"{ limit = 10000, timeout = "60s" }"#;
    let mut ostler = start(&scratch, std::slice::from_ref(&target), queue, 2);
    let descriptors = ostler.descriptor_count();
    pause(&ostler);
    let mut clients: Vec<Connection> = (0..CLIENTS).map(|_| ask(&target)).collect();
    wait_in_line(&ostler, CLIENTS as u64);
    let mut number = 0;
    clients.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    wait_pool(&ostler, "half of them have gone", |pool| pool.shed_for("client_gone") == CLIENTS as u64 / 2);
    resume(&ostler);
    for mut client in clients {
        assert_eq!(client.answer().expect("it has waited for this").status, 200);
    }
    let pool = wait_pool(&ostler, "idle", Pool::is_idle);
    assert_eq!((pool.accepted, pool.done, pool.lost), (CLIENTS as u64, CLIENTS as u64 / 2, 0));
    assert_eq!(pool.shed_total(), CLIENTS as u64 / 2);
    ostler.wait_descriptor_count(descriptors);
    ostler.stop_clean();
}

// ── a full line ────────────────────────────────────────────────────────────────────────────────────────────

/// A paused pool with a line of four, in which four wait.
fn full(scratch: &Scratch, target: &Target, queue: &str) -> (Ostler, Vec<Connection>) {
    let ostler = start(scratch, std::slice::from_ref(target), queue, 1);
    pause(&ostler);
    let waiting = (0..4).map(|_| ask(target)).collect();
    wait_in_line(&ostler, 4);
    (ostler, waiting)
}

fn serve_and_stop(mut ostler: Ostler, waiting: Vec<Connection>) {
    resume(&ostler);
    for mut client in waiting {
        assert_eq!(client.answer().expect("it has waited for this").status, 200);
    }
    ostler.stop_clean();
}

#[test]
fn a_reply_reaches_a_client_that_is_still_sending() {
    const PIECES: usize = 400;
    let scratch = Scratch::new();
    let queue = format!("{{ limit = 4, overflow = {{ reply = {BUSY:?} }} }}");
    for target in unix_and_tcp(&scratch) {
        let (ostler, waiting) = full(&scratch, &target, &queue);
        let mut client = connect(&target);
        client.write_all(b"POST / HTTP/1.1\r\nHost: ostler\r\nContent-Length: 400000\r\n\r\n").expect("room");
        wait_pool(&ostler, "it is let go", |pool| pool.shed_for("queue_full") == 1);
        for piece in 0..PIECES {
            client.write_all(&[b'x'; 1000]).unwrap_or_else(|error| panic!("{target:?}, piece {piece}: {error}"));
        }
        shutdown(client.as_fd().as_raw_fd(), Shutdown::Write).expect("our side");
        assert_eq!(heard(&mut client).expect("no reset"), BUSY, "{target:?}");
        serve_and_stop(ostler, waiting);
    }
}

#[test]
fn a_reply_reaches_one_who_has_waited_too_long() {
    let scratch = Scratch::new();
    let queue = format!("{{ timeout = \"200ms\", on_timeout = {{ reply = {BUSY:?} }} }}");
    for target in unix_and_tcp(&scratch) {
        let mut ostler = start(&scratch, std::slice::from_ref(&target), &queue, 1);
        pause(&ostler);
        let mut clients: Vec<Stream> = (0..50).map(|_| connect(&target)).collect();
        for client in &mut clients {
            client.write_all(REQUEST).expect("room for a request");
        }
        for client in &mut clients {
            assert_eq!(heard(client).expect("no reset"), BUSY, "{target:?}");
        }
        assert_eq!(ostler.status().only().shed_for("queue_timeout"), 50);
        resume(&ostler);
        ostler.stop_clean();
    }
}

#[test]
fn more_than_may_linger_at_a_time_get_their_reply_all_the_same() {
    const CLIENTS: usize = 600;
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let queue = format!("{{ limit = 4, overflow = {{ reply = {BUSY:?} }} }}");
    let (ostler, waiting) = full(&scratch, &target, &queue);
    let descriptors = ostler.descriptor_count();
    let mut clients: Vec<Stream> = (0..CLIENTS).map(|_| connect(&target)).collect();
    wait_pool(&ostler, "all are let go", |pool| pool.shed_for("queue_full") == CLIENTS as u64);
    for client in &mut clients {
        assert_eq!(heard(client).expect("it has sent nothing that could be reset"), BUSY);
    }
    drop(clients);
    ostler.wait_descriptor_count(descriptors);
    serve_and_stop(ostler, waiting);
}

#[test]
fn a_line_that_closes_closes_and_one_that_waits_waits() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("web.sock"));
    let (ostler, waiting) = full(&scratch, &target, r#"{ limit = 4, overflow = "close" }"#);
    assert_eq!(ask(&target).answer(), Err(Failure::CutFresh));
    assert_eq!(ostler.status().only().shed_for("queue_full"), 1);
    serve_and_stop(ostler, waiting);

    let (ostler, mut waiting) = full(&scratch, &target, r#"{ limit = 4, overflow = "wait" }"#);
    waiting.extend((0..20).map(|_| ask(&target)));
    ostler.wait_log(&["accepting pauses", "the waiting line is full"]);
    assert_eq!(ostler.status().only().accepted, 4, "the others are the kernel's");
    serve_and_stop(ostler, waiting);
}

// ── users ──────────────────────────────────────────────────────────────────────────────────────────────────

const SHARE: u64 = 8;

fn sharing(scratch: &Scratch, queue: &str) -> (Ostler, Target, Target) {
    let [unix, tcp] = unix_and_tcp(scratch);
    let config = format!(
        "[pool.web]\nlisten = [{:?}, {:?}]\nworkers = 1\nsocket = {{ mode = \"0666\" }}\nqueue = {queue}\n",
        unix.listen(),
        tcp.listen()
    );
    (Builder::new(scratch).config(config).start(), unix, tcp)
}

#[test]
fn one_user_has_his_share_of_the_line_and_the_others_have_the_rest() {
    let scratch = Scratch::new();
    let (ostler, unix, tcp) = sharing(&scratch, "{ limit = 64, per_uid = 8 }");
    pause(&ostler);
    let flood: Vec<Connection> = (0..40).map(|_| ask(&unix)).collect();
    wait_pool(&ostler, "his share and no more", |pool| {
        pool.queue.length == SHARE && pool.shed_for("per_uid") == 40 - SHARE
    });
    let strangers: Vec<Connection> = (0..20).map(|_| ask(&tcp)).collect();
    wait_in_line(&ostler, SHARE + 20);
    let another = nix::unistd::getuid().is_root().then(|| ask_as_another_user(&unix));
    wait_in_line(&ostler, SHARE + 20 + u64::from(another.is_some()));
    resume(&ostler);
    let served = flood.into_iter().filter_map(|mut client| client.answer().ok()).count();
    assert_eq!(served as u64, SHARE);
    for mut client in strangers {
        assert_eq!(client.answer().expect("nobody counts it").status, 200);
    }
    if let Some(another) = another {
        let output = another.wait_with_output().expect("our child");
        assert!(String::from_utf8_lossy(&output.stdout).contains("uid=65534"), "{output:?}");
    }
    let mut ostler = ostler;
    ostler.stop_clean();
}

/// Asks who it is as `nobody`; only root can.
fn ask_as_another_user(target: &Target) -> Child {
    let Target::Unix(path) = target else { panic!("only Unix clients have a user") };
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl", "--silent", "--max-time", "30"]);
    command.arg("--unix-socket").arg(path).arg("http://ostler/who");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("setpriv is there")
}

#[test]
fn a_flood_of_one_user_starves_nobody_else() {
    let _machine = alone();
    let scratch = Scratch::new();
    let queue = r#"{ limit = 64, per_uid = 4, timeout = "10s" }"#;
    let (mut ostler, unix, tcp) = sharing(&scratch, queue);
    let flood = Load::on(&unix).clients(32).path("/sleep/2").start();
    wait_pool(&ostler, "it is a flood", |pool| pool.shed_for("per_uid") > 100);
    for request in 0..50 {
        let answer = get_once(&tcp, "/", PATIENCE);
        assert!(answer.is_ok(), "request {request} of somebody else: {answer:?}");
    }
    let tally = flood.stop();
    println!("the flood: {tally}");
    let pool = wait_pool(&ostler, "idle", Pool::is_idle);
    assert_eq!((pool.shed_total(), pool.lost), (pool.shed_for("per_uid"), 0), "{pool:?}");
    assert_eq!(pool.check_books(), Ok(()));
    ostler.stop_clean();
}

// ── pressure ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_worker_reads_how_full_the_line_is() {
    let scratch = Scratch::new();
    let target = Target::Unix(scratch.path("who.sock"));
    let program = place::program("examples/who").display().to_string();
    let config = format!(
        "[pool.who]\nlisten = [{:?}]\ncommand = [{program:?}]\nworkers = 1\nqueue = {{ limit = 10 }}\n",
        target.listen()
    );
    let mut ostler = Builder::new(&scratch).config(config).start();
    pause(&ostler);
    let mut clients: Vec<Stream> = (0..10).map(|_| connect(&target)).collect();
    wait_in_line(&ostler, 10);
    resume(&ostler);
    let told: Vec<u32> = clients.iter_mut().map(|client| pressure_in(&heard(client).expect("an answer"))).collect();
    assert!(told[0] >= 900, "the first one leaves a line of nine behind, a worker of its own time: {told:?}");
    assert!(told.is_sorted_by(|earlier, later| earlier >= later), "{told:?}");
    wait_until(SOON, "the line is empty, and the worker reads so", || {
        pressure_in(&heard(&mut connect(&target)).expect("an answer")) == 0
    });
    ostler.stop_clean();
}

fn pressure_in(answer: &str) -> u32 {
    let told = answer.split_whitespace().find_map(|word| word.strip_prefix("pressure="));
    told.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no pressure in {answer:?}"))
}
