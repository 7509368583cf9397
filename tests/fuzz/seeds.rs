//! Writes the seeds of the fuzz targets: what honest sides say, from which the fuzzer goes astray.
//!
//! `cargo run --manifest-path tests/fuzz/Cargo.toml --example seeds` writes them into `tests/fuzz/corpus/` and leaves what else is
//! there alone. Run it after a change of a format.

use std::fs;
use std::io;
use std::path::Path;

use ostler_shared::ConnId;
use ostler_shared::scoreboard::banks::{BANK_WORDS, HEADER_WORDS, Publisher, Store};
use ostler_shared::scoreboard::content::{Content, Supervisor, Turns};
use ostler_shared::stream::FrameWriter;
use ostler_shared::ticket::{Family, Peer, Ticket};
use ostler_shared::wire::{
    self, End, FRAME_MAX, Hello, Marks, PROTOCOL, ProgramEnd, Programs, TEXT_MAX, ToSupervisor, ToWorker, Welcome,
};
use serde::Serialize;

#[path = "../../supervisor/src/control/protocol.rs"]
#[allow(dead_code, reason = "the command line's part of it is not ours")]
mod protocol;

use protocol::{Follow, Line, Origin, Pace, Progress, Request, Response, ScaleTo, Severity, Stream, Value, Wait};

type Seeds = Vec<(&'static str, Vec<u8>)>;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let targets = [
        ("wire", wire()),
        ("ticket", ticket()),
        ("config", config()),
        ("control", control()),
        ("ring_header", ring()),
        ("scoreboard", scoreboard()),
    ];
    for (target, seeds) in targets {
        fs::create_dir_all(corpus.join(target))?;
        for (name, bytes) in seeds {
            fs::write(corpus.join(target).join(name), bytes)?;
        }
    }
    Ok(())
}

fn wire() -> Seeds {
    fn frame<T: Serialize>(message: &T) -> Vec<u8> {
        wire::encode(message).expect("short enough")
    }
    let hello = |library: String| frame(&ToSupervisor::Hello(Hello { protocol: PROTOCOL, library }));
    // Version, variant, protocol and the length of the text in two bytes stand before it.
    let longest = "x".repeat(FRAME_MAX - 5);
    let welcome = Welcome {
        protocol: PROTOCOL,
        concurrency: 4,
        drain_timeout_ms: 30_000,
        heartbeat_ms: 30_000,
        marks: Marks::Read,
    };
    let ends = [(70, End::Code(0)), (71, End::Signal(9)), (0, End::NotStarted(2))];
    let ends = ends.map(|(pid, end)| ProgramEnd { pid, end }).to_vec();
    vec![
        ("hello", hello("library 1.0".to_owned())),
        ("hello_at_the_limit_of_texts", hello("x".repeat(TEXT_MAX))),
        ("hello_at_the_limit_of_frames", hello(longest)),
        ("ready", frame(&ToSupervisor::Ready)),
        ("draining", frame(&ToSupervisor::Draining)),
        ("pong", frame(&ToSupervisor::Pong { nonce: u64::MAX })),
        ("programs", frame(&ToSupervisor::Programs(Programs { conn: 300, ends }))),
        ("welcome", frame(&ToWorker::Welcome(welcome))),
        ("drain", frame(&ToWorker::Drain)),
        ("ping", frame(&ToWorker::Ping { nonce: 300 })),
    ]
}

/// A scoreboard without its second bank, which lies where no input reaches.
#[derive(Default)]
struct Page(std::cell::RefCell<Vec<u8>>);

impl Store for Page {
    fn store(&self, at: usize, words: &[u64]) -> io::Result<()> {
        if at < HEADER_WORDS + BANK_WORDS {
            let (begin, mut page) = (at * 8, self.0.borrow_mut());
            let end = begin + words.len() * 8;
            let length = page.len().max(end);
            page.resize(length, 0);
            page[begin..end].copy_from_slice(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
        }
        Ok(())
    }
}

fn scoreboard() -> Seeds {
    let supervisor = Supervisor {
        version: "0.1.0".into(),
        pid: 300,
        process_start: Some(7),
        state: "running".into(),
        started_at_ns: 1,
        published_at_ns: 2,
        published_at_unix_ms: 3,
        turns: Turns::default(),
        log_lines_dropped: 0,
        deaths: 0,
        reloads_ok: 0,
        reloads_undone: 0,
    };
    let content = Content { supervisor, pools: Vec::new(), reloads: Vec::new(), deaths: Vec::new() }.encode();
    let mut publisher = Publisher::new(Page::default());
    for _ in 0..2 {
        publisher.publish(&content).expect("short enough");
    }
    let page = publisher.store().0.borrow().clone();
    vec![("file", page), ("content", content)]
}

fn ticket() -> Seeds {
    let peer = Some(Peer { uid: 1000, gid: 1000, pid: 4242 });
    let ticket = |family, peer| {
        let ticket = Ticket { conn: ConnId(812), listener: 1, family, accepted_at_ns: 1 << 50, peer };
        ticket.to_bytes().to_vec()
    };
    vec![
        ("unix", ticket(Family::Unix, peer)),
        ("v4", ticket(Family::V4, None)),
        ("v6", ticket(Family::V6, None)),
        ("short", ticket(Family::V6, None)[..39].to_vec()),
    ]
}

fn config() -> Seeds {
    vec![
        ("smallest", b"[pool.web]\nlisten = [\"unix:web.sock\"]\n".to_vec()),
        ("mistakes", b"[pool.web]\nlistne = [\"unix:web.sock\"]\nworkers = \"many\"\n[pol.x]\n".to_vec()),
        ("broken", b"[pool.web\nlisten = [\"unix:web.sock\", 'tcp:127.1:80'\n".to_vec()),
        ("everything", EVERYTHING.into()),
        ("pipeline", PIPELINE.into()),
    ]
}

const PIPELINE: &str = r#"[pool.lines]
command = [["sed", "-u", "s/a/b/"], ["./app"]]
listen = ["unix:lines"]
handoff = "stdio"
drain = { signal = "INT" }
"#;

const EVERYTHING: &str = r#"[supervisor]
control = "/run/ostler/web.sock"
stop_timeout = "30s"
log = { level = "info", format = "json" }

[pool.web]
command = ["./app", "--flag", "tab\t quote\" é \u007f"]
listen = ["unix:web.sock", "unix:@abstract", "tcp:localhost:8080", "tcp:[::1]:0"]
handoff = "pass"
workers = 3
concurrency = 2
prefetch = 1
recall_after = "5ms"
dispatch = "round-robin"
output = "discard"
socket = { mode = "0660", owner = "root", group = 0, backlog = 128 }
queue = { limit = 16, timeout = "1m30s", on_timeout = { reply = "busy\r\n" }, overflow = "close" }
start = { ready = "auto", ready_timeout = "3s", settle = "1s", backoff = ["100ms", "2s"], failures = 5, period = "60s" }
drain = { timeout = "3s", kill_after = "1s" }
process = { cwd = ".", env = { A = "b", "odd name" = "a\"b" }, nofile = 1024 }
[pool.0]
listen = ["unix:a"]
"#;

fn control() -> Seeds {
    let wish = |request: &Request| stream(&[protocol::encode(request)]);
    let answer = |response: &Response| stream(&[protocol::encode(response)]);
    let reload = Request::Reload { pools: vec!["web".to_owned(), "api".to_owned()], wait: Wait::ForVerdict };
    let (pool, slot, follow) = (Some("web".to_owned()), Some(3), Follow::On);
    let logs = Request::Logs { pool, slot, lines: 7, follow };
    let line = Line {
        at_us: 1,
        level: Severity::Warn,
        origin: Origin::Worker(Stream::Errors),
        text: b"a\xffb".to_vec(),
        fields: vec![("worker".into(), Value::Text("web/0.1".to_owned()))],
    };
    let serves = Progress::Serves { pool: "web".to_owned(), slot: 1, generation: 4, moved: 1, of: 2 };
    vec![
        ("status", wish(&Request::Status)),
        ("reload", wish(&reload)),
        ("restart", wish(&Request::Restart { pool: "web".to_owned(), slot: Some(3) })),
        ("scale", wish(&Request::Scale { pool: "web".to_owned(), change: ScaleTo::Fewer(2) })),
        ("stop", wish(&Request::Stop { pace: Pace::Now })),
        ("logs", wish(&logs)),
        ("lines", answer(&Response::Lines(vec![line]))),
        ("state", answer(&Response::Report("{}".to_owned()))),
        ("progress", answer(&Response::Progress(serves))),
        ("done", answer(&Response::Done { text: "reloaded".to_owned(), exit: 3 })),
        ("two", stream(&[protocol::encode(&Request::Status), protocol::encode(&reload)])),
        ("another_version", stream(&[vec![9, 0, 0]])),
        ("over_the_limit", [vec![0], u32::MAX.to_le_bytes().to_vec()].concat()),
    ]
}

/// As the target reads it: how the stream is cut, then the stream.
fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![2];
    let mut writer = FrameWriter::default();
    for frame in frames {
        writer.push(frame);
    }
    writer.flush(&mut bytes).expect("memory takes everything");
    bytes
}

/// Scripts, in the numbers that `Table::play` reads.
fn ring() -> Seeds {
    let push = |word: u64| [&[5], word.to_le_bytes().as_slice()].concat();
    let [publish, wait, look, take, release] = [[7], [8], [2], [3], [4]].map(|step| step.to_vec());
    let round = [push(7), publish, wait, look.clone(), take.clone(), release].concat();
    let lie = |at: u8, word: u64| [&[0, at], word.to_le_bytes().as_slice()].concat();
    vec![
        ("rounds", [vec![1], round.clone(), round.clone(), round.clone()].concat()),
        ("full", [vec![1], push(1), push(2), push(3)].concat()),
        ("lying_count", [vec![2], round.clone(), lie(16, u64::MAX), look.clone(), take.clone()].concat()),
        ("count_that_went_back", [vec![2], round.clone(), lie(16, 0), look, take].concat()),
        ("lying_consumer", [vec![0], round, vec![1, 16], vec![255; 8], push(9), vec![9]].concat()),
    ]
}
