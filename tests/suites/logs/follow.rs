//! `ostler logs`: what it shows, who may read, and who is too slow.

use ostler_tests::Ostler;
use ostler_tests::deadline::{SOON, wait_until};
use ostler_tests::follower::Follower;
use ostler_tests::http::get_once;

use crate::house::{accepting_after, lines, logs, message, printing};

const TWO: &str = r#"
[pool.web]
listen = ["unix:web.sock"]
workers = 2
[pool.api]
listen = ["unix:api.sock"]
workers = 1
"#;

#[test]
fn the_log_of_everything_a_pool_or_a_slot_is_shown_wherever_it_goes() {
    let config = format!("[supervisor]\nlog = {{ file = \"ostler.log\" }}\n{TWO}");
    let mut ostler = Ostler::builder().config(config).start();
    let ready = |args: &[&str]| {
        let found: Vec<String> = logs(&ostler, args)
            .iter()
            .filter(|line| message(line) == "ready")
            .map(|line| line["worker"].as_str().unwrap_or_default().to_owned())
            .collect();
        found
    };
    let mut all = ready(&[]);
    all.sort_unstable();
    assert_eq!(all, ["api/0.1", "web/0.1", "web/1.1"]);
    assert_eq!(ready(&["web/1"]), ["web/1.1"]);
    assert_eq!(ready(&["api"]), ["api/0.1"]);
    assert_eq!(logs(&ostler, &["-n", "2"]).len(), 2);
    let text = ostler.command(&["logs", "-n", "1", "api"]);
    assert_eq!((text.code, text.stdout.lines().count()), (0, 1), "{text:?}");
    for (target, why) in [("nobody", "the pools are: web"), ("web/7", "pool web has no slot 7")] {
        let refused = ostler.command(&["logs", target]);
        assert!(refused.code == 1 && refused.stderr.contains(why), "{refused:?}");
    }
    assert_eq!(ostler.log(), "", "with a file, standard error gets nothing");
    ostler.stop_clean();
}

#[test]
fn who_follows_sees_what_comes_and_leaves_cleanly_at_ctrl_c() {
    let mut ostler = Ostler::builder().config(TWO).start();
    let mut follower = Follower::start(&ostler, &["logs", "-f", "web"]);
    follower.wait("ready worker=web/");
    assert_eq!(ostler.command(&["scale", "api", "+1"]).code, 0);
    assert_eq!(ostler.command(&["scale", "web", "+1"]).code, 0);
    let line = follower.wait("scaled from");
    assert!(line.contains("scaled from 2 to 3 workers pool=web"), "and nothing about api: {line}");
    follower.wait("ready worker=web/2.1");
    assert_eq!(follower.interrupt(), (0, String::new()));
    ostler.stop_clean();
}

#[test]
fn who_follows_hears_of_the_end() {
    let mut ostler = Ostler::builder().config(TWO).start();
    let mut follower = Follower::start(&ostler, &["logs", "-f", "--json"]);
    let first: serde_json::Value = serde_json::from_str(&follower.wait("\"ready\"")).expect("JSON");
    assert_eq!(first["level"], "INFO");
    ostler.stop_clean();
    let (code, said) = follower.end();
    assert!(code == 0 && said.contains("the supervisor has stopped"), "{code}: {said}");
}

#[test]
fn a_follower_that_does_not_read_loses_lines_and_is_told_how_many() {
    // Slow enough that all of it is told: what is dropped before a reader would see it puts nobody behind.
    let flood = "def flood():\n n = 0\n while True:\n  n += 1\n  os.write(1, b'%d %s\\n' % (n, b'x' * 900))\n  time.sleep(0.001)\n\
                 threading.Thread(target=flood, daemon=True).start()";
    let config = format!(
        "[supervisor]\nlog = {{ level = \"warn\" }}\n[pool.quiet]\nlisten = [\"unix:quiet.sock\"]\n{}",
        printing(&accepting_after(flood))
    );
    let mut ostler = Ostler::builder().config(config).start();
    let mut follower = Follower::start(&ostler, &["logs", "-f", "--json", "loud"]);
    let first = follower.wait("\"worker\":\"loud/0.1\"");
    let last_told = |lines: &[serde_json::Value]| {
        lines.iter().rev().find_map(|line| message(line).split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let began = last_told(&lines(&first));
    // It is not read from while more is told than it may be behind and all buffers on the way hold.
    let mut printed = 0;
    wait_until(SOON * 2, "enough was printed", || {
        printed = last_told(&logs(&ostler, &["-n", "5", "loud"]));
        printed > began + 3000
    });
    assert_eq!(get_once(&ostler.unix("quiet.sock"), "/", SOON).expect("served").status, 200);
    while last_told(&lines(&follower.line())) <= printed {}
    let (code, said) = follower.interrupt();
    assert!(code == 0 && said.contains("lines are missing here"), "{code}: {said}");
    ostler.stop_clean();
}

#[test]
fn only_so_many_read_at_a_time_and_the_others_hear_why() {
    let mut ostler = Ostler::builder().config(TWO).start();
    let mut followers: Vec<Follower> = (0..16).map(|_| Follower::start(&ostler, &["logs", "-f"])).collect();
    followers.iter_mut().for_each(|follower| drop(follower.wait("ready")));
    let refused = ostler.command(&["logs"]);
    assert!(refused.code == 1 && refused.stderr.contains("16 clients read the log or a trace already"), "{refused:?}");
    assert_eq!(ostler.status().pools.len(), 2, "whoever asks something else finds a place");
    drop(followers.pop());
    wait_until(SOON, "a place is free again", || ostler.command(&["logs"]).code == 0);
    drop(followers);
    ostler.stop_clean();
}
