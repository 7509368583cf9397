//! Names this process after its worker, so that ps and top show which one is which and what it is about to do.
//!
//! The name is that of the first thread (`/proc/PID/comm`), written a few times in a worker's life and never for a
//! connection. The arguments stay what they are: they are the program's, and Rust has no sound way to write over them.

use ostler_shared::WorkerName;

/// What a worker is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It loads what it needs.
    Starting,
    /// It serves.
    Ready,
    /// It finishes what it holds, and leaves.
    Draining,
}

/// Shows it. A system that does not let it be shown loses nothing else, so what goes wrong is nobody's concern.
pub(crate) fn show(name: &WorkerName, doing: Doing) {
    let _shown = std::fs::write(FIRST_THREAD, title(name, doing));
}

/// `web/3.7 ready`. Where that is too long, first the state becomes a letter, then the pool's name is cut.
fn title(name: &WorkerName, doing: Doing) -> String {
    let word = match doing {
        Doing::Starting => "start",
        Doing::Ready => "ready",
        Doing::Draining => "drain",
    };
    let whole = format!("{name} {word}");
    if whole.len() <= TITLE_BYTES_MAX {
        return whole;
    }
    let place = format!("/{}.{} {}", name.slot, name.generation, &word[..1]);
    let room = TITLE_BYTES_MAX.saturating_sub(place.len());
    name.pool.as_str().chars().take(room).chain(place.chars()).take(TITLE_BYTES_MAX).collect()
}

/// It names the first thread, whichever writes it (proc_pid_comm(5)).
const FIRST_THREAD: &str = "/proc/self/comm";

/// TASK_COMM_LEN without its NUL. The kernel would cut the end off, which is the state.
const TITLE_BYTES_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use ostler_shared::{Generation, SlotNo};

    use super::*;

    fn of(pool: &str, slot: u32, generation: u32, doing: Doing) -> String {
        let name = WorkerName { pool: pool.parse().unwrap(), slot: SlotNo(slot), generation: Generation(generation) };
        title(&name, doing)
    }

    #[test]
    fn a_title_says_who_and_what() {
        assert_eq!(of("web", 3, 7, Doing::Starting), "web/3.7 start");
        assert_eq!(of("web", 3, 7, Doing::Ready), "web/3.7 ready");
        assert_eq!(of("web", 3, 7, Doing::Draining), "web/3.7 drain");
        assert_eq!(of("hello", 3, 7, Doing::Ready), "hello/3.7 ready", "fifteen bytes are taken to the last");
    }

    #[test]
    fn a_long_one_loses_the_word_before_the_name_and_the_name_before_the_number() {
        assert_eq!(of("backend", 12, 7, Doing::Ready), "backend/12.7 r");
        assert_eq!(of("a-pool-with-a-long-name", 12, 105, Doing::Draining), "a-pool/12.105 d");
        assert_eq!(of("web", 4095, 1_000_000_000, Doing::Ready), "/4095.100000000");
    }
}
