//! Runs a command on a terminal, and tells what stands on its screen.

use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nix::pty::{Winsize, openpty};

use crate::bounded::exit_code;
use crate::deadline::{SOON, try_for, wait_for};

/// Lines of the screen.
const ROWS: NonZero<u16> = NonZero::new(24).unwrap();
/// Characters in a line.
const COLUMNS: NonZero<u16> = NonZero::new(80).unwrap();

/// A command that runs on a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.screen.screen().contents())
    }
}

/// What a command on a terminal left.
#[derive(Debug)]
pub struct Left {
    /// Its exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// What stands on the screen.
    pub screen: String,
    /// Everything that was sent to the terminal.
    pub bytes: String,
}

impl Left {
    /// The lines on the screen down to the last one that is not empty.
    #[must_use]
    pub fn lines(&self) -> Vec<&str> {
        self.screen.trim_end().lines().collect()
    }
}

impl Terminal {
    /// Starts a command with all three streams on a terminal of 24 lines and 80 columns that understands colours.
    ///
    /// # Panics
    /// When there is no terminal, or it can't be started.
    #[must_use]
    pub fn start(mut command: Command) -> Terminal {
        let size = Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a terminal");
        let stream = || pair.slave.try_clone().expect("a descriptor");
        command.env("TERM", "xterm-256color").stdin(stream()).stdout(stream()).stderr(stream());
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        // Ours have to go, so that the terminal ends with the command.
        drop((command, pair.slave));
        let seen = Arc::new(Mutex::new(Seen { screen: vt100::Parser::new(ROWS, COLUMNS, 0), bytes: Vec::new() }));
        let reader = thread::spawn({
            let seen = Arc::clone(&seen);
            let mut master = File::from(pair.master);
            move || {
                let mut chunk = [0; 4096];
                // EIO is how a terminal ends that nobody writes to any more.
                while let Ok(count @ 1..) = master.read(&mut chunk) {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.screen.process(&chunk[..count]);
                    seen.bytes.extend(&chunk[..count]);
                }
            }
        });
        Terminal { child, seen, reader: Some(reader) }
    }

    /// The command's process.
    ///
    /// # Panics
    /// Never: a pid fits.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits in an i32")
    }

    /// What stands on the screen now.
    #[must_use]
    pub fn screen(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).screen.screen().contents()
    }

    /// Waits for a screen that has all of these texts.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn wait_screen(&self, texts: &[&str]) -> String {
        let found = try_for(SOON, || {
            let screen = self.screen();
            texts.iter().all(|text| screen.contains(text)).then_some(screen)
        });
        found.unwrap_or_else(|| panic!("waited {SOON:?} in vain for {texts:?} on the screen\n{}", self.screen()))
    }

    /// Waits for the command's end.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn wait(mut self) -> Left {
        let status = wait_for(SOON, "the end of the command", || self.child.try_wait().expect("our child"));
        self.reader.take().expect("it is waited for once").join().expect("no panic");
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Left {
            code: exit_code(status),
            screen: seen.screen.screen().contents(),
            bytes: String::from_utf8_lossy(&seen.bytes).into_owned(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only where a test failed is it still there.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}
