//! Holds the scoreboard as a file: who may read it, what becomes of it when it is truncated, replaced or removed.

use std::os::unix::fs::symlink;

use super::super::content::{Supervisor, Turns};
use super::*;

/// A directory that goes with its test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let dir = std::env::temp_dir().join(format!("ostler-board-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Place(dir)
    }

    fn board(&self) -> PathBuf {
        beside(&self.0.join("x.sock"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _removed = fs::remove_dir_all(&self.0);
    }
}

fn state(turns: u64) -> Content {
    let supervisor = Supervisor {
        version: "1".into(),
        pid: 1,
        process_start: None,
        state: "running".into(),
        started_at_ns: 0,
        published_at_ns: 0,
        published_at_unix_ms: 0,
        turns: Turns { count: turns, ..Turns::default() },
        log_lines_dropped: 0,
        deaths: 0,
        reloads_ok: 0,
        reloads_undone: 0,
    };
    Content { supervisor, pools: Vec::new(), reloads: Vec::new(), deaths: Vec::new() }
}

fn read_at(path: &Path) -> Result<Content, BoardError> {
    Board::open(path)?.read()
}

#[test]
fn a_board_is_private_is_read_and_goes_with_its_owner() {
    let place = Place::new("private");
    let mut posted = Posted::post(&place.board(), &state(1).encode()).unwrap();
    assert_eq!(fs::metadata(place.board()).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(read_at(&place.board()).unwrap(), state(1));
    posted.publish(&state(2).encode()).unwrap();
    assert_eq!(read_at(&place.board()).unwrap(), state(2));
    drop(posted);
    assert!(matches!(read_at(&place.board()).unwrap_err(), BoardError::Missing(_)));
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0, "nothing is left beside it");
}

#[test]
fn it_takes_the_place_of_what_a_killed_supervisor_left_and_follows_no_link() {
    let place = Place::new("stale");
    let elsewhere = place.0.join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    symlink(&elsewhere, place.board()).unwrap();
    symlink(&elsewhere, appended(&place.board(), ".new")).unwrap();
    let posted = Posted::post(&place.board(), &state(1).encode()).unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    assert_eq!(read_at(&place.board()).unwrap(), state(1));
    drop(posted);
}

#[test]
fn somebody_elses_file_at_its_path_is_not_unlinked() {
    let place = Place::new("replaced");
    let posted = Posted::post(&place.board(), &state(1).encode()).unwrap();
    assert!(posted.is_in_place());
    fs::remove_file(place.board()).unwrap();
    assert!(!posted.is_in_place());
    fs::write(place.board(), "other").unwrap();
    drop(posted);
    assert_eq!(fs::read_to_string(place.board()).unwrap(), "other");
}

#[test]
fn a_truncation_harms_neither_side() {
    let place = Place::new("truncated");
    let mut posted = Posted::post(&place.board(), &state(1).encode()).unwrap();
    for length in [0, 8, 64, 70] {
        OpenOptions::new().write(true).open(place.board()).unwrap().set_len(length).unwrap();
        let refused = read_at(&place.board()).unwrap_err();
        assert!(matches!(refused, BoardError::Unreadable(_, Unreadable::Short)), "{length} bytes: {refused}");
        posted.publish(&state(length).encode()).unwrap();
        assert_eq!(read_at(&place.board()).unwrap(), state(length), "{length} bytes");
    }
}

#[test]
fn only_what_is_used_takes_room() {
    let place = Place::new("sparse");
    let mut posted = Posted::post(&place.board(), &state(1).encode()).unwrap();
    posted.publish(&state(2).encode()).unwrap();
    let found = fs::metadata(place.board()).unwrap();
    assert!(found.len() > 1 << 22, "{}", found.len());
    assert!(found.blocks() * 512 < 1 << 18, "{} blocks", found.blocks());
}

#[test]
fn what_others_could_have_made_is_not_read() {
    let place = Place::new("suspicious");
    let posted = Posted::post(&place.board(), &state(1).encode()).unwrap();
    for mode in [0o640, 0o602, 0o604] {
        fs::set_permissions(place.board(), Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(read_at(&place.board()).unwrap_err(), BoardError::Open(_, found) if found == mode),
            "{mode:o}"
        );
    }
    drop(posted);
    symlink("/etc/passwd", place.board()).unwrap();
    assert!(matches!(read_at(&place.board()).unwrap_err(), BoardError::NotAFile(_)));
    fs::remove_file(place.board()).unwrap();
    fs::create_dir(place.board()).unwrap();
    assert!(matches!(read_at(&place.board()).unwrap_err(), BoardError::NotAFile(_)));
    fs::remove_dir(place.board()).unwrap();
    nix::unistd::mkfifo(&place.board(), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(read_at(&place.board()).unwrap_err(), BoardError::NotAFile(_)));
    fs::remove_file(place.board()).unwrap();
    let _bound = std::os::unix::net::UnixListener::bind(place.board()).unwrap();
    assert!(matches!(read_at(&place.board()).unwrap_err(), BoardError::NotAFile(_)));
}
