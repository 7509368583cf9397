//! Takes the terminal, and gives it back as it was: at the end, at an error and at a panic.
//!
//! ratatui's hook restores the terminal before a panic says what it has to say; dropping a [`Stage`] does it for every other
//! way out.

use std::io;

use ratatui::{DefaultTerminal, Frame};

/// The terminal, in raw mode and on its other screen.
#[derive(Debug)]
pub(super) struct Stage {
    terminal: DefaultTerminal,
    held: Held,
}

/// Whether the terminal is still ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Yes,
    No,
}

impl Stage {
    /// Takes it.
    ///
    /// # Errors
    /// Those of the terminal, which is left as it was.
    pub(super) fn enter() -> io::Result<Stage> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Stage { terminal, held: Held::Yes }),
            Err(error) => {
                // It may have gone half of the way.
                let _restored = ratatui::try_restore();
                Err(error)
            }
        }
    }

    /// Draws one frame, in the size that the terminal has by now.
    ///
    /// # Errors
    /// Those of the terminal.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_completed| ())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// Those of the terminal.
    pub(super) fn leave(mut self) -> io::Result<()> {
        self.give_back()
    }

    fn give_back(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.held, Held::No) {
            Held::Yes => ratatui::try_restore().and(self.terminal.show_cursor()),
            Held::No => Ok(()),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // At a panic the hook has given it back already. A second time the cursor would jump to where it was before, and what
        // the panic said would be overwritten.
        if !std::thread::panicking() {
            // Nobody is left to tell.
            let _given_back = self.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};

    use nix::pty::{Winsize, openpty};
    use nix::sys::termios::{LocalFlags, tcgetattr};

    use super::*;

    const ACTOR: &str = "TEST_STAGE_OF_OSTLER";
    const ENTERED: &str = "\x1b[?1049h";
    const LEFT: &str = "\x1b[?1049l";
    const CURSOR: &str = "\x1b[?25h";

    /// Plays itself in a terminal of its own: there it takes the stage and panics.
    #[test]
    fn a_panic_finds_the_terminal_as_it_was_and_says_what_it_has_to_say_there() {
        if std::env::var_os(ACTOR).is_some() {
            let mut stage = Stage::enter().expect("a terminal");
            stage.draw(|_frame| ()).expect("room for a frame");
            panic!("the roof is on fire");
        }
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).expect("a terminal");
        let before = tcgetattr(&terminal.slave).expect("its modes");
        let slave = |which: &str| Stdio::from(terminal.slave.try_clone().expect(which));
        let mut actor = Command::new(std::env::current_exe().expect("this"))
            .args([
                "--exact",
                "top::stage::tests::a_panic_finds_the_terminal_as_it_was_and_says_what_it_has_to_say_there",
            ])
            .args(["--nocapture", "--test-threads=1"])
            .env(ACTOR, "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(slave("in"))
            .stdout(slave("out"))
            .stderr(slave("err"))
            .spawn()
            .expect("a process");
        // Small enough for the terminal to hold until somebody reads.
        let code = actor.wait().expect("its end").code();
        let after = tcgetattr(&terminal.slave).expect("its modes");
        assert_ne!(code, Some(0), "it panics");
        assert!(after.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
        assert_eq!((after.local_flags, after.input_flags), (before.local_flags, before.input_flags));
        drop(terminal.slave);
        let shown = shown(terminal.master);
        let at = |what: &str| shown.rfind(what).unwrap_or_else(|| panic!("no {what:?} in {shown:?}"));
        assert!(at(ENTERED) < at(LEFT) && at(LEFT) < at("the roof is on fire"), "{shown:?}");
        assert!(at(ENTERED) < at(CURSOR), "{shown:?}");
    }

    /// All that came out of a terminal whose other side is closed: reading it ends with EIO.
    fn shown(master: OwnedFd) -> String {
        let mut bytes = Vec::new();
        let _ended = File::from(master).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
