//! Runs a program in a real terminal, that of tmux, and looks at its screen.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bounded::{self, Output};
use crate::builder::clean_environment;
use crate::deadline::{SOON, try_for, wait_for};
use crate::place;

/// Longer than tmux takes for anything.
const TMUX_LIMIT: Duration = Duration::from_secs(20);

/// Runs the program between two looks at the modes of the terminal, says how it ended, and keeps the terminal open. The
/// shell itself outlives Ctrl-C and TERM, which are the program's, and HUP, so that nobody tells the program when the terminal goes.
const SHOW: &str =
    r#"trap : INT TERM; trap "" HUP; stty -g > before; "$@"; echo "back in the shell: $?"; stty -g > after; exec cat"#;

/// One terminal with one program in it. Dropping it ends both.
#[derive(Debug)]
pub struct Terminal {
    dir: tempfile::TempDir,
    runtime: PathBuf,
}

/// How the terminal is, apart from what is on its screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes {
    /// Whether the other screen is shown, which full-screen programs draw on.
    pub alternate: bool,
    /// Whether there is a cursor to see.
    pub cursor: bool,
    /// Whether all modes of the line discipline are as they were before the program.
    pub restored: bool,
}

impl Terminal {
    /// Starts `ostler` with these arguments in a terminal of this size.
    ///
    /// # Panics
    /// When tmux can't be started: `tests/run` installs it.
    #[must_use]
    pub fn start(args: &[&str], width: u16, height: u16) -> Terminal {
        let dir = tempfile::Builder::new().prefix("ostler-tty-").tempdir().expect("a directory");
        let terminal = Terminal { runtime: dir.path().join("runtime"), dir };
        let ostler = place::ostler();
        let size = [width.to_string(), height.to_string()];
        let mut words = vec!["new-session", "-d", "-x", &size[0], "-y", &size[1], "sh", "-c", SHOW, "sh"];
        words.push(ostler.to_str().expect("a path in UTF-8"));
        words.extend(args);
        let output = terminal.tmux(&words);
        assert_eq!(output.code, 0, "tmux does not start: {output:?}");
        terminal
    }

    fn tmux(&self, words: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        clean_environment(&mut command, &self.runtime);
        command.arg("-S").arg(self.dir.path().join("tmux")).args(["-u", "-f", "/dev/null"]).args(words);
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").env("TERM", "xterm-256color").current_dir(self.dir.path());
        bounded::run(&mut command, TMUX_LIMIT)
    }

    /// What is on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).stdout
    }

    /// Waits for a screen for which `fact` has a value.
    ///
    /// # Panics
    /// When there is none in time; the last screen is in the message.
    pub fn wait<T>(&self, what: &str, fact: impl Fn(&str) -> Option<T>) -> T {
        let found = try_for(SOON, || fact(&self.screen()));
        found.unwrap_or_else(|| panic!("waited {SOON:?} in vain: {what}; the screen:\n{}", self.screen()))
    }

    /// Waits until the screen has a line with all of these words, and answers with it.
    ///
    /// # Panics
    /// As [`Terminal::wait`].
    pub fn wait_line(&self, words: &[&str]) -> String {
        self.wait(&format!("a line with {words:?}"), |screen| {
            let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
            screen.lines().find(has_all).map(str::to_owned)
        })
    }

    /// Presses keys, by tmux's names: `q`, `Enter`, `C-c`.
    ///
    /// # Panics
    /// When there is no terminal any more.
    pub fn press(&self, keys: &[&str]) {
        let output = self.tmux(&[&["send-keys"], keys].concat());
        assert_eq!(output.code, 0, "{output:?}");
    }

    /// Changes the size.
    ///
    /// # Panics
    /// When there is no terminal any more.
    pub fn resize(&self, width: u16, height: u16) {
        let output = self.tmux(&["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]);
        assert_eq!(output.code, 0, "{output:?}");
    }

    /// Takes the terminal away, as a connection that breaks does.
    ///
    /// # Panics
    /// When there is no terminal any more.
    pub fn hang_up(&self) {
        let server = self.tmux(&["display-message", "-p", "#{pid}"]).stdout.trim().parse().expect("a pid");
        kill(Pid::from_raw(server), Signal::SIGKILL).expect("our own");
    }

    /// The process that reads the keys.
    ///
    /// # Panics
    /// When there is none in time.
    #[must_use]
    pub fn program(&self) -> i32 {
        let shell: i32 = self.tmux(&["display-message", "-p", "#{pane_pid}"]).stdout.trim().parse().expect("a pid");
        let children = format!("/proc/{shell}/task/{shell}/children");
        wait_for(SOON, "the shell has started it", || fs::read_to_string(&children).ok()?.trim().parse().ok())
    }

    /// Waits until the program has ended, and answers with its code and how the terminal is then.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn ended(&self) -> (i32, Modes) {
        let line = self.wait_line(&["back in the shell: "]);
        let code = line.rsplit(' ').next().and_then(|code| code.parse().ok()).expect("a code");
        let modes = |name: &str| fs::read_to_string(self.dir.path().join(name)).ok().filter(|modes| !modes.is_empty());
        let after = wait_for(SOON, "the modes afterwards", || modes("after"));
        let shown = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).stdout;
        let restored = modes("before") == Some(after);
        (code, Modes { alternate: shown.starts_with('1'), cursor: shown.trim().ends_with('1'), restored })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its own server, in its own directory.
        let _ended = self.tmux(&["kill-server"]);
    }
}
