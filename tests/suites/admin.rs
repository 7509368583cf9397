//! Does the admin server tell the truth, at once, to everybody, whatever else is stuck and whoever else is connected?

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ostler_tests::deadline::{SOON, wait_for};
use ostler_tests::http::{Answer, Connection, Keep, get_once};
use ostler_tests::load::Load;
use ostler_tests::status::Status;
use ostler_tests::target::{Stream, Target};
use ostler_tests::{Builder, Ostler, Scratch, bounded, place, procs, programs};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
/// What is promised when all workers are stuck.
const AT_ONCE: Duration = Duration::from_millis(100);
/// `HEAD_WITHIN` of the server, and some slack.
const HEAD_WITHIN: Duration = Duration::from_secs(5 + 15);
/// A browser on a machine with other work to do.
const BROWSER_LIMIT: Duration = Duration::from_secs(90);
/// What of the page is looked at.
const EXPRESSION: &str = "({ \
    wide: document.documentElement.scrollWidth, text: document.body.innerText, title: document.title, \
    made_of_words: document.querySelectorAll('img, b').length, focus: document.activeElement.ariaLabel, \
    outline: getComputedStyle(document.activeElement).outlineStyle, ink: getComputedStyle(document.body).color, \
    ground: getComputedStyle(document.body).backgroundColor })";
const POOL: &str = "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\nconcurrency = 1\nqueue.limit = 3\n";
/// For many connections in a short time.
const FAST_POOL: &str = "[pool.web]\nlisten = [\"unix:web.sock\"]\nworkers = 2\nconcurrency = 8\n[pool.web.start]\nfailures = 100\nbackoff = [\"10ms\", \"10ms\"]\n";
const ADMIN: &str = "[admin]\nlisten = \"unix:admin.sock\"\n";

fn start() -> Ostler {
    Ostler::builder().config(format!("{ADMIN}{POOL}")).start()
}

fn ask(ostler: &Ostler, path: &str) -> Answer {
    let answer = Connection::open(&ostler.unix("admin.sock"), PATIENCE).and_then(|mut to| to.get(path, Keep::Once));
    answer.unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn text(ostler: &Ostler, path: &str) -> String {
    let answer = ask(ostler, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("a process of ours");
}

fn pids_of(ostler: &Ostler, pool: &str) -> Vec<i32> {
    ostler.status().pool(pool).pids()
}

/// What an independent reader of the format makes of it: by series.
fn parsed(metrics: &str) -> BTreeMap<String, f64> {
    const READER: &str = "import json, sys\nfrom prometheus_client.parser import text_string_to_metric_families as read\n\
        series = [(s.name + json.dumps(s.labels, sort_keys=True), s.value) for f in read(sys.stdin.read()) for s in f.samples]\n\
        assert len(dict(series)) == len(series), 'a series is there twice'\nprint(json.dumps(dict(series)))\n";
    let mut reader = Command::new(place::python())
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the environment of tests/run");
    reader.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("it reads");
    let read = reader.wait_with_output().expect("it ends");
    assert!(read.status.success(), "{metrics}");
    serde_json::from_slice(&read.stdout).expect("JSON of numbers")
}

fn series(metrics: &BTreeMap<String, f64>, name: &str, more: &str) -> f64 {
    let key = format!("{name}{{{more}\"pool\": \"web\"}}");
    *metrics.get(&key).unwrap_or_else(|| panic!("no {key} in {metrics:#?}"))
}

fn raw(ostler: &Ostler, request: &str) -> String {
    let mut stream = ostler.unix("admin.sock").connect(PATIENCE).expect("connected");
    stream.write_all(request.as_bytes()).expect("sent");
    read_all(&mut stream)
}

fn read_all(stream: &mut Stream) -> String {
    let mut answer = Vec::new();
    // A reset behind an answer is an end as well.
    let _ended = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// `accepted = done + lost + shed + waiting + claimed`.
fn assert_balanced(metrics: &BTreeMap<String, f64>) {
    let of = |name: &str| series(metrics, &format!("ostler_connections_{name}"), "");
    let shed: f64 = metrics
        .iter()
        .filter(|(key, _)| key.starts_with("ostler_connections_shed_total") && key.contains("\"pool\": \"web\""))
        .map(|(_, count)| count)
        .sum();
    let places = of("done_total") + of("lost_total") + shed + of("waiting") + of("claimed");
    assert_eq!(of("accepted_total"), places, "{metrics:#?}");
}

#[test]
fn counters_agree_with_a_client_that_counts_a_hundred_thousand_connections() {
    const CLIENTS: u32 = 16;
    const EACH: u32 = 6250;
    let mut ostler = Ostler::builder().config(format!("{ADMIN}{FAST_POOL}")).start();
    let tally = Load::on(&ostler.unix("web.sock")).clients(CLIENTS as usize).requests_each(EACH.into()).run();
    tally.assert_no_failure();
    let count = f64::from(CLIENTS * EACH);
    assert_eq!((tally.served, tally.connects), (100_000, 100_000));
    let metrics = wait_for(SOON, "all is published", || {
        let metrics = parsed(&text(&ostler, "/metrics"));
        (series(&metrics, "ostler_connections_done_total", "") >= count).then_some(metrics)
    });
    for (name, count) in [
        ("ostler_connections_accepted_total", count),
        ("ostler_connections_done_total", count),
        ("ostler_connections_lost_total", 0.0),
        ("ostler_connections_waiting", 0.0),
        ("ostler_connections_claimed", 0.0),
        ("ostler_service_seconds_count", count),
    ] {
        assert_eq!(series(&metrics, name, ""), count, "{name}");
    }
    assert_balanced(&metrics);
    // A wait is counted at each handoff, and a worker that stands for a moment makes more of them.
    let handed = series(&metrics, "ostler_connections_handed_total", "");
    assert_eq!(series(&metrics, "ostler_waiting_seconds_count", ""), handed);
    let came_back =
        ["recalled", "redelivered"].map(|how| series(&metrics, &format!("ostler_connections_{how}_total"), ""));
    assert_eq!(handed, count + came_back.iter().sum::<f64>());
    assert_eq!(series(&metrics, "ostler_service_seconds_bucket", "\"le\": \"+Inf\", "), count);
    ostler.stop_clean();
}

#[test]
fn counters_balance_at_every_instant_while_workers_are_killed_and_agree_with_the_client_afterwards() {
    let mut ostler = Ostler::builder().config(format!("{ADMIN}{FAST_POOL}")).start();
    let load = Load::on(&ostler.unix("web.sock")).clients(8).start();
    for kills in 1..=10 {
        load.wait_for_more(200);
        let victim = pids_of(&ostler, "web")[0];
        send(victim, Signal::SIGKILL);
        wait_for(SOON, "the death is counted", || {
            let metrics = parsed(&text(&ostler, "/metrics"));
            assert_balanced(&metrics);
            let key = "ostler_worker_deaths_total{\"pool\": \"web\", \"reason\": \"signal\"}";
            (metrics.get(key) == Some(&f64::from(kills))).then_some(())
        });
        ostler.wait_status("it is replaced", |status| (!status.pool("web").pids().contains(&victim)).then_some(()));
    }
    let tally = load.stop();
    let metrics = wait_for(SOON, "nothing is under way", || {
        let metrics = parsed(&text(&ostler, "/metrics"));
        let of = |name: &str| series(&metrics, name, "");
        let idle = of("ostler_connections_waiting") == 0.0 && of("ostler_connections_claimed") == 0.0;
        (idle && of("ostler_connections_accepted_total") == f64::from(u32::try_from(tally.connects).ok()?))
            .then_some(metrics)
    });
    assert_balanced(&metrics);
    let lost = series(&metrics, "ostler_connections_lost_total", "");
    // One that was answered may be lost all the same, when its worker died before it could say so.
    assert!(f64::from(u32::try_from(tally.failed()).expect("few")) <= lost, "{tally:?} {lost}");
    ostler.stop();
}

#[test]
fn a_template_is_counted_with_the_workers_that_it_has_forked() {
    let scratch = Scratch::new();
    let command = programs::toml(&programs::templated(&scratch.path("journal"), &[]));
    let pool = POOL.replace("concurrency = 1", &format!("command = {command}\nreload.template = true"));
    let mut ostler = Builder::new(&scratch).config(format!("{ADMIN}{pool}")).start();
    let shows = |what: &str, wanted: [f64; 3]| {
        wait_for(SOON, what, || {
            let metrics = parsed(&text(&ostler, "/metrics"));
            let state = |state: &str| {
                metrics.get(&format!("ostler_pool_templates{{\"pool\": \"web\", \"state\": \"{state}\"}}"))
            };
            let of_newest = |name: &str| metrics.get(&format!("ostler_template_{name}{{\"pool\": \"web\"}}"));
            assert!(!metrics.keys().any(|key| key.contains("template") && key.contains("admin")), "it has none");
            let is_alone = ["starting", "draining", "leaving"].iter().all(|other| state(other) == Some(&0.0));
            let shown = [state("ready"), of_newest("generation"), of_newest("forked")];
            (is_alone && shown == wanted.each_ref().map(Some)).then_some(())
        });
    };
    shows("it has forked both", [1.0, 1.0, 2.0]);
    send(pids_of(&ostler, "web")[0], Signal::SIGKILL);
    shows("it has forked a third one", [1.0, 1.0, 3.0]);
    assert_eq!(ostler.command(&["reload", "web"]).code, 0);
    shows("the next one has forked both", [1.0, 2.0, 2.0]);
    ostler.stop_clean();
}

#[test]
fn everything_is_answered_at_once_while_all_workers_stand_and_the_line_is_full() {
    let mut ostler = start();
    let workers = pids_of(&ostler, "web");
    workers.iter().for_each(|pid| send(*pid, Signal::SIGSTOP));
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Connection::open(&ostler.unix("web.sock"), PATIENCE).expect("open");
        client.ask("/", Keep::Once).expect("ask");
        clients.push(client);
    }
    let full = |status: &Status| (status.pool("web").queue.length >= 3).then_some(());
    wait_for(SOON, "the page knows", || full(&serde_json::from_str(&text(&ostler, "/status.json")).expect("a status")));
    for path in ["/status.json", "/metrics", "/live.json", "/healthz"] {
        // The machine may be busy with something else; the server is not.
        let best = (0..5).map(|_| {
            let begun = Instant::now();
            text(&ostler, path);
            begun.elapsed()
        });
        assert!(best.min() < Some(AT_ONCE), "{path}");
    }
    let best = (0..5).map(|_| {
        let begun = Instant::now();
        let shown = ostler.command(&["status"]);
        assert!(shown.code == 0 && shown.stdout.contains("! web: ready: the line is full, 3 of 3"), "{shown:?}");
        begun.elapsed()
    });
    assert!(best.min() < Some(AT_ONCE), "the command");
    let metrics = parsed(&text(&ostler, "/metrics"));
    assert!(
        series(&metrics, "ostler_queue_length", "") >= 3.0 && series(&metrics, "ostler_queue_oldest_seconds", "") > 0.0
    );
    workers.iter().for_each(|pid| send(*pid, Signal::SIGCONT));
    for client in &mut clients {
        assert_eq!(client.answer().expect("served").status, 200);
    }
    ostler.stop_clean();
}

#[test]
fn the_state_has_the_schema_of_the_command_and_the_page_all_of_its_parts() {
    let mut ostler = start();
    let status: Status = serde_json::from_str(&text(&ostler, "/status.json")).expect("as the contract says");
    assert_eq!(status.check_books(), Ok(()));
    let names: Vec<&str> = status.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["web", "admin"]);
    let keys = |json: &str| {
        let value: Value = serde_json::from_str(json).expect("JSON");
        value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&text(&ostler, "/status.json")), keys(&ostler.command(&["status", "--json"]).stdout));
    let page = text(&ostler, "/");
    for part in ["/page.css", "/page.js"] {
        assert!(page.contains(part) && !text(&ostler, part).is_empty(), "{part}");
    }
    for elsewhere in ["http://", "https://", "<style", "onclick"] {
        assert!(!page.contains(elsewhere), "nothing from elsewhere, nothing inline: {elsewhere}");
    }
    let head = raw(&ostler, "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").to_lowercase();
    for field in
        ["content-security-policy: default-src 'none';", "cache-control: no-store", "x-content-type-options: nosniff"]
    {
        assert!(head.contains(field), "{head}");
    }
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
    assert_eq!(ostler.command(&["reload"]).code, 0);
    send(pids_of(&ostler, "web")[0], Signal::SIGKILL);
    wait_for(SOON, "the page shows both", || {
        let live: Value = serde_json::from_str(&text(&ostler, "/live.json")).expect("JSON");
        let died = live["deaths"].as_array()?.iter().any(|death| death["signal"] == 9);
        (died && live["reloads"][0]["outcome"] == "ok" && !live["history"]["web"].as_array()?.is_empty()).then_some(())
    });
    ostler.wait_status("all are back", |status| (status.pool("web").ready().len() == 2).then_some(()));
    ostler.stop_clean();
}

/// What an expression is worth in the page as a browser shows it, in so many columns of pixels, after one press of Tab.
fn seen(target: &Target, width: u16, scheme: &str, expression: &str) -> Value {
    let Target::Tcp(address) = target else { panic!("a browser knows no other sockets") };
    let mut picture = Command::new(place::workspace().join("docs/screens/picture"));
    picture.arg(format!("http://{address}/")).args([
        "/dev/null",
        &width.to_string(),
        "0",
        scheme,
        "2",
        "1",
        expression,
    ]);
    let output = bounded::run(&mut picture, BROWSER_LIMIT);
    assert_eq!(output.code, 0, "{}", output.stderr);
    serde_json::from_str(&output.stdout).expect("JSON")
}

#[test]
fn the_page_fits_a_phone_shows_the_focus_and_takes_what_workers_say_for_text() {
    const EVIL: &str = "<img src=x onerror=document.title=1><b>";
    let slow_start = place::program("slow_start").display().to_string();
    let worker = format!("echo '{EVIL}{}'; exec {slow_start} 0", "x".repeat(300));
    let target = Target::free_tcp();
    let config = |script: &str| {
        let command = serde_json::to_string(&["sh", "-c", script]).expect("JSON");
        format!("[admin]\nlisten = \"{}\"\n{POOL}command = {command}\n", target.listen())
    };
    let mut ostler = Ostler::builder().config(config(&worker)).start();
    send(pids_of(&ostler, "web")[0], Signal::SIGKILL);
    ostler.wait_status("both are back", |status| (status.pool("web").ready().len() == 2).then_some(()));
    ostler.rewrite_config(&config(&format!("echo '{EVIL}'; exit 3")));
    assert_eq!(ostler.command(&["reload", "web"]).code, 3);
    let look = |width, scheme| {
        wait_for(BROWSER_LIMIT, "the page knows what has happened", || {
            let seen = seen(&target, width, scheme, EXPRESSION);
            let text = seen["text"].as_str().expect("text");
            ["SIGKILL", "the last reload was undone", EVIL].iter().all(|what| text.contains(what)).then_some(seen)
        })
    };
    let phone = look(360, "light");
    assert_eq!(phone["wide"], 360, "nothing has to be scrolled sideways: {phone}");
    assert_eq!(phone["made_of_words"], 0, "{phone}");
    assert!(phone["title"].as_str().is_some_and(|title| title.ends_with("ostler")), "{phone}");
    assert_eq!((&phone["focus"], &phone["outline"]), (&"Workers of web".into(), &"solid".into()), "{phone}");
    let dark = look(1000, "dark");
    assert_eq!((&dark["wide"], &phone["ground"]), (&1000.into(), &"rgb(255, 255, 255)".into()));
    assert_eq!((&dark["ground"], &dark["ink"]), (&"rgb(13, 17, 23)".into(), &"rgb(230, 237, 243)".into()));
    ostler.stop_clean();
}

#[test]
fn readiness_follows_pauses_and_stops_with_the_reason() {
    let config = format!("{ADMIN}{POOL}[supervisor]\nshutdown_delay = \"3s\"\n");
    let mut ostler = Ostler::builder().config(config).start();
    for path in ["/readyz", "/readyz?pool=web", "/readyz?pool=admin", "/healthz", "/healthz?pool=web"] {
        // What is published is as old as it may be.
        wait_for(SOON, path, || (ask(&ostler, path).status == 200).then_some(()));
        assert_eq!(text(&ostler, path), "ok\n");
    }
    assert_eq!(ask(&ostler, "/readyz?pool=nobody").status, 404);
    assert_eq!(ask(&ostler, "/readyz?web").status, 400);
    let not_ready = |path: &str, why: &str| {
        wait_for(SOON, why, || {
            let answer = ask(&ostler, path);
            (answer.status == 503 && answer.text().contains(why)).then_some(())
        });
    };
    assert_eq!(ostler.command(&["pause"]).code, 0, "everything but the one who is asked");
    not_ready("/readyz", "pool web is paused");
    assert_eq!(text(&ostler, "/healthz"), "ok\n");
    assert_eq!(ostler.command(&["resume"]).code, 0);
    wait_for(SOON, "ready again", || (ask(&ostler, "/readyz").status == 200).then_some(()));
    // A supervisor that is stopped lets nobody in; who is in is answered.
    let mut kept = Connection::open(&ostler.unix("admin.sock"), PATIENCE).expect("open");
    assert_eq!(kept.get("/healthz", Keep::Alive).expect("answered").status, 200);
    ostler.signal(Signal::SIGSTOP);
    for path in ["/readyz", "/healthz"] {
        wait_for(SOON, "it is seen", || {
            kept.get(path, Keep::Alive).expect("answered").text().contains("SIGSTOP").then_some(())
        });
    }
    ostler.signal(Signal::SIGCONT);
    ostler.signal(Signal::SIGTERM);
    not_ready("/readyz", "the supervisor is stopping");
    assert_eq!(ostler.wait(PATIENCE).code, 0);
}

#[test]
fn a_supervisor_that_stands_still_is_told_to_who_connects_then() {
    let mut ostler = start();
    let all_ready = |status: &Status| (status.pool("web").ready().len() == 2).then_some(());
    wait_for(SOON, "it is published", || {
        all_ready(&serde_json::from_str(&text(&ostler, "/status.json")).expect("a status"))
    });
    ostler.stop_still();
    let health = ask(&ostler, "/healthz");
    assert!(health.status == 503 && health.text().contains("stopped"), "{}", health.text());
    let status: Status = serde_json::from_str(&text(&ostler, "/status.json")).expect("a status");
    assert!(all_ready(&status).is_some() && status.age_s > 0.0, "{status:?}");
    assert!(text(&ostler, "/metrics").contains("ostler_connections_accepted_total"));
    ostler.signal(Signal::SIGCONT);
    ostler.stop_clean();
}

#[test]
fn its_worker_has_no_rights_and_is_replaced_like_any_other() {
    let mut ostler = start();
    let pid = pids_of(&ostler, "admin")[0];
    assert_eq!(procs::status_field(pid, "NoNewPrivs"), "1");
    if nix::unistd::geteuid().is_root() {
        assert!(procs::status_field(pid, "Uid").starts_with("65534"), "root's admin server is nobody");
        assert_eq!(procs::status_field(pid, "CapEff").trim_start_matches('0'), "");
    }
    send(pid, Signal::SIGKILL);
    ostler.wait_status("another one", |status| {
        (status.pool("admin").ready().len() == 1 && status.pool("admin").pids() != [pid]).then_some(())
    });
    text(&ostler, "/metrics");
    assert_eq!(ostler.command(&["reload", "admin"]).code, 0);
    text(&ostler, "/metrics");
    ostler.rewrite_config(POOL);
    assert_eq!(ostler.command(&["reload"]).code, 0);
    wait_for(SOON, "it is gone", || get_once(&ostler.unix("admin.sock"), "/", PATIENCE).is_err().then_some(()));
    ostler.rewrite_config(&format!("{ADMIN}{POOL}"));
    assert_eq!(ostler.command(&["reload"]).code, 0);
    wait_for(SOON, "it is back", || {
        (get_once(&ostler.unix("admin.sock"), "/metrics", PATIENCE).ok()?.status == 200).then_some(())
    });
    ostler.stop_clean();
}

#[test]
fn what_is_no_request_is_refused() {
    let mut ostler = start();
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(), "405"),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n".to_owned(), "413"),
        ("GET /etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "404"),
        ("\x16\x03\x01\x02\0garbage\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "400"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)), "4"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(40_000)), "431"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100)), "431"),
    ] {
        let answer = raw(&ostler, &request);
        let shown: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown:?}: {answer:?}");
    }
    text(&ostler, "/metrics");
    ostler.stop_clean();
}

#[test]
fn idle_clients_half_requests_and_slow_readers_keep_nobody_out_and_are_let_go() {
    let target = Target::free_tcp();
    let config = format!("[admin]\nlisten = \"{}\"\n{POOL}", target.listen());
    let mut ostler = Ostler::builder().config(config).start();
    let worker = pids_of(&ostler, "admin")[0];
    let descriptors = procs::descriptor_count(worker);
    let asked = |target: &Target| get_once(target, "/metrics", PATIENCE).map(|answer| answer.status);
    let mut crowd: Vec<Stream> = Vec::new();
    for number in 0..200 {
        let mut stream = target.connect(PATIENCE).expect("connected");
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").expect("sent"),
            _ => stream.write_all(b"GET /page.js HTTP/1.1\r\nHost: x\r\n\r\n".repeat(40).as_slice()).expect("sent"),
        }
        crowd.push(stream);
        if number % 20 == 0 {
            assert_eq!(asked(&target), Ok(200), "with {number} others");
        }
    }
    assert_eq!(asked(&target), Ok(200));
    assert_eq!(ostler.command(&["status"]).code, 0);
    // Whoever asks nothing is let go by himself.
    let idle = crowd.iter_mut().rev().find(|_| true).expect("there are some");
    idle.set_read_timeout(HEAD_WITHIN).expect("a time");
    let _answers = read_all(idle);
    drop(crowd);
    wait_for(HEAD_WITHIN, "all are let go", || (procs::descriptor_count(worker) <= descriptors + 1).then_some(()));
    assert_eq!(pids_of(&ostler, "admin"), [worker], "it has survived");
    ostler.stop_clean();
}
