//! Logs that can't be written, and logs that nobody reads.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use ostler_tests::deadline::{SLACK, SOON, wait_until};
use ostler_tests::load::Load;
use ostler_tests::{Builder, Ostler, Scratch};

const CONFIG: &str = r#"
[supervisor]
log = { level = "debug" }
[pool.web]
listen = ["unix:web.sock"]
workers = 2
concurrency = 4
"#;

/// Starts with standard error where `redirection` says; its log is not to be had.
fn start(scratch: &Scratch, redirection: &str) -> Ostler {
    Builder::new(scratch).config(CONFIG).prologue(redirection).start()
}

/// Serves, loses a worker, reloads: whatever writes lines.
fn live_on(ostler: &Ostler) {
    let load = Load::on(&ostler.unix("web.sock")).clients(4).start();
    load.wait_for_more(50);
    let pid = ostler.status().only().pids()[0];
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a worker of ours");
    ostler.wait_status("it is replaced", |status| {
        let pool = status.only();
        (pool.ready().len() == 2 && !pool.pids().contains(&pid)).then_some(())
    });
    assert_eq!(ostler.command(&["reload"]).code, 0);
    load.wait_for_more(50);
    let (failed, lost) = (load.stop().failed(), ostler.status().only().lost);
    assert!(failed <= lost, "{failed} failed, {lost} lost");
}

#[test]
fn a_log_on_a_full_device_stops_nobody() {
    let scratch = Scratch::new();
    let mut ostler = start(&scratch, "exec 2>/dev/full;");
    live_on(&ostler);
    ostler.stop_clean();
}

#[test]
fn a_log_on_a_full_disk_stops_nobody_and_goes_on_when_there_is_room() {
    let scratch = Scratch::new();
    let disk = scratch.path("disk");
    fs::create_dir(&disk).expect("ours");
    let in_a_small_world = format!(
        r#"set -- unshare --mount --map-root-user -- sh -c '
            mount -t tmpfs -o size=64k none {disk} || exit 99
            cat /dev/zero > {disk}/filler 2> /dev/null
            exec "$@" 2>> {disk}/log' sh "$@";"#,
        disk = disk.display()
    );
    let mut ostler = start(&scratch, &in_a_small_world);
    // The disk is mounted for the supervisor alone, so it is reached through it.
    let seen_by_it = format!("/proc/{}/root{}", ostler.pid(), disk.display());
    live_on(&ostler);
    assert_eq!(fs::read_to_string(format!("{seen_by_it}/log")).expect("it is there"), "");
    fs::remove_file(format!("{seen_by_it}/filler")).expect("it is there");
    live_on(&ostler);
    wait_until(SOON, "lines appear again", || {
        fs::read_to_string(format!("{seen_by_it}/log")).is_ok_and(|log| log.contains("ended with signal SIGKILL"))
    });
    ostler.stop_clean();
}

#[test]
fn a_log_at_the_limit_of_its_size_stops_nobody() {
    let scratch = Scratch::new();
    let mut ostler = start(&scratch, "ulimit -f 1;");
    live_on(&ostler);
    let ended = ostler.stop();
    assert_eq!(ended.code, 0, "{}", ended.log);
    // One unit of `ulimit -f`, which is 512 bytes in one shell and 1,024 in another.
    assert!([512, 1024].contains(&ended.log.len()), "the limit was not reached: {}", ended.log.len());
}

#[test]
fn a_log_that_nobody_reads_stops_nobody_and_is_written_on_when_somebody_does() {
    let scratch = Scratch::new();
    let fifo = scratch.path("log.fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("ours");
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("a reader");
    let mut ostler = start(&scratch, &format!("exec 2>{};", fifo.display()));
    // At this level each connection is worth no line, so it takes workers that come and go to fill the pipe.
    wait_until(Duration::from_secs(60), "the pipe is full", || {
        live_on(&ostler);
        unread(&reader) > 60_000
    });
    live_on(&ostler);
    let mut text = String::new();
    drain(&reader, &mut text);
    live_on(&ostler);
    wait_until(SOON, "the reader sees what came later", || {
        drain(&reader, &mut text);
        text.matches("reload complete").count() > 3
    });
    ostler.stop_clean();
}

#[test]
fn a_stop_does_not_wait_for_a_log_that_nobody_reads() {
    let scratch = Scratch::new();
    let fifo = scratch.path("log.fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("ours");
    let _reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("a reader");
    // Full from the beginning: not one line of the supervisor's fits.
    let fill = format!("exec 2>{}; dd if=/dev/zero bs=65536 count=1 >&2 2> /dev/null;", fifo.display());
    let mut ostler = start(&scratch, &fill);
    live_on(&ostler);
    ostler.signal(Signal::SIGTERM);
    assert_eq!(ostler.wait(Duration::from_secs(30) + SLACK).code, 0);
    ostler.assert_no_process_left();
}

fn unread(pipe: &File) -> usize {
    ostler_shared::sys::fd::unread_bytes(std::os::fd::AsFd::as_fd(pipe)).expect("an open pipe")
}

/// Takes what is there.
fn drain(mut pipe: &File, text: &mut String) {
    let mut chunk = [0; 65536];
    while let Ok(count @ 1..) = pipe.read(&mut chunk) {
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
}
